//! `agentctl recover`: the root's key is replaced, by means of the recovery key that `agent init` showed.
//!
//! The recovery key is typed in or read from a file, never given as an argument, where other users of the machine and the shell's
//! history would see it. It is used once: the command makes the next one and shows it before anything is handed in, and it stores
//! the new root's key before that as well, so that neither can be lost between the mesh's yes and this machine's disk.

mod plan;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use mesh_coordinator::catalogue::Body;
use mesh_coordinator::name::{MeshName, OperatorName};
use mesh_identity::keys::{self, KeyPair};
use mesh_identity::operator::{Context, ContextError, Contexts, KnownAgent};
use mesh_identity::recovery;
use zeroize::Zeroizing;

use self::plan::Plan;
use super::compare_clocks;
use crate::cli::Global;
use crate::complete::{self, Kind, Which};
use crate::config;
use crate::failure::{Failure, Outcome};
use crate::intent;
use crate::mesh::{CallError, Mesh};
use crate::output::{json, of};
use crate::remote::Remote;
use crate::roll::Roll;
use crate::target;
use crate::ui::Ui;

/// More than any recovery key has: keeps a wrong file from being read.
const KEY_LEN_MAX: u64 = 4 << 10;

/// Replace the root's key, lost or stolen, by means of the recovery key.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The root is the first operator, whose key agent init made; the recovery key is what it showed then. Any agent takes \
     it:\nafterwards the old root's key is refused everywhere, a new one is in the configuration file here, and the next\n\
     recovery key is shown once. What the old root has set up stays as it is, but for what is named here; what is signed\n\
     with its key from now on is void. Any configuration file that knows the mesh will do, or --agent with --pin.\n\n\
     Examples:\n  agentctl recover --dry-run < key.txt\n  agentctl recover --key-file key.txt --drop mallory --restore ben"
)]
pub(crate) struct Args {
    /// The file with the recovery key; standard input if not given.
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// What the new root is called; like the old one if not given.
    #[arg(long)]
    name: Option<OperatorName>,
    /// An operator whom the old root made and who goes with it, with all that it has set up; several times for several.
    #[arg(long, value_name = "OPERATOR", add = complete::of(Kind::Operator(Which::Active)))]
    drop: Vec<String>,
    /// An operator whom the old root removed and who comes back; several times for several.
    #[arg(long, value_name = "OPERATOR", add = complete::of(Kind::Operator(Which::Inactive)))]
    restore: Vec<String>,
    /// Which mesh, and the key of the agent at --agent, when no configuration file knows them: from agentctl context show.
    #[arg(long, requires = "agent")]
    pin: Option<String>,
    /// Show what would change, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
}

/// Replaces the root.
pub(crate) async fn run(args: &Args, global: &Global, ui: &mut Ui) -> Result<Outcome, Failure> {
    let path = config::path(global)?;
    let recovery = read_key(args, ui)?;
    let way = way(args, global, &path, recovery)?;
    let remote = Remote::of(path.clone(), way.clone(), global.agent.as_deref());
    let roll = Roll::read(&remote).await.map_err(explain)?;
    let new = |what| {
        let failed = |error| Failure::failed(format!("{what} could not be made: {error}"));
        KeyPair::generate().map_err(failed)
    };
    let keys = (new("the root's key")?, new("the recovery key")?);
    let now = remote.now().await?;
    let plan = Plan::of(args, &roll, (&keys.0.public(), &keys.1.public()), now)?;
    if args.dry_run {
        show(&plan, ui)?;
        return finish(&plan, None, ui).map(|()| Outcome::Done);
    }
    ui.consent_for_good(&plan.meaning(), args.yes)?;
    let root = Context {
        name: plan.mesh_name.clone(),
        mesh_name: plan.mesh_name.clone(),
        operator_name: plan.name.clone(),
        operator: keys.0,
        ..way
    };
    let (name, before) = store(&path, root.clone())?;
    let next = recovery::to_text(&keys.1);
    if !ui.is_json() {
        ui.note(
            "the next recovery key, shown only now; it counts as soon as the mesh has the change:",
        )?;
        ui.line(next.as_str())?;
    }
    let overview = remote.overview().await?;
    let submitted = match intent::hand_in(&remote, vec![plan.record.clone()]).await {
        Ok(submitted) => submitted,
        Err(failure) => {
            return Err(failure.next(format!(
                "agentctl --context {name} status shows whether the mesh has the change all the same; if not, agentctl context rm {name}"
            )));
        }
    };
    compare_clocks(&remote, ui).await?;
    let outcome = intent::report_stored(&submitted, &overview, ui)?;
    let name = settle(&path, &roll, name, before)?;
    let outcome = outcome.and(end_tokens(&path, root, &plan, ui).await?);
    let stored = of::stored(&submitted, &overview);
    finish(&plan, Some(&Done { stored, context: name, next }), ui)?;
    Ok(outcome)
}

/// The mesh answers only the recovery key that counts.
fn explain(error: CallError) -> Failure {
    if let CallError::Stranger { .. } = error {
        let text = "the mesh does not know this as its recovery key: it was used already, and works only once, or it is of another mesh";
        return Failure::failed(text)
            .next("if it was used, the one that agentctl recover showed then counts now");
    }
    error.into()
}

/// What came of it.
struct Done {
    stored: json::Stored,
    context: MeshName,
    next: Zeroizing<String>,
}

