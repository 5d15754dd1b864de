//! One service of a manifest.

use std::time::Duration;

use mesh_coordinator::lease::exclusive::Timing;
use mesh_coordinator::spec::{Deploy, Guarantee, Limits, RestartPolicy, StopSignal};

use crate::amount::{duration, whole};
use crate::command::command;
use crate::context::Context;
use crate::deploy;
use crate::environment::{environment, labels};
use crate::guarantee::guarantee;
use crate::health::healthcheck;
use crate::image::image;
use crate::manifest::{Container, Service};
use crate::ports::{Placed, ports};
use crate::refused;
use crate::report::{Fault, Report};
use crate::signal::stop_signal;
use crate::tree::quoted;
use crate::walk::{At, Table};

/// How long a process may take to stop, as in Compose.
const STOP_GRACE: Duration = Duration::from_secs(10);

/// A lease leaves its replica this share of its time to end.
const GRACE_SHARE: u32 = 6;

/// The most restarts that `on-failure` can count.
const ATTEMPTS_MAX: u32 = 1_000_000;

/// What holds when the manifest says nothing.
pub(crate) fn default_container() -> Container {
    Container {
        entrypoint: None,
        command: None,
        environment: std::collections::BTreeMap::new(),
        working_dir: None,
        user: None,
        hostname: None,
        labels: std::collections::BTreeMap::new(),
        restart: RestartPolicy::Always,
        healthcheck: None,
        stop_signal: StopSignal::TERM,
        stop_grace: STOP_GRACE,
        limits: Limits::default(),
    }
}

/// A service, and its ports with their places; `None` when it is too broken to go on with.
pub(crate) fn service(
    at: &At<'_>,
    context: &Context<'_>,
    report: &mut Report,
) -> Option<(Service, Vec<Placed>)> {
    let mut table = at.table(report)?;
    let given = table.take("image");
    if given.is_none() && !table.has("build") {
        at.refuse_key("the service has no image", "write image: name:tag", report);
    }
    let image = given.and_then(|at| at.parse(image, report));
    let mut container = container(&mut table, context, report);
    let grace = table.take("stop_grace_period");
    if let Some(time) = grace.as_ref().and_then(|at| at.parse(duration, report)) {
        container.stop_grace = time;
    }
    let deploy = match table.take("deploy") {
        Some(at) => {
            let (deploy, limits) = deploy::deploy(&at, report);
            container.limits = limits;
            deploy
        }
        None => deploy::default(),
    };
    let placed = table.take("ports").map(|at| ports(&at, report)).unwrap_or_default();
    let guarantee = extensions(&mut table, &deploy, report);
    table.finish(refused::SERVICE, report);
    let ports = placed.iter().map(|placed| placed.port).collect();
    let guarantee = guarantee.unwrap_or_default();
    if let Some(at) = grace {
        compare_graces(&at, container.stop_grace, guarantee, report);
    }
    Some((Service { image: image?, container, guarantee, deploy, ports }, placed))
}

fn container(table: &mut Table<'_>, context: &Context<'_>, report: &mut Report) -> Container {
    let mut result = default_container();
    result.environment = environment(table, context, report);
    result.entrypoint = table.take("entrypoint").and_then(|at| command(&at, report));
    result.command = table.take("command").and_then(|at| command(&at, report));
    result.working_dir = table.take("working_dir").and_then(|at| at.parse(directory, report));
    result.user = table.take("user").and_then(|at| at.parse(user, report));
    result.hostname = table.take("hostname").and_then(|at| at.parse(hostname, report));
    result.labels = table.take("labels").map(|at| labels(&at, report)).unwrap_or_default();
    result.healthcheck = table.take("healthcheck").and_then(|at| healthcheck(&at, report));
    if let Some(policy) = table.take("restart").and_then(|at| at.parse(restart, report)) {
        result.restart = policy;
    }
    if let Some(signal) = table.take("stop_signal").and_then(|at| at.parse(stop_signal, report)) {
        result.stop_signal = signal;
    }
    result
}

