//! An operator's calls to any agent of the mesh.
//!
//! The agents that the operator knows are tried in order, each next one after a moment, so that a dead first one costs little.
//! What concerns one replica is signed for the node that runs it: the agent on the way only passes it on.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use mesh_coordinator::catalogue::{RecordKey, SignedBytes};
use mesh_coordinator::id::{AppUid, NodeId, SlotId};
use mesh_coordinator::time::WallTime;
use mesh_coordinator::view::{Overview, Why};
use mesh_ports::control::Submitted;
use mesh_ports::request::Challenge;
use mesh_ports::runtime::{ExecInput, ExecOutput, Image, LogLine};
use mesh_proto::v1;
use mesh_proto::v1::operator_client::OperatorClient as Wire;
use tokio::io::AsyncRead;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::io::ReaderStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use super::requests::order;
use super::value::{
    Access, AgentAddress, EventsItem, ExecRequest, LeasesItem, LogsRequest, Pushed, Who,
};
use super::{Error, Items};
use crate::convert::{
    ANSWER_LEN_MAX, event, exec, key, leases, overview, request, required, value, who, why,
};
use crate::dial::{self, Dial, DialError, Fault, Link, Names};
use crate::status;

/// How long the answer of one agent is waited for before the next is tried as well.
const HEAD_START: Duration = Duration::from_millis(300);

/// The bytes in a piece of an archive.
const PIECE_LEN: usize = 64 << 10;

/// A connection to one agent, used in an operator's name. Cheap to clone; clones share the connection.
#[derive(Debug, Clone)]
pub struct OperatorClient {
    access: Access,
    agent: AgentAddress,
    wire: Wire<Channel>,
    fault: Arc<Fault>,
    timeout: Duration,
    /// What time the agent said that it is, and when; `None` until it did.
    told: Arc<Mutex<Option<(Instant, WallTime)>>>,
}

impl OperatorClient {
    /// Connects to the first of `agents` that answers within `timeout`: they are tried in order, each next one as soon as the
    /// former failed or has not answered for a moment. `timeout` also bounds each later call that is answered at once.
    ///
    /// # Errors
    /// [`Error::Unreachable`] with every address that was tried.
    pub async fn connect(
        agents: &[AgentAddress],
        access: Access,
        timeout: Duration,
    ) -> Result<Self, Error> {
        let names = Names::default();
        let mut waiting = agents.iter();
        let mut trying = FuturesUnordered::new();
        let mut tried = Vec::new();
        let deadline = tokio::time::sleep(timeout);
        tokio::pin!(deadline);
        let mut start_next = true;
        loop {
            if std::mem::take(&mut start_next)
                && let Some(agent) = waiting.next()
            {
                trying.push(attempt(agent, &access, &names, timeout));
            }
            let head_start = tokio::time::sleep(HEAD_START);
            tokio::select! {
                biased;
                ended = trying.next() => match ended {
                    Some(Ok((agent, link))) => {
                        let access = access.clone();
                        return Ok(Self::new(access, agent, link, timeout));
                    }
                    Some(Err((_, DialError::Denied))) => return Err(Error::Removed),
                    Some(Err((address, failure))) => {
                        let failure = (address, failure.to_string());
                        tried.push(failure);
                        start_next = true;
                    }
                    None => return Err(Error::Unreachable { tried }),
                },
                () = &mut deadline => {
                    let silent = agents.iter().filter(|agent| {
                        !tried.iter().any(|(address, _)| *address == agent.address)
                    });
                    let silent = silent.map(|agent| (agent.address.clone(), "does not answer".to_owned()));
                    tried.extend(silent.collect::<Vec<_>>());
                    return Err(Error::Unreachable { tried });
                }
                () = head_start => start_next = true,
            }
        }
    }

    fn new(access: Access, agent: AgentAddress, link: Link, timeout: Duration) -> Self {
        let wire = Wire::new(link.channel).max_decoding_message_size(ANSWER_LEN_MAX);
        Self { access, agent, wire, fault: link.fault, timeout, told: Arc::default() }
    }

    /// The agent that answers.
    #[must_use]
    pub const fn agent(&self) -> &AgentAddress {
        &self.agent
    }

