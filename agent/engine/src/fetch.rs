//! Images that are not here yet: fetched from peers, blob by blob.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use mesh_coordinator::prng::Prng;
use mesh_ports::peer::{Blobs, FetchError};
use mesh_ports::runtime::{ImageError, Images};
use mesh_telemetry::{Chain, Reason, Refusals};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::debug;

/// Pieces of a blob between the network and the disk; a piece is some 64 KiB.
const PIECES: usize = 16;
/// An index, a manifest, blobs and the unpacking are four rounds; as many again for blobs that turn out to be damaged.
const ROUNDS_MAX: usize = 8;
/// How many images come ahead of time at once: starts, which somebody waits for, share the same wire.
const AHEAD_AT_ONCE: usize = 2;
/// How often an image is tried ahead of time: for half an hour, with the pauses below.
const AHEAD_TRIES_MAX: u32 = 12;
/// The pause after the first try ahead of time that failed; it doubles with each further one.
const AHEAD_PAUSE_MIN: Duration = Duration::from_secs(5);
/// The longest of these pauses.
const AHEAD_PAUSE_MAX: Duration = Duration::from_secs(300);

/// Why an image cannot be had. *Blobs that arrived whole stay, and are not fetched again.*
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnsureError {
    /// This node cannot use or keep it.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// No peer gives it.
    #[error(transparent)]
    Peer(#[from] FetchError),
    /// Blobs go on missing.
    #[error("the image {0} does not become complete")]
    Incomplete(String),
}

impl EnsureError {
    /// Whether trying again can help without anybody doing anything.
    pub(crate) const fn is_transient(&self) -> bool {
        !matches!(self, Self::Image(ImageError::Invalid { .. }))
    }
}

/// Brings images to this node. One fetch of an image at a time; who comes meanwhile waits for it.
#[derive(Debug)]
pub(crate) struct Fetcher<I, B> {
    images: Arc<I>,
    blobs: Arc<B>,
    refusals: Refusals,
    /// What people should know.
    news: mpsc::Sender<String>,
    under_way: Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>,
    /// What somebody brings here ahead of time, and what ends that.
    ahead: Mutex<BTreeMap<String, CancellationToken>>,
    room_ahead: Semaphore,
}

impl<I: Images, B: Blobs> Fetcher<I, B> {
    pub(crate) const fn new(
        images: Arc<I>,
        blobs: Arc<B>,
        refusals: Refusals,
        news: mpsc::Sender<String>,
    ) -> Self {
        Self {
            images,
            blobs,
            refusals,
            news,
            under_way: Mutex::new(BTreeMap::new()),
            ahead: Mutex::new(BTreeMap::new()),
            room_ahead: Semaphore::const_new(AHEAD_AT_ONCE),
        }
    }

    /// Returns when the image is here and unpacked. May be dropped at any time.
    pub(crate) async fn ensure(&self, digest: &str) -> Result<(), EnsureError> {
        let turn = {
            let mut under_way = lock(&self.under_way);
            under_way.retain(|_, turn| Arc::strong_count(turn) > 1);
            Arc::clone(under_way.entry(digest.to_owned()).or_default())
        };
        let _turn = turn.lock().await;
        for _ in 0..ROUNDS_MAX {
            let missing = self.images.missing(digest).await;
            self.tell_of_damage();
            let missing = missing?;
            if missing.is_empty() {
                let unpacked = self.images.unpack(digest).await;
                self.tell_of_damage();
                match unpacked {
                    Ok(()) => return Ok(()),
                    // The damaged blob is gone now: the next round fetches it again.
                    Err(ImageError::Digest { .. } | ImageError::Missing(_)) => continue,
                    Err(error) => return Err(error.into()),
                }
            }
            for blob in missing {
                match self.fetch(&blob).await {
                    Ok(()) => {}
                    // Damaged at the peer or on the way: the next round asks again, and perhaps somebody else.
                    Err(EnsureError::Image(error @ ImageError::Digest { .. })) => {
                        self.refusals.refuse(Reason::BlobDigest, "a peer", error);
                        self.tell(format!("a peer gave {blob} with wrong bytes: asked again"));
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Err(EnsureError::Incomplete(digest.to_owned()))
    }

    fn tell_of_damage(&self) {
        for blob in self.images.damaged() {
            self.tell(format!(
                "{blob} was damaged on this node's disk: removed; it is fetched again when it is needed"
            ));
        }
    }

    fn tell(&self, text: String) {
        // Full when the news are many; the log has them all.
        drop(self.news.try_send(text));
    }

    /// Brings an image here that is not needed yet, and tries again for a while when it cannot be had. `seed` keeps the nodes
    /// that want the same image apart.
    pub(crate) async fn ensure_ahead(&self, digest: &str, seed: u64) {
        let end = CancellationToken::new();
        match lock(&self.ahead).entry(digest.to_owned()) {
            Entry::Occupied(_) => return,
            Entry::Vacant(place) => place.insert(end.clone()),
        };
        let _listed = Listed { all: &self.ahead, digest };
        end.run_until_cancelled(self.try_ahead(digest, Prng::new(seed))).await;
    }

    /// Ends what brings images here ahead of time that are not in `wanted` any more.
    pub(crate) fn keep_ahead(&self, wanted: &BTreeSet<&str>) {
        let ahead = lock(&self.ahead);
        let unwanted = ahead.iter().filter(|(digest, _)| !wanted.contains(digest.as_str()));
        unwanted.for_each(|(_, end)| end.cancel());
    }

    async fn try_ahead(&self, digest: &str, mut prng: Prng) {
        for attempt in 0..AHEAD_TRIES_MAX {
            let outcome = {
                let _room = self.room_ahead.acquire().await;
                self.ensure(digest).await
            };
            let Err(error) = outcome else { return };
            debug!(%digest, error = %Chain(&error), "not fetched ahead of time");
            if !error.is_transient() {
                return;
            }
            tokio::time::sleep(pause(attempt, &mut prng)).await;
        }
    }

    async fn fetch(&self, digest: &str) -> Result<(), EnsureError> {
        let mut pieces = self.blobs.fetch(digest).await?;
        let (to_disk, from_net) = mpsc::channel::<Bytes>(PIECES);
        let pump = async move {
            while let Some(piece) = pieces.recv().await {
                if to_disk.send(piece?).await.is_err() {
                    break;
                }
            }
            Ok::<(), FetchError>(())
        };
        let (pumped, stored) = tokio::join!(pump, self.images.put_blob(digest, from_net));
        // A blob that was cut off is a wrong digest too, but why it was cut off says more.
        pumped?;
        Ok(stored?)
    }
}

/// The pause after a failed try ahead of time, up to half as long again.
fn pause(attempt: u32, prng: &mut Prng) -> Duration {
    let factor = 1_u32.checked_shl(attempt).unwrap_or(u32::MAX);
    let pause = AHEAD_PAUSE_MIN.saturating_mul(factor).min(AHEAD_PAUSE_MAX);
    let half_ms = u64::try_from(pause.as_millis() / 2).unwrap_or(u64::MAX);
    pause + Duration::from_millis(prng.below(half_ms))
}

/// Takes a digest out again, also when the task that brings the image is dropped.
struct Listed<'a> {
    all: &'a Mutex<BTreeMap<String, CancellationToken>>,
    digest: &'a str,
}

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        lock(self.all).remove(self.digest);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
