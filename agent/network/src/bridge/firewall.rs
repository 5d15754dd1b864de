//! Our own table of rules: address translation outwards, host ports inwards, and who may reach containers.
//!
//! ```text
//! prerouting  raw     drop what a container sends to 127.0.0.0/8 (see below)
//! prerouting  dstnat  host port -> container, for traffic from elsewhere
//! output      dstnat  the same for programs on this host, loopback included
//! forward     filter  to the bridge: between containers, answers, and host ports; anything else is dropped
//! postrouting srcnat  containers to elsewhere look like the host; so do containers and the host to host ports
//! ```
//!
//! *Loopback.* A host port works at 127.0.0.1 too, as `curl localhost` is how people try things. A translated packet then leaves
//! with a loopback address through the bridge, which the kernel allows only where `route_localnet` is on. That setting would also
//! let containers send to the host's loopback services, hence the first chain. A listener in user space would need neither, but
//! lose datagrams' sources and cost a copy.
//!
//! *Containers that use a host port* look like the host to the other container: answers would otherwise go straight over the
//! bridge and not be translated back, or, to itself, be taken for forgeries.
//!
//! *Bridged frames* may come by (`bridge-nf-call-iptables`, on wherever Docker is), with the bridge as both interfaces: hence
//! nothing is masqueraded or dropped between containers.
//!
//! The table is replaced as a whole in one transaction, and only when a digest in its comment says that it differs. Connections
//! that are tracked already keep their translation.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use mesh_coordinator::id::Hash;
use mesh_coordinator::spec::Protocol;
use mesh_ports::network::HostPort;
use nlink::netlink::netfilter::{ConntrackFilter, IpProtocol};
use nlink::netlink::nftables::{
    BaseChain, Chain, CtState, CtStatus, Family, FibFlags, FilterHook, NatHook, Priority, Rule,
};
use nlink::netlink::types::route::RouteType;
use nlink::netlink::{Connection, Netfilter, Nftables};
use tracing::debug;

use super::step::{STEP_LIMIT, StepError, bounded};
use super::sysctl;

/// The longest comment of a rule that the kernel's tools show whole.
const COMMENT_LEN_MAX: usize = 100;

/// What the table is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    /// The name of the bridge and of the table.
    pub(super) bridge: String,
    /// The containers' addresses.
    pub(super) range: Ipv4Net,
    /// Ports of the host: whose, where the container is, and which.
    pub(super) ports: Vec<(String, Ipv4Addr, HostPort)>,
}

/// A socket for rules, of the calling thread's network namespace.
pub(super) fn open() -> Result<Connection<Nftables>, StepError> {
    Connection::<Nftables>::new()
        .map(|connection| connection.timeout(STEP_LIMIT))
        .map_err(|error| StepError::refused("open a socket for nftables", error))
}

/// Makes the table what `plan` says, unless it is that already.
pub(super) async fn ensure(rules: &Connection<Nftables>, plan: &Plan) -> Result<(), StepError> {
    if !plan.ports.is_empty() {
        sysctl::ensure(&format!("net/ipv4/conf/{}/route_localnet", plan.bridge), "1")?;
    }
    let table = &plan.bridge;
    let attempt = format!("write the table {table} of rules");
    let chains = plan.chains().map_err(|error| StepError::refused(attempt.clone(), error))?;
    let wanted = plan.rules();
    let digest = Hash::of(&[format!("{chains:?}{wanted:?}").as_bytes()]);
    let comment = format!("agent mesh {:016x}", digest.head());
    let found = find(rules, table).await?;
    if found.as_ref().is_some_and(|found| *found == Some(comment.clone())) {
        let listed = rules.list_rules(table, Family::Ip);
        if bounded(format!("list the rules of {table}"), listed).await?.len() == wanted.len() {
            return Ok(());
        }
    }
    let mut batch = rules.transaction();
    if found.is_some() {
        batch = batch.del_table(table, Family::Ip);
    }
    batch = batch.add_table_with_comment(table, Family::Ip, 0, Some(&comment));
    batch = chains.into_iter().fold(batch, nlink::netlink::nftables::Transaction::add_chain);
    batch = wanted.into_iter().fold(batch, nlink::netlink::nftables::Transaction::add_rule);
    bounded(attempt, batch.commit(rules)).await
}

