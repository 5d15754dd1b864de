//! What an operator wants, as records that follow those that were there.

use std::time::Duration;

use mesh_coordinator::catalogue::{Body, Entry, Record, Stamp};
use mesh_coordinator::clocks;
use mesh_coordinator::id::MeshId;
use mesh_coordinator::id::PublicKey;
use mesh_coordinator::time::WallTime;
use mesh_coordinator::view::Overview;
use mesh_ports::control::Submitted;

use crate::failure::{Failure, Outcome};
use crate::mesh::{CallError, Mesh, NEEDS_ROLE};
use crate::output::of;
use crate::ui::Ui;

/// Now, by this machine's wall clock: for agents that do not tell the time of the mesh.
pub(crate) fn own_clock() -> WallTime {
    WallTime(u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0))
}

/// What two clocks said at the same moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Times {
    /// `host:port` of the agent that told the time of the mesh.
    pub(crate) agent: String,
    /// What it said.
    pub(crate) told: WallTime,
    /// What this machine's clock said.
    pub(crate) own: WallTime,
}

impl Times {
    /// What is to be said of them; `None` when they agree. Which of them is right nobody knows here, so nothing is refused.
    pub(crate) fn doubt(&self) -> Option<String> {
        let apart = Duration::from_millis(self.told.0.abs_diff(self.own.0));
        if apart <= clocks::TOLERANCE {
            return None;
        }
        Some(format!(
            "note: the agent at {} says that it is {}, and this machine's clock says {}: {} apart. What was written now, and when a \
             token ends, goes by the agent's time; if that is wrong, look at its clock: agentctl status",
            self.agent,
            of::moment(self.told),
            of::moment(self.own),
            clocks::words(apart)
        ))
    }
}

/// Who writes, for which mesh, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Author {
    /// The mesh.
    pub(crate) mesh: MeshId,
    /// The operator's key.
    pub(crate) key: PublicKey,
    /// The time of the mesh.
    pub(crate) now: WallTime,
}

impl Author {
    /// The operator, now.
    pub(crate) async fn of<M: Mesh>(mesh: &M) -> Result<Self, CallError> {
        Ok(Self { mesh: mesh.mesh(), key: mesh.operator(), now: mesh.now().await? })
    }

    /// The record that says `body` and follows `parent`.
    pub(crate) fn follow(self, parent: Option<&Entry>, body: Body) -> Record {
        let before = parent.map(|entry| entry.record.stamp);
        let generation = before.map_or(1, |stamp| stamp.generation.saturating_add(1));
        // A clock that is behind must not make the record look older than what it follows.
        let written = before.map_or(self.now, |stamp| stamp.written.max(self.now));
        Record {
            mesh: self.mesh,
            stamp: Stamp { generation, written, tie: 0 },
            parent: parent.map(|entry| entry.hash),
            author: self.key,
            body,
        }
    }
}

/// Writes `bodies`, each after the record that now holds under its key.
pub(crate) async fn submit<M: Mesh>(mesh: &M, bodies: Vec<Body>) -> Result<Submitted, Failure> {
    let records = write(mesh, bodies).await?;
    hand_in(mesh, records).await
}

/// Writes them without handing them in.
pub(crate) async fn write<M: Mesh>(mesh: &M, bodies: Vec<Body>) -> Result<Vec<Record>, Failure> {
    let author = Author::of(mesh).await?;
    let mut records = Vec::new();
    for body in bodies {
        let parent = mesh.record(&body.key()).await?;
        records.push(author.follow(parent.as_ref(), body));
    }
    Ok(records)
}

/// Hands in records that were written here.
pub(crate) async fn hand_in<M: Mesh>(mesh: &M, records: Vec<Record>) -> Result<Submitted, Failure> {
    let submitted = mesh.submit(records).await?;
    if submitted.refused.is_empty() {
        return Ok(submitted);
    }
    let reasons: Vec<&str> = submitted.refused.iter().map(|(_, why)| why.as_str()).collect();
    let reason = reasons.join("; ");
    if reason.contains(NEEDS_ROLE) {
        return Err(CallError::Role { reason }.into());
    }
    Err(Failure::failed(format!("the mesh refused it: {reason}")))
}

/// Says where records are, and whether that is safe.
pub(crate) fn report_stored(
    submitted: &Submitted,
    overview: &Overview,
    ui: &mut Ui,
) -> Result<Outcome, Failure> {
    let names = of::node_names(overview, &submitted.stored_on);
    if names.len() >= 2 {
        return Ok(Outcome::Done);
    }
    let place = names.join(", ");
    let n_others = overview.nodes.len().saturating_sub(1);
    if n_others == 0 {
        ui.note(format!(
            "stored on {place} only, the one node of the mesh: it is lost with that disk"
        ))?;
        return Ok(Outcome::Done);
    }
    // Promise P1: whoever gets a 0 may lose any one node.
    let (verb, nodes) = if n_others == 1 { ("has not", "node") } else { ("have not", "nodes") };
    ui.warn(format!(
        "stored on one node only: {place}; the {n_others} other {nodes} {verb} confirmed it, so it is lost with that disk \
         until they do: agentctl status"
    ))?;
    Ok(Outcome::Partly)
}

#[cfg(test)]
mod tests;
