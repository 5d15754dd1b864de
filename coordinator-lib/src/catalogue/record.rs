//! The kinds of records, and what a signature covers.

use std::collections::BTreeSet;
use std::fmt;

use crate::id::{AppUid, Hash, MeshId, NodeId, PublicKey, Signature};
use crate::lease::exclusive::{Token, WitnessId};
use crate::name::{AppName, MeshName, NodeName, OperatorName, ServiceName};
use crate::spec::{AppSpec, Labels};
use crate::time::WallTime;

/// What a record is about. Two records with the same key compete.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecordKey {
    /// The birth of the mesh.
    Genesis,
    /// The root key was replaced: one record of every recovery key.
    Recovery,
    /// The mesh's own settings.
    Settings,
    /// An operator, by the hash of the key.
    Operator(PublicKey),
    /// The removal of an operator.
    OperatorRemoval(PublicKey),
    /// An invitation, by its public key.
    Invitation(PublicKey),
    /// The admission of a node.
    Member(NodeId),
    /// The removal of a node: absorbing.
    MemberRemoval(NodeId),
    /// The addresses of a node.
    Address(NodeId),
    /// The labels and weight of a node.
    Labels(NodeId),
    /// Whether a node is drained.
    Drain(NodeId),
    /// The current release of an app.
    App(AppUid),
    /// The removal of an app: absorbing.
    AppRemoval(AppUid),
    /// How many replicas a service has, whatever its release says.
    Scale(AppUid, ServiceName),
    /// The last reset of a slot.
    SlotReset(AppUid, ServiceName, u32),
    /// How often a service was restarted on request.
    Restart(AppUid, ServiceName),
    /// Whether an app is to run.
    Run(AppUid),
    /// Which image a name means.
    Image(String),
}

/// The order among records of one key: the causally later, then the later by the clock, then the larger hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp {
    /// One more than the parent's.
    pub generation: u64,
    /// When the author wrote it, by the author's wall clock. Decides only between concurrent edits.
    pub written: WallTime,
    /// Keeps concurrent records of one clock reading apart.
    pub tie: u32,
}

/// A record before it is signed: all that the signature covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The mesh for which it was written; all zero in the genesis record, whose hash names the mesh.
    pub mesh: MeshId,
    /// Its place in the order among records of its key.
    pub stamp: Stamp,
    /// The hash of the record that the author had read under this key; `None` when there was none.
    pub parent: Option<Hash>,
    /// Who wrote it.
    pub author: PublicKey,
    /// What it says; determines the key.
    pub body: Body,
}

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// The birth of the mesh.
    Genesis(Genesis),
    /// The root key is another one from now on.
    Recovery(Recovery),
    /// The mesh's settings.
    Settings(Settings),
    /// An operator and the role.
    Operator(Operator),
    /// An operator is no longer one.
    OperatorRemoval(OperatorRemoval),
    /// A node may join.
    Invitation(Invitation),
    /// A node has joined.
    Member(Member),
    /// A node is no longer a member. Who joined through it is void, whenever it arrives, unless it is listed.
    MemberRemoval {
        /// Which node.
        node: NodeId,
        /// The records of members that this node admitted and that stay.
        keep: Vec<KeptRecord>,
        /// True when the author asserts that the host is destroyed (`node forget`).
        destroyed: bool,
    },
    /// Where a node can be reached.
    Address(NodeAddress),
    /// Labels and weight of a node.
    Labels(NodeLabels),
    /// Whether a node is drained.
    Drain(Drain),
    /// A release of an app.
    App(Release),
    /// An app is removed.
    AppRemoval {
        /// Which app.
        app: AppUid,
        /// The name that it had; the number of removals of a name makes the next identity.
        name: AppName,
    },
    /// How many replicas.
    Scale(Scale),
    /// A slot gets another lease.
    SlotReset(SlotReset),
    /// How often restarted.
    Restart(Restart),
    /// Whether an app is to run.
    Run(Run),
    /// Which image a name means.
    Image {
        /// The name, as manifests write it.
        name: String,
        /// The digest of the image's manifest.
        digest: String,
    },
}

/// The birth of a mesh. Its hash is the mesh's identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Genesis {
    /// What people call the mesh.
    pub name: MeshName,
    /// The key of the first operator; its role is admin.
    pub root: PublicKey,
    /// The name of the first operator.
    pub root_name: OperatorName,
    /// The key that is kept offline and can replace the root.
    pub recovery: PublicKey,
    /// Random, so that two meshes made with the same keys differ.
    pub nonce: [u8; 16],
}

