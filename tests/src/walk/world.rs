//! Five nodes, each a witness and a candidate for one slot, and everything that may go wrong with them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use mesh_coordinator::id::{AppUid, Incarnation, NodeId, SlotId, SlotIndex};
use mesh_coordinator::lease::exclusive::{
    Answer, BootId, Configuration, Fence, Holder, Home, Lease, LeaseId, Motion, Register, Request,
    Resume, Setup, Step, StoreId, Timing, Token, Witness, WitnessId,
};
use mesh_coordinator::node::Ticket;
use mesh_coordinator::prng::Prng;
use mesh_coordinator::rules::{Rule, Rules};
use mesh_coordinator::time::Reading;

use super::coverage::Coverage;

const NODES: usize = 5;
const LETTERS_MAX: usize = 60;
/// How many letters of the past are kept.
const DRAWER_LEN: usize = 30;
/// How often each thing happens in a walk of the middle sort; the world's first three are the work, all others are faults.
const USUAL: [u64; 13] = [1_000, 500, 400, 4, 3, 12, 10, 10, 2, 2, 6, 1, 1];
/// The steps of 10 ms on average of the quiet end: five times as long as a lease.
const QUIET: usize = 3_000;
/// Microseconds between two looks of a guard at its clocks.
const GUARD_PAUSE: u64 = 100_000;

#[derive(Debug, Clone)]
enum Body {
    Ask(Request),
    Tell(WitnessId, Answer),
}

#[derive(Debug, Clone)]
struct Letter {
    from: usize,
    to: usize,
    body: Body,
}

/// A container that runs, and the guard that outlives the agent.
#[derive(Debug, Clone, Copy)]
struct Container {
    token: Token,
    kill: Reading,
    /// When the guard began to kill, and how long that takes; `None` before.
    dying: Option<u64>,
}

struct Node {
    id: NodeId,
    /// Parts per million by which the raw clock is fast.
    raw_ppm: i64,
    /// The same of the other clock, which people may slew as they like.
    boot_ppm: i64,
    offset: u64,
    store: StoreId,
    boot: BootId,
    incarnation: u64,
    disk: BTreeMap<LeaseId, Register>,
    writes: VecDeque<Write>,
    /// `None` while the agent is down.
    agent: Option<Agent>,
    container: Option<Container>,
    /// The deadline that the guard was told last.
    guarded: Option<(Token, Reading)>,
}

/// What is on its way to a disk.
struct Write {
    ticket: Ticket,
    register: Register,
    then: Vec<(NodeId, Answer)>,
}

impl Node {
    /// Starts the container that should run. H6: its guard knows when it ends.
    fn run(&mut self, now: Reading) -> Result<(), String> {
        let held = self.agent.as_ref().and_then(|agent| agent.lease.acquired(now));
        let (Some(token), None) = (held, self.container) else { return Ok(()) };
        let guarded = self.guarded.filter(|(of, _)| *of == token);
        let (_, kill) = guarded.ok_or_else(|| format!("{token} starts without a deadline"))?;
        if !now.may_be_past(kill) {
            self.container = Some(Container { token, kill, dying: None });
        }
        Ok(())
    }
}

struct Agent {
    witness: Witness,
    lease: Lease,
}

pub(super) struct World {
    rng: Prng,
    rules: Rules,
    /// Microseconds of real time.
    now: u64,
    nodes: Vec<Node>,
    letters: Vec<Letter>,
    /// Letters of the past, which may arrive once more at any time.
    drawer: Vec<Letter>,
    cut: BTreeSet<(usize, usize)>,
    lease: LeaseId,
    first: Configuration,
    timing: Timing,
    last: Option<(Token, usize)>,
    /// Whether this is a walk in which no disk is lost.
    is_whole: bool,
    /// The odds of what may happen, drawn for each walk.
    odds: [u64; 13],
    pub(super) coverage: Coverage,
}

fn node_id(number: usize) -> NodeId {
    NodeId::from_bytes([number as u8 + 1; 10])
}

