//! A recovery key survives paper.

use super::{RecoveryError, parse, to_text};
use crate::keys::KeyPair;

#[test]
fn a_key_is_read_as_it_was_written_down() {
    let key = KeyPair::from_seed(&[5; 32]);
    let text = to_text(&key);
    assert_eq!(text.split('-').map(str::len).collect::<Vec<_>>(), [4; 14]);
    for typed in [text.to_string(), text.replace('-', " "), text.to_uppercase()] {
        assert_eq!(parse(&typed).unwrap().public(), key.public());
    }
}

#[test]
fn a_mistyped_key_is_recognised() {
    let text = to_text(&KeyPair::from_seed(&[5; 32]));
    let typed = text.replacen(|c: char| c != 'q' && c != '-', "q", 1);
    assert_eq!(parse(&typed).unwrap_err(), RecoveryError::Checksum);
    assert_eq!(parse(text.split_at(5).1).unwrap_err(), RecoveryError::Length);
    assert_eq!(parse("abc1").unwrap_err(), RecoveryError::Character('1'));
}
