//! `agentctl operator rm`: a key gives no orders any more.

use mesh_coordinator::catalogue::State;
use mesh_coordinator::id::PublicKey;
use mesh_identity::keys;

use super::keep::Removal;
use crate::command::Change;
use crate::complete::{self, Kind, Which};
use crate::failure::{Failure, Outcome};
use crate::intent;
use crate::mesh::Mesh;
use crate::output::of;
use crate::roll::{Roll, Seat};
use crate::target;
use crate::ui::Ui;

/// Take an operator's right to do anything away, for good: every agent refuses the key, and closes its connections.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "What the operator has set up stays as it is: apps, nodes, other operators. Join tokens that it made end.\n\
     The key cannot be let in again; its owner can make a new one.\n\n\
     Example: agentctl operator rm ben"
)]
pub(crate) struct Args {
    /// Which operator: a name, or the beginning of a key.
    #[arg(add = complete::of(Kind::Operator(Which::Active)))]
    operator: String,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
}

/// Asks, and removes the operator.
pub(super) async fn run<M: Mesh>(args: &Args, mesh: &M, ui: &mut Ui) -> Result<Outcome, Failure> {
    let roll = Roll::read(mesh).await?;
    roll.demand_admin()?;
    let seats = roll.seats();
    let seat = target::operator(&seats, &args.operator)?;
    if seat.key == roll.me() {
        return Err(Failure::usage(
            format!("{} is yourself: another admin has to", seat.name),
            "agentctl operator ls",
        ));
    }
    let removal = Removal::of(seat.key, &roll, mesh.now().await?)?;
    let records = intent::write(mesh, removal.bodies.clone()).await?;
    let after = roll
        .foresee(&records)
        .map_err(|refusal| Failure::failed(format!("the mesh would refuse it: {refusal}")))?;
    check(roll.state(), after, seat, removal.n_images)?;
    ui.consent_for_good(&meaning(seat, &removal), args.yes)?;
    let overview = mesh.overview().await?;
    let submitted = intent::hand_in(mesh, records).await?;
    let outcome = intent::report_stored(&submitted, &overview, ui)?;
    let stored = Some(of::stored(&submitted, &overview));
    Change { change: format!("removed {}", seat.name), stored, rollout: None }.print(ui)?;
    Ok(outcome)
}

/// That nothing goes but the operator: a removal cannot be taken back.
fn check(before: &State, after: State, seat: &Seat, n_images: usize) -> Result<(), Failure> {
    let mut expected = before.clone();
    expected.operators.remove(&seat.key);
    expected.removed_operators.insert(seat.key);
    // Invitations end on purpose, and image names may be too many.
    expected.invitations.clone_from(&after.invitations);
    if n_images > 0 {
        expected.images.clone_from(&after.images);
    }
    if expected == after {
        return Ok(());
    }
    let lost: Vec<PublicKey> = expected
        .operators
        .keys()
        .filter(|key| !after.operators.contains_key(*key))
        .copied()
        .collect();
    let what = match lost.as_slice() {
        [] => "other things would change with it".to_owned(),
        lost => {
            let names = expected.operators.iter().filter(|(key, _)| lost.contains(key));
            let names: Vec<&str> = names.map(|(_, operator)| operator.name.as_str()).collect();
            format!("{} would go as well", target::listed(&names))
        }
    };
    Err(Failure::failed(format!("{} cannot be removed by you: {what}", seat.name))
        .next("an admin who stands nearer to the first operator can: agentctl operator ls"))
}

/// What it means.
fn meaning(seat: &Seat, removal: &Removal) -> String {
    let Seat { name, role, .. } = seat;
    let mut text = format!(
        "{name} ({role}, key {}) is no operator any more: the key is refused for good, and to come back {name} needs a new one.",
        keys::fingerprint(&seat.key)
    );
    let mut stays = Vec::new();
    for (kind, names) in [("apps", &removal.apps), ("operators", &removal.operators)] {
        if !names.is_empty() {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            stays.push(format!("{kind} {}", target::listed(&names)));
        }
    }
    if removal.n_others > 0 {
        stays.push(counted(removal.n_others, "other record"));
    }
    if !stays.is_empty() {
        text.push_str(&format!(
            "\nWhat {name} has signed and holds now stays: {}.",
            stays.join("; ")
        ));
    }
    if removal.n_tokens > 0 {
        let tokens = counted(removal.n_tokens, "join token");
        text.push_str(&format!("\nOf what {name} has signed, {tokens} can be used no more."));
    }
    if removal.n_images > 0 {
        let images = counted(removal.n_images, "name");
        text.push_str(&format!(
            "\n{images} of images, the oldest, are forgotten: push those again that you place."
        ));
    }
    text
}

fn counted(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}