impl World {
    pub(super) fn new(seed: u64, rules: Rules) -> Self {
        let mut rng = Prng::new(seed ^ 0x005e_ed1e_a5e5);
        let timing = Timing::of(Duration::from_secs(6)).unwrap();
        let nodes: Vec<Node> = (0..NODES)
            .map(|number| Node {
                id: node_id(number),
                raw_ppm: rng.below(20_001) as i64 - 10_000,
                boot_ppm: if rng.chance(300) { rng.below(400_001) as i64 - 200_000 } else { 0 },
                offset: rng.below(1 << 40),
                store: StoreId(number as u128 + 1),
                boot: BootId(number as u128 + 1),
                incarnation: 1,
                disk: BTreeMap::new(),
                writes: VecDeque::new(),
                agent: None,
                container: None,
                guarded: None,
            })
            .collect();
        let ids = |node: &Node| WitnessId { node: node.id, store: node.store };
        let first = Configuration::first(nodes.iter().take(3).map(ids).collect(), timing.ttl);
        let mut odds = USUAL;
        for odd in odds.iter_mut().skip(3) {
            *odd *= [0, 1, 1, 2, 4, 8][rng.below(6) as usize];
        }
        let (app, service) = (AppUid([7; 16]), "db".parse().unwrap());
        let lease = LeaseId::first(SlotId { app, service, index: SlotIndex::Number(0) });
        let mut world = Self {
            rng,
            rules,
            now: 0,
            nodes,
            letters: Vec::new(),
            drawer: Vec::new(),
            cut: BTreeSet::new(),
            lease,
            first,
            timing,
            last: None,
            is_whole: !seed.is_multiple_of(4),
            odds,
            coverage: Coverage::default(),
        };
        for number in 0..NODES {
            world.start(number);
        }
        world
    }

    fn reading(&self, number: usize) -> Reading {
        let node = &self.nodes[number];
        let by = |ppm: i64| {
            let passed = i128::from(self.now) * i128::from(1_000_000 + ppm) / 1_000_000;
            Duration::from_micros(node.offset + passed as u64)
        };
        Reading::new(by(node.boot_ppm), by(node.raw_ppm))
    }

    /// An agent begins: its witness with what is on disk, its lease with what its guard still holds.
    fn start(&mut self, number: usize) {
        let now = self.reading(number);
        let seed = self.rng.next_u64();
        let node = &mut self.nodes[number];
        let me = WitnessId { node: node.id, store: node.store };
        let resume = node
            .container
            .filter(|container| container.dying.is_none())
            .map(|container| Resume { token: container.token, kill: container.kill });
        let holder =
            Holder { node: node.id, boot: node.boot, incarnation: Incarnation(node.incarnation) };
        let setup = Setup {
            me: holder,
            former: None,
            first: self.first.clone(),
            timing: self.timing,
            resume,
            seed,
            rules: self.rules,
        };
        let registers = node.disk.iter().map(|(id, register)| (id.clone(), register.clone()));
        node.agent = Some(Agent {
            witness: Witness::new(now, me, self.rules, registers.collect::<Vec<_>>()),
            lease: Lease::new(setup),
        });
    }

    /// An agent dies. Of what it was writing a part may be on disk; nobody hears the rest.
    fn crash(&mut self, number: usize) {
        let n_done = self.rng.below(self.nodes[number].writes.len() as u64 + 1) as usize;
        let node = &mut self.nodes[number];
        if node.agent.take().is_none() {
            return;
        }
        self.coverage.crashes += 1;
        for (at, write) in node.writes.drain(..).enumerate() {
            if at < n_done {
                node.disk.insert(self.lease.clone(), write.register);
            } else {
                self.coverage.writes_lost += 1;
            }
        }
        node.incarnation += 1;
    }

