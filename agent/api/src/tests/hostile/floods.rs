//! Ten thousand connections at the server's own limits, from a process of their own: what the server takes is its own memory, its
//! own descriptors and its own tasks, and members and operators are served meanwhile.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use mesh_coordinator::catalogue::Role;
use mesh_identity::tls;
use mesh_ports::peer::{Event, Peers as _};
use mesh_telemetry::{Reason, Tasks};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Siege;
use crate::http2::PREFACE;
use crate::server::Limits;
use crate::tests::world::{Agent, keys};

/// How many connections the flood opens.
const N_CONNECTIONS: u64 = 10_000;

/// From so many addresses, so that the limit of none of them is all that helps.
const N_ADDRESSES: u64 = 40;

/// So many of them are on their way into the server at the same time.
const OPENING: usize = 256;

/// What the flood, and the server beside what it serves, need at most.
const DESCRIPTORS: u64 = 10_500;

/// What the server may take of memory for all strangers together: 512 of them, each with 128 KiB that it may say, and half as much
/// for the connection itself.
const MEMORY_MAX: u64 = 96 << 20;

/// What the flood is told: where, from which addresses, and the key of the server.
const TARGET: &str = "MESH_TEST_FLOOD";

/// The longest pause between two heartbeats, and for an answer: a busy machine pauses too, but a starved connection says nothing
/// until the flood is over.
const PAUSE_MAX: Duration = Duration::from_secs(3);

#[expect(clippy::print_stdout, reason = "whoever runs the tests must see what they did not test")]
fn say(what: &str) {
    println!("{what}");
}

/// Whether this process, and what it starts, may have so many descriptors.
fn may_open(n: u64) -> bool {
    let limits = getrlimit(Resource::RLIMIT_NOFILE);
    limits.is_ok_and(|(soft, hard)| {
        let wanted = n.max(soft).min(hard);
        setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).is_ok() && wanted >= n
    })
}

/// The process of the flood; ends with its owner.
struct Flood(Child);

impl Flood {
    fn start(agent: &Agent) -> Self {
        let target = format!("{} {}", agent.address.port(), agent.keys.public());
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "tests::hostile::floods::flood", "--nocapture"])
            .env(TARGET, target)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn();
        Self(child.unwrap())
    }

    /// Waits until all connections were opened.
    async fn until_opened(&mut self) {
        let out = BufReader::new(self.0.stdout.take().unwrap());
        let opened = tokio::task::spawn_blocking(|| {
            out.lines().map_while(Result::ok).any(|line| line.contains("all were opened"))
        });
        assert!(opened.await.unwrap(), "the flood broke off");
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        let (Ok(()) | Err(_)) = self.0.kill();
        let (Ok(_) | Err(_)) = self.0.wait();
    }
}

/// What this process has of the machine.
#[derive(Debug, PartialEq, Eq)]
struct Usage {
    descriptors: usize,
    tasks: usize,
}

impl Usage {
    fn look() -> Self {
        Self {
            descriptors: std::fs::read_dir("/proc/self/fd").unwrap().count(),
            tasks: tokio::runtime::Handle::current().metrics().num_alive_tasks(),
        }
    }
}

/// The bytes of memory that this process has, without files.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().trim().parse::<u64>().unwrap() << 10
}

/// All refusals that the flood can cause.
fn n_refused(agent: &Agent) -> u64 {
    let reasons = [
        Reason::MessageTooLong,
        Reason::NoKey,
        Reason::Stranger,
        Reason::TooManyConnections,
        Reason::TooSlow,
    ];
    reasons.into_iter().map(|reason| agent.refusals.count(reason)).sum()
}

