//! Which adapters this agent is made of, and the little that joins two of them.

use std::sync::Arc;

use mesh_api::client::PeerPool;
use mesh_coordinator::id::NodeId;
use mesh_engine::Handle;
use mesh_identity::register;
use mesh_network::bridge::Bridge;
use mesh_network::proxy::{Proxy, Served};
use mesh_ports::network::{Backend, Publisher, Route};
use mesh_runtime::clock::SteadyClock;
use mesh_runtime::embedded::Driver;
use mesh_runtime::image;
use mesh_store::SledStore;

use crate::admission::Door;

/// The engine's world.
#[derive(Debug)]
pub(crate) struct Real;

impl mesh_engine::World for Real {
    type Runtime = Driver<Bridge>;
    type Images = image::Store;
    type Blobs = PeerPool;
    type Gossip = mesh_gossip::Handle;
    type Peers = PeerPool;
    type Store = SledStore;
    type Registers = register::Codec;
    type LeaseClock = SteadyClock;
    type Publisher = Published;
}

impl mesh_api::server::Wiring for Real {
    type Control = Handle;
    type Runtime = Driver<Bridge>;
    type Images = image::Store;
    type Admission = Door<SledStore, mesh_engine::directory::Live>;
}

/// The proxy as the engine sees it.
#[derive(Debug)]
pub(crate) struct Published(pub(crate) Arc<Proxy<PeerPool>>);

impl Publisher for Published {
    fn publish(&self, routes: Vec<(Route, Vec<Backend>)>) {
        self.0.update(
            routes.into_iter().map(|(route, backends)| Served { route, backends }).collect(),
        );
    }

    fn lost(&self, node: NodeId) {
        self.0.node_down(node);
    }

    fn problems(&self) -> Vec<String> {
        self.0.problems().iter().map(ToString::to_string).collect()
    }
}
