//! Writing the entries of a layer below a directory, whatever their paths say.
//!
//! Every path is walked name by name from the root's descriptor, and a name that is a symbolic link is never followed; so nothing
//! outside of the root can be reached, also not through links that the layer itself made.
//!
//! Whiteouts become what overlayfs expects: a removed file is a character device 0:0, and a directory that hides the one below has
//! the attribute `trusted.overlay.opaque`.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;

use mesh_ports::runtime::ImageError;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{
    FileStat, Mode, SFlag, UtimensatFlags, fchmod, fstat, fstatat, futimens, mkdirat, mknodat,
    utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, fchownat, linkat, symlinkat, unlinkat};
use xattr::FileExt;

use super::digest::BUFFER_LEN;
use super::fault::{host, invalid, reading};
use super::path::{components, shown};
use super::tarball::{Entry, Kind};

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
const AUFS: &[u8] = b".wh..wh.";

/// A directory in which a layer grows.
#[derive(Debug)]
pub(super) struct Tree {
    root: Rc<File>,
    /// The directory of the entry before: mostly it is also the one of the next.
    last: Option<(Vec<OsString>, Rc<File>)>,
}

/// Where an entry goes: a directory and the name in it.
struct Place<'a> {
    dir: Rc<File>,
    name: &'a OsStr,
    path: String,
}

impl Tree {
    /// Grows the layer in `root`.
    pub(super) fn open(root: &Path) -> Result<Self, ImageError> {
        let root =
            File::open(root).map_err(|error| host(format!("open {}", root.display()), error))?;
        Ok(Self { root: Rc::new(root), last: None })
    }

    /// Adds an entry with its data.
    pub(super) fn add(&mut self, entry: &Entry, data: &mut impl Read) -> Result<(), ImageError> {
        let names = components(&entry.path)?;
        let path = shown(&entry.path);
        let Some((&name, parents)) = names.split_last() else {
            if entry.kind == Kind::Directory {
                return describe(&self.root, entry, &path);
            }
            return Err(invalid(format!("{path} is the root and not a directory")));
        };
        let is_whiteout = name.as_bytes().starts_with(WHITEOUT);
        let dir = match self.walk(parents, true, &path)? {
            Walk::Dir(dir) => dir,
            // Some tools list all that was in a directory when something else took its place, which hides it anyway.
            Walk::Blocked(_) if is_whiteout => return Ok(()),
            blocked @ (Walk::Blocked(_) | Walk::Missing) => return Err(blocked.refuse(&path)),
        };
        let place = Place { dir, name, path };
        let before = fstat(&*place.dir).map_err(|error| place.failed(error))?;
        if is_whiteout {
            place.white_out()?;
        } else {
            self.make(entry, &place, data)?;
        }
        // The directory has the time that the image gave it, not that of the last file in it.
        set_mtime(&place.dir, before.st_mtime, before.st_mtime_nsec)
            .map_err(|error| place.failed(error))
    }

    fn make(
        &mut self,
        entry: &Entry,
        place: &Place<'_>,
        data: &mut impl Read,
    ) -> Result<(), ImageError> {
        match entry.kind {
            Kind::Directory => place.directory(entry),
            Kind::File => {
                place.clear()?;
                place.file(entry, data)
            }
            Kind::HardLink => {
                place.clear()?;
                self.hard_link(entry, place)
            }
            Kind::Symlink => {
                place.clear()?;
                place.symlink(entry)
            }
            Kind::Fifo => {
                place.clear()?;
                place.fifo(entry)
            }
            // A container gets the devices that its specification names; those of an image are never used.
            Kind::Device => Ok(()),
        }
    }

    fn hard_link(&mut self, entry: &Entry, place: &Place<'_>) -> Result<(), ImageError> {
        let target = components(&entry.link)?;
        let lost = || {
            invalid(format!(
                "{} is a link to {}, which is not in its layer",
                place.path,
                shown(&entry.link)
            ))
        };
        let (&name, parents) = target.split_last().ok_or_else(lost)?;
        let from = match self.walk(parents, false, &place.path)? {
            Walk::Dir(from) => from,
            blocked @ (Walk::Blocked(_) | Walk::Missing) => return Err(blocked.refuse(&place.path)),
        };
        match linkat(&*from, name, &*place.dir, place.name, AtFlags::empty()) {
            Ok(()) => Ok(()),
            Err(Errno::ENOENT | Errno::EPERM) => Err(lost()),
            Err(error) => Err(place.failed(error)),
        }
    }

