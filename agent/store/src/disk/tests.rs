//! The guards, each against the trouble that it is for.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use mesh_ports::store::{Change, Store as _, StoreError, Table};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tempfile::TempDir;

use super::room::Sizes;
use super::{OpenError, SledStore};
use crate::suite;

fn put(key: &[u8], value: &[u8]) -> Vec<Change> {
    vec![Change::Put(Table::Records, key.to_vec(), value.to_vec())]
}

fn fill(path: &Path, n_keys: u32) {
    let store = SledStore::open(path).unwrap();
    for number in 0..n_keys {
        store.commit(put(&number.to_be_bytes(), &[7; 100])).unwrap();
    }
}

fn snapshots(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    entries
        .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("snap."))
        .collect()
}

#[test]
fn the_suite_holds_on_disk() {
    suite::run(|| {
        let directory = TempDir::new().unwrap();
        (SledStore::open(&directory.path().join("store")).unwrap(), directory)
    });
}

#[test]
fn what_was_committed_is_there_after_opening_again() {
    let directory = TempDir::new().unwrap();
    fill(directory.path(), 10);
    let store = SledStore::open(directory.path()).unwrap();
    assert_eq!(store.scan(Table::Records, b"").unwrap().len(), 10);
}

#[test]
fn a_second_agent_finds_the_store_busy() {
    let directory = TempDir::new().unwrap();
    let store = SledStore::open(directory.path()).unwrap();
    let second = SledStore::open(directory.path()).unwrap_err();
    assert!(matches!(second, OpenError::Busy { .. }), "{second}");
    drop(store);
    SledStore::open(directory.path()).unwrap();
}

#[test]
fn a_torn_snapshot_costs_nothing() {
    for length in [0, 5, 20] {
        let directory = TempDir::new().unwrap();
        fill(directory.path(), 50);
        // The second opening writes a snapshot of the log.
        drop(SledStore::open(directory.path()).unwrap());
        let torn = snapshots(directory.path());
        assert!(!torn.is_empty(), "sled wrote a snapshot");
        for path in torn {
            fs::OpenOptions::new().write(true).open(path).unwrap().set_len(length).unwrap();
        }
        let store = SledStore::open(directory.path()).unwrap();
        assert_eq!(store.scan(Table::Records, b"").unwrap().len(), 50, "torn to {length} bytes");
        assert!(store.repaired());
    }
}

#[test]
fn a_store_that_forgot_acknowledged_commits_is_called_repaired() {
    let directory = TempDir::new().unwrap();
    fill(directory.path(), 10);
    let log = fs::read(directory.path().join("db")).unwrap();
    fill(directory.path(), 50);
    // The log as it was before, and no snapshot that knows better: as after a restored backup.
    fs::write(directory.path().join("db"), log).unwrap();
    snapshots(directory.path()).iter().for_each(|path| fs::remove_file(path).unwrap());
    assert!(SledStore::open(directory.path()).unwrap().repaired(), "the loss is noticed");
    assert!(!SledStore::open(directory.path()).unwrap().repaired(), "and said once");
}

/// What a witness has promised: one slot.
fn promise(store: &SledStore) {
    store.put_registers(vec![(b"slot".to_vec(), b"promise".to_vec())]).unwrap();
}

/// Whether the store has that promise still, and the number under which it was given.
fn keeps(store: &SledStore, number: u128) -> bool {
    let has = !store.registers().unwrap().is_empty();
    assert_eq!(has, store.id() == number, "a promise goes with its store's number");
    has
}

#[test]
fn a_store_keeps_its_number_and_its_word() {
    let directory = TempDir::new().unwrap();
    let store = SledStore::open(directory.path()).unwrap();
    let number = store.id();
    promise(&store);
    drop(store);
    assert!(keeps(&SledStore::open(directory.path()).unwrap(), number));
    let other = TempDir::new().unwrap();
    assert_ne!(SledStore::open(other.path()).unwrap().id(), number);
}

