//! Between the core's types and the messages that are signed.
//!
//! One file per family; in each, `write` turns a value into its message and `read` checks a message and makes the value. What
//! is read comes from somebody else's disk: everything that the core takes for granted is checked here, and a fault names the
//! field by its path. Two messages for one value do not matter, since signed bytes are never encoded again.

pub(crate) mod fact;
pub(crate) mod lease;
pub(crate) mod record;
pub(crate) mod spec;
pub(crate) mod template;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use mesh_coordinator::id::{AppUid, Hash, MeshId, NodeId, PublicKey, Revision, Signature};
use mesh_coordinator::spec::{Bytes, Cpu, Reservation};
use mesh_proto::v1;

use crate::keys;

/// A field that says something impossible.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct Fault {
    /// Where it is: field names separated by dots.
    pub path: String,
    /// What is wrong with it.
    pub reason: String,
}

impl Fault {
    pub(crate) fn new(field: &str, reason: impl Into<String>) -> Self {
        Self { path: field.to_owned(), reason: reason.into() }
    }

    fn under(self, parent: &str) -> Self {
        Self { path: format!("{parent}.{}", self.path), ..self }
    }
}

/// Says in which message a fault is.
pub(crate) trait Within {
    /// The same result; a fault's path begins with `parent`.
    fn within(self, parent: &str) -> Self;
}

impl<T> Within for Result<T, Fault> {
    fn within(self, parent: &str) -> Self {
        self.map_err(|fault| fault.under(parent))
    }
}

/// A message that must be there.
pub(crate) fn required<T>(field: &str, message: Option<T>) -> Result<T, Fault> {
    message.ok_or_else(|| Fault::new(field, "is missing"))
}

/// Exactly `N` bytes.
pub(crate) fn array<const N: usize>(field: &str, bytes: &[u8]) -> Result<[u8; N], Fault> {
    let array = bytes.try_into().ok();
    array.ok_or_else(|| Fault::new(field, format!("{} bytes, not {N}", bytes.len())))
}

/// Nothing for no bytes, otherwise exactly `N`.
pub(crate) fn maybe_array<const N: usize>(
    field: &str,
    bytes: &[u8],
) -> Result<Option<[u8; N]>, Fault> {
    if bytes.is_empty() { Ok(None) } else { array(field, bytes).map(Some) }
}

pub(crate) fn mesh(bytes: &[u8]) -> Result<MeshId, Fault> {
    Ok(MeshId(Hash(array("mesh", bytes)?)))
}

pub(crate) fn node(field: &str, bytes: &[u8]) -> Result<NodeId, Fault> {
    Ok(NodeId::from_bytes(array(field, bytes)?))
}

pub(crate) fn app(bytes: &[u8]) -> Result<AppUid, Fault> {
    Ok(AppUid(array("app", bytes)?))
}

pub(crate) fn signature(field: &str, bytes: &[u8]) -> Result<Signature, Fault> {
    Ok(Signature(array(field, bytes)?))
}

/// A key for which only its owner can sign.
pub(crate) fn key(field: &str, bytes: &[u8]) -> Result<PublicKey, Fault> {
    let key = PublicKey(array(field, bytes)?);
    match keys::point(&key) {
        Some(_) => Ok(key),
        None => Err(Fault::new(field, "is not an Ed25519 public key")),
    }
}

/// A name or another text that the core can read.
pub(crate) fn parsed<T>(field: &str, text: &str) -> Result<T, Fault>
where
    T: FromStr<Err: fmt::Display>,
{
    text.parse().map_err(|error: T::Err| Fault::new(field, error.to_string()))
}

/// A text without the character that ends texts in the kernel's interface.
pub(crate) fn plain(field: &str, text: String) -> Result<String, Fault> {
    if text.contains('\0') { Err(Fault::new(field, "has a NUL character")) } else { Ok(text) }
}

/// A text with at least one character.
pub(crate) fn filled(field: &str, text: String) -> Result<String, Fault> {
    if text.is_empty() { Err(Fault::new(field, "is empty")) } else { plain(field, text) }
}

/// A number that counts something there must be.
pub(crate) fn positive<T: Default + PartialEq>(field: &str, number: T) -> Result<T, Fault> {
    if number == T::default() {
        Err(Fault::new(field, "is zero; at least 1 is needed"))
    } else {
        Ok(number)
    }
}

/// A limit: absent or at least 1.
pub(crate) fn limit<T: Default + PartialEq>(
    field: &str,
    number: Option<T>,
) -> Result<Option<T>, Fault> {
    number.map(|number| positive(field, number)).transpose()
}

/// The name of an image's content: `sha256:` and 64 hexadecimal digits.
pub(crate) fn digest(field: &str, text: String) -> Result<String, Fault> {
    let digits = text.strip_prefix("sha256:").unwrap_or_default();
    let hexadecimal = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    if digits.len() == 64 && digits.chars().all(hexadecimal) {
        Ok(text)
    } else {
        Err(Fault::new(field, format!("{text:?} is not sha256: and 64 digits 0 to 9, a to f")))
    }
}

/// `host:port`; an IPv6 address stands in brackets.
pub(crate) fn host_port(field: &str, text: String) -> Result<String, Fault> {
    let fits = text.rsplit_once(':').is_some_and(|(host, port)| {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host_fits = match bare {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => host_name(host),
        };
        host_fits && port.parse::<u16>().is_ok_and(|port| port != 0)
    });
    if fits { Ok(text) } else { Err(Fault::new(field, format!("{text:?} is not host:port"))) }
}

fn host_name(host: &str) -> bool {
    let inside = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    (1..=253).contains(&host.len()) && host.chars().all(inside)
}

/// The pairs of a map, ascending.
pub(crate) fn write_map<K: fmt::Display>(map: &BTreeMap<K, String>) -> Vec<v1::Pair> {
    let pair =
        |(key, value): (&K, &String)| v1::Pair { key: key.to_string(), value: value.clone() };
    map.iter().map(pair).collect()
}

/// A map from pairs that ascend, so that no key comes twice.
pub(crate) fn read_map<K, E>(
    field: &str,
    pairs: Vec<v1::Pair>,
    key: impl Fn(&str) -> Result<K, E>,
) -> Result<BTreeMap<K, String>, Fault>
where
    K: Ord,
    E: fmt::Display,
{
    let mut map = BTreeMap::new();
    for pair in pairs {
        let path = format!("{field}.{}", pair.key);
        let key = key(&pair.key).map_err(|error| Fault::new(&path, error.to_string()))?;
        if map.last_key_value().is_some_and(|(last, _)| *last >= key) {
            return Err(Fault::new(&path, "comes twice or out of order"));
        }
        map.insert(key, plain(&path, pair.value)?);
    }
    Ok(map)
}

pub(crate) const fn write_revision(revision: Revision) -> v1::Revision {
    v1::Revision { number: revision.number, id: revision.id }
}

pub(crate) fn read_revision(revision: Option<v1::Revision>) -> Result<Revision, Fault> {
    let v1::Revision { number, id } = required("revision", revision)?;
    Ok(Revision { number, id })
}

pub(crate) const fn write_reservation(reservation: Reservation) -> v1::Reservation {
    v1::Reservation { cpu_millis: reservation.cpu.millis, memory_bytes: reservation.memory.0 }
}

pub(crate) fn read_reservation(
    field: &str,
    reservation: Option<v1::Reservation>,
) -> Result<Reservation, Fault> {
    let v1::Reservation { cpu_millis, memory_bytes } = required(field, reservation)?;
    Ok(Reservation { cpu: Cpu { millis: cpu_millis }, memory: Bytes(memory_bytes) })
}
