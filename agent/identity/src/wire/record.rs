//! Records of the catalogue.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use mesh_coordinator::catalogue::{
    Body, Drain, Genesis, Invitation, KeptRecord, Member, NodeAddress, NodeLabels, Operator,
    OperatorRemoval, Record, Recovery, Release, Restart, Role, Run, Scale, Settings, SlotReset,
    Stamp,
};
use mesh_coordinator::id::{Hash, MeshId, NodeId};
use mesh_coordinator::lease::exclusive::WitnessId;
use mesh_coordinator::spec::LabelKey;
use mesh_coordinator::time::WallTime;
use mesh_proto::v1;
use mesh_proto::v1::record as wire;

use crate::record::ROSTER_LEN_MAX;

use super::{
    Fault, Within as _, app, array, digest, filled, host_port, key, lease, maybe_array, mesh, node,
    parsed, positive, read_map, required, signature, spec, write_map,
};

/// The highest format that is read.
pub(crate) const FORMAT_MAX: u32 = 2;
/// The format of most records.
const FORMAT: u32 = 1;
/// The format of a release with exclusive services. An agent that knows only the first would overlook what keeps them from running
/// twice, so it must not read such a release at all.
const FORMAT_EXCLUSIVE: u32 = 2;
/// What stands in place of the mesh in the record that makes it.
const NO_MESH: MeshId = MeshId(Hash([0; 32]));
/// The pauses between two rounds of gossip that make sense, in milliseconds.
const GOSSIP_INTERVAL_MS: RangeInclusive<u32> = 50..=60_000;
/// The most addresses of one node.
const ADDRESSES_MAX: usize = 16;
/// The longest name of an image.
const IMAGE_NAME_LEN_MAX: usize = 512;

pub(crate) fn write(record: &Record) -> v1::Record {
    let Stamp { generation, written, tie } = record.stamp;
    v1::Record {
        format: format_of(&record.body),
        mesh: record.mesh.0.0.to_vec(),
        stamp: Some(wire::Stamp { generation, written_ms: written.0, tie }),
        parent: record.parent.map(|hash| hash.0.to_vec()).unwrap_or_default(),
        author: record.author.0.to_vec(),
        body: Some(write_body(&record.body)),
    }
}

/// The lowest format that says `body`.
fn format_of(body: &Body) -> u32 {
    let is_exclusive = |release: &Release| {
        !release.roster.is_empty()
            || release.spec.services.values().any(|it| it.guarantee.is_exclusive())
    };
    let needs_more = matches!(body, Body::App(release) if is_exclusive(release));
    if needs_more { FORMAT_EXCLUSIVE } else { FORMAT }
}

pub(crate) fn read(record: v1::Record) -> Result<Record, Fault> {
    let format = record.format;
    let wire::Stamp { generation, written_ms, tie } = required("stamp", record.stamp)?;
    let read = Record {
        mesh: mesh(&record.mesh)?,
        stamp: Stamp { generation, written: WallTime(written_ms), tie },
        parent: maybe_array("parent", &record.parent)?.map(Hash),
        author: key("author", &record.author)?,
        body: read_body(required("body", record.body)?)?,
    };
    let needed = format_of(&read.body);
    if format < needed {
        let reason = format!("is {format}; a release with exclusive services has {needed}");
        return Err(Fault::new("format", reason));
    }
    match (&read.body, read.mesh == NO_MESH) {
        (Body::Genesis(_), false) => Err(Fault::new("mesh", "a genesis record has none yet")),
        (Body::Genesis(_), true) | (_, false) => Ok(read),
        (_, true) => Err(Fault::new("mesh", "is missing")),
    }
}

