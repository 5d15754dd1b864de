//! Images on disk: blobs by digest, layers unpacked once and shared, names in one small file.
//!
//! ```text
//! <dir>/blobs/sha256/<hex>   manifests, configurations and layers, as they came
//! <dir>/layers/<short id>/   one layer unpacked: a lower directory of overlayfs
//! <dir>/names.json           which name means which manifest
//! <dir>/tmp/                 whatever is not complete yet; emptied when the store is opened
//! ```
//!
//! A file appears under `blobs` or `layers` only by a rename, after its bytes were checked and synced; so whatever is there is
//! whole, and a crash or a full disk leaves the store as it was. Which blobs are images is not written down: a manifest says it
//! itself. Everything here blocks but for the methods of [`Images`], which move the work to a thread of its own.
//!
//! A disk can lose bytes later. A blob is compared with its digest each time that all of it is read: when it is unpacked, when a
//! peer fetches it, and, for manifests and configurations, whenever they are needed. A damaged one is removed, so it is missing,
//! and what is missing is fetched from the peers. What was unpacked is not compared again with anything.
//!
//! Unpacking needs the rights of root: owners, whiteouts and overlay attributes cannot be made otherwise.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use mesh_ports::runtime::{Image, ImageError, Images};
use mesh_telemetry::Chain;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tracing::warn;

use blobs::Blobs;
use digest::{Digest, Hashing};
use fault::{host, invalid};
use layer::Layers;
use manifest::{Configuration, Document, Manifest, resolve};
use names::Names;
use pipe::Pieces;

mod archive;
mod blobs;
pub mod build;
mod digest;
mod fault;
mod layer;
mod manifest;
mod names;
mod path;
mod pipe;
mod tarball;
#[cfg(test)]
mod tests;
mod tree;

pub use names::familiar;

/// How many pieces of a blob wait for a slow reader; a piece has 64 KiB.
const PIECES_LEN: usize = 4;

/// An image ready to be mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rootfs {
    /// The lower directories of an overlay mount, topmost first; at least one, none twice. All are in one directory and have
    /// names of 26 letters, so that a mount from there fits 127 of them in its options.
    pub layers: Vec<PathBuf>,
    /// What the image says about its process.
    pub config: Config,
}

/// What an image says about the process to run in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Config {
    /// The program and its first arguments; may be empty.
    pub entrypoint: Vec<String>,
    /// More arguments, or the whole command when there is no entry point.
    pub cmd: Vec<String>,
    /// Environment variables, each `NAME=value`.
    pub env: Vec<String>,
    /// Where the process starts; `None` is `/`.
    pub working_dir: Option<String>,
    /// Who runs it, `user[:group]` by name or number; `None` is root.
    pub user: Option<String>,
}

/// The images of this node. Cheap to clone; clones are the same store. One process opens a directory at a time.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    blobs: Blobs,
    layers: Layers,
    names: Names,
    /// What each small blob turned out to be; `None` is not a manifest. Blobs never change, so this is only forgotten.
    known: Mutex<BTreeMap<Digest, Option<Arc<Manifest>>>>,
    /// Locked for as long as the store is open.
    _lock: File,
}

impl Store {
    /// Opens the store in `dir`, which is made if it is not there.
    ///
    /// # Errors
    /// [`ImageError::Host`] when the directories cannot be made.
    pub fn open(dir: &Path) -> Result<Self, ImageError> {
        let (blobs, layers, tmp) = (dir.join("blobs/sha256"), dir.join("layers"), dir.join("tmp"));
        let attempt = || format!("open the image store {}", dir.display());
        for dir in [dir, &blobs, &layers, &tmp] {
            make_private(dir).map_err(|error| host(attempt(), error))?;
        }
        let lock = File::create(dir.join("lock")).map_err(|error| host(attempt(), error))?;
        match lock.try_lock() {
            // Nobody else works here, so what is unfinished was left by a crash.
            Ok(()) => clear(&tmp).map_err(|error| host(attempt(), error))?,
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(host(attempt(), error)),
        }
        lock.lock_shared().map_err(|error| host(attempt(), error))?;
        Ok(Self {
            inner: Arc::new(Inner {
                blobs: Blobs::new(blobs, tmp.clone()),
                layers: Layers::new(layers, tmp.clone()),
                names: Names::new(dir.to_path_buf(), tmp),
                known: Mutex::new(BTreeMap::new()),
                _lock: lock,
            }),
        })
    }