#[test]
fn a_store_that_was_repaired_or_put_back_is_another_witness() {
    type Harm = fn(&Path);
    let cases: [(&str, Harm); 5] = [
        ("a torn snapshot", |path| {
            for snapshot in snapshots(path) {
                fs::OpenOptions::new().write(true).open(snapshot).unwrap().set_len(5).unwrap();
            }
        }),
        ("an older log", |path| {
            let log = fs::read(path.join("db")).unwrap();
            fill(path, 50);
            fs::write(path.join("db"), log).unwrap();
            snapshots(path).iter().for_each(|path| fs::remove_file(path).unwrap());
        }),
        ("the number is gone", |path| fs::remove_file(path.join("id")).unwrap()),
        ("half of the number", |path| fs::write(path.join("id"), b"0123").unwrap()),
        ("the number of another store", |path| {
            let other = TempDir::new().unwrap();
            drop(SledStore::open(other.path()).unwrap());
            fs::copy(other.path().join("id"), path.join("id")).unwrap();
        }),
    ];
    for (what, harm) in cases {
        let directory = TempDir::new().unwrap();
        let store = SledStore::open(directory.path()).unwrap();
        let number = store.id();
        promise(&store);
        drop(store);
        fill(directory.path(), 10);
        harm(directory.path());
        let store = SledStore::open(directory.path()).unwrap();
        assert!(!keeps(&store, number), "{what}");
        assert!(store.scan(Table::Records, b"").unwrap().len() >= 10, "{what}");
        let renewed = store.id();
        promise(&store);
        drop(store);
        assert!(keeps(&SledStore::open(directory.path()).unwrap(), renewed), "{what}: once");
    }
}

#[test]
fn a_repair_that_is_cut_off_is_not_forgotten() {
    let directory = TempDir::new().unwrap();
    let store = SledStore::open(directory.path()).unwrap();
    let number = store.id();
    promise(&store);
    drop(store);
    let log = fs::read(directory.path().join("db")).unwrap();
    fill(directory.path(), 50);
    fs::write(directory.path().join("db"), log).unwrap();
    snapshots(directory.path()).iter().for_each(|path| fs::remove_file(path).unwrap());
    // The loss is noticed, and everything but the end of the opening is done: the mark says nothing any more.
    drop(super::open::handle(directory.path()).unwrap());
    let store = SledStore::open(directory.path()).unwrap();
    assert!(!store.repaired() && !keeps(&store, number));
}

#[test]
fn a_thousand_registers_are_one_flush() {
    let directory = TempDir::new().unwrap();
    let store = SledStore::open(directory.path()).unwrap();
    let commits = || {
        let mark = fs::read(directory.path().join("acknowledged")).unwrap();
        u64::from_be_bytes(*mark.first_chunk().unwrap())
    };
    let before = commits();
    let register = |n: u32| (n.to_be_bytes().to_vec(), vec![7; 200]);
    store.put_registers((0..1_000).map(register).collect()).unwrap();
    assert_eq!(commits(), before + 1);
    assert_eq!(store.registers().unwrap().len(), 1_000);
}

#[test]
fn damage_in_the_log_is_never_passed_over_in_silence() {
    for (offset, with_snapshot) in [(100, true), (2_000, true), (5_000, true), (100, false)] {
        let directory = TempDir::new().unwrap();
        fill(directory.path(), 50);
        drop(SledStore::open(directory.path()).unwrap());
        if !with_snapshot {
            snapshots(directory.path()).iter().for_each(|path| fs::remove_file(path).unwrap());
        }
        let log = fs::OpenOptions::new().write(true).open(directory.path().join("db"));
        log.unwrap().write_all_at(&[0xA5; 3_000], offset).unwrap();
        match SledStore::open(directory.path()) {
            Ok(store) => {
                let n_left = store.scan(Table::Records, b"").unwrap().len();
                assert!(n_left == 50 || store.repaired(), "{n_left} left from {offset}");
            }
            Err(error) => {
                assert!(matches!(error, OpenError::Corrupt { .. }), "{error:?}");
                assert!(error.to_string().contains("is damaged"));
            }
        }
    }
}

