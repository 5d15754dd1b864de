//! Importing an archive: an OCI layout as a tar, or what `docker save` writes, old or new.
//!
//! The archive is read once, from front to end. What a file in it is for is known only later (`docker save` writes its
//! `manifest.json` last), so every file is staged, and in the end the ones that make images are stored and the others dropped.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;

use mesh_ports::runtime::{Image, ImageError};
use serde::Deserialize;

use super::blobs::{Blobs, Staged};
use super::digest::Digest;
use super::fault::{host, invalid};
use super::layer::Encoding;
use super::manifest::{
    CONFIG_TYPE, Configuration, DOCUMENT_LEN_MAX, Descriptor, Document, LAYERS_MAX, Manifest,
    choose, resolve,
};
use super::names::{Names, checked};
use super::path::{components, shown};
use super::tarball::{Kind, Reader};

/// The most files in an archive: a hundred images of a hundred layers, in the old form with three files per layer.
const ENTRIES_MAX: u64 = 32 * 1024;

/// The most images in one archive.
const IMAGES_MAX: usize = 128;

/// How many links may lead to one another; `docker save` makes one from a repeated layer to the first.
const LINKS_MAX: usize = 4;

/// Stores the images of an archive. When it fails, nothing is stored.
pub(super) fn import(
    blobs: &Blobs,
    names: &Names,
    archive: impl Read,
) -> Result<Vec<Image>, ImageError> {
    let contents = Contents::stage(blobs, archive)?;
    let found = if contents.paths.contains_key("index.json") {
        contents.oci_layout()?
    } else if contents.paths.contains_key("manifest.json") {
        contents.docker_save()?
    } else {
        return Err(invalid(
            "neither index.json nor manifest.json is in it: not an archive of images, or cut short",
        ));
    };
    let mut images: Vec<Image> = Vec::new();
    let mut wanted = BTreeSet::new();
    for (digest, manifest, tags) in found {
        let size = contents.check(&manifest)?;
        let bytes = contents.size(&digest)?.saturating_add(size);
        wanted.insert(digest.clone());
        wanted.extend(manifest.blobs().map(|blob| blob.digest.clone()));
        let digest = digest.to_string();
        // The same image under two names is two entries in some archives.
        match images.iter_mut().find(|image| image.digest == digest) {
            Some(image) => image.names.extend(tags),
            None => images.push(Image { digest, names: tags, bytes }),
        }
    }
    let mut given = Vec::new();
    for image in &mut images {
        image.names = checked(std::mem::take(&mut image.names))?;
        let digest = Digest::parse(&image.digest)?;
        given.extend(image.names.iter().map(|name| (name.clone(), digest.clone())));
    }
    let mut staged = contents.staged.into_inner();
    staged.retain(|digest, _| wanted.contains(digest));
    blobs.commit(staged.into_values().collect(), || names.add(given))?;
    Ok(images)
}

/// What an archive contains, in temporary files.
struct Contents<'a> {
    blobs: &'a Blobs,
    /// By digest, so that what comes twice is kept once. Manifests that are made here are added while reading.
    staged: RefCell<BTreeMap<Digest, Staged>>,
    paths: BTreeMap<String, Digest>,
    links: BTreeMap<String, String>,
}

type Found = Vec<(Digest, Manifest, Vec<String>)>;

/// An entry of `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

impl<'a> Contents<'a> {
    fn stage(blobs: &'a Blobs, archive: impl Read) -> Result<Self, ImageError> {
        let mut contents = Self {
            blobs,
            staged: RefCell::new(BTreeMap::new()),
            paths: BTreeMap::new(),
            links: BTreeMap::new(),
        };
        let mut archive = Reader::new(archive, "the archive", ENTRIES_MAX);
        while let Some(entry) = archive.next()? {
            let path = joined(&entry.path)?;
            match entry.kind {
                Kind::Directory => {}
                Kind::File => {
                    let blob = blobs.stage(&mut archive, &format!("{path} of the archive"))?;
                    expect_name(&path, &blob.digest)?;
                    if contents.paths.insert(path.clone(), blob.digest.clone()).is_some() {
                        return Err(invalid(format!("{path:?} is in the archive twice")));
                    }
                    contents.add(blob);
                }
                Kind::Symlink | Kind::HardLink => {
                    let from = if entry.kind == Kind::Symlink { path.as_str() } else { "" };
                    let target = beside(from, &entry.link)?;
                    contents.links.insert(path, target);
                }
                Kind::Device | Kind::Fifo => {
                    return Err(invalid(format!(
                        "{path:?} in the archive is neither a file nor a directory"
                    )));
                }
            }
        }
        Ok(contents)
    }