    pub(super) fn step(&mut self) -> Result<(), String> {
        let total = self.odds.iter().sum();
        let mut choice = self.rng.below(total);
        let action = self.odds.iter().position(|odd| {
            let is_it = choice < *odd;
            choice = choice.wrapping_sub(*odd);
            is_it
        });
        let number = self.rng.below(NODES as u64) as usize;
        match action.unwrap_or(0) {
            0 => self.deliver()?,
            1 => self.wake(number)?,
            2 => self.flush(number),
            3 => self.advance(3_000_000)?,
            4 => self.crash(number),
            5 => {
                if self.nodes[number].agent.is_none() {
                    self.start(number);
                }
            }
            6 => self.lose_letter(),
            7 => self.repeat_letter(),
            8 => self.toggle_cut(),
            9 => self.release(number),
            10 => self.change(number)?,
            11 => self.reboot(number),
            _ => self.wipe(number),
        }
        self.advance(20_000)?;
        self.run()?;
        // An agent that stays down for ever, and a slot that nobody wants, are dull.
        if self.rng.chance(20) && self.nodes[number].agent.is_none() {
            self.start(number);
        }
        if self.rng.chance(30) {
            self.seek(number);
        }
        self.check()
    }

    /// Time passes, and the guards look at their clocks ten times a second.
    fn advance(&mut self, most: u64) -> Result<(), String> {
        let until = self.now + self.rng.below(most);
        while self.now < until {
            self.now = until.min(self.now + GUARD_PAUSE);
            self.guards();
            self.check()?;
        }
        Ok(())
    }

    fn send(&mut self, from: usize, to: NodeId, body: Body) {
        let to = self.nodes.iter().position(|node| node.id == to).unwrap();
        if self.letters.len() < LETTERS_MAX && !self.cut.contains(&(from, to)) {
            self.letters.push(Letter { from, to, body });
        }
    }

    fn deliver(&mut self) -> Result<(), String> {
        if self.letters.is_empty() {
            return Ok(());
        }
        let at = self.rng.below(self.letters.len() as u64) as usize;
        let letter = self.letters.swap_remove(at);
        if self.rng.chance(50) {
            if self.drawer.len() >= DRAWER_LEN {
                let old = self.rng.below(DRAWER_LEN as u64) as usize;
                self.drawer.swap_remove(old);
            }
            self.drawer.push(letter.clone());
        }
        self.receive(letter)
    }

    fn receive(&mut self, letter: Letter) -> Result<(), String> {
        let (number, now) = (letter.to, self.reading(letter.to));
        let from = self.nodes[letter.from].id;
        let Some(agent) = &mut self.nodes[number].agent else { return Ok(()) };
        match letter.body {
            Body::Ask(request) => {
                let mut out = Vec::new();
                agent.witness.handle(now, from, &self.lease, Home::FIRST, request, &mut out);
                let me = agent.witness.id();
                for step in out {
                    match step {
                        Step::Answer { to, answer, .. } => {
                            self.send(number, to, Body::Tell(me, answer));
                        }
                        Step::Persist { ticket, register, then, .. } => {
                            self.nodes[number].writes.push_back(Write { ticket, register, then });
                        }
                    }
                }
                Ok(())
            }
            Body::Tell(witness, answer) => {
                let mut out = Vec::new();
                let before = agent.lease.configuration().clone();
                agent.lease.answer(now, witness, answer, &mut out);
                let after = agent.lease.configuration();
                if before.next.is_some() && after.next.is_none() && after.version > before.version {
                    self.coverage.changes_done += 1;
                }
                let acquires = out.iter().any(|motion| matches!(motion, Motion::Acquired { .. }));
                if acquires && before.next.is_some() {
                    self.coverage.acquired_in_change += 1;
                }
                self.carry_out(number, out)
            }
        }
    }

    fn wake(&mut self, number: usize) -> Result<(), String> {
        let now = self.reading(number);
        let Some(agent) = &mut self.nodes[number].agent else { return Ok(()) };
        let mut out = Vec::new();
        agent.lease.wake(now, &mut out);
        self.carry_out(number, out)
    }

    fn flush(&mut self, number: usize) {
        let node = &mut self.nodes[number];
        let Some(agent) = &mut node.agent else { return };
        let Some(write) = node.writes.pop_front() else { return };
        agent.witness.persisted(write.ticket);
        node.disk.insert(self.lease.clone(), write.register);
        let me = agent.witness.id();
        for (to, answer) in write.then {
            self.send(number, to, Body::Tell(me, answer));
        }
    }

