//! Carries out what the coordinator wants.

use std::collections::BTreeMap;
use std::sync::Arc;

use mesh_coordinator::catalogue::{App, Entry};
use mesh_coordinator::event::{Event, Severity, Subject};
use mesh_coordinator::id::{Hash, Revision, SlotId, SlotIndex};
use mesh_coordinator::node::{Output, Ticket};
use mesh_coordinator::spec::ServiceSpec;
use mesh_coordinator::workload::{Do, Observed};
use mesh_ports::gossip::Gossip;
use mesh_ports::network::HostPort;
use mesh_ports::peer::Peers;
use mesh_ports::runtime::{Container, ContainerId, Tag};
use mesh_ports::store::{Change, Store};
use tracing::{debug, error, info, warn};

use super::{Task, World, Written};
use crate::records;
use crate::replica::{Job, Replica, Report};

/// How a container stops whose definition is not known any more: as Docker's default does.
const STOP_GRACE: std::time::Duration = std::time::Duration::from_secs(10);

impl<W: World> Task<W> {
    pub(super) async fn carry_out(&mut self, output: Output) {
        match output {
            Output::Changed => self.parts.directory.update(self.node.state()),
            Output::Do { slot, revision, job } => self.work(&slot, revision, job),
            Output::Erase(hashes) => self.erase(hashes),
            Output::Event(event) => self.tell(&event),
            Output::Prefetch(digest) => self.prefetch(digest),
            Output::Publish(fact) => self.parts.gossip.publish(fact).await,
            Output::Send { to, message } => self.parts.peers.send(to, message),
            Output::Store { ticket, entries } => self.store(ticket, entries),
            Output::Submitted { .. } => self.reply(output),
            Output::Watch(nodes) => self.parts.peers.watch(nodes),
            Output::Withdraw(key) => self.parts.gossip.withdraw(key).await,
        }
    }

    fn store(&self, ticket: Ticket, entries: Vec<Entry>) {
        let (store, done) = (Arc::clone(&self.parts.store), self.done.clone());
        self.tasks.spawn_to_end("store", async move {
            let outcome =
                tokio::task::spawn_blocking(move || store.commit(records::put(&entries))).await;
            // A panic of the store is a bug that the process ends on elsewhere; the ticket is simply never answered.
            if let Ok(outcome) = outcome {
                drop(done.send(Written { ticket, outcome }).await);
            }
        });
    }

    fn erase(&self, hashes: Vec<Hash>) {
        let store = Arc::clone(&self.parts.store);
        self.tasks.spawn_to_end("erase", async move {
            let changes: Vec<Change> = records::erase(&hashes);
            let outcome = tokio::task::spawn_blocking(move || store.commit(changes)).await;
            if let Ok(Err(failure)) = outcome {
                // They are void: at the next start they are judged and left out again.
                warn!(error = %mesh_telemetry::Chain(&failure), "void records stay on the disk");
            }
        });
    }

    fn tell(&mut self, event: &Event) {
        self.journal.write(event);
        let about = match &event.subject {
            Subject::Mesh => "mesh".to_owned(),
            Subject::Node(node) => {
                let name = self.node.state().nodes.get(node).map(|member| member.name.to_string());
                name.unwrap_or_else(|| node.to_string())
            }
            Subject::Slot(slot) => self.node.slot_name(slot),
        };
        match event.severity {
            Severity::Info => info!(about, what = event.text, "event"),
            Severity::Warning => warn!(about, what = event.text, "event"),
            Severity::Error => error!(about, what = event.text, "event"),
        }
    }

    fn prefetch(&self, digest: String) {
        let fetcher = Arc::clone(&self.tools.fetcher);
        self.tasks.spawn("prefetch", async move {
            if let Err(reason) = fetcher.ensure(&digest).await {
                debug!(%digest, %reason, "not fetched ahead of time");
            }
        });
    }

    fn work(&mut self, slot: &SlotId, revision: Revision, job: Do) {
        match job {
            Do::Start => match self.container(slot, revision) {
                Some(container) => self.push(slot, revision, Job::Start(Box::new(container))),
                None => self.report(slot, revision, gone()),
            },
            Do::Stop => {
                let template = self.definition(slot).map(|(_, spec)| &spec.template);
                let (signal, grace) = template
                    .map_or((mesh_coordinator::spec::StopSignal::TERM, STOP_GRACE), |template| {
                        (template.stop_signal, template.stop_grace)
                    });
                self.push(slot, revision, Job::Stop { signal, grace });
            }
            Do::Remove => self.push(slot, revision, Job::Remove),
            Do::Probe => self.probe(slot, revision),
        }
    }

