//! `agentctl events`: what happened on the mesh.

use tokio_stream::StreamExt as _;

use crate::failure::{Failure, Outcome};
use crate::mesh::{Happened, Mesh};
use crate::output::{json, of};
use crate::ui::Ui;

/// Show what happened on the mesh, oldest first.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: agentctl events -f")]
pub(crate) struct Args {
    /// Go on with new events until interrupted.
    #[arg(short, long)]
    follow: bool,
    /// How many past events.
    #[arg(short = 'n', long, default_value_t = 50, value_name = "N")]
    tail: usize,
}

/// Prints events; ends with 3 when the events of some nodes are missing.
pub(crate) async fn run<M: Mesh>(args: &Args, mesh: &M, ui: &mut Ui) -> Result<Outcome, Failure> {
    let overview = mesh.overview().await?;
    let mut events = mesh.events(args.tail, args.follow).await?;
    let mut outcome = Outcome::Done;
    while let Some(happened) = events.next().await {
        match happened? {
            Happened::Event(event) => {
                let event = of::event(&event, &overview);
                if ui.is_json() {
                    ui.json_line(&event)?;
                } else {
                    let json::Event { at, seen_by, severity, subject, text } = event;
                    ui.prose(format!("{at}  {severity:<7}  {seen_by}: {subject}: {text}"), 4)?;
                }
            }
            Happened::Silent { node, reason } => {
                outcome = Outcome::Partly;
                if ui.is_json() {
                    ui.json_line(&json::SilentNode { silent: node, reason })?;
                } else {
                    ui.warn(format!("the events of {node} are missing: {reason}"))?;
                }
            }
        }
    }
    Ok(outcome)
}
