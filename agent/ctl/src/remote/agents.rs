//! Which agents are tried, and which are remembered.

use std::path::Path;

use mesh_api::client::AgentAddress;
use mesh_coordinator::catalogue::{Body, RecordKey};
use mesh_coordinator::id::NodeId;
use mesh_coordinator::view::{NodeStatus, Overview};
use mesh_identity::operator::{Context, ContextError, Contexts, KnownAgent};

use crate::mesh::{CallError, Mesh};

/// The most agents that are remembered: enough to survive any usual loss, and few enough to try them all.
const AGENTS_MAX: usize = 16;

/// The agents to try, in order. An agent that is named by hand may have any key that is known: the handshake finds out which.
pub(super) fn to_try(context: &Context, forced: Option<&str>) -> Vec<AgentAddress> {
    let known = context.agents.iter();
    match forced {
        None => known
            .map(|agent| AgentAddress { key: agent.key, address: agent.address.clone() })
            .collect(),
        Some(address) => {
            let mut keys: Vec<_> =
                known.map(|agent| (agent.address != address, agent.key)).collect();
            keys.sort();
            keys.dedup_by_key(|(_, key)| *key);
            let of = |key| AgentAddress { key, address: address.to_owned() };
            keys.into_iter().map(|(_, key)| of(key)).collect()
        }
    }
}

/// The agents worth remembering: the living first, the one that answered before all others. The key of an agent that was not
/// known is taken from its member record, whose signatures are checked.
pub(super) async fn alive<M: Mesh>(
    mesh: &M,
    context: &Context,
    overview: &Overview,
) -> Result<Vec<KnownAgent>, CallError> {
    let mut nodes: Vec<_> =
        overview.nodes.iter().filter(|node| !node.addresses.is_empty()).collect();
    nodes.sort_by_key(|node| (node.id != overview.seen_by, node.status != NodeStatus::Alive));
    let mut agents = Vec::new();
    for node in nodes.into_iter().take(AGENTS_MAX) {
        let known = context.agents.iter().find(|agent| NodeId::of(&agent.key) == node.id);
        let mut key = known.map(|agent| agent.key);
        if key.is_none()
            && let Some(entry) = mesh.record(&RecordKey::Member(node.id)).await?
            && let Body::Member(member) = entry.record.body
        {
            key = Some(member.key);
        }
        // The address that works from here is kept in front: the others may be known only inside.
        let kept = known.filter(|agent| node.addresses.contains(&agent.address));
        let address = kept.map(|agent| &agent.address).or_else(|| node.addresses.first());
        agents.extend(key.zip(address.cloned()).map(|(key, address)| KnownAgent { address, key }));
    }
    Ok(agents)
}

/// Writes the agents into the configuration file, whose other content stays.
pub(super) fn save(
    path: &Path,
    context: &Context,
    agents: Vec<KnownAgent>,
) -> Result<(), ContextError> {
    Contexts::edit(path, |contexts| {
        // Another agentctl may have removed or renamed it meanwhile: then there is nothing to remember.
        contexts.update(Context { agents, ..context.clone() });
        Ok(())
    })
}

#[cfg(test)]
mod tests;
