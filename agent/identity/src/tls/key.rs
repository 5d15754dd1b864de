//! Ed25519 keys in the forms that TLS wants. RFC 8410 leaves no choice in them: a fixed prefix, then the 32 bytes.

use mesh_coordinator::id::PublicKey;
use rustls::crypto::ring::sign::any_eddsa_type;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use zeroize::Zeroizing;

use crate::keys::KeyPair;

/// What stands before a public key: a sequence of the algorithm and a bit string.
const SPKI_PREFIX: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// What stands before a private key: PKCS #8, version 1, the algorithm, a string in a string.
const PKCS8_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// A key pair as the library signs with it.
pub(super) fn certified(own: &KeyPair) -> Result<CertifiedKey, rustls::Error> {
    let seed = own.seed();
    let private = Zeroizing::new([PKCS8_PREFIX.as_slice(), seed.as_slice()].concat());
    let signing = any_eddsa_type(&PrivatePkcs8KeyDer::from(private.as_slice()))?;
    let public = CertificateDer::from(to_spki(&own.public()));
    Ok(CertifiedKey::new(vec![public], signing))
}

pub(super) fn to_spki(key: &PublicKey) -> Vec<u8> {
    [SPKI_PREFIX.as_slice(), &key.0].concat()
}

/// The key in what a peer presented; `None` when it is anything else, an X.509 certificate for example.
pub(super) fn from_spki(presented: &[u8]) -> Option<PublicKey> {
    let key = presented.strip_prefix(SPKI_PREFIX.as_slice())?;
    Some(PublicKey(key.try_into().ok()?))
}
