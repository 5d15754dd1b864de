//! The mesh over the network: one agent of those that the configuration file knows, the next when that one dies.
//!
//! What found no agent is asked again of the others, once: reads, and records, which are the same wherever they are handed in.
//! Commands in containers and archives are not, since they may have begun.

mod agents;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mesh_api::client::{
    Access, AgentAddress, Error, EventsItem, ExecRequest, Lease, LeasesItem, LogsRequest,
    OperatorClient, Silent,
};
use mesh_coordinator::catalogue::{Entry, Record, RecordKey, Role};
use mesh_coordinator::id::{AppUid, MeshId, PublicKey, SlotId};
use mesh_coordinator::time::WallTime;
use mesh_coordinator::view::{Overview, Why};
use mesh_identity::keys::KeyPair;
use mesh_identity::operator::{Context, Contexts};
use mesh_identity::token::Token;
use mesh_identity::{record, tls};
use mesh_ports::control::Submitted;
use mesh_ports::runtime::{Exec, Image, LogLine, LogQuery};
use tokio::sync::{Mutex, mpsc};
use tokio_stream::StreamExt as _;

use crate::cli::Global;
use crate::config;
use crate::failure::Failure;
use crate::intent::{self, Times};
use crate::mesh::{
    CallError, Happened, Invited, Items, Known, Mesh, NEEDS_ROLE, Place, Pushed, Session, Tried,
    Who,
};

/// How long an agent may take to answer: longer than it waits itself for another node to store a record.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Pieces of standard input on their way.
const STDIN_PIECES: usize = 8;

/// The mesh that the configuration file names.
pub(crate) struct Remote {
    path: PathBuf,
    context: Context,
    agents: Vec<AgentAddress>,
    /// True when the operator named the one agent to ask.
    is_forced: bool,
    connection: Mutex<Option<OperatorClient>>,
    /// What the last overview said, to remember its agents.
    seen: Mutex<Option<Overview>>,
    /// What the agent and this machine took for the time when something was signed; `None` when nothing was.
    signed_at: Mutex<Option<Times>>,
}

impl Remote {
    /// Reads the configuration file; nothing is connected yet.
    pub(crate) fn open(global: &Global) -> Result<Self, Failure> {
        let path = config::path(global)?;
        let contexts = Contexts::load(&path).map_err(config::unusable)?;
        let context = contexts.select(global.context.as_deref()).map_err(config::unusable)?;
        Ok(Self::of(path, context.clone(), global.agent.as_deref()))
    }

    /// The mesh of a context; `forced` is the one agent to ask, if there shall be only one.
    pub(crate) fn of(path: PathBuf, context: Context, forced: Option<&str>) -> Self {
        let agents = agents::to_try(&context, forced);
        let is_forced = forced.is_some();
        let (connection, seen, signed_at) = (Mutex::new(None), Mutex::new(None), Mutex::new(None));
        Self { path, context, agents, is_forced, connection, seen, signed_at }
    }

    async fn client(&self) -> Result<OperatorClient, CallError> {
        let mut connection = self.connection.lock().await;
        if let Some(client) = &*connection {
            return Ok(client.clone());
        }
        let client = OperatorClient::connect(&self.agents, self.access()?, TIMEOUT).await?;
        *connection = Some(client.clone());
        Ok(client)
    }

    fn access(&self) -> Result<Access, CallError> {
        let own = self.context.operator.clone();
        // Made once before it is needed, since the client cannot report that it is impossible.
        let refused = |error: tls::TlsError| CallError::Refused { reason: error.to_string() };
        let mut configs = std::collections::BTreeMap::new();
        for agent in &self.agents {
            configs.insert(agent.key, tls::client_config(&own, agent.key).map_err(refused)?);
        }
        let nobody = tls::client_config(&own, own.public()).map_err(refused)?;
        let tls_for = move |key: &PublicKey| Arc::clone(configs.get(key).unwrap_or(&nobody));
        Ok(Access {
            mesh: self.context.mesh,
            tls_for: Arc::new(tls_for),
            signer: Arc::new(self.context.operator.clone()),
        })
    }

