//! Every attack is refused and counted once, and the agent goes on.

mod connections;
mod floods;
mod messages;
mod numbers;
mod orders;
mod strangers;
mod traps;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use mesh_coordinator::catalogue::Role;
use mesh_identity::keys::KeyPair;
use mesh_identity::tls;
use mesh_telemetry::Reason;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;

use super::world::{Agent, World, eventually, limits};
use crate::client::OperatorClient;
use crate::server::Limits;

/// A world whose first agent is attacked.
struct Siege {
    world: World,
    /// A client that was there before.
    good: OperatorClient,
    /// What must have been counted.
    expected: BTreeMap<String, u64>,
}

impl Siege {
    async fn of(limits: Limits) -> Self {
        let world = World::with_limits(2, limits).await;
        let good = world.connect(&world.operator(250, Role::Viewer)).await;
        Self { world, good, expected: BTreeMap::new() }
    }

    async fn new() -> Self {
        Self::of(limits()).await
    }

    fn agent(&self) -> &Agent {
        &self.world.agents[0]
    }

    /// The attack that was just made is refused for `reason`: counted once, and nothing else is. Clients are answered, old and new.
    async fn held(&mut self, reason: Reason) {
        let count = self.expected.entry(reason.name().to_owned()).or_default();
        *count += 1;
        let count = *count;
        let agent = &self.world.agents[0];
        eventually(|| agent.refusals.count(reason) >= count).await;
        assert_eq!(self.good.who().await.unwrap().refused, self.expected);
        let operator = self.world.operator(251, Role::Viewer);
        let new = self.world.connect(&operator).await;
        assert_eq!(new.who().await.unwrap().refused, self.expected);
    }

    async fn tcp(&self) -> TcpStream {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.agent().address.port()));
        TcpStream::connect(address).await.unwrap()
    }

    /// A connection that is through its handshake, as far as its client knows, and on which nothing was said.
    async fn tls(&self, own: &KeyPair) -> TlsStream<TcpStream> {
        let config = tls::client_config(own, self.agent().keys.public()).unwrap();
        self.tls_with(config).await.unwrap()
    }

    async fn tls_with(&self, config: Arc<ClientConfig>) -> std::io::Result<TlsStream<TcpStream>> {
        TlsConnector::from(config).connect(tls::server_name(), self.tcp().await).await
    }
}

/// Limits that a test can wait for.
fn impatient() -> Limits {
    Limits {
        handshake_timeout: Duration::from_millis(700),
        stranger_timeout: Duration::from_millis(700),
        ..limits()
    }
}
