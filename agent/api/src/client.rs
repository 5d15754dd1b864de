//! Calls to agents: as an operator ([`OperatorClient`]) and as a node that wants to join ([`join`]).

mod error;
mod items;
mod joining;
mod operator;
mod requests;

pub use self::error::Error;
pub(crate) use self::error::reason;
pub use self::items::Items;
pub use self::joining::join;
pub use self::operator::{
    Access, AgentAddress, EventsItem, ExecRequest, LogsRequest, OperatorClient, Pushed, Silent, Who,
};
