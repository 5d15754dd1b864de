//! Keys prove what they should, and only that.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use mesh_coordinator::id::{PublicKey, Signature};
use mesh_ports::directory::{Sealer as _, Signer as _};
use tempfile::TempDir;

use super::{KeyError, KeyPair, NodeIdentity, verifies};
use crate::SecretFileError;

fn pair(seed: u8) -> KeyPair {
    KeyPair::from_seed(&[seed; 32])
}

fn identity(seed: u8) -> NodeIdentity {
    NodeIdentity::new(pair(seed))
}

#[test]
fn a_signature_holds_for_its_key_context_and_bytes_only() {
    let (ours, other) = (pair(1), pair(2));
    let signature = ours.sign("use", b"bytes");
    assert!(verifies(&ours.public(), "use", b"bytes", &signature));
    assert!(!verifies(&other.public(), "use", b"bytes", &signature));
    assert!(!verifies(&ours.public(), "used", b"bytes", &signature));
    assert!(!verifies(&ours.public(), "use", b"byte", &signature));
    assert!(!verifies(&ours.public(), "useb", b"ytes", &signature), "the boundary is signed too");
}

#[test]
fn a_key_for_which_anybody_can_sign_is_no_key() {
    // The neutral point: its signature with R neutral and s zero fits every message.
    let mut neutral = [0; 32];
    neutral[0] = 1;
    let mut signature = [0; 64];
    signature[0] = 1;
    assert!(!verifies(&PublicKey(neutral), "use", b"bytes", &Signature(signature)));
}

#[test]
fn generated_keys_differ() {
    assert_ne!(KeyPair::generate().unwrap().public(), KeyPair::generate().unwrap().public());
}

#[test]
fn a_saved_key_is_loaded_and_never_overwritten() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("node.key");
    pair(1).save_new(&path).unwrap();
    assert_eq!(KeyPair::load(&path).unwrap().public(), pair(1).public());
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let refused = pair(2).save_new(&path).unwrap_err();
    assert!(matches!(refused, KeyError::File(SecretFileError::Exists { .. })), "{refused}");
    assert_eq!(KeyPair::load(&path).unwrap().public(), pair(1).public());
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "no draft stays");
}

#[test]
fn a_key_that_others_can_read_is_refused_with_the_remedy() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("node.key");
    pair(1).save_new(&path).unwrap();
    for mode in [0o640, 0o604, 0o660] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let refused = KeyPair::load(&path).unwrap_err().to_string();
        assert!(refused.contains(&format!("mode 0{mode:o}")), "{refused}");
        assert!(refused.contains("run chmod 600"), "{refused}");
    }
}

#[test]
fn a_file_that_is_no_key_is_refused_by_name() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("node.key");
    for content in ["", "hello", "mesh-ed25519-secret: 12", "mesh-ed25519-secret: zz"] {
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let refused = KeyPair::load(&path).unwrap_err();
        assert!(matches!(refused, KeyError::Malformed { .. }), "{refused}");
        assert!(refused.to_string().contains("node.key does not hold a key"), "{refused}");
    }
}

#[test]
fn no_secret_is_printed() {
    let secret = crate::text::to_hex(&[0xC5; 32]);
    let keys = KeyPair::from_seed(&[0xC5; 32]);
    for printed in [format!("{keys:?}"), format!("{:?}", NodeIdentity::new(keys))] {
        assert!(!printed.contains(&secret) && !printed.contains("197, 197"), "{printed}");
    }
}

#[test]
fn a_sealed_datagram_opens_for_its_receiver_only() {
    let (alice, bob, eve) = (identity(1), identity(2), identity(3));
    let sealed = alice.seal(&bob.key(), b"hello");
    assert_eq!(sealed.len(), 5 + 24 + 16);
    assert_eq!(bob.open(&alice.key(), &sealed), Some(b"hello".to_vec()));
    assert_eq!(bob.open(&eve.key(), &sealed), None, "another sender");
    assert_eq!(eve.open(&alice.key(), &sealed), None, "another receiver");
    assert_ne!(sealed, alice.seal(&bob.key(), b"hello"), "nonces differ");
}

#[test]
fn an_altered_datagram_does_not_open() {
    let (alice, bob) = (identity(1), identity(2));
    let sealed = alice.seal(&bob.key(), b"hello");
    for place in 0..sealed.len() {
        let mut altered = sealed.clone();
        altered[place] ^= 1;
        assert_eq!(bob.open(&alice.key(), &altered), None, "byte {place}");
    }
    for length in 0..sealed.len() {
        assert_eq!(bob.open(&alice.key(), &sealed[..length]), None, "{length} bytes");
    }
}

#[test]
fn a_datagram_that_is_sent_back_does_not_open() {
    for (left, right) in [(1, 2), (2, 1)] {
        let (alice, bob) = (identity(left), identity(right));
        let sealed = alice.seal(&bob.key(), b"hello");
        assert_eq!(alice.open(&bob.key(), &sealed), None);
        let mut turned = sealed;
        turned[0] ^= 0x80;
        assert_eq!(alice.open(&bob.key(), &turned), None, "the direction is authenticated");
    }
}

#[test]
fn nothing_is_sealed_for_a_key_that_is_none() {
    assert_eq!(identity(1).seal(&PublicKey([0; 32]), b"secret"), Vec::<u8>::new());
    assert_eq!(identity(1).open(&PublicKey([0; 32]), &[0; 60]), None);
}