    /// Asks, and asks another agent when the first one is gone.
    async fn ask<T, F>(&self, ask: impl Fn(OperatorClient) -> F) -> Result<T, CallError>
    where
        F: Future<Output = Result<T, Error>>,
    {
        match ask(self.client().await?).await {
            Err(Error::Unreachable { .. }) => {
                *self.connection.lock().await = None;
                ask(self.client().await?).await.map_err(|error| self.explain(error))
            }
            answer => answer.map_err(|error| self.explain(error)),
        }
    }

    /// What an error means for this operator.
    fn explain(&self, error: Error) -> CallError {
        let mut error = CallError::from(error);
        if let CallError::Stranger { admission, .. } = &mut error {
            let Context { operator_name, operator, .. } = &self.context;
            *admission = config::admission(operator_name, Role::Viewer, &operator.public());
        }
        error
    }

    /// Remembers the agents that the last overview named, so that the next command gets along without those it knew before.
    pub(crate) async fn remember(&self) -> Result<(), String> {
        let seen = self.seen.lock().await;
        let Some(overview) = &*seen else { return Ok(()) };
        if self.is_forced {
            return Ok(());
        }
        let agents = agents::alive(self, &self.context, overview).await;
        let agents = agents.map_err(|error| error.to_string())?;
        if agents == self.context.agents {
            return Ok(());
        }
        agents::save(&self.path, &self.context, agents).map_err(|error| error.to_string())
    }

    /// What there is to say of clocks after something was signed: the agent alone told when that was.
    pub(crate) async fn doubt_of_time(&self) -> Option<String> {
        self.signed_at.lock().await.as_ref()?.doubt()
    }

    fn sign(&self, record: &Record) -> Result<Entry, CallError> {
        record::sign(record, &self.context.operator).map_err(|error| CallError::Refused {
            reason: format!("the record is impossible: {error}"),
        })
    }
}

impl From<Error> for CallError {
    fn from(error: Error) -> Self {
        match error {
            Error::Unreachable { tried } => {
                let tried = tried.into_iter().map(|(address, why)| Tried { address, why });
                let mut list: Vec<Tried> = tried.collect();
                // An agent that was named by hand is tried with every known key.
                list.dedup();
                Self::Unreachable(list)
            }
            Error::Refused { reason } if reason.contains(NEEDS_ROLE) => Self::Role { reason },
            Error::Removed => Self::Removed,
            Error::Stranger { reason } => {
                Self::Stranger { reason, admission: "agentctl operator add …".to_owned() }
            }
            Error::Refused { reason } | Error::NotFound { reason } | Error::Busy { reason } => {
                Self::Refused { reason }
            }
            Error::Invalid { reason } => Self::Invalid { reason },
            Error::Server { reason } => Self::BrokenOff { reason },
        }
    }
}

/// What an error means when it is about a replica: the agent that was asked has answered a moment ago.
fn of_node(error: Error) -> CallError {
    if let Error::Unreachable { tried } = error {
        let reasons: Vec<String> = tried.into_iter().map(|(_, why)| why).collect();
        CallError::NodeSilent { reason: reasons.join("; ") }
    } else {
        error.into()
    }
}

fn items<T, U, F>(stream: mesh_api::client::Items<T>, convert: F) -> Items<U>
where
    T: 'static,
    F: Fn(T) -> U + Send + 'static,
{
    Box::pin(stream.map(move |item| Ok(convert(item?))))
}

impl Mesh for Remote {
    fn mesh(&self) -> MeshId {
        self.context.mesh
    }

    fn operator(&self) -> PublicKey {
        self.context.operator.public()
    }

    async fn now(&self) -> Result<WallTime, CallError> {
        let told = self.client().await?.time();
        if told.is_none() {
            self.overview().await?;
        }
        // An agent of an older version does not tell.
        Ok(told.or(self.client().await?.time()).unwrap_or_else(intent::own_clock))
    }

    async fn who(&self) -> Result<Who, CallError> {
        let who = self.ask(async |client: OperatorClient| client.who().await).await?;
        let node_name = who.node_name.to_string();
        Ok(Who { node_name, version: who.version, role: who.role, refused: who.refused })
    }

    async fn overview(&self) -> Result<Overview, CallError> {
        let overview = self.ask(async |client: OperatorClient| client.overview().await).await?;
        *self.seen.lock().await = Some(overview.clone());
        Ok(overview)
    }

