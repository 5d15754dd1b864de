//! Events of all nodes, merged.
//!
//! Each node is asked twice at the same time: for what will happen, and then for what has happened. The last events of all come
//! first, in the order of their writers' clocks; then what comes, as it comes. What is in both is told once. A node that does not
//! answer within a short time is named and not waited for.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::{SelectAll, select_all};
use mesh_coordinator::event::Event;
use mesh_ports::control::Control as _;
use mesh_ports::directory::Peer;
use mesh_proto::v1;
use mesh_proto::v1::mesh_event::Item;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::peer::Pieces;
use super::{Shared, Wiring};
use crate::client::reason;
use crate::convert;

/// How long a node may take to tell what has happened.
const TAIL_TIMEOUT: Duration = Duration::from_secs(2);

/// The most events that are asked of one node: bounds what a merge holds in memory.
const TAIL_MAX: u32 = 1_000;

/// Events that the caller has not taken yet.
const ITEMS: usize = 64;

type Following = futures_util::stream::BoxStream<'static, Event>;

/// What one node told.
struct Told {
    /// What has happened, or why it is not known.
    tail: Result<Vec<Event>, v1::SilentNode>,
    /// What happens, when that was asked for and the node answers.
    following: Option<Following>,
}

/// The events of all nodes.
pub(super) fn merged<W: Wiring>(
    shared: &Arc<Shared<W>>,
    query: v1::EventsQuery,
) -> Pieces<v1::MeshEvent> {
    let (sender, items) = mpsc::channel(ITEMS);
    let gathering = gather(Arc::clone(shared), query, sender);
    shared.tasks.spawn("events", async move {
        // The caller went away in the middle: nothing is left to do.
        drop(gathering.await);
    });
    Box::pin(ReceiverStream::new(items))
}

async fn told_here<W: Wiring>(shared: &Shared<W>, tail: u32, follow: bool) -> Told {
    let control = &shared.parts.control;
    let following: Option<Following> = if follow {
        Some(ReceiverStream::new(control.events(0, true).await).boxed())
    } else {
        None
    };
    let mut events = Vec::new();
    let mut past = control.events(usize::try_from(tail).unwrap_or(usize::MAX), false).await;
    while let Some(event) = past.recv().await {
        events.push(event);
    }
    Told { tail: Ok(events), following }
}

async fn told_there<W: Wiring>(shared: &Shared<W>, peer: &Peer, tail: u32, follow: bool) -> Told {
    let node = peer.node;
    let silent = |reason: String| v1::SilentNode {
        node: convert::value::node_to_wire(node),
        name: peer.name.to_string(),
        reason,
    };
    let asking = async {
        let mut client = shared.parts.peers.peer(node).await.map_err(|error| error.reason)?;
        let because = |status: Status| reason(&status);
        let following = if follow {
            let query = v1::EventsQuery { tail: 0, follow: true };
            let answer = client.events(query).await.map_err(because)?.into_inner();
            let events = answer.filter_map(|item| {
                std::future::ready(item.ok().and_then(|item| convert::event::from_wire(item).ok()))
            });
            Some(events.boxed())
        } else {
            None
        };
        let query = v1::EventsQuery { tail, follow: false };
        let mut past = client.events(query).await.map_err(because)?.into_inner();
        let mut events = Vec::new();
        while let Some(item) = past.message().await.map_err(because)? {
            events.push(convert::event::from_wire(item).map_err(|error| error.to_string())?);
        }
        Ok::<_, String>(Told { tail: Ok(events), following })
    };
    let told = timeout(TAIL_TIMEOUT, asking).await;
    told.unwrap_or_else(|_elapsed| Err("does not answer".to_owned()))
        .unwrap_or_else(|reason| Told { tail: Err(silent(reason)), following: None })
}

/// Sends everything to the caller; fails when the caller is gone.
async fn gather<W: Wiring>(
    shared: Arc<Shared<W>>,
    query: v1::EventsQuery,
    sender: mpsc::Sender<Result<v1::MeshEvent, Status>>,
) -> Result<(), mpsc::error::SendError<Result<v1::MeshEvent, Status>>> {
    let tail = query.tail.min(TAIL_MAX);
    let peers = shared.parts.directory.peers();
    let others = peers.iter().map(|peer| told_there(&shared, peer, tail, query.follow));
    let others = futures_util::future::join_all(others);
    let (here, others) = tokio::join!(told_here(&shared, tail, query.follow), others);
    let (mut events, mut silent) = (Vec::new(), Vec::new());
    let mut following: SelectAll<Following> = select_all([]);
    for told in std::iter::once(here).chain(others) {
        following.extend(told.following);
        match told.tail {
            Ok(tail) => events.extend(tail),
            Err(node) => silent.push(node),
        }
    }
    events.sort_by_key(|event| event.at);
    let tail = usize::try_from(tail).unwrap_or(usize::MAX);
    let mut recent = events.split_off(events.len().saturating_sub(tail));
    for node in silent {
        sender.send(Ok(v1::MeshEvent { item: Some(Item::Silent(node)) })).await?;
    }
    for event in &recent {
        sender.send(Ok(item(event))).await?;
    }
    while let Some(event) = following.next().await {
        match recent.iter().position(|told| *told == event) {
            Some(place) => drop(recent.swap_remove(place)),
            None => sender.send(Ok(item(&event))).await?,
        }
    }
    Ok(())
}

fn item(event: &Event) -> v1::MeshEvent {
    v1::MeshEvent { item: Some(Item::Event(convert::event::to_wire(event))) }
}
