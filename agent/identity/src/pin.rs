//! What a newcomer has to know of a mesh before the first connection: which mesh it is, and the key of one of its agents.
//!
//! One word that an operator copies from one terminal to another, like a join token, but it holds no secret and lets nobody in:
//! it keeps the newcomer from talking to somebody else's agents, so that nothing is ever trusted on first use.

use mesh_coordinator::id::{Hash, MeshId, PublicKey};
use mesh_coordinator::name::MeshName;

use crate::keys;
use crate::text::{self, Garbled};
use crate::wire::{self, Fault};

/// What every pin begins with; the number is the form of what follows.
const PREFIX: &str = "pin1-";
/// What the checksum is for.
const PURPOSE: &str = "mesh pin";
/// Five bytes: a mistyped pin passes once in 10^12.
const CHECKSUM_LEN: usize = 5;
/// More characters than any pin has; keeps a pasted file from being read.
const TEXT_LEN_MAX: usize = 512;

/// Which mesh, and whose key one of its agents has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// The mesh: the hash of its first record, with which all others are checked.
    pub mesh: MeshId,
    /// What people call it.
    pub mesh_name: MeshName,
    /// The key of the agent that is to be asked.
    pub agent: PublicKey,
}

/// Why a text is not a pin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PinError {
    /// It begins differently.
    #[error("a pin begins with {PREFIX}")]
    Prefix,
    /// It was made by a later version.
    #[error(
        "the pin begins with {0:?}: it was made by a newer version, which this machine needs as well"
    )]
    Newer(String),
    /// A join token was given.
    #[error(
        "this is a join token, which is for servers: an operator needs the pin that `agentctl operator add` prints"
    )]
    Token,
    /// A character that no pin has.
    #[error("the character {0:?} is never in a pin")]
    Character(char),
    /// A part is missing, or there is too much.
    #[error("the pin is not complete: copy the whole line")]
    Length,
    /// It was copied wrongly.
    #[error("the pin has a wrong character: its checksum differs")]
    Checksum,
    /// It is complete, but says something impossible.
    #[error("the pin says something impossible")]
    Content(#[source] Fault),
}

impl Pin {
    /// The pin as one word.
    #[must_use]
    pub fn to_text(&self) -> String {
        let parts = [self.mesh.0.0.as_slice(), &self.agent.0, self.mesh_name.as_str().as_bytes()];
        let digits = text::to_checked::<CHECKSUM_LEN>(PURPOSE, &parts.concat());
        [PREFIX, digits.as_str()].concat()
    }

    /// Reads what [`Pin::to_text`] wrote; blanks around it and capitals do not matter.
    ///
    /// # Errors
    /// Says what is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, PinError> {
        let text = text.trim();
        if text.len() > TEXT_LEN_MAX {
            return Err(PinError::Length);
        }
        let (version, digits) = text.split_once('-').ok_or(PinError::Prefix)?;
        let version = version.to_ascii_lowercase();
        if PREFIX.strip_suffix('-').is_none_or(|known| known != version) {
            let number = version.strip_prefix("pin").and_then(|number| number.parse::<u32>().ok());
            return Err(match number {
                Some(number) if number > 1 => PinError::Newer(version),
                _ if version.starts_with("mesh") => PinError::Token,
                _ => PinError::Prefix,
            });
        }
        let bytes = text::from_checked::<CHECKSUM_LEN>(PURPOSE, digits);
        let bytes = bytes.map_err(|garbled| match garbled {
            Garbled::Character(character) => PinError::Character(character),
            Garbled::Length => PinError::Length,
            Garbled::Checksum => PinError::Checksum,
        })?;
        Self::from_bytes(&bytes)
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, PinError> {
        let (mesh, rest) = bytes.split_first_chunk::<32>().ok_or(PinError::Length)?;
        let (agent, name) = rest.split_first_chunk::<32>().ok_or(PinError::Length)?;
        let agent = PublicKey(*agent);
        if !keys::is_usable(&agent) {
            let fault = Fault::new("agent", "is not an Ed25519 public key");
            return Err(PinError::Content(fault));
        }
        let name = String::from_utf8_lossy(name);
        let mesh_name = wire::parsed("mesh name", &name).map_err(PinError::Content)?;
        Ok(Self { mesh: MeshId(Hash(*mesh)), mesh_name, agent })
    }
}

#[cfg(test)]
mod tests {
    //! What is copied arrives as it was, or not at all.

    use mesh_coordinator::id::{Hash, MeshId, PublicKey};

    use super::{Pin, PinError};
    use crate::keys::{self, KeyPair};

    fn pin() -> Pin {
        let agent = KeyPair::from_seed(&[4; 32]).public();
        Pin { mesh: MeshId(Hash([9; 32])), mesh_name: "prod".parse().unwrap(), agent }
    }

    #[test]
    fn a_pin_arrives_as_it_was() {
        let text = pin().to_text();
        assert!(text.len() < 130, "{text}");
        assert_eq!(Pin::parse(&text), Ok(pin()));
        assert_eq!(Pin::parse(&format!(" {}\n", text.to_uppercase())), Ok(pin()));
    }

    #[test]
    fn a_copy_with_a_fault_is_refused_with_the_fault() {
        let text = pin().to_text();
        let cut = text.strip_suffix(|_any| true).unwrap();
        assert!(matches!(Pin::parse(cut), Err(PinError::Checksum | PinError::Length)));
        let other = if text.ends_with('a') { "b" } else { "a" };
        let wrong = format!("{cut}{other}");
        assert!(matches!(Pin::parse(&wrong), Err(PinError::Checksum | PinError::Length)));
        assert_eq!(Pin::parse("pin1-a!"), Err(PinError::Character('!')));
        assert_eq!(Pin::parse("pin2-aaaa"), Err(PinError::Newer("pin2".to_owned())));
        assert_eq!(Pin::parse("mesh1-aaaa"), Err(PinError::Token));
        assert_eq!(Pin::parse("prod"), Err(PinError::Prefix));
        let nobody = Pin { agent: PublicKey([0; 32]), ..pin() };
        assert!(matches!(Pin::parse(&nobody.to_text()), Err(PinError::Content(_))));
    }

    #[test]
    fn a_fingerprint_is_six_groups_and_each_key_has_its_own() {
        let one = keys::fingerprint(&pin().agent);
        let groups: Vec<usize> = one.split('-').map(str::len).collect();
        assert_eq!(groups, [4; 6], "{one}");
        assert_ne!(one, keys::fingerprint(&KeyPair::from_seed(&[5; 32]).public()));
    }
}
