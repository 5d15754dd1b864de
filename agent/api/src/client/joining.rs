//! The calls of a node that wants to become a member, and of one that is none any more.

use std::sync::Arc;
use std::time::Duration;

use mesh_coordinator::catalogue::Entry;
use mesh_coordinator::message::Rejected;
use mesh_ports::control::{Admitted, JoinRequest};
use mesh_ports::directory::RecordCodec;
use mesh_proto::v1;
use mesh_proto::v1::join_client::JoinClient;
use mesh_proto::v1::peer_client::PeerClient;
use tokio::time::Instant;
use tokio_rustls::rustls::ClientConfig;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use super::Error;
use crate::convert::{MESSAGE_LEN_MAX, message, value};
use crate::dial::{self, Dial, Names};

/// The longest catalogue that is read. A mesh of a thousand apps has a few megabytes of records; an agent that says more is broken,
/// or not what it was, and must not fill this host's memory.
const CATALOGUE_LEN_MAX: usize = 256 << 20;

/// How long a catalogue may take as a whole, on however slow a line: silence alone ends nobody who drips.
const CATALOGUE_TIMEOUT: Duration = Duration::from_secs(600);

/// What a piece costs beside its records, so that empty ones have an end too.
const PIECE_LEN: usize = 64;

/// The most records that prove a removal: it and a chain of operators.
const FAREWELL_MAX: usize = 128;

/// Asks the agent at `address` (`host:port`) to admit this node. `tls` proves this node's key and accepts only the agent that
/// the token names. `timeout` is how long the agent may be silent. Every record of the answer was opened by `codec`.
///
/// # Errors
/// [`Error::Refused`] or [`Error::Invalid`] with the agent's reason, [`Error::Unreachable`] when it does not answer in time.
pub async fn join(
    address: &str,
    tls: Arc<ClientConfig>,
    request: &JoinRequest,
    codec: &dyn RecordCodec,
    timeout: Duration,
) -> Result<Admitted, Error> {
    let unreachable =
        |reason: String| Error::Unreachable { tried: vec![(address.to_owned(), reason)] };
    let link =
        dial::connect(&Dial { address, names: &Names::default(), tls, timeout, witness: None })
            .await
            .map_err(|error| unreachable(error.to_string()))?;
    let offer = v1::JoinOffer {
        name: request.name.to_string(),
        invitation: request.invitation.0.to_vec(),
        invited: request.invited.0.to_vec(),
        address: Some(value::signed_to_wire(&request.address.signed)),
    };
    let silent = |_elapsed| unreachable("does not answer".to_owned());
    let failed = |status: Status| Error::of(&status, address);
    let mut client = JoinClient::new(link.channel);
    let answer = tokio::time::timeout(timeout, client.join(offer)).await.map_err(silent)?;
    let mut pieces = answer.map_err(failed)?.into_inner();
    // The limit is for silence, not for the whole: checking a large catalogue takes a slow host a while.
    let (records, mut rejected) = read(&mut pieces, codec, timeout, address).await?;
    match rejected.pop() {
        None => Ok(Admitted { records }),
        Some(bad) => {
            Err(Error::Server { reason: format!("the agent sent a bad record: {}", bad.reason) })
        }
    }
}

/// Asks the agent at `address` for all records, as the member that `tls` proves; a member that was removed gets the records that
/// prove that. `timeout` is how long the agent may be silent. What does not open is left out.
///
/// # Errors
/// [`Error::Refused`] with the agent's reason, [`Error::Unreachable`] when it does not answer in time.
pub async fn catalogue(
    address: &str,
    tls: Arc<ClientConfig>,
    codec: &dyn RecordCodec,
    timeout: Duration,
) -> Result<Vec<Entry>, Error> {
    let unreachable =
        |reason: String| Error::Unreachable { tried: vec![(address.to_owned(), reason)] };
    let link =
        dial::connect(&Dial { address, names: &Names::default(), tls, timeout, witness: None })
            .await
            .map_err(|error| unreachable(error.to_string()))?;
    let silent = |_elapsed| unreachable("does not answer".to_owned());
    let failed = |status: Status| Error::of(&status, address);
    let mut client = PeerClient::new(link.channel.clone());
    let answer = tokio::time::timeout(timeout, client.catalogue(v1::Nothing {})).await;
    let mut pieces = match answer.map_err(silent)? {
        Ok(pieces) => pieces.into_inner(),
        Err(status) if status.code() == Code::PermissionDenied => {
            let told = tokio::time::timeout(timeout, part(link.channel, codec)).await;
            let told = told.map_err(silent)?.map_err(|_denied| failed(status));
            return told.map(|(records, _forged)| records);
        }
        Err(status) => return Err(failed(status)),
    };
    read(&mut pieces, codec, timeout, address).await.map(|(records, _forged)| records)
}

/// Reads a catalogue, piece by piece. `timeout` is how long the agent at `address` may be silent.
async fn read(
    pieces: &mut Streaming<v1::JoinPiece>,
    codec: &dyn RecordCodec,
    timeout: Duration,
    address: &str,
) -> Result<(Vec<Entry>, Vec<Rejected>), Error> {
    let unreachable =
        |reason: &str| Error::Unreachable { tried: vec![(address.to_owned(), reason.to_owned())] };
    let (mut records, mut rejected) = (Vec::new(), Vec::new());
    let mut room = CATALOGUE_LEN_MAX;
    let end = Instant::now() + CATALOGUE_TIMEOUT;
    loop {
        let until = end.min(Instant::now() + timeout);
        let next = tokio::time::timeout_at(until, pieces.message()).await;
        let next = next.map_err(|_elapsed| unreachable("does not answer"))?;
        let Some(piece) = next.map_err(|status| Error::of(&status, address))? else {
            return Ok((records, rejected));
        };
        let length = piece.records.iter().map(|record| record.bytes.len()).sum::<usize>();
        room = room.checked_sub(length.saturating_add(PIECE_LEN)).ok_or_else(|| {
            let reason = "the agent sends more records than a mesh can have".to_owned();
            Error::Server { reason }
        })?;
        records.extend(message::open(piece.records, codec, &mut rejected)?);
    }
}

/// Asks an agent for the proof that this node was removed. What does not open is returned apart.
pub(super) async fn part(
    channel: Channel,
    codec: &dyn RecordCodec,
) -> Result<(Vec<Entry>, Vec<Rejected>), Status> {
    let mut client = JoinClient::new(channel).max_decoding_message_size(MESSAGE_LEN_MAX);
    let mut pieces = client.part(v1::Nothing {}).await?.into_inner();
    let (mut records, mut rejected) = (Vec::new(), Vec::new());
    while let Some(piece) = pieces.message().await? {
        let opened = message::open(piece.records, codec, &mut rejected);
        records.extend(opened.map_err(|error| Status::data_loss(error.to_string()))?);
        if records.len().saturating_add(rejected.len()) > FAREWELL_MAX {
            return Err(Status::out_of_range("too many records for a farewell"));
        }
    }
    Ok((records, rejected))
}
