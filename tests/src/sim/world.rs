//! The loop: takes what happens next, and lets the nodes answer.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;

use mesh_coordinator::catalogue::Entry;
use mesh_coordinator::fact::{Claim, Fact, Phase};
use mesh_coordinator::id::{Hash, NodeId, PublicKey};
use mesh_coordinator::lease::exclusive::StoreId;
use mesh_coordinator::node::{Input, Output};
use mesh_coordinator::prng::Prng;
use mesh_coordinator::rules::Rules;
use mesh_coordinator::spec::{Bytes, Cpu, Labels, Reservation};

use super::Setup;
use super::check::Checks;
use super::clock::{Clock, SECOND, Time};
use super::coverage::Coverage;
use super::gossip::Gossip;
use super::host::Host;
use super::net::Net;
use super::operator::Operator;
use super::plan::{Fault, Plan};
use super::queue::{Event, Queue};
use super::trace::Trace;
use super::traffic::Tally;

/// Lines of the log that are kept.
const LOG_MAX: usize = 400_000;

/// All there is.
pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) rules: Rules,
    pub(crate) plan: Plan,
    pub(crate) rng: Prng,
    pub(crate) now: Time,
    pub(crate) queue: Queue,
    pub(crate) hosts: Vec<Host>,
    pub(crate) index: BTreeMap<NodeId, usize>,
    pub(crate) net: Net,
    pub(crate) gossip: Gossip,
    pub(crate) operator: Operator,
    pub(crate) checks: Checks,
    pub(crate) coverage: Coverage,
    pub(crate) tally: Tally,
    pub(crate) trace: Trace,
    /// Looks of observers at those they watch that are going to happen.
    pub(crate) pairs: BTreeSet<(usize, usize)>,
    /// Kept to be used again.
    pub(crate) beats: Vec<(Time, usize, u64)>,
    outputs: Vec<Output>,
    /// When something last happened that the mesh has to get over.
    pub(crate) calm_from: Time,
    /// What last befell the ways between hosts, and when.
    pub(crate) struck: Option<(Fault, Time)>,
    /// Whether several things happen at this moment, and who reaches whom is worked out behind the last.
    pub(crate) at_once: bool,
    pub(crate) log: Vec<String>,
    logs: bool,
}

impl World {
    pub(crate) fn new(setup: Setup) -> Self {
        let mut plan = Plan::draw(&mut Prng::new(setup.seed));
        if let Some(rule) = setup.about {
            plan.give_occasion(rule);
        }
        if let Some(n_hosts) = setup.n_hosts {
            (plan.n_hosts, plan.n_hosts_max) = (n_hosts, n_hosts + 2);
        }
        Self::with_plan(setup.seed, setup.rules, plan)
    }

    /// A mesh whose hosts all know of each other, about to start.
    pub(crate) fn with_plan(seed: u64, rules: Rules, plan: Plan) -> Self {
        let (mut world, records) = Self::unpowered(seed, rules, plan);
        for host in 0..world.hosts.len() {
            world.hosts[host].disk = records.iter().map(|it| (it.hash, it.clone())).collect();
            let wait = world.rng.below(2 * SECOND);
            world.boot_after(host, wait);
        }
        world
    }

    /// The hosts of a mesh, and the records by which they are its members, which are on no disk yet.
    pub(crate) fn unpowered(seed: u64, rules: Rules, plan: Plan) -> (Self, Vec<Entry>) {
        let (operator, genesis) = Operator::new(seed);
        let n_hosts = plan.n_hosts;
        let mut world = Self {
            seed,
            rules,
            rng: Prng::new(seed ^ 0x5EED),
            now: 0,
            queue: Queue::default(),
            hosts: Vec::new(),
            index: BTreeMap::new(),
            net: Net::default(),
            gossip: Gossip::default(),
            operator,
            checks: Checks::default(),
            coverage: Coverage::default(),
            tally: Tally::default(),
            trace: Trace::default(),
            pairs: BTreeSet::new(),
            beats: Vec::new(),
            outputs: Vec::new(),
            calm_from: 0,
            struck: None,
            at_once: false,
            log: Vec::new(),
            logs: std::env::var_os("SIM_LOG").is_some(),
            plan,
        };
        let mut records = vec![genesis];
        for _ in 0..n_hosts {
            let host = world.add_host();
            let labels: Labels = world.some_labels();
            let (key, name) = (world.hosts[host].key, world.hosts[host].name.clone());
            records.extend(world.operator.admit(key, &name, labels));
        }
        (world, records)
    }

