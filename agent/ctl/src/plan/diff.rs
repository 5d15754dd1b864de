//! What changed in a service, in words. Values of environment variables are never shown: some are secret.

use std::collections::BTreeMap;
use std::fmt::Debug;

use mesh_coordinator::spec::{Deploy, ServiceSpec, Template};

/// What changed in the definition of the container.
pub(super) fn template(old: &Template, new: &Template) -> Vec<String> {
    // Taken apart completely, so that a new field cannot be forgotten here.
    let Template {
        image,
        entrypoint,
        command,
        environment,
        working_dir,
        user,
        hostname,
        labels,
        restart,
        healthcheck,
        stop_signal,
        stop_grace,
        limits,
    } = new;
    let mut reasons = Vec::new();
    if old.image.name != image.name {
        reasons.push(format!("image {} → {}", old.image.name, image.name));
    } else if old.image.digest != image.digest {
        reasons.push(format!("image {} was pushed anew", image.name));
    }
    reasons.extend(changed("entrypoint", &old.entrypoint, entrypoint));
    reasons.extend(changed("command", &old.command, command));
    reasons.extend(map("environment", &old.environment, environment));
    reasons.extend(changed("working_dir", &old.working_dir, working_dir));
    reasons.extend(changed("user", &old.user, user));
    reasons.extend(changed("hostname", &old.hostname, hostname));
    reasons.extend(map("labels", &old.labels, labels));
    reasons.extend(changed("restart", &old.restart, restart));
    reasons.extend(changed("healthcheck", &old.healthcheck, healthcheck));
    reasons.extend(changed("stop_signal", &old.stop_signal, stop_signal));
    reasons.extend(changed("stop_grace_period", &old.stop_grace, stop_grace));
    reasons.extend(changed("limits", &old.limits, limits));
    reasons
}

/// What changed beside the container, but for the number of replicas.
pub(super) fn deploy(old: &ServiceSpec, new: &ServiceSpec) -> Vec<String> {
    let Deploy { mode: _, constraints, spread, replicas_per_node_max, reservation } = &new.deploy;
    let mut reasons = Vec::new();
    reasons.extend(changed("placement constraints", &old.deploy.constraints, constraints));
    reasons.extend(changed("placement preferences", &old.deploy.spread, spread));
    reasons.extend(changed(
        "max_replicas_per_node",
        &old.deploy.replicas_per_node_max,
        replicas_per_node_max,
    ));
    reasons.extend(changed("reservation", &old.deploy.reservation, reservation));
    reasons.extend(changed("ports", &old.ports, &new.ports));
    reasons
}

fn changed<T: PartialEq + Debug>(what: &str, old: &T, new: &T) -> Option<String> {
    (old != new).then(|| format!("{what} changed"))
}

fn map(
    what: &str,
    old: &BTreeMap<String, String>,
    new: &BTreeMap<String, String>,
) -> Option<String> {
    let added = new.keys().filter(|key| !old.contains_key(*key)).map(|key| format!("+{key}"));
    let removed = old.keys().filter(|key| !new.contains_key(*key)).map(|key| format!("-{key}"));
    let edited = new.iter().filter(|(key, value)| old.get(*key).is_some_and(|old| old != *value));
    let edited = edited.map(|(key, _)| format!("{key} changed"));
    let changes: Vec<String> = added.chain(removed).chain(edited).collect();
    (!changes.is_empty()).then(|| format!("{what}: {}", changes.join(", ")))
}
