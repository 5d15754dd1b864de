//! A mesh in memory: does at once what records say, and remembers them.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mesh_coordinator::catalogue::{
    Body, Entry, Genesis, Record, RecordKey, Release, Role, SignedBytes,
};
use mesh_coordinator::fact::Phase;
use mesh_coordinator::id::{
    AppUid, Hash, MeshId, NodeId, PublicKey, Revision, Signature, SlotId, SlotIndex,
};
use mesh_coordinator::lease::exclusive::{StoreId, Token};
use mesh_coordinator::spec::{Bytes as Memory, Cpu, Mode, Reservation, ServiceSpec};
use mesh_coordinator::time::WallTime;
use mesh_coordinator::view::{
    AppView, Candidate, ClaimView, Decision, NodeStatus, NodeView, Overview, ParkedView,
    ServiceView, SlotView, Why,
};
use mesh_ports::control::Submitted;
use mesh_ports::runtime::{Exec, ExecOutput, Image, LogLine, LogQuery, Output};
use tokio::sync::mpsc;

use super::{CallError, Happened, Invited, Items, Known, Mesh, Place, Pushed, Session, Who};

/// What becomes of new replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// They are ready at once.
    Ready,
    /// Those of this service give up, with this detail.
    Fails(&'static str, &'static str),
    /// Nobody takes them.
    Unclaimed,
}

/// The mesh.
pub(crate) struct Fake {
    /// The nodes, by name.
    pub(crate) nodes: RefCell<Vec<NodeView>>,
    /// Every record that was submitted, in order.
    pub(crate) records: RefCell<Vec<Record>>,
    /// The images on the agent that answers.
    pub(crate) images: RefCell<Vec<Image>>,
    /// What becomes of new replicas.
    pub(crate) fate: Cell<Fate>,
    /// True when no other node confirms records.
    pub(crate) lonely: Cell<bool>,
    /// Why records are refused, if they are.
    pub(crate) refusal: Cell<Option<&'static str>>,
    /// How many overviews nobody answers.
    pub(crate) silent_for: Cell<u32>,
    /// The code with which commands end.
    pub(crate) exit: Cell<i32>,
    /// Who asks.
    pub(crate) me: Cell<PublicKey>,
    /// What still has to go, and for how many more overviews it is there.
    pub(crate) leaving: RefCell<Vec<SlotView>>,
    pub(crate) leaves_after: Cell<u32>,
    /// The fencing token of every claim.
    pub(crate) token: Cell<Option<u64>>,
    /// What nodes know of leases.
    pub(crate) leases: RefCell<Vec<Known>>,
}

/// The time of the mesh, which no clock of whoever runs the tests says.
pub(crate) const NOW: WallTime = WallTime(1_000_000_000_000);
/// The mesh's identity.
pub(crate) const MESH: MeshId = MeshId(Hash([7; 32]));
/// The operator's key.
pub(crate) const OPERATOR: PublicKey = PublicKey([9; 32]);

/// The key of the n-th node.
pub(crate) fn node_key(n: u8) -> PublicKey {
    mesh_identity::keys::KeyPair::from_seed(&[n; 32]).public()
}

/// The n-th node.
pub(crate) fn node(n: u8, name: &str) -> NodeView {
    NodeView {
        id: NodeId::of(&node_key(n)),
        name: name.parse().unwrap(),
        status: NodeStatus::Alive,
        drained: false,
        labels: BTreeMap::new(),
        weight: 100,
        capacity: Some(Reservation { cpu: Cpu { millis: 2_000 }, memory: Memory(4 << 30) }),
        reserved: Reservation::default(),
        n_claims: 0,
        version: Some("0.1.0".to_owned()),
        addresses: vec![format!("10.0.0.{n}:7443")],
        heard_ago: Some(Duration::from_millis(100)),
        store: Some(StoreId(n.into())),
        witness_only: false,
    }
}

