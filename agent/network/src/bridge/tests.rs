//! A bridge on a host of its own: every test has a thread with its own network and mounts, so that nothing is left behind.

use std::collections::BTreeSet;
use std::fs::File;
use std::future::Future;
use std::io::{ErrorKind, Write as _, stderr};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use mesh_coordinator::spec::Protocol;
use mesh_ports::network::{AttachError, ContainerNetwork, HostPort};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use nlink::netlink::nftables::{
    BaseChain, Chain, ChainName, Family, FilterHook, Policy, Priority, Rule,
};
use nlink::netlink::{Connection, Nftables};
use rtnetlink::{LinkUnspec, LinkVeth, RouteMessageBuilder};
use tempfile::TempDir;

use super::{Bridge, Config, Finding, firewall, link, namespace, sysctl};

/// How long a packet may take that should arrive, and how long to wait for one that should not.
const ARRIVES: Duration = Duration::from_secs(2);
const DOES_NOT: Duration = Duration::from_millis(300);

const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

/// A host: the calling thread's namespaces, with a wire to another network namespace.
struct Host {
    dir: TempDir,
    config: Config,
}

impl Host {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = Config {
            name: "mesh0".to_owned(),
            range: "10.210.0.0/16".parse().unwrap(),
            state_dir: dir.path().join("state"),
        };
        let host = Self { dir, config };
        let outside = namespace::make(&host.path("outside")).unwrap();
        let fd = std::os::fd::AsRawFd::as_raw_fd(&outside.file);
        link::session(async |handle| {
            let pair = LinkVeth::new("wire", "uplink").setns_by_fd(fd).build();
            handle.link().add(pair).execute().await.unwrap();
            for name in ["uplink", "lo"] {
                handle
                    .link()
                    .set(LinkUnspec::new_with_name(name).up().build())
                    .execute()
                    .await
                    .unwrap();
            }
            let index = link::find(handle, "uplink").await?.unwrap().index;
            handle.address().add(index, IpAddr::V4(HOST), 24).execute().await.unwrap();
            Ok(())
        })
        .await
        .unwrap();
        host.in_namespace("outside", |handle| async move {
            for name in ["wire", "lo"] {
                handle
                    .link()
                    .set(LinkUnspec::new_with_name(name).up().build())
                    .execute()
                    .await
                    .unwrap();
            }
            let index = link::find(&handle, "wire").await.unwrap().unwrap().index;
            handle.address().add(index, IpAddr::V4(ELSEWHERE), 24).execute().await.unwrap();
        });
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    async fn bridge(&self) -> Bridge {
        Bridge::open(self.config.clone()).await.unwrap()
    }

    async fn attach(&self, bridge: &Bridge, name: &str, ports: &[HostPort]) -> Ipv4Addr {
        bridge.attach(name, &self.path(name), ports).await.unwrap()
    }

    /// Runs `work` in the network namespace of that name.
    fn inside<T: Send>(&self, name: &str, work: impl FnOnce() -> T + Send) -> T {
        let file = File::open(self.path(name)).unwrap();
        std::thread::scope(|scope| {
            let inside = scope.spawn(move || {
                setns(file, CloneFlags::CLONE_NEWNET).unwrap();
                work()
            });
            inside.join().unwrap()
        })
    }

    fn in_namespace<F: Future<Output = ()>>(
        &self,
        name: &str,
        work: impl FnOnce(rtnetlink::Handle) -> F + Send,
    ) {
        self.inside(name, || {
            run(async {
                link::session(async |handle| {
                    work(handle.clone()).await;
                    Ok(())
                })
                .await
                .unwrap();
            });
        });
    }

    /// A listener of the container, which works from any thread.
    fn listen(&self, name: &str, port: u16) -> TcpListener {
        self.inside(name, || TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap())
    }

