//! Carries out what the coordinator wants.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mesh_coordinator::catalogue::{App, Refusal};
use mesh_coordinator::event::{Event, Severity, Subject};
use mesh_coordinator::id::{Hash, NodeId, PublicKey, Revision, SlotId, SlotIndex};
use mesh_coordinator::lease::exclusive::Fence;
use mesh_coordinator::node::Output;
use mesh_coordinator::spec::{PublishMode, ServiceSpec, StopSignal, Template};
use mesh_coordinator::workload::{Do, Observed};
use mesh_ports::gossip::Gossip;
use mesh_ports::network::HostPort;
use mesh_ports::peer::Peers;
use mesh_ports::runtime::{Container, ContainerError, ContainerId, Runtime as _, Tag};
use mesh_ports::store::RegisterCodec as _;
use mesh_telemetry::{Chain, Reason};
use tracing::{error, info, warn};

use super::{Task, World};
use crate::disk::Promise;
use crate::worker::{Job, Replica, Report};

/// How a container stops whose definition is not known any more: as Docker's default does.
const STOP_GRACE: Duration = Duration::from_secs(10);

impl<W: World> Task<W> {
    pub(super) async fn carry_out(&mut self, output: Output) {
        match output {
            Output::Changed => self.follow_catalogue(),
            Output::Do { slot, revision, job } => self.work(&slot, revision, job),
            Output::Erase(hashes) => self.disk.erase(&hashes),
            Output::Event(event) => self.tell(&event),
            Output::Fence { slot, revision, fence } => self.fence(&slot, revision, fence),
            Output::Persist { ticket, lease, register, then } => {
                let register = self.parts.registers.encode(&lease, &register);
                self.disk.put_register(register, Promise { ticket, then });
            }
            Output::Prefetch(digest) => self.prefetch(digest),
            Output::Publish(fact) => self.parts.gossip.publish(fact).await,
            Output::Refused { from, author, refusal } => self.count(from, author, &refusal),
            Output::Send { to, message } => self.parts.peers.send(to, message),
            Output::Store { ticket, entries } => self.disk.put(ticket, &entries),
            Output::Submitted { .. } => self.reply(output),
            Output::Watch(nodes) => self.parts.peers.watch(nodes),
            Output::Withdraw(key) => self.parts.gossip.withdraw(key).await,
        }
    }

    fn count(&self, from: NodeId, author: PublicKey, refusal: &Refusal) {
        let is_unknown = matches!(refusal, Refusal::UnknownAuthor(_));
        let reason = if is_unknown { Reason::RecordUnknownAuthor } else { Reason::RecordRefused };
        let words = format_args!("a record of {author}: {refusal}");
        self.parts.refusals.refuse(reason, from, words);
    }

    fn follow_catalogue(&self) {
        let state = self.node.state();
        self.parts.directory.update(state);
        let images = state.apps.values().flat_map(|app| app.release.spec.images()).collect();
        self.tools.fetcher.keep_ahead(&images);
    }

    pub(super) fn tell(&mut self, event: &Event) {
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
        let seed = Hash::of(&[self.node.id().as_bytes(), digest.as_bytes()]).head();
        self.tasks.spawn("prefetch", async move { fetcher.ensure_ahead(&digest, seed).await });
    }

    fn work(&mut self, slot: &SlotId, revision: Revision, job: Do) {
        match job {
            Do::Start => match self.container(slot, revision) {
                Some(container) => self.push(slot, revision, Job::Start(Box::new(container))),
                None => self.report(slot, revision, gone()),
            },
            Do::Stop => self.stop(slot, revision),
            Do::Remove => self.push(slot, revision, Job::Remove),
            Do::Probe => self.probe(slot, revision),
        }
    }