/// Removes the table; fine when there is none.
pub(super) async fn remove(rules: &Connection<Nftables>, table: &str) -> Result<(), StepError> {
    let removed = rules.del_table_if_exists(table, Family::Ip);
    bounded(format!("remove the table {table} of rules"), removed).await.map(drop)
}

/// The comment of the table, if there is a table.
async fn find(
    rules: &Connection<Nftables>,
    table: &str,
) -> Result<Option<Option<String>>, StepError> {
    let tables = bounded("list the tables of rules", rules.list_tables_in(Family::Ip)).await?;
    Ok(tables.into_iter().find(|found| found.name == table).map(|found| found.comment))
}

/// Forgets tracked datagram flows of a container's host ports, which would outlive the rule that they began with: a client that
/// keeps sending from one port would for ever reach the old place.
pub(super) async fn forget_flows(address: Ipv4Addr, ports: &[HostPort]) {
    let udp = || ConntrackFilter::new().proto(IpProtocol::Udp);
    let ports = ports.iter().filter(|port| port.protocol == Protocol::Udp);
    let mut filters: Vec<_> = ports.map(|port| udp().orig_dst_port(port.host)).collect();
    if filters.is_empty() {
        return;
    }
    filters.push(udp().reply_src(address));
    let forgotten = async {
        let tracked = Connection::<Netfilter>::new()?.timeout(STEP_LIMIT);
        for filter in &filters {
            tracked.del_conntrack_matching(filter).await?;
        }
        Ok::<(), nlink::Error>(())
    };
    if let Err(error) = bounded("forget flows", forgotten).await {
        debug!(%error, "old flows of a host port stay until they are idle");
    }
}

impl Plan {
    fn chains(&self) -> Result<Vec<Chain>, nlink::Error> {
        let dnat = |hook| BaseChain::nat(hook, Priority::DstNat);
        let bases = [
            ("guard", BaseChain::filter(FilterHook::Prerouting, Priority::Raw)),
            ("inwards", dnat(NatHook::Prerouting)),
            ("here", dnat(NatHook::Output)),
            ("across", BaseChain::filter(FilterHook::Forward, Priority::Filter)),
            ("outwards", BaseChain::nat(NatHook::Postrouting, Priority::SrcNat)),
        ];
        let chain = |(name, base)| {
            Ok(Chain::new(self.bridge.as_str(), name)?.family(Family::Ip).base(base))
        };
        bases.into_iter().map(chain).collect()
    }

    fn rules(&self) -> Vec<Rule> {
        let in_chain = |chain| Rule::new(&self.bridge, chain).family(Family::Ip);
        let (range, prefix) = (self.range.network(), self.range.prefix_len());
        let answers = CtState::ESTABLISHED | CtState::RELATED;
        let mut rules = vec![
            in_chain("guard")
                .match_iif(&self.bridge)
                .match_daddr_v4(Ipv4Addr::new(127, 0, 0, 0), 8)
                .drop(),
            in_chain("across").match_iif(&self.bridge).match_oif(&self.bridge).accept(),
            in_chain("across").match_oif(&self.bridge).match_ct_state(answers).accept(),
            in_chain("across").match_oif(&self.bridge).match_ct_status(CtStatus::DST_NAT).accept(),
            in_chain("across").match_oif(&self.bridge).drop(),
            in_chain("outwards")
                .match_saddr_v4(range, prefix)
                .match_oif_not(&self.bridge)
                .masquerade(),
        ];
        for (source, prefix) in [(range, prefix), (Ipv4Addr::new(127, 0, 0, 0), 8)] {
            rules.push(
                in_chain("outwards")
                    .match_saddr_v4(source, prefix)
                    .match_oif(&self.bridge)
                    .match_ct_status(CtStatus::DST_NAT)
                    .masquerade(),
            );
        }
        for (container, address, port) in &self.ports {
            let comment: String =
                container.chars().filter(char::is_ascii).take(COMMENT_LEN_MAX).collect();
            for chain in ["inwards", "here"] {
                let rule = in_chain(chain).match_fib_type(FibFlags::DADDR, RouteType::Local);
                let rule = match port.protocol {
                    Protocol::Tcp => rule.match_tcp_dport(port.host),
                    Protocol::Udp => rule.match_udp_dport(port.host),
                };
                rules.push(rule.dnat(*address, Some(port.container)).comment(&comment));
            }
        }
        rules
    }
}
