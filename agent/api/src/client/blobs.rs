//! Blobs of images from whoever has them.
//!
//! Several peers are asked at once who has a blob; it is read from the first that says yes, and when that one stops, from the
//! next, from where it stopped.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use mesh_coordinator::id::NodeId;
use mesh_coordinator::prng::Prng;
use mesh_ports::peer::{Blobs, FetchError};
use mesh_proto::v1;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::PeerPool;

/// How many peers are asked at once: a blob is on several nodes or on none, so more would only cost connections.
const ASKED: usize = 8;

/// How long a peer may take to say whether it has a blob.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a peer may be silent in the middle of a blob before the next one goes on.
const STALL_TIMEOUT: Duration = Duration::from_secs(10);

/// What a peer must bring in that time: one that drips goes on for ever without ever being silent.
const STALL_LEN_MIN: usize = 16 << 10;

/// Pieces that the receiver has not taken yet.
const PIECES: usize = 8;

type Pieces = mpsc::Sender<Result<Bytes, FetchError>>;

/// As [`Blobs::fetch`]; `first` is asked before all others.
pub(crate) async fn fetch_from(
    pool: &PeerPool,
    first: Option<NodeId>,
    digest: &str,
) -> Result<mpsc::Receiver<Result<Bytes, FetchError>>, FetchError> {
    let mut nodes: Vec<NodeId> = pool.directory().peers().iter().map(|peer| peer.node).collect();
    nodes.retain(|node| Some(*node) != first);
    shuffle(&mut nodes);
    let (asking, wanted) = (pool.clone(), digest.to_owned());
    let ask = move |node| has(asking.clone(), node, wanted.clone());
    let preferred = futures_util::stream::iter(first).then(ask.clone());
    let others = futures_util::stream::iter(nodes).map(ask).buffer_unordered(ASKED);
    let mut holders = Box::pin(preferred.chain(others).filter_map(std::future::ready));
    let holder = holders.next().await.ok_or_else(|| FetchError::Nowhere(digest.to_owned()))?;
    let (sender, pieces) = mpsc::channel(PIECES);
    let (reading, digest) = (pool.clone(), digest.to_owned());
    pool.tasks().spawn("fetch", async move {
        let mut read = Read { digest, offset: 0, sender };
        let mut holder = holder;
        while !read.from(&reading, holder).await {
            match holders.next().await {
                Some(next) => holder = next,
                None => return read.give_up(holder).await,
            }
        }
    });
    Ok(pieces)
}

async fn has(pool: PeerPool, node: NodeId, digest: String) -> Option<NodeId> {
    let asking = async {
        let mut client = pool.peer(node).await.ok()?;
        let question = v1::BlobRequest { digest, offset: 0 };
        client.has_blob(question).await.ok()
    };
    let answer = tokio::time::timeout(ASK_TIMEOUT, asking).await.ok()??;
    answer.into_inner().present.then_some(node)
}

impl Blobs for PeerPool {
    async fn fetch(
        &self,
        digest: &str,
    ) -> Result<mpsc::Receiver<Result<Bytes, FetchError>>, FetchError> {
        fetch_from(self, None, digest).await
    }
}

/// A blob on its way.
struct Read {
    digest: String,
    /// How much of it has arrived.
    offset: u64,
    sender: Pieces,
}

impl Read {
    /// Reads on from `node`; true when there is nothing more to do.
    async fn from(&mut self, pool: &PeerPool, node: NodeId) -> bool {
        let request = v1::BlobRequest { digest: self.digest.clone(), offset: self.offset };
        let opening = async { pool.peer(node).await.ok()?.read_blob(request).await.ok() };
        let Ok(Some(answer)) = tokio::time::timeout(STALL_TIMEOUT, opening).await else {
            return false;
        };
        let mut pieces = answer.into_inner();
        let mut patience = Patience::default();
        loop {
            let asked = Instant::now();
            match tokio::time::timeout(patience.left(), pieces.message()).await {
                Ok(Ok(Some(piece))) => {
                    patience.spend(asked.elapsed(), piece.data.len());
                    let length = u64::try_from(piece.data.len()).unwrap_or(u64::MAX);
                    self.offset = self.offset.saturating_add(length);
                    if self.sender.send(Ok(piece.data)).await.is_err() {
                        return true;
                    }
                }
                Ok(Ok(None)) => return true,
                Ok(Err(_)) | Err(_) => return false,
            }
        }
    }

    async fn give_up(self, node: NodeId) {
        let error = FetchError::Interrupted { node, digest: self.digest };
        // Whoever does not receive any more does not need to know.
        drop(self.sender.send(Err(error)).await);
    }
}

/// How long is still waited for a peer. The time that this node takes to keep what arrived does not count.
struct Patience {
    left: Duration,
    n_bytes: usize,
}

impl Default for Patience {
    fn default() -> Self {
        Self { left: STALL_TIMEOUT, n_bytes: 0 }
    }
}

impl Patience {
    const fn left(&self) -> Duration {
        self.left
    }

    /// A piece took `waited` to come. Whoever has brought enough is waited for as long again.
    fn spend(&mut self, waited: Duration, length: usize) {
        self.n_bytes = self.n_bytes.saturating_add(length);
        if self.n_bytes >= STALL_LEN_MIN {
            *self = Self::default();
        } else {
            self.left = self.left.saturating_sub(waited);
        }
    }
}

/// Spreads the load; without random numbers the order is the directory's.
fn shuffle(nodes: &mut [NodeId]) {
    let mut seed = [0; 8];
    if getrandom::fill(&mut seed).is_ok() {
        Prng::new(u64::from_be_bytes(seed)).shuffle(nodes);
    }
}

#[cfg(test)]
mod tests {
    //! A peer that drips is left, one that is slow is not.

    use std::time::Duration;

    use super::{Patience, STALL_LEN_MIN, STALL_TIMEOUT};

    #[test]
    fn a_peer_that_drips_is_left_in_time() {
        let mut patience = Patience::default();
        for _piece in 0..10 {
            patience.spend(Duration::from_secs(1), 1);
        }
        assert_eq!(patience.left(), Duration::ZERO);
    }

    #[test]
    fn a_peer_on_a_slow_line_is_waited_for() {
        let mut patience = Patience::default();
        for _piece in 0..100 {
            patience.spend(Duration::from_secs(4), STALL_LEN_MIN / 2);
            assert!(patience.left() >= Duration::from_secs(6));
        }
        assert_eq!(patience.left(), STALL_TIMEOUT);
    }
}