    fn push(&mut self, slot: &SlotId, revision: Revision, job: Job) {
        let id = self.container_of(slot, revision);
        self.containers.insert(id.clone(), (slot.clone(), revision));
        if !self.workers.contains_key(&id) {
            let replica = Replica { id: id.clone(), slot: slot.clone(), revision };
            let (worker, life) = self.tools.worker(replica);
            self.tasks.spawn("replica", life);
            self.workers.insert(id.clone(), worker);
        }
        let pushed = self.workers.get(&id).is_some_and(|worker| worker.push(job));
        if !pushed {
            error!(container = %id, "the worker of a container does not take its job");
        }
    }

    fn probe(&self, slot: &SlotId, revision: Revision) {
        let check = self.definition(slot).and_then(|(_, spec)| spec.template.healthcheck.clone());
        let Some(check) = check else {
            return self.report(slot, revision, Observed::Probed { passed: true });
        };
        let id = self.container_of(slot, revision);
        let replica = Replica { id, slot: slot.clone(), revision };
        let life = self.tools.clone().probe(replica, check.test, check.timeout);
        self.tasks.spawn("probe", life);
    }

    fn report(&self, slot: &SlotId, revision: Revision, observed: Observed) {
        let reports = self.tools.reports.clone();
        let report = Report { slot: slot.clone(), revision, observed, address: None };
        self.tasks.spawn("report", async move { drop(reports.send(report).await) });
    }

    fn definition(&self, slot: &SlotId) -> Option<(&App, &ServiceSpec)> {
        let app = self.node.state().apps.get(&slot.app)?;
        Some((app, app.release.spec.service(&slot.service)?))
    }

    /// The name of the container of a slot and revision on this node: readable, and never the same for two.
    pub(super) fn container_of(&self, slot: &SlotId, revision: Revision) -> ContainerId {
        let known = self.containers.iter().find(|(_, (s, r))| s == slot && *r == revision);
        if let Some((id, _)) = known {
            return id.clone();
        }
        let unique = Hash::of(&[&slot.digest().0, &revision.id.to_be_bytes()]).head() >> 32;
        let app = self
            .definition(slot)
            .map_or_else(|| "app".to_owned(), |(app, _)| app.release.spec.name.to_string());
        let index = match slot.index {
            SlotIndex::Number(number) => number.to_string(),
            SlotIndex::Node(_) => "node".to_owned(),
        };
        ContainerId(format!("{app}-{}-{index}-{unique:08x}", slot.service))
    }

    fn container(&self, slot: &SlotId, revision: Revision) -> Option<Container> {
        let (app, spec) = self.definition(slot)?;
        if app.revision(&slot.service, spec) != revision {
            return None;
        }
        let name = self.node.slot_name(slot);
        let node = self.node.state().nodes.get(&self.node.id())?;
        let mut environment = BTreeMap::from([
            ("MESH_APP".to_owned(), app.release.spec.name.to_string()),
            ("MESH_SERVICE".to_owned(), slot.service.to_string()),
            ("MESH_SLOT".to_owned(), name.clone()),
            ("MESH_NODE".to_owned(), node.name.to_string()),
            ("MESH_RELEASE".to_owned(), format!("v{}", app.release.version)),
        ]);
        if let Some(port) =
            spec.ports.first().filter(|_| !spec.template.environment.contains_key("PORT"))
        {
            environment.insert("PORT".to_owned(), port.target.to_string());
        }
        let index = name.rsplit('/').next().unwrap_or_default();
        let hostname =
            spec.template.hostname.clone().unwrap_or_else(|| format!("{}-{index}", slot.service));
        let ports =
            spec.ports.iter().filter(|port| port.mode == mesh_coordinator::spec::PublishMode::Host);
        Some(Container {
            id: self.container_of(slot, revision),
            tag: Tag { slot: slot.clone(), revision, name },
            template: spec.template.clone(),
            environment,
            hostname,
            ports: ports
                .map(|port| HostPort {
                    host: port.published,
                    container: port.target,
                    protocol: port.protocol,
                })
                .collect(),
        })
    }
}

/// The definition changed between the claim and the start: the claim will follow.
fn gone() -> Observed {
    Observed::StartFailed { reason: "its definition changed meanwhile".to_owned(), transient: true }
}
