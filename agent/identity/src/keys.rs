//! Ed25519 keys: making, keeping, signing, checking.
//!
//! One key pair per node and per operator, made on the host and never leaving it. The same pair signs, authenticates
//! connections and seals datagrams: its curve point serves X25519 as well, as in libsodium, so a peer's public key is all
//! that anybody has to know.

use std::fmt;
use std::path::Path;

use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use mesh_coordinator::id::{Hash, NodeId, PublicKey, Signature};
use mesh_ports::directory::{Sealer, Signer};
use zeroize::Zeroizing;

use crate::seal::Boxes;
use crate::secret_file::{self, SecretFileError};
use crate::text;

/// What the first line of a key file begins with: says what the file is and in which form.
const FILE_PREFIX: &str = "mesh-ed25519-secret:";

/// Why a key is not there.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The operating system gave no random bytes. *No key was made.*
    #[error("no random bytes from the operating system")]
    Random {
        /// What the system said.
        #[source]
        source: getrandom::Error,
    },
    /// The file cannot be read or written, or others may read it. *A file that was there is unchanged.*
    #[error(transparent)]
    File(#[from] SecretFileError),
    /// The file is no key file. *It is unchanged.*
    #[error("{path} does not hold a key: {reason}")]
    Malformed {
        /// Which file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// A private key and its public half. Wiped from memory when dropped; never printed.
#[derive(Clone)]
pub struct KeyPair {
    signing: SigningKey,
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyPair").field("public", &self.public()).finish_non_exhaustive()
    }
}

impl KeyPair {
    /// A new random pair.
    ///
    /// # Errors
    /// When the operating system has no random bytes.
    pub fn generate() -> Result<Self, KeyError> {
        let mut seed = Zeroizing::new([0_u8; 32]);
        getrandom::fill(seed.as_mut_slice()).map_err(|source| KeyError::Random { source })?;
        Ok(Self::from_seed(&seed))
    }

    /// The pair whose private half is `seed`.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self { signing: SigningKey::from_bytes(seed) }
    }

    /// The private half; wiped when dropped.
    #[must_use]
    pub fn seed(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.signing.to_bytes())
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(self.signing.verifying_key().to_bytes())
    }

    /// A signature over `bytes` for the use that `context` names.
    #[must_use]
    pub fn sign(&self, context: &str, bytes: &[u8]) -> Signature {
        Signature(self.signing.sign(&framed(context, bytes)).to_bytes())
    }

    /// Reads the pair from the file that [`KeyPair::save_new`] wrote.
    ///
    /// # Errors
    /// When the file is missing, open to others, or no key file.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let content = secret_file::read(path)?;
        let malformed =
            |reason: String| KeyError::Malformed { path: path.display().to_string(), reason };
        let line = content.trim_ascii_end();
        let digits = line
            .strip_prefix(FILE_PREFIX)
            .ok_or_else(|| malformed(format!("it does not begin with {FILE_PREFIX:?}")))?;
        let seed = text::from_hex::<32>(digits.trim_ascii()).map_err(malformed)?;
        Ok(Self::from_seed(&Zeroizing::new(seed)))
    }

    /// Writes the pair to a new file that only its owner can read, and returns when it would survive a power failure.
    ///
    /// # Errors
    /// When the file exists already or cannot be written; then there is no new file.
    pub fn save_new(&self, path: &Path) -> Result<(), KeyError> {
        let digits = Zeroizing::new(text::to_hex(self.seed().as_slice()));
        let content = Zeroizing::new(format!("{FILE_PREFIX} {}\n", digits.as_str()));
        Ok(secret_file::write_new(path, content.as_bytes())?)
    }

    /// The scalar that Ed25519 multiplies with, which is a private X25519 key for the same point.
    pub(crate) fn agreement_secret(&self) -> crypto_box::SecretKey {
        crypto_box::SecretKey::from_bytes(*Zeroizing::new(self.signing.to_scalar_bytes()))
    }
}

/// Whether `signature` over `bytes`, for the use that `context` names, was made with the private half of `key`.
///
/// Strict: keys and signatures with more than one valid form are refused, so that nobody can turn a signed record into a
/// second one with another hash.
#[must_use]
pub fn verifies(key: &PublicKey, context: &str, bytes: &[u8], signature: &Signature) -> bool {
    let Some(key) = point(key) else { return false };
    let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
    key.verify_strict(&framed(context, bytes), &signature).is_ok()
}

/// Whether these bytes are a public key that somebody can hold the private half of.
#[must_use]
pub fn is_usable(key: &PublicKey) -> bool {
    point(key).is_some()
}

/// What two people compare to know that they mean the same key: 120 bits of its hash, in groups that can be read aloud.
#[must_use]
pub fn fingerprint(key: &PublicKey) -> String {
    text::fingerprint(&Hash::of(&[b"mesh fingerprint", &key.0]))
}

/// The point behind a public key; `None` when the bytes are none or one of the few for which anybody can sign.
pub(crate) fn point(key: &PublicKey) -> Option<VerifyingKey> {
    VerifyingKey::from_bytes(&key.0).ok().filter(|point| !point.is_weak())
}

/// What is really signed: the context with its length before the bytes, so that the two cannot run into each other.
fn framed(context: &str, bytes: &[u8]) -> Vec<u8> {
    let length = u64::try_from(context.len()).unwrap_or(u64::MAX);
    [length.to_be_bytes().as_slice(), context.as_bytes(), bytes].concat()
}

/// This node's key at work.
pub struct NodeIdentity {
    keys: KeyPair,
    node: NodeId,
    boxes: Boxes,
}

impl fmt::Debug for NodeIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeIdentity").field("node", &self.node).finish_non_exhaustive()
    }
}

impl NodeIdentity {
    /// The node whose key this is.
    #[must_use]
    pub fn new(keys: KeyPair) -> Self {
        let node = NodeId::of(&keys.public());
        let boxes = Boxes::new(&keys);
        Self { keys, node, boxes }
    }

    /// The key itself.
    #[must_use]
    pub const fn keys(&self) -> &KeyPair {
        &self.keys
    }
}

impl Signer for NodeIdentity {
    fn node(&self) -> NodeId {
        self.node
    }

    fn key(&self) -> PublicKey {
        self.keys.public()
    }

    fn sign(&self, context: &str, bytes: &[u8]) -> Signature {
        self.keys.sign(context, bytes)
    }

    fn verifies(
        &self,
        key: &PublicKey,
        context: &str,
        bytes: &[u8],
        signature: &Signature,
    ) -> bool {
        verifies(key, context, bytes, signature)
    }
}

impl Sealer for NodeIdentity {
    fn seal(&self, to: &PublicKey, plain: &[u8]) -> Vec<u8> {
        self.boxes.seal(to, plain)
    }

    fn open(&self, from: &PublicKey, sealed: &[u8]) -> Option<Vec<u8>> {
        self.boxes.open(from, sealed)
    }
}

#[cfg(test)]
mod tests;
