//! A real store whose files are damaged at random, from seeds: it opens whole, says what it lost, or says that it is damaged, and
//! always there is a way on.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use mesh_ports::store::{Change, Pairs, Store as _, Table};
use tempfile::TempDir;

use super::{OpenError, SledStore, set_aside};

const N_KEYS: usize = 60;

/// Splitmix, since a seed must tell the same story everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % sides.max(1)
    }

    fn bytes(&mut self, n: u64) -> Vec<u8> {
        (0..n).map(|_| u8::try_from(self.roll(256)).unwrap()).collect()
    }
}

/// A store as an agent leaves it that has run twice: small records, a few large ones, and what was erased again. Returns its number
/// and its registers.
fn fill(path: &Path) -> (u128, Pairs) {
    let mut dice = Dice(7);
    for half in 0..2 {
        let store = SledStore::open(path).unwrap();
        for number in (0..N_KEYS).filter(|number| number % 2 == half) {
            let length = if number % 20 == 0 { 200_000 } else { 300 };
            let key = number.to_be_bytes().to_vec();
            store.commit(vec![Change::Put(Table::Records, key, dice.bytes(length))]).unwrap();
            store.commit(vec![Change::Put(Table::Node, b"life".to_vec(), vec![7; 8])]).unwrap();
            store.put_registers(vec![register(number)]).unwrap();
        }
    }
    let store = SledStore::open(path).unwrap();
    (store.id(), store.registers().unwrap())
}

/// What is kept of a slot after this commit: one of three slots, and the commit's number.
fn register(number: usize) -> (Vec<u8>, Vec<u8>) {
    let slot = u8::try_from(number % 3).unwrap();
    (vec![slot], [number.to_be_bytes().to_vec(), vec![slot; 100]].concat())
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn files(path: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found.sort();
    found
}

/// Damages one file, and says how.
fn damage(path: &Path, dice: &mut Dice) -> String {
    let is_blob = |file: &PathBuf| file.parent().is_some_and(|parent| parent.ends_with("blobs"));
    let (mut blobs, mut files): (Vec<_>, Vec<_>) = files(path).into_iter().partition(is_blob);
    // Large values are many, and each kind of file is to have its turn.
    let blob = usize::try_from(dice.roll(u64::try_from(blobs.len()).unwrap())).unwrap();
    files.push(blobs.swap_remove(blob));
    // The log is where nearly all of a store is, and the disk does not choose by names.
    let log = files.iter().position(|file| file.ends_with("db")).unwrap();
    let any = usize::try_from(dice.roll(u64::try_from(files.len()).unwrap())).unwrap();
    let file = &files[if dice.roll(3) == 0 { any } else { log }];
    let length = fs::metadata(file).unwrap().len();
    let open = || OpenOptions::new().write(true).open(file).unwrap();
    let how = match dice.roll(6) {
        0 => {
            let left = dice.roll(length);
            open().set_len(left).unwrap();
            format!("cut to {left}")
        }
        1 => {
            open().set_len(0).unwrap();
            "emptied".to_owned()
        }
        2 => {
            fs::remove_file(file).unwrap();
            "removed".to_owned()
        }
        3 => {
            let (at, n) = (dice.roll(length), 1 + dice.roll(8_192));
            let zeros = vec![0; usize::try_from(n.min(length - at)).unwrap()];
            open().write_all_at(&zeros, at).unwrap();
            format!("{n} zeros at {at}")
        }
        _ => {
            let (at, n) = (dice.roll(length), 1 + dice.roll(64));
            let noise = dice.bytes(n.min(length - at));
            open().write_all_at(&noise, at).unwrap();
            format!("{n} bytes of noise at {at}")
        }
    };
    format!("{} {how} of {length}", file.file_name().unwrap().to_string_lossy())
}

#[test]
fn damage_at_random_is_never_passed_over_and_there_is_a_way_on() {
    let whole = TempDir::new().unwrap();
    let (number, registers) = fill(whole.path());
    let (mut n_whole, mut n_repaired, mut n_damaged) = (0, 0, 0);
    for seed in 0..120 {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("store");
        copy(whole.path(), &path);
        let how = damage(&path, &mut Dice(seed));
        match SledStore::open(&path) {
            Ok(store) => {
                let n_left = store.scan(Table::Records, b"").unwrap().len();
                assert!(n_left == N_KEYS || store.repaired(), "{seed}: {how}: {n_left} left");
                // It has its whole word, or it is another store and has given none.
                let left = store.registers().unwrap();
                let is_same = store.id() == number && left == registers;
                let is_new = store.id() != number && left.is_empty();
                assert!(is_same || is_new, "{seed}: {how}: {} registers", left.len());
                assert!(is_new || !store.repaired(), "{seed}: {how}: what was repaired is new");
                *(if store.repaired() { &mut n_repaired } else { &mut n_whole }) += 1;
            }
            Err(OpenError::Corrupt { .. }) => {
                n_damaged += 1;
                let aside = set_aside(&path).unwrap();
                assert!(aside.join("lock").exists() && !path.exists(), "{seed}: {how}");
                let fresh = SledStore::open(&path).unwrap();
                assert!(fresh.scan(Table::Records, b"").unwrap().is_empty());
                assert!(fresh.id() != number && fresh.registers().unwrap().is_empty());
                fresh.commit(vec![Change::Put(Table::Records, vec![1], vec![2])]).unwrap();
            }
            Err(other) => panic!("{seed}: {how}: {other:?}"),
        }
    }
    assert!(n_whole > 5 && n_repaired > 5 && n_damaged > 0, "{n_whole} {n_repaired} {n_damaged}");
}

#[test]
fn of_the_damaged_stores_a_few_are_kept() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("store");
    for number in 0..9_u8 {
        fs::create_dir(&path).unwrap();
        fs::write(path.join("number"), [number]).unwrap();
        set_aside(&path).unwrap();
    }
    let kept = files(directory.path()).into_iter().filter(|file| file.ends_with("number"));
    let mut kept: Vec<u8> = kept.map(|file| fs::read(file).unwrap()[0]).collect();
    kept.sort_unstable();
    assert_eq!(kept, [5, 6, 7, 8]);
}

#[test]
fn a_store_in_use_is_not_set_aside() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("store");
    let store = SledStore::open(&path).unwrap();
    let busy = set_aside(&path).unwrap_err();
    assert!(matches!(busy, OpenError::Busy { .. }), "{busy}");
    drop(store);
    assert!(path.exists());
}
