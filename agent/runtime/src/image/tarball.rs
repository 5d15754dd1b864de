//! Reading a tar archive entry by entry, with a bound on everything that is kept in memory.
//!
//! The `tar` crate's own iterator reads long names and extended headers into memory whatever their size, and an archive from
//! outside may say that a name has ten gigabytes; so the blocks are walked here and only the fields are left to the crate.

use std::io::{self, Read};

use mesh_ports::runtime::ImageError;
use tar::Header;

use super::fault::{invalid, reading};
use super::path::shown;

const BLOCK_LEN: usize = 512;

/// The most that an extended header may have. Paths have 4 KiB at most, and the kernel takes 64 KiB per attribute.
const EXTENSION_LEN_MAX: u64 = 1024 * 1024;

/// Walks through an archive; reading from it gives the data of the entry that [`Reader::next`] returned last.
#[derive(Debug)]
pub(super) struct Reader<R> {
    inner: R,
    what: String,
    left: u64,
    padding: u64,
    n_entries: u64,
    n_entries_max: u64,
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A device node, of whichever kind.
    Device,
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
    /// A regular file.
    File,
    /// Another name for an earlier entry.
    HardLink,
    /// A symbolic link.
    Symlink,
}

/// One entry of an archive.
#[derive(Debug)]
pub(super) struct Entry {
    /// Its path as it is in the archive.
    pub(super) path: Vec<u8>,
    /// Where a link leads; empty for all others.
    pub(super) link: Vec<u8>,
    /// What it is.
    pub(super) kind: Kind,
    /// How many bytes of data it has.
    pub(super) size: u64,
    /// Permissions with the set-user-id, set-group-id and sticky bits.
    pub(super) mode: u32,
    /// The owner.
    pub(super) uid: u32,
    /// The owning group.
    pub(super) gid: u32,
    /// Seconds and nanoseconds of its last change.
    pub(super) mtime: (i64, i64),
    /// Extended attributes.
    pub(super) xattrs: Vec<(String, Vec<u8>)>,
}

/// What extended headers say about the entry that follows them.
#[derive(Debug, Default)]
struct Extra {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<(i64, i64)>,
    xattrs: Vec<(String, Vec<u8>)>,
}

impl<R: Read> Reader<R> {
    /// Reads the archive `inner`, called `what` in messages, of at most `n_entries_max` entries.
    pub(super) fn new(inner: R, what: impl Into<String>, n_entries_max: u64) -> Self {
        Self { inner, what: what.into(), left: 0, padding: 0, n_entries: 0, n_entries_max }
    }

    /// The next entry, or `None` at the end of the archive. What was not read of the entry before is skipped.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, ImageError> {
        let mut extra = Extra::default();
        loop {
            let rest = self.left.saturating_add(self.padding);
            self.skip(rest)?;
            let Some(block) = self.block()? else { return Ok(None) };
            if block.iter().all(|&byte| byte == 0) {
                return Ok(None);
            }
            self.n_entries = self.n_entries.saturating_add(1);
            if self.n_entries > self.n_entries_max {
                return Err(self.refuse(format!("more than {} entries", self.n_entries_max)));
            }
            let header = Header::from_byte_slice(&block);
            if header.cksum().ok() != Some(checksum(&block)) {
                return Err(
                    self.refuse("not a tar archive, or damaged: a header has a wrong checksum")
                );
            }
            let size = header.entry_size().map_err(|error| self.refuse(error.to_string()))?;
            match header.entry_type().as_byte() {
                b'L' => extra.path = Some(trim(self.extension(size)?)),
                b'K' => extra.link = Some(trim(self.extension(size)?)),
                b'x' => {
                    let records = self.extension(size)?;
                    extra.read(&records).map_err(|why| self.refuse(why))?;
                }
                b'g' => drop(self.extension(size)?),
                kind => return self.entry(header, kind, extra).map(Some),
            }
        }
    }

    fn entry(&mut self, header: &Header, kind: u8, extra: Extra) -> Result<Entry, ImageError> {
        let path = extra.path.unwrap_or_else(|| header.path_bytes().into_owned());
        let kind = match kind {
            b'0' | b'7' | 0 if path.ends_with(b"/") => Kind::Directory,
            b'0' | b'7' | 0 => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            b'3' | b'4' => Kind::Device,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            b'S' => {
                return Err(
                    self.refuse(format!("{} is sparse, which is not supported", shown(&path)))
                );
            }
            other => {
                let kind = char::from(other);
                return Err(
                    self.refuse(format!("{} is of the unknown kind {kind:?}", shown(&path)))
                );
            }
        };
        // Only regular files carry data; some writers repeat the size of the target in a hard link.
        let size = match (kind, extra.size) {
            (Kind::File, Some(size)) => size,
            (Kind::File, None) => {
                header.entry_size().map_err(|error| self.refuse(error.to_string()))?
            }
            (Kind::Device | Kind::Directory | Kind::Fifo | Kind::HardLink | Kind::Symlink, _) => 0,
        };
        self.expect(size);
        // The highest number means "leave the owner alone" to the kernel, so it cannot be an owner.
        let id = |extra: Option<u64>, own: io::Result<u64>| {
            let id = extra.or_else(|| own.ok())?;
            u32::try_from(id).ok().filter(|&id| id != u32::MAX)
        };
        let owner =
            || self.refuse(format!("{} has an owner that Linux does not know", shown(&path)));
        let uid = id(extra.uid, header.uid()).ok_or_else(owner)?;
        let gid = id(extra.gid, header.gid()).ok_or_else(owner)?;
        let seconds =
            header.mtime().ok().and_then(|seconds| i64::try_from(seconds).ok()).unwrap_or(0);
        Ok(Entry {
            link: extra
                .link
                .or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned))
                .unwrap_or_default(),
            kind,
            size,
            mode: header.mode().map_err(|error| self.refuse(error.to_string()))? & 0o7777,
            uid,
            gid,
            mtime: extra.mtime.unwrap_or((seconds, 0)),
            xattrs: extra.xattrs,
            path,
        })
    }

    /// The archive from here to its end, without looking at it.
    pub(super) fn into_inner(self) -> R {
        self.inner
    }

    fn refuse(&self, why: impl AsRef<str>) -> ImageError {
        invalid(format!("{}: {}", self.what, why.as_ref()))
    }

    fn expect(&mut self, size: u64) {
        self.left = size;
        let block = u64::try_from(BLOCK_LEN).unwrap_or(u64::MAX);
        self.padding = size.next_multiple_of(block).saturating_sub(size);
    }

    fn skip(&mut self, n: u64) -> Result<(), ImageError> {
        (self.left, self.padding) = (0, 0);
        let skipped = io::copy(&mut Read::by_ref(&mut self.inner).take(n), &mut io::sink());
        match skipped {
            Ok(skipped) if skipped == n => Ok(()),
            Ok(_) => Err(self.refuse("cut short")),
            Err(error) => Err(reading(&self.what, error)),
        }
    }

    /// The next block, or `None` when there is not a byte more.
    fn block(&mut self) -> Result<Option<[u8; BLOCK_LEN]>, ImageError> {
        let mut block = Vec::with_capacity(BLOCK_LEN);
        let most = u64::try_from(BLOCK_LEN).unwrap_or(u64::MAX);
        Read::by_ref(&mut self.inner)
            .take(most)
            .read_to_end(&mut block)
            .map_err(|error| reading(&self.what, error))?;
        if block.is_empty() {
            return Ok(None);
        }
        <[u8; BLOCK_LEN]>::try_from(block).map(Some).map_err(|_short| self.refuse("cut short"))
    }

    fn extension(&mut self, size: u64) -> Result<Vec<u8>, ImageError> {
        if size > EXTENSION_LEN_MAX {
            return Err(self.refuse("an extended header is too long"));
        }
        self.expect(size);
        let mut data = Vec::new();
        let read = self.read_to_end(&mut data);
        read.map_err(|error| reading(&self.what, error))?;
        Ok(data)
    }
}

