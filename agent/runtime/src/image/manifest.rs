//! Manifests, indexes and configurations: the documents that say which blobs make an image.

use std::collections::BTreeMap;

use mesh_ports::runtime::ImageError;
use serde::{Deserialize, Serialize};

use super::Config;
use super::digest::Digest;
use super::fault::invalid;

/// The largest document; registries refuse larger manifests too.
pub(super) const DOCUMENT_LEN_MAX: u64 = 4 * 1024 * 1024;

/// The most layers of an image: Docker's own bound, and what fits in the options of one mount.
pub(super) const LAYERS_MAX: usize = 127;

/// How deep indexes may lead to indexes: nobody needs more than one in another.
const INDEX_DEPTH_MAX: usize = 3;

pub(super) const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
pub(super) const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
pub(super) const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar";

/// The architecture of this machine as images call it.
pub(super) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

/// Names a blob.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    #[serde(default)]
    pub(super) media_type: String,
    pub(super) digest: Digest,
    pub(super) size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) platform: Option<Platform>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) annotations: Option<BTreeMap<String, String>>,
}

impl Descriptor {
    pub(super) fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self { media_type: media_type.to_owned(), digest, size, platform: None, annotations: None }
    }

    /// Whether it says something about an image (who built it, from what) and is none itself.
    pub(super) fn is_attestation(&self) -> bool {
        let marked = |notes: &BTreeMap<_, _>| notes.contains_key("vnd.docker.reference.type");
        self.annotations.as_ref().is_some_and(marked)
            || self.platform.as_ref().is_some_and(|platform| platform.os == "unknown")
    }
}

/// What a manifest in an index is for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Platform {
    pub(super) os: String,
    pub(super) architecture: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) variant: Option<String>,
}

impl Platform {
    fn is_ours(&self) -> bool {
        self.os == "linux" && self.architecture == architecture()
    }

    fn shown(&self) -> String {
        let variant = self.variant.as_ref().map(|variant| format!("/{variant}"));
        format!("{}/{}{}", self.os, self.architecture, variant.unwrap_or_default())
    }
}

/// An image for one platform.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Manifest {
    schema_version: u32,
    media_type: &'static str,
    pub(super) config: Descriptor,
    pub(super) layers: Vec<Descriptor>,
}

impl Manifest {
    pub(super) const fn new(config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Self { schema_version: 2, media_type: MANIFEST_TYPE, config, layers }
    }

    /// The same bytes for the same blobs, so that an image that came without a manifest has one digest wherever it is imported.
    pub(super) fn to_bytes(&self) -> Result<Vec<u8>, ImageError> {
        serde_json::to_vec(self).map_err(|error| invalid(error.to_string()))
    }

    /// The configuration and the layers.
    pub(super) fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        std::iter::once(&self.config).chain(&self.layers)
    }
}

/// What a digest of an image may name.
#[derive(Debug)]
pub(super) enum Document {
    /// The same image for several platforms.
    Index(Vec<Descriptor>),
    /// An image.
    Manifest(Manifest),
}

#[derive(Deserialize)]
struct Any {
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
}

impl Document {
    /// Reads a manifest or an index, called `what` in messages.
    pub(super) fn parse(bytes: &[u8], what: &str) -> Result<Self, ImageError> {
        let any: Any = serde_json::from_slice(bytes)
            .map_err(|error| invalid(format!("{what} is not a manifest: {error}")))?;
        match (any.config, any.layers, any.manifests) {
            (Some(config), Some(layers), None) => {
                if layers.len() > LAYERS_MAX {
                    let n = layers.len();
                    return Err(invalid(format!(
                        "{what} has {n} layers, and {LAYERS_MAX} are allowed"
                    )));
                }
                Ok(Self::Manifest(Manifest::new(config, layers)))
            }
            (None, None, Some(manifests)) => Ok(Self::Index(manifests)),
            // A document that is both means different images to different readers.
            _ => Err(invalid(format!("{what} is neither a manifest nor an index"))),
        }
    }
}

