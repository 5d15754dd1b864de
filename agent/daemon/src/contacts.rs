//! Whom this node asks when its own store is lost: keys and addresses of the others, in a file beside the store.
//!
//! The catalogue knows them too, but it is in the store. Nothing here is a secret, and nothing is believed: what the others send is
//! judged by the mesh's identity.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use mesh_coordinator::id::PublicKey;
use mesh_engine::directory::Live;
use mesh_ports::directory::{Directory, Peer};
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::home;

/// The most contacts that are written down: of so many one will answer.
const CONTACTS_MAX: usize = 64;
/// The least time between two writes: a mesh that grows changes several times a second.
const PAUSE: Duration = Duration::from_secs(2);

/// One of the others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Contact {
    /// Its key.
    key: String,
    /// `host:port` of its API, best first.
    pub(crate) api: Vec<String>,
}

impl Contact {
    fn of(peer: &Peer) -> Self {
        Self { key: peer.key.to_string(), api: peer.api.clone() }
    }

    /// Its key; `None` when what is written is none.
    pub(crate) fn key(&self) -> Option<PublicKey> {
        self.key.parse().ok()
    }
}

/// Who was there when the file was last written; nobody when there is no file.
pub(crate) fn load(path: &Path) -> anyhow::Result<Vec<Contact>> {
    match std::fs::read(path) {
        Ok(text) => {
            serde_json::from_slice(&text).with_context(|| format!("{} is damaged", path.display()))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Keeps the file as the directory is.
pub(crate) async fn keep(path: PathBuf, directory: Arc<Live>) {
    let mut changes = directory.changes();
    let mut written = load(&path).unwrap_or_default();
    loop {
        let peers = directory.peers();
        let known = peers.iter().filter(|peer| !peer.api.is_empty());
        let now: Vec<Contact> = known.take(CONTACTS_MAX).map(Contact::of).collect();
        // Whoever has just lost everything, or was removed, does better with whom it knew before.
        if !now.is_empty() && now != written {
            match write(&path, &now) {
                Ok(()) => written = now,
                Err(error) => warn!(error = %format!("{error:#}"), "the contacts are not saved"),
            }
        }
        tokio::time::sleep(PAUSE).await;
        if changes.changed().await.is_err() {
            return;
        }
    }
}

fn write(path: &Path, contacts: &[Contact]) -> anyhow::Result<()> {
    home::write(path, &serde_json::to_vec_pretty(contacts)?)
}

#[cfg(test)]
mod tests {
    //! What is written is read again, and damage is told from absence.

    use super::{Contact, load, write};

    #[test]
    fn contacts_survive_and_damage_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("contacts.json");
        assert!(load(&path).unwrap().is_empty());
        let key = mesh_coordinator::id::PublicKey([7; 32]);
        let one = Contact { key: key.to_string(), api: vec!["10.0.0.1:7420".to_owned()] };
        write(&path, std::slice::from_ref(&one)).unwrap();
        assert_eq!(load(&path).unwrap(), std::slice::from_ref(&one));
        assert_eq!(one.key(), Some(key));
        std::fs::write(&path, b"").unwrap();
        assert!(load(&path).unwrap_err().to_string().contains("is damaged"));
    }
}