    fn carry_out(&mut self, number: usize, out: Vec<Motion>) -> Result<(), String> {
        for motion in out {
            match motion {
                Motion::Send { to, request } => self.send(number, to, Body::Ask(request)),
                Motion::Locate => {
                    for to in self.nodes.iter().map(|node| node.id).collect::<Vec<_>>() {
                        self.send(number, to, Body::Ask(Request::Locate));
                    }
                }
                Motion::Deadline(Fence { token, kill, .. }) => {
                    let node = &mut self.nodes[number];
                    node.guarded = Some((token, kill));
                    match &mut node.container {
                        Some(it) if it.token == token => it.kill = it.kill.later(kill),
                        _ => {}
                    }
                }
                Motion::Acquired { token } => self.acquired(number, token)?,
                Motion::Lapsed { .. } => self.coverage.lapsed += 1,
            }
        }
        Ok(())
    }

    /// P3: tokens only rise; a holder that goes on after a restart of its agent keeps its own, with the container that never stopped.
    fn acquired(&mut self, number: usize, token: Token) -> Result<(), String> {
        self.coverage.acquired += 1;
        let runs = self.nodes[number].container;
        let goes_on = runs.is_some_and(|it| it.token == token && it.dying.is_none());
        if let Some((before, by)) = self.last {
            let is_own = token == before && by == number && goes_on;
            if token <= before && !is_own {
                return Err(format!("{number} acquired by {token} after {by} by {before}"));
            }
            self.coverage.resumed += u64::from(is_own);
        }
        self.last = Some((token, number));
        // The container of another lease is killed first.
        let dead = self.now + self.rng.below(self.timing.kill.as_micros() as u64);
        let node = &mut self.nodes[number];
        match &mut node.container {
            _ if goes_on => {}
            Some(other) => other.dying = other.dying.or(Some(dead)),
            None => {}
        }
        Ok(())
    }

    /// What agents do whenever they look: what should run is started.
    fn run(&mut self) -> Result<(), String> {
        for number in 0..NODES {
            let now = self.reading(number);
            self.nodes[number].run(now)?;
        }
        Ok(())
    }

    /// What guards do by themselves: they kill in time, and that takes its time.
    fn guards(&mut self) {
        for number in 0..NODES {
            let reading = self.reading(number);
            let slowest = self.timing.kill.as_micros() as u64 * 99 / 100 - GUARD_PAUSE;
            let kill_takes = self.rng.below(slowest);
            let now = self.now;
            let node = &mut self.nodes[number];
            let Some(container) = &mut node.container else { continue };
            match container.dying {
                None if reading.may_be_past(container.kill) => {
                    container.dying = Some(now + kill_takes);
                    self.coverage.killed += 1;
                }
                Some(dead) if now >= dead => node.container = None,
                None | Some(_) => {}
            }
        }
    }

    fn lose_letter(&mut self) {
        if !self.letters.is_empty() {
            let at = self.rng.below(self.letters.len() as u64) as usize;
            self.letters.swap_remove(at);
        }
    }

    fn repeat_letter(&mut self) {
        let all = if self.rng.chance(500) { &self.letters } else { &self.drawer };
        if let Some(letter) = self.rng.pick(all).cloned()
            && self.letters.len() < LETTERS_MAX
        {
            self.letters.push(letter);
        }
    }

    fn toggle_cut(&mut self) {
        let (from, to) =
            (self.rng.below(NODES as u64) as usize, self.rng.below(NODES as u64) as usize);
        if self.cut.len() > 6 {
            self.cut.clear();
        }
        if !self.cut.insert((from, to)) {
            self.cut.remove(&(from, to));
        }
    }

    fn seek(&mut self, number: usize) {
        let (now, rank) = (self.reading(number), self.rng.below(3) as u32);
        let node = &mut self.nodes[number];
        let goes_on = node.container.is_none_or(|container| container.dying.is_none());
        if let Some(agent) = node.agent.as_mut().filter(|_| goes_on) {
            agent.lease.seek(now, rank);
        }
    }

