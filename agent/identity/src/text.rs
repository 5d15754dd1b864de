//! Bytes as people copy them: hexadecimal, and base 32 with a checksum.

use data_encoding::{BASE32_NOPAD, HEXLOWER_PERMISSIVE};
use mesh_coordinator::id::Hash;
use zeroize::Zeroizing;

/// Why a copied text does not mean anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Garbled {
    /// A character that is never used.
    Character(char),
    /// So short, or of such a length, that a part must be missing.
    Length,
    /// The checksum is wrong.
    Checksum,
}

/// Lower case hexadecimal digits.
pub(crate) fn to_hex(bytes: &[u8]) -> String {
    HEXLOWER_PERMISSIVE.encode(bytes)
}

/// The bytes behind exactly `2 * N` hexadecimal digits, or what is wrong with them.
pub(crate) fn from_hex<const N: usize>(digits: &str) -> Result<[u8; N], String> {
    let found = digits.chars().count();
    if found != N * 2 {
        return Err(format!("{found} characters where {} are needed", N * 2));
    }
    let bytes = HEXLOWER_PERMISSIVE.decode(digits.as_bytes());
    let bytes = bytes.ok().and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| "it has characters other than 0 to 9 and a to f".to_owned())
}

/// The first 120 bits of a hash in six groups of lower case base 32.
pub(crate) fn fingerprint(hash: &Hash) -> String {
    let bytes = hash.0.get(..15).unwrap_or_default();
    let groups = bytes.chunks(5).map(|group| BASE32_NOPAD.encode(group).to_ascii_lowercase());
    let halves = groups.flat_map(|group| {
        let (one, other) = group.split_at(group.len() / 2);
        [one.to_owned(), other.to_owned()]
    });
    halves.collect::<Vec<_>>().join("-")
}

/// `bytes` followed by the first `N` bytes of their hash, in lower case base 32. `purpose` keeps two kinds of text apart.
pub(crate) fn to_checked<const N: usize>(purpose: &str, bytes: &[u8]) -> Zeroizing<String> {
    let checked = Zeroizing::new([bytes, &checksum::<N>(purpose, bytes)].concat());
    let upper = Zeroizing::new(BASE32_NOPAD.encode(&checked));
    Zeroizing::new(upper.to_ascii_lowercase())
}

/// The bytes behind a text that [`to_checked`] made; capitals, blanks and hyphens do not matter.
pub(crate) fn from_checked<const N: usize>(
    purpose: &str,
    text: &str,
) -> Result<Zeroizing<Vec<u8>>, Garbled> {
    let mut digits = Zeroizing::new(String::with_capacity(text.len()));
    for character in text.chars().filter(|c| !c.is_whitespace() && *c != '-') {
        if !(character.is_ascii_alphabetic() || ('2'..='7').contains(&character)) {
            return Err(Garbled::Character(character));
        }
        digits.push(character.to_ascii_uppercase());
    }
    let checked = BASE32_NOPAD.decode(digits.as_bytes()).ok().ok_or(Garbled::Length)?;
    let checked = Zeroizing::new(checked);
    let (bytes, sum) = checked.split_last_chunk::<N>().ok_or(Garbled::Length)?;
    if *sum == checksum::<N>(purpose, bytes) {
        Ok(Zeroizing::new(bytes.to_vec()))
    } else {
        Err(Garbled::Checksum)
    }
}

fn checksum<const N: usize>(purpose: &str, bytes: &[u8]) -> [u8; N] {
    let hash = Hash::of(&[purpose.as_bytes(), bytes]);
    let mut sum = [0; N];
    for (sum, byte) in sum.iter_mut().zip(hash.0) {
        *sum = byte;
    }
    sum
}
