//! Calls to agents: as a peer ([`PeerPool`]), as an operator ([`OperatorClient`]) and as a node that wants to join ([`join`]).

mod blobs;
mod error;
mod items;
mod joining;
mod link;
mod operator;
mod pool;
mod requests;
mod tunnels;
mod value;

pub(crate) use self::blobs::fetch_from;
pub use self::error::Error;
pub(crate) use self::error::reason;
pub use self::items::Items;
pub use self::joining::{catalogue, join};
pub use self::operator::OperatorClient;
pub(crate) use self::pool::CallError;
pub use self::pool::{PeerPool, PoolConfig, PoolPorts, TlsFor};
pub use self::value::{
    Access, AgentAddress, EventsItem, ExecRequest, Lease, LeasesItem, LogsRequest, Pushed, Silent,
    Who,
};
