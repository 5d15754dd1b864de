//! `agentctl login`: a key of one's own, and the way to a mesh that others run.
//!
//! Nothing is trusted on first use: who answers at an address has to prove the key that the pin names, and the operators are
//! worked out from records that begin with the one that the pin names. The private key never leaves the machine.

use std::path::Path;

use mesh_coordinator::catalogue::{Operator, Role};
use mesh_coordinator::name::OperatorName;
use mesh_identity::keys::{self, KeyPair};
use mesh_identity::operator::{Context, ContextError, Contexts, KnownAgent, Newcomer};
use mesh_identity::pin::Pin;

use super::operator::RoleName;
use crate::cli::Global;
use crate::config;
use crate::failure::{Failure, Outcome};
use crate::mesh::{CallError, Mesh};
use crate::output::json;
use crate::remote::Remote;
use crate::roll::Roll;
use crate::ui::Ui;

/// Make your own key, and learn of a mesh that others run.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The private key is made here, in the configuration file, and stays here:\n  \
     1. agentctl login                        prints the line that an admin has to type\n  \
     2. the admin types it, and gets a line back for you\n  \
     3. agentctl login HOST:PORT --pin PIN    is that line; it makes the mesh the current context\n\
     Whoever has the line of step 3 already, from agentctl context show for instance, begins there.\n\
     On a second machine of your own, agentctl context import takes your key along instead.\n\n\
     Examples:\n  agentctl login --name ben --role deployer\n  agentctl login 10.77.0.1:7420 --pin pin1-..."
)]
pub(crate) struct Args {
    /// Where the agent is that the pin names; several, if it has several addresses.
    #[arg(value_name = "HOST:PORT", value_parser = config::address)]
    addresses: Vec<String>,
    /// Which mesh, and the key of that agent, from the line that an admin got.
    #[arg(long)]
    pin: Option<String>,
    /// What you want to be called; your login name if not given.
    #[arg(long)]
    name: Option<OperatorName>,
    /// What you ask the admin for.
    #[arg(long, value_enum, default_value = "viewer")]
    role: RoleName,
}

/// How far a login has come.
enum Progress {
    /// There is a key, and no mesh for it.
    Key,
    /// The mesh is known and does not know the key.
    Waiting,
    /// The mesh is known, and no agent answers.
    Silent(String),
    /// The key was removed from the mesh.
    Removed,
    /// The mesh knows the key as this operator.
    Known(Operator),
}

/// Makes a key, or takes the one that is there, and goes as far as the mesh lets it.
pub(crate) async fn run(args: &Args, global: &Global, ui: &mut Ui) -> Result<Outcome, Failure> {
    let path = config::path(global)?;
    match (&args.pin, args.addresses.first()) {
        (None, None) => {
            let Newcomer { name, key } = newcomer(args, &path)?;
            report(
                &Told { args, path: &path, name: &name, key: &key, context: None },
                &Progress::Key,
                ui,
            )
        }
        (None, Some(address)) => Err(Failure::usage(
            format!("without --pin PIN nobody could tell whose agent answers at {address}"),
            config::WHOLE_LINE,
        )),
        (Some(_), None) => Err(Failure::usage(
            "where is an agent of the mesh?",
            "agentctl login HOST:PORT --pin PIN",
        )),
        (Some(pin), Some(_)) => {
            let pin = config::pin(pin)?;
            let mut context = remember(&pin, args, &path, None)?;
            let mut remote = Remote::of(path.clone(), context.clone(), None);
            let mut progress = progress(&remote).await?;
            if matches!(progress, Progress::Removed) {
                // With a key that waits, whoever was removed comes back.
                let contexts = Contexts::load(&path).map_err(config::unusable)?;
                if contexts.newcomer().is_none() {
                    return Err(CallError::Removed.into());
                }
                context = remember(&pin, args, &path, Some(&context))?;
                remote = Remote::of(path.clone(), context.clone(), None);
                progress = self::progress(&remote).await?;
            }
            let context = settle(&remote, context, &progress, &path).await?;
            let told = Told {
                args,
                path: &path,
                name: &context.operator_name,
                key: &context.operator,
                context: Some(&context),
            };
            report(&told, &progress, ui)
        }
    }
}