fn write_body(body: &Body) -> wire::Body {
    match body {
        Body::Genesis(genesis) => wire::Body::Genesis(write_genesis(genesis)),
        Body::Recovery(recovery) => wire::Body::Recovery(write_recovery(recovery)),
        Body::Settings(Settings { gossip_interval_ms }) => {
            wire::Body::Settings(wire::Settings { gossip_interval_ms: *gossip_interval_ms })
        }
        Body::Operator(operator) => wire::Body::Operator(write_operator(operator)),
        Body::OperatorRemoval(removal) => wire::Body::OperatorRemoval(wire::OperatorRemoval {
            key: removal.key.0.to_vec(),
            keep: write_kept(&removal.keep),
        }),
        Body::Invitation(invitation) => wire::Body::Invitation(write_invitation(invitation)),
        Body::Member(member) => wire::Body::Member(write_member(member)),
        Body::MemberRemoval { node, keep, destroyed } => {
            wire::Body::MemberRemoval(wire::MemberRemoval {
                node: node.as_bytes().to_vec(),
                destroyed: *destroyed,
                keep: write_kept(keep),
            })
        }
        Body::Address(address) => wire::Body::Address(write_address(address)),
        Body::Labels(labels) => wire::Body::Labels(write_labels(labels)),
        Body::Drain(Drain { node, drained }) => {
            wire::Body::Drain(wire::Drain { node: node.as_bytes().to_vec(), drained: *drained })
        }
        Body::App(release) => wire::Body::App(write_release(release)),
        Body::AppRemoval { app, name } => {
            wire::Body::AppRemoval(wire::AppRemoval { app: app.0.to_vec(), name: name.to_string() })
        }
        Body::Scale(scale) => wire::Body::Scale(write_scale(scale)),
        Body::SlotReset(reset) => wire::Body::SlotReset(write_slot_reset(reset)),
        Body::Restart(restart) => wire::Body::Restart(write_restart(restart)),
        Body::Run(Run { app, running }) => {
            wire::Body::Run(wire::Run { app: app.0.to_vec(), running: *running })
        }
        Body::Image { name, digest } => {
            wire::Body::Image(wire::Image { name: name.clone(), digest: digest.clone() })
        }
    }
}

fn read_body(body: wire::Body) -> Result<Body, Fault> {
    match body {
        wire::Body::Genesis(genesis) => read_genesis(&genesis).within("genesis"),
        wire::Body::Recovery(recovery) => read_recovery(&recovery).within("recovery"),
        wire::Body::Settings(settings) => read_settings(&settings).within("settings"),
        wire::Body::Operator(operator) => read_operator(&operator).within("operator"),
        wire::Body::OperatorRemoval(removal) => {
            read_operator_removal(&removal).within("operator_removal")
        }
        wire::Body::Invitation(invitation) => read_invitation(&invitation).within("invitation"),
        wire::Body::Member(member) => read_member(&member).within("member"),
        wire::Body::MemberRemoval(removal) => {
            read_member_removal(&removal).within("member_removal")
        }
        wire::Body::Address(address) => read_address(address).within("address"),
        wire::Body::Labels(labels) => read_labels(labels).within("labels"),
        wire::Body::Drain(wire::Drain { node: bytes, drained }) => {
            Ok(Body::Drain(Drain { node: node("node", &bytes).within("drain")?, drained }))
        }
        wire::Body::App(release) => read_release(release).within("app"),
        wire::Body::AppRemoval(removal) => read_app_removal(removal).within("app_removal"),
        wire::Body::Scale(scale) => read_scale(&scale).within("scale"),
        wire::Body::SlotReset(reset) => read_slot_reset(reset).within("slot_reset"),
        wire::Body::Restart(restart) => read_restart(&restart).within("restart"),
        wire::Body::Run(wire::Run { app: bytes, running }) => {
            Ok(Body::Run(Run { app: app(&bytes).within("run")?, running }))
        }
        wire::Body::Image(image) => read_image(image).within("image"),
    }
}

fn write_genesis(genesis: &Genesis) -> wire::Genesis {
    wire::Genesis {
        name: genesis.name.to_string(),
        root: genesis.root.0.to_vec(),
        root_name: genesis.root_name.to_string(),
        recovery: genesis.recovery.0.to_vec(),
        nonce: genesis.nonce.to_vec(),
    }
}

fn read_genesis(genesis: &wire::Genesis) -> Result<Body, Fault> {
    Ok(Body::Genesis(Genesis {
        name: parsed("name", &genesis.name)?,
        root: key("root", &genesis.root)?,
        root_name: parsed("root_name", &genesis.root_name)?,
        recovery: key("recovery", &genesis.recovery)?,
        nonce: array("nonce", &genesis.nonce)?,
    }))
}

fn write_recovery(recovery: &Recovery) -> wire::Recovery {
    wire::Recovery {
        root: recovery.root.0.to_vec(),
        root_name: recovery.root_name.to_string(),
        recovery: recovery.recovery.0.to_vec(),
        keep: write_kept(&recovery.keep),
    }
}

fn read_recovery(recovery: &wire::Recovery) -> Result<Body, Fault> {
    Ok(Body::Recovery(Recovery {
        root: key("root", &recovery.root)?,
        root_name: parsed("root_name", &recovery.root_name)?,
        recovery: key("recovery", &recovery.recovery)?,
        keep: read_kept(&recovery.keep)?,
    }))
}