    /// One more host. Nothing runs on it.
    pub(crate) fn add_host(&mut self) -> usize {
        let host = self.hosts.len();
        let key = PublicKey(Hash::of(&[b"host", &self.seed.to_be_bytes(), &host.to_be_bytes()]).0);
        let drift = self.plan.drift_ppm;
        // Not from the stream of random numbers, so that seeds without exclusive slots stay what they are.
        let draw = |what: &[u8]| (Hash::of(&[what, &key.0]).head() >> 1) as i64;
        let millis = if self.plan.roomy { 4_000 } else { 1_000 };
        let it = Host {
            id: NodeId::of(&key),
            key,
            name: format!("n{host}").parse().expect("a name"),
            clock: Clock {
                drift_ppm: self.rng.below(2 * drift as u64 + 1) as i64 - drift,
                raw_ppm: draw(b"raw") % (2 * drift + 1) - drift,
                slept: 0,
                stood: 0,
                start: self.rng.below(1_000 * SECOND),
                wall_off_ms: self.rng.below(60_000) as i64 - 30_000,
            },
            capacity: Reservation { cpu: Cpu { millis }, memory: Bytes(8 << 30) },
            powered: false,
            lost: false,
            agent: None,
            life: 0,
            incident: 0,
            announced: None,
            disk: BTreeMap::new(),
            disk_full: false,
            disk_slow: false,
            disk_bad: false,
            asleep: None,
            is_frozen: false,
            postponed: Vec::new(),
            struck: None,
            store: StoreId(draw(b"store") as u128),
            registers: BTreeMap::new(),
            unflushed: VecDeque::new(),
            disk_free: [0; 2],
            boot: u128::from(key.0[0]) << 64,
            runtime_bad: false,
            images: BTreeSet::new(),
            containers: BTreeMap::new(),
            admits: BTreeSet::new(),
        };
        self.index.insert(it.id, host);
        self.hosts.push(it);
        self.gossip.grow(self.hosts.len());
        host
    }

    /// Runs to the end, or to the first violation.
    pub(crate) fn run(&mut self) {
        self.queue.at(4 * SECOND, Event::Act);
        self.queue.at(10 * SECOND, Event::Stroke);
        self.queue.at(self.plan.heal, Event::Heal);
        self.queue.at(SECOND, Event::Look);
        self.run_until(self.plan.end);
        if self.checks.violation.is_none() {
            self.check_end();
        }
    }

    pub(crate) fn run_until(&mut self, end: Time) {
        while self.checks.violation.is_none() {
            let Some((at, event)) = self.queue.pop_until(end) else {
                self.now = self.now.max(end);
                return;
            };
            self.now = at;
            self.happen(event);
        }
    }

    fn happen(&mut self, event: Event) {
        let Some(event) = self.awaken_later(event) else { return };
        match event {
            Event::Arrive { from, to, message } => self.arrive(from, to, *message),
            Event::Pair { watcher, watched } => self.look_at_pair(watcher, watched),
            Event::Wake { host, life } => self.wake(host, life),
            Event::Gossip { author, reader } => self.gossip_arrive(author, reader),
            Event::GossipDead { author, reader, lost } => self.gossip_dead(author, reader, lost),
            Event::Written { host, life, ticket, entries, full } => {
                self.written((host, life), ticket, entries, full);
            }
            Event::Worked { host, life, key, job } => self.worked(host, life, key, job),
            Event::Probed { host, life, key } => self.probed(host, life, &key),
            Event::Flushed { host, life, ticket, then } => {
                self.flushed((host, life), ticket, then);
            }
            Event::Guard { host, key } => self.guard(host, &key),
            Event::Ends { host, serial, key, code } => self.ends(host, serial, &key, code),
            Event::Fetched { host, life, digest } => {
                if self.hosts[host].life == life {
                    self.hosts[host].images.insert(digest);
                }
            }
            Event::Admit { host } => self.admit(host),
            Event::Boot { host, incident } => self.boot(host, incident),
            Event::Resume { host, life } => self.resume(host, life),
            Event::Mend { from, to, cut } => self.mend(from, to, cut),
            Event::Recover { host } => self.recover(host),
            Event::Stroke => self.stroke(),
            Event::Act => self.act(),
            Event::Look => {
                self.look();
                self.queue.at(self.now + SECOND, Event::Look);
            }
            Event::Heal => self.heal(),
        }
    }

    /// Something happened, or will until `lasts` from now, that the mesh has to get over.
    pub(crate) fn disturb(&mut self, lasts: Time) {
        self.calm_from = self.calm_from.max(self.now + lasts);
    }

    fn wake(&mut self, host: usize, life: u64) {
        let now = self.now;
        let Some(agent) = self.hosts[host].agent_of(life) else { return };
        if agent.wake != Some(now) || agent.paused {
            return;
        }
        agent.wake = None;
        self.listen(host);
        let Host { agent, clock, .. } = &self.hosts[host];
        let deadline = agent.as_ref().and_then(|agent| agent.node.next_deadline());
        if deadline.is_some_and(|deadline| clock.global(deadline) <= now) {
            self.check_wake(host);
            self.step(host, now, Input::Wake);
        }
        self.rearm(host);
    }