async fn within(limit: Duration, what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + limit;
    while !holds() {
        assert!(Instant::now() < end, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The longest that something took.
#[derive(Debug, Default)]
struct Longest(Duration);

impl Longest {
    async fn time<T>(&mut self, act: impl Future<Output = T>) -> T {
        let begun = Instant::now();
        let done = act.await;
        self.0 = self.0.max(begun.elapsed());
        done
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_connections_starve_nobody_and_leave_nothing() {
    if !may_open(DESCRIPTORS) {
        return say("skipped: this machine allows a process too few descriptors");
    }
    let Siege { mut world, good, .. } = Siege::of(Limits::default()).await;
    let operator = world.operator(251, Role::Viewer);
    let watched = world.agents[0].id;
    let mut watcher = world.agents.remove(1);
    watcher.peers.watch([watched].into());
    let is_beat = |event: &Event| matches!(event, Event::Heard { .. });
    watcher.until(is_beat).await;
    let agent = &world.agents[0];
    within(PAUSE_MAX, "one for the client, one for the member", || {
        agent.handle.n_connections() == 2
    })
    .await;
    let before = Usage::look();
    let (resident_before, mut resident_most) = (resident(), 0);
    let [mut beats, mut calls, mut greetings] = <[Longest; 3]>::default();
    let (mut flood, mut n_greeted) = (Flood::start(agent), 0_u32);
    tokio::select! {
        () = async {
            flood.until_opened().await;
            // Some of those that are left are cut off now.
            tokio::time::sleep(Duration::from_secs(6)).await;
        } => {}
        () = async { loop { beats.time(watcher.until(is_beat)).await; } } => {}
        () = async {
            loop {
                calls.time(good.who()).await.unwrap();
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        } => {}
        () = async {
            loop {
                let greeted = greetings.time(world.connect(&operator)).await;
                greeted.who().await.unwrap();
                n_greeted += 1;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        } => {}
        () = async {
            loop {
                resident_most = resident_most.max(resident());
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        } => {}
    }
    let grown = resident_most.saturating_sub(resident_before);
    say(&format!(
        "heartbeats {beats:?} apart at most, answers {calls:?}, {n_greeted} new clients in {greetings:?} each at most, {} KiB more",
        grown >> 10
    ));
    assert!(beats.0 < PAUSE_MAX && calls.0 < PAUSE_MAX && greetings.0 < PAUSE_MAX);
    assert!(n_greeted > 3);
    assert!(grown <= MEMORY_MAX, "{} MiB", grown >> 20);
    // The flood still holds all that it was left, and the server ends it by itself.
    let limits = Limits::default();
    let longest = limits.handshake_timeout + limits.stranger_timeout + PAUSE_MAX;
    within(longest, "all strangers are cut off", || agent.handle.n_connections() == 2).await;
    // Where the flood was faster than the server, the kernel's queue was full and it never saw some of them.
    within(PAUSE_MAX, "each is counted", || n_refused(agent) > N_CONNECTIONS * 3 / 4).await;
    within(PAUSE_MAX, "everything is given back", || {
        let now = Usage::look();
        now.descriptors <= before.descriptors && now.tasks <= before.tasks
    })
    .await;
    for reason in [Reason::TooManyConnections, Reason::TooSlow, Reason::Stranger] {
        assert!(agent.refusals.count(reason) > 0, "{reason:?}: {:?}", agent.refusals.counts());
    }
    good.who().await.unwrap();
    watcher.until(is_beat).await;
    drop(flood);
}

/// No test: the flood itself, when the test above starts this file as a process of its own.
#[tokio::test]
async fn flood() {
    let Ok(target) = std::env::var(TARGET) else { return };
    let (port, key) = target.split_once(' ').unwrap();
    let target = SocketAddr::from((Ipv4Addr::LOCALHOST, port.parse().unwrap()));
    let config = tls::client_config(&keys(150), key.parse().unwrap()).unwrap();
    let (tasks, opening) = (Tasks::new("flood"), Arc::new(Semaphore::new(OPENING)));
    for number in 0..N_CONNECTIONS {
        let turn = Arc::clone(&opening).acquire_owned().await.unwrap();
        let config = Arc::clone(&config);
        tasks.spawn("connection", async move {
            // What the server refuses on the way is refused.
            let Ok(tcp) = dial(number, target).await else { return };
            if number % 10 > 2 {
                drop(turn);
                return mute(tcp).await;
            }
            let tls = TlsConnector::from(config).connect(tls::server_name(), tcp).await;
            drop(turn);
            let Ok(tls) = tls else { return };
            let (Ok(()) | Err(_)) = match number % 10 {
                0 => silent(tls).await,
                1 => drips(tls, number % 20 == 1).await,
                _ => never_reads(tls, if number % 20 == 2 { 30 } else { 200 }).await,
            };
        });
    }
    let all = u32::try_from(OPENING).unwrap();
    drop(opening.acquire_many(all).await.unwrap());
    say("all were opened");
    std::io::stdout().flush().unwrap();
    // Until it is killed, or whoever started it is gone.
    tokio::time::sleep(Duration::from_secs(120)).await;
}

async fn dial(number: u64, target: SocketAddr) -> std::io::Result<TcpStream> {
    let last = u8::try_from(number % N_ADDRESSES).unwrap() + 1;
    let socket = TcpSocket::new_v4()?;
    socket.bind((Ipv4Addr::new(127, 0, 1, last), 0).into())?;
    socket.connect(target).await
}

async fn mute(mut tcp: TcpStream) {
    let (Ok(_) | Err(_)) = tcp.read(&mut [0]).await;
}

/// Through its handshake, and not a word.
async fn silent(mut tls: TlsStream<TcpStream>) -> std::io::Result<()> {
    tls.read(&mut [0]).await.map(drop)
}

/// A frame of HTTP/2.
pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The beginning of a connection.
pub(super) fn hello() -> Vec<u8> {
    [PREFACE.as_slice(), &frame(4, 0, 0, &[])].concat()
}

/// The beginning of the `number`-th call of a node that wants to join; more of it would follow.
pub(super) fn call(number: u32) -> Vec<u8> {
    let mut block = vec![0x83, 0x86];
    for (name, text) in
        [(0x44, "/mesh.v1.Join/Join"), (0x41, "agent.mesh"), (0x5f, "application/grpc")]
    {
        block.extend([name, u8::try_from(text.len()).unwrap()]);
        block.extend(text.as_bytes());
    }
    let headers = frame(1, 4, 2 * number + 1, &block);
    // A message of four megabytes, of which a kilobyte is there.
    let message = [&[0, 0, 0x40, 0, 0][..], &[0; 1_000]].concat();
    [headers, frame(0, 0, 2 * number + 1, &message)].concat()
}

/// Byte by byte, from the first word on or from the first call on.
async fn drips(mut tls: TlsStream<TcpStream>, from_the_first: bool) -> std::io::Result<()> {
    let mut words = [hello(), call(0)].concat();
    if !from_the_first {
        let rest = words.split_off(hello().len());
        tls.write_all(&std::mem::replace(&mut words, rest)).await?;
    }
    for byte in words {
        tls.write_all(&[byte]).await?;
        tls.flush().await?;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    Ok(())
}

/// Begins calls, ends none, and reads no answer.
async fn never_reads(mut tls: TlsStream<TcpStream>, n_calls: u32) -> std::io::Result<()> {
    tls.write_all(&hello()).await?;
    for number in 0..n_calls {
        tls.write_all(&call(number)).await?;
    }
    tls.flush().await?;
    std::future::pending().await
}