/// The root is replaced; written with the recovery key.
///
/// A recovery key is used once: it left its safe to be used, so the record names the next one, and no two rotations that follow
/// each other ever compete for one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// The key that is the root from now on; its role is admin.
    pub root: PublicKey,
    /// The name of the operator who holds it.
    pub root_name: OperatorName,
    /// The recovery key that counts from now on.
    pub recovery: PublicKey,
    /// The records of former roots that stay: the operators they made, the members they admitted, what they placed. All others are
    /// void, whenever they arrive. Empty when the root stays and only the recovery key is replaced.
    pub keep: Vec<KeptRecord>,
}

/// Settings that hold for the whole mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The pause between two rounds of gossip, in milliseconds.
    pub gossip_interval_ms: u32,
}

/// What an operator may do. The order is by power.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Read everything but releases, which hold the values of environment variables.
    Viewer,
    /// And place, scale, restart, stop and remove apps, drain nodes and label them, and execute commands in containers.
    Deployer,
    /// And admit and remove nodes and operators, and reset slots.
    Admin,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Viewer => "viewer",
            Self::Deployer => "deployer",
            Self::Admin => "admin",
        })
    }
}

/// An operator and the role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    /// The operator's key.
    pub key: PublicKey,
    /// The operator's name.
    pub name: OperatorName,
    /// What the operator may do.
    pub role: Role,
    /// The operator's records that stay although they take a higher role: what a demotion does not take back.
    pub keep: Vec<KeptRecord>,
}

/// The removal of an operator. All records of that author that are not listed are void, whenever they arrive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorRemoval {
    /// Who is removed.
    pub key: PublicKey,
    /// The records that stay.
    pub keep: Vec<KeptRecord>,
}

/// A record that outlives the removal of its author.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeptRecord {
    /// The hash of its signed bytes.
    pub hash: Hash,
}

/// A node may join: what a token stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invitation {
    /// The invitation's own public key; the token holds the private one.
    pub key: PublicKey,
    /// The one agent that may redeem it, and that counts its uses.
    pub redeemer: NodeId,
    /// After this moment of the mesh's time it is not redeemed.
    pub expires: WallTime,
    /// How many nodes may join by it.
    pub uses: u32,
}

/// A node has joined. Written and signed by the redeemer, or by the root operator for the first node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The node's key.
    pub key: PublicKey,
    /// The node's name.
    pub name: NodeName,
    /// The invitation by which it joined; `None` for a node that an admin admitted directly, as `init` does.
    pub invitation: Option<PublicKey>,
    /// The invitation's signature over (mesh, key, name); `None` exactly when `invitation` is.
    pub invited: Option<Signature>,
}

/// Where a node can be reached. Written by the node itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeAddress {
    /// Which node.
    pub node: NodeId,
    /// `host:port` of its gRPC API, best first; a host is an address or a name.
    pub api: Vec<String>,
    /// `host:port` of its gossip.
    pub gossip: String,
}

/// Labels and weight of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeLabels {
    /// Which node.
    pub node: NodeId,
    /// The labels that operators gave it.
    pub labels: Labels,
    /// Its share in placement, in percent of a usual node; at least 1.
    pub weight: u32,
}

/// Whether a node is drained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drain {
    /// Which node.
    pub node: NodeId,
    /// True while it shall hold nothing.
    pub drained: bool,
}

/// A release of an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// Which life of the name.
    pub app: AppUid,
    /// The release's number, `v1` upwards.
    pub version: u64,
    /// What to run.
    pub spec: AppSpec,
    /// Among whom the first witnesses of the app's exclusive slots are; empty when it has none. Frozen when the app is created: it
    /// is part of the app's identity.
    pub roster: BTreeSet<WitnessId>,
}

/// How many replicas a service has, whatever its release says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scale {
    /// Which app.
    pub app: AppUid,
    /// Which service.
    pub service: ServiceName,
    /// How many.
    pub replicas: u32,
}

/// How often a service was restarted on request; part of its revision, so that a restart is a rolling one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restart {
    /// Which app.
    pub app: AppUid,
    /// Which service.
    pub service: ServiceName,
    /// How often.
    pub count: u64,
}

/// An operator gives up the lease of a slot most of whose witnesses are lost, and says that whoever held it is dead. The slot gets another
/// one, with other witnesses.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SlotReset {
    /// Which app.
    pub app: AppUid,
    /// Which service.
    pub service: ServiceName,
    /// Which replica.
    pub number: u32,
    /// Tokens of the new lease are above this one; all that the old one can have had are below.
    pub after: Token,
    /// Among whom its first witnesses are; never empty.
    pub roster: BTreeSet<WitnessId>,
}

