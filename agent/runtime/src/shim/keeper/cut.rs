//! What becomes of a container that survives SIGKILL: its network is taken away.
//!
//! A process that waits in the kernel for a disk or a mount cannot be ended from outside. It runs no instruction of its own any more
//! (the signal is delivered before the next one), but what it has opened stays open: the kernel answers for its connections, takes
//! new ones for it, and sends what it had written. Its lease is over, so none of that may reach anybody.
//!
//! All interfaces of its network but the loopback are set down, from inside. Other ways were weighed:
//!
//! * *Removing* the pair of interfaces can wait without end for whoever still refers to it, as the process that hangs may. Setting
//!   down waits for nobody, can be repeated, and is undone by connecting the container again.
//! * *The host's end* of the pair is the agent's: it mends it, and may give its name to another container. Inside there is
//!   nobody who would set anything up again.
//! * *By the process that is left* the namespace cannot always be found: one that hangs while its files are closed has left it, and
//!   what it had connected lives on. So the guard knows the namespace's own name, and goes by processes where that fails.
//!
//! It is done by a thread of its own, since a thread can be in another namespace than its process. And if the kernel is busy with
//! its networks (one lock guards all of them), that thread waits, and the guard goes on killing.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use super::fence::Moment;
use super::{group, sys};

/// What is left so long after it was killed first is cut off: half of what the shortest lease leaves for a kill, so that it is done
/// before anybody else can hold the slot; and much more than a container needs that can end.
pub(crate) const CUT_MS: u64 = 500;

/// Eight pages: it calls nothing deep, and what it does not touch costs nothing.
const STACK_LEN: usize = 32 * 1024;

/// The network of this process.
const OWN: &str = "/proc/self/ns/net";

/// The interfaces of the calling thread's network.
const INTERFACES: &str = "/proc/thread-self/net/dev";

const LOOPBACK: &str = "lo";

/// Where a container is that was killed: its control groups, and the name of its network, as far as it is known.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) groups: Vec<PathBuf>,
    pub(crate) network: Option<PathBuf>,
}

/// How many interfaces were set down, or why they were not.
type Outcome = Arc<OnceLock<io::Result<usize>>>;

/// How far a run is that was killed: since when, and whether its network is cut.
#[derive(Debug, Default)]
pub(crate) struct Cut {
    /// When it was killed first; `None` before.
    killed: Option<Moment>,
    /// The last attempt, and when it began; `None` before the first.
    attempt: Option<(Moment, Outcome)>,
}

impl Cut {
    /// To be called whenever the run is killed, with what was known of it before. Never waits. Returns for how many milliseconds it
    /// has survived.
    pub(crate) fn killed(&mut self, place: &Place, now: Moment) -> u64 {
        let survived = now.millis_since(*self.killed.get_or_insert(now));
        if survived >= CUT_MS && self.is_due(now) {
            self.attempt = Some((now, begin(place.clone())));
        }
        survived
    }

    /// Whether to begin: at first, and again some time after it failed.
    fn is_due(&self, now: Moment) -> bool {
        match self.attempt.as_ref().map(|(begun, outcome)| (begun, outcome.get())) {
            None => true,
            Some((begun, Some(Err(_)))) => now.millis_since(*begun) >= CUT_MS,
            Some((_, None | Some(Ok(_)))) => false,
        }
    }

    /// How it went, in words.
    pub(crate) fn words(&self) -> String {
        words(self.attempt.as_ref().and_then(|(_, outcome)| outcome.get()))
    }
}

/// Cuts a container off and waits for it, at most so many milliseconds; says how it went.
pub(crate) fn cut_off(place: Place, patience_ms: i32) -> String {
    let outcome = begin(place);
    for _round in 0..patience_ms / 10 {
        if outcome.get().is_some() {
            break;
        }
        // An interrupted wait is a shorter one.
        let (Ok(_) | Err(_)) = sys::poll(&mut [], 10);
    }
    words(outcome.get())
}

fn words(outcome: Option<&io::Result<usize>>) -> String {
    match outcome {
        None => "its network is not cut yet".to_owned(),
        Some(Ok(0)) => "it has no network".to_owned(),
        Some(Ok(_)) => "its network is cut".to_owned(),
        Some(Err(error)) => format!("its network cannot be cut: {error}"),
    }
}

fn begin(place: Place) -> Outcome {
    let outcome = Outcome::default();
    let told = Arc::clone(&outcome);
    let thread = std::thread::Builder::new().stack_size(STACK_LEN);
    // Each is told once, by the thread or by the lack of it.
    if let Err(error) = thread.spawn(move || told.set(cut(&place))) {
        let (Ok(()) | Err(_)) = outcome.set(Err(error));
    }
    outcome
}

