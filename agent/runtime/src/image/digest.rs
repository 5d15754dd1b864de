//! SHA-256 digests as images write them, and computing them while bytes flow past.

use std::fmt;
use std::io::{self, Read, Write};

use data_encoding::{BASE32_DNSCURVE, HEXLOWER};
use mesh_ports::runtime::ImageError;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::fault::invalid;

/// How many bytes of a digest make a short name: 128 bits, which nobody finds a second image for.
const SHORT_LEN: usize = 16;

/// The size of the buffer when bytes are copied: large enough that system calls do not count.
pub(super) const BUFFER_LEN: usize = 64 * 1024;

/// `sha256:` and 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(super) struct Digest {
    hex: String,
}

impl Digest {
    /// Reads a digest; other algorithms than SHA-256 are refused.
    pub(super) fn parse(text: &str) -> Result<Self, ImageError> {
        text.strip_prefix("sha256:").and_then(Self::from_hex).ok_or_else(|| {
            invalid(format!("{text:?} is not a digest: sha256: and 64 hexadecimal digits"))
        })
    }

    /// Reads 64 lower-case hexadecimal digits.
    pub(super) fn from_hex(hex: &str) -> Option<Self> {
        let digits = hex.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        (hex.len() == 64 && digits).then(|| Self { hex: hex.to_owned() })
    }

    /// The digest of `bytes`.
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self::finish(Sha256::new_with_prefix(bytes))
    }

    fn finish(hasher: Sha256) -> Self {
        Self { hex: HEXLOWER.encode(&hasher.finalize()) }
    }

    /// The 64 digits alone: the name of the blob's file.
    pub(super) fn hex(&self) -> &str {
        &self.hex
    }

    /// A shorter name with 26 letters and digits. The lower directories of an overlay must fit in one page of mount options,
    /// and this way 127 of them do (relative to their directory).
    pub(super) fn short(&self) -> String {
        let bytes = HEXLOWER.decode(self.hex.as_bytes()).unwrap_or_default();
        BASE32_DNSCURVE.encode(bytes.get(..SHORT_LEN).unwrap_or_default())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex)
    }
}

impl TryFrom<String> for Digest {
    type Error = ImageError;

    fn try_from(text: String) -> Result<Self, ImageError> {
        Self::parse(&text)
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

/// Hashes and counts what is read or written through it, and refuses to go beyond a bound.
#[derive(Debug)]
pub(super) struct Hashing<T> {
    inner: T,
    hasher: Sha256,
    count: u64,
    max: u64,
}

impl<T> Hashing<T> {
    /// Around `inner`, for at most `max` bytes.
    pub(super) fn new(inner: T, max: u64) -> Self {
        Self { inner, hasher: Sha256::new(), count: 0, max }
    }

    /// The digest and the number of the bytes that went through.
    pub(super) fn finish(self) -> (Digest, u64) {
        (Digest::finish(self.hasher), self.count)
    }

    fn note(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.count = self.count.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        if self.count > self.max {
            return Err(io::Error::other(format!("more than {} bytes", self.max)));
        }
        Ok(())
    }
}

impl<T: Read> Read for Hashing<T> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.note(buf.get(..n).unwrap_or_default())?;
        Ok(n)
    }
}

impl<T: Write> Write for Hashing<T> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(buf)?;
        self.note(buf.get(..n).unwrap_or_default())?;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Reads `from` to its end, for the sake of its hash.
pub(super) fn drain(from: &mut impl Read) -> io::Result<()> {
    io::copy(from, &mut io::sink()).map(drop)
}
