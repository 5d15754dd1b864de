//! What one life of this agent leaves to the next: its number, and where the others were.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use mesh_coordinator::id::{Incarnation, NodeId};
use mesh_engine::Clock;
use mesh_gossip::AddressBook;
use mesh_ports::store::{Change, Store, StoreError, Table};
use tracing::warn;

const INCARNATION: &[u8] = b"incarnation";
const ADDRESSES: &[u8] = b"addresses";

/// Begins another life, on disk before anybody hears of it.
pub(crate) fn begin(store: &impl Store, clock: Clock) -> Result<Incarnation, StoreError> {
    let last = store.get(Table::Node, INCARNATION)?;
    let last = last
        .and_then(|bytes| bytes.try_into().ok())
        .map(|bytes| Incarnation(u64::from_be_bytes(bytes)));
    let next = mesh_gossip::next_incarnation(last, clock.wall().0);
    store.commit(vec![Change::Put(
        Table::Node,
        INCARNATION.to_vec(),
        next.0.to_be_bytes().to_vec(),
    )])?;
    Ok(next)
}

/// Where the others were when they were last heard, on disk: lines of `node address`.
#[derive(Debug)]
pub(crate) struct Book<S>(pub(crate) Arc<S>);

impl<S: Store> AddressBook for Book<S> {
    fn load(&self) -> Vec<(NodeId, SocketAddr)> {
        let read =
            self.0.get(Table::Node, ADDRESSES).context("read").map(Option::unwrap_or_default);
        let text = read.and_then(|bytes| String::from_utf8(bytes).context("decode"));
        let text = text.unwrap_or_else(|error| {
            warn!(error = %format!("{error:#}"), "the address book cannot be read and begins anew");
            String::new()
        });
        let pair = |line: &str| {
            let (node, address) = line.split_once(' ')?;
            Some((node.parse().ok()?, address.parse().ok()?))
        };
        text.lines().filter_map(pair).collect()
    }

    fn save(&self, book: &[(NodeId, SocketAddr)]) {
        let text: String =
            book.iter().map(|(node, address)| format!("{node} {address}\n")).collect();
        let saved =
            self.0.commit(vec![Change::Put(Table::Node, ADDRESSES.to_vec(), text.into_bytes())]);
        if let Err(error) = saved {
            warn!(error = %mesh_telemetry::Chain(&error), "the address book is not saved");
        }
    }
}
