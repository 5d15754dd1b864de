//! Where this node can be reached.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context, bail};
use mesh_coordinator::catalogue::{Body, NodeAddress, Record, Stamp};
use mesh_coordinator::id::{Hash, MeshId, NodeId};
use mesh_coordinator::time::WallTime;
use mesh_identity::keys::NodeIdentity;
use mesh_identity::record;
use mesh_ports::directory::Signer;

use crate::config::Config;

/// `HOST:PORT` under which the others reach this node: what was asked for, else the address of the default route's interface.
pub(crate) fn advertised(config: &Config, remembered: Option<&str>) -> anyhow::Result<String> {
    let port = config.listen.port();
    let asked = config.advertise.as_deref().or(remembered);
    if let Some(asked) = asked {
        return with_port(asked, port);
    }
    let address =
        if config.listen.ip().is_unspecified() { default_address()? } else { config.listen.ip() };
    Ok(SocketAddr::new(address, port).to_string())
}

fn with_port(asked: &str, port: u16) -> anyhow::Result<String> {
    if let Ok(address) = asked.parse::<IpAddr>() {
        return Ok(SocketAddr::new(address, port).to_string());
    }
    match asked.rsplit_once(':') {
        None if !asked.is_empty() => Ok(format!("{asked}:{port}")),
        Some((host, digits))
            if !host.is_empty() && digits.parse::<u16>().is_ok_and(|port| port > 0) =>
        {
            Ok(asked.to_owned())
        }
        _ => bail!("advertise: {asked:?} is not HOST:PORT or HOST"),
    }
}

/// The address from which this host would reach the world. Connecting a datagram socket only chooses a route: nothing is sent
/// (192.0.2.0/24 is reserved for documentation, RFC 5737).
fn default_address() -> anyhow::Result<IpAddr> {
    let find = || -> std::io::Result<IpAddr> {
        let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
        Ok(socket.local_addr()?.ip())
    };
    find().context(
        "this host has no default route, so its own address is not clear: say under which the others reach it, with \
         --advertise ADDRESS or the setting `advertise`",
    )
}

/// The record in which a node says where it is.
pub(crate) fn record(
    identity: &NodeIdentity,
    mesh: MeshId,
    address: &str,
    before: Option<(u64, Hash)>,
    now: WallTime,
) -> anyhow::Result<mesh_coordinator::catalogue::Entry> {
    let record = Record {
        mesh,
        stamp: Stamp {
            generation: before.map_or(1, |(generation, _)| generation.saturating_add(1)),
            written: now,
            tie: 0,
        },
        parent: before.map(|(_, hash)| hash),
        author: identity.key(),
        body: Body::Address(NodeAddress {
            node: NodeId::of(&identity.key()),
            api: vec![address.to_owned()],
            gossip: address.to_owned(),
        }),
    };
    record::sign_by_node(&record, identity).context("cannot sign this node's address")
}
