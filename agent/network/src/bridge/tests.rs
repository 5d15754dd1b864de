//! A bridge on a host of its own: every test has a thread with its own network and mounts, so that nothing is left behind.

mod life;
mod reach;

use std::fs::File;
use std::future::Future;
use std::io::{Write as _, stderr};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use mesh_coordinator::spec::Protocol;
use mesh_ports::network::{ContainerNetwork, HostPort};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use nlink::netlink::nftables::{
    BaseChain, Chain, ChainName, Family, FilterHook, Policy, Priority, Rule,
};
use nlink::netlink::{Connection, Nftables};
use rtnetlink::{LinkUnspec, LinkVeth};
use tempfile::TempDir;

use super::{Bridge, Config, firewall, link, namespace, sysctl};

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
