//! An app made of one image, without a manifest.

use std::collections::BTreeMap;

use mesh_coordinator::name::{AppName, ServiceName};
use mesh_coordinator::spec::{Guarantee, Mode, REPLICAS_MAX};

use crate::deploy;
use crate::image::image;
use crate::manifest::{Manifest, Service};
use crate::ports::short;
use crate::problem::{Problem, Problems, Severity};
use crate::report::Fault;
use crate::service::default_container;

/// What the command line says about an app of one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BareImage {
    /// The app's name; its one service has the same.
    pub name: AppName,
    /// The image's name.
    pub image: String,
    /// Published ports in Compose's short form, as `--port` gives them.
    pub ports: Vec<String>,
    /// How many replicas, as `--replicas` says; `None` is one.
    pub replicas: Option<u32>,
    /// Replaces the image's command when it is not empty.
    pub command: Vec<String>,
}

/// The manifest of an app that is one image; everything else is as in a manifest that says nothing more.
pub(crate) fn manifest(bare: BareImage) -> Result<Manifest, Problems> {
    let mut problems = Vec::new();
    let mut refuse = |path: &str, fault: Fault| {
        let Fault { found, help } = fault;
        let path = path.to_owned();
        problems.push(Problem { severity: Severity::Error, path, place: None, found, help });
    };
    let image = image(&bare.image).unwrap_or_else(|fault| {
        refuse("", fault);
        String::new()
    });
    let mut ports = Vec::new();
    for text in &bare.ports {
        match short(text) {
            Ok(more) => ports.extend(more),
            Err(fault) => refuse("--port", fault),
        }
    }
    let mut published: Vec<u16> = ports.iter().map(|port| port.published).collect();
    published.sort_unstable();
    if let Some(twice) =
        published.windows(2).find_map(|pair| (pair.first() == pair.last()).then(|| pair.first())?)
    {
        let found = format!("the port {twice} is published twice");
        refuse("--port", Fault::new(found, "choose another published port"));
    }
    let replicas = bare.replicas.unwrap_or(1);
    if replicas > REPLICAS_MAX {
        let help = format!("write a whole number from 0 to {REPLICAS_MAX}");
        refuse("--replicas", Fault::new(format!("{replicas} is out of range"), help));
    }
    let service = bare.name.as_str().parse::<ServiceName>().map_err(|error| {
        refuse("--name", Fault::new(error.to_string(), ""));
    });
    let (Ok(name), []) = (service, problems.as_slice()) else {
        return Err(Problems::new(problems, 0));
    };
    let mut container = default_container();
    container.command = if bare.command.is_empty() { None } else { Some(bare.command) };
    let mut deploy = deploy::default();
    deploy.mode = Mode::Replicated(replicas);
    let guarantee = Guarantee::Available;
    let service = Service { image, container, guarantee, deploy, ports };
    Ok(Manifest { name: bare.name, services: BTreeMap::from([(name, service)]) })
}
