//! On groups that are files, with a clock that is an argument. Their one process has a number that no kernel gives.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::super::fence::{Moment, SLOTS_AT, Told, page};
use super::{BEAT, Beat, Guard, IDLE_MS, STUCK_MS};

const BOOT: u128 = 5;
const NOBODY: &str = "2000000000\n";

const fn at(millis: u64) -> Moment {
    Moment { boot: millis * 1_000_000, raw: millis * 1_000_000 }
}

const fn told(token: u64, stop: u64, kill: u64) -> Told {
    Told { boot: BOOT, token, stop: at(stop), kill: at(kill) }
}

struct World {
    dir: tempfile::TempDir,
    guard: Guard,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir(dir.path().join("fences")).expect("made");
        let guard = Guard::new(&dir.path().join("fences"), BOOT, at(0));
        Self { dir, guard }
    }

    fn path(&self, id: &str) -> PathBuf {
        self.dir.path().join(format!("fences/{id}.fence"))
    }

    fn group(&self, id: &str) -> PathBuf {
        self.dir.path().join(id)
    }

    /// Starts a container.
    fn start(&self, id: &str, fence: &Told) {
        let group = self.group(id);
        fs::create_dir_all(&group).expect("made");
        fs::write(group.join("cgroup.procs"), NOBODY).expect("written");
        fs::write(group.join("cgroup.kill"), "").expect("written");
        let page = page(fence, group.to_str().expect("text"), "").expect("room");
        let temporary = self.path(id).with_extension("new");
        fs::write(&temporary, page).expect("written");
        fs::rename(temporary, self.path(id)).expect("renamed");
    }

    fn empty(&self, id: &str) {
        fs::write(self.group(id).join("cgroup.procs"), "").expect("written");
    }

    /// One wake; returns in how many milliseconds the next one is.
    fn wake(&mut self, millis: u64) -> u64 {
        self.guard.look();
        let next = self.guard.act(at(millis));
        self.guard.tell(at(millis));
        next
    }

    /// Whether it was killed since the last question.
    fn was_killed(&self, id: &str) -> bool {
        let file = self.group(id).join("cgroup.kill");
        let killed = fs::read_to_string(&file).expect("read") == "1";
        fs::write(file, "").expect("written");
        killed
    }

    fn beat(&self) -> Option<Beat> {
        Beat::decode(&fs::read(self.dir.path().join("fences").join(BEAT)).ok()?)
    }
}

#[test]
fn it_kills_at_the_deadline_until_nothing_is_left() {
    let mut world = World::new();
    world.start("c", &told(7, 800, 1_000));
    assert_eq!(world.wake(0), 100);
    assert_eq!(world.wake(990), 11);
    assert!(!world.was_killed("c"));
    for millis in [1_000, 1_010, 1_020] {
        assert_eq!(world.wake(millis), 10);
        assert!(world.was_killed("c"), "at {millis}");
    }
    world.empty("c");
    assert_eq!(world.wake(1_030), 100);
    assert!(!world.was_killed("c"));
}

#[test]
fn it_goes_by_renewals_and_by_nothing_else() {
    let mut world = World::new();
    for id in ["renewed", "forged"] {
        world.start(id, &told(7, 800, 1_000));
    }
    world.wake(0);
    for (id, token) in [("renewed", 7), ("forged", 8)] {
        let file = fs::File::options().write(true).open(world.path(id)).expect("opened");
        let offset = u64::try_from(SLOTS_AT[1]).expect("small");
        file.write_all_at(&told(token, 1_800, 2_000).encode(), offset).expect("written");
    }
    world.wake(1_000);
    assert!(!world.was_killed("renewed") && world.was_killed("forged"));
    world.wake(2_000);
    assert!(world.was_killed("renewed"));
}

#[test]
fn what_has_lost_its_name_is_guarded_until_it_is_gone() {
    let mut world = World::new();
    world.start("c", &told(7, 800, 1_000));
    world.wake(0);
    fs::remove_file(world.path("c")).expect("removed");
    world.wake(1_000);
    assert!(world.was_killed("c"));
    world.empty("c");
    world.wake(1_010);
    assert!(world.guard.runs.is_empty());
}

#[test]
fn a_container_that_is_started_again_has_a_fence_of_its_own() {
    let mut world = World::new();
    world.start("c", &told(7, 800, 1_000));
    world.wake(0);
    world.start("c", &told(8, 5_000, 6_000));
    world.wake(1_000);
    assert!(!world.was_killed("c"));
    // Also when it happens between looking and killing.
    world.start("c", &told(9, 8_000, 9_000));
    world.guard.act(at(6_000));
    assert!(!world.was_killed("c"));
    world.wake(9_000);
    assert!(world.was_killed("c"));
}

#[test]
fn what_is_damaged_or_of_another_boot_is_no_fence() {
    let mut world = World::new();
    world.start("boot", &Told { boot: BOOT + 1, ..told(7, 0, 0) });
    world.start("damaged", &told(7, 0, 0));
    fs::write(world.path("damaged"), [1; 4096]).expect("written");
    assert_eq!(world.wake(1_000), 100);
    assert!(!world.was_killed("boot") && !world.was_killed("damaged"));
}

#[test]
fn what_survives_being_killed_is_told() {
    let mut world = World::new();
    world.start("c", &told(7, 800, 1_000));
    let n_stuck = |world: &World| world.beat().expect("a heartbeat").n_stuck;
    for (millis, expected) in [(0, 0), (1_000, 0), (999 + STUCK_MS, 0), (1_000 + STUCK_MS, 1)] {
        world.wake(millis);
        assert_eq!((n_stuck(&world), world.beat().expect("a heartbeat").at), (expected, at(millis)));
    }
    world.empty("c");
    world.wake(5_000);
    assert_eq!(n_stuck(&world), 0);
}

#[test]
fn it_goes_when_there_was_nothing_for_a_while_and_nobody_has_come_meanwhile() {
    let mut world = World::new();
    world.start("c", &told(7, 800, 1_000));
    world.wake(900);
    world.wake(899 + IDLE_MS);
    assert!(!world.guard.is_idle(at(899 + IDLE_MS)), "it had to kill");
    world.empty("c");
    let idle = 899 + IDLE_MS * 2;
    world.wake(idle);
    assert!(world.guard.is_idle(at(idle)));
    // A start that has seen the heartbeat has made its file before.
    world.start("next", &told(7, idle + 800, idle + 1_000));
    assert!(!world.guard.leaves(at(idle)));
    world.wake(idle + 10);
    assert!(world.beat().is_some(), "it says again that it is there");
    fs::remove_file(world.path("next")).expect("removed");
    world.empty("next");
    assert!(world.guard.leaves(at(idle * 2)));
    assert_eq!(world.beat(), None);
    assert!(Path::new(&world.path("c")).exists(), "and touches nothing else");
}