fn read_key(args: &Args, ui: &mut Ui) -> Result<KeyPair, Failure> {
    let mut text = Zeroizing::new(String::new());
    let (name, read) = match &args.key_file {
        Some(path) => {
            let open =
                File::open(path).and_then(|file| file.take(KEY_LEN_MAX).read_to_string(&mut text));
            (path.display().to_string(), open)
        }
        None => {
            if io::IsTerminal::is_terminal(&io::stdin()) {
                ui.warn("the recovery key (14 groups of 4 characters):")?;
                ("standard input".to_owned(), io::stdin().read_line(&mut text))
            } else {
                let read = io::stdin().take(KEY_LEN_MAX).read_to_string(&mut text);
                ("standard input".to_owned(), read)
            }
        }
    };
    read.map_err(|error| {
        let guess = args.key_file.as_deref().map(target::path::guess).unwrap_or_default();
        Failure::usage(
            format!("{name} cannot be read: {error}{guess}"),
            "agentctl recover --key-file FILE, or agentctl recover to type the key",
        )
    })?;
    recovery::parse(text.trim()).map_err(|error| {
        Failure::usage(
            format!("{name}: {error}"),
            "the recovery key is what agent init showed: 14 groups of 4 characters",
        )
    })
}

/// How to reach the mesh, in the name of the recovery key.
fn way(args: &Args, global: &Global, path: &Path, key: KeyPair) -> Result<Context, Failure> {
    let known = match &args.pin {
        Some(pin) => {
            let pin = config::pin(pin)?;
            let agent = |address: &String| KnownAgent { address: address.clone(), key: pin.agent };
            let agents = global.agent.iter().map(agent).collect();
            let operator_name = "root".parse().map_err(|_never| Failure::failed("no name"))?;
            Context {
                name: pin.mesh_name.clone(),
                mesh: pin.mesh,
                mesh_name: pin.mesh_name,
                operator_name,
                operator: key.clone(),
                agents,
            }
        }
        None => {
            let contexts = Contexts::load(path).map_err(config::unusable)?;
            contexts.select(global.context.as_deref()).map_err(config::unusable)?.clone()
        }
    };
    Ok(Context { operator: key, ..known })
}

/// Stores the new root's key, and returns the name of its context and that of the one that was current.
fn store(path: &Path, root: Context) -> Result<(MeshName, Option<MeshName>), Failure> {
    Contexts::edit(path, |contexts| {
        let before = contexts.current().cloned();
        Ok::<_, ContextError>((contexts.add(root), before))
    })
    .map_err(config::unusable)
}

/// Forgets the old root's key, if it is here, and gives its name to the new one.
fn settle(
    path: &Path,
    roll: &Roll,
    name: MeshName,
    before: Option<MeshName>,
) -> Result<MeshName, Failure> {
    let root = roll.state().root;
    Contexts::edit(path, |contexts| {
        let mesh = roll.catalogue().mesh();
        let old = contexts
            .all()
            .iter()
            .find(|one| one.mesh == mesh && Some(one.operator.public()) == root);
        let old = old.map(|old| old.name.clone());
        let Some(old) = old else {
            // Somebody else lent the configuration file: it stays with its owner's context.
            if let Some(before) = before {
                contexts.make_current(before.as_str())?;
            }
            return Ok(name);
        };
        contexts.remove(old.as_str())?;
        contexts.rename(name.as_str(), old.clone())?;
        contexts.make_current(old.as_str())?;
        Ok::<_, ContextError>(old)
    })
    .map_err(config::unusable)
}

/// Ends the join tokens that the old root made and that somebody has used: the members who joined by them stay.
async fn end_tokens(
    path: &Path,
    root: Context,
    plan: &Plan,
    ui: &mut Ui,
) -> Result<Outcome, Failure> {
    if plan.tokens.is_empty() {
        return Ok(Outcome::Done);
    }
    let remote = Remote::of(path.to_owned(), root, None);
    let bodies: Vec<Body> = plan.tokens.clone();
    match intent::submit(&remote, bodies).await {
        Ok(_) => Ok(Outcome::Done),
        Err(failure) => {
            let why = failure.message().unwrap_or_default();
            ui.warn(format!(
                "join tokens of the old root can still be used until they expire: {why}"
            ))?;
            Ok(Outcome::Partly)
        }
    }
}

fn show(plan: &Plan, ui: &mut Ui) -> Result<(), Failure> {
    if ui.is_json() { Ok(()) } else { ui.line(plan.meaning()) }
}

fn finish(plan: &Plan, done: Option<&Done>, ui: &mut Ui) -> Result<(), Failure> {
    let change = match done {
        Some(_) => format!("{} is the root of {} by a new key", plan.name, plan.mesh_name),
        None => "nothing was changed".to_owned(),
    };
    if ui.is_json() {
        return ui.json(&json::Recovered {
            change,
            stored: done.map(|done| done.stored.clone()),
            operator: plan.name.to_string(),
            key: done.map(|_| plan.root.to_string()),
            context: done.map(|done| done.context.to_string()),
            recovery_key: done.map(|done| done.next.to_string()),
            operators: plan.operators.clone(),
            lost: plan.lost.clone(),
        });
    }
    if let Some(done) = done {
        ui.note(format!(
            "the key ({}) is in the context {}",
            keys::fingerprint(&plan.root),
            done.context
        ))?;
    }
    ui.line(change)
}
