//! `agentctl node`: labels, and servers that leave.

use std::str::FromStr;

use mesh_coordinator::catalogue::{Body, KeptRecord, NodeLabels, RecordKey};
use mesh_coordinator::id::NodeId;
use mesh_coordinator::spec::LabelKey;
use mesh_coordinator::view::{NodeStatus, NodeView, Overview};

use super::Change;
use crate::complete::{self, Kind, Which};
use crate::failure::{Failure, Outcome};
use crate::intent;
use crate::lease::Lease;
use crate::mesh::Mesh;
use crate::output::of;
use crate::target;
use crate::ui::Ui;

/// Look after nodes.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List nodes.
    #[command(after_help = "Example: agentctl node ls --output json")]
    Ls,
    /// Set and remove labels, and the weight in placement.
    #[command(after_help = "Example: agentctl node label alpha disk=ssd rack-")]
    Label(LabelArgs),
    /// End a node's membership: its key is refused from now on.
    #[command(after_help = "Example: agentctl node rm alpha")]
    Rm(RemoveArgs),
    /// Like rm, for a host that is destroyed: also where exclusive services lose most of their witnesses with it.
    #[command(after_help = "Example: agentctl node forget alpha")]
    Forget(RemoveArgs),
}

/// Set and remove labels.
#[derive(Debug, clap::Args)]
pub(crate) struct LabelArgs {
    /// Which node.
    #[arg(add = complete::of(Kind::Node(Which::All)))]
    node: String,
    /// KEY=VALUE sets a label, KEY- removes it.
    #[arg(required_unless_present = "weight", value_name = "KEY=VALUE|KEY-", add = complete::of(Kind::Label))]
    labels: Vec<Edit>,
    /// Its share in placement, in percent of a usual node.
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    weight: Option<u32>,
}

/// End a node's membership.
#[derive(Debug, clap::Args)]
pub(crate) struct RemoveArgs {
    /// Which node.
    #[arg(add = complete::of(Kind::Node(Which::All)))]
    node: String,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
}

/// A change to one label.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Edit {
    Set(LabelKey, String),
    Remove(LabelKey),
}

impl FromStr for Edit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let key = |key: &str| key.parse::<LabelKey>().map_err(|error| error.to_string());
        match (text.split_once('='), text.strip_suffix('-')) {
            (Some((name, value)), _) => Ok(Self::Set(key(name)?, value.to_owned())),
            (None, Some(name)) => Ok(Self::Remove(key(name)?)),
            (None, None) => Err(format!("{text:?} is neither KEY=VALUE nor KEY-")),
        }
    }
}

/// Does what was typed.
pub(crate) async fn run<M: Mesh>(
    command: Command,
    mesh: &M,
    ui: &mut Ui,
) -> Result<Outcome, Failure> {
    match command {
        Command::Ls => super::nodes::run(mesh, ui).await,
        Command::Label(args) => label(args, mesh, ui).await,
        Command::Rm(args) => remove(&args, false, mesh, ui).await,
        Command::Forget(args) => remove(&args, true, mesh, ui).await,
    }
}

async fn label<M: Mesh>(args: LabelArgs, mesh: &M, ui: &mut Ui) -> Result<Outcome, Failure> {
    let overview = mesh.overview().await?;
    let node = target::node(&overview, &args.node)?;
    let before = current(node, mesh).await?;
    let mut after = before.clone();
    for edit in args.labels {
        match edit {
            Edit::Set(key, value) => drop(after.labels.insert(key, value)),
            Edit::Remove(key) => {
                if after.labels.remove(&key).is_none() {
                    let known: Vec<&str> = after.labels.keys().map(LabelKey::as_str).collect();
                    let hint = target::hint(key.as_str(), &known);
                    return Err(Failure::usage(
                        format!("{} has no label {key}: {hint}", node.name),
                        "agentctl nodes",
                    ));
                }
            }
        }
    }
    after.weight = args.weight.unwrap_or(after.weight);
    let change = format!("labelled {}", node.name);
    if after == before {
        Change { change, stored: None, rollout: None }.print(ui)?;
        return Ok(Outcome::Done);
    }
    let submitted = intent::submit(mesh, vec![Body::Labels(after)]).await?;
    let outcome = intent::report_stored(&submitted, &overview, ui)?;
    let stored = Some(of::stored(&submitted, &overview));
    Change { change, stored, rollout: None }.print(ui)?;
    Ok(outcome)
}

/// The labels that the record says, which the next one must not lose.
async fn current<M: Mesh>(node: &NodeView, mesh: &M) -> Result<NodeLabels, Failure> {
    let entry = mesh.record(&RecordKey::Labels(node.id)).await?;
    Ok(match entry.map(|entry| entry.record.body) {
        Some(Body::Labels(labels)) => labels,
        _ => NodeLabels { node: node.id, labels: node.labels.clone(), weight: node.weight },
    })
}