/// The name that was asked for, or what the machine calls its user.
fn name(args: &Args) -> Result<OperatorName, Failure> {
    let user = || ["USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok());
    let user = || user().and_then(|name| name.to_ascii_lowercase().parse().ok());
    args.name.clone().or_else(user).ok_or_else(|| {
        Failure::usage("what do you want to be called?", "agentctl login --name NAME")
    })
}

fn new_key() -> Result<KeyPair, Failure> {
    KeyPair::generate().map_err(|error| Failure::failed(format!("no key could be made: {error}")))
}

/// The key that waits for its mesh, made now if there is none.
fn newcomer(args: &Args, path: &Path) -> Result<Newcomer, Failure> {
    Contexts::edit(path, |contexts| {
        let newcomer = match contexts.newcomer().cloned() {
            Some(known) => Newcomer { name: args.name.clone().unwrap_or(known.name), ..known },
            None => Newcomer { name: name(args)?, key: new_key()? },
        };
        contexts.set_newcomer(Some(newcomer.clone()));
        Ok(newcomer)
    })
    .map_err(Unusable::into)
}

/// Puts the mesh into the configuration file: with the key that it knows there already, or the one that waits, or a new one. The
/// context `void`, whose key is worth nothing any more, makes room.
fn remember(
    pin: &Pin,
    args: &Args,
    path: &Path,
    void: Option<&Context>,
) -> Result<Context, Failure> {
    Contexts::edit(path, |contexts| {
        if let Some(void) = void {
            contexts.remove(void.name.as_str())?;
        }
        let current = contexts.select(None).ok();
        let known = current.into_iter().chain(contexts.all()).find(|one| one.mesh == pin.mesh);
        let known = known.cloned();
        let (operator_name, operator) = match (&known, contexts.newcomer().cloned()) {
            (Some(known), _) => (known.operator_name.clone(), known.operator.clone()),
            (None, Some(waiting)) => {
                contexts.set_newcomer(None);
                (args.name.clone().unwrap_or(waiting.name), waiting.key)
            }
            (None, None) => (name(args)?, new_key()?),
        };
        let agent = |address: &String| KnownAgent { address: address.clone(), key: pin.agent };
        let mut agents: Vec<KnownAgent> = args.addresses.iter().map(agent).collect();
        let others = known.into_iter().flat_map(|known| known.agents);
        agents.extend(others.filter(|other| other.key != pin.agent));
        let (mesh, mesh_name) = (pin.mesh, pin.mesh_name.clone());
        let name = mesh_name.clone();
        let name = contexts.add(Context { name, mesh, mesh_name, operator_name, operator, agents });
        Ok(contexts.select(Some(name.as_str()))?.clone())
    })
    .map_err(Unusable::into)
}

/// Either kind of failure inside an edit.
struct Unusable(Failure);

impl From<ContextError> for Unusable {
    fn from(error: ContextError) -> Self {
        Self(config::unusable(error))
    }
}

impl From<Failure> for Unusable {
    fn from(failure: Failure) -> Self {
        Self(failure)
    }
}

impl From<Unusable> for Failure {
    fn from(unusable: Unusable) -> Self {
        unusable.0
    }
}

/// Asks the mesh whether it knows the key.
async fn progress<M: Mesh>(mesh: &M) -> Result<Progress, Failure> {
    match Roll::read(mesh).await {
        Ok(roll) => match roll.state().operators.get(&roll.me()) {
            Some(operator) => Ok(Progress::Known(operator.clone())),
            None => Ok(Progress::Waiting),
        },
        Err(CallError::Stranger { .. }) => Ok(Progress::Waiting),
        Err(CallError::Removed) => Ok(Progress::Removed),
        Err(error @ CallError::Unreachable(_)) => Ok(Progress::Silent(error.to_string())),
        Err(error) => Err(error.into()),
    }
}

/// Takes over the name that the mesh knows, and the addresses of its other agents.
async fn settle(
    remote: &Remote,
    mut context: Context,
    progress: &Progress,
    path: &Path,
) -> Result<Context, Failure> {
    let Progress::Known(operator) = progress else { return Ok(context) };
    if context.operator_name != operator.name {
        context.operator_name = operator.name.clone();
        let update = |contexts: &mut Contexts| {
            contexts.update(context.clone());
            Ok::<_, ContextError>(())
        };
        Contexts::edit(path, update).map_err(config::unusable)?;
    }
    // Only spares the next command a search.
    drop(remote.overview().await);
    drop(remote.remember().await);
    Ok(context)
}

/// What there is to tell of.
struct Told<'a> {
    args: &'a Args,
    path: &'a Path,
    name: &'a OperatorName,
    key: &'a KeyPair,
    context: Option<&'a Context>,
}

fn report(told: &Told<'_>, progress: &Progress, ui: &mut Ui) -> Result<Outcome, Failure> {
    let key = told.key.public();
    let admission = config::admission(told.name, Role::from(told.args.role), &key);
    let (state, outcome) = match progress {
        Progress::Key => ("key", Outcome::Done),
        Progress::Waiting => ("waiting", Outcome::Partly),
        Progress::Removed => return Err(CallError::Removed.into()),
        Progress::Silent(_) => ("silent", Outcome::Partly),
        Progress::Known(_) => ("operator", Outcome::Done),
    };
    if ui.is_json() {
        let role =
            if let Progress::Known(operator) = progress { Some(operator.role) } else { None };
        ui.json(&json::Login {
            state: state.to_owned(),
            operator: told.name.to_string(),
            role: role.map(|role| role.to_string()),
            context: told.context.map(|context| context.name.to_string()),
            key: key.to_string(),
            fingerprint: keys::fingerprint(&key),
            admission,
            config: told.path.display().to_string(),
        })?;
        return Ok(outcome);
    }
    if let Progress::Known(operator) = progress {
        let Operator { name, role, .. } = operator;
        let context = told.context.map_or_else(String::new, |context| context.name.to_string());
        ui.line(format!("context {context}: you are {name}, {role}"))?;
        ui.next("agentctl status; agentctl ps")?;
        return Ok(outcome);
    }
    ui.note(format!(
        "your key is in {} and stays there; its fingerprint is {}",
        told.path.display(),
        keys::fingerprint(&key)
    ))?;
    ui.note(match progress {
        Progress::Silent(why) => {
            format!("{why}\nif the mesh does not know the key yet, an admin types this:")
        }
        Progress::Waiting => {
            "the mesh does not know it yet: an admin has to type this, and then you can work:"
                .to_owned()
        }
        Progress::Key | Progress::Removed | Progress::Known(_) => {
            "an admin of the mesh types this, and gets a line for you to type here:".to_owned()
        }
    })?;
    ui.line(admission)?;
    Ok(outcome)
}
