//! Datagrams that only one peer can open: the authenticated box of `NaCl`, with `XChaCha20` and Poly1305.
//!
//! The two ends of a pair share one key, so a box alone does not say which of them made it, and a datagram could be sent back
//! to its author as if the peer had written it. The first bit of the nonce therefore names the direction; the nonce is part of
//! what the box authenticates. The other 191 bits are random: a repetition is beyond any number of datagrams.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crypto_box::aead::{Aead as _, Nonce};
use crypto_box::{ChaChaBox, SecretKey};
use mesh_coordinator::id::PublicKey;

use crate::keys::{KeyPair, point};

/// How many bytes stand before the box.
const NONCE_LEN: usize = 24;
/// The bit of the nonce's first byte that is set when the sender's key is the larger of the two.
const DIRECTION: u8 = 0x80;
/// How many peers' shared keys are kept: more than the largest mesh has members, at about 200 bytes each.
const PEERS_MAX: usize = 2_048;

/// The shared key of each peer, computed once.
pub(crate) struct Boxes {
    own: PublicKey,
    secret: SecretKey,
    shared: Mutex<HashMap<PublicKey, Arc<ChaChaBox>>>,
}

impl Boxes {
    pub(crate) fn new(keys: &KeyPair) -> Self {
        Self {
            own: keys.public(),
            secret: keys.agreement_secret(),
            shared: Mutex::new(HashMap::new()),
        }
    }

    /// Empty when `to` is no key at all or there is no randomness: such a datagram opens nowhere, and nothing leaks.
    pub(crate) fn seal(&self, to: &PublicKey, plain: &[u8]) -> Vec<u8> {
        let mut nonce = [0_u8; NONCE_LEN];
        let (Some(shared), Ok(())) = (self.with(to), getrandom::fill(&mut nonce)) else {
            return Vec::new();
        };
        let [first, ..] = &mut nonce;
        *first = (*first & !DIRECTION) | direction(&self.own, to);
        match shared.encrypt(&Nonce::<ChaChaBox>::from(nonce), plain) {
            Ok(sealed) => [nonce.as_slice(), sealed.as_slice()].concat(),
            Err(_) => Vec::new(),
        }
    }

    pub(crate) fn open(&self, from: &PublicKey, sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let [first, ..] = nonce;
        if first & DIRECTION != direction(from, &self.own) {
            return None;
        }
        self.with(from)?.decrypt(&Nonce::<ChaChaBox>::from(*nonce), sealed).ok()
    }

    fn with(&self, peer: &PublicKey) -> Option<Arc<ChaChaBox>> {
        if *peer == self.own {
            return None;
        }
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = shared.get(peer) {
            return Some(Arc::clone(known));
        }
        let theirs = crypto_box::PublicKey::from(point(peer)?.to_montgomery());
        let computed = Arc::new(ChaChaBox::new(&theirs, &self.secret));
        if shared.len() >= PEERS_MAX {
            // Never in a real mesh; computing all of them again is cheaper than an order of use.
            shared.clear();
        }
        shared.insert(*peer, Arc::clone(&computed));
        Some(computed)
    }
}

fn direction(from: &PublicKey, to: &PublicKey) -> u8 {
    if from > to { DIRECTION } else { 0 }
}
