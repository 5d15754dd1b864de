//! `agentctl slot`: what only an operator can decide about one replica.

use mesh_coordinator::catalogue::{Body, SlotReset};
use mesh_coordinator::id::{NodeId, SlotIndex};
use mesh_coordinator::lease::exclusive::{LEAP_MAX, Token};
use mesh_coordinator::view::{NodeStatus, Overview, SlotView};

use super::Change;
use crate::complete::{self, Kind};
use crate::failure::{Failure, Outcome};
use crate::intent;
use crate::mesh::Mesh;
use crate::output::of;
use crate::roll::Roll;
use crate::roster;
use crate::target::{self, Target};
use crate::ui::Ui;

/// Look after single replicas.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Give an exclusive replica a new lease, when most witnesses of its last one are lost for good.
    #[command(after_help = "Example: agentctl slot force-reset shop/db/0")]
    ForceReset(ForceResetArgs),
}

/// Give an exclusive replica a new lease.
#[derive(Debug, clap::Args)]
pub(crate) struct ForceResetArgs {
    /// The replica, as app/service/index.
    #[arg(value_name = "SLOT", add = complete::of(Kind::Slot))]
    slot: Target,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
}

/// Does what was typed.
pub(crate) async fn run<M: Mesh>(
    command: Command,
    mesh: &M,
    ui: &mut Ui,
) -> Result<Outcome, Failure> {
    match command {
        Command::ForceReset(args) => force_reset(&args, mesh, ui).await,
    }
}

async fn force_reset<M: Mesh>(
    args: &ForceResetArgs,
    mesh: &M,
    ui: &mut Ui,
) -> Result<Outcome, Failure> {
    let overview = mesh.overview().await?;
    let slot = target::slot(&overview, &args.slot)?;
    refuse_held(&overview, slot)?;
    let roll = Roll::read(mesh).await?;
    let Some(app) = roll.state().apps.get(&slot.slot.app) else {
        return Err(Failure::failed(format!("{} is gone", slot.name)).next("agentctl ps"));
    };
    let spec = app.release.spec.service(&slot.slot.service);
    let SlotIndex::Number(number) = slot.slot.index else { return Err(is_available(slot)) };
    if !spec.is_some_and(|spec| spec.guarantee.is_exclusive()) {
        return Err(is_available(slot));
    }
    let roster = roster::choose(&app.release.spec.name, &overview)?;
    let former = roll.state().former_tokens(app, &slot.slot);
    let reset = SlotReset {
        app: slot.slot.app,
        service: slot.slot.service.clone(),
        number,
        // No lease uses up so many.
        after: Token(former.0.saturating_add(LEAP_MAX)),
        roster,
    };
    ui.consent_for_good(&meaning(slot, &reset, &overview), args.yes)?;
    let submitted = intent::submit(mesh, vec![Body::SlotReset(reset)]).await?;
    let outcome = intent::report_stored(&submitted, &overview, ui)?;
    let stored = Some(of::stored(&submitted, &overview));
    Change { change: format!("reset {}", slot.name), stored, rollout: None }.print(ui)?;
    Ok(outcome)
}

fn is_available(slot: &SlotView) -> Failure {
    let text = format!("{} is not exclusive, so it has no lease that could be lost", slot.name);
    Failure::usage(text, format!("agentctl why {}", slot.name))
}

/// What a node that lives holds is not lost.
fn refuse_held(overview: &Overview, slot: &SlotView) -> Result<(), Failure> {
    let lives = |id: NodeId| {
        overview.nodes.iter().find(|node| node.id == id && node.status == NodeStatus::Alive)
    };
    let mut holders = slot.claims.iter().filter(|claim| claim.phase.holds());
    let Some(holder) = holders.find_map(|claim| lives(claim.node)) else { return Ok(()) };
    let text = format!(
        "{} has its lease: {}, which is alive, holds it. A new one would stop it for nothing",
        slot.name, holder.name
    );
    Err(Failure::failed(text).next(format!("agentctl why {}", slot.name)))
}

/// What it means, and what is asserted by it.
fn meaning(slot: &SlotView, reset: &SlotReset, overview: &Overview) -> String {
    let witnesses: Vec<NodeId> = reset.roster.iter().map(|witness| witness.node).collect();
    let witnesses = of::node_names(overview, &witnesses).join(", ");
    let silent = overview.nodes.iter().filter(|node| node.status != NodeStatus::Alive);
    let silent: Vec<&str> = silent.map(|node| node.name.as_str()).collect();
    let doubt = match silent.as_slice() {
        [] => "All nodes are heard: wait a minute before, since a holder replaces lost witnesses itself.".to_owned(),
        [one] => format!("{one} is not heard: see that its host is off before you go on."),
        many => format!("{} are not heard: see that their hosts are off before you go on.", many.join(", ")),
    };
    format!(
        "{name} gives up its lease and gets a new one, with witnesses among {witnesses}.\n\
         You assert that most witnesses of its last lease are lost for good, and that whoever held it is dead. If it still runs \
         somewhere and reaches them, it runs twice from then on, and both write.\n{doubt}",
        name = slot.name
    )
}
