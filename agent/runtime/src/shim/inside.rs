//! Looking into a container's root from outside without being led out of it: every path is resolved by `openat2` with
//! `RESOLVE_IN_ROOT`, so links, absolute ones too, mean what they mean inside.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::{Mode, SFlag, fstat, mkdirat};

/// More of `/etc/passwd` or `/etc/group` is not read.
const TABLE_BYTES_MAX: u64 = 4 << 20;

/// A container's root directory.
pub(crate) struct Root(OwnedFd);

impl Root {
    /// Opens it.
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        Ok(Self(open(dir, flags, Mode::empty())?))
    }

    fn resolve(&self, path: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
        let how = OpenHow::new()
            .flags(flags | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        openat2(&self.0, path, how)
    }

    /// A handle on a file, device or directory, through which nothing can be read or written.
    pub(crate) fn device(&self, path: &str) -> io::Result<OwnedFd> {
        Ok(self.resolve(Path::new(path), OFlag::O_PATH)?)
    }

    /// What is in a file such as `/etc/passwd`; empty when it is not there.
    pub(super) fn table(&self, path: &str) -> io::Result<String> {
        // Not blocking: an image may have a pipe there.
        let fd = match self.resolve(Path::new(path), OFlag::O_RDONLY | OFlag::O_NONBLOCK) {
            Ok(fd) => fd,
            Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(String::new()),
            Err(errno) => return Err(errno.into()),
        };
        let mut bytes = Vec::new();
        File::from(fd).take(TABLE_BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Whether a program of this name would be found; `Err` says what is wrong with it.
    pub(super) fn find_program(
        &self,
        name: &str,
        working_dir: &str,
        search_path: &str,
    ) -> Result<(), String> {
        if name.contains('/') {
            let path = Path::new(working_dir).join(name);
            return self
                .check_program(&path)
                .map_err(|reason| format!("the program {name:?} {reason}"));
        }
        let mut not_executable = None;
        for dir in search_path.split(':') {
            let dir = if dir.is_empty() { working_dir } else { dir };
            let path = Path::new(working_dir).join(dir).join(name);
            match self.check_program(&path) {
                Ok(()) => return Ok(()),
                Err("is not there") => {}
                Err(reason) => not_executable = Some(reason),
            }
        }
        match not_executable {
            Some(reason) => Err(format!("the program {name:?} {reason}")),
            None => Err(format!("the program {name:?} is not in the image's PATH ({search_path})")),
        }
    }

    fn check_program(&self, path: &Path) -> Result<(), &'static str> {
        let fd = self.resolve(path, OFlag::O_PATH).map_err(|_errno| "is not there")?;
        let stat = fstat(&fd).map_err(|_errno| "cannot be looked at")?;
        let kind = SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits());
        if kind == SFlag::S_IFDIR {
            Err("is a directory")
        } else if kind != SFlag::S_IFREG {
            Err("is not a file")
        } else if stat.st_mode & 0o111 == 0 {
            Err("is not executable")
        } else {
            Ok(())
        }
    }

    /// Makes a directory with all above it, as Docker does for a working directory. `Err` says what stands in its way.
    pub(super) fn make_dir(&self, path: &str) -> Result<(), String> {
        let mut at = PathBuf::from("/");
        for component in Path::new(path).components() {
            let name = match component {
                Component::Normal(name) => name,
                Component::ParentDir => {
                    at.pop();
                    continue;
                }
                Component::RootDir | Component::CurDir | Component::Prefix(_) => continue,
            };
            let above = at.clone();
            at.push(name);
            let directory = OFlag::O_PATH | OFlag::O_DIRECTORY;
            match self.resolve(&at, directory) {
                Ok(_there) => continue,
                Err(Errno::ENOENT) => {}
                Err(errno) => return Err(format!("{}: {}", at.display(), errno.desc())),
            }
            let made = self
                .resolve(&above, directory)
                .and_then(|parent| mkdirat(parent, name, Mode::from_bits_truncate(0o755)));
            made.map_err(|errno| format!("{}: {}", at.display(), errno.desc()))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    //! Links in an image stay inside.

    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::Root;

    #[test]
    fn links_out_of_the_image_stay_inside() {
        let dir = tempfile::tempdir().expect("a directory");
        let outside = tempfile::tempdir().expect("another");
        fs::write(outside.path().join("passwd"), "evil:x:0:0::/:").expect("written");
        fs::create_dir(dir.path().join("etc")).expect("made");
        symlink(outside.path().join("passwd"), dir.path().join("etc/passwd")).expect("linked");
        symlink(outside.path(), dir.path().join("out")).expect("linked");
        let root = Root::open(dir.path()).expect("opened");
        assert_eq!(root.table("/etc/passwd").expect("absent"), "");
        assert!(root.make_dir("/out/made").is_err());
        assert!(!outside.path().join("made").exists());
        root.make_dir("/a/../b/c").expect("made");
        assert!(dir.path().join("b/c").is_dir() && !outside.path().join("b").exists());
    }

    #[test]
    fn a_program_is_looked_for_as_execvp_does() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir_all(dir.path().join("usr/bin")).expect("made");
        symlink("/usr/bin", dir.path().join("bin")).expect("linked");
        for (name, mode) in [("good", 0o755), ("data", 0o644)] {
            let path = dir.path().join("usr/bin").join(name);
            fs::write(&path, "x").expect("written");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("set");
        }
        let root = Root::open(dir.path()).expect("opened");
        assert_eq!(root.find_program("good", "/", "/sbin:/bin"), Ok(()));
        assert_eq!(root.find_program("/bin/good", "/", ""), Ok(()));
        assert_eq!(root.find_program("./good", "/usr/bin", ""), Ok(()));
        let reason = root.find_program("data", "/", "/bin").expect_err("not executable");
        assert_eq!(reason, "the program \"data\" is not executable");
        let reason = root.find_program("none", "/", "/bin").expect_err("not there");
        assert_eq!(reason, "the program \"none\" is not in the image's PATH (/bin)");
        let reason = root.find_program("/bin", "/", "").expect_err("a directory");
        assert_eq!(reason, "the program \"/bin\" is a directory");
    }
}
