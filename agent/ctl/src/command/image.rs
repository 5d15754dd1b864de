//! `agentctl image`: images on the mesh.

use std::collections::BTreeMap;
use std::path::PathBuf;

use mesh_coordinator::catalogue::Body;
use mesh_coordinator::name::AppName;
use mesh_coordinator::view::Overview;

use crate::failure::{Failure, Outcome};
use crate::intent;
use crate::manifest::normal;
use crate::mesh::{Mesh, Pushed};
use crate::output::{json, of, text};
use crate::roll;
use crate::target;
use crate::ui::Ui;
use crate::wait::Progress;

/// Look after images.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Store the images of an archive on the mesh and name them.
    #[command(
        after_help = "Example: docker save hello:1 -o hello.tar && agentctl image push hello.tar"
    )]
    Push(PushArgs),
    /// List the images on the agent that answers.
    #[command(after_help = "Example: agentctl image ls")]
    Ls,
}

/// Store an archive.
#[derive(Debug, clap::Args)]
pub(crate) struct PushArgs {
    /// What `docker save` writes, or an OCI layout as a tar.
    archive: PathBuf,
    /// Name the image; for an archive with one image.
    #[arg(long)]
    name: Option<String>,
}

/// Does what was typed.
pub(crate) async fn run<M: Mesh>(
    command: Command,
    mesh: &M,
    ui: &mut Ui,
) -> Result<Outcome, Failure> {
    match command {
        Command::Push(args) => push(&args, mesh, ui).await,
        Command::Ls => list(mesh, ui).await,
    }
}

async fn list<M: Mesh>(mesh: &M, ui: &mut Ui) -> Result<Outcome, Failure> {
    let mut images = mesh.images().await?;
    for (name, digest) in roll::image_names(mesh).await? {
        for image in images.iter_mut().filter(|image| image.digest == digest) {
            if !image.names.contains(&name) {
                image.names.push(name.clone());
            }
        }
    }
    images.sort_by(|a, b| (&a.names, &a.digest).cmp(&(&b.names, &b.digest)));
    if ui.is_json() {
        ui.json(&json::Images { images: images.iter().map(of::image).collect() })?;
    } else if images.is_empty() {
        ui.line("no image is here yet: agentctl image push ARCHIVE")?;
    } else {
        ui.table(&text::images(&images))?;
    }
    Ok(Outcome::Done)
}

async fn push<M: Mesh>(args: &PushArgs, mesh: &M, ui: &mut Ui) -> Result<Outcome, Failure> {
    let path = args.archive.display();
    let unreadable = |error| {
        Failure::usage(
            format!("cannot read {path}: {error}{}", target::path::guess(&args.archive)),
            "docker save IMAGE -o image.tar && agentctl image push image.tar",
        )
    };
    let archive = tokio::fs::File::open(&args.archive).await.map_err(unreadable)?;
    if archive.metadata().await.map_err(unreadable)?.is_dir() {
        return Err(Failure::usage(
            format!("{path} is a directory"),
            format!("tar -C {path} -cf image.tar . && agentctl image push image.tar"),
        ));
    }
    let overview = mesh.overview().await?;
    let progress = Progress::start(ui, "sending the archive");
    let pushed = mesh.push_image(archive).await?;
    drop(progress);
    let names = names(&pushed, args.name.as_deref())?;
    let named = names.keys().next().cloned();
    let image = |(name, digest): (String, String)| Body::Image { name, digest };
    let mut outcome = Outcome::Done;
    if !names.is_empty() {
        let submitted = intent::submit(mesh, names.into_iter().map(image).collect()).await?;
        outcome = intent::report_stored(&submitted, &overview, ui)?;
    }
    if pushed.stored_on.len() < 2 && pushed.n_peers > 0 {
        let on = of::node_names(&overview, &pushed.stored_on).join(", ");
        ui.warn(format!(
            "the image is on one node only: {on}; the others fetch it from there when they need it"
        ))?;
        outcome = outcome.and(Outcome::Partly);
    }
    report(&pushed, args.name.as_deref(), &overview, ui)?;
    if let Some(name) = named {
        ui.next(format!("agentctl place {name} --name {}", app_of(&name)))?;
    }
    Ok(outcome)
}

/// A name for an app of this image, without what an app's name cannot have.
fn app_of(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    let name = last.split([':', '@']).next().unwrap_or(last);
    let name = name.to_ascii_lowercase().replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    name.trim_matches('-')
        .parse::<AppName>()
        .map_or_else(|_none| "APP".to_owned(), |name| name.to_string())
}

/// Which name means which digest after this push.
fn names(pushed: &Pushed, name: Option<&str>) -> Result<BTreeMap<String, String>, Failure> {
    match (name, pushed.images.as_slice()) {
        (None, images) => Ok(images
            .iter()
            .flat_map(|image| image.names.iter().map(|name| (normal(name), image.digest.clone())))
            .collect()),
        (Some(name), [only]) => Ok(BTreeMap::from([(normal(name), only.digest.clone())])),
        (Some(name), images) => Err(Failure::usage(
            format!("--name {name} needs an archive with one image; this one has {}", images.len()),
            "push it without --name: the images keep their own names",
        )),
    }
}

fn report(
    pushed: &Pushed,
    name: Option<&str>,
    overview: &Overview,
    ui: &mut Ui,
) -> Result<(), Failure> {
    let stored_on = of::node_names(overview, &pushed.stored_on);
    if ui.is_json() {
        let images = pushed.images.iter().map(of::image).collect();
        return ui.json(&json::Pushed { images, stored_on, peers: pushed.n_peers });
    }
    for image in &pushed.images {
        let names = match name {
            Some(name) => normal(name),
            None if image.names.is_empty() => "no name (push it again with --name)".to_owned(),
            None => image.names.join(", "),
        };
        ui.line(format!("{names}  {}  on {}", image.digest, stored_on.join(", ")))?;
    }
    Ok(())
}
