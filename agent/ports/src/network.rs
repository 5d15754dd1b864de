//! Interfaces of containers, and the way from a published port to a replica.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use mesh_coordinator::id::{AppUid, NodeId, SlotId};
use mesh_coordinator::name::ServiceName;
use mesh_coordinator::spec::Protocol;
use tokio::io::{AsyncRead, AsyncWrite};

/// Why a container could not be connected.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The host's own bridge or rules could not be made. *Nothing of the container was connected.*
    #[error("cannot prepare the bridge {bridge}")]
    Bridge {
        /// The bridge's name.
        bridge: String,
        /// What the kernel said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Every address of the range is taken. *Nothing was connected.*
    #[error("no address is left in {range}")]
    Exhausted {
        /// The range, as `address/bits`.
        range: String,
    },
    /// The container's interface could not be made. *What was made of it is removed.*
    #[error("cannot connect the container {container}")]
    Interface {
        /// The container.
        container: String,
        /// What the kernel said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A port of the host that leads straight to one container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostPort {
    /// The port of the host.
    pub host: u16,
    /// The port of the container.
    pub container: u16,
    /// The protocol.
    pub protocol: Protocol,
}

/// Connects containers to the host's bridge.
pub trait ContainerNetwork: Send + Sync + 'static {
    /// Makes a network namespace at `namespace` (an empty file is made and the namespace bound onto it), with a loopback and an
    /// `eth0` on the bridge, a default route, address translation outwards, and the given ports of the host. Idempotent by
    /// `container`: an attached one keeps its address.
    fn attach(
        &self,
        container: &str,
        namespace: &Path,
        ports: &[HostPort],
    ) -> impl Future<Output = Result<Ipv4Addr, AttachError>> + Send;
    /// Removes all that `attach` made; fine when nothing is there.
    fn detach(&self, container: &str, namespace: &Path) -> impl Future<Output = ()> + Send;
    /// Takes note of a container that an earlier life of the agent attached, so that its address is not given away.
    fn adopt(&self, container: &str, address: Ipv4Addr) -> impl Future<Output = ()> + Send;
    /// Removes interfaces and rules of containers that are not in `alive`.
    fn sweep(&self, alive: &[String]) -> impl Future<Output = ()> + Send;
}

/// One published port of the mesh.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// The port on which every agent listens.
    pub published: u16,
    /// Whose port it is.
    pub app: AppUid,
    /// Which service of it.
    pub service: ServiceName,
    /// The port in the container.
    pub target: u16,
}

/// A ready replica that could serve a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backend {
    /// On this node.
    Local {
        /// Which replica.
        slot: SlotId,
        /// Where it listens.
        address: SocketAddr,
    },
    /// On another node, reached through its agent.
    Remote {
        /// Which replica.
        slot: SlotId,
        /// On which node.
        node: NodeId,
    },
}

/// A connection in both directions.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for T {}

/// Opens connections to replicas on other nodes.
pub trait Tunnels: Send + Sync + 'static {
    /// A connection, through the agent of `node`, to `target` of its replica of `slot`. Fails when the node does not answer
    /// within the tunnel's own short time limit, or has no such replica that is ready.
    fn open(
        &self,
        node: NodeId,
        slot: &SlotId,
        target: u16,
    ) -> impl Future<Output = Result<Box<dyn Stream>, TunnelError>> + Send;
}

/// Why there is no connection to a replica. *No byte of the client was sent.*
#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    /// The node does not answer.
    #[error("node {0} does not answer")]
    Unreachable(NodeId),
    /// The node has no ready replica of that slot any more.
    #[error("node {0} does not serve this replica")]
    Gone(NodeId),
}

/// Where a host listens for what its containers publish: all addresses of the host.
pub const PUBLISH_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// Takes what is published at the moment: every route, and its ready replicas.
pub trait Publisher: Send + Sync + 'static {
    /// Replaces all that was published before. Cheap when nothing changed.
    fn publish(&self, routes: Vec<(Route, Vec<Backend>)>);
    /// A node is down: connections to its replicas are closed, so that no client waits for one that will not answer.
    fn lost(&self, node: NodeId);
    /// What keeps ports from being served on this node, for people.
    fn problems(&self) -> Vec<String>;
}
