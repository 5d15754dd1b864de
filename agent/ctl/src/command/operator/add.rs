//! `agentctl operator add`: a key gets a name and a role.

use mesh_coordinator::catalogue::{Body, Operator, Refusal, Role};
use mesh_coordinator::id::{NodeId, PublicKey};
use mesh_coordinator::name::OperatorName;
use mesh_identity::keys;
use mesh_identity::operator::KnownAgent;

use super::RoleName;
use super::keep::Removal;
use crate::complete::{self, Kind, Which};
use crate::config;
use crate::failure::{Failure, Outcome};
use crate::intent;
use crate::mesh::Mesh;
use crate::output::{json, of};
use crate::roll::Roll;
use crate::target;
use crate::ui::Ui;

/// Make somebody an operator, or change an operator's role.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The key is made on the machine of whoever is to use it, and its private half stays there:\n  \
     1. there: agentctl login                   prints the line to type here, with the public key\n  \
     2. here:  agentctl operator add ...        prints the line to type there\n  \
     3. there: agentctl login HOST:PORT --pin PIN\n\
     Compare the fingerprint of the key with its owner before, over the telephone for instance.\n\n\
     Examples:\n  agentctl operator add ben --role deployer --key 1f0a...\n  agentctl operator add ben --role admin"
)]
pub(crate) struct Args {
    /// What the operator is called.
    #[arg(add = complete::of(Kind::Operator(Which::Active)))]
    name: OperatorName,
    /// What the operator may do.
    #[arg(long, value_enum)]
    role: RoleName,
    /// The operator's public key, 64 hexadecimal digits; not needed to change the role of one who is there.
    #[arg(long, value_parser = key)]
    key: Option<PublicKey>,
}

fn key(text: &str) -> Result<PublicKey, String> {
    let key: PublicKey =
        text.parse().map_err(|error: mesh_coordinator::id::ParseIdError| error.to_string())?;
    if keys::is_usable(&key) { Ok(key) } else { Err("it is not an Ed25519 public key".to_owned()) }
}

/// Writes the operator, and prints the line that the operator has to type.
pub(super) async fn run<M: Mesh>(args: &Args, mesh: &M, ui: &mut Ui) -> Result<Outcome, Failure> {
    let roll = Roll::read(mesh).await?;
    roll.demand_admin()?;
    let role = Role::from(args.role);
    let key = key_of(args, &roll)?;
    let mut wanted = Operator { key, name: args.name.clone(), role, keep: Vec::new() };
    let before = roll.state().operators.get(&wanted.key);
    let is_new = before.is_none_or(|it| (&it.name, it.role) != (&wanted.name, role));
    let overview = mesh.overview().await?;
    let mut stored = None;
    let mut outcome = Outcome::Done;
    if is_new {
        let mut bodies = Vec::new();
        if before.is_some_and(|it| it.role > role || !it.keep.is_empty()) {
            // What the operator has set up stays, as in a removal.
            let removal = Removal::of(wanted.key, &roll, mesh.now().await?)?;
            (wanted.keep, bodies) = removal.into_list();
        }
        bodies.push(Body::Operator(wanted.clone()));
        let records = intent::write(mesh, bodies).await?;
        roll.foresee(&records).map_err(|refusal| {
            if refusal == Refusal::Outranked {
                return without_effect();
            }
            Failure::failed(format!("the mesh would refuse it: {refusal}"))
        })?;
        let submitted = intent::hand_in(mesh, records).await?;
        outcome = intent::report_stored(&submitted, &overview, ui)?;
        stored = Some(of::stored(&submitted, &overview));
    }
    let change = format!("{} is {} of {}", wanted.name, with_article(role), overview.mesh_name);
    let way = way(&roll, overview.seen_by)
        .map(|agent| config::way(mesh.mesh(), &overview.mesh_name, &agent));
    if ui.is_json() {
        let (key, fingerprint) = (wanted.key.to_string(), keys::fingerprint(&wanted.key));
        ui.json(&json::OperatorAdded { change, stored, key, fingerprint, login: way })?;
        return Ok(outcome);
    }
    let already = if stored.is_none() { " already" } else { "" };
    ui.note(format!("{change}{already}, by the key {}", keys::fingerprint(&wanted.key)))?;
    match way {
        Some(way) => {
            ui.note(format!(
                "{} types this, unless agentctl knows the mesh there already:",
                wanted.name
            ))?;
            ui.line(way)?;
        }
        None => {
            ui.note("the address of the agent that answered is not known: agentctl context show")?;
        }
    }
    Ok(outcome)
}

/// Whose key it is: the one that was given, or that of the operator of this name.
fn key_of(args: &Args, roll: &Roll) -> Result<PublicKey, Failure> {
    let seats = roll.seats();
    let named = seats.iter().find(|seat| seat.name == args.name);
    let Some(key) = args.key else {
        return named.map(|seat| seat.key).ok_or_else(|| {
            let names: Vec<&str> = seats.iter().map(|seat| seat.name.as_str()).collect();
            let near = target::nearest(args.name.as_str(), &names);
            let hint = near.map_or_else(String::new, |name| format!(" (did you mean {name}?)"));
            let text = format!("{} is no operator yet{hint}: a new one needs --key KEY", args.name);
            Failure::usage(text, whole_line(&args.name))
        });
    };
    if roll.state().removed_operators.contains(&key) {
        let text =
            format!("this key was {} and was removed, which is for good", roll.name_of(&key));
        return Err(Failure::failed(text).next("its owner makes a new one: agentctl login"));
    }
    let node = NodeId::of(&key);
    let is_node =
        roll.state().nodes.contains_key(&node) || roll.state().removed_nodes.contains(&node);
    if is_node {
        return Err(Failure::usage(
            "this is the key of a node, which cannot be an operator's too",
            whole_line(&args.name),
        ));
    }
    match named.filter(|seat| seat.key != key) {
        Some(other) => Err(Failure::usage(
            format!(
                "{} is an operator already, by another key ({})",
                other.name,
                keys::fingerprint(&other.key)
            ),
            format!("take another name, or first: agentctl operator rm {}", other.name),
        )),
        None => Ok(key),
    }
}

/// Where the key comes from.
fn whole_line(name: &OperatorName) -> String {
    format!("on the machine of {name}: agentctl login, which prints the whole line")
}

/// The key is that of the root, whose role nobody changes.
fn without_effect() -> Failure {
    let text = "this would change nothing: the root of a mesh is an admin by its own name, until it is removed or replaced";
    Failure::failed(text).next("agentctl operator ls")
}

const fn with_article(role: Role) -> &'static str {
    match role {
        Role::Viewer => "a viewer",
        Role::Deployer => "a deployer",
        Role::Admin => "an admin",
    }
}

/// The agent that answered, as others can reach it.
fn way(roll: &Roll, agent: NodeId) -> Option<KnownAgent> {
    let node = roll.state().nodes.get(&agent)?;
    let address = node.address.as_ref()?.api.first()?.clone();
    Some(KnownAgent { address, key: node.key })
}