/// A lease that ends does not wait for as long as somebody who stops a replica does. Only who has asked for a time hears of it.
fn compare_graces(at: &At<'_>, asked: Duration, guarantee: Guarantee, report: &mut Report) {
    let Guarantee::Exclusive { ttl } = guarantee else { return };
    // A lease that cannot be has been refused.
    let Ok(timing) = Timing::of(ttl) else { return };
    if asked <= timing.grace {
        return;
    }
    let grace = timing.grace;
    let found = format!(
        "the process gets {grace:?} and not {asked:?} when its lease of {ttl:?} ends before it was asked to stop, as on a host that is cut off"
    );
    let long = (asked * GRACE_SHARE).max(ttl);
    let suffices = Timing::of(long).is_ok_and(|timing| asked <= timing.grace);
    let help = if suffices {
        format!("write a lease of {long:?}, or be content: a planned stop gives it all its time")
    } else {
        "no lease leaves more than 10s; a planned stop gives it all its time".to_owned()
    };
    at.warn(found, help, report);
}

/// When to start again. Nothing ever stops a replica by hand for good, so `unless-stopped` is `always`.
fn restart(text: &str) -> Result<RestartPolicy, Fault> {
    let help = "write always, \"no\", on-failure, on-failure:5 or unless-stopped";
    match text {
        "always" | "unless-stopped" => Ok(RestartPolicy::Always),
        "no" => Ok(RestartPolicy::Never),
        "on-failure" => Ok(RestartPolicy::OnFailure { attempts_max: None }),
        "false" => {
            Err(Fault::new("false is what some tools make of an unquoted no", "write \"no\""))
        }
        other => match other.strip_prefix("on-failure:") {
            Some(attempts) => {
                let attempts_max = Some(whole(attempts, 1, ATTEMPTS_MAX)?);
                Ok(RestartPolicy::OnFailure { attempts_max })
            }
            None => Err(Fault::new(format!("the policy {} is unknown", quoted(other)), help)),
        },
    }
}

fn directory(text: &str) -> Result<String, Fault> {
    if text.starts_with('/') {
        return Ok(text.to_owned());
    }
    let found = format!("{} is not an absolute path", quoted(text));
    Err(Fault::new(found, "begin it with /, the root of the container"))
}

fn user(text: &str) -> Result<String, Fault> {
    let part =
        |text: &str| !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c == '/');
    let parts: Vec<&str> = text.split(':').collect();
    if parts.len() <= 2 && parts.into_iter().all(part) {
        return Ok(text.to_owned());
    }
    let found = format!("{} is not a user", quoted(text));
    Err(Fault::new(found, "write user or user:group, by name or by number"))
}

fn hostname(text: &str) -> Result<String, Fault> {
    let label = |label: &str| {
        let inside = label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        (1..=63).contains(&label.len())
            && inside
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // Linux keeps at most 64 bytes.
    if text.len() <= 64 && text.split('.').all(label) {
        return Ok(text.to_owned());
    }
    let found = format!("{} is not a host name", quoted(text));
    Err(Fault::new(found, "use letters, digits and -, at most 63 in each part and 64 in all"))
}

/// `x-mesh`, and a warning for other extensions, which have no meaning in a service. `None` when nothing is said of a guarantee, or
/// nothing that can be.
fn extensions(table: &mut Table<'_>, deploy: &Deploy, report: &mut Report) -> Option<Guarantee> {
    let mut result = None;
    for (key, at) in table.take_extensions() {
        if key != "x-mesh" {
            at.warn(format!("{key} has no effect"), "only x-mesh has a meaning here", report);
            continue;
        }
        let Some(mut mesh) = at.table(report) else {
            continue;
        };
        let found = guarantee(&mut mesh, deploy, report);
        mesh.finish(refused::MESH, report);
        result = found.map(|(guarantee, _)| guarantee);
    }
    result
}
