//! What the server asks, faked: scripted answers and memory instead of disks and containers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use mesh_coordinator::catalogue::{Entry, RecordKey, Role};
use mesh_coordinator::event::Event;
use mesh_coordinator::id::{Hash, MeshId, NodeId, PublicKey, SlotId};
use mesh_coordinator::lease::exclusive::Fence;
use mesh_coordinator::spec::{HealthTest, Reservation, StopSignal};
use mesh_coordinator::time::WallTime;
use mesh_coordinator::view::{LeaseQuery, LeaseView, Overview, Why};
use mesh_ports::control::{
    Admission, Admitted, Control, JoinError, JoinRequest, LocalReplica, SubmitError, Submitted,
};
use mesh_ports::directory::{Directory, Peer, Standing};
use mesh_ports::runtime::{
    Container, ContainerError, ContainerId, Exec, ExecInput, ExecOutput, ExecStreams, Found,
    Health, Image, ImageError, Images, LogLine, LogQuery, Output, Running, Runtime, StartError,
    Usage, Window,
};
use tokio::sync::mpsc;

/// Members and operators, as the test says.
#[derive(Debug, Default)]
pub(super) struct FakeDirectory {
    pub(super) peers: Mutex<BTreeMap<NodeId, Peer>>,
    pub(super) operators: Mutex<BTreeMap<PublicKey, Role>>,
    pub(super) recovery: Mutex<Option<PublicKey>>,
    pub(super) removed: Mutex<Vec<PublicKey>>,
}

pub(super) const MESH: MeshId = MeshId(Hash([7; 32]));

/// The directory as one node sees it.
#[derive(Debug)]
pub(super) struct SeenBy(pub(super) NodeId, pub(super) Arc<FakeDirectory>);

impl Directory for SeenBy {
    fn mesh(&self) -> MeshId {
        MESH
    }

    fn peers(&self) -> Arc<Vec<Peer>> {
        let peers = self.1.peers.lock().unwrap();
        Arc::new(peers.values().filter(|peer| peer.node != self.0).cloned().collect())
    }

    fn peer(&self, node: NodeId) -> Option<Peer> {
        self.1.peers.lock().unwrap().get(&node).cloned()
    }

    fn standing(&self, key: &PublicKey) -> Standing {
        let node = NodeId::of(key);
        let is_member = self.1.peers.lock().unwrap().contains_key(&node);
        if self.1.removed.lock().unwrap().contains(key) {
            return if is_member { Standing::Parted(node) } else { Standing::Removed };
        }
        if let Some(role) = self.1.operators.lock().unwrap().get(key) {
            return Standing::Operator(*role);
        }
        if self.1.recovery.lock().unwrap().as_ref() == Some(key) {
            return Standing::Recovery;
        }
        if is_member { Standing::Member(node) } else { Standing::Unknown }
    }
}

/// An engine that answers what the test put in.
#[derive(Debug, Default)]
pub(super) struct FakeControl {
    pub(super) overview: Mutex<Option<Overview>>,
    pub(super) why: Mutex<Option<Why>>,
    pub(super) records: Mutex<Vec<Entry>>,
    pub(super) leases: Mutex<Vec<LeaseView>>,
    pub(super) past: Mutex<Vec<Event>>,
    pub(super) followers: Mutex<Vec<mpsc::Sender<Event>>>,
    pub(super) replicas: Mutex<BTreeMap<SlotId, LocalReplica>>,
    pub(super) backends: Mutex<BTreeMap<SlotId, SocketAddr>>,
    pub(super) busy: Mutex<bool>,
    /// Records are refused for this reason.
    pub(super) refuses: Mutex<Option<String>>,
}

impl Control for FakeControl {
    async fn submit(&self, entries: Vec<Entry>) -> Result<Submitted, SubmitError> {
        if *self.busy.lock().unwrap() {
            return Err(SubmitError::Busy);
        }
        if let Some(reason) = &*self.refuses.lock().unwrap() {
            let refused = entries.iter().map(|entry| (entry.hash, reason.clone())).collect();
            return Ok(Submitted { stored_on: vec![], n_peers: 1, refused });
        }
        self.records.lock().unwrap().extend(entries);
        Ok(Submitted { stored_on: vec![], n_peers: 1, refused: vec![] })
    }

    async fn record(&self, key: RecordKey) -> Option<Entry> {
        self.records.lock().unwrap().iter().find(|entry| entry.record.body.key() == key).cloned()
    }

    async fn records(&self) -> Vec<Entry> {
        self.records.lock().unwrap().clone()
    }

