//! `agentctl logs`: what replicas print, wherever they run.
//!
//! Past lines of all replicas are sorted by time. When following, a replica's stream that ends (its container was replaced, its
//! node died) is opened again, and replicas that appear later are added.

mod follow;

use std::cmp::Reverse;
use std::time::Duration;

use mesh_coordinator::fact::Phase;
use mesh_coordinator::id::Revision;
use mesh_coordinator::time::WallTime;
use mesh_coordinator::view::{ClaimView, Overview, SlotView};
use mesh_ports::runtime::{LogLine, LogQuery, Output};
use tokio_stream::StreamExt as _;

use crate::complete::{self, Kind};
use crate::failure::{Failure, Outcome};
use crate::mesh::{CallError, Mesh, Place};
use crate::output::of;
use crate::target::{self, Target};
use crate::ui::Ui;

/// Past lines of one replica that are kept in memory to be sorted, whatever `-n` says.
const LINES_MAX: usize = 100_000;

/// Show what replicas print, all of them merged.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: agentctl logs -f blog/web")]
pub(crate) struct Args {
    /// Whose: app, app/service or app/service/index.
    #[arg(add = complete::of(Kind::Replicas))]
    target: Target,
    /// Go on with new lines until interrupted.
    #[arg(short, long)]
    follow: bool,
    /// How many past lines of each replica.
    #[arg(short = 'n', long, default_value_t = 200, value_name = "N")]
    tail: usize,
    /// Only lines since so long ago.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    since: Option<Duration>,
}

impl Args {
    fn query(&self, now: WallTime) -> LogQuery {
        let back = self.since.map(of::millis);
        let since = back.map(|back| WallTime(now.0.saturating_sub(back)));
        LogQuery { tail: Some(self.tail.min(LINES_MAX)), since, follow: false }
    }
}

/// Prints logs; ends with 3 when the logs of some replicas are missing.
pub(crate) async fn run<M: Mesh>(args: &Args, mesh: &M, ui: &mut Ui) -> Result<Outcome, Failure> {
    let overview = mesh.overview().await?;
    let sources = sources(&overview, &args.target)?;
    if args.follow {
        return follow::run(args, sources, mesh, ui).await;
    }
    if sources.is_empty() {
        return Err(Failure::usage(
            format!("{} has no replica now", args.target),
            format!("agentctl ps {}", args.target.app),
        ));
    }
    let query = args.query(mesh.now().await?);
    let mut lines = Vec::new();
    let mut missing = Vec::new();
    for source in &sources {
        match past(mesh, &source.place, query).await {
            Ok(own) => lines.extend(own.into_iter().map(|line| (source, line))),
            Err(error) => missing.push((source, error)),
        }
    }
    lines.sort_by_key(|(_, line)| line.written);
    for (source, line) in &lines {
        print(source, line, ui)?;
    }
    for (source, error) in &missing {
        ui.warn(format!("the log of {} on {} is missing: {error}", source.name, source.node))?;
    }
    Ok(match missing.len() {
        0 => Outcome::Done,
        n if n == sources.len() => Outcome::Failed,
        _ => Outcome::Partly,
    })
}

async fn past<M: Mesh>(
    mesh: &M,
    place: &Place,
    query: LogQuery,
) -> Result<Vec<LogLine>, CallError> {
    let mut stream = mesh.logs(place, query).await?;
    let mut lines = Vec::new();
    while let Some(line) = stream.next().await {
        lines.push(line?);
        if lines.len() >= LINES_MAX {
            break;
        }
    }
    Ok(lines)
}

/// A replica with a log.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Source {
    place: Place,
    /// Which definition its container was made from: another one is another log.
    revision: Revision,
    /// As people write it.
    name: String,
    /// The name of the node.
    node: String,
    /// What precedes each line.
    prefix: String,
}

/// The replicas that a target means, with prefixes of one width. A slot that moves has two, told apart by their nodes.
fn sources(overview: &Overview, target: &Target) -> Result<Vec<Source>, Failure> {
    let mut sources = Vec::new();
    for slot in target::slots(overview, target)? {
        let short = slot.name.split_once('/').map_or(slot.name.as_str(), |(_, rest)| rest);
        let claims = asked_first(slot);
        for claim in &claims {
            let prefix = match claims.len() {
                1 => short.to_owned(),
                _ => format!("{short} {}", claim.node_name),
            };
            sources.push(Source {
                place: Place { node: claim.node, slot: slot.slot.clone() },
                revision: claim.revision,
                name: slot.name.clone(),
                node: claim.node_name.to_string(),
                prefix,
            });
        }
    }
    let width = sources.iter().map(|source| source.prefix.len()).max().unwrap_or(0);
    for source in &mut sources {
        source.prefix = format!("{:<width$} | ", source.prefix);
    }
    Ok(sources)
}

/// Of each node that claims the slot the claim whose container the node shows: a ready one, else the newest.
fn asked_first(slot: &SlotView) -> Vec<&ClaimView> {
    let claims = slot.claims.iter().filter(|claim| claim.phase != Phase::Released);
    let mut claims: Vec<&ClaimView> = claims.collect();
    claims.sort_by_key(|claim| {
        (claim.node, claim.phase != Phase::Ready, Reverse(claim.revision.number))
    });
    claims.dedup_by_key(|claim| claim.node);
    claims
}

fn print(source: &Source, line: &LogLine, ui: &mut Ui) -> Result<(), Failure> {
    if ui.is_json() {
        return ui.json_line(&of::log_line(&source.name, line));
    }
    let bytes = [source.prefix.as_bytes(), &line.text, b"\n"].concat();
    match line.output {
        Output::Stdout => ui.pass_out(&bytes),
        Output::Stderr => ui.pass_err(&bytes),
    }
}
