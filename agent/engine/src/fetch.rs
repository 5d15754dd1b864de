//! Images that are not here yet: fetched from peers, blob by blob.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use mesh_ports::peer::Blobs;
use mesh_ports::runtime::{ImageError, Images};
use tokio::sync::mpsc;

/// Pieces of a blob between the network and the disk; a piece is some 64 KiB.
const PIECES: usize = 16;
/// A manifest names its blobs, which name nothing: two rounds, and one more in case a damaged blob was found and removed.
const ROUNDS_MAX: usize = 4;

/// Brings images to this node. One fetch of an image at a time; who comes meanwhile waits for it.
#[derive(Debug)]
pub(crate) struct Fetcher<I, B> {
    images: Arc<I>,
    blobs: Arc<B>,
    under_way: Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl<I: Images, B: Blobs> Fetcher<I, B> {
    pub(crate) const fn new(images: Arc<I>, blobs: Arc<B>) -> Self {
        Self { images, blobs, under_way: Mutex::new(BTreeMap::new()) }
    }

    /// Returns when the image is here and unpacked; says why when it cannot be had.
    pub(crate) async fn ensure(&self, digest: &str) -> Result<(), String> {
        let turn = {
            let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
            under_way.retain(|_, turn| Arc::strong_count(turn) > 1);
            Arc::clone(under_way.entry(digest.to_owned()).or_default())
        };
        let _turn = turn.lock().await;
        for _ in 0..ROUNDS_MAX {
            let missing = self.images.missing(digest).await.map_err(|error| chain(&error))?;
            if missing.is_empty() {
                match self.images.unpack(digest).await {
                    Ok(()) => return Ok(()),
                    // The damaged blob is gone now: the next round fetches it again.
                    Err(ImageError::Digest { .. } | ImageError::Missing(_)) => continue,
                    Err(error) => return Err(chain(&error)),
                }
            }
            for blob in missing {
                self.fetch(&blob).await?;
            }
        }
        Err(format!("the image {digest} does not become complete"))
    }

    async fn fetch(&self, digest: &str) -> Result<(), String> {
        let mut pieces = self.blobs.fetch(digest).await.map_err(|error| chain(&error))?;
        let (to_disk, from_net) = mpsc::channel::<Bytes>(PIECES);
        let pump = async move {
            while let Some(piece) = pieces.recv().await {
                let piece = piece.map_err(|error| chain(&error))?;
                if to_disk.send(piece).await.is_err() {
                    break;
                }
            }
            Ok::<(), String>(())
        };
        let (pumped, stored) = tokio::join!(pump, self.images.put_blob(digest, from_net));
        pumped?;
        stored.map_err(|error| chain(&error))
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    mesh_telemetry::Chain(error).to_string()
}
