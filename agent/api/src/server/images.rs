//! Images: received from an operator, and fetched from peers.
//!
//! A pushed image is acknowledged when another node has it too (promise P1): the loss of one node must not lose what an operator
//! was told is stored.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use mesh_coordinator::id::NodeId;
use mesh_coordinator::view::{NodeStatus, NodeView};
use mesh_ports::control::Control as _;
use mesh_ports::peer::FetchError;
use mesh_ports::runtime::{Image, ImageError, Images as _};
use mesh_proto::v1;
use mesh_telemetry::Reason;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tonic::{Status, Streaming};
use tracing::debug;

use super::{Shared, Wiring};
use crate::client::{Pushed, fetch_from};
use crate::status;

/// Pieces on their way to the disk.
const PIECES: usize = 16;

/// How long the sender of an archive may be silent.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);

/// How long another node may take to fetch a pushed image.
const COPY_TIMEOUT: Duration = Duration::from_secs(300);

/// Nodes that are asked at the same time to fetch a pushed image: one must, the second is for the loss of the first.
const COPIES: usize = 2;

/// Rounds of asking what is missing: an index, its manifests, what those name. More means that the store makes no progress.
const ROUNDS: usize = 8;

/// Stores an archive and has another node fetch what was in it.
pub(super) async fn push<W: Wiring>(
    shared: &Shared<W>,
    archive: Streaming<v1::ArchivePiece>,
) -> Result<Pushed, Status> {
    let busy = |_too_many| Status::resource_exhausted("other images are being received");
    let place = shared.imports.try_acquire().map_err(busy)?;
    let (sender, pieces) = mpsc::channel(PIECES);
    let importing = shared.parts.images.import(pieces);
    let (fed, imported) = tokio::join!(feed(archive, sender), importing);
    drop(place);
    // What the archive lacks explains itself by how it broke off, so that is said first.
    fed?;
    let images = imported.map_err(|error| status::image(&error))?;
    let peers = live_peers(shared).await;
    let n_peers = u32::try_from(peers.len()).unwrap_or(u32::MAX);
    let mut stored_on = vec![shared.node];
    stored_on.extend(copy(shared, &images, peers).await);
    Ok(Pushed { images, stored_on, n_peers })
}

async fn live_peers<W: Wiring>(shared: &Shared<W>) -> Vec<NodeId> {
    let Some(view) = shared.parts.control.overview().await else { return Vec::new() };
    // Who never runs a replica is asked last: it may be a small machine.
    let (witnesses, others): (Vec<&NodeView>, Vec<&NodeView>) =
        view.nodes.iter().partition(|node| node.witness_only);
    let live = others.into_iter().chain(witnesses);
    let live = live.filter(|node| node.status == NodeStatus::Alive);
    let members: BTreeSet<NodeId> =
        shared.parts.directory.peers().iter().map(|peer| peer.node).collect();
    live.map(|node| node.id).filter(|node| members.contains(node)).collect()
}

/// Has some of `peers` fetch the images; answers when one has them all and no other is nearly done.
async fn copy<W: Wiring>(
    shared: &Shared<W>,
    images: &[Image],
    peers: Vec<NodeId>,
) -> Option<NodeId> {
    let mut waiting = peers.into_iter();
    let mut copying: FuturesUnordered<_> =
        waiting.by_ref().take(COPIES).map(|node| copy_to(shared, node, images)).collect();
    while let Some((node, copied)) = copying.next().await {
        match copied {
            Ok(()) => return Some(node),
            Err(reason) => {
                debug!(peer = %node, reason, "a pushed image was not copied");
                copying.extend(waiting.next().map(|node| copy_to(shared, node, images)));
            }
        }
    }
    None
}

async fn copy_to<W: Wiring>(
    shared: &Shared<W>,
    node: NodeId,
    images: &[Image],
) -> (NodeId, Result<(), String>) {
    let copying = async {
        let mut client = shared.parts.peers.peer(node).await.map_err(|error| error.to_string())?;
        for image in images {
            let request = v1::FetchImageRequest { digest: image.digest.clone() };
            client.fetch_image(request).await.map_err(|status| status.to_string())?;
        }
        Ok(())
    };
    let copied = timeout(COPY_TIMEOUT, copying).await;
    (node, copied.unwrap_or_else(|_elapsed| Err("it takes too long".to_owned())))
}

/// Fetches what is missing of an image, from `from` above all.
pub(super) async fn fetch_image<W: Wiring>(
    shared: &Shared<W>,
    from: NodeId,
    digest: &str,
) -> Result<(), Status> {
    let images = &shared.parts.images;
    for _round in 0..ROUNDS {
        let missing = images.missing(digest).await.map_err(|error| status::image(&error))?;
        if missing.is_empty() {
            return Ok(());
        }
        for blob in &missing {
            fetch_blob(shared, from, blob).await?;
        }
    }
    Err(status::no_refusal(Status::internal("the image is still not complete")))
}

async fn fetch_blob<W: Wiring>(
    shared: &Shared<W>,
    from: NodeId,
    digest: &str,
) -> Result<(), Status> {
    let unavailable = |error: FetchError| Status::unavailable(error.to_string());
    let mut arriving =
        fetch_from(&shared.parts.peers, Some(from), digest).await.map_err(unavailable)?;
    let (sender, pieces) = mpsc::channel(PIECES);
    let forwarding = async move {
        while let Some(piece) = arriving.recv().await {
            // The store says why it takes no more, so that is not an error here.
            if sender.send(piece?).await.is_err() {
                break;
            }
        }
        Ok(())
    };
    let (forwarded, stored) =
        tokio::join!(forwarding, shared.parts.images.put_blob(digest, pieces));
    forwarded.map_err(unavailable)?;
    stored.map_err(|error| {
        if matches!(error, ImageError::Digest { .. }) {
            shared.refusals.refuse(Reason::BlobDigest, "a peer", &error);
        }
        status::image(&error)
    })
}

/// Passes an archive on; fails when it breaks off.
async fn feed(
    mut archive: Streaming<v1::ArchivePiece>,
    sender: mpsc::Sender<bytes::Bytes>,
) -> Result<(), Status> {
    loop {
        let piece = timeout(STALL_TIMEOUT, archive.message()).await;
        let late = |_elapsed| {
            status::refused(Reason::TooSlow, Status::deadline_exceeded("nothing more came"))
        };
        let piece = piece.map_err(late)??;
        let Some(v1::ArchivePiece { data, end }) = piece else {
            return Err(Status::invalid_argument("the archive broke off"));
        };
        let taken = data.is_empty() || sender.send(data).await.is_ok();
        // A store that takes no more has seen enough, and says itself whether that was good.
        if end || !taken {
            return Ok(());
        }
    }
}
