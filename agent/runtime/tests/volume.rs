//! A disk that can be made to stand still, and a neighbour who sees whether a container can be reached.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::mount::{MntFlags, umount2};
use nix::sched::{CloneFlags, setns, unshare};

const FIFREEZE: libc::c_ulong = 0xc004_5877;
const FITHAW: libc::c_ulong = 0xc004_5878;

/// Where a container has the volume, and its one file there.
const TARGET: &std::ffi::CStr = c"/data";
pub(crate) const FILE: &str = "/data/disk";

/// The smallest that has a journal.
const BYTES: u64 = 16 << 20;

/// A file system on a loop device: whoever writes to it while it is frozen waits in the kernel, where no signal reaches. Dropping it
/// lets them go on and removes it.
pub(crate) struct Volume {
    dir: tempfile::TempDir,
}

impl Volume {
    /// `None` on a host that cannot have one, which is said.
    pub(crate) fn new() -> Option<Self> {
        let dir = tempfile::tempdir().expect("a directory");
        let (image, mount) = (dir.path().join("image"), dir.path().join("mount"));
        File::create(&image).and_then(|file| file.set_len(BYTES)).expect("room");
        fs::create_dir(&mount).expect("made");
        let made = run("mkfs.ext4", &["-q", "-F"], &[&image])
            .and_then(|()| run("mount", &["-o", "loop"], &[&image, &mount]));
        if let Err(error) = made {
            let (Ok(()) | Err(_)) = writeln!(io::stderr(), "skipped: no loop device: {error}");
            return None;
        }
        let volume = Self { dir };
        fs::write(mount.join("disk"), "").expect("written");
        Some(volume)
    }

    fn mount(&self) -> PathBuf {
        self.dir.path().join("mount")
    }

    /// How much was written to its file.
    pub(crate) fn len(&self) -> u64 {
        fs::metadata(self.mount().join("disk")).map_or(0, |file| file.len())
    }

    /// Shows it to a running container, as `/data`.
    #[expect(unsafe_code, reason = "a mount is carried into another namespace by raw calls")]
    pub(crate) fn show_to(&self, pid: u32) {
        let source = std::ffi::CString::new(self.mount().to_string_lossy().as_bytes());
        let source = source.expect("a name");
        let clone = libc::c_long::from(libc::OPEN_TREE_CLONE) | libc::c_long::from(libc::O_CLOEXEC);
        // SAFETY: the name outlives the call.
        let tree =
            unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, source.as_ptr(), clone) };
        assert!(tree >= 0, "{}", io::Error::last_os_error());
        let tree = i32::try_from(tree).expect("a descriptor");
        // SAFETY: nobody else has it.
        let tree = unsafe { OwnedFd::from_raw_fd(tree) };
        let place = File::open(format!("/proc/{pid}/ns/mnt")).expect("it runs");
        // A thread of its own: a namespace belongs to a thread, if it shares no directories.
        let moved = std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_FS)?;
            setns(&place, CloneFlags::CLONE_NEWNS)?;
            // SAFETY: the names outlive the call.
            let moved = unsafe {
                let from = (tree.as_raw_fd(), c"".as_ptr());
                let to = (libc::AT_FDCWD, TARGET.as_ptr());
                let flags = libc::MOVE_MOUNT_F_EMPTY_PATH;
                libc::syscall(libc::SYS_move_mount, from.0, from.1, to.0, to.1, flags)
            };
            if moved == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
        });
        moved.join().expect("no panic").expect("shown");
    }

    pub(crate) fn freeze(&self) {
        ask(&self.mount(), FIFREEZE).expect("frozen");
    }

    pub(crate) fn thaw(&self) {
        ask(&self.mount(), FITHAW).expect("thawed");
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        // Not frozen any more, as a rule.
        let (Ok(()) | Err(_)) = ask(&self.mount(), FITHAW);
        // Containers that have it may end later; the device goes with the last of them.
        let (Ok(()) | Err(_)) = umount2(&self.mount(), MntFlags::MNT_DETACH);
    }
}

#[expect(unsafe_code, reason = "a file system is frozen by a raw call")]
fn ask(mount: &Path, request: libc::c_ulong) -> io::Result<()> {
    let root = File::open(mount)?;
    // SAFETY: the kernel looks at no argument of these.
    let done = unsafe { libc::ioctl(root.as_raw_fd(), request, 0) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn run(program: &str, args: &[&str], paths: &[&Path]) -> io::Result<()> {
    let output = Command::new(program).args(args).args(paths).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim())))
}

/// Somebody on the network of a container.
pub(crate) struct Neighbour {
    network: File,
}

impl Neighbour {
    /// Connects a container whose network is at `namespace`. `None` on a host without `ip`, which is said.
    pub(crate) fn of(pid: u32, namespace: &Path) -> Option<Self> {
        let made = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            File::open("/proc/thread-self/ns/net")
        });
        let network = made.join().expect("no panic").expect("a namespace");
        let pid = pid.to_string();
        let outside = within(&network, move || {
            let pair = ["link", "add", "out0", "type", "veth", "peer", "name", "eth0", "netns"];
            run("ip", &[&pair[..], &[&pid]].concat(), &[])?;
            raise("out0", "10.99.0.1/24")
        });
        match outside {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let (Ok(()) | Err(_)) = writeln!(io::stderr(), "skipped: no ip: {error}");
                return None;
            }
            other => other.expect("connected"),
        }
        let inside = File::open(namespace).expect("it is there");
        within(&inside, || raise("eth0", "10.99.0.2/24")).expect("connected");
        Some(Self { network })
    }

    /// Whether the container's end of the wire is up.
    pub(crate) fn has_carrier(&self) -> bool {
        let shown = within(&self.network, || {
            Command::new("ip").args(["-o", "link", "show", "out0"]).output()
        });
        String::from_utf8_lossy(&shown.expect("shown").stdout).contains("LOWER_UP")
    }

    /// Whether the container takes connections.
    pub(crate) fn reaches(&self, port: u16) -> bool {
        let there = SocketAddr::from(([10, 99, 0, 2], port));
        within(&self.network, move || {
            TcpStream::connect_timeout(&there, Duration::from_secs(1)).map(drop)
        })
        .is_ok()
    }
}

fn raise(interface: &str, address: &str) -> io::Result<()> {
    run("ip", &["address", "add", address, "dev", interface], &[])?;
    run("ip", &["link", "set", interface, "up"], &[])
}

/// Does something in a network, in a thread of its own.
fn within<T: Send>(network: &File, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let done = scope.spawn(|| {
            setns(network, CloneFlags::CLONE_NEWNET)?;
            work()
        });
        done.join().expect("no panic")
    })
}