impl<R: Read> Read for Reader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = Read::by_ref(&mut self.inner).take(self.left).read(buf)?;
        if n == 0 && self.left > 0 && !buf.is_empty() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "cut short"));
        }
        self.left = self.left.saturating_sub(u64::try_from(n).unwrap_or(u64::MAX));
        Ok(n)
    }
}

impl Extra {
    /// Reads the records of an extended header: `LENGTH key=value\n`, where the value may be any bytes.
    fn read(&mut self, mut records: &[u8]) -> Result<(), String> {
        const DAMAGED: &str = "an extended header is damaged";
        while !records.is_empty() {
            let space = records.iter().position(|&byte| byte == b' ').ok_or(DAMAGED)?;
            let len = text(records.get(..space)).parse::<usize>().map_err(|_digits| DAMAGED)?;
            let record = records.get(space.saturating_add(1)..len).ok_or(DAMAGED)?;
            let record = record.strip_suffix(b"\n").ok_or(DAMAGED)?;
            let equals = record.iter().position(|&byte| byte == b'=').ok_or(DAMAGED)?;
            let (key, value) = record.split_at(equals);
            self.set(&text(Some(key)), value.get(1..).unwrap_or_default())?;
            records = records.get(len..).unwrap_or_default();
        }
        Ok(())
    }

    fn set(&mut self, key: &str, value: &[u8]) -> Result<(), String> {
        let number =
            || text(Some(value)).parse::<u64>().map_err(|_digits| format!("{key} is not a number"));
        match key {
            "path" => self.path = Some(value.to_vec()),
            "linkpath" => self.link = Some(value.to_vec()),
            "size" => self.size = Some(number()?),
            "uid" => self.uid = Some(number()?),
            "gid" => self.gid = Some(number()?),
            "mtime" => self.mtime = moment(&text(Some(value))),
            _ if key.starts_with("GNU.sparse.") => {
                return Err("contains a sparse file, which is not supported".to_owned());
            }
            _ => {
                if let Some(name) = key.strip_prefix("SCHILY.xattr.") {
                    self.xattrs.push((name.to_owned(), value.to_vec()));
                }
            }
        }
        Ok(())
    }
}

/// `seconds.fraction` as seconds and nanoseconds; the fraction of a moment before 1970 is dropped.
fn moment(text: &str) -> Option<(i64, i64)> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds = seconds.parse::<i64>().ok()?;
    let digits: String = fraction.chars().chain(std::iter::repeat('0')).take(9).collect();
    let nanos =
        if seconds < 0 { 0 } else { digits.parse::<i64>().ok().filter(|&nanos| nanos >= 0)? };
    Some((seconds, nanos))
}

fn text(bytes: Option<&[u8]>) -> String {
    String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned()
}

/// A long name ends with a zero byte.
fn trim(mut name: Vec<u8>) -> Vec<u8> {
    if name.last() == Some(&0) {
        name.pop();
    }
    name
}

/// The sum of a header's bytes with its own field counted as spaces.
fn checksum(block: &[u8; BLOCK_LEN]) -> u32 {
    let field = 148..156;
    let bytes = block.iter().enumerate();
    bytes.map(|(at, &byte)| if field.contains(&at) { 32 } else { u32::from(byte) }).sum()
}
