//! Processes that survive SIGKILL, since a disk stands still to which they write: they are cut off and told of, and what they belong
//! to has not ended until they have. When the disk answers again all goes on by itself.

use std::fs;
use std::time::Duration;

use mesh_coordinator::spec::StopSignal;
use mesh_ports::runtime::{ContainerError, Event, Running, Runtime as _, StartError, State};
use mesh_runtime::embedded::Config;
use nix::sys::signal::Signal;

use crate::fence::{fence, fenced, now, processes, until};
use crate::fixture::{Away, Node, PATIENCE, on_a_node};
use crate::guard::{guard, signal};
use crate::volume::{FILE, Neighbour, Volume};

const PORT: u16 = 7000;

/// Listens, and writes to the disk as soon as there is one.
const WRITES: &[&str] = &["listen", "7000", "out", "up", "await", FILE, "append", FILE];

/// A container that hangs in the kernel, and who can see whether it is reached.
struct Stuck {
    volume: Volume,
    neighbour: Neighbour,
    running: Running,
}

impl Stuck {
    /// `None` on a host that cannot have such a container.
    async fn new(node: &Node, container: &mesh_ports::runtime::Container) -> Option<Self> {
        let volume = Volume::new()?;
        let running = node.driver.start(container).await.expect("started");
        node.until_logged(&container.id, "up").await;
        let network = node.config.run.join(&container.id.0).join("network");
        let neighbour = Neighbour::of(running.pid, &network)?;
        volume.show_to(running.pid);
        eventually("it writes", || volume.len() > 0).await;
        volume.freeze();
        eventually("it hangs", || state(running.pid) == Some('D')).await;
        assert!(neighbour.reaches(PORT), "the kernel answers for it");
        Some(Self { volume, neighbour, running })
    }

    async fn is_cut_off(&self) {
        // Not by many connections: those that nobody takes are refused some time.
        eventually("it is cut off", || !self.neighbour.has_carrier()).await;
        assert!(!self.neighbour.reaches(PORT));
        assert_eq!(state(self.running.pid), Some('D'), "and is still there");
    }
}