    fn receive(&self, name: &str, port: u16) -> UdpSocket {
        let socket = self.inside(name, || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap());
        socket.set_read_timeout(Some(ARRIVES)).unwrap();
        socket
    }
}

fn run<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Runs a test on a host of its own, or says what is missing.
fn on_a_host<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send) {
    std::thread::scope(|scope| {
        scope.spawn(move || {
            if let Err(errno) = unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS) {
                writeln!(stderr(), "skipped: no namespaces of our own ({errno})").unwrap();
                return;
            }
            let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
            mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
            run(test());
        });
    });
}

fn connects(to: impl Into<SocketAddr>, within: Duration) -> bool {
    TcpStream::connect_timeout(&to.into(), within).is_ok()
}

fn peer_of(listener: &TcpListener) -> IpAddr {
    listener.accept().unwrap().1.ip()
}

fn port(host: u16, container: u16, protocol: Protocol) -> HostPort {
    HostPort { host, container, protocol }
}

/// Whether an echo request is answered.
fn pings(to: Ipv4Addr) -> bool {
    let flags = SockFlag::SOCK_CLOEXEC;
    let icmp = socket(AddressFamily::Inet, SockType::Datagram, flags, SockProtocol::Icmp).unwrap();
    let icmp = UdpSocket::from(icmp);
    icmp.set_read_timeout(Some(ARRIVES)).unwrap();
    icmp.connect((to, 0)).unwrap();
    icmp.send(&[8, 0, 0, 0, 0, 0, 0, 1]).unwrap();
    icmp.recv(&mut [0; 64]).is_ok()
}

/// What Docker and ufw do: nothing passes unless a rule says so. With `docker`, its chain for others is there, too.
async fn drop_by_default(docker: bool) {
    let rules = firewall::open().unwrap();
    let forward = BaseChain::filter(FilterHook::Forward, Priority::Filter).policy(Policy::Drop);
    let forward = Chain::new("filter", "FORWARD").unwrap().family(Family::Ip).base(forward);
    let mut batch = rules.transaction().add_table("filter", Family::Ip).add_chain(forward);
    if docker {
        let user = Chain::new("filter", "DOCKER-USER").unwrap().family(Family::Ip);
        let call = Rule::new("filter", "FORWARD").family(Family::Ip);
        let call = call.jump(ChainName::new("DOCKER-USER").unwrap());
        batch = batch.add_chain(user).add_rule(call);
    }
    batch.commit(&rules).await.unwrap();
}

async fn our_rules(chain: &str) -> usize {
    let rules: Connection<Nftables> = firewall::open().unwrap();
    let listed = rules.list_rules("filter", Family::Ip).await.unwrap();
    let ours = Some("agent mesh mesh0".to_owned());
    listed.iter().filter(|rule| rule.chain == chain && rule.comment_text == ours).count()
}

/// Docker works through `iptables`, which refuses a table with rules that it cannot print.
fn iptables_still_understands(chain: &str) {
    let listed = Command::new("iptables-nft").args(["-S", chain]).output();
    let Ok(listed) = listed else {
        writeln!(stderr(), "skipped in part: no iptables-nft").unwrap();
        return;
    };
    let (text, error) =
        (String::from_utf8_lossy(&listed.stdout), String::from_utf8_lossy(&listed.stderr));
    assert!(listed.status.success(), "{error}");
    for rule in ["-s 10.210.0.0/16 -i mesh0", "-d 10.210.0.0/16 -o mesh0"] {
        assert!(
            text.lines().any(|line| line.contains(rule) && line.ends_with("-j ACCEPT")),
            "{text}"
        );
    }
}

fn call_iptables_for_bridged_frames() -> bool {
    let there = sysctl::ensure("net/bridge/bridge-nf-call-iptables", "1").is_ok();
    if !there {
        writeln!(stderr(), "skipped in part: no bridge-nf-call-iptables").unwrap();
    }
    there
}

