//! The top of a manifest: the name, and the services.

use std::collections::BTreeMap;

use mesh_coordinator::name::{AppName, NAME_LEN_MAX, NameError};

use crate::context::Context;
use crate::manifest::Manifest;
use crate::ports::check_conflicts;
use crate::refused;
use crate::report::{Fault, Report};
use crate::service::service;
use crate::tree::quoted;
use crate::walk::{At, Table};

/// The most services of one app; bounds what one record can ask of every agent.
const SERVICES_MAX: usize = 100;

/// The manifest; `None`, or something incomplete, when the report has errors.
pub(crate) fn manifest(
    root: &At<'_>,
    context: &Context<'_>,
    report: &mut Report,
) -> Option<Manifest> {
    if root.is_null() {
        empty(root, report);
        return None;
    }
    let mut table = root.table(report)?;
    if let Some(at) = table.take("version") {
        at.warn("version is obsolete and has no effect", "leave it out", report);
    }
    let name = name(&mut table, context, report);
    let services = table.take("services");
    if services.is_none() {
        empty(root, report);
    }
    // Extensions are where anchors are kept; one of them is ours and misplaced here.
    for (key, at) in table.take_extensions() {
        if let Some((_, help)) = refused::APP.iter().find(|(refused, _)| *refused == key) {
            at.refuse_key(format!("{key} is in the wrong place"), *help, report);
        }
    }
    table.finish(refused::APP, report);
    let services = self::services(&services?, context, report)?;
    Some(Manifest { name: name?, services })
}

fn empty(at: &At<'_>, report: &mut Report) {
    at.refuse("the manifest has no services", "write services: {web: {image: name:tag}}", report);
}

fn services(
    at: &At<'_>,
    context: &Context<'_>,
    report: &mut Report,
) -> Option<BTreeMap<mesh_coordinator::name::ServiceName, crate::manifest::Service>> {
    let members = at.members(report)?;
    if members.is_empty() {
        at.refuse(
            "the manifest has no services",
            "write services: {web: {image: name:tag}}",
            report,
        );
    }
    if members.len() > SERVICES_MAX {
        let found = format!("the manifest has {} services", members.len());
        at.refuse(found, format!("at most {SERVICES_MAX}; make more than one app"), report);
        return None;
    }
    let mut services = BTreeMap::new();
    let mut ports = Vec::new();
    for (key, at) in members {
        let name = key.parse().map_err(|error: NameError| {
            let found = format!("{} cannot be the name of a service", quoted(key));
            at.refuse_key(found, error.to_string(), report);
        });
        let Some((service, placed)) = service(&at, context, report) else {
            continue;
        };
        ports.push(placed);
        if let Ok(name) = name {
            services.insert(name, service);
        }
    }
    check_conflicts(&ports, report);
    Some(services)
}

/// The app's name: as asked for, or as the manifest says, or that of the directory.
fn name(table: &mut Table<'_>, context: &Context<'_>, report: &mut Report) -> Option<AppName> {
    let parse = |text: &str| {
        text.parse::<AppName>().map_err(|error| {
            let found = format!("{} cannot be the name of an app", quoted(text));
            Fault::new(found, error.to_string())
        })
    };
    let given = table.take("name");
    let own = given.as_ref().and_then(|at| at.parse(parse, report));
    if let Some(name) = &context.name {
        return Some(name.clone());
    }
    if given.is_some() {
        return own;
    }
    let help = "write name: in the manifest, or use --name";
    let derived = context.directory_name.as_deref().and_then(|name| derive(name).parse().ok());
    let Some(name) = derived else {
        table.at.refuse("the app has no name", help, report);
        return None;
    };
    table.at.warn(format!("the app is named {name}, after its directory"), help, report);
    Some(name)
}

/// A directory's name as Compose makes a project's name of it.
fn derive(directory: &str) -> String {
    let fits = |c: &char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
    let text: String = directory.to_lowercase().chars().filter(fits).take(NAME_LEN_MAX).collect();
    text.trim_matches(['-', '_']).to_owned()
}