    /// The time of the mesh, as the agent told it with its last answer; `None` until it did, or when it is too old to do so.
    #[must_use]
    pub fn time(&self) -> Option<WallTime> {
        let (at, told) = (*self.told.lock().unwrap_or_else(PoisonError::into_inner))?;
        let since = u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX);
        Some(WallTime(told.0.saturating_add(since)))
    }

    /// Who answers, and as whom it knows the caller.
    ///
    /// # Errors
    /// When the agent does not answer or does not know the operator.
    pub async fn who(&self) -> Result<Who, Error> {
        let mut wire = self.wire.clone();
        let answer = self.soon(wire.who(v1::Nothing {})).await?;
        Ok(who::who(answer)?)
    }

    /// The mesh as the agent sees it.
    ///
    /// # Errors
    /// When the agent does not answer or does not know the operator.
    pub async fn overview(&self) -> Result<Overview, Error> {
        let mut wire = self.wire.clone();
        let answer = self.soon(wire.overview(v1::Nothing {})).await?;
        Ok(overview::from_wire(answer)?)
    }

    /// Why a slot is where it is.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a slot of which nothing is known.
    pub async fn why(&self, slot: &SlotId) -> Result<Why, Error> {
        let mut wire = self.wire.clone();
        let question = v1::WhyRequest { slot: Some(value::slot_to_wire(slot)) };
        let answer = self.soon(wire.why(question)).await?;
        Ok(why::from_wire(answer)?)
    }

    /// The record that holds under a key; `None` when there is none.
    ///
    /// # Errors
    /// When the agent does not answer or does not know the operator.
    pub async fn record(&self, key: &RecordKey) -> Result<Option<SignedBytes>, Error> {
        let mut wire = self.wire.clone();
        let answer = self.soon(wire.record(key::to_wire(key))).await?;
        Ok(answer.record.map(value::signed).transpose()?)
    }

    /// All records that the agent has.
    ///
    /// # Errors
    /// When the agent does not answer or does not know the operator.
    pub async fn catalogue(&self) -> Result<Vec<SignedBytes>, Error> {
        let mut wire = self.wire.clone();
        let stream = self.soon(wire.catalogue(v1::Nothing {})).await?;
        let mut items = Items::of(stream, self.agent.address.clone(), value::signed);
        let mut records = Vec::new();
        while let Some(record) = items.next().await {
            records.push(record?);
        }
        Ok(records)
    }

    /// Hands over signed records, and waits until they are stored on two nodes or known not to be.
    ///
    /// # Errors
    /// When the agent does not answer or does not do this for the operator. Records that the catalogue refuses are no error but
    /// part of the answer.
    pub async fn submit(&self, records: &[SignedBytes]) -> Result<Submitted, Error> {
        let mut wire = self.wire.clone();
        let records = records.iter().map(value::signed_to_wire).collect();
        let answer = self.soon(wire.submit(v1::SubmitRequest { records })).await?;
        Ok(who::submitted(answer)?)
    }

    /// The last `tail` events of all nodes, oldest first, and then new ones as they come if `follow` is set.
    ///
    /// # Errors
    /// When the agent does not answer or does not know the operator. A node that cannot be asked is part of the answer.
    pub async fn events(&self, tail: u32, follow: bool) -> Result<Items<EventsItem>, Error> {
        let mut wire = self.wire.clone();
        let stream = self.soon(wire.events(v1::EventsQuery { tail, follow })).await?;
        Ok(Items::of(stream, self.agent.address.clone(), |item: v1::MeshEvent| {
            Ok(match required("item", item.item)? {
                v1::mesh_event::Item::Event(item) => EventsItem::Event(event::from_wire(item)?),
                v1::mesh_event::Item::Silent(item) => EventsItem::Silent(who::silent(item)?),
            })
        }))
    }

    /// What each node knows of the leases of an app's exclusive slots; of all apps when none is named. In no order.
    ///
    /// # Errors
    /// When the agent does not answer or does not know the operator. A node that cannot be asked is part of the answer.
    pub async fn leases(&self, app: Option<AppUid>) -> Result<Items<LeasesItem>, Error> {
        let mut wire = self.wire.clone();
        let stream = self.soon(wire.leases(leases::query_to_wire(app))).await?;
        Ok(Items::of(stream, self.agent.address.clone(), |item: v1::MeshLease| {
            Ok(match required("item", item.item)? {
                v1::mesh_lease::Item::Told(item) => LeasesItem::Told(Box::new(leases::told(item)?)),
                v1::mesh_lease::Item::Silent(item) => LeasesItem::Silent(who::silent(item)?),
            })
        }))
    }

    /// Lines of a replica's log, oldest first.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the node has no such replica, [`Error::Unreachable`] when the node does not answer.
    pub async fn logs(&self, wanted: &LogsRequest) -> Result<Items<LogLine>, Error> {
        let mut wire = self.wire.clone();
        let arguments = request::logs_arguments(&wanted.query);
        let target = (wanted.node, self.challenge(wanted.node).await?);
        let order = order(&self.access, target, &wanted.slot, (request::LOGS, arguments))?;
        let stream = self.soon(wire.logs(exec::query_to_wire(wanted.query, order))).await?;
        Ok(Items::of(stream, self.agent.address.clone(), exec::line))
    }

    /// Runs a command in a replica's container. What arrives on `input` goes to it; its standard input is closed when the
    /// sender is dropped. The last item is [`ExecOutput::Exited`]; dropping the items kills the command.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the node has no such replica, [`Error::Unreachable`] when the node does not answer.
    pub async fn exec(
        &self,
        wanted: &ExecRequest,
        input: mpsc::Receiver<ExecInput>,
    ) -> Result<Items<ExecOutput>, Error> {
        use v1::exec_input::Piece;
        let mut wire = self.wire.clone();
        let arguments = request::exec_arguments(&wanted.exec);
        let target = (wanted.node, self.challenge(wanted.node).await?);
        let order = order(&self.access, target, &wanted.slot, (request::EXEC, arguments))?;
        let open = Piece::Open(exec::exec_to_wire(&wanted.exec, order));
        let pieces = tokio_stream::once(open)
            .chain(ReceiverStream::new(input).map(exec::input_to_wire))
            .chain(tokio_stream::once(Piece::End(v1::Nothing {})))
            // The request stays open until the answer is dropped: its end would be taken for a caller that went away. And it
            // must end then, since a call is given up only when both its directions are.
            .chain(futures_util::stream::pending());
        let dropped = CancellationToken::new();
        let pieces = pieces
            .map(|piece| v1::ExecInput { piece: Some(piece) })
            .take_until(dropped.clone().cancelled_owned());
        let guard = dropped.drop_guard();
        let stream = self.soon(wire.exec(pieces)).await?;
        Ok(Items::of(stream, self.agent.address.clone(), exec::piece).with_request(guard))
    }

    /// Sends an archive of images (an OCI layout as a tar, or what `docker save` writes), and waits until another node has them
    /// too.
    ///
    /// # Errors
    /// [`Error::Invalid`] when it is no such archive or when it cannot be read to its end.
    pub async fn push_image<R>(&self, archive: R) -> Result<Pushed, Error>
    where
        R: AsyncRead + Send + 'static,
    {
        let mut wire = self.wire.clone();
        let (broken, mut break_off) = mpsc::channel(1);
        let archive = Box::pin(ReaderStream::with_capacity(archive, PIECE_LEN));
        let pieces = futures_util::stream::unfold(Some((archive, broken)), |rest| async {
            let (mut archive, broken) = rest?;
            match archive.next().await {
                Some(Ok(data)) => {
                    Some((v1::ArchivePiece { data, end: false }, Some((archive, broken))))
                }
                Some(Err(error)) => {
                    // The receiver is kept until the call has ended, and takes one error.
                    drop(broken.try_send(error));
                    None
                }
                None => Some((v1::ArchivePiece { data: Bytes::new(), end: true }, None)),
            }
        });
        let pushed = wire.push_image(pieces).await;
        if pushed.is_err() && self.fault.is_denied() {
            return Err(Error::Removed);
        }
        if let Some(Some(error)) = break_off.recv().now_or_never() {
            return Err(Error::Invalid { reason: format!("the archive cannot be read: {error}") });
        }
        let answer = pushed.map_err(|status| Error::of(&status, &self.agent.address))?;
        Ok(who::pushed(answer.into_inner())?)
    }

    /// The images that are complete on the agent's node.
    ///
    /// # Errors
    /// When the agent does not answer or does not know the operator.
    pub async fn images(&self) -> Result<Vec<Image>, Error> {
        let mut wire = self.wire.clone();
        let answer = self.soon(wire.images(v1::Nothing {})).await?;
        Ok(who::images(answer.images)?)
    }

    /// What the node that is to be asked gives out for the next request to it.
    async fn challenge(&self, node: NodeId) -> Result<Challenge, Error> {
        let mut wire = self.wire.clone();
        let query = v1::ChallengeQuery { node: value::node_to_wire(node) };
        let answer = self.soon(wire.challenge(query)).await?;
        Ok(Challenge(value::array("challenge", &answer.challenge)?))
    }

    /// A call whose answer, or the beginning of it, comes within the time limit.
    async fn soon<T>(
        &self,
        call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    ) -> Result<T, Error> {
        match tokio::time::timeout(self.timeout, call).await {
            Ok(Ok(answer)) => {
                if let Some(time) = status::time(answer.metadata()) {
                    let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
                    *told = Some((Instant::now(), time));
                }
                Ok(answer.into_inner())
            }
            Ok(Err(_broken)) if self.fault.is_denied() => Err(Error::Removed),
            Ok(Err(status)) => Err(Error::of(&status, &self.agent.address)),
            Err(_elapsed) => Err(Error::Unreachable {
                tried: vec![(self.agent.address.clone(), "does not answer".to_owned())],
            }),
        }
    }
}

/// Connects one agent; the failure says its address and what happened.
async fn attempt(
    agent: &AgentAddress,
    access: &Access,
    names: &Names,
    timeout: Duration,
) -> Result<(AgentAddress, Link), (String, DialError)> {
    let tls = (access.tls_for)(&agent.key);
    match dial::connect(&Dial { address: &agent.address, names, tls, timeout, witness: None }).await
    {
        Ok(link) => Ok((agent.clone(), link)),
        Err(error) => Err((agent.address.clone(), error)),
    }
}