    /// The layers and the configuration of a complete image; unpacks what is not unpacked yet. Blocks.
    ///
    /// # Errors
    /// [`ImageError::Missing`] when a blob of it is not here; [`ImageError::Digest`] when one was damaged, which is then
    /// missing; [`ImageError::Invalid`] when the image cannot be used on this machine.
    pub fn rootfs(&self, digest: &str) -> Result<Rootfs, ImageError> {
        let Inner { blobs, layers, .. } = &*self.inner;
        let (_, manifest) = resolve(&Digest::parse(digest)?, &|digest| blobs.document(digest))?;
        let config = blobs.document(&manifest.config.digest)?;
        let Configuration { config, diff_ids } =
            Configuration::parse(&config, manifest.layers.len())?;
        let mut lower = Vec::new();
        for (layer, diff_id) in manifest.layers.iter().zip(&diff_ids).rev() {
            let dir = layers.ensure(blobs, &layer.digest, diff_id)?;
            // The kernel refuses a directory twice, and its topmost place hides all the others.
            if !lower.contains(&dir) {
                lower.push(dir);
            }
        }
        Ok(Rootfs { layers: lower, config })
    }
}

impl Inner {
    fn missing(&self, digest: &Digest) -> Result<Vec<Digest>, ImageError> {
        let manifest = match resolve(digest, &|digest| self.blobs.document(digest)) {
            Ok((_, manifest)) => manifest,
            Err(ImageError::Missing(digest)) => return Ok(vec![Digest::parse(&digest)?]),
            Err(error) => return Err(error),
        };
        let mut missing = Vec::new();
        for blob in manifest.blobs() {
            let is_here = match self.blobs.size(&blob.digest)? {
                None => false,
                Some(size) if size == blob.size => true,
                // Either the disk lost bytes, or the manifest lies; a right blob would be fetched again for ever.
                Some(size) if self.blobs.check(&blob.digest)? => {
                    let (digest, said) = (&blob.digest, blob.size);
                    return Err(invalid(format!(
                        "{digest} has {size} bytes, and its manifest says {said}"
                    )));
                }
                Some(_) => false,
            };
            if !is_here && !missing.contains(&blob.digest) {
                missing.push(blob.digest.clone());
            }
        }
        Ok(missing)
    }

    fn images(&self) -> Result<Vec<Image>, ImageError> {
        let list = self.blobs.list().map_err(|error| host("list the blobs", error))?;
        let sizes: BTreeMap<Digest, u64> = list.into_iter().collect();
        // An image is as good without its names.
        let names = self.names.all().unwrap_or_else(|error| {
            warn!(error = %Chain(&error), "names of images cannot be read");
            BTreeMap::new()
        });
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|digest, _| sizes.contains_key(digest));
        let mut images = Vec::new();
        for (digest, &own) in &sizes {
            if !known.contains_key(digest) {
                // What cannot be read now may be readable next time, so only an answer is kept.
                let Ok(manifest) = self.manifest(digest, own) else { continue };
                known.insert(digest.clone(), manifest);
            }
            let Some(Some(manifest)) = known.get(digest) else { continue };
            if manifest.blobs().all(|blob| sizes.get(&blob.digest) == Some(&blob.size)) {
                let bytes = manifest.blobs().map(|blob| blob.size).fold(own, u64::saturating_add);
                let mine = names.iter().filter(|&(_, meant)| meant == digest);
                let names = mine.map(|(name, _)| name.clone()).collect();
                images.push(Image { digest: digest.to_string(), names, bytes });
            }
        }
        Ok(images)
    }

    fn manifest(&self, digest: &Digest, size: u64) -> Result<Option<Arc<Manifest>>, ImageError> {
        if size > manifest::DOCUMENT_LEN_MAX || !self.blobs.begins_with(digest, b"{")? {
            return Ok(None);
        }
        Ok(match Document::parse(&self.blobs.document(digest)?, "the blob") {
            Ok(Document::Manifest(manifest)) => Some(Arc::new(manifest)),
            Ok(Document::Index(_)) | Err(_) => None,
        })
    }
}