#[test]
fn containers_reach_each_other_and_the_host() {
    on_a_host(|| async {
        let host = Host::new().await;
        let bridge = host.bridge().await;
        let a = host.attach(&bridge, "a", &[]).await;
        let b = host.attach(&bridge, "b", &[]).await;
        assert_eq!([a, b], [Ipv4Addr::new(10, 210, 0, 2), Ipv4Addr::new(10, 210, 0, 3)]);
        assert!(host.inside("a", || pings(b)), "a should reach b");
        assert!(
            host.inside("b", || pings(Ipv4Addr::new(10, 210, 0, 1))),
            "b should reach the host"
        );
        assert!(host.inside("b", || pings(Ipv4Addr::LOCALHOST)), "loopback should be up");
        let server = host.listen("a", 80);
        assert!(host.inside("b", || connects((a, 80), ARRIVES)));
        assert_eq!(peer_of(&server), IpAddr::V4(b), "an address within the range stays as it is");
        assert!(connects((a, 80), ARRIVES), "the host should reach a container");
    });
}

#[test]
fn traffic_outwards_looks_like_the_host() {
    on_a_host(|| async {
        let host = Host::new().await;
        let bridge = host.bridge().await;
        host.attach(&bridge, "a", &[]).await;
        let server = host.listen("outside", 80);
        assert!(host.inside("a", || connects((ELSEWHERE, 80), ARRIVES)));
        assert_eq!(peer_of(&server), IpAddr::V4(HOST));
    });
}

#[test]
fn a_container_is_not_reachable_from_outside_unless_asked_for() {
    on_a_host(|| async {
        let host = Host::new().await;
        let bridge = host.bridge().await;
        let a = host.attach(&bridge, "a", &[]).await;
        let _server = host.listen("a", 80);
        host.in_namespace("outside", |handle| async move {
            let route = RouteMessageBuilder::<Ipv4Addr>::new()
                .destination_prefix(Ipv4Addr::new(10, 210, 0, 0), 16)
                .gateway(HOST);
            handle.route().add(route.build()).execute().await.unwrap();
        });
        assert!(!host.inside("outside", || connects((a, 80), DOES_NOT)));
    });
}

#[test]
fn traffic_passes_where_docker_drops_by_default() {
    on_a_host(|| async {
        let host = Host::new().await;
        drop_by_default(true).await;
        call_iptables_for_bridged_frames();
        let bridge = host.bridge().await;
        let a = host.attach(&bridge, "a", &[port(8080, 80, Protocol::Tcp)]).await;
        host.attach(&bridge, "b", &[]).await;
        let (inner, outer) = (host.listen("a", 80), host.listen("outside", 80));
        assert!(host.inside("b", || connects((ELSEWHERE, 80), ARRIVES)));
        assert_eq!(peer_of(&outer), IpAddr::V4(HOST));
        assert!(host.inside("b", || connects((a, 80), ARRIVES)));
        assert!(host.inside("outside", || connects((HOST, 8080), ARRIVES)));
        drop(inner);
        assert_eq!(our_rules("DOCKER-USER").await, 2);
        bridge.refresh().await.unwrap();
        assert_eq!(our_rules("DOCKER-USER").await, 2, "a second time adds nothing");
        iptables_still_understands("DOCKER-USER");
        bridge.close().await.unwrap();
        assert_eq!(our_rules("DOCKER-USER").await, 0);
    });
}

#[test]
fn traffic_passes_where_ufw_drops_by_default_even_when_it_comes_later() {
    on_a_host(|| async {
        let host = Host::new().await;
        let bridge = host.bridge().await;
        host.attach(&bridge, "a", &[]).await;
        let _server = host.listen("outside", 80);
        drop_by_default(false).await;
        assert!(!host.inside("a", || connects((ELSEWHERE, 80), DOES_NOT)), "the drop should work");
        bridge.refresh().await.unwrap();
        assert!(host.inside("a", || connects((ELSEWHERE, 80), ARRIVES)));
        assert_eq!(our_rules("FORWARD").await, 2);
    });
}