impl Fake {
    /// A mesh of three nodes on which all goes well, with the image `hello:1`.
    pub(crate) fn new() -> Self {
        let hello = Image {
            digest: format!("sha256:{}", "1a".repeat(32)),
            names: vec!["hello:1".to_owned()],
            bytes: 3 << 20,
        };
        Self {
            nodes: RefCell::new(vec![node(1, "alpha"), node(2, "beta"), node(3, "gamma")]),
            records: RefCell::new(Vec::new()),
            images: RefCell::new(vec![hello]),
            fate: Cell::new(Fate::Ready),
            lonely: Cell::new(false),
            refusal: Cell::new(None),
            silent_for: Cell::new(0),
            exit: Cell::new(0),
            me: Cell::new(OPERATOR),
            leaving: RefCell::default(),
            leaves_after: Cell::new(u32::MAX),
            token: Cell::new(None),
            leases: RefCell::default(),
        }
    }

    /// The last record that was submitted.
    pub(crate) fn last(&self) -> Record {
        self.records.borrow().last().cloned().expect("a record was submitted")
    }

    /// A claim on a slot of an app that is no more.
    pub(crate) fn leave(&self, name: &str, on: &NodeView, phase: Phase) {
        let claim = ClaimView {
            node: on.id,
            node_name: on.name.clone(),
            node_status: on.status,
            revision: Revision { number: 1, id: 1 },
            current: false,
            phase,
            yielding: false,
            restarts: 0,
            failover_ms: None,
            token: None,
            detail: if phase == Phase::Ended { "ended with exit code 0" } else { "" }.to_owned(),
        };
        let app = AppUid::of(MESH, &name.split('/').next().unwrap().parse().unwrap(), 0);
        let slot = SlotId { app, service: "hello".parse().unwrap(), index: SlotIndex::Number(0) };
        let claims = vec![claim];
        self.leaving.borrow_mut().push(SlotView {
            slot,
            name: name.to_owned(),
            wanted: false,
            claims,
        });
    }

    fn leaving(&self) -> Vec<SlotView> {
        let Some(left) = self.leaves_after.get().checked_sub(1) else { return Vec::new() };
        self.leaves_after.set(left);
        self.leaving.borrow().clone()
    }

    fn best(&self, key: &RecordKey) -> Option<Record> {
        self.records.borrow().iter().rev().find(|record| record.body.key() == *key).cloned()
    }

    /// Those that run, and those that do not because another one has their name.
    fn releases(&self) -> (Vec<Written>, Vec<Written>) {
        let mut releases: BTreeMap<AppUid, Written> = BTreeMap::new();
        for record in self.records.borrow().iter() {
            if let Body::App(release) = &record.body {
                releases.insert(release.app, (record.clone(), release.clone()));
            } else if let Body::AppRemoval { app, .. } = &record.body {
                releases.remove(app);
            }
        }
        // Of several with one name one runs.
        let mut names = BTreeSet::new();
        let runs = |(_, release): &Written| names.insert(release.spec.name.clone());
        releases.into_values().partition(runs)
    }

    fn parked(apps: &[AppView], parked: &[Written]) -> Vec<ParkedView> {
        let view = |(record, release): &Written| ParkedView {
            uid: release.app,
            name: release.spec.name.clone(),
            version: release.version,
            author: record.author,
            written: record.stamp.written,
            services: release.spec.services.keys().cloned().collect(),
            runs: apps.iter().find(|app| app.name == release.spec.name).unwrap().uid,
        };
        parked.iter().map(view).collect()
    }

    fn app(&self, record: &Record, release: &Release) -> AppView {
        let running = match self.best(&RecordKey::Run(release.app)).map(|record| record.body) {
            Some(Body::Run(run)) => run.running,
            _ => true,
        };
        let services = release.spec.services.iter().map(|(name, spec)| {
            let named = Named { app: release, service: name.as_str(), running };
            self.service(&named, spec)
        });
        AppView {
            uid: release.app,
            name: release.spec.name.clone(),
            version: release.version,
            running,
            author: record.author,
            written: record.stamp.written,
            services: services.collect(),
        }
    }