impl Images for Store {
    async fn images(&self) -> Vec<Image> {
        let inner = Arc::clone(&self.inner);
        blocking(move || inner.images()).await.unwrap_or_else(|error| {
            warn!(error = %Chain(&error), "images cannot be listed");
            Vec::new()
        })
    }

    async fn missing(&self, digest: &str) -> Result<Vec<String>, ImageError> {
        let (inner, digest) = (Arc::clone(&self.inner), Digest::parse(digest)?);
        let missing = blocking(move || inner.missing(&digest)).await?;
        Ok(missing.iter().map(ToString::to_string).collect())
    }

    async fn import(&self, archive: mpsc::Receiver<Bytes>) -> Result<Vec<Image>, ImageError> {
        let inner = Arc::clone(&self.inner);
        blocking(move || archive::import(&inner.blobs, &inner.names, Pieces::new(archive))).await
    }

    async fn put_blob(
        &self,
        digest: &str,
        pieces: mpsc::Receiver<Bytes>,
    ) -> Result<(), ImageError> {
        let (inner, expected) = (Arc::clone(&self.inner), Digest::parse(digest)?);
        blocking(move || {
            let blob = inner.blobs.stage(Pieces::new(pieces), &expected.to_string())?;
            if blob.digest != expected {
                let (expected, found) = (expected.to_string(), blob.digest.to_string());
                return Err(ImageError::Digest { expected, found });
            }
            inner.blobs.commit(vec![blob], || Ok(()))
        })
        .await
    }

    async fn read_blob(&self, digest: &str) -> Result<mpsc::Receiver<Bytes>, ImageError> {
        let (inner, digest) = (Arc::clone(&self.inner), Digest::parse(digest)?);
        let (wanted, opening) = (digest.clone(), Arc::clone(&inner));
        let (file, _) = blocking(move || opening.blobs.open(&wanted)).await?;
        let (sender, pieces) = mpsc::channel(PIECES_LEN);
        // The reader compares the digest, so an error only has to end the stream early. It ends after the judgement: who has
        // read all of a damaged blob does not find it here again.
        drop(spawn_blocking(move || {
            let mut bytes = Hashing::new(&file, u64::MAX);
            match pipe::send(&mut bytes, &sender) {
                Ok(true) => inner.blobs.judge(&digest, &file, &bytes.finish().0),
                Ok(false) => {}
                Err(error) => warn!(%digest, error = %Chain(&error), "a blob cannot be read"),
            }
        }));
        Ok(pieces)
    }

    fn damaged(&self) -> Vec<String> {
        self.inner.blobs.take_damaged().iter().map(ToString::to_string).collect()
    }

    async fn unpack(&self, digest: &str) -> Result<(), ImageError> {
        let (store, digest) = (self.clone(), digest.to_owned());
        blocking(move || store.rootfs(&digest).map(drop)).await
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ImageError> + Send + 'static,
) -> Result<T, ImageError> {
    match spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) => {
            Err(ImageError::Host { attempt: "work on images".to_owned(), source: Box::new(error) })
        }
    }
}

/// Layers contain set-user-id programs of strangers, which the users of this host must not reach.
fn make_private(dir: &Path) -> std::io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

fn clear(dir: &Path) -> std::io::Result<()> {
    for left in fs::read_dir(dir)? {
        let left = left?;
        if left.file_type()?.is_dir() {
            fs::remove_dir_all(left.path())?;
        } else {
            fs::remove_file(left.path())?;
        }
    }
    Ok(())
}