impl SlotReset {
    /// What tells its lease from others of the slot; never zero. Two operators who reset a slot on two sides of a split make two leases.
    #[must_use]
    pub fn id(&self) -> u64 {
        let witness =
            |it: &WitnessId| [it.node.as_bytes().as_slice(), &it.store.0.to_be_bytes()].concat();
        let roster: Vec<u8> = self.roster.iter().flat_map(witness).collect();
        Hash::of(&[b"mesh slot reset", &self.after.0.to_be_bytes(), &roster]).head().max(1)
    }
}

/// Whether an app is to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Which app.
    pub app: AppUid,
    /// False after `agentctl stop`.
    pub running: bool,
}

impl Body {
    /// The key under which this competes.
    #[must_use]
    pub fn key(&self) -> RecordKey {
        match self {
            Self::Genesis(_) => RecordKey::Genesis,
            Self::Recovery(_) => RecordKey::Recovery,
            Self::Settings(_) => RecordKey::Settings,
            Self::Operator(operator) => RecordKey::Operator(operator.key),
            Self::OperatorRemoval(removal) => RecordKey::OperatorRemoval(removal.key),
            Self::Invitation(invitation) => RecordKey::Invitation(invitation.key),
            Self::Member(member) => RecordKey::Member(NodeId::of(&member.key)),
            Self::MemberRemoval { node, .. } => RecordKey::MemberRemoval(*node),
            Self::Address(address) => RecordKey::Address(address.node),
            Self::Labels(labels) => RecordKey::Labels(labels.node),
            Self::Drain(drain) => RecordKey::Drain(drain.node),
            Self::App(release) => RecordKey::App(release.app),
            Self::AppRemoval { app, .. } => RecordKey::AppRemoval(*app),
            Self::SlotReset(reset) => {
                RecordKey::SlotReset(reset.app, reset.service.clone(), reset.number)
            }
            Self::Scale(scale) => RecordKey::Scale(scale.app, scale.service.clone()),
            Self::Restart(restart) => RecordKey::Restart(restart.app, restart.service.clone()),
            Self::Run(run) => RecordKey::Run(run.app),
            Self::Image { name, .. } => RecordKey::Image(name.clone()),
        }
    }

    /// The records that this one lets stay.
    #[must_use]
    pub fn keep(&self) -> &[KeptRecord] {
        match self {
            Self::Recovery(recovery) => &recovery.keep,
            Self::Operator(operator) => &operator.keep,
            Self::OperatorRemoval(removal) => &removal.keep,
            Self::MemberRemoval { keep, .. } => keep,
            Self::Genesis(_)
            | Self::Settings(_)
            | Self::Invitation(_)
            | Self::Member(_)
            | Self::Address(_)
            | Self::Labels(_)
            | Self::Drain(_)
            | Self::App(_)
            | Self::AppRemoval { .. }
            | Self::Scale(_)
            | Self::SlotReset(_)
            | Self::Restart(_)
            | Self::Run(_)
            | Self::Image { .. } => &[],
        }
    }

    /// Whether this takes something away for good. Such a record is taken even from an author who has written enough.
    #[must_use]
    pub const fn is_removal(&self) -> bool {
        matches!(
            self,
            Self::Recovery(_)
                | Self::OperatorRemoval(_)
                | Self::MemberRemoval { .. }
                | Self::AppRemoval { .. }
        )
    }
}

/// A record as it was signed, and as it travels and is stored: never encoded again, so that the signature stays true.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedBytes {
    /// The encoded [`Record`].
    pub bytes: Vec<u8>,
    /// The author's signature over `bytes`.
    pub signature: Signature,
}

impl SignedBytes {
    /// The hash by which the record is named.
    #[must_use]
    pub fn digest(&self) -> Hash {
        Hash::of(&[b"mesh record", &self.bytes])
    }
}

/// A record whose signature was checked.
///
/// Made only by the crate that holds the keys; whether the author had the right to write it is the catalogue's question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What the record says.
    pub record: Record,
    /// What was signed.
    pub signed: SignedBytes,
    /// The hash of `signed`, kept because it is asked for often.
    pub hash: Hash,
    /// True when [`Member::invited`] was checked against the invitation's key and verified; meaningless for other bodies.
    pub invitation_verified: bool,
}

impl Entry {
    /// The place of this entry in the order among entries of its key: total, since hashes differ.
    #[must_use]
    pub fn order(&self) -> (u64, u64, u32, Hash) {
        let Stamp { generation, written, tie } = self.record.stamp;
        if matches!(self.record.body, Body::Recovery(_)) {
            // A recovery key is used once: whoever uses it again later comes too late.
            return (generation, !written.0, !tie, Hash(self.hash.0.map(|byte| !byte)));
        }
        (generation, written.0, tie, self.hash)
    }
}
