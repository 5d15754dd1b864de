//! What an operator points `place` at: a directory, a compose file, or an image.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use mesh_compose::{BareImage, Manifest, Problems, Source};
use mesh_coordinator::catalogue::{Body, RecordKey, Release};
use mesh_coordinator::name::AppName;
use mesh_coordinator::spec::AppSpec;
use mesh_ports::runtime::Image;

use crate::failure::Failure;
use crate::mesh::Mesh;
use crate::plan;
use crate::roll;
use crate::target;

/// What the command line says about an app.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// A path, or the name of an image.
    pub(crate) what: String,
    /// The app's name; `None` leaves it to the manifest.
    pub(crate) name: Option<String>,
    /// How many replicas; only for an image.
    pub(crate) replicas: Option<u32>,
    /// Published ports in Compose's short form; only for an image.
    pub(crate) ports: Vec<String>,
    /// Replaces the image's command; only for an image.
    pub(crate) command: Vec<String>,
}

/// A manifest that can be used, and what its author should know.
#[derive(Debug)]
pub(crate) struct Read {
    /// What it says.
    pub(crate) manifest: Manifest,
    /// What its author should know.
    pub(crate) warnings: Vec<String>,
}

/// Reads it.
pub(crate) fn read(wanted: &Wanted) -> Result<Read, Failure> {
    let name = wanted.name.as_deref().map(app_name).transpose()?;
    let path = Path::new(&wanted.what);
    if path.exists() {
        return from_path(path, name, wanted);
    }
    let Some(name) = name.filter(|_| !is_path(path)) else {
        return Err(not_there(path));
    };
    let bare = BareImage {
        name,
        image: wanted.what.clone(),
        ports: wanted.ports.iter().map(|port| published(port)).collect(),
        replicas: wanted.replicas,
        command: wanted.command.clone(),
    };
    let manifest = Manifest::from_image(bare).map_err(|problems| unusable("the app", &problems))?;
    Ok(Read { manifest, warnings: Vec::new() })
}

/// Whether it can be a path only: no image has such a name.
fn is_path(path: &Path) -> bool {
    path.is_absolute() || path.starts_with(".") || path.starts_with("..") || is_manifest(path)
}

/// Whether it is a manifest by its name.
pub(crate) fn is_manifest(path: &Path) -> bool {
    target::path::has_extension(path, &["yaml", "yml"])
}

fn not_there(path: &Path) -> Failure {
    let (shown, text) =
        (path.display(), format!("there is no file or directory {}", path.display()));
    match target::path::meant(path, is_manifest) {
        Some(meant) => Failure::usage(
            format!("{text}: did you mean {}?", meant.display()),
            format!("agentctl place {}", meant.display()),
        ),
        None if is_path(path) => {
            Failure::usage(text, "agentctl place DIR; agentctl place --help has examples")
        }
        None => {
            Failure::usage(text, format!("to run an image: agentctl place {shown} --name NAME"))
        }
    }
}

fn unusable(what: &str, problems: &Problems) -> Failure {
    Failure::usage(
        format!("{what} cannot be placed as it is\n\n{problems}"),
        "mend this and repeat it with --dry-run, which shows what would change",
    )
}

/// A port alone is published under its own number.
fn published(port: &str) -> String {
    if port.parse::<u16>().is_ok() { format!("{port}:{port}") } else { port.to_owned() }
}

fn app_name(text: &str) -> Result<AppName, Failure> {
    text.parse().map_err(|error| {
        Failure::usage(format!("--name {text:?}: {error}"), "take a name such as my-app")
    })
}

fn from_path(path: &Path, name: Option<AppName>, wanted: &Wanted) -> Result<Read, Failure> {
    let flags = [
        ("--replicas", wanted.replicas.is_some(), "deploy.replicas"),
        ("--port", !wanted.ports.is_empty(), "ports"),
        ("a command", !wanted.command.is_empty(), "command"),
    ];
    if let Some((flag, _, key)) = flags.into_iter().find(|(_, given, _)| *given) {
        return Err(Failure::usage(
            format!("{flag} is for an image; {} is a manifest", wanted.what),
            format!("write `{key}` of a service in the manifest"),
        ));
    }
    let is_archive = [".tar", ".tar.gz", ".tgz"].iter().any(|end| wanted.what.ends_with(end));
    if is_archive && path.is_file() {
        return Err(Failure::usage(
            format!("{} is an archive, not a manifest", wanted.what),
            format!("agentctl image push {}, then place the image by its name", wanted.what),
        ));
    }
    let mut source = Source::path(path);
    if let Some(name) = name {
        source = source.named(name);
    }
    let loaded = mesh_compose::load(&source, &|variable| std::env::var(variable).ok())
        .map_err(|problems| unusable(&wanted.what, &problems))?;
    let warnings = loaded.warnings.iter().map(ToString::to_string).collect();
    Ok(Read { manifest: loaded.manifest, warnings })
}

