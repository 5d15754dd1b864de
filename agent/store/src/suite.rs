//! What every store does, whatever it is made of.

use std::thread;

use mesh_ports::store::{Change, Store, Table};

fn put(table: Table, key: &[u8], value: &[u8]) -> Change {
    Change::Put(table, key.to_vec(), value.to_vec())
}

/// Runs every claim on a new store. `make` returns the store and whatever must outlive it.
pub(crate) fn run<S: Store, G>(make: impl Fn() -> (S, G)) {
    for claim in [
        a_value_is_read_as_it_was_written::<S>,
        tables_do_not_mix::<S>,
        a_scan_ascends_and_keeps_to_its_prefix::<S>,
        the_last_change_of_a_key_wins::<S>,
        a_missing_key_can_be_deleted::<S>,
        a_large_value_comes_back_whole::<S>,
        concurrent_commits_all_arrive::<S>,
        of_the_registers_of_a_slot_the_last_is_kept::<S>,
        a_new_number_takes_the_registers_and_nothing_else::<S>,
    ] {
        let (store, _guard) = make();
        claim(&store);
    }
}

fn a_value_is_read_as_it_was_written<S: Store>(store: &S) {
    assert_eq!(store.get(Table::Records, b"key").unwrap(), None);
    store.commit(vec![put(Table::Records, b"key", b"")]).unwrap();
    assert_eq!(store.get(Table::Records, b"key").unwrap(), Some(Vec::new()));
    store.commit(vec![put(Table::Records, b"key", &[0, 255])]).unwrap();
    assert_eq!(store.get(Table::Records, b"key").unwrap(), Some(vec![0, 255]));
    store.commit(Vec::new()).unwrap();
}

fn tables_do_not_mix<S: Store>(store: &S) {
    for (table, value) in Table::ALL.into_iter().zip([b"0", b"1", b"2", b"3"]) {
        store.commit(vec![put(table, b"key", value), put(table, b"", value)]).unwrap();
    }
    for (table, value) in Table::ALL.into_iter().zip([b"0", b"1", b"2", b"3"]) {
        assert_eq!(store.get(table, b"key").unwrap(), Some(value.to_vec()));
        let all = vec![(Vec::new(), value.to_vec()), (b"key".to_vec(), value.to_vec())];
        assert_eq!(store.scan(table, b"").unwrap(), all);
    }
}

fn a_scan_ascends_and_keeps_to_its_prefix<S: Store>(store: &S) {
    let keys: [&[u8]; 6] = [&[1, 255, 255], &[1, 255], &[2], &[1], &[0], &[1, 0]];
    store.commit(keys.map(|key| put(Table::Node, key, key)).to_vec()).unwrap();
    let found: Vec<_> =
        store.scan(Table::Node, &[1]).unwrap().into_iter().map(|(key, _)| key).collect();
    assert_eq!(found, [vec![1], vec![1, 0], vec![1, 255], vec![1, 255, 255]]);
    assert_eq!(store.scan(Table::Node, &[1, 255]).unwrap().len(), 2);
    assert_eq!(store.scan(Table::Node, &[3]).unwrap(), Vec::new());
}

fn the_last_change_of_a_key_wins<S: Store>(store: &S) {
    let delete = Change::Delete(Table::Node, b"key".to_vec());
    let first = put(Table::Node, b"key", b"first");
    let second = put(Table::Node, b"key", b"second");
    store.commit(vec![first.clone(), delete.clone(), second]).unwrap();
    assert_eq!(store.get(Table::Node, b"key").unwrap(), Some(b"second".to_vec()));
    store.commit(vec![first, delete]).unwrap();
    assert_eq!(store.get(Table::Node, b"key").unwrap(), None);
}

fn a_missing_key_can_be_deleted<S: Store>(store: &S) {
    store.commit(vec![Change::Delete(Table::Records, b"nothing".to_vec())]).unwrap();
}

fn a_large_value_comes_back_whole<S: Store>(store: &S) {
    let value: Vec<u8> = (0..300_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    store.commit(vec![put(Table::Records, b"large", &value)]).unwrap();
    assert_eq!(store.get(Table::Records, b"large").unwrap(), Some(value));
}

fn concurrent_commits_all_arrive<S: Store>(store: &S) {
    thread::scope(|scope| {
        for writer in 0..4_u8 {
            scope.spawn(move || {
                for number in 0..25_u8 {
                    store.commit(vec![put(Table::Node, &[writer, number], b"x")]).unwrap();
                }
            });
        }
    });
    assert_eq!(store.scan(Table::Node, b"").unwrap().len(), 100);
}

fn of_the_registers_of_a_slot_the_last_is_kept<S: Store>(store: &S) {
    let pair = |key: &[u8], value: &[u8]| (key.to_vec(), value.to_vec());
    assert_eq!(store.registers().unwrap(), []);
    store.put_registers(vec![pair(b"b", b"1"), pair(b"a", b"1"), pair(b"b", b"2")]).unwrap();
    assert_eq!(store.registers().unwrap(), [pair(b"a", b"1"), pair(b"b", b"2")]);
    store.put_registers(vec![pair(b"a", b"2")]).unwrap();
    assert_eq!(store.registers().unwrap(), [pair(b"a", b"2"), pair(b"b", b"2")]);
    store.put_registers(Vec::new()).unwrap();
}

fn a_new_number_takes_the_registers_and_nothing_else<S: Store>(store: &S) {
    let number = store.id();
    store.commit(vec![put(Table::Records, b"kept", b"value")]).unwrap();
    store.put_registers(vec![(b"slot".to_vec(), b"promise".to_vec())]).unwrap();
    assert_eq!(store.id(), number);
    let renewed = store.renew().unwrap();
    assert_ne!(renewed, number);
    assert_eq!((store.id(), store.registers().unwrap()), (renewed, Vec::new()));
    assert!(store.get(Table::Records, b"kept").unwrap().is_some());
    store.put_registers(vec![(b"slot".to_vec(), b"another".to_vec())]).unwrap();
}
