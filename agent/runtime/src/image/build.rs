//! Building images from files: for example apps, the demo and tests.
//!
//! The same input gives the same bytes: times are zero, owners are root, and everything is in the order in which it was given.
//! Files are streamed; each is read twice, since a layer's digest stands before it in the archive.

use std::fs::File as SourceFile;
use std::io::{self, Read, Write};
use std::path::PathBuf;

use serde_json::{Value, json};
use tar::{EntryType, Header};

use super::Config;
use super::digest::{Digest, Hashing};
use super::manifest::{CONFIG_TYPE, Descriptor, LAYER_TYPE, MANIFEST_TYPE, Manifest, architecture};
use super::names::familiar;

/// An image to be written.
#[derive(Debug, Clone)]
pub struct Build {
    /// Its name with a tag, `hello:1`.
    pub name: String,
    /// Which form the archive has.
    pub format: Format,
    /// For which processor, as images call it (`amd64`).
    pub architecture: String,
    /// What it says about its process.
    pub config: Config,
    /// Its layers, the lowest first.
    pub layers: Vec<Vec<File>>,
}

impl Build {
    /// An image of one layer for this machine's processor, as an OCI layout.
    #[must_use]
    pub fn new(name: &str, config: Config, files: Vec<File>) -> Self {
        Self {
            name: name.to_owned(),
            format: Format::OciLayout,
            architecture: architecture().to_owned(),
            config,
            layers: vec![files],
        }
    }
}

/// The form of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// What `docker save` wrote until version 24: `manifest.json` and nothing addressed by digest.
    DockerSave,
    /// An OCI layout with a `manifest.json` beside it, as `docker save` writes since version 25; every tool loads it.
    OciLayout,
}

/// A file of a layer.
#[derive(Debug, Clone)]
pub struct File {
    /// Where it is in the image, without a leading `/`. A name that begins with `.wh.` removes the file of that name below.
    pub path: String,
    /// Its permissions, with the set-user-id, set-group-id and sticky bits.
    pub mode: u32,
    /// What it is.
    pub content: Content,
}

impl File {
    /// A file with the given bytes.
    #[must_use]
    pub fn new(path: &str, mode: u32, bytes: impl Into<Vec<u8>>) -> Self {
        Self { path: path.to_owned(), mode, content: Content::Bytes(bytes.into()) }
    }
}

/// What a file of a layer is.
#[derive(Debug, Clone)]
pub enum Content {
    /// A regular file with these bytes.
    Bytes(Vec<u8>),
    /// A directory.
    Directory,
    /// Another name for an earlier file of the same layer.
    HardLink(String),
    /// A regular file with the bytes of this file.
    Path(PathBuf),
    /// A symbolic link.
    Symlink(String),
}

/// Why an image was not written. *What was written of the archive is of no use.*
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A file changed while it was read.
    #[error("the files of the image changed while they were read")]
    Changed,
    /// A path cannot be in a layer: absolute, or with `..`.
    #[error("{path:?} cannot be a path in an image")]
    Path {
        /// The path.
        path: String,
        /// What is wrong with it.
        #[source]
        source: io::Error,
    },
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the host said.
        #[source]
        source: io::Error,
    },
    /// The archive cannot be written.
    #[error("cannot write the archive")]
    Write(#[source] io::Error),
}

/// Writes `image` as an archive to `out`. Returns the digest of its manifest, which both formats have in common.
///
/// # Errors
/// When a file cannot be read or the archive cannot be written.
pub fn write_archive(out: impl Write, image: &Build) -> Result<String, BuildError> {
    let mut layers = Vec::new();
    for files in &image.layers {
        let mut sink = Hashing::new(io::sink(), u64::MAX);
        write_layer(&mut sink, files)?;
        let (digest, size) = sink.finish();
        layers.push(Descriptor::new(LAYER_TYPE, digest, size));
    }
    let config = configuration(image, &layers).to_string().into_bytes();
    let config_digest = Digest::of(&config);
    let described = Descriptor::new(CONFIG_TYPE, config_digest.clone(), len(&config));
    let manifest = Manifest::new(described, layers);
    let manifest_bytes =
        manifest.to_bytes().map_err(|error| BuildError::Write(io::Error::other(error)))?;
    let digest = Digest::of(&manifest_bytes);

    let mut archive = Archive { out, format: image.format };
    for (at, (layer, files)) in manifest.layers.iter().zip(&image.layers).enumerate() {
        // A layer that is there twice is written once.
        if manifest.layers.iter().take(at).all(|earlier| earlier.digest != layer.digest) {
            archive.layer(layer, files)?;
        }
    }
    archive.bytes(&archive.config_path(&config_digest), &config)?;
    if image.format == Format::OciLayout {
        archive.bytes(&blob_path(&digest), &manifest_bytes)?;
        archive.bytes("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        let index = index(image, &digest, len(&manifest_bytes));
        archive.bytes("index.json", index.to_string().as_bytes())?;
    }
    let layer_paths: Vec<String> =
        manifest.layers.iter().map(|layer| archive.layer_path(&layer.digest)).collect();
    let saved = json!([{
        "Config": archive.config_path(&config_digest),
        "RepoTags": [familiar(&image.name)],
        "Layers": layer_paths,
    }]);
    archive.bytes("manifest.json", saved.to_string().as_bytes())?;
    archive.finish()?;
    Ok(digest.to_string())
}

fn configuration(image: &Build, layers: &[Descriptor]) -> Value {
    let config = &image.config;
    let diff_ids: Vec<String> = layers.iter().map(|layer| layer.digest.to_string()).collect();
    json!({
        "architecture": image.architecture,
        "os": "linux",
        "config": {
            "Entrypoint": config.entrypoint,
            "Cmd": config.cmd,
            "Env": config.env,
            "WorkingDir": config.working_dir.clone().unwrap_or_default(),
            "User": config.user.clone().unwrap_or_default(),
        },
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    })
}

fn index(image: &Build, digest: &Digest, size: u64) -> Value {
    let name = familiar(&image.name);
    json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [{
            "mediaType": MANIFEST_TYPE,
            "digest": digest.to_string(),
            "size": size,
            "platform": {"os": "linux", "architecture": image.architecture},
            "annotations": {"org.opencontainers.image.ref.name": name},
        }],
    })
}