/// Finds what the images' names mean, and gives each service its revision. `typed` is what `place` was pointed at.
pub(crate) async fn resolve<M: Mesh>(
    manifest: Manifest,
    typed: &str,
    before: Option<&Release>,
    mesh: &M,
) -> Result<AppSpec, Failure> {
    let names: BTreeSet<String> =
        manifest.services.values().map(|service| service.image.clone()).collect();
    let mut digests = BTreeMap::new();
    let mut present = None;
    for name in &names {
        let mut found = pinned(name);
        if found.is_none() {
            found = recorded(name, mesh).await?;
        }
        if found.is_none() {
            let images = match present.take() {
                Some(images) => images,
                None => mesh.images().await?,
            };
            found = on_agent(name, &images);
            present = Some(images);
        }
        digests.extend(found.map(|digest| (name.clone(), digest)));
    }
    let mut known: Vec<String> = present.into_iter().flatten().flat_map(|it| it.names).collect();
    if digests.len() < names.len() {
        // Without the names of the mesh there is no suggestion, and that is all.
        known.extend(roll::image_names(mesh).await.unwrap_or_default().into_keys());
    }
    let app = manifest.name.clone();
    let resolved = manifest.resolve(
        |name| digests.get(name).cloned(),
        before.map(|release| &release.spec),
        |template| plan::revision_id(before, template),
    );
    resolved.map_err(|missing| {
        let mut names: Vec<&str> = missing.iter().map(|one| one.image.as_str()).collect();
        names.dedup();
        let (verb, which) =
            if names.len() == 1 { ("is", "the image") } else { ("are", "the images") };
        let list = names.join(", ");
        let first = names.first().copied().unwrap_or_default();
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        let text = format!("{which} {list} {verb} not on the mesh");
        let push = format!("docker save {first} -o image.tar && agentctl image push image.tar");
        match target::nearest(first, &known) {
            Some(near) if typed == first => Failure::usage(
                format!("{text}: did you mean {near}?"),
                format!("agentctl place {near} --name {app}; or push it: {push}"),
            ),
            Some(near) => Failure::usage(
                format!("{text}: did you mean {near}?"),
                format!("write `image: {near}` in {typed}; or push it: {push}"),
            ),
            None => Failure::usage(text, format!("{push}; agentctl image ls shows what is there")),
        }
    })
}

/// The digest that a name itself says.
fn pinned(name: &str) -> Option<String> {
    let digest = name.split_once('@').map_or(name, |(_, digest)| digest);
    let hex = digest.strip_prefix("sha256:")?;
    (hex.len() == 64 && hex.chars().all(|c| c.is_ascii_hexdigit())).then(|| digest.to_owned())
}

/// The digest that the catalogue gives for a name.
async fn recorded<M: Mesh>(name: &str, mesh: &M) -> Result<Option<String>, Failure> {
    for name in spellings(name) {
        if let Some(entry) = mesh.record(&RecordKey::Image(name)).await?
            && let Body::Image { digest, .. } = entry.record.body
        {
            return Ok(Some(digest));
        }
    }
    Ok(None)
}

/// The digest of the image that the agent has under a name.
fn on_agent(name: &str, images: &[Image]) -> Option<String> {
    let spellings = spellings(name);
    let fits = |image: &&Image| {
        image.names.iter().any(|own| spellings.contains(&normal(own)) || spellings.contains(own))
    };
    images.iter().find(fits).map(|image| image.digest.clone())
}

/// The name with its tag, and without what Docker leaves out.
pub(crate) fn normal(name: &str) -> String {
    let short = ["docker.io/library/", "docker.io/", "index.docker.io/library/"]
        .iter()
        .find_map(|prefix| name.strip_prefix(prefix))
        .unwrap_or(name);
    let last = short.rsplit('/').next().unwrap_or(short);
    if last.contains([':', '@']) { short.to_owned() } else { format!("{short}:latest") }
}

/// The names under which an image may be known: as written, and as archives write it.
fn spellings(name: &str) -> Vec<String> {
    let normal = normal(name);
    if normal == name { vec![normal] } else { vec![name.to_owned(), normal] }
}

#[cfg(test)]
mod tests {
    //! Names of images.

    use super::{normal, pinned};

    #[test]
    fn a_name_without_a_tag_means_latest() {
        assert_eq!(normal("hello"), "hello:latest");
        assert_eq!(normal("localhost:5000/hello"), "localhost:5000/hello:latest");
        assert_eq!(normal("docker.io/library/nginx:1"), "nginx:1");
    }

    #[test]
    fn a_digest_needs_no_look_up() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        assert_eq!(pinned(&format!("hello@{digest}")), Some(digest.clone()));
        assert_eq!(pinned(&digest), Some(digest));
        assert_eq!(pinned("hello:1"), None);
    }
}
