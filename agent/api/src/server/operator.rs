//! What operators ask.

use mesh_coordinator::catalogue::{RecordKey, Role};
use mesh_coordinator::id::Hash;
use mesh_coordinator::message::Rejected;
use mesh_ports::control::{Control as _, Submitted};
use mesh_ports::runtime::Images as _;
use mesh_proto::v1;
use mesh_proto::v1::operator_server::Operator;
use mesh_telemetry::Reason;
use tonic::{Request, Response, Status, Streaming};

use super::gate::caller;
use super::order::Bearer;
use super::peer::Pieces;
use super::watch::Whose;
use super::{Service, Wiring, events, images, leases, replica};
use crate::client::Who;
use crate::convert::{self, key, message, overview, value, who, why};
use crate::status;

/// The role that it takes to read a record. A release is signed as a whole, with the values of environment variables in it: nothing
/// can be left out for those who may not see them.
const fn readable_by(key: &RecordKey) -> Role {
    match key {
        RecordKey::App(_) => Role::Deployer,
        RecordKey::Genesis
        | RecordKey::Recovery
        | RecordKey::Settings
        | RecordKey::Operator(_)
        | RecordKey::OperatorRemoval(_)
        | RecordKey::Invitation(_)
        | RecordKey::Member(_)
        | RecordKey::MemberRemoval(_)
        | RecordKey::Address(_)
        | RecordKey::Labels(_)
        | RecordKey::Drain(_)
        | RecordKey::AppRemoval(_)
        | RecordKey::Scale(..)
        | RecordKey::SlotReset(..)
        | RecordKey::Restart(..)
        | RecordKey::Run(_)
        | RecordKey::Image(_) => Role::Viewer,
    }
}

#[tonic::async_trait]
impl<W: Wiring> Operator for Service<W> {
    type CatalogueStream = Pieces<v1::SignedRecord>;
    type EventsStream = Pieces<v1::MeshEvent>;
    type LeasesStream = Pieces<v1::MeshLease>;
    type LogsStream = Pieces<v1::LogLine>;
    type ExecStream = Pieces<v1::ExecPiece>;

    async fn who(&self, request: Request<v1::Nothing>) -> Result<Response<v1::WhoAnswer>, Status> {
        let role = self.0.gate.operator(&request, Role::Viewer)?;
        let mesh_name = self.0.overview().await?.mesh_name;
        let me = self.0.parts.directory.peer(self.0.node);
        // A node that was removed has no name any more, and somebody may want to know what became of it.
        let node_name = me.map(|me| me.name).or_else(|| self.0.node.to_string().parse().ok());
        let node_name =
            node_name.ok_or_else(|| Status::unavailable("this node is no member yet"))?;
        let who = Who {
            mesh: self.0.parts.directory.mesh(),
            mesh_name,
            node: self.0.node,
            node_name,
            version: self.0.version.clone(),
            role,
            refused: self.0.refused(),
        };
        Ok(self.0.timed(who::who_to_wire(&who)))
    }

    async fn submit(
        &self,
        request: Request<v1::SubmitRequest>,
    ) -> Result<Response<v1::SubmitAnswer>, Status> {
        self.0.gate.author(&request)?;
        let parts = &self.0.parts;
        let caller = request.extensions().get().copied();
        let refuse = |reason, record: &Hash, words: &str| {
            let whose = Whose(parts.directory.as_ref(), caller);
            self.0.refusals.refuse(reason, whose, format_args!("record {record}: {words}"));
        };
        let mut rejected = Vec::new();
        let records = request.into_inner().records;
        let entries = message::open(records, parts.records.as_ref(), &mut rejected)
            .map_err(status::malformed)?;
        let submitted = if rejected.is_empty() {
            let submitted = self.0.soon(parts.control.submit(entries)).await?;
            let submitted = submitted.map_err(|error| status::submit(&error))?;
            for (record, words) in &submitted.refused {
                refuse(Reason::RecordRefused, record, words);
            }
            submitted
        } else {
            let refused = |bad: Rejected| {
                let record = bad.signed.digest();
                refuse(Reason::RecordSignature, &record, &bad.reason);
                (record, bad.reason)
            };
            let refused = rejected.into_iter().map(refused).collect();
            Submitted { stored_on: Vec::new(), n_peers: 0, refused }
        };
        Ok(self.0.timed(who::submitted_to_wire(&submitted)))
    }