    /// Sees to it that the agent is woken at its deadline.
    pub(crate) fn rearm(&mut self, host: usize) {
        let (now, life) = (self.now, self.hosts[host].life);
        let Host { agent, clock, .. } = &mut self.hosts[host];
        let Some(agent) = agent else { return };
        let Some(deadline) = agent.node.next_deadline() else { return };
        let at = clock.global(deadline).max(now + 1);
        if agent.wake.is_none_or(|wake| at < wake || wake < now) && !agent.paused {
            agent.wake = Some(at);
            self.queue.at(at, Event::Wake { host, life });
        }
    }

    /// Something happened to the agent of a host: it answers now, or when its pause is over.
    pub(crate) fn input(&mut self, host: usize, input: Input) {
        let Some(agent) = &self.hosts[host].agent else { return };
        if agent.paused {
            return self.queue_up(host, input);
        }
        self.listen(host);
        self.step(host, self.now, input);
        self.rearm(host);
    }

    /// The agent handles an input that came at `at`.
    pub(crate) fn step(&mut self, host: usize, at: Time, input: Input) {
        self.coverage.inputs += 1;
        self.trace.input(at, host, &input);
        if self.logs && !matches!(input, Input::Heard { .. } | Input::Wake) {
            self.note(host, "<", &input);
        }
        let mut out = std::mem::take(&mut self.outputs);
        let Host { agent, clock, .. } = &mut self.hosts[host];
        if let Some(agent) = agent {
            agent.node.handle(clock.moment(at), input, &mut out);
        }
        if out.is_empty() {
            self.outputs = out;
            return;
        }
        self.check_outputs(host, &out);
        for output in out.drain(..) {
            self.trace.output(&output);
            if self.logs && !matches!(output, Output::Send { .. }) {
                self.note(host, ">", &output);
            }
            self.carry_out(host, output);
        }
        self.outputs = out;
    }

    /// Notes something that befell a host.
    pub(crate) fn tell(&mut self, host: usize, what: &dyn std::fmt::Debug) {
        if self.logs {
            self.note(host, "!", what);
        }
    }

    fn note(&mut self, host: usize, direction: &str, what: &dyn std::fmt::Debug) {
        let mut line =
            format!("{:>5}.{:06} n{host} {direction} ", self.now / SECOND, self.now % SECOND);
        if write!(line, "{what:?}").is_ok() && self.log.len() < LOG_MAX {
            self.log.push(line);
        }
    }

    fn carry_out(&mut self, host: usize, output: Output) {
        match output {
            Output::Changed => {
                self.gossip_members(host);
                self.queue.at(self.now, Event::Admit { host });
            }
            Output::Do { slot, revision, job } => self.work(host, &slot, revision, job),
            Output::Erase(hashes) => {
                self.hosts[host].disk.retain(|hash, _| !hashes.contains(hash));
            }
            Output::Fence { slot, revision, fence } => {
                self.check_fence(host, &slot, fence);
                self.fence(host, &slot, revision, fence);
            }
            Output::Persist { ticket, lease, register, then } => {
                self.persist(host, (ticket, lease, *register), then);
            }
            Output::Event(_) | Output::Refused { .. } => {}
            Output::Prefetch(digest) => {
                let (wait, life) = (self.spread(self.plan.fetch), self.hosts[host].life);
                self.queue.at(self.now + wait, Event::Fetched { host, life, digest });
            }
            Output::Publish(fact) => {
                match &fact {
                    Fact::Claim(claim) => self.claimed(host, claim),
                    Fact::Vote(vote) => {
                        if let Some(accused) = self.index.get(&vote.node).copied() {
                            self.poke(host, accused);
                        }
                    }
                    Fact::Root(_) | Fact::Node(_) => {}
                }
                self.gossip_publish(host, fact);
            }
            Output::Send { to, message } => {
                self.check_promise(host, &message);
                self.check_let_go(host, &message);
                self.check_said(host, &message);
                if let Some(to) = self.index.get(&to).copied() {
                    self.send(host, to, message);
                }
            }
            Output::Store { ticket, entries } => self.store(host, ticket, entries),
            Output::Submitted { .. } => self.submitted(host, output),
            Output::Watch(nodes) => {
                let nodes = nodes.iter().filter_map(|node| self.index.get(node)).copied().collect();
                self.watch(host, nodes);
            }
            Output::Withdraw(key) => self.gossip_withdraw(host, key),
        }
    }

    fn claimed(&mut self, host: usize, claim: &Claim) {
        self.note_serving(host, claim);
        self.note_claim(host, claim);
        if claim.phase == Phase::Released {
            self.check_release(host, &claim.slot, claim.revision);
        }
        if claim.phase != Phase::Ready {
            return;
        }
        self.tally.ready(self.now, &claim.slot);
        self.coverage.failovers += u64::from(claim.failover_ms.is_some());
        let key = (claim.slot.clone(), claim.revision.id);
        if let Some(container) = self.hosts[host].containers.get_mut(&key) {
            container.proved = true;
        }
    }
}
