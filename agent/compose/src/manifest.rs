//! What a manifest says, before it is known which image a name means.

use std::collections::BTreeMap;
use std::time::Duration;

use mesh_coordinator::id::Revision;
use mesh_coordinator::name::{AppName, ServiceName};
use mesh_coordinator::spec::{
    AppSpec, Deploy, Guarantee, Healthcheck, ImageRef, Limits, PublishedPort, RestartPolicy,
    ServiceSpec, StopSignal, Template,
};

use crate::bare::BareImage;
use crate::problem::Problems;

/// An app as its manifest describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The app's name.
    pub name: AppName,
    /// The services, by name; never empty.
    pub services: BTreeMap<ServiceName, Service>,
}

/// One service of an app as its manifest describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// The image's name as the manifest writes it.
    pub image: String,
    /// What else defines the container.
    pub container: Container,
    /// What holds while nodes cannot hear each other.
    pub guarantee: Guarantee,
    /// How many replicas, and where.
    pub deploy: Deploy,
    /// The ports under which the service can be reached from outside, in the manifest's order.
    pub ports: Vec<PublishedPort>,
}

/// Everything of a [`Template`] but the image; the fields mean the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Replaces the image's entry point; `None` keeps it.
    pub entrypoint: Option<Vec<String>>,
    /// Replaces the image's command; `None` keeps it.
    pub command: Option<Vec<String>>,
    /// Environment variables, those of files included.
    pub environment: BTreeMap<String, String>,
    /// Where the process starts; `None` is the image's choice.
    pub working_dir: Option<String>,
    /// Who runs the process; `None` is the image's choice.
    pub user: Option<String>,
    /// The host name; `None` is `<service>-<index>`.
    pub hostname: Option<String>,
    /// Labels of the container.
    pub labels: BTreeMap<String, String>,
    /// When to start the process again. Without `restart` always: the one default that is not Compose's, whose default is
    /// never. To keep things running is what a mesh is for, and Swarm has the same default.
    pub restart: RestartPolicy,
    /// How to know that the replica is ready; `None` is as soon as it runs.
    pub healthcheck: Option<Healthcheck>,
    /// The signal that asks the process to stop.
    pub stop_signal: StopSignal,
    /// How long it may take to stop.
    pub stop_grace: Duration,
    /// The most it may use.
    pub limits: Limits,
}

impl Container {
    /// The container made from `image`.
    #[must_use]
    pub fn with_image(self, image: ImageRef) -> Template {
        Template {
            image,
            entrypoint: self.entrypoint,
            command: self.command,
            environment: self.environment,
            working_dir: self.working_dir,
            user: self.user,
            hostname: self.hostname,
            labels: self.labels,
            restart: self.restart,
            healthcheck: self.healthcheck,
            stop_signal: self.stop_signal,
            stop_grace: self.stop_grace,
            limits: self.limits,
        }
    }
}

/// An image of which nobody knows the digest. *Nothing was resolved.*
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the image {image} of services.{service} is not known")]
pub struct MissingImage {
    /// The service that needs it.
    pub service: ServiceName,
    /// Its name as the manifest writes it.
    pub image: String,
}

impl Manifest {
    /// The manifest of an app that is one image; everything else is as in a manifest that says nothing more.
    ///
    /// # Errors
    ///
    /// All faults of the arguments, with the flag as their path.
    pub fn from_image(bare: BareImage) -> Result<Self, Problems> {
        crate::bare::manifest(bare)
    }

    /// The specification, with each image pinned to the digest that `digest_of` gives for its name.
    ///
    /// A service whose template is the one of `previous` keeps its revision; any other gets the next number, 1 when it is
    /// new, and the identity that `revision_id` makes of its template.
    ///
    /// # Errors
    ///
    /// All services whose image `digest_of` does not know.
    pub fn resolve(
        self,
        digest_of: impl Fn(&str) -> Option<String>,
        previous: Option<&AppSpec>,
        revision_id: impl Fn(&Template) -> u64,
    ) -> Result<AppSpec, Vec<MissingImage>> {
        let mut services = BTreeMap::new();
        let mut missing = Vec::new();
        for (name, service) in self.services {
            let Some(digest) = digest_of(&service.image) else {
                missing.push(MissingImage { service: name, image: service.image });
                continue;
            };
            let template = service.container.with_image(ImageRef { name: service.image, digest });
            let before = previous.and_then(|spec| spec.service(&name));
            let revision = match before {
                Some(before) if before.template == template => before.revision,
                before => Revision {
                    number: before.map_or(0, |before| before.revision.number).saturating_add(1),
                    id: revision_id(&template),
                },
            };
            let Service { guarantee, deploy, ports, .. } = service;
            let spec = ServiceSpec { template, revision, guarantee, deploy, ports };
            services.insert(name, spec);
        }
        if missing.is_empty() { Ok(AppSpec { name: self.name, services }) } else { Err(missing) }
    }
}

#[cfg(test)]
mod tests;