    /// A planned move: the container first, then the word.
    fn release(&mut self, number: usize) {
        let now = self.reading(number);
        let node = &mut self.nodes[number];
        let Some(agent) = &mut node.agent else { return };
        if agent.lease.token(now).is_none() {
            return;
        }
        node.container = None;
        let mut out = Vec::new();
        agent.lease.release(&mut out);
        self.coverage.releases += 1;
        self.carry_out(number, out).expect("a release acquires nothing");
    }

    fn change(&mut self, number: usize) -> Result<(), String> {
        let now = self.reading(number);
        let mut all: Vec<WitnessId> =
            self.nodes.iter().map(|node| WitnessId { node: node.id, store: node.store }).collect();
        self.rng.shuffle(&mut all);
        let next: BTreeSet<WitnessId> = all.into_iter().take(3).collect();
        let Some(agent) = &mut self.nodes[number].agent else { return Ok(()) };
        let mut out = Vec::new();
        if agent.lease.change(now, next, &mut out) {
            self.coverage.changes_begun += 1;
        }
        self.carry_out(number, out)
    }

    /// The host reboots: nothing of it runs on.
    fn reboot(&mut self, number: usize) {
        self.crash(number);
        let boot = BootId(u128::from(self.rng.next_u64()) + 100);
        let node = &mut self.nodes[number];
        node.container = None;
        node.boot = boot;
        node.offset = self.rng.below(1 << 30);
    }

    /// The disk is lost, and with it the witness that the node was.
    fn wipe(&mut self, number: usize) {
        // Two of three lost for ever is the end of the slot, and of everything worth seeing.
        if self.coverage.wipes > 0 || self.is_whole {
            return;
        }
        self.crash(number);
        let store = StoreId(u128::from(self.rng.next_u64()) + 100);
        let node = &mut self.nodes[number];
        node.disk.clear();
        if self.rules.hold(Rule::OtherStore) {
            node.store = store;
        }
        self.coverage.wipes += 1;
    }

    /// When nothing goes wrong any more somebody gets the slot, if its witnesses are there. Returns whether that was looked at.
    pub(super) fn end_well(&mut self) -> Result<bool, String> {
        self.cut.clear();
        for number in 0..NODES {
            if self.nodes[number].agent.is_none() {
                self.start(number);
            }
        }
        for _ in 0..QUIET {
            self.advance(20_000)?;
            for number in 0..NODES {
                self.seek(number);
                self.wake(number)?;
                while !self.nodes[number].writes.is_empty() {
                    self.flush(number);
                }
            }
            for letter in std::mem::take(&mut self.letters) {
                self.receive(letter)?;
            }
            self.run()?;
            self.check()?;
        }
        if self.coverage.wipes > 0 {
            return Ok(false);
        }
        let runs = self.nodes.iter().any(|node| node.container.is_some());
        if runs { Ok(true) } else { Err("nobody gets the slot".to_owned()) }
    }

    fn check(&self) -> Result<(), String> {
        let running: Vec<usize> =
            (0..NODES).filter(|number| self.nodes[*number].container.is_some()).collect();
        if running.len() > 1 {
            return Err(format!("at {} us containers of {running:?} run", self.now));
        }
        // D2: the guard kills in time, by the holder's own clock.
        let late = self.nodes.iter().find(|node| {
            let over = node.agent.as_ref().and_then(|agent| agent.lease.over());
            let token = node.agent.as_ref().and_then(|agent| agent.lease.held());
            let told = node.guarded.filter(|(of, _)| Some(*of) == token);
            matches!((over, told), (Some(over), Some((_, kill))) if (kill + self.timing.kill).boot() > over.boot())
        });
        if let Some(node) = late {
            return Err(format!("the guard of {} kills too late", node.id));
        }
        let valid = (0..NODES).filter(|number| {
            let agent = self.nodes[*number].agent.as_ref();
            agent.is_some_and(|agent| agent.lease.token(self.reading(*number)).is_some())
        });
        let valid: Vec<usize> = valid.collect();
        if valid.len() > 1 {
            return Err(format!("at {} us {valid:?} hold the slot", self.now));
        }
        Ok(())
    }
}