#[test]
fn bridged_frames_that_pass_the_rules_keep_their_addresses() {
    on_a_host(|| async {
        let host = Host::new().await;
        drop_by_default(false).await;
        let bridge = host.bridge().await;
        if !call_iptables_for_bridged_frames() {
            return;
        }
        let a = host.attach(&bridge, "a", &[]).await;
        let b = host.attach(&bridge, "b", &[]).await;
        let server = host.listen("a", 80);
        assert!(host.inside("b", || connects((a, 80), ARRIVES) && pings(a)));
        assert_eq!(peer_of(&server), IpAddr::V4(b));
    });
}

#[test]
fn a_host_port_leads_to_its_container_from_everywhere() {
    on_a_host(|| async {
        let host = Host::new().await;
        call_iptables_for_bridged_frames();
        let bridge = host.bridge().await;
        host.attach(&bridge, "a", &[port(8080, 80, Protocol::Tcp)]).await;
        host.attach(&bridge, "b", &[]).await;
        let server = host.listen("a", 80);
        assert!(host.inside("outside", || connects((HOST, 8080), ARRIVES)));
        assert_eq!(peer_of(&server), IpAddr::V4(ELSEWHERE), "the container sees its real client");
        assert!(connects((Ipv4Addr::LOCALHOST, 8080), ARRIVES), "by loopback");
        assert!(connects((HOST, 8080), ARRIVES), "from the host itself");
        assert!(host.inside("b", || connects((HOST, 8080), ARRIVES)), "from another container");
        assert!(host.inside("a", || connects((HOST, 8080), ARRIVES)), "from the container itself");
        bridge.detach("a", &host.path("a")).await;
        assert!(!host.inside("outside", || connects((HOST, 8080), DOES_NOT)));
        drop(TcpListener::bind((Ipv4Addr::UNSPECIFIED, 8080)).expect("the port should be free"));
    });
}

#[test]
fn a_datagram_port_leads_to_its_container_and_to_its_successor() {
    on_a_host(|| async {
        let host = Host::new().await;
        let bridge = host.bridge().await;
        let client = host.receive("outside", 5000);
        for (round, name) in ["a", "b"].into_iter().enumerate() {
            host.attach(&bridge, name, &[port(5353, 53, Protocol::Udp)]).await;
            let server = host.receive(name, 53);
            client.send_to(&[u8::try_from(round).unwrap()], (HOST, 5353)).unwrap();
            let (n, from) = server.recv_from(&mut [0; 8]).expect(name);
            assert_eq!((n, from.ip()), (1, IpAddr::V4(ELSEWHERE)));
            server.send_to(b"answer", from).unwrap();
            let (_, from) = client.recv_from(&mut [0; 8]).unwrap();
            assert_eq!(from, SocketAddr::from((HOST, 5353)));
            let local = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            local.send_to(b"x", (Ipv4Addr::LOCALHOST, 5353)).unwrap();
            server.recv_from(&mut [0; 8]).expect("by loopback");
            bridge.detach(name, &host.path(name)).await;
        }
    });
}

#[test]
fn containers_cannot_reach_loopback_services_of_the_host() {
    on_a_host(|| async {
        let host = Host::new().await;
        let bridge = host.bridge().await;
        host.attach(&bridge, "a", &[port(8080, 80, Protocol::Tcp)]).await;
        let service = UdpSocket::bind((Ipv4Addr::LOCALHOST, 9999)).unwrap();
        service.set_read_timeout(Some(DOES_NOT)).unwrap();
        // A route and a setting that only a container with far too many rights could make.
        host.in_namespace("a", |handle| async move {
            sysctl::ensure("net/ipv4/conf/all/route_localnet", "1").unwrap();
            let own = handle.address().get().set_address_filter(Ipv4Addr::LOCALHOST.into());
            let own: Vec<_> = own.execute().try_collect().await.unwrap();
            for address in own {
                handle.address().del(address).execute().await.unwrap();
            }
            let route = RouteMessageBuilder::<Ipv4Addr>::new()
                .destination_prefix(Ipv4Addr::new(127, 0, 0, 0), 8)
                .gateway(Ipv4Addr::new(10, 210, 0, 1));
            handle.route().add(route.build()).execute().await.unwrap();
        });
        host.inside("a", || {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
            socket.send_to(b"x", (Ipv4Addr::LOCALHOST, 9999)).unwrap();
        });
        let error = service.recv_from(&mut [0; 8]).expect_err("nothing should arrive");
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
    });
}