/// The manifest for this machine that `digest` names or leads to; `read` gives the documents.
pub(super) fn resolve(
    digest: &Digest,
    read: &dyn Fn(&Digest) -> Result<Vec<u8>, ImageError>,
) -> Result<(Digest, Manifest), ImageError> {
    let mut at = digest.clone();
    for _ in 0..=INDEX_DEPTH_MAX {
        match Document::parse(&read(&at)?, &at.to_string())? {
            Document::Manifest(manifest) => return Ok((at, manifest)),
            Document::Index(manifests) => at = choose(&manifests)?.digest.clone(),
        }
    }
    Err(invalid(format!("{digest}: an index leads to an index, again and again")))
}

/// The entry of an index for this machine.
pub(super) fn choose(manifests: &[Descriptor]) -> Result<&Descriptor, ImageError> {
    let mut images = manifests.iter().filter(|entry| !entry.is_attestation());
    let ours = |entry: &&Descriptor| entry.platform.as_ref().is_some_and(Platform::is_ours);
    if let Some(found) = images.clone().find(ours) {
        return Ok(found);
    }
    match (images.next(), images.next()) {
        (Some(only), None) if only.platform.is_none() => Ok(only),
        _ => {
            let platforms = manifests.iter().filter(|entry| !entry.is_attestation());
            let platforms: Vec<String> = platforms
                .filter_map(|entry| entry.platform.as_ref())
                .map(Platform::shown)
                .collect();
            let platforms =
                if platforms.is_empty() { "none".to_owned() } else { platforms.join(", ") };
            Err(invalid(format!(
                "this machine is linux/{}, and the image is for {platforms}",
                architecture()
            )))
        }
    }
}

/// What the configuration of an image says.
#[derive(Debug)]
pub(super) struct Configuration {
    /// About the process.
    pub(super) config: Config,
    /// The digests of the unpacked layers, bottom first.
    pub(super) diff_ids: Vec<Digest>,
}

#[derive(Deserialize)]
struct ConfigFile {
    architecture: Option<String>,
    os: Option<String>,
    config: Option<Process>,
    rootfs: Option<DiffIds>,
}

#[derive(Deserialize)]
struct DiffIds {
    diff_ids: Option<Vec<Digest>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Process {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    env: Option<Vec<String>>,
    working_dir: Option<String>,
    user: Option<String>,
}

impl Configuration {
    /// Reads a configuration and checks that it fits this machine and `n_layers` layers.
    pub(super) fn parse(bytes: &[u8], n_layers: usize) -> Result<Self, ImageError> {
        let file: ConfigFile = serde_json::from_slice(bytes)
            .map_err(|error| invalid(format!("the configuration of the image: {error}")))?;
        let platform = Platform {
            os: file.os.unwrap_or_else(|| "linux".to_owned()),
            architecture: file.architecture.unwrap_or_else(|| architecture().to_owned()),
            variant: None,
        };
        if !platform.is_ours() {
            let (shown, ours) = (platform.shown(), architecture());
            return Err(invalid(format!(
                "this machine is linux/{ours}, and the image is for {shown}"
            )));
        }
        let diff_ids = file.rootfs.and_then(|rootfs| rootfs.diff_ids).unwrap_or_default();
        if diff_ids.len() != n_layers {
            let n = diff_ids.len();
            return Err(invalid(format!(
                "the image has {n_layers} layers, and its configuration names {n}"
            )));
        }
        if n_layers == 0 {
            return Err(invalid("the image has no layers"));
        }
        Ok(Self { config: file.config.unwrap_or_default().into_config()?, diff_ids })
    }
}

impl Process {
    fn into_config(self) -> Result<Config, ImageError> {
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        let config = Config {
            entrypoint: self.entrypoint.unwrap_or_default(),
            cmd: self.cmd.unwrap_or_default(),
            // A variable without a value is legal and empty.
            env: self.env.unwrap_or_default().into_iter().map(with_value).collect(),
            working_dir: given(self.working_dir),
            user: given(self.user),
        };
        let lists = config.entrypoint.iter().chain(&config.cmd).chain(&config.env);
        let mut texts = lists.chain(&config.working_dir).chain(&config.user);
        if texts.any(|text| text.contains('\0')) {
            return Err(invalid("the configuration of the image contains a zero byte"));
        }
        Ok(config)
    }
}

fn with_value(variable: String) -> String {
    if variable.contains('=') { variable } else { format!("{variable}=") }
}