    fn add(&self, blob: Staged) {
        self.staged.borrow_mut().insert(blob.digest.clone(), blob);
    }

    /// The images of an OCI layout. A layout that `docker save` wrote has the names in `manifest.json` too.
    fn oci_layout(&self) -> Result<Found, ImageError> {
        let Document::Index(entries) = Document::parse(&self.file("index.json")?, "index.json")?
        else {
            return Err(invalid("index.json is not an index"));
        };
        let tags = self.tags()?;
        let mut found = Found::new();
        for entry in images_among(&entries)? {
            let (digest, manifest) = resolve(&entry.digest, &|digest| self.document(digest))?;
            let mut names = tags.get(&manifest.config.digest).cloned().unwrap_or_default();
            names.extend(name_of(entry));
            found.push((digest, manifest, names));
        }
        Ok(found)
    }

    /// The names in `manifest.json` by the digest of the configuration.
    fn tags(&self) -> Result<BTreeMap<Digest, Vec<String>>, ImageError> {
        let mut tags: BTreeMap<Digest, Vec<String>> = BTreeMap::new();
        if self.paths.contains_key("manifest.json") {
            for saved in self.saved()? {
                let config = self.at(&saved.config)?;
                tags.entry(config).or_default().extend(saved.repo_tags.unwrap_or_default());
            }
        }
        Ok(tags)
    }

    /// The images of a `docker save` that has no layout.
    fn docker_save(&self) -> Result<Found, ImageError> {
        let mut found = Found::new();
        for saved in self.saved()? {
            if saved.layers.len() > LAYERS_MAX {
                let n = saved.layers.len();
                return Err(invalid(format!(
                    "an image has {n} layers, and {LAYERS_MAX} are allowed"
                )));
            }
            let config = self.at(&saved.config)?;
            let config = Descriptor::new(CONFIG_TYPE, config.clone(), self.size(&config)?);
            let mut layers = Vec::new();
            for path in &saved.layers {
                let digest = self.at(path)?;
                let media_type = self.encoding(&digest)?.media_type();
                layers.push(Descriptor::new(media_type, digest.clone(), self.size(&digest)?));
            }
            let manifest = Manifest::new(config, layers);
            let blob = self.blobs.stage(manifest.to_bytes()?.as_slice(), "the manifest")?;
            found.push((blob.digest.clone(), manifest, saved.repo_tags.unwrap_or_default()));
            self.add(blob);
        }
        Ok(found)
    }

    fn saved(&self) -> Result<Vec<Saved>, ImageError> {
        let saved: Vec<Saved> = serde_json::from_slice(&self.file("manifest.json")?)
            .map_err(|error| invalid(format!("manifest.json: {error}")))?;
        if saved.is_empty() || saved.len() > IMAGES_MAX {
            return Err(invalid(format!("manifest.json names {} images", saved.len())));
        }
        Ok(saved)
    }

    /// Checks that an image is whole and for this machine. Returns the size of its configuration and layers.
    fn check(&self, manifest: &Manifest) -> Result<u64, ImageError> {
        let mut bytes = 0_u64;
        for blob in manifest.blobs() {
            let size = self.size(&blob.digest)?;
            if size != blob.size {
                let digest = &blob.digest;
                return Err(invalid(format!(
                    "{digest} has {size} bytes, and its manifest says {}",
                    blob.size
                )));
            }
            bytes = bytes.saturating_add(size);
        }
        let config =
            Configuration::parse(&self.document(&manifest.config.digest)?, manifest.layers.len())?;
        for (layer, diff_id) in manifest.layers.iter().zip(&config.diff_ids) {
            if layer.digest != *diff_id && self.encoding(&layer.digest)? == Encoding::Plain {
                let digest = &layer.digest;
                return Err(invalid(format!(
                    "the layer {digest} is not {diff_id}, which the configuration names"
                )));
            }
        }
        Ok(bytes)
    }

    fn encoding(&self, digest: &Digest) -> Result<Encoding, ImageError> {
        let mut head = Vec::new();
        self.open(digest)?
            .take(Encoding::MAGIC_LEN)
            .read_to_end(&mut head)
            .map_err(|error| host(format!("read {digest}"), error))?;
        Ok(Encoding::of(&head))
    }

    /// The digest of the file at `path`, through links.
    fn at(&self, path: &str) -> Result<Digest, ImageError> {
        let mut path = joined(path.as_bytes())?;
        for _ in 0..=LINKS_MAX {
            if let Some(digest) = self.paths.get(&path) {
                return Ok(digest.clone());
            }
            match self.links.get(&path) {
                Some(target) => path.clone_from(target),
                None => break,
            }
        }
        Err(invalid(format!("{path:?} is not in the archive, which may be cut short")))
    }