#[test]
fn attaching_again_keeps_the_address_and_a_port_in_use_is_refused() {
    on_a_host(|| async {
        let host = Host::new().await;
        let bridge = host.bridge().await;
        let a = host.attach(&bridge, "a", &[]).await;
        assert_eq!(host.attach(&bridge, "a", &[]).await, a);
        let with_port = [port(8080, 80, Protocol::Tcp)];
        assert_eq!(host.attach(&bridge, "a", &with_port).await, a, "also with other ports");
        let _server = host.listen("a", 80);
        assert!(host.inside("outside", || connects((HOST, 8080), ARRIVES)));
        let refused = bridge.attach("b", &host.path("b"), &with_port).await;
        assert!(matches!(refused, Err(AttachError::Interface { .. })), "{refused:?}");
        assert!(!host.path("b").exists());
        assert!(host.inside("outside", || connects((HOST, 8080), ARRIVES)), "a should not suffer");
    });
}

#[test]
fn many_at_once_get_an_address_each_until_none_is_left() {
    on_a_host(|| async {
        let host = Host::new().await;
        let config = Config { range: "10.210.0.9/28".parse().unwrap(), ..host.config.clone() };
        let bridge = Bridge::open(config).await.unwrap();
        let names: Vec<String> = (0..14).map(|number| format!("c{number}")).collect();
        let attached =
            names.iter().map(async |name| bridge.attach(name, &host.path(name), &[]).await);
        let attached = futures_util::future::join_all(attached).await;
        let (addresses, refused): (Vec<_>, Vec<_>) = attached.into_iter().partition(Result::is_ok);
        let addresses: BTreeSet<Ipv4Addr> = addresses.into_iter().map(Result::unwrap).collect();
        let expected = (2..=14).map(|last| Ipv4Addr::new(10, 210, 0, last));
        assert!(addresses.into_iter().eq(expected));
        assert!(matches!(refused.as_slice(), [Err(AttachError::Exhausted { .. })]), "{refused:?}");
    });
}

#[test]
fn a_restarted_agent_finds_its_containers_and_sweeps_the_dead() {
    on_a_host(|| async {
        let host = Host::new().await;
        let ports = |host| [port(host, 80, Protocol::Tcp)];
        let bridge = host.bridge().await;
        let a = host.attach(&bridge, "a", &ports(8080)).await;
        host.attach(&bridge, "b", &ports(8081)).await;
        drop(bridge);
        let bridge = host.bridge().await;
        bridge.adopt("a", a).await;
        let next = Ipv4Addr::new(10, 210, 0, 4);
        assert_eq!(host.attach(&bridge, "c", &[]).await, next, "no address twice");
        bridge.sweep(&["a".to_owned(), "c".to_owned()]).await;
        assert!(!host.path("b").exists() && namespace::is_mounted(&host.path("a")));
        let _server = host.listen("a", 80);
        assert!(host.inside("outside", || connects((HOST, 8080), ARRIVES)));
        drop(TcpListener::bind((Ipv4Addr::UNSPECIFIED, 8081)).expect("b's port should be free"));
        let held = async {
            // The thread of the earlier life gives the port back when it ends.
            while TcpListener::bind((Ipv4Addr::UNSPECIFIED, 8080)).is_ok() {
                bridge.refresh().await.unwrap();
            }
        };
        tokio::time::timeout(ARRIVES, held).await.expect("a's port should be held");
        bridge.sweep(&[]).await;
        assert!(!host.path("a").exists());
    });
}