    /// Opens the directory `names` below the root, and makes what is missing on the way if it `may_make`.
    fn walk(&mut self, names: &[&OsStr], may_make: bool, path: &str) -> Result<Walk, ImageError> {
        if let Some((last, dir)) = &self.last
            && last.iter().eq(names.iter())
        {
            return Ok(Walk::Dir(Rc::clone(dir)));
        }
        let mut dir = Rc::clone(&self.root);
        for &name in names {
            let failed = |error| host(format!("open a directory of {path}"), error);
            let next = match open_dir(&dir, name) {
                Err(Errno::ENOENT) if may_make => {
                    let before = fstat(&*dir).map_err(failed)?;
                    mkdirat(&*dir, name, Mode::from_bits_truncate(0o755)).map_err(failed)?;
                    set_mtime(&dir, before.st_mtime, before.st_mtime_nsec).map_err(failed)?;
                    open_dir(&dir, name)
                }
                other => other,
            };
            dir = match next {
                Ok(next) => Rc::new(File::from(next)),
                Err(Errno::ENOENT) => return Ok(Walk::Missing),
                Err(Errno::ENOTDIR | Errno::ELOOP) => {
                    return Ok(Walk::Blocked(shown(name.as_bytes())));
                }
                Err(error) => return Err(failed(error)),
            };
        }
        self.last = Some((names.iter().map(|&name| name.to_owned()).collect(), Rc::clone(&dir)));
        Ok(Walk::Dir(dir))
    }
}

/// Where a walk from the root ended.
enum Walk {
    /// At the directory.
    Dir(Rc<File>),
    /// At this name, which is a link or a file.
    Blocked(String),
    /// At a name that is not there.
    Missing,
}

impl Walk {
    fn refuse(self, path: &str) -> ImageError {
        match self {
            Self::Blocked(through) => {
                invalid(format!("{path} leads through {through}, which is not a directory"))
            }
            Self::Dir(_) | Self::Missing => {
                invalid(format!("{path} is a link to what is not in its layer"))
            }
        }
    }
}

