//! Events, and the question for them.

use mesh_coordinator::event::{Event, Severity, Subject};
use mesh_coordinator::time::WallTime;
use mesh_proto::v1;
use mesh_proto::v1::event_item::Subject as Wire;

use super::value::{node, node_to_wire, slot, slot_to_wire, unknown};
use super::{Malformed, required};

pub(crate) fn to_wire(event: &Event) -> v1::EventItem {
    let severity = match event.severity {
        Severity::Info => v1::EventSeverity::Info,
        Severity::Warning => v1::EventSeverity::Warning,
        Severity::Error => v1::EventSeverity::Error,
    };
    let subject = match &event.subject {
        Subject::Mesh => Wire::Mesh(v1::Nothing {}),
        Subject::Node(node) => Wire::Node(node_to_wire(*node)),
        Subject::Slot(slot) => Wire::Slot(slot_to_wire(slot)),
    };
    v1::EventItem {
        at_ms: event.at.0,
        seen_by: node_to_wire(event.seen_by),
        severity: severity.into(),
        subject: Some(subject),
        text: event.text.clone(),
    }
}

pub(crate) fn from_wire(event: v1::EventItem) -> Result<Event, Malformed> {
    let severity = match v1::EventSeverity::try_from(event.severity) {
        Ok(v1::EventSeverity::Info) => Severity::Info,
        Ok(v1::EventSeverity::Warning) => Severity::Warning,
        Ok(v1::EventSeverity::Error) => Severity::Error,
        Ok(v1::EventSeverity::Unspecified) | Err(_) => {
            return Err(unknown("event.severity", event.severity));
        }
    };
    let subject = match required("event.subject", event.subject)? {
        Wire::Mesh(v1::Nothing {}) => Subject::Mesh,
        Wire::Node(bytes) => Subject::Node(node("event.node", &bytes)?),
        Wire::Slot(wire) => Subject::Slot(slot("event.slot", Some(wire))?),
    };
    Ok(Event {
        at: WallTime(event.at_ms),
        seen_by: node("event.seen_by", &event.seen_by)?,
        severity,
        subject,
        text: event.text,
    })
}