    fn file(&self, path: &str) -> Result<Vec<u8>, ImageError> {
        self.document(&self.at(path)?)
    }

    /// A blob of the archive, or one that is in the store already.
    fn open(&self, digest: &Digest) -> Result<File, ImageError> {
        match self.staged.borrow().get(digest) {
            Some(blob) => {
                File::open(blob.path()).map_err(|error| host(format!("open {digest}"), error))
            }
            None => {
                self.blobs.open(digest).map(|(file, _)| file).map_err(|error| absent(error, digest))
            }
        }
    }

    fn size(&self, digest: &Digest) -> Result<u64, ImageError> {
        match self.staged.borrow().get(digest) {
            Some(blob) => Ok(blob.size),
            None => {
                self.blobs.open(digest).map(|(_, size)| size).map_err(|error| absent(error, digest))
            }
        }
    }

    fn document(&self, digest: &Digest) -> Result<Vec<u8>, ImageError> {
        if !self.staged.borrow().contains_key(digest) {
            return self.blobs.document(digest).map_err(|error| absent(error, digest));
        }
        if self.size(digest)? > DOCUMENT_LEN_MAX {
            return Err(invalid(format!(
                "{digest} is too large for a manifest or a configuration"
            )));
        }
        let mut bytes = Vec::new();
        self.open(digest)?
            .read_to_end(&mut bytes)
            .map_err(|error| host(format!("read {digest}"), error))?;
        Ok(bytes)
    }
}

/// The entries of a layout's index that are images for this machine. Entries without a platform are images of their own;
/// among entries with one, those for this machine.
fn images_among(entries: &[Descriptor]) -> Result<Vec<&Descriptor>, ImageError> {
    if entries.len() > IMAGES_MAX {
        return Err(invalid(format!("the archive has more than {IMAGES_MAX} images")));
    }
    let (with, without): (Vec<&Descriptor>, Vec<&Descriptor>) = entries
        .iter()
        .filter(|entry| !entry.is_attestation())
        .partition(|entry| entry.platform.is_some());
    let mut images = without;
    images.extend(with.iter().filter(|entry| choose(std::slice::from_ref(*entry)).is_ok()));
    if images.is_empty() {
        // Says which platforms there are.
        images.push(choose(entries)?);
    }
    Ok(images)
}

/// An archive that names a blob and does not have it is at fault, not the store.
fn absent(error: ImageError, digest: &Digest) -> ImageError {
    match error {
        ImageError::Missing(_) => {
            invalid(format!("{digest} is not in the archive, which may be cut short"))
        }
        other @ (ImageError::Digest { .. }
        | ImageError::Host { .. }
        | ImageError::Invalid { .. }) => other,
    }
}

/// Checks the digest of a file whose name is one.
fn expect_name(path: &str, found: &Digest) -> Result<(), ImageError> {
    let name = path.strip_prefix("blobs/sha256/").or_else(|| path.strip_suffix(".json"));
    match name.and_then(Digest::from_hex) {
        Some(expected) if expected != *found => {
            Err(ImageError::Digest { expected: expected.to_string(), found: found.to_string() })
        }
        Some(_) | None => Ok(()),
    }
}

/// The name that an entry of an index gives to its image. containerd and Docker write the whole name beside the bare tag.
fn name_of(entry: &Descriptor) -> Option<String> {
    let notes = entry.annotations.as_ref()?;
    let whole = notes.get("io.containerd.image.name");
    let reference =
        notes.get("org.opencontainers.image.ref.name").filter(|name| name.contains([':', '/']));
    whole.or(reference).cloned()
}

/// The path without noise, as text.
fn joined(raw: &[u8]) -> Result<String, ImageError> {
    let mut text = Vec::new();
    for name in components(raw)? {
        text.push(
            name.to_str()
                .ok_or_else(|| invalid(format!("the path {} is not UTF-8", shown(raw))))?,
        );
    }
    Ok(text.join("/"))
}

/// Where a link in the directory of `from` leads; `..` is fine here as long as it stays in the archive.
fn beside(from: &str, link: &[u8]) -> Result<String, ImageError> {
    let outside =
        || invalid(format!("the link {from:?} leads out of the archive, to {}", shown(link)));
    let link =
        std::str::from_utf8(link).ok().filter(|link| !link.starts_with('/')).ok_or_else(outside)?;
    let mut names: Vec<&str> = from.split('/').collect();
    names.pop();
    for name in link.split('/') {
        match name {
            "" | "." => {}
            ".." => drop(names.pop().ok_or_else(outside)?),
            _ => names.push(name),
        }
    }
    Ok(names.join("/"))
}
