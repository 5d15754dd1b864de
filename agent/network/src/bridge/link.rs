//! Interfaces, addresses and routes, by the kernel's routing socket.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsRawFd;

use futures_util::TryStreamExt;
use ipnet::Ipv4Net;
use mesh_coordinator::id::Hash;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use rtnetlink::proto::Connection;
use rtnetlink::{
    Error, Handle, LinkBridge, LinkBridgePort, LinkUnspec, LinkVeth, RouteMessageBuilder,
};

use super::namespace::Inside;
use super::step::{StepError, bounded};

/// The longest name of an interface.
pub(super) const NAME_LEN_MAX: usize = 15;

/// How the host's ends of containers' interfaces begin: by this and their bridge they are recognised.
const PORT_PREFIX: &str = "mv";

/// A routing socket of the namespace in which it was made.
pub(super) struct Socket {
    connection: Connection<RouteNetlinkMessage>,
    handle: Handle,
}

impl Socket {
    /// A socket of the calling thread's namespace; to be made in a runtime.
    pub(super) fn new() -> io::Result<Self> {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        Ok(Self { connection, handle })
    }
}

/// Does `work` with a socket of the calling thread's namespace.
pub(super) async fn session<T>(
    work: impl AsyncFnOnce(&Handle) -> Result<T, StepError>,
) -> Result<T, StepError> {
    let socket =
        Socket::new().map_err(|error| StepError::refused("open a routing socket", error))?;
    through(socket, work).await
}

async fn through<T>(
    socket: Socket,
    work: impl AsyncFnOnce(&Handle) -> Result<T, StepError>,
) -> Result<T, StepError> {
    let Socket { connection, handle } = socket;
    tokio::select! {
        result = work(&handle) => result,
        () = connection => Err(StepError::Ended { attempt: "use a routing socket".to_owned() }),
    }
}

/// The name of the host's end of a container's interface: a hash, since a container's identity does not fit into 15 characters.
///
/// 52 bits: two of a thousand containers share a name with a probability of 10^-10, and then the second is refused.
pub(super) fn port_name(bridge: &str, container: &str) -> String {
    let hash = Hash::of(&[b"mesh port", bridge.as_bytes(), container.as_bytes()]).head();
    format!("{PORT_PREFIX}{:013x}", hash >> 12)
}

/// An interface as the kernel describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    /// Its number.
    pub(super) index: u32,
    /// Its name.
    pub(super) name: String,
    /// The number of the bridge that it is a port of.
    pub(super) bridge: Option<u32>,
    /// For whom it was made.
    pub(super) alias: Option<String>,
    /// Whether there is somebody at the other end: of a pair, whether that end is up.
    pub(super) has_carrier: bool,
    is_bridge: bool,
}

impl Link {
    fn of(message: &LinkMessage) -> Self {
        let mut link = Self {
            index: message.header.index,
            name: String::new(),
            bridge: None,
            alias: None,
            has_carrier: message.header.flags.contains(LinkFlags::LowerUp),
            is_bridge: false,
        };
        for attribute in &message.attributes {
            if let LinkAttribute::IfName(name) = attribute {
                link.name.clone_from(name);
            } else if let LinkAttribute::Controller(bridge) = attribute {
                link.bridge = Some(*bridge);
            } else if let LinkAttribute::IfAlias(alias) = attribute {
                link.alias = Some(alias.clone());
            } else if let LinkAttribute::LinkInfo(infos) = attribute {
                let kind = LinkInfo::Kind(InfoKind::Bridge);
                link.is_bridge = infos.contains(&kind);
            }
        }
        link
    }
}

/// The interface of that name, if there is one.
pub(super) async fn find(handle: &Handle, name: &str) -> Result<Option<Link>, StepError> {
    let found = handle.link().get().match_name(name).execute();
    let attempt = format!("look for the interface {name}");
    let mut found = std::pin::pin!(found);
    let found = bounded(attempt, async {
        match found.try_next().await {
            Err(error) if errno(&error) == Some(libc::ENODEV) => Ok(None),
            other => other,
        }
    });
    Ok(found.await?.as_ref().map(Link::of))
}

/// Containers' interfaces on the bridge with number `bridge`.
pub(super) async fn ports(handle: &Handle, bridge: u32) -> Result<Vec<Link>, StepError> {
    let all = handle.link().get().execute().try_collect::<Vec<LinkMessage>>();
    let all = bounded("list the interfaces", all).await?;
    let ours = |link: &Link| link.bridge == Some(bridge) && link.name.starts_with(PORT_PREFIX);
    Ok(all.iter().map(Link::of).filter(ours).collect())
}

/// Makes the bridge where there is none, unless its range is in use, and gives it its address. Returns its number.
pub(super) async fn ensure_bridge(
    handle: &Handle,
    name: &str,
    address: Ipv4Addr,
    range: Ipv4Net,
) -> Result<u32, StepError> {
    if find(handle, name).await?.is_none() {
        check_overlap(handle, range).await?;
    }
    // A fixed hardware address: else the bridge takes that of some port, which changes as containers come and go, and the others
    // lose their gateway until they ask again.
    let [a, b, c, d, e, ..] = Hash::of(&[b"mesh bridge", name.as_bytes()]).0;
    let bridge = LinkBridge::new(name).address(vec![0x02, a, b, c, d, e]).up().build();
    let added = unless(libc::EEXIST, handle.link().add(bridge).execute());
    bounded(format!("make the bridge {name}"), added).await?;
    let Some(link) = find(handle, name).await? else {
        return Err(StepError::refused(
            format!("find the bridge {name}"),
            io::Error::from_raw_os_error(libc::ENODEV),
        ));
    };
    if !link.is_bridge {
        return Err(StepError::refused(
            format!("use {name} as a bridge"),
            "there is another interface of that name, which is no bridge",
        ));
    }
    give_address(handle, link.index, address, range).await?;
    raise(handle, name, link.index).await?;
    Ok(link.index)
}

