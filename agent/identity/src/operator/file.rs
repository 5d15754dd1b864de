//! The form of the operator's file.

use mesh_coordinator::id::{Hash, MeshId, PublicKey};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Context, Contexts, KnownAgent};
use crate::keys::{self, KeyPair};
use crate::text;
use crate::wire::{Fault, Within as _, host_port, parsed};

/// The form that is written and read.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    current: Option<String>,
    meshes: Vec<Mesh>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mesh {
    id: String,
    name: String,
    operator: Operator,
    agents: Vec<Agent>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Operator {
    name: String,
    secret: Secret,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Agent {
    address: String,
    key: String,
}

/// A text that is wiped when dropped.
#[derive(Deserialize)]
#[serde(from = "String")]
struct Secret(Zeroizing<String>);

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

impl Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

pub(super) fn to_text(contexts: &Contexts) -> Result<Zeroizing<String>, serde_json::Error> {
    let file = File {
        version: VERSION,
        current: contexts.current.map(|mesh| mesh.to_string()),
        meshes: contexts.contexts.iter().map(write_mesh).collect(),
    };
    serde_json::to_string_pretty(&file).map(|text| Zeroizing::new(text + "\n"))
}

pub(super) fn read(file: File) -> Result<Contexts, Fault> {
    if file.version != VERSION {
        let reason = format!("{} is not the version that is known here, {VERSION}", file.version);
        return Err(Fault::new("version", reason));
    }
    let meshes = file.meshes.iter().enumerate();
    let contexts = meshes.map(|(place, mesh)| read_mesh(mesh).within(&format!("meshes[{place}]")));
    let contexts = contexts.collect::<Result<Vec<_>, _>>()?;
    let current = match &file.current {
        Some(text) => Some(read_mesh_id("current", text)?),
        None => contexts.first().map(|context| context.mesh),
    };
    if current.is_some_and(|current| contexts.iter().all(|context| context.mesh != current)) {
        return Err(Fault::new("current", "is none of the meshes"));
    }
    Ok(Contexts { current, contexts })
}

fn write_mesh(context: &Context) -> Mesh {
    let agent =
        |agent: &KnownAgent| Agent { address: agent.address.clone(), key: agent.key.to_string() };
    Mesh {
        id: context.mesh.to_string(),
        name: context.mesh_name.to_string(),
        operator: Operator {
            name: context.operator_name.to_string(),
            secret: text::to_hex(context.operator.seed().as_slice()).into(),
        },
        agents: context.agents.iter().map(agent).collect(),
    }
}

fn read_mesh(mesh: &Mesh) -> Result<Context, Fault> {
    let seed = text::from_hex::<32>(&mesh.operator.secret.0).map(Zeroizing::new);
    let seed = seed.map_err(|reason| Fault::new("operator.secret", reason))?;
    let agents = mesh.agents.iter().enumerate();
    let agents = agents.map(|(place, agent)| read_agent(agent).within(&format!("agents[{place}]")));
    Ok(Context {
        mesh: read_mesh_id("id", &mesh.id)?,
        mesh_name: parsed("name", &mesh.name)?,
        operator_name: parsed("operator.name", &mesh.operator.name)?,
        operator: KeyPair::from_seed(&seed),
        agents: agents.collect::<Result<_, _>>()?,
    })
}

fn read_agent(agent: &Agent) -> Result<KnownAgent, Fault> {
    let key: PublicKey = parsed("key", &agent.key)?;
    if keys::point(&key).is_none() {
        return Err(Fault::new("key", "is not an Ed25519 public key"));
    }
    Ok(KnownAgent { address: host_port("address", agent.address.clone())?, key })
}

fn read_mesh_id(field: &str, text: &str) -> Result<MeshId, Fault> {
    let bytes = text::from_hex::<32>(text).map_err(|reason| Fault::new(field, reason))?;
    Ok(MeshId(Hash(bytes)))
}