#[test]
fn a_container_that_is_attached_with_other_ports_has_only_those() {
    on_a_host(|| async {
        let host = Host::new().await;
        let bridge = host.bridge().await;
        let tcp = |host| port(host, 80, Protocol::Tcp);
        host.attach(&bridge, "a", &[tcp(8080), tcp(8081)]).await;
        let _server = host.listen("a", 80);
        host.attach(&bridge, "a", &[tcp(8081), tcp(8082)]).await;
        for (number, open) in [(8080, false), (8081, true), (8082, true)] {
            let within = if open { ARRIVES } else { DOES_NOT };
            let reached = host.inside("outside", || connects((HOST, number), within));
            assert_eq!(reached, open, "{number}");
            let free = TcpListener::bind((Ipv4Addr::UNSPECIFIED, number)).is_ok();
            assert_eq!(free, !open, "{number}");
        }
    });
}

#[test]
fn a_host_port_that_another_program_took_meanwhile_is_reported() {
    on_a_host(|| async {
        let host = Host::new().await;
        let bridge = host.bridge().await;
        host.attach(&bridge, "a", &[port(8080, 80, Protocol::Tcp)]).await;
        drop(bridge);
        let bound = async {
            // The thread of the earlier life gives the port back when it ends.
            loop {
                if let Ok(bound) = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 8080)) {
                    return bound;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let squatter = tokio::time::timeout(ARRIVES, bound).await.unwrap();
        let bridge = host.bridge().await;
        let reported = Finding::HostPort { container: "a".to_owned(), port: "8080/tcp".to_owned() };
        assert!(bridge.findings().await.contains(&reported));
        drop(squatter);
        bridge.refresh().await.unwrap();
        assert!(!bridge.findings().await.contains(&reported), "once it is free it is taken");
    });
}

#[test]
fn a_lost_state_directory_is_made_good_by_adoption_and_sweep() {
    on_a_host(|| async {
        let host = Host::new().await;
        let bridge = host.bridge().await;
        let a = host.attach(&bridge, "a", &[]).await;
        host.attach(&bridge, "b", &[]).await;
        drop(bridge);
        std::fs::remove_dir_all(&host.config.state_dir).unwrap();
        let bridge = host.bridge().await;
        bridge.adopt("a", a).await;
        bridge.sweep(&["a".to_owned()]).await;
        assert!(host.inside("a", || pings(Ipv4Addr::new(10, 210, 0, 1))));
        assert!(!host.inside("b", || {
            run(link::session(async |handle| link::find(handle, "eth0").await)).unwrap().is_some()
        }));
        bridge.detach("a", &host.path("a")).await;
        assert!(!host.path("a").exists());
    });
}

#[test]
fn rules_come_back_after_somebody_flushed_them() {
    on_a_host(|| async {
        let host = Host::new().await;
        let bridge = host.bridge().await;
        host.attach(&bridge, "a", &[port(8080, 80, Protocol::Tcp)]).await;
        let (_inner, _outer) = (host.listen("a", 80), host.listen("outside", 80));
        firewall::open().unwrap().flush_ruleset().await.unwrap();
        bridge.refresh().await.unwrap();
        assert!(host.inside("outside", || connects((HOST, 8080), ARRIVES)));
        assert!(host.inside("a", || connects((ELSEWHERE, 80), ARRIVES)));
    });
}

#[test]
fn a_bridge_that_somebody_removed_comes_back_with_its_ports() {
    on_a_host(|| async {
        let host = Host::new().await;
        let bridge = host.bridge().await;
        let a = host.attach(&bridge, "a", &[]).await;
        host.attach(&bridge, "b", &[]).await;
        link::session(async |handle| link::remove(handle, "mesh0").await).await.unwrap();
        assert!(!host.inside("b", || connects((a, 80), DOES_NOT)));
        bridge.refresh().await.unwrap();
        let _server = host.listen("a", 80);
        assert!(host.inside("b", || connects((a, 80), ARRIVES)));
        drop(bridge);
        link::session(async |handle| link::remove(handle, "mesh0").await).await.unwrap();
        let _bridge = host.bridge().await;
        assert!(host.inside("b", || connects((a, 80), ARRIVES)), "also while no agent runs");
    });
}

#[test]
fn a_range_that_the_host_lives_in_is_refused() {
    on_a_host(|| async {
        let host = Host::new().await;
        for range in ["192.0.2.0/24", "192.0.0.0/16", "192.0.2.128/25"] {
            let config = Config { range: range.parse().unwrap(), ..host.config.clone() };
            assert!(Bridge::open(config).await.is_err(), "{range}");
        }
        let found = link::session(async |handle| link::find(handle, "mesh0").await).await;
        assert_eq!(found.unwrap(), None, "nothing should be made");
    });
}

#[test]
fn closing_leaves_nothing() {
    on_a_host(|| async {
        let host = Host::new().await;
        let links = || async {
            link::session(async |handle| {
                let links = handle.link().get().execute();
                let links: Vec<_> = links.try_collect().await.unwrap();
                Ok(links.len())
            })
            .await
            .unwrap()
        };
        let before = links().await;
        let bridge = host.bridge().await;
        for name in ["a", "b", "c"] {
            host.attach(&bridge, name, &[]).await;
        }
        assert_eq!(links().await, before + 4);
        bridge.close().await.unwrap();
        assert_eq!(links().await, before);
        assert!(!host.config.state_dir.exists());
        assert!(["a", "b", "c"].iter().all(|name| !host.path(name).exists()));
        let rules = firewall::open().unwrap();
        assert!(rules.list_tables().await.unwrap().iter().all(|table| table.name != "mesh0"));
        assert!(bridge.attach("d", &host.path("d"), &[]).await.is_err(), "a closed bridge refuses");
    });
}

#[test]
fn what_the_agent_cannot_mend_is_reported() {
    on_a_host(|| async {
        let host = Host::new().await;
        let bridge = host.bridge().await;
        assert_eq!(bridge.findings().await, [Finding::ForwardingTurnedOn]);
        let rules = firewall::open().unwrap();
        let drops = |hook| BaseChain::filter(hook, Priority::Filter).policy(Policy::Drop);
        let chain = |name, base| Chain::new("own", name).unwrap().family(Family::Inet).base(base);
        let batch = rules.transaction().add_table("own", Family::Inet);
        let batch = batch.add_chain(chain("forward", drops(FilterHook::Forward)));
        batch.add_chain(chain("input", drops(FilterHook::Input))).commit(&rules).await.unwrap();
        let findings = bridge.findings().await;
        let table = || "inet own".to_owned();
        for expected in [
            Finding::ForwardDrop { table: table(), chain: "forward".to_owned() },
            Finding::InputDrop { table: table(), chain: "input".to_owned() },
        ] {
            assert!(findings.contains(&expected), "{findings:?}");
        }
    });
}

#[test]
fn a_name_or_range_that_cannot_work_is_refused() {
    let config = |name: &str, range: &str| Config {
        name: name.to_owned(),
        range: range.parse().unwrap(),
        state_dir: Path::new("/nowhere").to_owned(),
    };
    for (name, range) in [
        ("", "10.0.0.0/16"),
        ("a/b", "10.0.0.0/16"),
        ("longer-than-15-c", "10.0.0.0/16"),
        ("mesh0", "10.0.0.0/31"),
    ] {
        assert!(run(Bridge::open(config(name, range))).is_err(), "{name} {range}");
    }
}
