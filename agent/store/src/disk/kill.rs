//! A process that is killed keeps what it acknowledged.

use std::env;
use std::io::{BufRead as _, BufReader, Write as _, stdout};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use mesh_ports::store::{Change, Store as _, Table};
use tempfile::TempDir;

use super::SledStore;

/// Tells the child where its store is; without it the child's test does nothing.
const STORE: &str = "MESH_TEST_STORE";
/// The test that is the child.
const CHILD: &str = "disk::kill::child_commits_until_it_is_killed";
/// What the child says after each commit, before its number.
const ACKNOWLEDGED: &str = "acknowledged ";
/// How often the child is killed.
const N_KILLS: u64 = 20;

/// Keys in several tables, which must change together.
fn changes(number: u64) -> Vec<Change> {
    let digits = number.to_be_bytes().to_vec();
    vec![
        Change::Put(Table::Records, digits.clone(), vec![9; 700]),
        Change::Put(Table::Registers, b"slot".to_vec(), digits.clone()),
        Change::Put(Table::Node, b"last".to_vec(), digits),
    ]
}

fn last(store: &SledStore) -> u64 {
    let last = store.get(Table::Node, b"last").unwrap();
    last.map_or(0, |digits| u64::from_be_bytes(digits.try_into().unwrap()))
}

#[test]
fn child_commits_until_it_is_killed() {
    let Some(path) = env::var_os(STORE) else { return };
    let store = SledStore::open(Path::new(&path)).unwrap();
    let first = last(&store);
    for number in first + 1..first + 1_000_000 {
        store.commit(changes(number)).unwrap();
        let mut out = stdout().lock();
        writeln!(out, "{ACKNOWLEDGED}{number}").unwrap();
        out.flush().unwrap();
    }
}

/// Ends its child whatever happens.
struct Victim(Child);

impl Drop for Victim {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn start(path: &Path) -> Victim {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", CHILD, "--nocapture"]);
    command.env(STORE, path).stdout(Stdio::piped()).stderr(Stdio::null());
    Victim(command.spawn().unwrap())
}

#[test]
fn twenty_kills_lose_no_acknowledged_commit() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("store");
    let mut acknowledged = 0;
    let number = SledStore::open(&path).unwrap().id();
    for round in 0..N_KILLS {
        let mut victim = start(&path);
        let lines = BufReader::new(victim.0.stdout.take().unwrap()).lines();
        // A different moment in each round, in the middle of whatever comes next.
        let enough = acknowledged + 1 + round * 37 % 101;
        for line in lines {
            let line = line.unwrap();
            let Some((_, number)) = line.split_once(ACKNOWLEDGED) else { continue };
            acknowledged = number.parse().unwrap();
            if acknowledged >= enough {
                break;
            }
        }
        drop(victim);
        let store = SledStore::open(&path).unwrap();
        let last = last(&store);
        assert!(last >= acknowledged, "round {round}: {last} is before {acknowledged}");
        let n_records = store.scan(Table::Records, b"").unwrap().len();
        assert_eq!(u64::try_from(n_records).unwrap(), last, "round {round}: torn in two");
        let registers = store.registers().unwrap();
        let promised = vec![(b"slot".to_vec(), last.to_be_bytes().to_vec())];
        assert_eq!((store.id(), registers), (number, promised), "round {round}: still its word");
        acknowledged = last;
    }
    assert!(acknowledged >= N_KILLS);
}