    fn service(&self, named: &Named<'_>, spec: &ServiceSpec) -> ServiceView {
        let service = named.service.parse().unwrap();
        let key = RecordKey::Scale(named.app.app, named.service.parse().unwrap());
        let mode = match self.best(&key).map(|record| record.body) {
            Some(Body::Scale(scale)) => Mode::Replicated(scale.replicas),
            _ => spec.deploy.mode,
        };
        let key = RecordKey::Restart(named.app.app, named.service.parse().unwrap());
        let restarts = match self.best(&key).map(|record| record.body) {
            Some(Body::Restart(restart)) => restart.count,
            _ => 0,
        };
        let revision = Revision { number: spec.revision.number + restarts, ..spec.revision };
        let n_wanted = match mode {
            _ if !named.running => 0,
            Mode::Replicated(n) => n,
            Mode::Global => 3,
        };
        let is_global = mode == Mode::Global;
        let slots: Vec<_> =
            (0..n_wanted).map(|n| self.slot(named, (n, is_global), revision)).collect();
        let is_ready = |slot: &&SlotView| slot.claims.iter().any(|c| c.phase == Phase::Ready);
        ServiceView {
            name: service,
            image: spec.template.image.name.clone(),
            digest: spec.template.image.digest.clone(),
            revision,
            guarantee: spec.guarantee,
            mode,
            n_wanted,
            n_ready: u32::try_from(slots.iter().filter(is_ready).count()).unwrap(),
            ports: spec.ports.clone(),
            failover_bound: Duration::from_millis(2_500),
            slots,
        }
    }

    fn slot(&self, named: &Named<'_>, (n, is_global): (u32, bool), revision: Revision) -> SlotView {
        let nodes = self.nodes.borrow();
        let is_drained = |node: &&NodeView| {
            let drain = self.best(&RecordKey::Drain(node.id)).map(|record| record.body);
            matches!(drain, Some(Body::Drain(drain)) if drain.drained)
        };
        let nodes: Vec<&NodeView> = nodes.iter().filter(|node| !is_drained(node)).collect();
        let node = nodes[usize::try_from(n).unwrap() % nodes.len()];
        let (phase, detail) = match self.fate.get() {
            Fate::Fails(service, detail) if service == named.service => (Phase::Failed, detail),
            Fate::Ready | Fate::Fails(..) | Fate::Unclaimed => (Phase::Ready, ""),
        };
        let claim = ClaimView {
            node: node.id,
            node_name: node.name.clone(),
            node_status: node.status,
            revision,
            current: true,
            phase,
            yielding: false,
            restarts: 0,
            failover_ms: None,
            token: self.token.get().map(Token),
            detail: detail.to_owned(),
        };
        let is_claimed = self.fate.get() != Fate::Unclaimed;
        let (index, end) = if is_global {
            (SlotIndex::Node(node.id), node.name.to_string())
        } else {
            (SlotIndex::Number(n), n.to_string())
        };
        SlotView {
            slot: SlotId { app: named.app.app, service: named.service.parse().unwrap(), index },
            name: format!("{}/{}/{end}", named.app.spec.name, named.service),
            wanted: true,
            claims: is_claimed.then_some(claim).into_iter().collect(),
        }
    }
}

/// A release, and the record that it is in.
type Written = (Record, Release);

struct Named<'a> {
    app: &'a Release,
    service: &'a str,
    running: bool,
}

/// An entry whose hash depends on what it says, as if it had been signed.
pub(crate) fn entry(record: Record) -> Entry {
    let bytes = format!("{record:?}").into_bytes();
    let signed = SignedBytes { bytes, signature: Signature([0; 64]) };
    Entry { hash: signed.digest(), record, signed, invitation_verified: false }
}

fn items<T: Send + 'static>(items: Vec<T>) -> Items<T> {
    Box::pin(tokio_stream::iter(items.into_iter().map(Ok)))
}

