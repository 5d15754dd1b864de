//! What is where in the agent's data directory.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use mesh_coordinator::id::{Hash, MeshId, NodeId};
use mesh_coordinator::name::NodeName;
use mesh_identity::keys::{KeyError, KeyPair};
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
    /// What `--witness-only` said; left out where it was not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    witness_only: bool,
}

/// Which mesh this node belongs to.
#[derive(Debug, Clone)]
pub(crate) struct Membership {
    pub(crate) mesh: MeshId,
    pub(crate) name: NodeName,
    pub(crate) advertise: Option<String>,
    /// Whether this node was to hold no replicas when it joined.
    pub(crate) witness_only: bool,
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
        let store = self.store();
        gone(fs::remove_dir_all(&store), &store)?;
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
            witness_only: membership.witness_only,
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
        let MembershipFile { advertise, witness_only, .. } = file;
        Ok(Membership { mesh: MeshId(Hash(mesh.0)), name, advertise, witness_only })
    }

    /// A new key for this node.
    pub(crate) fn make_key(&self) -> anyhow::Result<KeyPair> {
        let path = self.key();
        gone(fs::remove_file(&path), &path)?;
        let key = KeyPair::generate().context("cannot make the node's key")?;
        key.save_new(&path).context("cannot save the node's key")?;
        Ok(key)
    }

    /// The key of an attempt to join whose answer may have been lost: the mesh knows it perhaps, and a token that was used by it is
    /// not used twice. A new one when there was no such attempt, or when a loss of power left half a file of it.
    pub(crate) fn key_to_join(&self) -> anyhow::Result<KeyPair> {
        match KeyPair::load(&self.key()) {
            Err(error) if is_worthless(&error) => self.make_key(),
            loaded => loaded.context("cannot load the key of an earlier attempt to join"),
        }
    }

    pub(crate) fn load_key(&self) -> anyhow::Result<KeyPair> {
        KeyPair::load(&self.key()).context("cannot load the node's key")
    }
}

/// Whether there is no key at all behind this error. Any other one may go away, and the key is still there then.
fn is_worthless(error: &KeyError) -> bool {
    use std::io::ErrorKind;
    let cause = std::error::Error::source(error);
    let cause = cause.and_then(|cause| cause.downcast_ref::<std::io::Error>());
    let kind = cause.map(std::io::Error::kind);
    matches!(error, KeyError::Malformed { .. })
        || matches!(kind, Some(ErrorKind::NotFound | ErrorKind::InvalidData))
}

/// Whether something was removed, or was not there.
fn gone(removed: std::io::Result<()>, path: &Path) -> anyhow::Result<()> {
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        Ok(()) | Err(_) => Ok(()),
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

#[cfg(test)]
mod tests {
    //! A node that asks again asks as the same node.

    use super::Home;

    #[test]
    fn whoever_joins_again_has_the_key_of_the_attempt_before_and_whoever_founds_has_a_new_one() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::new(&directory.path().join("data"));
        home.prepare().unwrap();
        let first = home.key_to_join().unwrap().public();
        home.prepare().unwrap();
        assert_eq!(home.key_to_join().unwrap().public(), first);
        let founder = home.make_key().unwrap().public();
        assert_ne!(founder, first);
        assert_eq!(home.load_key().unwrap().public(), founder);
        // Half a file, after a loss of power.
        for rest in [&b"mesh"[..], &[0xff; 9]] {
            let before = home.load_key().unwrap().public();
            std::fs::write(home.key(), rest).unwrap();
            assert_ne!(home.key_to_join().unwrap().public(), before);
        }
    }

    #[test]
    fn a_key_that_only_cannot_be_read_now_is_not_thrown_away() {
        use std::os::unix::fs::PermissionsExt as _;

        let directory = tempfile::tempdir().unwrap();
        let home = Home::new(&directory.path().join("data"));
        home.prepare().unwrap();
        let first = home.key_to_join().unwrap().public();
        let set = |mode| {
            let mode = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(home.key(), mode).unwrap();
        };
        set(0o644);
        let error = format!("{:#}", home.key_to_join().unwrap_err());
        assert!(error.contains("run chmod 600"), "{error}");
        set(0o600);
        assert_eq!(home.key_to_join().unwrap().public(), first);
    }
}
