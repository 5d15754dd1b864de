//! Identities, names, slots, amounts and other small values.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use mesh_coordinator::catalogue::{Entry, Role, SignedBytes};
use mesh_coordinator::fact::Phase;
use mesh_coordinator::id::{
    AppUid, Hash, MeshId, NodeId, PublicKey, Revision, Signature, SlotId, SlotIndex,
};
use mesh_coordinator::spec::{
    Bytes, Cpu, Labels, Protocol, PublishMode, PublishedPort, Reservation,
};
use mesh_proto::v1;

use super::{Malformed, required};

/// Exactly `N` bytes.
pub(crate) fn array<const N: usize>(
    field: &'static str,
    bytes: &[u8],
) -> Result<[u8; N], Malformed> {
    <[u8; N]>::try_from(bytes).map_err(|_wrong_length| {
        Malformed::new(field, format!("has {} bytes where {N} are needed", bytes.len()))
    })
}

pub(crate) fn node(field: &'static str, bytes: &[u8]) -> Result<NodeId, Malformed> {
    array(field, bytes).map(NodeId::from_bytes)
}

pub(crate) fn nodes(field: &'static str, nodes: &[Vec<u8>]) -> Result<Vec<NodeId>, Malformed> {
    nodes.iter().map(|bytes| node(field, bytes)).collect()
}

pub(crate) fn key(field: &'static str, bytes: &[u8]) -> Result<PublicKey, Malformed> {
    array(field, bytes).map(PublicKey)
}

pub(crate) fn app(field: &'static str, bytes: &[u8]) -> Result<AppUid, Malformed> {
    array(field, bytes).map(AppUid)
}

pub(crate) fn hash(field: &'static str, bytes: &[u8]) -> Result<Hash, Malformed> {
    array(field, bytes).map(Hash)
}

pub(crate) fn hashes(field: &'static str, hashes: &[Vec<u8>]) -> Result<Vec<Hash>, Malformed> {
    hashes.iter().map(|bytes| hash(field, bytes)).collect()
}

pub(crate) fn mesh(field: &'static str, bytes: &[u8]) -> Result<MeshId, Malformed> {
    hash(field, bytes).map(MeshId)
}

pub(crate) fn signature(field: &'static str, bytes: &[u8]) -> Result<Signature, Malformed> {
    array(field, bytes).map(Signature)
}

