//! What the tests of the store have in common: a store in a temporary directory, and archives made byte by byte.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use bytes::Bytes;
use mesh_ports::runtime::{Image, ImageError, Images};
use serde_json::json;
use tar::Header;
use tempfile::TempDir;
use tokio::sync::mpsc;

use crate::image::build::{Build, File, Format, write_archive};
use crate::image::digest::Digest;
use crate::image::{Config, Store, manifest};

/// A store that is gone with the test.
pub(super) struct Bench {
    pub(super) store: Store,
    pub(super) dir: TempDir,
}

impl Bench {
    pub(super) fn new() -> Self {
        let dir = TempDir::new().unwrap();
        Self { store: Store::open(dir.path()).unwrap(), dir }
    }

    pub(super) async fn import(&self, archive: &[u8]) -> Result<Vec<Image>, ImageError> {
        self.store.import(feed(archive)).await
    }

    /// Imports an archive of one image and returns its digest.
    pub(super) async fn one(&self, archive: &[u8]) -> String {
        let mut images = self.import(archive).await.unwrap();
        assert_eq!(images.len(), 1);
        images.remove(0).digest
    }

    /// Every path in the store.
    pub(super) fn paths(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        walk(self.dir.path(), &mut found);
        found
    }

    /// Where a blob is.
    pub(super) fn blob(&self, digest: &str) -> std::path::PathBuf {
        self.dir.path().join("blobs/sha256").join(digest.strip_prefix("sha256:").unwrap())
    }
}

fn walk(dir: &Path, found: &mut BTreeSet<String>) {
    for file in fs::read_dir(dir).unwrap() {
        let file = file.unwrap();
        found.insert(file.path().display().to_string());
        if file.file_type().unwrap().is_dir() {
            walk(&file.path(), found);
        }
    }
}

/// The bytes as they come from a network: in pieces that fit nothing.
pub(super) fn feed(bytes: &[u8]) -> mpsc::Receiver<Bytes> {
    let pieces: Vec<Bytes> = bytes.chunks(1000).map(Bytes::copy_from_slice).collect();
    let (sender, receiver) = mpsc::channel(pieces.len().max(1));
    for piece in pieces {
        sender.try_send(piece).unwrap();
    }
    receiver
}

/// Owners, whiteouts and mounts need root.
pub(super) fn is_root() -> bool {
    let is_root = nix::unistd::geteuid().is_root();
    if !is_root {
        skipped("root");
    }
    is_root
}

#[expect(clippy::print_stderr, reason = "a test that did not run must say so")]
pub(super) fn skipped(what: &str) {
    eprintln!("skipped: no {what}");
}

pub(super) fn build(format: Format, layers: Vec<Vec<File>>) -> (Vec<u8>, String) {
    let config = Config {
        entrypoint: vec!["/bin/app".to_owned()],
        cmd: vec!["serve".to_owned()],
        env: vec!["A=b".to_owned()],
        working_dir: Some("/srv".to_owned()),
        user: Some("1000:1000".to_owned()),
    };
    let mut image = Build::new("hello:1", config, Vec::new());
    (image.format, image.layers) = (format, layers);
    let mut archive = Vec::new();
    let digest = write_archive(&mut archive, &image).unwrap();
    (archive, digest)
}

/// A tar, entry by entry, with whatever bytes a test likes.
#[derive(Default)]
pub(super) struct Raw {
    bytes: Vec<u8>,
}

impl Raw {
    pub(super) fn entry(mut self, kind: u8, path: &str, link: &str, data: &[u8]) -> Self {
        self.put(&header(kind, path, link, data.len()), data);
        self
    }

    pub(super) fn file(self, path: &str, data: &[u8]) -> Self {
        self.entry(b'0', path, "", data)
    }

    pub(super) fn dir(self, path: &str) -> Self {
        self.entry(b'5', path, "", b"")
    }

    pub(super) fn symlink(self, path: &str, link: &str) -> Self {
        self.entry(b'2', path, link, b"")
    }

    /// An entry whose header the test changes.
    pub(super) fn with(mut self, kind: u8, path: &str, change: impl FnOnce(&mut Header)) -> Self {
        let mut header = header(kind, path, "", 0);
        change(&mut header);
        self.put(&header, b"");
        self
    }

    /// Extended attributes and other records for the next entry.
    pub(super) fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut data = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let len = (1..6)
                .map(|digits| rest + digits)
                .find(|len| len.to_string().len() + rest == *len)
                .unwrap();
            data.extend(format!("{len} {key}=").bytes());
            data.extend_from_slice(value);
            data.push(b'\n');
        }
        self.entry(b'x', "pax", "", &data)
    }

    fn put(&mut self, header: &Header, data: &[u8]) {
        let mut header = header.clone();
        header.set_cksum();
        self.bytes.extend_from_slice(header.as_bytes());
        self.bytes.extend_from_slice(data);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
    }

    /// The tar without its end.
    pub(super) fn open_end(self) -> Vec<u8> {
        self.bytes
    }

    pub(super) fn end(mut self) -> Vec<u8> {
        self.bytes.extend_from_slice(&[0; 1024]);
        self.bytes
    }
}

fn header(kind: u8, path: &str, link: &str, size: usize) -> Header {
    let mut header = Header::new_gnu();
    header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.as_old_mut().linkflag = [kind];
    header.set_size(u64::try_from(size).unwrap());
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_000_000_000);
    header
}

/// A layer of an image under test: the blob, and the tar that its configuration claims is in it.
pub(super) struct Layer {
    pub(super) blob: Vec<u8>,
    pub(super) diff_id: Digest,
}

impl Layer {
    pub(super) fn plain(tar: Vec<u8>) -> Self {
        Self { diff_id: Digest::of(&tar), blob: tar }
    }
}

/// The configuration and the manifest of an image.
pub(super) fn documents(architecture: &str, layers: &[Layer]) -> (Vec<u8>, Vec<u8>) {
    let diff_ids: Vec<String> = layers.iter().map(|layer| layer.diff_id.to_string()).collect();
    let config = json!({"architecture": architecture, "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}});
    let config = config.to_string().into_bytes();
    let described: Vec<_> =
        layers.iter().map(|layer| json!({"digest": Digest::of(&layer.blob).to_string(), "size": layer.blob.len()})).collect();
    let manifest = json!({
        "schemaVersion": 2,
        "config": {"digest": Digest::of(&config).to_string(), "size": config.len()},
        "layers": described,
    });
    (config, manifest.to_string().into_bytes())
}

pub(super) fn blob_path(blob: &[u8]) -> String {
    format!("blobs/sha256/{}", Digest::of(blob).hex())
}

/// An OCI layout with one image.
pub(super) fn layout(layers: &[Layer]) -> Vec<u8> {
    let (config, manifest) = documents(manifest::architecture(), layers);
    let mut archive = Raw::default();
    for layer in layers {
        archive = archive.file(&blob_path(&layer.blob), &layer.blob);
    }
    let index = json!({"manifests": [{"digest": Digest::of(&manifest).to_string(), "size": manifest.len()}]});
    archive
        .file(&blob_path(&config), &config)
        .file(&blob_path(&manifest), &manifest)
        .file("index.json", index.to_string().as_bytes())
        .end()
}