#[test]
fn large_nodes_are_synced_once_and_survive() {
    let directory = TempDir::new().unwrap();
    let store = SledStore::open(directory.path()).unwrap();
    for number in 0..40_u8 {
        store.commit(put(&[number], &vec![number; 60_000])).unwrap();
    }
    let n_blobs = fs::read_dir(directory.path().join("blobs")).unwrap().count();
    assert!(n_blobs > 0, "nodes of this size are kept in files of their own");
    drop(store);
    let store = SledStore::open(directory.path()).unwrap();
    for (key, value) in store.scan(Table::Records, b"").unwrap() {
        assert_eq!(value, vec![key[0]; 60_000]);
    }
}

/// A small file system of its own, gone when this is.
struct SmallDisk {
    directory: TempDir,
}

impl SmallDisk {
    fn mount() -> Option<Self> {
        let directory = TempDir::new().unwrap();
        let size = Some("size=24m");
        let none = None::<&str>;
        match mount(none, directory.path(), Some("tmpfs"), MsFlags::empty(), size) {
            Ok(()) => Some(Self { directory }),
            Err(_) => None,
        }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("store")
    }

    /// Takes all the room that there is.
    fn fill_up(&self) -> PathBuf {
        let path = self.directory.path().join("filler");
        let mut file = fs::File::create(&path).unwrap();
        while file.write_all(&[1; 4_096]).is_ok() {}
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        umount2(self.directory.path(), MntFlags::MNT_DETACH).unwrap();
    }
}

fn skipped() {
    use std::io::stdout;
    writeln!(stdout(), "skipped: the right to mount a file system").unwrap();
}

#[test]
fn a_full_disk_is_noticed_before_anything_is_written() {
    let Some(disk) = SmallDisk::mount() else { return skipped() };
    let store = SledStore::open(&disk.path()).unwrap();
    store.commit(put(b"before", b"1")).unwrap();
    let filler = disk.fill_up();
    let error = store.commit(put(b"during", b"2")).unwrap_err();
    assert!(matches!(error, StoreError::Full { .. }) && error.is_transient(), "{error:?}");
    assert_eq!(store.get(Table::Records, b"during").unwrap(), None);
    fs::remove_file(filler).unwrap();
    store.commit(put(b"after", b"3")).unwrap();
    assert_eq!(store.scan(Table::Records, b"").unwrap().len(), 2);
}

#[test]
fn a_disk_that_fills_up_in_the_middle_closes_nothing_for_good() {
    let Some(disk) = SmallDisk::mount() else { return skipped() };
    // Without the look ahead, so that sled itself runs into the end of the disk.
    let blind = Sizes { free_min: 0, reserve: 4 << 20 };
    let store = SledStore::open_with(&disk.path(), blind).unwrap();
    let filler = disk.fill_up();
    let began = Instant::now();
    let mut acknowledged = Vec::new();
    let mut refused = 0;
    for number in 0..400_u32 {
        match store.commit(put(&number.to_be_bytes(), &vec![3; 50_000])) {
            Ok(()) => acknowledged.push(number),
            Err(StoreError::Full { .. }) => refused += 1,
            Err(other) => panic!("{other:?} after {number}"),
        }
        if refused == 3 {
            break;
        }
    }
    assert_eq!(refused, 3, "the disk of 24 MiB did fill up");
    fs::remove_file(filler).unwrap();
    store.commit(put(b"after", b"room again")).unwrap();
    for number in &acknowledged {
        assert!(store.get(Table::Records, &number.to_be_bytes()).unwrap().is_some(), "{number}");
    }
    drop(store);
    let store = SledStore::open(&disk.path()).unwrap();
    assert!(store.scan(Table::Records, b"").unwrap().len() > acknowledged.len());
    assert!(began.elapsed().as_secs() < 60);
}
