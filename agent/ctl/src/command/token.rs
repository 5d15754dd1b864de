//! `agentctl token`: secrets that let servers join.

use std::time::Duration;

use mesh_coordinator::catalogue::{Body, Invitation, RecordKey};
use mesh_coordinator::id::PublicKey;
use mesh_coordinator::time::WallTime;
use mesh_coordinator::view::{NodeStatus, NodeView};

use crate::complete::{self, Kind, Which};
use crate::failure::{Failure, Outcome};
use crate::intent;
use crate::mesh::Mesh;
use crate::output::{json, of};
use crate::target;
use crate::ui::Ui;

/// Let servers join.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Print the line to type on a new server.
    #[command(after_help = "Example: agentctl token create --ttl 1h --uses 3")]
    Create(Args),
}

/// Make a token.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How long it can be used.
    #[arg(long, default_value = "1h", value_name = "TIME", value_parser = humantime::parse_duration)]
    ttl: Duration,
    /// How many servers may join by it.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    uses: u32,
    /// The node that redeems it; the one that answers if not given.
    #[arg(long, add = complete::of(Kind::Node(Which::All)))]
    node: Option<String>,
}

/// Does what was typed.
pub(crate) async fn run<M: Mesh>(
    command: &Command,
    mesh: &M,
    ui: &mut Ui,
) -> Result<Outcome, Failure> {
    match command {
        Command::Create(args) => create(args, mesh, ui).await,
    }
}

async fn create<M: Mesh>(args: &Args, mesh: &M, ui: &mut Ui) -> Result<Outcome, Failure> {
    let overview = mesh.overview().await?;
    let node = match &args.node {
        Some(name) => target::node(&overview, name)?,
        None => target::node(&overview, &overview.seen_by.to_string())?,
    };
    if node.status != NodeStatus::Alive {
        ui.warn(format!(
            "{} is {}: nobody can join by it now",
            node.name,
            of::node_status(node.status)
        ))?;
    }
    let Some(address) = node.addresses.first().cloned() else {
        return Err(Failure::failed(format!("the address of {} is not known", node.name))
            .next("agentctl token create --node NODE"));
    };
    let invited = mesh.invite(key_of(node, mesh).await?, address)?;
    let expires = WallTime(mesh.now().await?.0.saturating_add(of::millis(args.ttl)));
    let invitation = Invitation { key: invited.key, redeemer: node.id, expires, uses: args.uses };
    let submitted = intent::submit(mesh, vec![Body::Invitation(invitation)]).await?;
    // That a lonely node's disk is the only one is no news to who is about to add the next node.
    let outcome = match overview.nodes.len() {
        1 => Outcome::Done,
        _ => intent::report_stored(&submitted, &overview, ui)?,
    };
    let command = format!("agent join {} --token {}", invited.address, invited.token);
    if ui.is_json() {
        ui.json(&json::Token {
            token: invited.token,
            command,
            redeemer: node.name.to_string(),
            uses: args.uses,
            expires: of::moment(expires),
        })?;
        return Ok(outcome);
    }
    let uses = if args.uses == 1 { "once".to_owned() } else { format!("{} times", args.uses) };
    let ttl = humantime::format_duration(args.ttl);
    ui.note(format!(
        "type this on the new server; it works {uses}, for {ttl}, while {} lives:",
        node.name
    ))?;
    ui.line(command)?;
    Ok(outcome)
}

/// The key of a member, from its record.
async fn key_of<M: Mesh>(node: &NodeView, mesh: &M) -> Result<PublicKey, Failure> {
    match mesh.record(&RecordKey::Member(node.id)).await?.map(|entry| entry.record.body) {
        Some(Body::Member(member)) => Ok(member.key),
        _ => Err(Failure::failed(format!("the member record of {} is not there", node.name))
            .next("agentctl status")),
    }
}
