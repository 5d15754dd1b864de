//! Facts as chitchat's keys and values.
//!
//! Keys are short ASCII: `c/<slot>/<revision>` in hexadecimal, `r`, `n`, `v/<node>`. ASCII is vital: chitchat panics in every
//! peer on a key that begins with a longer character. Values are a version byte and what the
//! [`FactCodec`](mesh_ports::gossip::FactCodec) made, so that a later release can change the form and still read this one.

use mesh_coordinator::fact::{Fact, FactKey};
use mesh_coordinator::id::Incarnation;
use mesh_ports::directory::Peer;
use mesh_ports::gossip::FactCodec;

/// The form of values that this release writes, and the only one it reads.
const VERSION: char = '1';

/// The longest value: the version and 1,024 characters. A signed claim takes about 200; every node keeps all values of all nodes,
/// and chitchat clones them at each change.
pub(crate) const VALUE_LEN_MAX: usize = 1 + 1_024;

/// The most facts read of one node: ten times what a big host runs.
pub(crate) const FACTS_MAX: usize = 4_096;

/// Why a value is not a fact.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FactError {
    #[error("the value has {0} bytes, more than {VALUE_LEN_MAX}")]
    Long(usize),
    #[error("key or value is not printable ASCII")]
    Alien,
    #[error("the key is none of ours")]
    Key,
    #[error("the value has a form that this release does not know")]
    Version,
    #[error("{0}")]
    Codec(String),
    #[error("the fact stands under another fact's key")]
    Moved,
    #[error("the slot belongs to another node")]
    Foreign,
}

/// The text under which `key` stands.
pub(crate) fn to_text(key: FactKey) -> String {
    match key {
        FactKey::Claim(slot, revision) => format!("c/{slot:016x}/{revision:016x}"),
        FactKey::Root => "r".to_owned(),
        FactKey::Node => "n".to_owned(),
        FactKey::Vote(node) => format!("v/{node}"),
    }
}

/// The key whose text is `text`; exactly one text per key, so that no fact can stand twice.
pub(crate) fn parse(text: &str) -> Option<FactKey> {
    let key = match text {
        "r" => FactKey::Root,
        "n" => FactKey::Node,
        _ => match text.split_once('/')? {
            ("v", node) => FactKey::Vote(node.parse().ok()?),
            ("c", rest) => {
                let (slot, revision) = rest.split_once('/')?;
                FactKey::Claim(
                    u64::from_str_radix(slot, 16).ok()?,
                    u64::from_str_radix(revision, 16).ok()?,
                )
            }
            _ => return None,
        },
    };
    (to_text(key) == text).then_some(key)
}

/// The value that says `fact` in the life `incarnation`.
pub(crate) fn seal(
    codec: &dyn FactCodec,
    incarnation: Incarnation,
    fact: &Fact,
) -> Result<String, FactError> {
    let mut value = String::from(VERSION);
    value.push_str(&codec.seal(incarnation, fact));
    check(&value)?;
    Ok(value)
}

/// The fact that `node` published under `key` in the life `incarnation`.
pub(crate) fn open(
    codec: &dyn FactCodec,
    (node, incarnation): (&Peer, Incarnation),
    (key, value): (&str, &str),
) -> Result<Fact, FactError> {
    check(value)?;
    if !is_printable(key) {
        return Err(FactError::Alien);
    }
    let key = parse(key).ok_or(FactError::Key)?;
    let sealed = value.strip_prefix(VERSION).ok_or(FactError::Version)?;
    let fact = codec.open(node, incarnation, sealed).map_err(FactError::Codec)?;
    if fact.key() != key {
        Err(FactError::Moved)
    } else if matches!(&fact, Fact::Claim(claim) if claim.is_foreign(node.node)) {
        Err(FactError::Foreign)
    } else {
        Ok(fact)
    }
}

fn check(value: &str) -> Result<(), FactError> {
    if value.len() > VALUE_LEN_MAX {
        Err(FactError::Long(value.len()))
    } else if is_printable(value) {
        Ok(())
    } else {
        Err(FactError::Alien)
    }
}

fn is_printable(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')
}

#[cfg(test)]
mod tests {
    //! One text per key, and nothing strange in values.

    use mesh_coordinator::fact::{Fact, FactKey};
    use mesh_coordinator::id::{Incarnation, NodeId, PublicKey};
    use mesh_ports::directory::Peer;
    use mesh_ports::gossip::FactCodec;

    use super::{FactError, VALUE_LEN_MAX, open, parse, seal, to_text};

    /// Says what it was told to say.
    struct Says(String);

    impl FactCodec for Says {
        fn seal(&self, _: Incarnation, _: &Fact) -> String {
            self.0.clone()
        }
        fn open(&self, _: &Peer, _: Incarnation, sealed: &str) -> Result<Fact, String> {
            sealed.parse().map(Fact::Root).map_err(|_error| "no number".to_owned())
        }
    }

    fn peer() -> Peer {
        let key = PublicKey([7; 32]);
        let name = "a".parse().unwrap();
        Peer { node: NodeId::of(&key), key, name, api: Vec::new(), gossip: String::new() }
    }

    fn read(key: &str, value: &str) -> Result<Fact, FactError> {
        open(&Says(String::new()), (&peer(), Incarnation(1)), (key, value))
    }

    #[test]
    fn keys_survive_the_way_to_text_and_back() {
        let node = NodeId::of(&PublicKey([7; 32]));
        let keys = [FactKey::Root, FactKey::Node, FactKey::Vote(node), FactKey::Claim(3, u64::MAX)];
        for key in keys {
            assert_eq!(parse(&to_text(key)), Some(key));
        }
        assert_eq!(to_text(FactKey::Claim(3, 255)), "c/0000000000000003/00000000000000ff");
    }

    #[test]
    fn a_second_spelling_of_a_key_is_no_key() {
        for text in ["", "R", "c/3/ff", "c/+000000000000003/00000000000000ff", "v/x", "x/y", "é"] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(parse("c/000000000000000A/00000000000000ff"), None);
    }

    #[test]
    fn a_value_that_is_long_alien_or_of_another_version_is_refused() {
        assert_eq!(read("r", "15"), Ok(Fact::Root(5)));
        assert_eq!(read("r", "25"), Err(FactError::Version));
        assert_eq!(read("r", "1é"), Err(FactError::Alien));
        assert_eq!(read("é", "15"), Err(FactError::Alien));
        assert_eq!(read("q", "15"), Err(FactError::Key));
        assert_eq!(read("n", "15"), Err(FactError::Moved));
        assert_eq!(read("r", "1x"), Err(FactError::Codec("no number".to_owned())));
        let long = "1".repeat(VALUE_LEN_MAX + 1);
        assert_eq!(read("r", &long), Err(FactError::Long(VALUE_LEN_MAX + 1)));
    }

    #[test]
    fn what_peers_would_refuse_is_not_published() {
        let sealed = |says: &str| seal(&Says(says.to_owned()), Incarnation(1), &Fact::Root(1));
        assert_eq!(sealed("5"), Ok("15".to_owned()));
        assert_eq!(sealed("ä"), Err(FactError::Alien));
        assert_eq!(sealed(&"x".repeat(VALUE_LEN_MAX)), Err(FactError::Long(VALUE_LEN_MAX + 1)));
    }
}