    async fn overview(&self) -> Option<Overview> {
        self.overview.lock().unwrap().clone()
    }

    async fn why(&self, slot: SlotId) -> Option<Why> {
        self.why.lock().unwrap().clone().filter(|why| why.slot.slot == slot)
    }

    /// Two at a time.
    async fn leases(&self, query: LeaseQuery) -> Vec<LeaseView> {
        let leases = self.leases.lock().unwrap();
        let is_asked = |lease: &&LeaseView| {
            query.app.is_none_or(|app| app == lease.slot.app)
                && query.after.as_ref().is_none_or(|after| lease.slot > *after)
                && (!query.concerned || lease.pursuit.is_some() || lease.testimony.is_some())
        };
        leases.iter().filter(is_asked).take(2).cloned().collect()
    }

    async fn events(&self, tail: usize, follow: bool) -> mpsc::Receiver<Event> {
        let (sender, events) = mpsc::channel(1000);
        let past = self.past.lock().unwrap();
        for event in past.iter().skip(past.len().saturating_sub(tail)) {
            sender.try_send(event.clone()).unwrap();
        }
        if follow {
            self.followers.lock().unwrap().push(sender);
        }
        events
    }

    async fn replica(&self, slot: &SlotId) -> Option<LocalReplica> {
        self.replicas.lock().unwrap().get(slot).cloned()
    }

    async fn backend(&self, slot: &SlotId, _target: u16) -> Option<SocketAddr> {
        self.backends.lock().unwrap().get(slot).copied()
    }
}

/// Containers whose logs are made up and whose commands repeat their input.
#[derive(Debug, Default)]
pub(super) struct FakeRuntime {
    /// How many commands run.
    pub(super) running: Arc<Mutex<usize>>,
    /// Since when lines were wanted last.
    pub(super) since: Mutex<Option<WallTime>>,
}

impl FakeRuntime {
    fn host(attempt: &str) -> ContainerError {
        let source = std::io::Error::other("it is a fake").into();
        ContainerError::Host { attempt: attempt.to_owned(), source }
    }
}

impl Runtime for FakeRuntime {
    fn capacity(&self) -> Reservation {
        Reservation::default()
    }

    async fn list(&self) -> Vec<Found> {
        vec![]
    }

    async fn start(&self, container: &Container) -> Result<Running, StartError> {
        Err(StartError::ImageMissing(container.id.0.clone()))
    }

    async fn extend(&self, id: &ContainerId, _fence: Fence) -> Result<(), ContainerError> {
        Err(ContainerError::NotRunning(id.clone()))
    }

    async fn stop(
        &self,
        _id: &ContainerId,
        _signal: StopSignal,
        _grace: std::time::Duration,
    ) -> Result<(), ContainerError> {
        Ok(())
    }

    async fn remove(&self, _id: &ContainerId) -> Result<(), ContainerError> {
        Ok(())
    }

    async fn probe(
        &self,
        _id: &ContainerId,
        _test: &HealthTest,
        _timeout: std::time::Duration,
    ) -> Health {
        Health::Passed
    }

    /// Repeats its input, says its arguments on the other stream when the input ends, and exits with 7.
    async fn exec(&self, _id: &ContainerId, exec: Exec) -> Result<ExecStreams, ContainerError> {
        if exec.args == ["fail"] {
            return Err(Self::host("run the command"));
        }
        let (to, mut input) = mpsc::channel::<ExecInput>(4);
        let (sender, output) = mpsc::channel(4);
        let running = Arc::clone(&self.running);
        *running.lock().unwrap() += 1;
        #[expect(clippy::disallowed_methods, reason = "a fake has no group of tasks")]
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    data = input.recv() => match data {
                        Some(ExecInput::Data(data)) => {
                            sender.send(ExecOutput::Data(Output::Stdout, data)).await.unwrap();
                        }
                        Some(ExecInput::Resize(Window { columns, rows })) => {
                            let size = Bytes::from(format!("[{columns}x{rows}]"));
                            sender.send(ExecOutput::Data(Output::Stdout, size)).await.unwrap();
                        }
                        None => break,
                    },
                    () = sender.closed() => break,
                }
            }
            let args = Bytes::from(exec.args.join(" "));
            drop(sender.send(ExecOutput::Data(Output::Stderr, args)).await);
            drop(sender.send(ExecOutput::Exited(7)).await);
            *running.lock().unwrap() -= 1;
        });
        Ok(ExecStreams { input: to, output })
    }

    async fn logs(
        &self,
        id: &ContainerId,
        query: LogQuery,
    ) -> Result<mpsc::Receiver<LogLine>, ContainerError> {
        if id.0 == "gone" {
            return Err(ContainerError::Unknown(id.clone()));
        }
        *self.since.lock().unwrap() = query.since;
        let (sender, lines) = mpsc::channel(100);
        let since = query.since.unwrap_or_default().0;
        for number in 0..query.tail.unwrap_or(10).min(100) {
            let text = Bytes::from(format!("line {number} of {id}"));
            let written = WallTime(since + u64::try_from(number).unwrap());
            sender.try_send(LogLine { written, output: Output::Stdout, text }).unwrap();
        }
        Ok(lines)
    }

    async fn usage(&self, _id: &ContainerId) -> Result<Usage, ContainerError> {
        Ok(Usage::default())
    }
}

