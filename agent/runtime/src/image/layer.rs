//! Unpacking layers, each once, into the lower directories of overlay mounts.

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, PoisonError};

use mesh_ports::runtime::ImageError;

use super::blobs::{Blobs, sync_dir};
use super::digest::{BUFFER_LEN, Digest, Hashing, drain};
use super::fault::{host, invalid, reading};
use super::manifest::LAYER_TYPE;
use super::tarball::Reader;
use super::tree::Tree;

/// The most that one layer may take on disk; the largest seen, with a machine-learning toolkit in it, took 20 GiB.
const UNPACKED_LEN_MAX: u64 = 64 * 1024 * 1024 * 1024;

/// The most files in one layer; a distribution with everything has some 500,000.
const ENTRIES_MAX: u64 = 2_000_000;

/// How many times its size a layer may unpack to, beyond the first [`UNPACKED_LEN_FREE`] bytes. Programs and text shrink to a
/// half or a tenth; gzip can reach 1,000 and zstd 100,000 for a file of zeros that is there to fill a disk.
const RATIO_MAX: u64 = 200;

/// What a layer may unpack to however small it is; sparse databases and test images of zeros pass.
const UNPACKED_LEN_FREE: u64 = 1024 * 1024 * 1024;

/// The largest window of zstd, as a power of two: its own default bound, 128 MiB of memory.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// How the tar of a layer is compressed. Its first bytes decide, for media types are wrong now and then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Gzip,
    Plain,
    Zstd,
}

impl Encoding {
    /// How many bytes are needed to tell.
    pub(super) const MAGIC_LEN: u64 = 4;

    /// The encoding of a blob that begins with `head`.
    pub(super) fn of(head: &[u8]) -> Self {
        match head {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            _ => Self::Plain,
        }
    }

    /// The media type of a layer in this encoding.
    pub(super) fn media_type(self) -> &'static str {
        match self {
            Self::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Self::Plain => LAYER_TYPE,
            Self::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
        }
    }
}

/// The unpacked layers of a store, by the digest of their tar; so the same layer is one directory however it was compressed.
#[derive(Debug)]
pub(super) struct Layers {
    dir: PathBuf,
    tmp: PathBuf,
    /// Which layers are being unpacked, so that two starts of one image do the work once.
    busy: Mutex<BTreeSet<Digest>>,
    freed: Condvar,
}

impl Layers {
    /// The layers in `dir`, with temporary directories in `tmp`; both are there and in one file system.
    pub(super) fn new(dir: PathBuf, tmp: PathBuf) -> Self {
        Self { dir, tmp, busy: Mutex::new(BTreeSet::new()), freed: Condvar::new() }
    }

    /// The directory of the layer `diff_id`, unpacked from `blob` if it is not there yet.
    pub(super) fn ensure(
        &self,
        blobs: &Blobs,
        blob: &Digest,
        diff_id: &Digest,
    ) -> Result<PathBuf, ImageError> {
        let dir = self.dir.join(diff_id.short());
        if dir.is_dir() {
            return Ok(dir);
        }
        let _turn = self.turn(diff_id);
        if !dir.is_dir() {
            self.unpack(blobs, blob, diff_id, &dir)?;
        }
        Ok(dir)
    }

    fn turn(&self, layer: &Digest) -> Turn<'_> {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        while !busy.insert(layer.clone()) {
            busy = self.freed.wait(busy).unwrap_or_else(PoisonError::into_inner);
        }
        Turn { layers: self, layer: layer.clone() }
    }

    fn unpack(
        &self,
        blobs: &Blobs,
        blob: &Digest,
        diff_id: &Digest,
        to: &Path,
    ) -> Result<(), ImageError> {
        let attempt = || format!("make a directory below {}", self.tmp.display());
        let temporary = tempfile::Builder::new()
            .prefix("layer-")
            .tempdir_in(&self.tmp)
            .map_err(|error| host(attempt(), error))?;
        fs::set_permissions(temporary.path(), Permissions::from_mode(0o755))
            .map_err(|error| host(attempt(), error))?;
        let (file, size) = blobs.open(blob)?;
        let mut raw = BufReader::with_capacity(BUFFER_LEN, Hashing::new(&file, u64::MAX));
        let what = format!("the layer {blob}");
        let outcome = unpack_into(temporary.path(), &mut raw, unpacked_len_max(size), &what);
        // Damaged bytes may have caused any error above, and the whole blob must be read to know.
        drain(&mut raw).map_err(|error| host(format!("read {blob}"), error))?;
        let (found, _) = raw.into_inner().finish();
        if found != *blob {
            blobs.remove_damaged(blob, &file)?;
            return Err(ImageError::Digest {
                expected: blob.to_string(),
                found: found.to_string(),
            });
        }
        let unpacked = outcome?;
        if unpacked != *diff_id {
            return Err(invalid(format!(
                "the layer {blob} unpacks to {unpacked}, and its image names {diff_id}"
            )));
        }
        let attempt = || format!("store the layer {blob}");
        // The files must be on disk before their directory has its name: nobody checks them again.
        let dir = File::open(temporary.path()).map_err(|error| host(attempt(), error))?;
        nix::unistd::syncfs(&dir).map_err(|error| host(attempt(), error))?;
        fs::rename(temporary.path(), to).map_err(|error| host(attempt(), error))?;
        drop(temporary.keep());
        sync_dir(&self.dir)
    }
}

/// The right to unpack one layer.
struct Turn<'a> {
    layers: &'a Layers,
    layer: Digest,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.layers.busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.layer);
        self.layers.freed.notify_all();
    }
}

/// What a layer of `size` bytes may unpack to.
pub(super) fn unpacked_len_max(size: u64) -> u64 {
    size.saturating_mul(RATIO_MAX).saturating_add(UNPACKED_LEN_FREE).min(UNPACKED_LEN_MAX)
}

/// Unpacks a layer into the empty directory `root`, to at most `max` bytes. Returns the digest of its tar.
pub(super) fn unpack_into(
    root: &Path,
    raw: &mut impl BufRead,
    max: u64,
    what: &str,
) -> Result<Digest, ImageError> {
    let decoded = decoder(raw).map_err(|error| reading(what, error))?;
    let mut archive = Reader::new(Hashing::new(decoded, max), what, ENTRIES_MAX);
    let mut tree = Tree::open(root)?;
    while let Some(entry) = archive.next()? {
        tree.add(&entry, &mut archive)?;
    }
    let mut rest = archive.into_inner();
    drain(&mut rest).map_err(|error| reading(what, error))?;
    Ok(rest.finish().0)
}

fn decoder<'a>(raw: &'a mut impl BufRead) -> io::Result<Box<dyn Read + 'a>> {
    Ok(match Encoding::of(raw.fill_buf()?) {
        Encoding::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(raw)),
        Encoding::Plain => Box::new(raw),
        Encoding::Zstd => {
            let mut decoder = zstd::Decoder::with_buffer(raw)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
            Box::new(decoder)
        }
    })
}
