//! Everything that can happen to one exclusive slot in worlds that are small enough: the machines that agents run, explored by
//! stateright without exception. What is too large for that is walked through at random (`walk`).
//!
//! Time passes in steps; between two of them anything may happen in any order, or not at all. Clocks are as wrong as they may
//! be: the first node's is slow, the second one's fast. What keeps the worlds small: an agent wakes in time and hears itself at
//! once, and on each way from one to another there is one question and one answer at most, the last.

#[cfg(test)]
#[expect(clippy::print_stdout, reason = "how large a world was")]
#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a handful of nodes and a few seconds of microseconds"
)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet, VecDeque};
    use std::time::Duration;

    use mesh_coordinator::id::{AppUid, Incarnation, NodeId, SlotId, SlotIndex};
    use mesh_coordinator::lease::exclusive::{
        Answer, BootId, Configuration, Fence, Holder, Home, Key, Lease, LeaseId, Motion, Register,
        Request, Resume, Setup, Step, StoreId, Timing, Token, Witness, WitnessId,
    };
    use mesh_coordinator::rules::{Rule, Rules};
    use mesh_coordinator::time::Reading;
    use stateright::{Checker, HasDiscoveries, Model, Property};

    /// Parts per million by which each node's clocks are fast.
    const PPM: [i64; 4] = [-10_000, 10_000, 0, 10_000];
    const WITNESSES: usize = 3;

    /// How large a world is.
    #[derive(Debug, Clone)]
    struct Scope {
        nodes: usize,
        /// The first so many nodes want the slot.
        candidates: usize,
        /// Whether the first node holds the slot already, and nothing is under way.
        begins_held: bool,
        rules: Rules,
        /// No attempt has a counter above it.
        counter_max: u64,
        step: Duration,
        steps: u32,
        crashes: u8,
        releases: u8,
        /// Whether the first node, which holds the slot, has just proposed the last three nodes as witnesses.
        begins_changing: bool,
        /// What has to come up somewhere.
        expected: &'static [Sight],
    }

    /// Something worth seeing.
    type Sight = (&'static str, fn(&Scope, &State) -> bool);

    const RESUMED: Sight = ("resumed", |_, state| state.is_resumed);
    const TAKEN_OVER: Sight = ("taken over", |_, state| state.is_taken_over);
    const SAFE: &str = "nothing that must never be";

    #[derive(Debug, Clone, PartialEq, Eq, Hash)]
    enum Body {
        Ask(Request),
        Tell(WitnessId, Answer),
    }

    #[derive(Debug, Clone, PartialEq, Eq, Hash)]
    struct Letter {
        from: usize,
        to: usize,
        body: Body,
    }

    impl Letter {
        const fn way(&self) -> (usize, usize, bool) {
            (self.from, self.to, matches!(self.body, Body::Tell(..)))
        }
    }

    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    struct Container {
        token: Token,
        /// When its guard begins to kill; that takes K.
        kill: Reading,
    }

    #[derive(Debug, Clone, PartialEq, Eq, Hash)]
    struct Agent {
        witness: Witness,
        lease: Lease,
    }

    #[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
    struct Node {
        incarnation: u64,
        disk: Option<Register>,
        /// `None` while it is down.
        agent: Option<Agent>,
        container: Option<Container>,
        /// The deadline that the guard was told last.
        guarded: Option<(Token, Reading)>,
        /// The last token that lapsed here.
        lapsed: Option<Token>,
    }

    #[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
    struct State {
        step: u32,
        nodes: Vec<Node>,
        /// At most one on each way: a later one overtakes it for good.
        letters: BTreeMap<(usize, usize, bool), Letter>,
        /// What an agent says to itself; it hears that at once.
        monologue: VecDeque<Letter>,
        crashes: u8,
        releases: u8,
        /// Who acquired the slot last.
        last: Option<(usize, Token)>,
        /// The configurations that were agreed on, and the highest key of one.
        agreed: BTreeMap<u32, Configuration>,
        highest: Option<(Key, u32)>,
        is_taken_over: bool,
        is_resumed: bool,
        /// What must never be.
        fault: Option<&'static str>,
    }

    #[derive(Debug, Clone, PartialEq, Eq)]
    enum Action {
        /// An agent dies. What its witness said is on disk.
        Crash(usize),
        Deliver(Box<Letter>),
        Pass {
            /// Whether what is under way is lost.
            loses: bool,
        },
        Release(usize),
        Start(usize),
    }

    fn id(number: usize) -> NodeId {
        NodeId::from_bytes([number as u8 + 1; 10])
    }

    fn witness(number: usize) -> WitnessId {
        WitnessId { node: id(number), store: StoreId(number as u128 + 1) }
    }

    fn lease() -> LeaseId {
        let (app, service) = (AppUid([7; 16]), "db".parse().unwrap());
        LeaseId::first(SlotId { app, service, index: SlotIndex::Number(0) })
    }

    impl Scope {
        fn timing() -> Timing {
            Timing::of(Duration::from_secs(6)).unwrap()
        }

        fn reading(&self, state: &State, number: usize) -> Reading {
            let passed = self.step.as_micros() as i64 * i64::from(state.step);
            let shown = passed + passed * PPM[number] / 1_000_000;
            let shown = Duration::from_micros(shown as u64);
            Reading::new(shown, shown)
        }

        fn start(&self, state: &mut State, number: usize) {
            let now = self.reading(state, number);
            let node = &mut state.nodes[number];
            let going_on = node.container.filter(|container| !now.may_be_past(container.kill));
            let ttl = Self::timing().ttl;
            let setup = Setup {
                me: Holder {
                    node: id(number),
                    boot: BootId(number as u128),
                    incarnation: Incarnation(node.incarnation),
                },
                former: None,
                first: Configuration::first((0..WITNESSES).map(witness).collect(), ttl),
                timing: Self::timing(),
                seed: number as u64,
                resume: going_on.map(|it| Resume { token: it.token, kill: it.kill }),
                rules: self.rules,
            };
            let registers = node.disk.iter().map(|register| (lease(), register.clone()));
            node.agent = Some(Agent {
                witness: Witness::new(now, witness(number), self.rules, registers),
                lease: Lease::new(setup),
            });
        }

        fn send(state: &mut State, from: usize, to: NodeId, body: Body) {
            let to = (0..state.nodes.len()).find(|number| id(*number) == to).unwrap();
            let letter = Letter { from, to, body };
            if from == to {
                state.monologue.push_back(letter);
            } else {
                state.letters.insert(letter.way(), letter);
            }
        }

        fn deliver(&self, state: &mut State, letter: &Letter) {
            if state.letters.get(&letter.way()) == Some(letter) {
                state.letters.remove(&letter.way());
            }
            let now = self.reading(state, letter.to);
            let Some(mut agent) = state.nodes[letter.to].agent.take() else { return };
            match letter.body.clone() {
                Body::Ask(request) => self.ask(state, &mut agent, letter, request),
                Body::Tell(by, answer) => {
                    let mut out = Vec::new();
                    agent.lease.answer(now, by, answer, &mut out);
                    Self::carry_out(state, letter.to, out, now);
                }
            }
            state.nodes[letter.to].agent = Some(agent);
        }

        /// M-P3, M-P5: a witness goes back on nothing, and promises nothing while somebody else holds the slot.
        fn ask(&self, state: &mut State, agent: &mut Agent, letter: &Letter, request: Request) {
            let now = self.reading(state, letter.to);
            let said = |agent: &Agent| {
                let register = agent.witness.registers().next().map(|(_, register)| register);
                let accepted = register.and_then(|register| register.accepted.as_ref());
                (register.map(|register| register.promised), accepted.map(|it| it.key))
            };
            let holder = agent.witness.holder(now, &lease()).map(|(holder, ..)| holder);
            let (promised, accepted) = said(agent);
            let mut out = Vec::new();
            agent.witness.handle(now, id(letter.from), &lease(), Home::FIRST, request, &mut out);
            let now_said = said(agent);
            if now_said.0 < promised || now_said.1 < accepted {
                state.fault = Some("a witness takes back what it promised or accepted");
            }
            for step in out {
                let said = match step {
                    Step::Answer { to, answer, .. } => vec![(to, answer)],
                    Step::Persist { ticket, register, then, .. } => {
                        state.nodes[letter.to].disk = Some(register);
                        agent.witness.persisted(ticket);
                        then
                    }
                };
                for (to, answer) in said {
                    if let (Answer::Promise { ballot, .. }, Some(holder)) = (&answer, holder)
                        && !ballot.holder.follows(&holder)
                    {
                        state.fault = Some("a promise while somebody else holds the slot");
                    }
                    let body = Body::Tell(witness(letter.to), answer);
                    Self::send(state, letter.to, to, body);
                }
            }
        }

        /// M-P2, M-P6: tokens rise, and what lapsed does not come back.
        fn carry_out(state: &mut State, number: usize, out: Vec<Motion>, now: Reading) {
            for motion in out {
                match motion {
                    Motion::Send { to, request } => {
                        Self::send(state, number, to, Body::Ask(request));
                    }
                    Motion::Deadline(Fence { token, kill, .. }) => {
                        let node = &mut state.nodes[number];
                        node.guarded = Some((token, kill));
                        if let Some(it) = node.container.as_mut().filter(|it| it.token == token) {
                            it.kill = it.kill.later(kill);
                        }
                    }
                    // The witnesses do not change in these worlds.
                    Motion::Locate => {}
                    Motion::Lapsed { token } => state.nodes[number].lapsed = Some(token),
                    Motion::Acquired { token } => {
                        let node = &mut state.nodes[number];
                        let goes_on = node
                            .container
                            .is_some_and(|it| it.token == token && !now.may_be_past(it.kill));
                        if let Some(other) = node.container.as_mut().filter(|_| !goes_on) {
                            other.kill = now;
                        }
                        let has_lapsed = Some(token) <= node.lapsed;
                        let before = state.last.replace((number, token));
                        let is_own = before == Some((number, token)) && goes_on;
                        if has_lapsed || before.is_some_and(|(_, last)| token <= last) && !is_own {
                            state.fault = Some("a token comes back");
                        }
                        state.is_resumed |= is_own;
                        state.is_taken_over |= before.is_some_and(|(by, _)| by != number);
                    }
                }
            }
        }

        fn with_lease(
            &self,
            state: &mut State,
            number: usize,
            act: impl FnOnce(&mut Lease, Reading, &mut Vec<Motion>),
        ) {
            let now = self.reading(state, number);
            let Some(mut agent) = state.nodes[number].agent.take() else { return };
            let mut out = Vec::new();
            act(&mut agent.lease, now, &mut out);
            Self::carry_out(state, number, out, now);
            state.nodes[number].agent = Some(agent);
        }

        /// What happens by itself: agents hear themselves and wake in time, guards kill, what should run is started, and who may run
        /// the slot wants it.
        fn settle(&self, state: &mut State) {
            self.listen(state);
            for number in 0..self.candidates {
                let is_dying = self.guard(state, number);
                let now = self.reading(state, number);
                let Some(agent) = &mut state.nodes[number].agent else { continue };
                if !is_dying {
                    agent.lease.seek(now, 0);
                }
                if agent.lease.next_deadline().is_some_and(|at| now.may_be_past(at)) {
                    self.with_lease(state, number, Lease::wake);
                    self.listen(state);
                }
            }
            for number in 0..self.candidates {
                self.run(state, number);
            }
            self.look(state);
        }

        fn listen(&self, state: &mut State) {
            while let Some(letter) = state.monologue.pop_front() {
                self.deliver(state, &letter);
            }
        }

        /// Returns whether a container is being killed.
        fn guard(&self, state: &mut State, number: usize) -> bool {
            let now = self.reading(state, number);
            let container = &mut state.nodes[number].container;
            *container = container.filter(|it| !now.may_be_past(it.kill + Self::timing().kill));
            container.is_some_and(|it| now.may_be_past(it.kill))
        }

        fn run(&self, state: &mut State, number: usize) {
            let now = self.reading(state, number);
            let node = &mut state.nodes[number];
            let token = node.agent.as_ref().and_then(|agent| agent.lease.acquired(now));
            let (Some(token), None) = (token, node.container) else { return };
            match node.guarded.filter(|(of, _)| *of == token) {
                Some((_, kill)) if !now.may_be_past(kill) => {
                    node.container = Some(Container { token, kill });
                }
                Some(_) => {}
                None => state.fault = Some("a container starts without a deadline"),
            }
        }

        /// M-P1, M-P4, D2.
        fn look(&self, state: &mut State) {
            let running = state.nodes.iter().filter(|node| node.container.is_some()).count();
            let valid = (0..self.candidates).filter(|number| {
                let agent = state.nodes[*number].agent.as_ref();
                let now = self.reading(state, *number);
                agent.is_some_and(|agent| agent.lease.token(now).is_some())
            });
            if valid.count() > 1 {
                state.fault = Some("two hold the slot");
            } else if running > 1 {
                state.fault = Some("two containers run");
            }
            for node in &state.nodes {
                let Some(lease) = node.agent.as_ref().map(|agent| &agent.lease) else { continue };
                let told = node.guarded.filter(|(of, _)| Some(*of) == lease.held());
                if let (Some(over), Some((_, kill))) = (lease.over(), told)
                    && (kill + Self::timing().kill).boot() > over.boot()
                {
                    state.fault = Some("a guard kills too late");
                }
            }
            let mut accepted: BTreeMap<Key, (Configuration, BTreeSet<WitnessId>)> = BTreeMap::new();
            for (number, node) in state.nodes.iter().enumerate() {
                let Some(it) = node.disk.as_ref().and_then(|disk| disk.accepted.as_ref()) else {
                    continue;
                };
                let configuration = it.value.configuration.clone();
                let entry = accepted.entry(it.key).or_insert((configuration, BTreeSet::new()));
                entry.1.insert(witness(number));
            }
            for (key, (configuration, by)) in accepted {
                if configuration.is_quorum(&by) {
                    let version = configuration.version;
                    let known = state.agreed.insert(version, configuration.clone());
                    let regresses =
                        state.highest.is_some_and(|(last, of)| key > last && version < of);
                    if known.is_some_and(|known| known != configuration) || regresses {
                        state.fault = Some("what was agreed on is undone");
                    }
                    state.highest = state.highest.max(Some((key, version)));
                }
            }
        }
    }

    impl Model for Scope {
        type State = State;
        type Action = Action;

        fn init_states(&self) -> Vec<State> {
            let nodes = vec![Node { incarnation: 1, ..Node::default() }; self.nodes];
            let mut state = State { nodes, ..State::default() };
            for number in 0..self.nodes {
                self.start(&mut state, number);
            }
            if self.begins_held {
                let alone = Self { candidates: 1, ..self.clone() };
                alone.settle(&mut state);
                while let Some((_, letter)) = state.letters.pop_first() {
                    alone.deliver(&mut state, &letter);
                    alone.settle(&mut state);
                }
                assert!(
                    state.nodes[0].container.is_some(),
                    "the first node does not hold the slot"
                );
            }
            if self.begins_changing {
                let next = (self.nodes - WITNESSES..self.nodes).map(witness).collect();
                self.with_lease(&mut state, 0, |lease, now, out| {
                    assert!(lease.change(now, next, out), "no change begins");
                });
            }
            self.settle(&mut state);
            vec![state]
        }

        fn actions(&self, state: &State, actions: &mut Vec<Action>) {
            actions.extend(state.letters.values().cloned().map(Box::new).map(Action::Deliver));
            for (number, node) in state.nodes.iter().enumerate() {
                let now = self.reading(state, number);
                let Some(agent) = &node.agent else {
                    actions.push(Action::Start(number));
                    continue;
                };
                if state.crashes < self.crashes {
                    actions.push(Action::Crash(number));
                }
                if agent.lease.acquired(now).is_some() && state.releases < self.releases {
                    actions.push(Action::Release(number));
                }
            }
            if state.step < self.steps {
                actions.push(Action::Pass { loses: false });
                if !state.letters.is_empty() {
                    actions.push(Action::Pass { loses: true });
                }
            }
        }

        fn next_state(&self, last_state: &State, action: Action) -> Option<State> {
            if last_state.fault.is_some() {
                return None;
            }
            let mut state = last_state.clone();
            match action {
                Action::Crash(number) => {
                    state.crashes += 1;
                    state.nodes[number].agent = None;
                    state.nodes[number].incarnation += 1;
                }
                Action::Deliver(letter) => self.deliver(&mut state, &letter),
                Action::Pass { loses } => {
                    state.step += 1;
                    if loses {
                        state.letters.clear();
                    }
                }
                Action::Release(number) => {
                    state.releases += 1;
                    state.nodes[number].container = None;
                    self.with_lease(&mut state, number, |lease, _, out| lease.release(out));
                }
                Action::Start(number) => self.start(&mut state, number),
            }
            self.settle(&mut state);
            Some(state)
        }

        fn within_boundary(&self, state: &State) -> bool {
            let counter = |node: &Node| node.disk.as_ref().map_or(0, |disk| disk.promised.counter);
            state.nodes.iter().map(counter).max() <= Some(self.counter_max)
        }

        fn properties(&self) -> Vec<Property<Self>> {
            let safe = Property::always(SAFE, |_, state: &State| state.fault.is_none());
            let expected =
                self.expected.iter().map(|(name, is_seen)| Property::sometimes(name, *is_seen));
            std::iter::once(safe).chain(expected).collect()
        }
    }

    /// Two want the slot of three witnesses.
    const STILL: Scope = Scope {
        nodes: 3,
        candidates: 2,
        begins_held: false,
        rules: Rules::ALL,
        counter_max: 2,
        step: Duration::from_secs(3),
        steps: 2,
        crashes: 0,
        releases: 0,
        begins_changing: false,
        expected: &[TAKEN_OVER],
    };
    /// One of two holds the slot, and some agent dies once.
    const RESTARTS: Scope =
        Scope { begins_held: true, crashes: 1, expected: &[RESUMED, TAKEN_OVER], ..STILL };
    /// One of two holds the slot, and it is let go once.
    const HANDOVER: Scope = Scope { begins_held: true, releases: 1, ..STILL };
    /// One of two holds the slot and changes its witnesses, and at some time all leases lapse. Too large to be looked at whole; what
    /// goes wrong without a rule shows early.
    const CHANGES: Scope = Scope {
        nodes: 4,
        begins_held: true,
        step: Duration::from_millis(6_100),
        steps: 1,
        begins_changing: true,
        expected: &[],
        ..STILL
    };

    /// What happens in a world that must never happen, and the way there; `None` when nothing does.
    fn fault(checker: &impl Checker<Scope>) -> Option<String> {
        let path = checker.discovery(SAFE)?;
        let what = path.last_state().fault.unwrap_or_default();
        let steps = path.into_actions();
        let told: Vec<String> = steps.iter().map(|action| format!("  {action:?}")).collect();
        Some(format!("{what}, after\n{}", told.join("\n")))
    }

    fn n_threads() -> usize {
        std::thread::available_parallelism().map_or(1, usize::from)
    }

    #[test]
    fn every_small_world_keeps_the_promises() {
        for (name, scope) in [("still", STILL), ("handover", HANDOVER), ("restarts", RESTARTS)] {
            let expected = scope.expected;
            let patient = scope.checker().threads(n_threads());
            let checker = patient.finish_when(HasDiscoveries::AllFailures).spawn_dfs().join();
            println!("{name}: {} states", checker.unique_state_count());
            assert_eq!(fault(&checker), None, "{name}");
            for (sight, _) in expected {
                assert!(checker.discovery(sight).is_some(), "{name}: never {sight}");
            }
        }
    }

    /// What leaving out a rule leads to, where that comes up in so small a world.
    #[test]
    fn without_a_rule_something_happens_that_must_never_be() {
        let longer = |scope: Scope| Scope { steps: 3, ..scope };
        let mutants = [
            (Rule::AdoptHighest, CHANGES),
            (Rule::FromAsking, longer(STILL)),
            (Rule::LapseIsFinal, longer(STILL)),
            (Rule::Quarantine, RESTARTS),
        ];
        for (rule, scope) in mutants {
            let mutant = Scope { rules: Rules::without(rule), ..scope };
            let hasty = mutant.checker().threads(n_threads());
            let checker = hasty.finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
            let n_states = checker.unique_state_count();
            let found = fault(&checker);
            assert!(found.is_some(), "nothing happens without {rule:?} in {n_states} states");
            println!("without {rule:?}, after {n_states} states: {}", found.unwrap_or_default());
        }
    }
}
