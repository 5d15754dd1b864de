//! The form of the operator's file.
//!
//! Version 1 knew one context for each mesh and called it by the mesh's name; it is read, and written again as version 2.

use std::collections::BTreeSet;

use mesh_coordinator::id::{Hash, MeshId, PublicKey};
use mesh_coordinator::name::MeshName;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Context, Contexts, KnownAgent, Newcomer};
use crate::keys::{self, KeyPair};
use crate::text;
use crate::wire::{Fault, Within as _, host_port, parsed};

/// The form that is written.
const VERSION: u32 = 2;

/// What every form has.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    current: Option<String>,
    /// A key that was made before its mesh was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    newcomer: Option<Operator>,
    contexts: Vec<Named>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    name: String,
    mesh: Identity,
    operator: Operator,
    agents: Vec<Agent>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Identity {
    id: String,
    name: String,
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

/// The first form; `current` is the id of a mesh in it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct First {
    #[serde(rename = "version")]
    _version: u32,
    #[serde(default)]
    current: Option<String>,
    meshes: Vec<FirstMesh>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FirstMesh {
    id: String,
    name: String,
    operator: Operator,
    agents: Vec<Agent>,
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

/// What is wrong with a file.
pub(super) enum ReadError {
    Syntax(serde_json::Error),
    Value(Fault),
}

impl From<serde_json::Error> for ReadError {
    fn from(error: serde_json::Error) -> Self {
        Self::Syntax(error)
    }
}

impl From<Fault> for ReadError {
    fn from(fault: Fault) -> Self {
        Self::Value(fault)
    }
}

pub(super) fn to_text(contexts: &Contexts) -> Result<Zeroizing<String>, serde_json::Error> {
    let file = File {
        version: VERSION,
        current: contexts.current.as_ref().map(ToString::to_string),
        newcomer: contexts.newcomer.as_ref().map(|one| write_operator(&one.name, &one.key)),
        contexts: contexts.contexts.iter().map(write_context).collect(),
    };
    serde_json::to_string_pretty(&file).map(|text| Zeroizing::new(text + "\n"))
}

pub(super) fn read(content: &str) -> Result<Contexts, ReadError> {
    match serde_json::from_str::<Versioned>(content)?.version {
        1 => Ok(read_first(serde_json::from_str(content)?)?),
        VERSION => Ok(read_second(serde_json::from_str(content)?)?),
        other => {
            let reason = format!("{other} is none of the versions that are known here, 1 and 2");
            Err(Fault::new("version", reason).into())
        }
    }
}

fn read_second(file: File) -> Result<Contexts, Fault> {
    let list = file.contexts.into_iter().enumerate();
    let contexts = list.map(|(place, one)| read_context(one).within(&format!("contexts[{place}]")));
    let contexts = contexts.collect::<Result<Vec<_>, _>>()?;
    let mut names = BTreeSet::new();
    if let Some(twin) = contexts.iter().find(|context| !names.insert(&context.name)) {
        return Err(Fault::new("contexts", format!("two have the name {}", twin.name)));
    }
    let current = file.current.map(|name| parsed::<MeshName>("current", &name)).transpose()?;
    if current.as_ref().is_some_and(|current| !names.contains(current)) {
        return Err(Fault::new("current", "is none of the contexts"));
    }
    let newcomer = file.newcomer.map(|one| {
        let (name, key) = read_operator(&one).within("newcomer")?;
        Ok::<_, Fault>(Newcomer { name, key })
    });
    Ok(Contexts { current, newcomer: newcomer.transpose()?, contexts })
}

fn read_first(file: First) -> Result<Contexts, Fault> {
    let current = file.current.map(|text| read_mesh_id("current", &text)).transpose()?;
    let mut contexts = Contexts::default();
    for (place, mesh) in file.meshes.into_iter().enumerate() {
        let FirstMesh { id, name, operator, agents } = mesh;
        let named = Named { name: name.clone(), mesh: Identity { id, name }, operator, agents };
        contexts.add(read_context(named).within(&format!("meshes[{place}]"))?);
    }
    let wanted = match current {
        Some(mesh) => contexts.contexts.iter().find(|context| context.mesh == mesh),
        None => contexts.contexts.first(),
    };
    if current.is_some() && wanted.is_none() {
        return Err(Fault::new("current", "is none of the meshes"));
    }
    contexts.current = wanted.map(|context| context.name.clone());
    Ok(contexts)
}

fn write_operator(name: &impl ToString, key: &KeyPair) -> Operator {
    Operator { name: name.to_string(), secret: text::to_hex(key.seed().as_slice()).into() }
}

fn write_context(context: &Context) -> Named {
    let agent =
        |agent: &KnownAgent| Agent { address: agent.address.clone(), key: agent.key.to_string() };
    Named {
        name: context.name.to_string(),
        mesh: Identity { id: context.mesh.to_string(), name: context.mesh_name.to_string() },
        operator: write_operator(&context.operator_name, &context.operator),
        agents: context.agents.iter().map(agent).collect(),
    }
}

fn read_operator(
    operator: &Operator,
) -> Result<(mesh_coordinator::name::OperatorName, KeyPair), Fault> {
    let seed = text::from_hex::<32>(&operator.secret.0).map(Zeroizing::new);
    let seed = seed.map_err(|reason| Fault::new("secret", reason))?;
    Ok((parsed("name", &operator.name)?, KeyPair::from_seed(&seed)))
}

fn read_context(one: Named) -> Result<Context, Fault> {
    let (operator_name, operator) = read_operator(&one.operator).within("operator")?;
    let agents = one.agents.iter().enumerate();
    let agents = agents.map(|(place, agent)| read_agent(agent).within(&format!("agents[{place}]")));
    Ok(Context {
        name: parsed("name", &one.name)?,
        mesh: read_mesh_id("mesh.id", &one.mesh.id)?,
        mesh_name: parsed("mesh.name", &one.mesh.name)?,
        operator_name,
        operator,
        agents: agents.collect::<Result<_, _>>()?,
    })
}

fn read_agent(agent: &Agent) -> Result<KnownAgent, Fault> {
    let key: PublicKey = parsed("key", &agent.key)?;
    if !keys::is_usable(&key) {
        return Err(Fault::new("key", "is not an Ed25519 public key"));
    }
    Ok(KnownAgent { address: host_port("address", agent.address.clone())?, key })
}

fn read_mesh_id(field: &str, text: &str) -> Result<MeshId, Fault> {
    let bytes = text::from_hex::<32>(text).map_err(|reason| Fault::new(field, reason))?;
    Ok(MeshId(Hash(bytes)))
}
