//! What all nodes know of the leases of exclusive slots, node by node.
//!
//! Nothing is put together here: whoever asks has the whole mesh before its eyes and can. So nothing is gathered either, and a node that
//! witnesses tens of thousands of slots costs no more memory than one that witnesses ten. A node that does not answer within a short
//! time is named and not waited for.

use std::sync::Arc;
use std::time::Duration;

use mesh_coordinator::id::{AppUid, NodeId};
use mesh_coordinator::view::{LeaseQuery, LeaseView};
use mesh_ports::control::Control;
use mesh_ports::directory::Peer;
use mesh_proto::v1;
use mesh_proto::v1::mesh_lease::Item;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::SendError;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use super::peer::Pieces;
use super::{Shared, Wiring};
use crate::client::reason;
use crate::convert;

/// How long a node may take for its first lease, and for each further one.
const TELL_TIMEOUT: Duration = Duration::from_secs(2);

/// Leases that the caller has not taken yet.
const ITEMS: usize = 64;

type Sender<T> = mpsc::Sender<Result<T, Status>>;

/// What all nodes know; of this one also which slots are merely wanted.
pub(super) fn merged<W: Wiring>(
    shared: &Arc<Shared<W>>,
    app: Option<AppUid>,
) -> Pieces<v1::MeshLease> {
    let (sender, items) = mpsc::channel(ITEMS);
    let gathering = gather(Arc::clone(shared), app, sender);
    shared.tasks.spawn("leases", gathering);
    Box::pin(ReceiverStream::new(items))
}

/// What this node knows itself, for a peer that gathers.
pub(super) fn here<W: Wiring>(
    shared: &Arc<Shared<W>>,
    app: Option<AppUid>,
) -> Pieces<v1::LeaseSeen> {
    let (sender, items) = mpsc::channel(ITEMS);
    let shared = Arc::clone(shared);
    let tasks = shared.tasks.clone();
    let query = LeaseQuery { app, after: None, concerned: true };
    tasks.spawn("leases", async move {
        // The caller went away in the middle: nothing is left to do.
        drop(tell(shared.parts.control.as_ref(), query, &sender, |seen| seen).await);
    });
    Box::pin(ReceiverStream::new(items))
}

async fn gather<W: Wiring>(
    shared: Arc<Shared<W>>,
    app: Option<AppUid>,
    sender: Sender<v1::MeshLease>,
) {
    let query = LeaseQuery { app, after: None, concerned: false };
    let own = tell(shared.parts.control.as_ref(), query, &sender, |seen| told(shared.node, seen));
    let peers = shared.parts.directory.peers();
    let others = peers.iter().map(|peer| pass_on(&shared, peer, app, &sender));
    // Whoever is not sent to any more went away.
    drop(tokio::join!(own, futures_util::future::join_all(others)));
}

/// Sends all that this node knows, a part at a time: its decisions do not wait for the whole.
async fn tell<T>(
    control: &impl Control,
    mut query: LeaseQuery,
    sender: &Sender<T>,
    item: impl Fn(v1::LeaseSeen) -> T,
) -> Result<(), SendError<Result<T, Status>>> {
    loop {
        let views: Vec<LeaseView> = control.leases(query.clone()).await;
        let Some(last) = views.last() else { return Ok(()) };
        query.after = Some(last.slot.clone());
        for view in &views {
            sender.send(Ok(item(convert::leases::to_wire(view)))).await?;
        }
    }
}

/// Passes on what a peer knows, and says so when that is not everything.
async fn pass_on<W: Wiring>(
    shared: &Shared<W>,
    peer: &Peer,
    app: Option<AppUid>,
    sender: &Sender<v1::MeshLease>,
) -> Result<(), SendError<Result<v1::MeshLease, Status>>> {
    let Err(reason) = ask(shared, peer.node, app, sender).await? else { return Ok(()) };
    let silent = v1::SilentNode {
        node: convert::value::node_to_wire(peer.node),
        name: peer.name.to_string(),
        reason,
    };
    sender.send(Ok(v1::MeshLease { item: Some(Item::Silent(silent)) })).await
}

/// The inner result says why the peer did not tell everything.
async fn ask<W: Wiring>(
    shared: &Shared<W>,
    node: NodeId,
    app: Option<AppUid>,
    sender: &Sender<v1::MeshLease>,
) -> Result<Result<(), String>, SendError<Result<v1::MeshLease, Status>>> {
    let late = |_elapsed| "does not answer".to_owned();
    let because = |status: Status| {
        let is_old = status.code() == Code::Unimplemented;
        if is_old { "its agent is too old to say".to_owned() } else { reason(&status) }
    };
    let asking = async {
        let mut client = shared.parts.peers.peer(node).await.map_err(|error| error.reason)?;
        let query = convert::leases::query_to_wire(app);
        client.leases(query).await.map_err(because)
    };
    let mut leases = match timeout(TELL_TIMEOUT, asking).await.map_err(late) {
        Ok(Ok(answer)) => answer.into_inner(),
        Ok(Err(reason)) | Err(reason) => return Ok(Err(reason)),
    };
    loop {
        let next = timeout(TELL_TIMEOUT, leases.message()).await.map_err(late);
        let seen = match next.map(|next| next.map_err(because)) {
            Ok(Ok(Some(seen))) => seen,
            Ok(Ok(None)) => return Ok(Ok(())),
            Ok(Err(reason)) | Err(reason) => return Ok(Err(reason)),
        };
        // What no client could read would end its answer.
        if let Err(error) = convert::leases::from_wire(seen.clone()) {
            return Ok(Err(error.to_string()));
        }
        sender.send(Ok(told(node, seen))).await?;
    }
}

fn told(node: NodeId, lease: v1::LeaseSeen) -> v1::MeshLease {
    let told = v1::LeaseTold { node: convert::value::node_to_wire(node), lease: Some(lease) };
    v1::MeshLease { item: Some(Item::Told(told)) }
}
