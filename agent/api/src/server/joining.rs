//! Nodes that want to become members.

use mesh_coordinator::message::Rejected;
use mesh_ports::control::{Admission as _, JoinRequest};
use mesh_proto::v1;
use mesh_proto::v1::join_server::Join;
use tonic::{Request, Response, Status};

use super::peer::Pieces;
use super::{Service, Wiring};
use crate::convert::{Malformed, message, required, value};
use crate::status;

#[tonic::async_trait]
impl<W: Wiring> Join for Service<W> {
    type JoinStream = Pieces<v1::JoinPiece>;

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
            status::malformed(Malformed::new("address", reason))
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
        let batches = message::batches(value::entries_to_wire(&admitted.records));
        let pieces = batches.into_iter().map(|records| Ok(v1::JoinPiece { records }));
        Ok(Response::new(Box::pin(tokio_stream::iter(pieces))))
    }
}
