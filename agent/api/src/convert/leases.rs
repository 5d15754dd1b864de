//! What nodes know of the leases of exclusive slots, and the question for it.

use std::time::Duration;

use mesh_coordinator::id::AppUid;
use mesh_coordinator::view::{Grant, LeaseView, Pursuit, Testimony};
use mesh_proto::v1;
use mesh_proto::v1::lease_seen;
use mesh_proto::v1::lease_seen::pursuit::Stage;

use super::lease::{configuration, configuration_to_wire, token};
use super::value::{app, nanos, node, node_to_wire, slot, slot_to_wire};
use super::{Malformed, required};
use crate::client::Lease;

pub(crate) fn query_to_wire(app: Option<AppUid>) -> v1::LeasesQuery {
    v1::LeasesQuery { app: app.map(|app| app.0.to_vec()).unwrap_or_default() }
}

pub(crate) fn query(query: &v1::LeasesQuery) -> Result<Option<AppUid>, Malformed> {
    match query.app.as_slice() {
        [] => Ok(None),
        bytes => app("leases.app", bytes).map(Some),
    }
}

pub(crate) fn told(told: v1::LeaseTold) -> Result<Lease, Malformed> {
    let lease = from_wire(required("told.lease", told.lease)?)?;
    Ok(Lease { node: node("told.node", &told.node)?, lease })
}

pub(crate) fn to_wire(view: &LeaseView) -> v1::LeaseSeen {
    let pursuit = view.pursuit.map(|pursuit| lease_seen::Pursuit {
        stage: Some(match pursuit {
            Pursuit::Asking => Stage::Asking(lease_seen::Asking {}),
            Pursuit::Holding { token, left } => {
                Stage::Holding(lease_seen::Holding { token: token.0, left_ns: nanos(left) })
            }
            Pursuit::Waiting { left } => {
                Stage::Waiting(lease_seen::Waiting { left_ns: nanos(left) })
            }
        }),
    });
    let testimony = view.testimony.map(|testimony| lease_seen::Testimony {
        vouches: testimony.vouches,
        grant: testimony.grant.map(|grant| lease_seen::Grant {
            node: node_to_wire(grant.node),
            token: grant.token.0,
            left_ns: nanos(grant.left),
        }),
        ended_ago_ns: testimony.ended_ago.map(nanos),
        promised: testimony.promised.map(node_to_wire).unwrap_or_default(),
    });
    v1::LeaseSeen {
        slot: Some(slot_to_wire(&view.slot)),
        name: view.name.clone(),
        wanted: view.wanted,
        reset: view.reset,
        configuration: Some(configuration_to_wire(&view.configuration)),
        pursuit,
        testimony,
    }
}

pub(crate) fn from_wire(seen: v1::LeaseSeen) -> Result<LeaseView, Malformed> {
    Ok(LeaseView {
        slot: slot("lease.slot", seen.slot)?,
        name: seen.name,
        wanted: seen.wanted,
        reset: seen.reset,
        configuration: configuration(required("lease.configuration", seen.configuration)?)?,
        pursuit: seen.pursuit.map(pursuit).transpose()?,
        testimony: seen.testimony.map(testimony).transpose()?,
    })
}

fn pursuit(seen: lease_seen::Pursuit) -> Result<Pursuit, Malformed> {
    Ok(match required("lease.pursuit", seen.stage)? {
        Stage::Asking(lease_seen::Asking {}) => Pursuit::Asking,
        Stage::Holding(holding) => Pursuit::Holding {
            token: token("holding.token", holding.token)?,
            left: Duration::from_nanos(holding.left_ns),
        },
        Stage::Waiting(waiting) => Pursuit::Waiting { left: Duration::from_nanos(waiting.left_ns) },
    })
}

fn testimony(seen: lease_seen::Testimony) -> Result<Testimony, Malformed> {
    let grant = |grant: lease_seen::Grant| {
        Ok(Grant {
            node: node("grant.node", &grant.node)?,
            token: token("grant.token", grant.token)?,
            left: Duration::from_nanos(grant.left_ns),
        })
    };
    Ok(Testimony {
        vouches: seen.vouches,
        grant: seen.grant.map(grant).transpose()?,
        ended_ago: seen.ended_ago_ns.map(Duration::from_nanos),
        promised: match seen.promised.as_slice() {
            [] => None,
            bytes => Some(node("testimony.promised", bytes)?),
        },
    })
}
