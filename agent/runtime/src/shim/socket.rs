//! The socket at which a workload asks for its lease, see `keeper/lease.rs` for what it is told and `keeper/answer.rs` for who answers.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::sys::socket::Backlog;

use super::keeper::answer::BACKLOG;
use super::keeper::lease::SOCKET;

/// Listens in `dir`, in the place of a socket of an earlier run. Nobody answers yet.
pub(super) fn listen(dir: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(dir.join(SOCKET)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    // By its descriptor: the name of a socket has room for 107 bytes, and the directory's may be longer.
    let opened = File::open(dir)?;
    let short = PathBuf::from(format!("/proc/self/fd/{}", opened.as_raw_fd())).join(SOCKET);
    let socket = UnixListener::bind(short)?;
    nix::sys::socket::listen(&socket, Backlog::new(BACKLOG)?)?;
    // Whoever the program runs as. From outside only root comes this far.
    fs::set_permissions(dir.join(SOCKET), fs::Permissions::from_mode(0o666))?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    //! It is there, whatever was before, and whatever the directory is called.

    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::{SOCKET, listen};

    #[test]
    fn a_socket_takes_the_place_of_the_one_before_and_may_lie_deep() {
        let dir = tempfile::tempdir().expect("a directory");
        let deep = dir.path().join("x".repeat(200));
        fs::create_dir(&deep).expect("made");
        let first = listen(&deep).expect("listens");
        drop(first);
        let _second = listen(&deep).expect("listens again");
        let mode = fs::metadata(deep.join(SOCKET)).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o666);
        assert_eq!(fs::read_dir(&deep).expect("listed").count(), 1);
    }
}
