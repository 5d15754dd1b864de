//! The recovery key as a person writes it down: shown once by `agent init`, kept on paper, typed in when the root key is lost.

use zeroize::Zeroizing;

use crate::keys::KeyPair;
use crate::text::{self, Garbled};

/// What the checksum is for.
const PURPOSE: &str = "mesh recovery key";
/// Three bytes: with the key 35, which are exactly 56 characters; a mistyped key passes once in 16 million.
const CHECKSUM_LEN: usize = 3;
/// Characters between two hyphens: as many as one keeps in mind while typing.
const GROUP_LEN: usize = 4;

/// Why a text is not a recovery key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecoveryError {
    /// A character that no key has.
    #[error(
        "the character {0:?} is never in a recovery key: it has the letters a to z and the digits 2 to 7"
    )]
    Character(char),
    /// A group is missing, or there is too much.
    #[error("a recovery key has 14 groups of 4 characters")]
    Length,
    /// It was copied wrongly.
    #[error("the recovery key has a wrong character: its checksum differs")]
    Checksum,
}

/// The key in groups; wiped when dropped.
#[must_use]
pub fn to_text(recovery: &KeyPair) -> Zeroizing<String> {
    let digits = text::to_checked::<CHECKSUM_LEN>(PURPOSE, recovery.seed().as_slice());
    let mut grouped =
        Zeroizing::new(String::with_capacity(digits.len() + digits.len() / GROUP_LEN));
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && place.is_multiple_of(GROUP_LEN) {
            grouped.push('-');
        }
        grouped.push(digit);
    }
    grouped
}

/// Reads what [`to_text`] wrote; capitals, blanks and hyphens do not matter.
///
/// # Errors
/// Says what is wrong with the text.
pub fn parse(text: &str) -> Result<KeyPair, RecoveryError> {
    let seed =
        text::from_checked::<CHECKSUM_LEN>(PURPOSE, text).map_err(|garbled| match garbled {
            Garbled::Character(character) => RecoveryError::Character(character),
            Garbled::Length => RecoveryError::Length,
            Garbled::Checksum => RecoveryError::Checksum,
        })?;
    let seed =
        seed.first_chunk::<32>().filter(|_| seed.len() == 32).ok_or(RecoveryError::Length)?;
    Ok(KeyPair::from_seed(seed))
}

#[cfg(test)]
mod tests;
