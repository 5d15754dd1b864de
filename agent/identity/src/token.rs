//! The join token: one line that an operator copies from one terminal to another.

use std::fmt;

use mesh_coordinator::id::{Hash, MeshId, NodeId, PublicKey};
use zeroize::Zeroizing;

use crate::keys::{self, KeyPair};
use crate::text::{self, Garbled};
use crate::wire::{self, Fault};

/// What every token begins with; the number is the form of what follows.
const PREFIX: &str = "mesh1-";
/// What the checksum is for.
const PURPOSE: &str = "mesh token";
/// Five bytes: a mistyped token passes once in 10^12.
const CHECKSUM_LEN: usize = 5;
/// More characters than any token has; keeps a pasted file from being read.
const TEXT_LEN_MAX: usize = 1_024;

/// What a new server needs to join.
#[derive(Clone)]
pub struct Token {
    /// The mesh.
    pub mesh: MeshId,
    /// The invitation's keys; whoever has them may join.
    pub invitation: KeyPair,
    /// The key of the one agent that redeems the invitation.
    pub redeemer: PublicKey,
    /// `host:port` of that agent's gRPC API.
    pub address: String,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("mesh", &self.mesh)
            .field("invitation", &self.invitation.public())
            .field("redeemer", &self.redeemer)
            .field("address", &self.address)
            .finish()
    }
}

/// Why a text is not a join token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It begins differently.
    #[error("a join token begins with {PREFIX}")]
    Prefix,
    /// It was made by a later version.
    #[error(
        "the join token begins with {0:?}: it was made by a newer version, which this server needs as well"
    )]
    Newer(String),
    /// A character that no token has.
    #[error("the character {0:?} is never in a join token")]
    Character(char),
    /// A part is missing, or there is too much.
    #[error("the join token is not complete: copy the whole line")]
    Length,
    /// It was copied wrongly.
    #[error("the join token has a wrong character: its checksum differs")]
    Checksum,
    /// It is complete, but says something impossible.
    #[error("the join token says something impossible")]
    Content(#[source] Fault),
}

impl Token {
    /// The node that redeems the invitation.
    #[must_use]
    pub fn redeemer_node(&self) -> NodeId {
        NodeId::of(&self.redeemer)
    }

    /// The token as one line. It lets its reader join: wiped when dropped.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        let seed = self.invitation.seed();
        let parts =
            [self.mesh.0.0.as_slice(), seed.as_slice(), &self.redeemer.0, self.address.as_bytes()];
        let bytes = Zeroizing::new(parts.concat());
        let digits = text::to_checked::<CHECKSUM_LEN>(PURPOSE, &bytes);
        Zeroizing::new([PREFIX, digits.as_str()].concat())
    }

    /// Reads what [`Token::to_text`] wrote; blanks around it and capitals do not matter.
    ///
    /// # Errors
    /// Says what is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        if text.len() > TEXT_LEN_MAX {
            return Err(TokenError::Length);
        }
        let Some((version, digits)) = text.split_once('-') else {
            return Err(TokenError::Prefix);
        };
        let version = version.to_ascii_lowercase();
        if PREFIX.strip_suffix('-').is_none_or(|known| known != version) {
            let number = version.strip_prefix("mesh").and_then(|number| number.parse::<u32>().ok());
            return Err(match number {
                Some(number) if number > 1 => TokenError::Newer(version),
                _ => TokenError::Prefix,
            });
        }
        let bytes =
            text::from_checked::<CHECKSUM_LEN>(PURPOSE, digits).map_err(
                |garbled| match garbled {
                    Garbled::Character(character) => TokenError::Character(character),
                    Garbled::Length => TokenError::Length,
                    Garbled::Checksum => TokenError::Checksum,
                },
            )?;
        Self::from_bytes(&bytes)
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, TokenError> {
        let (mesh, rest) = bytes.split_first_chunk::<32>().ok_or(TokenError::Length)?;
        let (seed, rest) = rest.split_first_chunk::<32>().ok_or(TokenError::Length)?;
        let (redeemer, address) = rest.split_first_chunk::<32>().ok_or(TokenError::Length)?;
        let redeemer = PublicKey(*redeemer);
        let impossible = |field: &str, reason: &str| TokenError::Content(Fault::new(field, reason));
        if keys::point(&redeemer).is_none() {
            return Err(impossible("redeemer", "is not an Ed25519 public key"));
        }
        let address = String::from_utf8(address.to_vec()).ok();
        let address = address.ok_or_else(|| impossible("address", "is not a text"))?;
        let address = wire::host_port("address", address).map_err(TokenError::Content)?;
        let invitation = KeyPair::from_seed(seed);
        Ok(Self { mesh: MeshId(Hash(*mesh)), invitation, redeemer, address })
    }
}

#[cfg(test)]
mod tests;