/// Refuses a range that some interface has an address from: a second way there could cut the host off from its own network.
async fn check_overlap(handle: &Handle, range: Ipv4Net) -> Result<(), StepError> {
    let all = handle.address().get().execute().try_collect::<Vec<AddressMessage>>();
    for message in bounded("list the addresses of the host", all).await? {
        for attribute in &message.attributes {
            if let AddressAttribute::Address(IpAddr::V4(address)) = attribute {
                let found = Ipv4Net::new(*address, message.header.prefix_len);
                if found.is_ok_and(|net| range.contains(address) || net.contains(&range.network()))
                {
                    return Err(StepError::refused(
                        format!("use {range} for containers"),
                        format!(
                            "this host has the address {address}/{}",
                            message.header.prefix_len
                        ),
                    ));
                }
            }
        }
    }
    Ok(())
}

/// Puts a container's interface back on the bridge, if it is there and on none.
pub(super) async fn reconnect(handle: &Handle, name: &str, bridge: u32) -> Result<(), StepError> {
    match find(handle, name).await? {
        Some(link) if link.bridge != Some(bridge) => {
            let set = LinkUnspec::new_with_index(link.index).controller(bridge).up().build();
            let set = handle.link().set(set).execute();
            bounded(format!("put the interface {name} back on the bridge"), set).await
        }
        Some(_) | None => Ok(()),
    }
}

/// An interface to be: who gets it, and where it goes.
pub(super) struct Port<'a> {
    /// The container.
    pub(super) container: &'a str,
    /// The name of the host's end.
    pub(super) name: &'a str,
    /// The number of the bridge.
    pub(super) bridge: u32,
    /// The container's address.
    pub(super) address: Ipv4Addr,
    /// The range that the address is from.
    pub(super) range: Ipv4Net,
    /// The bridge's address.
    pub(super) gateway: Ipv4Addr,
}

/// Makes the pair of interfaces of a container: `eth0` is born inside, which is faster than moving it there.
pub(super) async fn connect(
    handle: &Handle,
    inside: Inside,
    port: &Port<'_>,
) -> Result<(), StepError> {
    let pair = LinkVeth::new("eth0", port.name).setns_by_fd(inside.file.as_raw_fd()).build();
    let added = handle.link().add(pair).execute();
    bounded(format!("make the interface {}", port.name), added).await?;
    let host_end = LinkUnspec::new_with_name(port.name)
        .controller(port.bridge)
        .alias(alias(port.container))
        .up()
        .build();
    let set = handle.link().set(host_end).execute();
    bounded(format!("put the interface {} on the bridge", port.name), set).await?;
    through(inside.socket, async |handle: &Handle| {
        for name in ["lo", "eth0"] {
            let Some(link) = find(handle, name).await? else {
                return Err(StepError::refused(
                    format!("find {name} inside the container"),
                    io::Error::from_raw_os_error(libc::ENODEV),
                ));
            };
            if name == "eth0" {
                give_address(handle, link.index, port.address, port.range).await?;
            }
            raise(handle, name, link.index).await?;
        }
        let route = RouteMessageBuilder::<Ipv4Addr>::new().gateway(port.gateway).build();
        let added = handle.route().add(route).execute();
        bounded(format!("route the container through {}", port.gateway), added).await
    })
    .await
}

/// Lets the bridge send frames back through the interface that they came by.
///
/// A container that calls a host port of its own needs it: where bridged frames pass the rules, the bridge itself sees the
/// translated address. Others do without, since their broadcasts would come back to them.
pub(super) async fn reflect(handle: &Handle, name: &str) -> Result<(), StepError> {
    let Some(link) = find(handle, name).await? else { return Ok(()) };
    let port = LinkBridgePort::new(link.index).hairpin(true);
    let set = handle.link().set_port(port.build()).execute();
    bounded(format!("reflect frames at the interface {name}"), set).await
}

/// What an interface says of its container: as much as the kernel keeps of an alias.
pub(super) fn alias(container: &str) -> String {
    container.chars().take(60).collect()
}

/// Removes an interface; fine when it is gone.
pub(super) async fn remove(handle: &Handle, name: &str) -> Result<(), StepError> {
    let Some(link) = find(handle, name).await? else { return Ok(()) };
    let removed = unless(libc::ENODEV, handle.link().del(link.index).execute());
    bounded(format!("remove the interface {name}"), removed).await
}

async fn give_address(
    handle: &Handle,
    index: u32,
    address: Ipv4Addr,
    range: Ipv4Net,
) -> Result<(), StepError> {
    let added = handle.address().add(index, IpAddr::V4(address), range.prefix_len()).execute();
    bounded(format!("assign the address {address}"), unless(libc::EEXIST, added)).await
}

async fn raise(handle: &Handle, name: &str, index: u32) -> Result<(), StepError> {
    let raised = handle.link().set(LinkUnspec::new_with_index(index).up().build()).execute();
    bounded(format!("bring up the interface {name}"), raised).await
}

/// Takes the error `code` for success.
async fn unless(code: i32, work: impl Future<Output = Result<(), Error>>) -> Result<(), Error> {
    match work.await {
        Err(error) if errno(&error) == Some(code) => Ok(()),
        other => other,
    }
}

fn errno(error: &Error) -> Option<i32> {
    if let Error::NetlinkError(message) = error {
        Some(message.raw_code().saturating_abs())
    } else {
        None
    }
}