async fn remove<M: Mesh>(
    args: &RemoveArgs,
    destroyed: bool,
    mesh: &M,
    ui: &mut Ui,
) -> Result<Outcome, Failure> {
    let overview = mesh.overview().await?;
    let node = target::node(&overview, &args.node)?;
    if destroyed && node.status == NodeStatus::Alive {
        return Err(Failure::failed(format!(
            "{} is alive, so its host is not destroyed: what it holds would run twice",
            node.name
        ))
        .next(format!("agentctl drain {0} && agentctl node rm {0}", node.name)));
    }
    let needing = needing(node, &overview, mesh).await?;
    if !needing.is_empty() && !destroyed {
        return Err(refusal(node, &needing));
    }
    ui.consent_for_good(&meaning(node, destroyed, &needing), args.yes)?;
    let keep = admitted_by(node, &overview, mesh).await?;
    let body = Body::MemberRemoval { node: node.id, keep, destroyed };
    let submitted = intent::submit(mesh, vec![body]).await?;
    let outcome = intent::report_stored(&submitted, &overview, ui)?;
    let stored = Some(of::stored(&submitted, &overview));
    let verb = if destroyed { "forgot" } else { "removed" };
    Change { change: format!("{verb} {}", node.name), stored, rollout: None }.print(ui)?;
    Ok(outcome)
}

/// The exclusive slots that would lose most of their witnesses with `node`.
async fn needing<M: Mesh>(
    node: &NodeView,
    overview: &Overview,
    mesh: &M,
) -> Result<Vec<Lease>, Failure> {
    let mut services = overview.apps.iter().flat_map(|app| &app.services);
    if !services.any(|service| service.guarantee.is_exclusive()) {
        return Ok(Vec::new());
    }
    let seen = super::leases::look(None, overview, mesh).await?;
    Ok(seen.leases.into_iter().filter(|lease| lease.needs(node.id)).collect())
}

fn refusal(node: &NodeView, needing: &[Lease]) -> Failure {
    let name = &node.name;
    let slots: Vec<&str> = needing.iter().map(|lease| lease.name.as_str()).collect();
    let why = Failure::failed(format!(
        "{name} cannot go: without it most witnesses of {} are gone, and what needs them stops",
        target::listed(&slots)
    ));
    why.next(if node.status == NodeStatus::Alive {
        format!(
            "agentctl leases shows their witnesses. Bring back those that are silent, or let another node join (agent join --witness-only is enough): \
             the mesh gives each slot three witnesses within a minute or two; then type this again. Or remove what needs {name}: agentctl rm {}",
            apps(needing)
        )
    } else {
        format!(
            "agentctl leases shows their witnesses. Bring {name} back, or those that are silent too; or, if its host is destroyed: agentctl node forget {name}"
        )
    })
}

/// The apps of some slots, each once.
fn apps(leases: &[Lease]) -> String {
    let names = leases.iter().filter_map(|lease| lease.name.split('/').next());
    let names: Vec<&str> = names.collect();
    target::listed(&names)
}

/// The records of the members that joined through `node`: they stay, and whoever joins through it later does not.
async fn admitted_by<M: Mesh>(
    node: &NodeView,
    overview: &Overview,
    mesh: &M,
) -> Result<Vec<KeptRecord>, Failure> {
    let mut keep = Vec::new();
    for other in overview.nodes.iter().filter(|other| other.id != node.id) {
        let entry = mesh.record(&RecordKey::Member(other.id)).await?;
        let entry = entry.filter(|entry| NodeId::of(&entry.record.author) == node.id);
        keep.extend(entry.map(|entry| KeptRecord { hash: entry.hash }));
    }
    Ok(keep)
}

/// What it means to remove a node.
fn meaning(node: &NodeView, destroyed: bool, needing: &[Lease]) -> String {
    let name = &node.name;
    let mut text = format!(
        "{name} ({}) will be no member any more: its key is refused for good, and to come back it has to join with a new one.",
        node.id
    );
    if node.n_claims > 0 {
        let replicas =
            if node.n_claims == 1 { "replica, which moves" } else { "replicas, which move" };
        text.push_str(&format!(
            "\nIt holds {} {replicas} only after it has gone; without a gap: agentctl drain {name} first.",
            node.n_claims
        ));
    }
    if destroyed {
        text.push_str("\nYou assert that its host is destroyed: if it still runs somewhere, exclusive apps can run twice.");
    }
    if !needing.is_empty() {
        let slots: Vec<&str> = needing.iter().map(|lease| lease.name.as_str()).collect();
        text.push_str(&format!(
            "\nMost witnesses of {} are gone then, so they stay down until their apps are removed and placed again: agentctl rm {}",
            target::listed(&slots),
            apps(needing)
        ));
    }
    text
}