/// Images in memory: an archive is one blob, and that is the image.
#[derive(Debug, Default)]
pub(super) struct FakeImages(
    pub(super) Mutex<BTreeMap<String, Bytes>>,
    /// After so many pieces of a blob nothing more comes, and no end either.
    pub(super) Mutex<Option<usize>>,
    Mutex<Vec<mpsc::Sender<Bytes>>>,
);

pub(super) fn digest_of(data: &[u8]) -> String {
    format!("sha256:{}", Hash::of(&[data]))
}

async fn all(mut pieces: mpsc::Receiver<Bytes>) -> Bytes {
    let mut data = Vec::new();
    while let Some(piece) = pieces.recv().await {
        data.extend_from_slice(&piece);
    }
    data.into()
}

impl Images for FakeImages {
    async fn images(&self) -> Vec<Image> {
        let image = |(digest, data): (&String, &Bytes)| Image {
            digest: digest.clone(),
            names: vec![],
            bytes: u64::try_from(data.len()).unwrap(),
        };
        self.0.lock().unwrap().iter().map(image).collect()
    }

    async fn missing(&self, digest: &str) -> Result<Vec<String>, ImageError> {
        let is_here = self.0.lock().unwrap().contains_key(digest);
        Ok(if is_here { vec![] } else { vec![digest.to_owned()] })
    }

    async fn import(&self, archive: mpsc::Receiver<Bytes>) -> Result<Vec<Image>, ImageError> {
        let data = all(archive).await;
        if data.starts_with(b"no archive") {
            return Err(ImageError::Invalid { reason: "it is no archive".to_owned() });
        }
        let digest = digest_of(&data);
        let bytes = u64::try_from(data.len()).unwrap();
        self.0.lock().unwrap().insert(digest.clone(), data);
        Ok(vec![Image { digest, names: vec!["web:1".to_owned()], bytes }])
    }

    async fn put_blob(
        &self,
        digest: &str,
        pieces: mpsc::Receiver<Bytes>,
    ) -> Result<(), ImageError> {
        let data = all(pieces).await;
        let found = digest_of(&data);
        if found == digest {
            self.0.lock().unwrap().insert(found, data);
            Ok(())
        } else {
            Err(ImageError::Digest { expected: digest.to_owned(), found })
        }
    }

    async fn read_blob(&self, digest: &str) -> Result<mpsc::Receiver<Bytes>, ImageError> {
        let found = self.0.lock().unwrap().get(digest).cloned();
        let data = found.ok_or_else(|| ImageError::Missing(digest.to_owned()))?;
        let (sender, pieces) = mpsc::channel(10_000);
        let n_pieces = self.1.lock().unwrap().unwrap_or(usize::MAX);
        for piece in data.chunks(10_000).take(n_pieces) {
            sender.try_send(Bytes::copy_from_slice(piece)).unwrap();
        }
        if n_pieces < usize::MAX {
            self.2.lock().unwrap().push(sender);
        }
        Ok(pieces)
    }

    async fn unpack(&self, _digest: &str) -> Result<(), ImageError> {
        Ok(())
    }
}

/// Admits whoever wants the name `good`.
#[derive(Debug, Default)]
pub(super) struct FakeAdmission(pub(super) Mutex<Vec<Entry>>);

impl Admission for FakeAdmission {
    async fn redeem(&self, request: JoinRequest) -> Result<Admitted, JoinError> {
        match request.name.as_str() {
            "good" => Ok(Admitted { records: self.0.lock().unwrap().clone() }),
            "taken" => Err(JoinError::NameTaken(request.name)),
            _ => Err(JoinError::Forged),
        }
    }
}
