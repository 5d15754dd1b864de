//! Containers: an agent's workers, and the processes that outlive the agent.

use mesh_coordinator::id::{Revision, SlotId};
use mesh_coordinator::node::Input;
use mesh_coordinator::spec::{RestartPolicy, ServiceSpec};
use mesh_coordinator::workload::{Do, Observed};

use super::World;
use super::clock::{MILLI, SECOND, Time};
use super::host::{Container, Process, Worker};
use super::queue::{Event, Key};

impl World {
    /// An agent wants something done with a container.
    pub(crate) fn work(&mut self, host: usize, slot: &SlotId, revision: Revision, job: Do) {
        let key = (slot.clone(), revision.id);
        match job {
            Do::Start => {
                self.check_start(host, slot, revision);
                self.check_guarded(host, &key);
            }
            Do::Stop => self.check_release(host, slot, revision),
            Do::Probe => return self.probe(host, key),
            Do::Remove => {}
        }
        if job == Do::Start {
            self.coverage.starts += 1;
            self.tally.starts(host);
            let containers = &mut self.hosts[host].containers;
            containers.entry(key.clone()).or_insert_with(|| Container::new(revision)).stopping =
                false;
        }
        let life = self.hosts[host].life;
        let Some(agent) = &mut self.hosts[host].agent else { return };
        let worker = agent.workers.entry(key.clone()).or_insert_with(Worker::default);
        worker.jobs.push_back(job);
        worker.starting = job == Do::Start;
        if job != Do::Start && worker.fetching {
            // A stop ends the wait for an image.
            let job = worker.job;
            self.queue.at(self.now + 1, Event::Worked { host, life, key: key.clone(), job });
        }
        self.next_job(host, &key);
    }

    fn next_job(&mut self, host: usize, key: &Key) {
        let digest = self.definition(host, key).map(|spec| spec.template.image.digest.clone());
        let here = digest.is_some_and(|digest| self.hosts[host].images.contains(&digest));
        let bad = self.hosts[host].runtime_bad;
        let slow = if bad { 1 + self.rng.below(12) } else { 1 };
        let (fetch, start) =
            (self.spread(self.plan.fetch) * slow, self.spread(self.plan.start) * slow);
        let (stop, remove) = (self.spread(300 * MILLI), self.spread(20 * MILLI));
        let life = self.hosts[host].life;
        let Some(agent) = &mut self.hosts[host].agent else { return };
        let Some(worker) = agent.workers.get_mut(key) else { return };
        if worker.current.is_some() {
            return;
        }
        let Some(job) = worker.jobs.pop_front() else { return };
        worker.current = Some(job);
        worker.job += 1;
        worker.fetching = job == Do::Start && !here;
        let wait = match job {
            Do::Start if !here => fetch,
            Do::Start => start,
            Do::Stop => stop,
            Do::Remove | Do::Probe => remove,
        };
        let event = Event::Worked { host, life, key: key.clone(), job: worker.job };
        self.queue.at(self.now + wait, event);
    }

    /// Around `usual`: between half and one and a half of it.
    pub(crate) fn spread(&mut self, usual: Time) -> Time {
        usual / 2 + self.rng.below(usual + 1)
    }

    /// A worker is done with its current job.
    pub(crate) fn worked(&mut self, host: usize, life: u64, key: Key, number: u64) {
        let Some(agent) = self.hosts[host].agent_of(life) else { return };
        let Some(worker) = agent.workers.get_mut(&key) else { return };
        let Some(job) = worker.current.filter(|_| worker.job == number) else { return };
        let hurried = worker.jobs.iter().any(|job| *job != Do::Start);
        if std::mem::take(&mut worker.fetching) && !hurried {
            return self.fetched(host, &key);
        }
        worker.current = None;
        if job == Do::Start {
            self.tally.started(host, 1);
        }
        let observed = match job {
            Do::Start => self.start_ends(host, &key, hurried),
            Do::Stop => self.stop_ends(host, &key),
            Do::Remove | Do::Probe => {
                if let Some(agent) = &mut self.hosts[host].agent {
                    agent.workers.remove(&key);
                }
                self.hosts[host].containers.remove(&key);
                Observed::Removed
            }
        };
        if job == Do::Start
            && let Some(worker) =
                self.hosts[host].agent.as_mut().and_then(|agent| agent.workers.get_mut(&key))
        {
            worker.starting = false;
        }
        self.observed(host, &key, observed);
        self.next_job(host, &key);
    }