/// A text that its type checks.
pub(crate) fn text<T>(field: &'static str, text: &str) -> Result<T, Malformed>
where
    T: FromStr<Err: Display>,
{
    text.parse().map_err(|error: T::Err| Malformed::new(field, error.to_string()))
}

pub(crate) fn node_to_wire(node: NodeId) -> Vec<u8> {
    node.as_bytes().to_vec()
}

pub(crate) fn hashes_to_wire(hashes: &[Hash]) -> Vec<Vec<u8>> {
    hashes.iter().map(|hash| hash.0.to_vec()).collect()
}

pub(crate) fn signed_to_wire(signed: &SignedBytes) -> v1::SignedRecord {
    v1::SignedRecord { bytes: signed.bytes.clone(), signature: signed.signature.0.to_vec() }
}

pub(crate) fn entries_to_wire(entries: &[Entry]) -> Vec<v1::SignedRecord> {
    entries.iter().map(|entry| signed_to_wire(&entry.signed)).collect()
}

pub(crate) fn signed(record: v1::SignedRecord) -> Result<SignedBytes, Malformed> {
    let signature = signature("record.signature", &record.signature)?;
    Ok(SignedBytes { bytes: record.bytes, signature })
}

pub(crate) fn slot_to_wire(slot: &SlotId) -> v1::SlotId {
    let index = match slot.index {
        SlotIndex::Number(number) => v1::slot_id::Index::Number(number),
        SlotIndex::Node(node) => v1::slot_id::Index::Node(node_to_wire(node)),
    };
    v1::SlotId {
        app: slot.app.0.to_vec(),
        service: slot.service.as_str().to_owned(),
        index: Some(index),
    }
}

pub(crate) fn slot(field: &'static str, slot: Option<v1::SlotId>) -> Result<SlotId, Malformed> {
    let slot = required(field, slot)?;
    let index = match required("slot.index", slot.index)? {
        v1::slot_id::Index::Number(number) => SlotIndex::Number(number),
        v1::slot_id::Index::Node(bytes) => SlotIndex::Node(node("slot.node", &bytes)?),
    };
    Ok(SlotId {
        app: app("slot.app", &slot.app)?,
        service: text("slot.service", &slot.service)?,
        index,
    })
}

pub(crate) const fn revision_to_wire(revision: Revision) -> v1::Revision {
    v1::Revision { number: revision.number, id: revision.id }
}

pub(crate) fn revision(
    field: &'static str,
    revision: Option<v1::Revision>,
) -> Result<Revision, Malformed> {
    let revision = required(field, revision)?;
    Ok(Revision { number: revision.number, id: revision.id })
}

pub(crate) const fn reservation_to_wire(amounts: Reservation) -> v1::Reservation {
    v1::Reservation { cpu_millis: amounts.cpu.millis, memory_bytes: amounts.memory.0 }
}

pub(crate) const fn reservation(amounts: v1::Reservation) -> Reservation {
    Reservation { cpu: Cpu { millis: amounts.cpu_millis }, memory: Bytes(amounts.memory_bytes) }
}

pub(crate) fn phase_to_wire(phase: Phase) -> i32 {
    i32::from(match phase {
        Phase::Intent => v1::claim::Phase::Intent,
        Phase::Starting => v1::claim::Phase::Starting,
        Phase::Ready => v1::claim::Phase::Ready,
        Phase::Unhealthy => v1::claim::Phase::Unhealthy,
        Phase::Failed => v1::claim::Phase::Failed,
        Phase::Ended => v1::claim::Phase::Ended,
        Phase::Released => v1::claim::Phase::Released,
    })
}

pub(crate) fn phase(field: &'static str, phase: i32) -> Result<Phase, Malformed> {
    match v1::claim::Phase::try_from(phase) {
        Ok(v1::claim::Phase::Intent) => Ok(Phase::Intent),
        Ok(v1::claim::Phase::Starting) => Ok(Phase::Starting),
        Ok(v1::claim::Phase::Ready) => Ok(Phase::Ready),
        Ok(v1::claim::Phase::Unhealthy) => Ok(Phase::Unhealthy),
        Ok(v1::claim::Phase::Failed) => Ok(Phase::Failed),
        Ok(v1::claim::Phase::Ended) => Ok(Phase::Ended),
        Ok(v1::claim::Phase::Released) => Ok(Phase::Released),
        Ok(v1::claim::Phase::Unspecified) | Err(_) => Err(unknown(field, phase)),
    }
}

pub(crate) fn role_to_wire(role: Role) -> i32 {
    i32::from(match role {
        Role::Viewer => v1::record::Role::Viewer,
        Role::Deployer => v1::record::Role::Deployer,
        Role::Admin => v1::record::Role::Admin,
    })
}

pub(crate) fn role(field: &'static str, role: i32) -> Result<Role, Malformed> {
    match v1::record::Role::try_from(role) {
        Ok(v1::record::Role::Viewer) => Ok(Role::Viewer),
        Ok(v1::record::Role::Deployer) => Ok(Role::Deployer),
        Ok(v1::record::Role::Admin) => Ok(Role::Admin),
        Ok(v1::record::Role::Unspecified) | Err(_) => Err(unknown(field, role)),
    }
}

pub(crate) fn port_to_wire(port: &PublishedPort) -> v1::PublishedPort {
    let protocol = match port.protocol {
        Protocol::Tcp => v1::published_port::Protocol::Tcp,
        Protocol::Udp => v1::published_port::Protocol::Udp,
    };
    let mode = match port.mode {
        PublishMode::Mesh => v1::published_port::Mode::Mesh,
        PublishMode::Host => v1::published_port::Mode::Host,
    };
    v1::PublishedPort {
        published: port.published.into(),
        target: port.target.into(),
        protocol: protocol.into(),
        mode: mode.into(),
    }
}

pub(crate) fn port(port: v1::PublishedPort) -> Result<PublishedPort, Malformed> {
    let protocol = match v1::published_port::Protocol::try_from(port.protocol) {
        Ok(v1::published_port::Protocol::Tcp) => Protocol::Tcp,
        Ok(v1::published_port::Protocol::Udp) => Protocol::Udp,
        Ok(v1::published_port::Protocol::Unspecified) | Err(_) => {
            return Err(unknown("port.protocol", port.protocol));
        }
    };
    let mode = match v1::published_port::Mode::try_from(port.mode) {
        Ok(v1::published_port::Mode::Mesh) => PublishMode::Mesh,
        Ok(v1::published_port::Mode::Host) => PublishMode::Host,
        Ok(v1::published_port::Mode::Unspecified) | Err(_) => {
            return Err(unknown("port.mode", port.mode));
        }
    };
    let published = port_number("port.published", port.published)?;
    let target = port_number("port.target", port.target)?;
    Ok(PublishedPort { published, target, protocol, mode })
}

/// A port that can be connected: 1 to 65535.
pub(crate) fn port_number(field: &'static str, number: u32) -> Result<u16, Malformed> {
    match u16::try_from(number) {
        Ok(port) if port > 0 => Ok(port),
        Ok(_) | Err(_) => Err(Malformed::new(field, format!("{number} is not a port"))),
    }
}

pub(crate) fn labels_to_wire(labels: &Labels) -> std::collections::HashMap<String, String> {
    labels.iter().map(|(key, value)| (key.as_str().to_owned(), value.clone())).collect()
}

pub(crate) fn labels(
    field: &'static str,
    labels: std::collections::HashMap<String, String>,
) -> Result<Labels, Malformed> {
    labels.into_iter().map(|(key, value)| Ok((text(field, &key)?, value))).collect()
}

pub(crate) fn sorted(pairs: std::collections::HashMap<String, String>) -> BTreeMap<String, String> {
    pairs.into_iter().collect()
}

/// Nanoseconds; more than 584 years are shown as that.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The digest of a blob: `sha256:` and 64 lower-case hexadecimal digits.
pub(crate) fn digest(field: &'static str, text: &str) -> Result<(), Malformed> {
    let hex = text.strip_prefix("sha256:").unwrap_or_default();
    let fits = hex.len() == 64 && hex.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
    if fits {
        Ok(())
    } else {
        Err(Malformed::new(field, "a digest is sha256: and 64 hexadecimal digits"))
    }
}

/// A value of an enumeration that a newer version may know.
pub(crate) fn unknown(field: &'static str, number: i32) -> Malformed {
    Malformed::new(field, format!("this version does not know the value {number}"))
}