impl Place<'_> {
    fn failed(&self, error: impl Into<io::Error>) -> ImageError {
        host(format!("make {}", self.path), error)
    }

    fn stat(&self) -> Result<Option<FileStat>, ImageError> {
        match fstatat(&*self.dir, self.name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::ENOENT) => Ok(None),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Removes what an earlier entry of the layer left here: the later one wins.
    fn clear(&self) -> Result<(), ImageError> {
        match self.stat()?.map(|stat| kind_of(&stat)) {
            None => Ok(()),
            Some(SFlag::S_IFDIR) => Err(invalid(format!(
                "{} is a directory and then something else, in one layer",
                self.path
            ))),
            Some(_) => unlinkat(&*self.dir, self.name, UnlinkatFlags::NoRemoveDir)
                .map_err(|error| self.failed(error)),
        }
    }

    fn directory(&self, entry: &Entry) -> Result<(), ImageError> {
        let there = self.stat()?.map(|stat| kind_of(&stat));
        if there != Some(SFlag::S_IFDIR) {
            self.clear()?;
            mkdirat(&*self.dir, self.name, Mode::from_bits_truncate(0o755))
                .map_err(|error| self.failed(error))?;
        }
        let dir =
            open_dir(&self.dir, self.name).map(File::from).map_err(|error| self.failed(error))?;
        // Removed and made again in the same layer: what is below must not shine through.
        if there == Some(SFlag::S_IFCHR) {
            make_opaque(&dir).map_err(|error| self.failed(error))?;
        }
        describe(&dir, entry, &self.path)
    }

    fn file(&self, entry: &Entry, data: &mut impl Read) -> Result<(), ImageError> {
        let flags =
            OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = openat(&*self.dir, self.name, flags, Mode::from_bits_truncate(0o600));
        let mut file = file.map(File::from).map_err(|error| self.failed(error))?;
        let mut buffer =
            vec![0; BUFFER_LEN.min(usize::try_from(entry.size).unwrap_or(BUFFER_LEN).max(1))];
        loop {
            let n = match data.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(reading(&self.path, error)),
            };
            file.write_all(buffer.get(..n).unwrap_or_default())
                .map_err(|error| self.failed(error))?;
        }
        describe(&file, entry, &self.path)
    }

    fn symlink(&self, entry: &Entry) -> Result<(), ImageError> {
        if entry.link.is_empty() || entry.link.contains(&0) {
            return Err(invalid(format!("{} is a symbolic link to nothing", self.path)));
        }
        symlinkat(OsStr::from_bytes(&entry.link), &*self.dir, self.name)
            .map_err(|error| self.failed(error))?;
        self.own(entry)
    }

    fn fifo(&self, entry: &Entry) -> Result<(), ImageError> {
        // The mask of the process takes bits away; a pipe with fewer permissions than asked for harms nobody.
        mknodat(&*self.dir, self.name, SFlag::S_IFIFO, mode_of(entry), 0)
            .map_err(|error| self.failed(error))?;
        self.own(entry)
    }

    /// Sets the owner and the time of what cannot be opened.
    fn own(&self, entry: &Entry) -> Result<(), ImageError> {
        let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
        fchownat(&*self.dir, self.name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)
            .map_err(|error| self.failed(error))?;
        let time = TimeSpec::new(entry.mtime.0, entry.mtime.1);
        utimensat(
            &*self.dir,
            self.name,
            &TimeSpec::UTIME_OMIT,
            &time,
            UtimensatFlags::NoFollowSymlink,
        )
        .map_err(|error| self.failed(error))
    }

    fn white_out(&self) -> Result<(), ImageError> {
        let name = self.name.as_bytes();
        if name == OPAQUE {
            return make_opaque(&self.dir).map_err(|error| self.failed(error));
        }
        // Bookkeeping of an older union file system, which old versions of Docker left in images.
        if name.starts_with(AUFS) {
            return Ok(());
        }
        let hidden = name.strip_prefix(WHITEOUT).unwrap_or_default();
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(invalid(format!("{} removes nothing that can be", self.path)));
        }
        let hidden = Place {
            dir: Rc::clone(&self.dir),
            name: OsStr::from_bytes(hidden),
            path: self.path.clone(),
        };
        match hidden.stat()?.map(|stat| kind_of(&stat)) {
            // The layer has it anew, and it hides what is below all the same; a directory must be told to.
            Some(SFlag::S_IFDIR) => open_dir(&hidden.dir, hidden.name)
                .map_err(io::Error::from)
                .and_then(|dir| make_opaque(&File::from(dir)))
                .map_err(|error| self.failed(error)),
            Some(_) => Ok(()),
            None => mknodat(&*hidden.dir, hidden.name, SFlag::S_IFCHR, Mode::empty(), 0)
                .map_err(|error| self.failed(error)),
        }
    }
}

fn open_dir(dir: &File, name: &OsStr) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(dir, name, flags, Mode::empty())
}

fn kind_of(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT
}

fn mode_of(entry: &Entry) -> Mode {
    Mode::from_bits_truncate(entry.mode)
}

fn make_opaque(dir: &File) -> io::Result<()> {
    dir.set_xattr("trusted.overlay.opaque", b"y")
}

fn set_mtime(file: &File, seconds: i64, nanos: i64) -> nix::Result<()> {
    futimens(file, &TimeSpec::UTIME_OMIT, &TimeSpec::new(seconds, nanos))
}

/// Gives a file or directory its owner, permissions, attributes and time; in this order, since a change of the owner takes the
/// set-user-id bit and the capabilities away.
fn describe(file: &File, entry: &Entry, path: &str) -> Result<(), ImageError> {
    let failed = |error: io::Error| host(format!("describe {path}"), error);
    fchown(file, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)))
        .map_err(|error| failed(error.into()))?;
    fchmod(file, mode_of(entry)).map_err(|error| failed(error.into()))?;
    for (name, value) in entry.xattrs.iter().filter(|(name, _)| is_welcome(name)) {
        match file.set_xattr(name, value) {
            // A file system without access lists or labels still runs the image.
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
            other => other.map_err(failed)?,
        }
    }
    set_mtime(file, entry.mtime.0, entry.mtime.1).map_err(|error| failed(error.into()))
}

/// Attributes that an image may set. The ones of overlayfs (`trusted.overlay.redirect` above all) could make a mount show
/// directories of the host, and the others of `trusted` and `security` are the host's business.
fn is_welcome(name: &str) -> bool {
    let is_user = name.starts_with("user.") && !name.starts_with("user.overlay.");
    is_user || name == "security.capability" || name.starts_with("system.posix_acl_")
}
