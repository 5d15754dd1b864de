//! Ten thousand connections at the server's own limits, from a process of their own: what the server takes is its own memory, its
//! own descriptors and its own tasks, and members and operators are served meanwhile.
//!
//! The process of the flood is this program again, with the same test as its only one. The environment tells it which of the two
//! it is. Time here is real, since other processes and the kernel's queues do not know any other; each wait has a bound.

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
use nix::unistd::geteuid;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::Builder;
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

/// How long the flood may take to open all: its handshakes take this machine seconds, and one that lacks processors tens of them.
const OPENING_MAX: Duration = Duration::from_secs(60);

/// How long the flood stays when nobody ends it: longer than the test can take from its start on.
const FLOOD_MAX: Duration = Duration::from_secs(120);

/// What the flood is told: where, from which addresses, and the key of the server.
const TARGET: &str = "MESH_TEST_FLOOD";

/// The test of this file.
const TEST: &str =
    "tests::hostile::floods::ten_thousand_connections_starve_nobody_and_leave_nothing";

/// The longest pause between two heartbeats, and for an answer: a busy machine pauses too, but a starved connection says nothing
/// until the flood is over.
const PAUSE_MAX: Duration = Duration::from_secs(3);

#[expect(clippy::print_stdout, reason = "whoever runs the tests must see what they did not test")]
fn say(what: &str) {
    println!("{what}");
}

/// Lets this process, and what it starts, have so many descriptors. Root may raise its own limit.
fn allow_descriptors(n: u64) -> nix::Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, n.max(soft), n.max(hard))
}

/// The process of the flood; ends with its owner.
struct Flood(Child);

impl Flood {
    fn start(agent: &Agent) -> Self {
        let target = format!("{} {}", agent.address.port(), agent.keys.public());
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", TEST, "--nocapture"])
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
        let opened = tokio::time::timeout(OPENING_MAX, opened).await;
        assert!(opened.expect("the flood is fast enough").unwrap(), "the flood broke off");
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

#[test]
fn ten_thousand_connections_starve_nobody_and_leave_nothing() {
    if let Ok(target) = std::env::var(TARGET) {
        // One thread, so that the flood does not take all processors from whom it attacks.
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        return runtime.block_on(flood(&target));
    }
    if let Err(error) = allow_descriptors(DESCRIPTORS) {
        assert!(!geteuid().is_root(), "root may not have {DESCRIPTORS} descriptors: {error}");
        return say("skipped: this machine allows a process too few descriptors");
    }
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(withstand());
}

/// Starts the flood against a server, and looks after the server until the flood has come to nothing.
async fn withstand() {
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
            // Meanwhile those that do not finish their handshake are cut off, and the others are still there.
            tokio::time::sleep(Limits::default().handshake_timeout + Duration::from_secs(1)).await;
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
    comes_to_nothing(agent, &before).await;
    good.who().await.unwrap();
    watcher.until(is_beat).await;
    drop(flood);
}

/// Waits until the server has ended, by itself, all that the flood still holds, and has given everything back.
async fn comes_to_nothing(agent: &Agent, before: &Usage) {
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
}

/// The flood itself, which is another process.
async fn flood(target: &str) {
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
    // Until it is killed. Should whoever started it be gone, it is not there for ever.
    tokio::time::sleep(FLOOD_MAX).await;
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
