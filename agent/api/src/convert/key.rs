//! The keys of records.

use mesh_coordinator::catalogue::RecordKey;
use mesh_coordinator::id::{AppUid, SlotId, SlotIndex};
use mesh_coordinator::name::ServiceName;
use mesh_proto::v1;
use mesh_proto::v1::record_query::Key as Wire;

use super::value::{app, key, node, node_to_wire, slot, slot_to_wire, text, unknown};
use super::{Malformed, required};

pub(crate) fn to_wire(record: &RecordKey) -> v1::RecordQuery {
    let wire = match record {
        RecordKey::Genesis => Wire::Genesis(v1::Nothing {}),
        RecordKey::Recovery => Wire::Recovery(v1::Nothing {}),
        RecordKey::Settings => Wire::Settings(v1::Nothing {}),
        RecordKey::Operator(key) => Wire::Operator(key.0.to_vec()),
        RecordKey::OperatorRemoval(key) => Wire::OperatorRemoval(key.0.to_vec()),
        RecordKey::Invitation(key) => Wire::Invitation(key.0.to_vec()),
        RecordKey::Member(node) => Wire::Member(node_to_wire(*node)),
        RecordKey::MemberRemoval(node) => Wire::MemberRemoval(node_to_wire(*node)),
        RecordKey::Address(node) => Wire::Address(node_to_wire(*node)),
        RecordKey::Labels(node) => Wire::Labels(node_to_wire(*node)),
        RecordKey::Drain(node) => Wire::Drain(node_to_wire(*node)),
        RecordKey::App(app) => Wire::App(app.0.to_vec()),
        RecordKey::AppRemoval(app) => Wire::AppRemoval(app.0.to_vec()),
        RecordKey::SlotReset(app, service, number) => {
            let index = SlotIndex::Number(*number);
            Wire::SlotReset(slot_to_wire(&SlotId { app: *app, service: service.clone(), index }))
        }
        RecordKey::Scale(app, service) => Wire::Scale(service_to_wire(*app, service)),
        RecordKey::Restart(app, service) => Wire::Restart(service_to_wire(*app, service)),
        RecordKey::Run(app) => Wire::Run(app.0.to_vec()),
        RecordKey::Image(name) => Wire::Image(name.clone()),
    };
    v1::RecordQuery { key: Some(wire) }
}

pub(crate) fn from_wire(query: v1::RecordQuery) -> Result<RecordKey, Malformed> {
    Ok(match required("key", query.key)? {
        Wire::Genesis(v1::Nothing {}) => RecordKey::Genesis,
        Wire::Recovery(v1::Nothing {}) => RecordKey::Recovery,
        Wire::Settings(v1::Nothing {}) => RecordKey::Settings,
        Wire::Operator(bytes) => RecordKey::Operator(key("key.operator", &bytes)?),
        Wire::OperatorRemoval(bytes) => RecordKey::OperatorRemoval(key("key.operator", &bytes)?),
        Wire::Invitation(bytes) => RecordKey::Invitation(key("key.invitation", &bytes)?),
        Wire::Member(bytes) => RecordKey::Member(node("key.member", &bytes)?),
        Wire::MemberRemoval(bytes) => RecordKey::MemberRemoval(node("key.member", &bytes)?),
        Wire::Address(bytes) => RecordKey::Address(node("key.address", &bytes)?),
        Wire::Labels(bytes) => RecordKey::Labels(node("key.labels", &bytes)?),
        Wire::Drain(bytes) => RecordKey::Drain(node("key.drain", &bytes)?),
        Wire::App(bytes) => RecordKey::App(app("key.app", &bytes)?),
        Wire::AppRemoval(bytes) => RecordKey::AppRemoval(app("key.app", &bytes)?),
        Wire::SlotReset(wire) => {
            let SlotId { app, service, index } = slot("key.slot_reset", Some(wire))?;
            match index {
                SlotIndex::Number(number) => RecordKey::SlotReset(app, service, number),
                SlotIndex::Node(_) => return Err(unknown("key.slot_reset.index", 4)),
            }
        }
        Wire::Scale(service) => {
            let (app, service) = service_from_wire(&service)?;
            RecordKey::Scale(app, service)
        }
        Wire::Restart(service) => {
            let (app, service) = service_from_wire(&service)?;
            RecordKey::Restart(app, service)
        }
        Wire::Run(bytes) => RecordKey::Run(app("key.run", &bytes)?),
        Wire::Image(name) => RecordKey::Image(name),
    })
}

fn service_to_wire(app: AppUid, service: &ServiceName) -> v1::ServiceRef {
    v1::ServiceRef { app: app.0.to_vec(), service: service.as_str().to_owned() }
}

fn service_from_wire(wire: &v1::ServiceRef) -> Result<(AppUid, ServiceName), Malformed> {
    Ok((app("key.app", &wire.app)?, text("key.service", &wire.service)?))
}
