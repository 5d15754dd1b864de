//! `agentctl operator`: who may give orders, and which.

mod add;
pub(super) mod keep;
mod remove;

use mesh_coordinator::catalogue::Role;
use mesh_identity::keys;

use crate::failure::{Failure, Outcome};
use crate::mesh::Mesh;
use crate::output::{json, of};
use crate::roll::{Roll, Seat};
use crate::ui::{Cell, Mood, Table, Ui, cell, table};

/// Look after those who may give orders, and their roles.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List operators.
    #[command(after_help = "Example: agentctl operator ls --all")]
    Ls(ListArgs),
    /// Make somebody an operator, or change an operator's role.
    Add(add::Args),
    /// Take an operator's right to do anything away, for good.
    Rm(remove::Args),
}

/// List operators.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// Those who were removed, too.
    #[arg(short, long)]
    all: bool,
}

/// A role, as it is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum RoleName {
    /// Look at everything but releases, which hold the values of environment variables.
    Viewer,
    /// And place, change, stop and remove apps, run commands in them, drain and label nodes.
    Deployer,
    /// And let servers and operators in, and remove them.
    Admin,
}

impl From<RoleName> for Role {
    fn from(name: RoleName) -> Self {
        match name {
            RoleName::Viewer => Self::Viewer,
            RoleName::Deployer => Self::Deployer,
            RoleName::Admin => Self::Admin,
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
        Command::Ls(args) => list(&args, mesh, ui).await,
        Command::Add(args) => add::run(&args, mesh, ui).await,
        Command::Rm(args) => remove::run(&args, mesh, ui).await,
    }
}

async fn list<M: Mesh>(args: &ListArgs, mesh: &M, ui: &mut Ui) -> Result<Outcome, Failure> {
    let roll = Roll::read(mesh).await?;
    let mut seats = roll.seats();
    if args.all {
        seats.extend(roll.removed());
    }
    if ui.is_json() {
        let operators = seats.iter().map(|seat| document(seat, &roll)).collect();
        ui.json(&json::Operators { operators })?;
    } else {
        ui.table(&rows(&seats, &roll))?;
    }
    Ok(Outcome::Done)
}

fn rows(seats: &[Seat], roll: &Roll) -> Table {
    let columns = &["OPERATOR", "ROLE", "FINGERPRINT OF THE KEY", "APPOINTED BY", "SINCE"];
    let mut table = table(columns).spare(&["SINCE", "APPOINTED BY"]);
    for seat in seats {
        let you = if seat.key == roll.me() { " (you)" } else { "" };
        let (role, mood) = if seat.removed {
            ("removed".to_owned(), Mood::Bad)
        } else {
            (seat.role.to_string(), Mood::Plain)
        };
        let by = seat.appointed_by.map_or_else(|| "init".to_owned(), |key| roll.name_of(&key));
        table.add_row(vec![
            Cell::new(format!("{}{you}", seat.name)),
            cell(role, mood),
            Cell::new(keys::fingerprint(&seat.key)),
            Cell::new(by),
            Cell::new(of::day(seat.since)),
        ]);
    }
    table
}

fn document(seat: &Seat, roll: &Roll) -> json::Operator {
    json::Operator {
        name: seat.name.to_string(),
        role: seat.role.to_string(),
        removed: seat.removed,
        you: seat.key == roll.me(),
        key: seat.key.to_string(),
        fingerprint: keys::fingerprint(&seat.key),
        appointed_by: seat.appointed_by.map(|key| roll.name_of(&key)),
        since: of::moment(seat.since),
    }
}
