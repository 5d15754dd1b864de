//! Nodes that want to become members, and nodes that are none any more.

use mesh_coordinator::catalogue::{Body, Entry, RecordKey};
use mesh_coordinator::id::NodeId;
use mesh_coordinator::message::Rejected;
use mesh_ports::control::{Admission as _, Control, JoinRequest};
use mesh_proto::v1;
use mesh_proto::v1::join_server::Join;
use mesh_telemetry::Reason;
use tonic::{Request, Response, Status};

use super::peer::Pieces;
use super::{Service, Wiring};
use crate::convert::{Malformed, message, required, value};
use crate::status;

/// Operators who were each admitted by the one before: more make no mesh that anybody can follow.
const LINKS_MAX: usize = 64;

#[tonic::async_trait]
impl<W: Wiring> Join for Service<W> {
    type JoinStream = Pieces<v1::JoinPiece>;
    type PartStream = Pieces<v1::JoinPiece>;

    async fn part(
        &self,
        request: Request<v1::Nothing>,
    ) -> Result<Response<Self::PartStream>, Status> {
        let node = self.0.gate.parted(&request)?;
        let records = self.0.soon(farewell(self.0.parts.control.as_ref(), node)).await?;
        Ok(Response::new(pieces(&records)))
    }

    async fn join(
        &self,
        request: Request<v1::JoinOffer>,
    ) -> Result<Response<Self::JoinStream>, Status> {
        let key = self.0.gate.candidate(&request)?;
        let offer = request.into_inner();
        let mut rejected = Vec::new();
        let address = required("address", offer.address).map_err(status::malformed)?;
        let records = self.0.parts.records.as_ref();
        let opened =
            message::open(vec![address], records, &mut rejected).map_err(status::malformed)?;
        let address = opened.into_iter().next().ok_or_else(|| {
            let reason = rejected.pop().map_or_else(String::new, |bad: Rejected| bad.reason);
            let malformed = status::malformed(Malformed::new("address", reason));
            status::refused(Reason::RecordSignature, malformed)
        })?;
        let request = JoinRequest {
            key,
            name: value::text("name", &offer.name).map_err(status::malformed)?,
            invitation: value::key("invitation", &offer.invitation).map_err(status::malformed)?,
            invited: value::signature("invited", &offer.invited).map_err(status::malformed)?,
            address,
        };
        let admitted = self.0.soon(self.0.parts.admission.redeem(request)).await?;
        let admitted = admitted.map_err(|error| status::join(&error))?;
        Ok(Response::new(pieces(&admitted.records)))
    }
}

/// Records in pieces that are not too long.
pub(super) fn pieces(records: &[Entry]) -> Pieces<v1::JoinPiece> {
    let batches = message::batches(value::entries_to_wire(records));
    let pieces = batches.into_iter().map(|records| Ok(v1::JoinPiece { records }));
    Box::pin(tokio_stream::iter(pieces))
}

/// The record by which a member was removed, and how its author came to be an operator, link by link: whoever was away for long
/// may not know the last ones, and whoever has lost its store knows none. The genesis record names the root.
async fn farewell(control: &impl Control, node: NodeId) -> Vec<Entry> {
    let mut records: Vec<Entry> = Vec::new();
    let mut next = control.record(RecordKey::MemberRemoval(node)).await;
    while let Some(entry) = next.filter(|_| records.len() < LINKS_MAX) {
        let author = entry.record.author;
        // Somebody whose grant comes from somebody below: a circle, which the catalogue never takes for a right.
        let is_circle = records.iter().any(|other| other.hash == entry.hash);
        if !is_circle {
            records.push(entry);
        }
        next = if is_circle { None } else { control.record(RecordKey::Operator(author)).await };
    }
    // The root may be another one by now.
    let all = control.records().await.into_iter();
    records.extend(all.filter(|entry| matches!(entry.record.body, Body::Recovery(_))));
    records.extend(control.record(RecordKey::Genesis).await);
    records.reverse();
    records
}