impl Mesh for Fake {
    fn mesh(&self) -> MeshId {
        MESH
    }

    fn operator(&self) -> PublicKey {
        self.me.get()
    }

    async fn now(&self) -> Result<WallTime, CallError> {
        Ok(NOW)
    }

    async fn who(&self) -> Result<Who, CallError> {
        let (node_name, version) = ("alpha".to_owned(), "0.1.0".to_owned());
        let refused = BTreeMap::from([("stranger".to_owned(), 2)]);
        Ok(Who { node_name, version, role: Role::Admin, refused })
    }

    async fn overview(&self) -> Result<Overview, CallError> {
        if let Some(left) = self.silent_for.get().checked_sub(1) {
            self.silent_for.set(left);
            return Err(CallError::Unreachable(Vec::new()));
        }
        let mut removals = BTreeMap::new();
        let mut drained = BTreeMap::new();
        for record in self.records.borrow().iter() {
            if let Body::AppRemoval { name, .. } = &record.body {
                *removals.entry(name.clone()).or_insert(0) += 1;
            } else if let Body::Drain(drain) = &record.body {
                drained.insert(drain.node, drain.drained);
            }
        }
        let mut nodes = self.nodes.borrow().clone();
        for node in &mut nodes {
            node.drained = drained.get(&node.id).copied().unwrap_or(false);
        }
        let (releases, parked) = self.releases();
        let mut apps: Vec<_> =
            releases.iter().map(|(record, release)| self.app(record, release)).collect();
        apps.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Overview {
            mesh: MESH,
            mesh_name: "prod".parse().unwrap(),
            seen_by: NodeId::of(&node_key(1)),
            nodes,
            parked: Self::parked(&apps, &parked),
            apps,
            leaving: self.leaving(),
            removals,
            problems: Vec::new(),
        })
    }

    async fn why(&self, slot: &SlotId) -> Result<Option<Why>, CallError> {
        let overview = self.overview().await?;
        let services = overview.apps.iter().flat_map(|app| &app.services);
        let found = services.flat_map(|service| &service.slots).find(|view| view.slot == *slot);
        let candidate = |(place, node): (usize, &NodeView)| Candidate {
            node: node.id,
            node_name: node.name.clone(),
            rank: (place < 2).then(|| u32::try_from(place).unwrap()),
            crowding: 0,
            score: 0xfeed_0000_0000_0000 - u64::try_from(place).unwrap(),
            refusals: if place < 2 {
                Vec::new()
            } else {
                vec!["the node has no label disk=ssd".to_owned()]
            },
        };
        Ok(found.map(|slot| Why {
            slot: slot.clone(),
            candidates: overview.nodes.iter().enumerate().map(candidate).collect(),
            decisions: vec![Decision {
                ago: Duration::from_secs(200),
                text: "claimed it: nobody held it, and no node ranks better".to_owned(),
            }],
        }))
    }

    async fn leases(&self, app: Option<AppUid>) -> Result<Vec<Known>, CallError> {
        let is_asked = |known: &&Known| match known {
            Known::Lease { lease, .. } => app.is_none_or(|app| lease.slot.app == app),
            Known::Silent { .. } => true,
        };
        Ok(self.leases.borrow().iter().filter(is_asked).cloned().collect())
    }

    async fn record(&self, key: &RecordKey) -> Result<Option<Entry>, CallError> {
        if let RecordKey::Member(id) = key {
            let n = (1..=9).find(|n| NodeId::of(&node_key(*n)) == *id);
            let member = n.map(|n| mesh_coordinator::catalogue::Member {
                key: node_key(n),
                name: "alpha".parse().unwrap(),
                invitation: None,
                invited: None,
            });
            // The second joined through the third, the others were there from the beginning.
            let key = if n == Some(2) { node_key(3) } else { OPERATOR };
            let author = crate::intent::Author { mesh: MESH, key, now: WallTime(1) };
            return Ok(member.map(|member| entry(author.follow(None, Body::Member(member)))));
        }
        Ok(self.best(key).map(entry))
    }

    async fn catalogue(&self) -> Result<Vec<Entry>, CallError> {
        let genesis = Genesis {
            name: "prod".parse().unwrap(),
            root: OPERATOR,
            root_name: "ada".parse().unwrap(),
            recovery: PublicKey([8; 32]),
            nonce: [0; 16],
        };
        let nameless = MeshId(Hash([0; 32]));
        let author = crate::intent::Author { mesh: nameless, key: OPERATOR, now: WallTime(1) };
        let genesis = entry(author.follow(None, Body::Genesis(genesis)));
        let mut entries = vec![Entry { hash: MESH.0, ..genesis }];
        let ids: Vec<NodeId> = self.nodes.borrow().iter().map(|node| node.id).collect();
        for id in ids {
            entries.extend(self.record(&RecordKey::Member(id)).await?);
        }
        entries.extend(self.records.borrow().iter().cloned().map(entry));
        for entry in &mut entries {
            entry.invitation_verified = true;
        }
        Ok(entries)
    }

    async fn submit(&self, records: Vec<Record>) -> Result<Submitted, CallError> {
        let refused = match self.refusal.get() {
            Some(why) => vec![(Hash([0; 32]), why.to_owned())],
            None => Vec::new(),
        };
        if refused.is_empty() {
            self.records.borrow_mut().extend(records);
        }
        let ids: Vec<NodeId> = self.nodes.borrow().iter().map(|node| node.id).collect();
        let n_peers = u32::try_from(ids.len() - 1).unwrap();
        let stored_on = ids.into_iter().take(if self.lonely.get() { 1 } else { 2 }).collect();
        Ok(Submitted { stored_on, n_peers, refused })
    }

    async fn events(&self, _tail: usize, _follow: bool) -> Result<Items<Happened>, CallError> {
        use mesh_coordinator::event::{Event, Severity, Subject};
        let event = Event {
            at: WallTime(1_800_000_000_000),
            seen_by: NodeId::of(&node_key(2)),
            severity: Severity::Warning,
            subject: Subject::Node(NodeId::of(&node_key(3))),
            text: "is down: two observers agree".to_owned(),
        };
        let silent =
            Happened::Silent { node: "gamma".to_owned(), reason: "does not answer".to_owned() };
        Ok(items(vec![Happened::Event(event), silent]))
    }

    async fn logs(&self, place: &Place, _query: LogQuery) -> Result<Items<LogLine>, CallError> {
        let SlotIndex::Number(n) = place.slot.index else { return Ok(items(Vec::new())) };
        let line = |at: u64| LogLine {
            written: WallTime(1_800_000_000_000 + at * 10 + u64::from(n)),
            output: Output::Stdout,
            text: bytes::Bytes::from(format!("line {at} of {n}")),
        };
        Ok(items(vec![line(1), line(2)]))
    }

    async fn exec(&self, _place: &Place, exec: Exec) -> Result<Session, CallError> {
        let (input, _closed) = mpsc::channel(1);
        let output = vec![
            ExecOutput::Data(Output::Stdout, bytes::Bytes::from(exec.args.join(" "))),
            ExecOutput::Exited(self.exit.get()),
        ];
        Ok(Session { input, output: items(output) })
    }

    async fn push_image(&self, _archive: tokio::fs::File) -> Result<Pushed, CallError> {
        let images = self.images.borrow().clone();
        let stored_on = vec![NodeId::of(&node_key(1)), NodeId::of(&node_key(2))];
        Ok(Pushed { images, stored_on, n_peers: 2 })
    }

    async fn images(&self) -> Result<Vec<Image>, CallError> {
        Ok(self.images.borrow().clone())
    }

    fn invite(&self, _redeemer: PublicKey, address: String) -> Result<Invited, CallError> {
        Ok(Invited { key: PublicKey([5; 32]), address, token: "mesh1-secret".to_owned() })
    }
}