fn state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = now() + PATIENCE;
    while !holds() {
        assert!(!now().may_be_past(deadline), "{what}: never");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Asks it to be gone; what is left and whether it is cut off, as long as something is.
async fn stop(node: &Node, id: &str) -> Option<(String, String)> {
    let id = mesh_ports::runtime::ContainerId(id.to_owned());
    match node.driver.stop(&id, StopSignal::TERM, Duration::ZERO).await {
        Ok(()) => None,
        Err(ContainerError::Stuck { left, network, .. }) => Some((left, network)),
        Err(error) => panic!("{error}"),
    }
}

/// It has not ended, it is told of, and it ends as soon as its disk answers.
async fn ends_with_its_wait(node: &Node, id: &str, stuck: Stuck) {
    for _attempt in 0..2 {
        let (left, network) = stop(node, id).await.expect("it is there");
        let pid = stuck.running.pid;
        assert!(left.starts_with(&format!("process {pid} (payload) in state D")), "{left}");
        assert_eq!(network, "its network is cut");
        assert!(!processes(&node.config, id).is_empty());
    }
    stuck.is_cut_off().await;
    stuck.volume.thaw();
    eventually("it ends", || processes(&node.config, id).is_empty()).await;
    assert_eq!(stop(node, id).await, None);
    let id = mesh_ports::runtime::ContainerId(id.to_owned());
    assert!(matches!(node.state(&id).await, Some(State::Ended(_))));
    node.driver.remove(&id).await.expect("removed");
}

fn log(config: &Config) -> String {
    fs::read_to_string(config.run.join(".fences/guard.log")).unwrap_or_default()
}

/// Who guards it when its lease is over and its agent is away.
async fn nobody_is_there(node: Node, harm: impl FnOnce(&Node)) -> Node {
    let fence = fence(7_000, 7_500);
    let Some(stuck) = Stuck::new(&node, &fenced("c", WRITES, fence)).await else { return node };
    assert!(!now().may_be_past(fence.stop), "the machine is too busy for this lease");
    harm(&node);
    let away: Away = node.leave().await;
    until(fence.kill).await;
    stuck.is_cut_off().await;
    let node = away.come_back().await;
    ends_with_its_wait(&node, "c", stuck).await;
    node
}

#[test]
fn a_shim_cuts_off_what_survives_without_agent_and_guard() {
    on_a_node(|node: Node| async move {
        let stops_the_guard = |node: &Node| signal(guard(&node.config), Signal::SIGSTOP);
        nobody_is_there(node, stops_the_guard).await
    });
}

#[test]
fn the_guard_of_the_host_cuts_off_and_tells_what_survives_a_shim_that_is_stopped() {
    on_a_node(|node: Node| async move {
        let fence = fence(7_000, 7_500);
        let Some(stuck) = Stuck::new(&node, &fenced("c", WRITES, fence)).await else {
            return node;
        };
        assert!(!now().may_be_past(fence.stop), "the machine is too busy for this lease");
        signal(node.shim(&fenced("c", WRITES, fence).id), Signal::SIGSTOP);
        let away = node.leave().await;
        until(fence.kill).await;
        stuck.is_cut_off().await;
        let wanted = format!("process {} (payload) in state D", stuck.running.pid);
        let ends = " of c (token 7) survives SIGKILL; its network is cut";
        let is_told = |line: &str| line.starts_with(&wanted) && line.ends_with(ends);
        eventually("it is told", || log(&away.config).lines().any(is_told)).await;
        assert_eq!(log(&away.config).lines().filter(|line| is_told(line)).count(), 1, "once");
        stuck.volume.thaw();
        let over = "nothing is left of c any more";
        eventually("and that it is over", || log(&away.config).contains(over)).await;
        let mut node = away.come_back().await;
        let id = fenced("c", WRITES, fence).id;
        let exit = node.end_of(&id).await.exit.expect("the shim was woken");
        assert_eq!((exit.code, exit.signal), (137, Some(9)));
        assert_eq!(stop(&node, "c").await, None);
        node
    });
}

#[test]
fn the_guard_of_the_host_cuts_off_what_survives_its_shim() {
    on_a_node(|node: Node| async move {
        nobody_is_there(node, |node| {
            signal(node.shim(&fenced("c", WRITES, fence(0, 0)).id), Signal::SIGKILL);
        })
        .await
    });
}

#[test]
fn what_survives_its_stop_is_cut_off_though_its_lease_goes_on() {
    on_a_node(|node: Node| async move {
        let wanted = fenced("c", WRITES, fence(600_000, 601_000));
        let Some(stuck) = Stuck::new(&node, &wanted).await else { return node };
        ends_with_its_wait(&node, "c", stuck).await;
        node
    });
}

#[test]
fn the_end_of_what_survives_its_shim_is_told_when_nothing_is_left() {
    on_a_node(|mut node: Node| async move {
        let wanted = fenced("c", WRITES, fence(600_000, 601_000));
        let Some(stuck) = Stuck::new(&node, &wanted).await else { return node };
        signal(node.shim(&wanted.id), Signal::SIGKILL);
        match node.next_event().await {
            Event::Stuck { id, reason } => {
                assert_eq!(id, wanted.id);
                assert!(reason.ends_with("survives SIGKILL; its network is cut"), "{reason}");
            }
            Event::Ended(_) => panic!("it has not"),
        }
        assert!(!stuck.neighbour.has_carrier() && !stuck.neighbour.reaches(PORT));
        let refused = node.driver.start(&wanted).await;
        let Err(StartError::Host { attempt, source }) = refused else { panic!("{refused:?}") };
        assert_eq!(attempt, "end what an earlier run of c left");
        assert!(source.to_string().contains("survives SIGKILL"), "{source}");
        stuck.volume.thaw();
        assert_eq!(node.end_of(&wanted.id).await.exit, None);
        node.driver.start(&wanted).await.expect("started again");
        node.until_logged(&wanted.id, "up").await;
        node
    });
}