    async fn record(
        &self,
        request: Request<v1::RecordQuery>,
    ) -> Result<Response<v1::RecordAnswer>, Status> {
        let role = self.0.gate.reader(&request, Role::Viewer)?;
        let caller = caller(&request)?;
        let key = key::from_wire(request.into_inner()).map_err(status::malformed)?;
        if role < readable_by(&key) {
            self.0.gate.role(&caller, readable_by(&key))?;
        }
        let entry = self.0.soon(self.0.parts.control.record(key)).await?;
        let record = entry.map(|entry| value::signed_to_wire(&entry.signed));
        Ok(self.0.timed(v1::RecordAnswer { record }))
    }

    async fn catalogue(
        &self,
        request: Request<v1::Nothing>,
    ) -> Result<Response<Self::CatalogueStream>, Status> {
        let role = self.0.gate.reader(&request, Role::Viewer)?;
        let entries = self.0.soon(self.0.parts.control.records()).await?;
        let readable =
            entries.into_iter().filter(move |entry| readable_by(&entry.record.body.key()) <= role);
        let records = readable.map(|entry| Ok(value::signed_to_wire(&entry.signed)));
        Ok(self.0.timed(Box::pin(tokio_stream::iter(records))))
    }

    async fn overview(
        &self,
        request: Request<v1::Nothing>,
    ) -> Result<Response<v1::OverviewAnswer>, Status> {
        self.0.gate.reader(&request, Role::Viewer)?;
        Ok(self.0.timed(overview::to_wire(&self.0.overview().await?)))
    }

    async fn why(
        &self,
        request: Request<v1::WhyRequest>,
    ) -> Result<Response<v1::WhyAnswer>, Status> {
        self.0.gate.operator(&request, Role::Viewer)?;
        let slot = value::slot("slot", request.into_inner().slot).map_err(status::malformed)?;
        let why = self.0.soon(self.0.parts.control.why(slot)).await?;
        let why = why.ok_or_else(|| Status::not_found("nothing is known of this replica"))?;
        Ok(self.0.timed(why::to_wire(&why)))
    }

    async fn events(
        &self,
        request: Request<v1::EventsQuery>,
    ) -> Result<Response<Self::EventsStream>, Status> {
        self.0.gate.operator(&request, Role::Viewer)?;
        Ok(self.0.timed(events::merged(&self.0, request.into_inner())))
    }

    async fn leases(
        &self,
        request: Request<v1::LeasesQuery>,
    ) -> Result<Response<Self::LeasesStream>, Status> {
        self.0.gate.operator(&request, Role::Viewer)?;
        let app = convert::leases::query(request.get_ref()).map_err(status::malformed)?;
        Ok(self.0.timed(leases::merged(&self.0, app)))
    }

    async fn challenge(
        &self,
        request: Request<v1::ChallengeQuery>,
    ) -> Result<Response<v1::ChallengeAnswer>, Status> {
        self.0.gate.operator(&request, Role::Viewer)?;
        let node = value::node("node", &request.into_inner().node).map_err(status::malformed)?;
        Ok(self.0.timed(replica::challenge(&self.0, node).await?))
    }

    async fn logs(
        &self,
        request: Request<v1::LogsRequest>,
    ) -> Result<Response<Self::LogsStream>, Status> {
        self.0.gate.operator(&request, Role::Viewer)?;
        let bearer = Bearer::Operator(caller(&request)?);
        replica::logs(&self.0, request.into_inner(), bearer)
            .await
            .map(|answer| self.0.timed(answer))
    }

    async fn exec(
        &self,
        request: Request<Streaming<v1::ExecInput>>,
    ) -> Result<Response<Self::ExecStream>, Status> {
        self.0.gate.operator(&request, Role::Deployer)?;
        let bearer = Bearer::Operator(caller(&request)?);
        replica::exec(&self.0, request.into_inner(), bearer)
            .await
            .map(|answer| self.0.timed(answer))
    }

    async fn push_image(
        &self,
        request: Request<Streaming<v1::ArchivePiece>>,
    ) -> Result<Response<v1::PushAnswer>, Status> {
        self.0.gate.operator(&request, Role::Deployer)?;
        let pushed = images::push(&self.0, request.into_inner()).await?;
        Ok(self.0.timed(who::pushed_to_wire(pushed)))
    }

    async fn images(
        &self,
        request: Request<v1::Nothing>,
    ) -> Result<Response<v1::ImagesAnswer>, Status> {
        self.0.gate.operator(&request, Role::Viewer)?;
        let images = self.0.soon(self.0.parts.images.images()).await?;
        Ok(self.0.timed(v1::ImagesAnswer { images: who::images_to_wire(images) }))
    }
}