fn read_settings(settings: &wire::Settings) -> Result<Body, Fault> {
    let interval = settings.gossip_interval_ms;
    if GOSSIP_INTERVAL_MS.contains(&interval) {
        return Ok(Body::Settings(Settings { gossip_interval_ms: interval }));
    }
    let (least, most) = (GOSSIP_INTERVAL_MS.start(), GOSSIP_INTERVAL_MS.end());
    let reason = format!("{interval} is not between {least} and {most}");
    Err(Fault::new("gossip_interval_ms", reason))
}

fn write_operator(operator: &Operator) -> wire::Operator {
    let role = match operator.role {
        Role::Viewer => wire::Role::Viewer,
        Role::Deployer => wire::Role::Deployer,
        Role::Admin => wire::Role::Admin,
    };
    wire::Operator {
        key: operator.key.0.to_vec(),
        name: operator.name.to_string(),
        role: role.into(),
        keep: write_kept(&operator.keep),
    }
}

fn read_operator(operator: &wire::Operator) -> Result<Body, Fault> {
    let role = match operator.role() {
        wire::Role::Viewer => Role::Viewer,
        wire::Role::Deployer => Role::Deployer,
        wire::Role::Admin => Role::Admin,
        wire::Role::Unspecified => return Err(Fault::new("role", "is none that is known here")),
    };
    let name = parsed("name", &operator.name)?;
    let keep = read_kept(&operator.keep)?;
    Ok(Body::Operator(Operator { key: key("key", &operator.key)?, name, role, keep }))
}

fn read_operator_removal(removal: &wire::OperatorRemoval) -> Result<Body, Fault> {
    let keep = read_kept(&removal.keep)?;
    Ok(Body::OperatorRemoval(OperatorRemoval { key: key("key", &removal.key)?, keep }))
}

fn read_member_removal(removal: &wire::MemberRemoval) -> Result<Body, Fault> {
    let keep = read_kept(&removal.keep)?;
    let node = node("node", &removal.node)?;
    Ok(Body::MemberRemoval { node, keep, destroyed: removal.destroyed })
}

fn write_kept(keep: &[KeptRecord]) -> Vec<Vec<u8>> {
    keep.iter().map(|kept| kept.hash.0.to_vec()).collect()
}

fn read_kept(keep: &[Vec<u8>]) -> Result<Vec<KeptRecord>, Fault> {
    keep.iter().map(|hash| Ok(KeptRecord { hash: Hash(array("keep", hash)?) })).collect()
}

fn write_invitation(invitation: &Invitation) -> wire::Invitation {
    wire::Invitation {
        key: invitation.key.0.to_vec(),
        redeemer: invitation.redeemer.as_bytes().to_vec(),
        expires_ms: invitation.expires.0,
        uses: invitation.uses,
    }
}

fn read_invitation(invitation: &wire::Invitation) -> Result<Body, Fault> {
    Ok(Body::Invitation(Invitation {
        key: key("key", &invitation.key)?,
        redeemer: node("redeemer", &invitation.redeemer)?,
        expires: WallTime(invitation.expires_ms),
        uses: positive("uses", invitation.uses)?,
    }))
}

fn write_member(member: &Member) -> wire::Member {
    wire::Member {
        key: member.key.0.to_vec(),
        name: member.name.to_string(),
        invitation: member.invitation.map(|key| key.0.to_vec()).unwrap_or_default(),
        invited: member.invited.map(|signature| signature.0.to_vec()).unwrap_or_default(),
    }
}

fn read_member(member: &wire::Member) -> Result<Body, Fault> {
    let (invitation, invited) = match (member.invitation.as_slice(), member.invited.as_slice()) {
        ([], []) => (None, None),
        ([], _) => return Err(Fault::new("invitation", "is missing")),
        (_, []) => return Err(Fault::new("invited", "is missing")),
        (by, invited) => (Some(key("invitation", by)?), Some(signature("invited", invited)?)),
    };
    let name = parsed("name", &member.name)?;
    Ok(Body::Member(Member { key: key("key", &member.key)?, name, invitation, invited }))
}

fn write_address(address: &NodeAddress) -> wire::Address {
    let node = address.node.as_bytes().to_vec();
    wire::Address { node, api: address.api.clone(), gossip: address.gossip.clone() }
}

