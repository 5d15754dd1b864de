//! A token survives the clipboard, and a damaged one is recognised.

use mesh_coordinator::id::{Hash, MeshId, NodeId};

use super::{Token, TokenError};
use crate::keys::KeyPair;

fn token(address: &str) -> Token {
    Token {
        mesh: MeshId(Hash([1; 32])),
        invitation: KeyPair::from_seed(&[2; 32]),
        redeemer: KeyPair::from_seed(&[3; 32]).public(),
        address: address.to_owned(),
    }
}

#[test]
fn a_token_is_read_as_it_was_written() {
    for address in ["10.0.0.1:7946", "[::1]:1", "web1.example.com:65535"] {
        let text = token(address).to_text();
        assert!(text.starts_with("mesh1-") && text.chars().all(|c| c.is_ascii_graphic()));
        for copied in [text.to_string(), format!("  {}\n", text.as_str()), text.to_uppercase()] {
            let read = Token::parse(&copied).unwrap();
            assert_eq!(read.mesh, token(address).mesh);
            assert_eq!(read.invitation.public(), token(address).invitation.public());
            assert_eq!(read.redeemer, token(address).redeemer);
            assert_eq!(read.redeemer_node(), NodeId::of(&token(address).redeemer));
            assert_eq!(read.address, address);
        }
    }
}

#[test]
fn every_mistyped_character_is_noticed() {
    let text = token("10.0.0.1:7946").to_text();
    for place in "mesh1-".len()..text.len() {
        let mut typed = text.as_bytes().to_vec();
        typed[place] = if typed[place] == b'q' { b'r' } else { b'q' };
        let refused = Token::parse(std::str::from_utf8(&typed).unwrap()).unwrap_err();
        assert!(matches!(refused, TokenError::Checksum | TokenError::Length), "{place}: {refused}");
    }
}

#[test]
fn what_is_wrong_is_said_in_words() {
    let text = token("10.0.0.1:7946").to_text();
    let said = |text: &str| Token::parse(text).unwrap_err().to_string();
    assert_eq!(said("hello"), "a join token begins with mesh1-");
    assert_eq!(said(""), "a join token begins with mesh1-");
    assert!(said("mesh2-abc").contains("made by a newer version"));
    assert_eq!(said("mesh1-a!b"), "the character '!' is never in a join token");
    assert!(said(text.split_at(100).0).starts_with("the join token"));
    assert_eq!(said("mesh1-"), "the join token is not complete: copy the whole line");
    let bad = Token::parse(&token("nowhere").to_text()).unwrap_err();
    assert!(matches!(&bad, TokenError::Content(fault) if fault.path == "address"), "{bad}");
}

#[test]
fn a_printed_token_shows_no_secret() {
    let shown = format!("{:?}", token("10.0.0.1:7946"));
    assert!(!shown.contains("2, 2") && !shown.contains("0202"), "{shown}");
}
