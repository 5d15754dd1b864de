//! The calls of a node that wants to become a member, and of one that is none any more.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
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
use tonic::{Code, Status};

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

/// What a record costs beside its bytes and its signature: what is kept of it here is longer than what arrived.
const RECORD_LEN: usize = 256;

/// The most records that prove a removal: it and a chain of operators.
const FAREWELL_MAX: usize = 128;

/// What becomes of a record that does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bad {
    /// It ends the reading.
    Refuse,
    /// It is left out.
    LeaveOut,
}

/// How long an agent may be silent, and how long the whole of its answer may take.
#[derive(Debug, Clone, Copy)]
struct Patience {
    silence: Duration,
    whole: Duration,
}

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
    let patience = Patience { silence: timeout, whole: CATALOGUE_TIMEOUT };
    let records = read(&mut pieces, (codec, Bad::Refuse), patience, address).await?;
    Ok(Admitted { records })
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
    let patience = Patience { silence: timeout, whole: CATALOGUE_TIMEOUT };
    read(&mut pieces, (codec, Bad::LeaveOut), patience, address).await
}

/// Reads a catalogue that the agent at `address` sends piece by piece.
async fn read(
    pieces: &mut (impl Stream<Item = Result<v1::JoinPiece, Status>> + Unpin),
    (codec, bad): (&dyn RecordCodec, Bad),
    patience: Patience,
    address: &str,
) -> Result<Vec<Entry>, Error> {
    let unreachable =
        |reason: String| Error::Unreachable { tried: vec![(address.to_owned(), reason)] };
    let mut records = Vec::new();
    let mut room = CATALOGUE_LEN_MAX;
    let end = Instant::now() + patience.whole;
    loop {
        let until = end.min(Instant::now() + patience.silence);
        let next = tokio::time::timeout_at(until, pieces.next()).await;
        let next = next.map_err(|_elapsed| {
            if until < end {
                return unreachable("does not answer".to_owned());
            }
            let (n, s) = (records.len(), patience.whole.as_secs());
            let reason = format!(
                "the agent is too slow: {s} s were not enough, and it had sent {n} records"
            );
            Error::Server { reason }
        })?;
        let Some(piece) = next.transpose().map_err(|status| Error::of(&status, address))? else {
            return Ok(records);
        };
        room = room.checked_sub(length(&piece)).ok_or_else(|| {
            let reason = "the agent sends more records than a mesh can have".to_owned();
            Error::Server { reason }
        })?;
        let mut rejected = Vec::new();
        records.extend(message::open(piece.records, codec, &mut rejected)?);
        if let (Bad::Refuse, Some(Rejected { reason, .. })) = (bad, rejected.pop()) {
            return Err(Error::Server { reason: format!("the agent sent a bad record: {reason}") });
        }
    }
}

/// What a piece takes of the room that there is for a catalogue.
fn length(piece: &v1::JoinPiece) -> usize {
    piece.records.iter().fold(PIECE_LEN, |length, record| {
        let own = record.bytes.len().saturating_add(record.signature.len());
        length.saturating_add(own).saturating_add(RECORD_LEN)
    })
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

#[cfg(test)]
mod tests {
    //! What an agent says that is broken, or not what it was.

    use std::time::Duration;

    use futures_util::{StreamExt as _, stream};
    use mesh_identity::record::Codec;
    use mesh_proto::v1;

    use super::{Bad, Patience, read};
    use crate::client::Error;

    const PATIENCE: Patience =
        Patience { silence: Duration::from_secs(60), whole: Duration::from_secs(60) };

    /// A piece of records of which none opens.
    fn piece(n_records: usize) -> v1::JoinPiece {
        let empty = v1::SignedRecord { bytes: Vec::new(), signature: vec![0; 64] };
        v1::JoinPiece { records: vec![empty; n_records] }
    }

    #[tokio::test]
    async fn records_without_bytes_have_an_end_too() {
        let whole = piece(10_000);
        let mut pieces = stream::iter((0..100).map(|_| Ok(whole.clone())));
        let read = read(&mut pieces, (&Codec, Bad::LeaveOut), PATIENCE, "a:1").await;
        assert!(
            matches!(&read, Err(Error::Server { reason }) if reason.contains("more records")),
            "{read:?}"
        );
    }

    #[tokio::test]
    async fn a_bad_record_ends_a_join_at_once_and_is_left_out_of_a_catalogue() {
        let two = || stream::iter([Ok(piece(1)), Ok(piece(1))]);
        let mut pieces = two();
        let join = read(&mut pieces, (&Codec, Bad::Refuse), PATIENCE, "a:1").await;
        assert!(
            matches!(&join, Err(Error::Server { reason }) if reason.contains("bad record")),
            "{join:?}"
        );
        assert_eq!(pieces.count().await, 1, "the second was not read");
        let all = read(&mut two(), (&Codec, Bad::LeaveOut), PATIENCE, "a:1").await;
        assert_eq!(all.map(|records| records.len()), Ok(0));
    }

    #[tokio::test]
    async fn an_agent_that_drips_is_called_slow_and_a_silent_one_silent() {
        let drip = Duration::from_millis(10);
        let mut pieces = Box::pin(stream::unfold((), async |()| {
            tokio::time::sleep(drip).await;
            Some((Ok(piece(0)), ()))
        }));
        let patience = Patience { whole: 5 * drip, ..PATIENCE };
        let slow = read(&mut pieces, (&Codec, Bad::LeaveOut), patience, "a:1").await.unwrap_err();
        assert!(slow.to_string().contains("is too slow"), "{slow}");
        let patience = Patience { silence: drip, ..PATIENCE };
        let mut pieces = stream::pending();
        let silent = read(&mut pieces, (&Codec, Bad::LeaveOut), patience, "a:1").await.unwrap_err();
        assert!(silent.to_string().contains("does not answer"), "{silent}");
    }
}