    /// The image is here: the start goes on.
    fn fetched(&mut self, host: usize, key: &Key) {
        let digest = self.definition(host, key).map(|spec| spec.template.image.digest.clone());
        let start = self.spread(self.plan.start);
        self.hosts[host].images.extend(digest);
        let life = self.hosts[host].life;
        let Some(agent) = &mut self.hosts[host].agent else { return };
        let Some(worker) = agent.workers.get_mut(key) else { return };
        worker.job += 1;
        let event = Event::Worked { host, life, key: key.clone(), job: worker.job };
        self.queue.at(self.now + start, event);
    }

    fn start_ends(&mut self, host: usize, key: &Key, hurried: bool) -> Observed {
        let fails = self.hosts[host].runtime_bad && self.rng.chance(500);
        let lives = self.lifetime(host, key);
        let serial = self.rng.next_u64();
        let checked = self.is_checked(host, key);
        if fails || hurried || !self.begin(host, key, serial, checked) {
            let transient = hurried || self.rng.chance(700);
            return Observed::StartFailed { reason: "the runtime says no".to_owned(), transient };
        }
        if let Some((lifetime, code)) = lives {
            let key = key.clone();
            self.queue.at(self.now + lifetime, Event::Ends { host, serial, key, code });
        }
        Observed::Started
    }

    fn stop_ends(&mut self, host: usize, key: &Key) -> Observed {
        if let Some(container) = self.hosts[host].containers.get_mut(key)
            && container.process == Process::Running
        {
            container.process = Process::Ended(Some(143));
        }
        Observed::Stopped
    }

    /// When the process will end by itself: what runs to completion does so.
    pub(crate) fn lifetime(&mut self, host: usize, key: &Key) -> Option<(Time, i32)> {
        let spec = self.definition(host, key)?;
        matches!(spec.template.restart, RestartPolicy::OnFailure { .. })
            .then(|| (SECOND + self.rng.below(20 * SECOND), i32::from(self.rng.chance(200))))
    }

    /// Whether the container has a health check.
    pub(crate) fn is_checked(&self, host: usize, key: &Key) -> bool {
        self.definition(host, key).is_none_or(|spec| spec.template.healthcheck.is_some())
    }

    pub(crate) fn definition(&self, host: usize, key: &Key) -> Option<&ServiceSpec> {
        let app = self.hosts[host].node()?.state().apps.get(&key.0.app)?;
        app.release.spec.service(&key.0.service)
    }

    fn probe(&mut self, host: usize, key: Key) {
        let wait = self.spread(20 * MILLI);
        let life = self.hosts[host].life;
        self.queue.at(self.now + wait, Event::Probed { host, life, key });
    }

    pub(crate) fn probed(&mut self, host: usize, life: u64, key: &Key) {
        let now = self.now;
        let container = self.hosts[host].containers.get_mut(key);
        let passed = container.is_some_and(|container| {
            let passed = container.process == Process::Running && container.sick_until <= now;
            container.sound |= passed;
            passed
        });
        if self.hosts[host].agent_of(life).is_some() {
            let failure = (!passed).then(|| "exit code 1".to_owned());
            self.observed(host, key, Observed::Probed { failure });
        }
    }

    /// A process ends by itself.
    pub(crate) fn ends(&mut self, host: usize, serial: u64, key: &Key, code: i32) {
        let Some(container) = self.hosts[host].containers.get_mut(key) else { return };
        if container.serial != serial || container.process != Process::Running {
            return;
        }
        container.process = Process::Ended(Some(code));
        container.proved = false;
        self.checks.excuse(&key.0, self.now);
        self.observed(host, key, Observed::Ended { code: Some(code), oom: false });
    }

    fn observed(&mut self, host: usize, key: &Key, observed: Observed) {
        let revision = self.hosts[host].containers.get(key).map(|container| container.revision);
        let revision = revision.unwrap_or(Revision { number: 0, id: key.1 });
        self.input(host, Input::Observed { slot: key.0.clone(), revision, observed });
    }
}
