//! What an operator should know about a host's network.

use std::fmt;

/// Something about this host that affects containers and that the agent cannot or should not change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// The bridge itself cannot be asked or mended.
    Broken {
        /// What happened.
        reason: String,
    },
    /// Somebody else's chain drops forwarded packets by default, and is not one that the agent adds rules to.
    ForwardDrop {
        /// The family and the name of the table.
        table: String,
        /// The chain.
        chain: String,
    },
    /// Forwarding was off, and the agent turned it on.
    ForwardingTurnedOn,
    /// firewalld rejects what belongs to no zone.
    Firewalld {
        /// The bridge's name.
        bridge: String,
    },
    /// A host port of a container is also used by another program, which no longer gets the traffic.
    HostPort {
        /// The container.
        container: String,
        /// The port, as `number/protocol`.
        port: String,
    },
    /// The host's firewall drops incoming packets by default: published ports must be let in.
    InputDrop {
        /// The family and the name of the table.
        table: String,
        /// The chain.
        chain: String,
    },
    /// Rules of the old kind (`iptables-legacy`) are loaded, which can be neither read nor changed by netlink.
    LegacyTables {
        /// The bridge's name.
        bridge: String,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken { reason } => write!(f, "the bridge does not work: {reason}"),
            Self::ForwardDrop { table, chain } => write!(
                f,
                "the chain {chain} of the table {table} drops forwarded packets: accept those from and to the bridge there"
            ),
            Self::ForwardingTurnedOn => f.write_str(
                "net.ipv4.ip_forward was 0 and was set to 1: this host now forwards packets",
            ),
            Self::Firewalld { bridge } => write!(
                f,
                "firewalld is active: trust the bridge with `firewall-cmd --permanent --zone=trusted --add-interface={bridge}` \
                 and reload it"
            ),
            Self::HostPort { container, port } => write!(
                f,
                "the host port {port} of {container} is in use by another program, which gets no traffic any more"
            ),
            Self::InputDrop { table, chain } => write!(
                f,
                "the chain {chain} of the table {table} drops incoming packets: let published ports in (with ufw: `ufw allow \
                 <port>/tcp`)"
            ),
            Self::LegacyTables { bridge } => write!(
                f,
                "rules of iptables-legacy are loaded: if containers reach nothing, run `iptables-legacy -I FORWARD -i {bridge} -j \
                 ACCEPT; iptables-legacy -I FORWARD -o {bridge} -j ACCEPT`"
            ),
        }
    }
}
