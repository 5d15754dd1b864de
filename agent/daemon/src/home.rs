//! What is where in the agent's data directory.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use mesh_coordinator::id::{Hash, MeshId, NodeId};
use mesh_coordinator::name::NodeName;
use mesh_identity::keys::KeyPair;
use serde::{Deserialize, Serialize};

/// The agent's data directory.
#[derive(Debug, Clone)]
pub(crate) struct Home(PathBuf);

/// Which mesh this node belongs to; written last, so that a directory that has it is complete.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MembershipFile {
    /// The mesh, as hexadecimal digits.
    mesh: String,
    /// The node's name.
    name: String,
    /// What `--advertise` said.
    advertise: Option<String>,
}

/// Which mesh this node belongs to.
#[derive(Debug, Clone)]
pub(crate) struct Membership {
    pub(crate) mesh: MeshId,
    pub(crate) name: NodeName,
    pub(crate) advertise: Option<String>,
}

impl Home {
    pub(crate) fn new(data_dir: &Path) -> Self {
        Self(data_dir.to_owned())
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.0.join("node.key")
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.0.join("store")
    }

    /// Whom to ask when the store is lost.
    pub(crate) fn contacts(&self) -> PathBuf {
        self.0.join("contacts.json")
    }

    /// The number of the agent's last life: it must not fall when the store is lost.
    pub(crate) fn life(&self) -> PathBuf {
        self.0.join("life")
    }

    pub(crate) fn images(&self) -> PathBuf {
        self.0.join("images")
    }

    pub(crate) fn containers(&self) -> PathBuf {
        self.0.join("containers")
    }

    fn membership(&self) -> PathBuf {
        self.0.join("mesh.json")
    }

    /// Makes the directory for a node that is to become a member.
    pub(crate) fn prepare(&self) -> anyhow::Result<()> {
        if self.membership().exists() {
            let member = self.load_membership()?;
            bail!(
                "{} belongs to node {} of a mesh already: start it with `agent run`, or remove the directory to begin anew",
                self.0.display(),
                member.name
            );
        }
        // What is left of an attempt that did not come to its end.
        for leftover in [self.key(), self.store()] {
            let removed = if leftover.is_dir() {
                fs::remove_dir_all(&leftover)
            } else {
                fs::remove_file(&leftover)
            };
            if let Err(error) = removed
                && error.kind() != std::io::ErrorKind::NotFound
            {
                return Err(error).with_context(|| format!("cannot remove {}", leftover.display()));
            }
        }
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.0)
            .with_context(|| format!("cannot make {}", self.0.display()))
    }

    pub(crate) fn save_membership(&self, membership: &Membership) -> anyhow::Result<()> {
        let file = MembershipFile {
            mesh: membership.mesh.to_string(),
            name: membership.name.to_string(),
            advertise: membership.advertise.clone(),
        };
        let path = self.membership();
        write(&path, &serde_json::to_vec_pretty(&file)?)
    }

    pub(crate) fn load_membership(&self) -> anyhow::Result<Membership> {
        let path = self.membership();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => bail!(
                "{} belongs to no mesh yet: `agent init` creates one, `agent join` joins one",
                self.0.display()
            ),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", path.display()));
            }
        };
        let shown = path.display();
        let file: MembershipFile =
            serde_json::from_str(&text).with_context(|| format!("{shown} is damaged"))?;
        // A mesh's identity and a public key have the same form.
        let mesh: mesh_coordinator::id::PublicKey =
            file.mesh.parse().with_context(|| format!("{shown}: mesh"))?;
        let name = file.name.parse().with_context(|| format!("{shown}: name"))?;
        Ok(Membership { mesh: MeshId(Hash(mesh.0)), name, advertise: file.advertise })
    }

    pub(crate) fn load_key(&self) -> anyhow::Result<KeyPair> {
        KeyPair::load(&self.key()).context("cannot load the node's key")
    }
}

/// Puts a file in its place whole, on disk when this returns.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let draft = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut out = options.open(&draft)?;
        out.write_all(bytes)?;
        out.sync_all()?;
        fs::rename(&draft, path)?;
        path.parent().map_or(Ok(()), |parent| fs::File::open(parent)?.sync_all())
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// The host's name, made into a node's name.
pub(crate) fn host_name(id: NodeId) -> NodeName {
    let host = nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .unwrap_or_default();
    let first = host.split('.').next().unwrap_or_default().to_ascii_lowercase();
    let usable: String =
        first.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(40).collect();
    let fallback = || format!("node-{}", id.to_string().chars().take(6).collect::<String>());
    usable.parse().or_else(|_unusable| fallback().parse()).unwrap_or_else(|_never| unnamed())
}

fn unnamed() -> NodeName {
    #[expect(clippy::expect_used, reason = "a constant that a test of names covers")]
    "node".parse().expect("a valid name")
}