    /// Keeps what the guard is to be told for the start, and tells the guard of what runs. It takes nothing back, so the order in which it
    /// hears of it does not matter.
    fn fence(&mut self, slot: &SlotId, revision: Revision, fence: Fence) {
        let id = self.container_of(slot, revision);
        let local = self.replicas.entry(slot, revision, id.clone());
        local.fence.send_replace(Some(fence));
        if local.address.is_none() {
            return;
        }
        let runtime = Arc::clone(&self.tools.runtime);
        self.tasks.spawn("fence", async move {
            let told = runtime.extend(&id, fence).await;
            // What has ended by itself is started with the newest.
            if let Err(error) = told
                && !matches!(error, ContainerError::Unknown(_) | ContainerError::NotRunning(_))
            {
                // It ends when its guard was last told.
                warn!(container = %id, error = %Chain(&error), "a guard was not told of a later end");
            }
        });
    }

    fn stop(&mut self, slot: &SlotId, revision: Revision) {
        let known = self.replicas.get(slot, revision).and_then(|local| local.template.as_ref());
        let template = known.or_else(|| Some(&self.definition(slot)?.1.template));
        let (signal, grace) = template.map_or((StopSignal::TERM, STOP_GRACE), |template| {
            (template.stop_signal, template.stop_grace)
        });
        self.push(slot, revision, Job::Stop { signal, grace });
        // A start that is given up because its image takes too long would take as long the next time if nobody went on, and the
        // core asks only once for an image.
        let came_up = self.replicas.address(slot, revision).is_some();
        let wanted = self.node.state().apps.get(&slot.app).is_some_and(|app| app.wants(slot));
        if let Some(template) = self.template(slot, revision).filter(|_| wanted && !came_up) {
            self.prefetch(template.image.digest);
        }
    }

    fn push(&mut self, slot: &SlotId, revision: Revision, job: Job) {
        let id = self.container_of(slot, revision);
        let local = self.replicas.entry(slot, revision, id.clone());
        if let Job::Start(container) = &job {
            local.template = Some(container.template.clone());
        }
        let worker = local.worker.take().filter(|worker| !worker.has_ended());
        let worker = worker.unwrap_or_else(|| {
            let replica = Replica { id: id.clone(), slot: slot.clone(), revision };
            let (worker, life) = self.tools.worker(replica, local.fence.subscribe());
            self.tasks.spawn("replica", life);
            worker
        });
        if !worker.push(job) {
            error!(container = %id, "the worker of a container does not take its job");
        }
        local.worker = Some(worker);
    }

    /// By the check that the container was started with. When that is not known any more, nothing says that it is unhealthy,
    /// and its replacement is on its way.
    fn probe(&self, slot: &SlotId, revision: Revision) {
        let known = self.replicas.get(slot, revision).and_then(|local| local.template.clone());
        let template = known.or_else(|| self.template(slot, revision));
        let Some(check) = template.and_then(|template| template.healthcheck) else {
            return self.report(slot, revision, Observed::Probed { failure: None });
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

    /// What `revision` of a slot is made from; `None` when the catalogue has another definition.
    pub(super) fn template(&self, slot: &SlotId, revision: Revision) -> Option<Template> {
        let (app, spec) = self.definition(slot)?;
        (app.revision(&slot.service, spec) == revision).then(|| spec.template.clone())
    }

    /// The name of the container of a slot and revision on this node: readable, and never the same for two.
    pub(super) fn container_of(&self, slot: &SlotId, revision: Revision) -> ContainerId {
        if let Some(local) = self.replicas.get(slot, revision) {
            return local.id.clone();
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
        let fence = self.replicas.get(slot, revision).and_then(|local| *local.fence.borrow());
        if spec.guarantee.is_exclusive() && fence.is_none() {
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
        let ports = spec.ports.iter().filter(|port| port.mode == PublishMode::Host);
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
            fence,
        })
    }
}

/// The definition changed between the claim and the start: the claim will follow.
fn gone() -> Observed {
    Observed::StartFailed { reason: "its definition changed meanwhile".to_owned(), transient: true }
}