    async fn why(&self, slot: &SlotId) -> Result<Option<Why>, CallError> {
        let answer = self
            .ask(async |client: OperatorClient| match client.why(slot).await {
                Err(Error::NotFound { .. }) => Ok(None),
                other => other.map(Some),
            })
            .await?;
        Ok(answer)
    }

    async fn record(&self, key: &RecordKey) -> Result<Option<Entry>, CallError> {
        let signed = self.ask(async |client: OperatorClient| client.record(key).await).await?;
        let opened = signed.map(record::open).transpose();
        opened.map_err(|error| CallError::BrokenOff {
            reason: format!("it sent a record that is not right: {error}"),
        })
    }

    async fn catalogue(&self) -> Result<Vec<Entry>, CallError> {
        let signed = self.ask(async |client: OperatorClient| client.catalogue().await).await?;
        // A record of a kind that is not known here says nothing about the others.
        Ok(signed.into_iter().filter_map(|signed| record::open(signed).ok()).collect())
    }

    async fn submit(&self, records: Vec<Record>) -> Result<Submitted, CallError> {
        let mut signed = Vec::new();
        for record in &records {
            signed.push(self.sign(record)?.signed);
        }
        let client = self.client().await?;
        if let Some(told) = client.time() {
            let agent = client.agent().address.clone();
            *self.signed_at.lock().await = Some(Times { agent, told, own: intent::own_clock() });
        }
        // Signed records may be handed over again: the same bytes are the same record.
        let signed = &signed;
        self.ask(async |client: OperatorClient| client.submit(signed).await).await
    }

    async fn events(&self, tail: usize, follow: bool) -> Result<Items<Happened>, CallError> {
        let tail = u32::try_from(tail).unwrap_or(u32::MAX);
        let stream =
            self.ask(async |client: OperatorClient| client.events(tail, follow).await).await?;
        Ok(items(stream, |item| match item {
            EventsItem::Event(event) => Happened::Event(event),
            EventsItem::Silent(silent) => {
                Happened::Silent { node: silent.name.to_string(), reason: silent.reason }
            }
        }))
    }

    async fn leases(&self, app: Option<AppUid>) -> Result<Vec<Known>, CallError> {
        let stream = self.ask(async |client: OperatorClient| client.leases(app).await).await?;
        let mut known = items(stream, |item| match item {
            LeasesItem::Told(told) => {
                let Lease { node, lease } = *told;
                Known::Lease { node, lease: Box::new(lease) }
            }
            LeasesItem::Silent(Silent { node, name, reason }) => {
                Known::Silent { node, name: name.to_string(), reason }
            }
        });
        let mut all = Vec::new();
        while let Some(item) = known.next().await {
            all.push(item?);
        }
        Ok(all)
    }

    async fn logs(&self, place: &Place, query: LogQuery) -> Result<Items<LogLine>, CallError> {
        let Place { node, slot } = place.clone();
        let wanted = LogsRequest { node, slot, query };
        let stream = self.client().await?.logs(&wanted).await.map_err(of_node)?;
        Ok(items(stream, |line| line))
    }

    async fn exec(&self, place: &Place, exec: Exec) -> Result<Session, CallError> {
        let Place { node, slot } = place.clone();
        let (input, pieces) = mpsc::channel(STDIN_PIECES);
        let wanted = ExecRequest { node, slot, exec };
        let stream = self.client().await?.exec(&wanted, pieces).await.map_err(of_node)?;
        Ok(Session { input, output: items(stream, |piece| piece) })
    }

    async fn push_image(&self, archive: tokio::fs::File) -> Result<Pushed, CallError> {
        let pushed = self.client().await?.push_image(archive).await?;
        let mesh_api::client::Pushed { images, stored_on, n_peers } = pushed;
        Ok(Pushed { images, stored_on, n_peers })
    }

    async fn images(&self) -> Result<Vec<Image>, CallError> {
        self.ask(async |client: OperatorClient| client.images().await).await
    }

    fn invite(&self, redeemer: PublicKey, address: String) -> Result<Invited, CallError> {
        let invitation = KeyPair::generate().map_err(|error| CallError::Refused {
            reason: format!("no key could be made: {error}"),
        })?;
        let key = invitation.public();
        let token = Token { mesh: self.context.mesh, invitation, redeemer, address };
        let text = token.to_text().to_string();
        Ok(Invited { key, address: token.address, token: text })
    }
}