fn read_address(address: wire::Address) -> Result<Body, Fault> {
    if address.api.len() > ADDRESSES_MAX {
        let found = address.api.len();
        return Err(Fault::new("api", format!("{found} addresses are more than {ADDRESSES_MAX}")));
    }
    let api = address.api.into_iter().map(|text| host_port("api", text));
    Ok(Body::Address(NodeAddress {
        node: node("node", &address.node)?,
        api: api.collect::<Result<_, _>>()?,
        gossip: host_port("gossip", address.gossip)?,
    }))
}

fn write_labels(labels: &NodeLabels) -> wire::NodeLabels {
    wire::NodeLabels {
        node: labels.node.as_bytes().to_vec(),
        labels: write_map(&labels.labels),
        weight: labels.weight,
    }
}

fn read_labels(labels: wire::NodeLabels) -> Result<Body, Fault> {
    Ok(Body::Labels(NodeLabels {
        node: node("node", &labels.node)?,
        labels: read_map("labels", labels.labels, str::parse::<LabelKey>)?,
        weight: positive("weight", labels.weight)?,
    }))
}

fn write_release(release: &Release) -> wire::Release {
    wire::Release {
        app: release.app.0.to_vec(),
        version: release.version,
        spec: Some(spec::write(&release.spec)),
        roster: lease::write_witnesses(&release.roster),
    }
}

fn read_release(release: wire::Release) -> Result<Body, Fault> {
    let read = Release {
        app: app(&release.app)?,
        version: positive("version", release.version)?,
        spec: spec::read(required("spec", release.spec)?).within("spec")?,
        roster: read_roster(release.roster)?,
    };
    if read.roster.is_empty() && read.spec.services.values().any(|it| it.guarantee.is_exclusive()) {
        return Err(Fault::new("roster", "there is none, and a service is exclusive"));
    }
    Ok(Body::App(read))
}

fn read_app_removal(removal: wire::AppRemoval) -> Result<Body, Fault> {
    Ok(Body::AppRemoval { app: app(&removal.app)?, name: parsed("name", &removal.name)? })
}

/// A node with two stores would have two votes.
fn read_roster(roster: Vec<v1::Witness>) -> Result<BTreeSet<WitnessId>, Fault> {
    let roster = lease::read_witnesses("roster", roster, ROSTER_LEN_MAX)?;
    let nodes: BTreeSet<NodeId> = roster.iter().map(|witness| witness.node).collect();
    if nodes.len() < roster.len() {
        return Err(Fault::new("roster", "has a node twice"));
    }
    Ok(roster)
}

fn write_scale(scale: &Scale) -> wire::Scale {
    wire::Scale {
        app: scale.app.0.to_vec(),
        service: scale.service.to_string(),
        replicas: scale.replicas,
    }
}

fn read_scale(scale: &wire::Scale) -> Result<Body, Fault> {
    Ok(Body::Scale(Scale {
        app: app(&scale.app)?,
        service: parsed("service", &scale.service)?,
        replicas: spec::replicas("replicas", scale.replicas)?,
    }))
}

fn write_slot_reset(reset: &SlotReset) -> wire::SlotReset {
    wire::SlotReset {
        app: reset.app.0.to_vec(),
        service: reset.service.to_string(),
        number: reset.number,
        after: reset.after.0,
        roster: lease::write_witnesses(&reset.roster),
    }
}

fn read_slot_reset(reset: wire::SlotReset) -> Result<Body, Fault> {
    let roster = read_roster(reset.roster)?;
    if roster.is_empty() {
        return Err(Fault::new("roster", "there is none"));
    }
    let (app, service) = (app(&reset.app)?, parsed("service", &reset.service)?);
    let after = lease::token("after", reset.after)?;
    Ok(Body::SlotReset(SlotReset { app, service, number: reset.number, after, roster }))
}

fn write_restart(restart: &Restart) -> wire::Restart {
    wire::Restart {
        app: restart.app.0.to_vec(),
        service: restart.service.to_string(),
        count: restart.count,
    }
}

fn read_restart(restart: &wire::Restart) -> Result<Body, Fault> {
    let service = parsed("service", &restart.service)?;
    Ok(Body::Restart(Restart { app: app(&restart.app)?, service, count: restart.count }))
}

fn read_image(image: wire::Image) -> Result<Body, Fault> {
    if image.name.len() > IMAGE_NAME_LEN_MAX {
        return Err(Fault::new("name", format!("is longer than {IMAGE_NAME_LEN_MAX} bytes")));
    }
    let name = filled("name", image.name)?;
    Ok(Body::Image { name, digest: digest("digest", image.digest)? })
}