/// The archive around the layers.
struct Archive<W> {
    out: W,
    format: Format,
}

impl<W: Write> Archive<W> {
    fn layer_path(&self, digest: &Digest) -> String {
        match self.format {
            Format::DockerSave => format!("{}/layer.tar", digest.hex()),
            Format::OciLayout => blob_path(digest),
        }
    }

    fn config_path(&self, digest: &Digest) -> String {
        match self.format {
            Format::DockerSave => format!("{}.json", digest.hex()),
            Format::OciLayout => blob_path(digest),
        }
    }

    fn layer(&mut self, layer: &Descriptor, files: &[File]) -> Result<(), BuildError> {
        self.head(&self.layer_path(&layer.digest), layer.size)?;
        let mut out = Hashing::new(&mut self.out, layer.size);
        write_layer(&mut out, files)?;
        let (digest, size) = out.finish();
        if digest != layer.digest {
            return Err(BuildError::Changed);
        }
        pad(&mut self.out, size).map_err(BuildError::Write)
    }

    fn bytes(&mut self, path: &str, bytes: &[u8]) -> Result<(), BuildError> {
        self.head(path, len(bytes))?;
        self.out.write_all(bytes).map_err(BuildError::Write)?;
        pad(&mut self.out, len(bytes)).map_err(BuildError::Write)
    }

    fn head(&mut self, path: &str, size: u64) -> Result<(), BuildError> {
        let mut header = header(EntryType::Regular, 0o644, size);
        header.set_path(path).map_err(BuildError::Write)?;
        header.set_cksum();
        self.out.write_all(header.as_bytes()).map_err(BuildError::Write)
    }

    fn finish(&mut self) -> Result<(), BuildError> {
        self.out.write_all(&[0; 1024]).and_then(|()| self.out.flush()).map_err(BuildError::Write)
    }
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn write_layer(out: &mut impl Write, files: &[File]) -> Result<(), BuildError> {
    let mut tar = tar::Builder::new(out);
    for file in files {
        let placed = |source| BuildError::Path { path: file.path.clone(), source };
        match &file.content {
            Content::Bytes(bytes) => {
                let mut header = header(EntryType::Regular, file.mode, len(bytes));
                tar.append_data(&mut header, &file.path, bytes.as_slice()).map_err(placed)?;
            }
            Content::Path(path) => {
                let failed = |source| BuildError::Read { path: path.clone(), source };
                let source = SourceFile::open(path).map_err(failed)?;
                let size = source.metadata().map_err(failed)?.len();
                let mut header = header(EntryType::Regular, file.mode, size);
                // Exactly as many bytes as the header says, else the archive around it would be damaged.
                let mut source = Exactly { inner: source, left: size };
                tar.append_data(&mut header, &file.path, &mut source).map_err(failed)?;
            }
            Content::Directory => {
                let mut header = header(EntryType::Directory, file.mode, 0);
                tar.append_data(&mut header, &file.path, io::empty()).map_err(placed)?;
            }
            Content::HardLink(target) => {
                let mut header = header(EntryType::Link, file.mode, 0);
                tar.append_link(&mut header, &file.path, target).map_err(placed)?;
            }
            Content::Symlink(target) => {
                let mut header = header(EntryType::Symlink, 0o777, 0);
                tar.append_link(&mut header, &file.path, target).map_err(placed)?;
            }
        }
    }
    tar.finish().map_err(BuildError::Write)
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

fn pad(out: &mut impl Write, size: u64) -> io::Result<()> {
    let padding = size.next_multiple_of(512).saturating_sub(size);
    io::copy(&mut io::repeat(0).take(padding), out).map(drop)
}

fn len(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

/// Gives as many bytes as were promised, or an error.
struct Exactly<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Exactly<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = Read::by_ref(&mut self.inner).take(self.left).read(buf)?;
        if n == 0 && self.left > 0 && !buf.is_empty() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it became shorter"));
        }
        self.left = self.left.saturating_sub(u64::try_from(n).unwrap_or(u64::MAX));
        Ok(n)
    }
}