fn cut(place: &Place) -> io::Result<usize> {
    let own = fs::metadata(OWN)?.ino();
    let named = place.network.as_ref().map(|network| enter(network, own));
    match named {
        Some(Ok(())) => {}
        Some(Err(_)) | None => enter_of_processes(&place.groups, own)?,
    }
    set_down()
}

/// Enters a network, unless it is the host's own: that cannot be cut for the sake of one container.
fn enter(network: &Path, own: u64) -> io::Result<()> {
    let namespace = File::open(network)?;
    if namespace.metadata()?.ino() == own {
        return Err(io::Error::other("it is the host's own"));
    }
    sys::enter_network(namespace.as_fd())
}

/// Enters the network of whatever is left.
fn enter_of_processes(groups: &[PathBuf], own: u64) -> io::Result<()> {
    let mut entered = Err(io::Error::from(io::ErrorKind::NotFound));
    for pid in group::processes(groups)? {
        // Whose first thread has ended is found by the others.
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        for task in tasks {
            entered = enter(&task.path().join("ns/net"), own);
            if entered.is_ok() {
                return entered;
            }
        }
    }
    entered
}

/// Sets all interfaces down that the calling thread can see; all that can be, whichever cannot.
fn set_down() -> io::Result<usize> {
    let table = fs::read_to_string(INTERFACES)?;
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let mut done = Ok(0);
    for name in interfaces(&table) {
        let one = sys::set_down(socket.as_fd(), name);
        done = done.and_then(|count| one.map(|()| count + 1));
    }
    done
}

/// The names in the kernel's table, without the loopback.
fn interfaces(table: &str) -> impl Iterator<Item = &str> {
    let names = table.lines().filter_map(|line| line.split_once(':'));
    names.map(|(name, _)| name.trim()).filter(|name| *name != LOOPBACK && !name.contains('|'))
}

#[cfg(test)]
mod tests {
    //! On the kernel's words, and on places that are none.

    use super::{CUT_MS, Cut, Moment, Place, interfaces};

    const fn at(millis: u64) -> Moment {
        Moment { boot: millis * 1_000_000, raw: millis * 1_000_000 }
    }

    #[test]
    fn all_interfaces_but_the_loopback_are_found() {
        let table = "Inter-|   Receive                                                |  Transmit\n \
                     face |bytes    packets errs drop fifo frame compressed multicast|bytes\n    \
                     lo:       0       0    0    0    0     0          0         0\n  \
                     eth0: 1906 21    0    0    0     0          0         0\nmv0123456789abc:1 2 3\n";
        assert_eq!(interfaces(table).collect::<Vec<_>>(), ["eth0", "mv0123456789abc"]);
    }

    #[test]
    fn what_dies_in_time_is_not_cut_off_and_what_fails_is_tried_again_later() {
        let nowhere = Place { groups: Vec::new(), network: Some("/nowhere".into()) };
        let mut cut = Cut::default();
        assert_eq!(cut.killed(&nowhere, at(1_000)), 0);
        assert_eq!(cut.killed(&nowhere, at(999 + CUT_MS)), CUT_MS - 1);
        assert!(cut.attempt.is_none());
        let mut begun = Vec::new();
        for millis in [0, 1, CUT_MS, CUT_MS + 1] {
            cut.killed(&nowhere, at(1_000 + CUT_MS + millis));
            let (at, outcome) = cut.attempt.as_ref().expect("it has begun");
            outcome.wait();
            begun.push(at.boot / 1_000_000 - 1_000 - CUT_MS);
        }
        assert_eq!(begun, [0, 0, CUT_MS, CUT_MS]);
        assert!(cut.words().starts_with("its network cannot be cut: "), "{}", cut.words());
    }

    #[test]
    fn the_hosts_own_network_stays() {
        let own = Place { groups: Vec::new(), network: Some(super::OWN.into()) };
        let refused = super::cut(&own).expect_err("refused");
        assert_eq!(refused.kind(), std::io::ErrorKind::NotFound, "and nobody else's is there");
        let own = std::fs::metadata(super::OWN).expect("there");
        let inode = std::os::unix::fs::MetadataExt::ino(&own);
        let refused = super::enter(super::OWN.as_ref(), inode).expect_err("refused");
        assert_eq!(refused.to_string(), "it is the host's own");
    }
}
