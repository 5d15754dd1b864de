//! Connections through a proxy on loopback, with tunnels that lead to loopback, too.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mesh_coordinator::id::{AppUid, NodeId, SlotId, SlotIndex};
use mesh_ports::network::{Backend, Route, Stream, TunnelError, Tunnels};
use mesh_telemetry::Tasks;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};

use super::{Counts, Problem, Proxy, Served};

const SOON: Duration = Duration::from_secs(10);

/// Nodes that serve any slot at the address given here.
#[derive(Debug, Default)]
struct Fake(Mutex<BTreeMap<NodeId, SocketAddr>>);

impl Tunnels for Fake {
    async fn open(
        &self,
        node: NodeId,
        _slot: &SlotId,
        _target: u16,
    ) -> Result<Box<dyn Stream>, TunnelError> {
        let address = self.0.lock().unwrap().get(&node).copied();
        let address = address.ok_or(TunnelError::Gone(node))?;
        match TcpStream::connect(address).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(_) => Err(TunnelError::Unreachable(node)),
        }
    }
}

struct Bench {
    tasks: Tasks,
    proxy: Proxy<Fake>,
    tunnels: Arc<Fake>,
}

impl Bench {
    fn new() -> Self {
        let (tasks, tunnels) = (Tasks::new("test"), Arc::new(Fake::default()));
        let proxy = Proxy::new(tasks.clone(), Arc::clone(&tunnels));
        Self { tasks, proxy, tunnels }
    }

    fn remote(&self, number: u8, address: SocketAddr) -> Backend {
        let node = NodeId::from_bytes([number; 10]);
        self.tunnels.0.lock().unwrap().insert(node, address);
        Backend::Remote { slot: slot(number), node }
    }

    /// A replica that says its name, then sends back what it gets, then ends when the client ends.
    async fn replica(&self, name: &'static str) -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let tasks = self.tasks.clone();
        self.tasks.spawn("replica", async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tasks.spawn("replica connection", async move {
                    let mut text = Vec::new();
                    stream.write_all(name.as_bytes()).await.unwrap();
                    if stream.read_to_end(&mut text).await.is_ok() {
                        stream.write_all(&text).await.unwrap();
                    }
                });
            }
        });
        address
    }
}

fn slot(number: u8) -> SlotId {
    SlotId {
        app: AppUid([1; 16]),
        service: "web".parse().unwrap(),
        index: SlotIndex::Number(number.into()),
    }
}

fn route(published: u16) -> Route {
    Route { published, app: AppUid([1; 16]), service: "web".parse().unwrap(), target: 80 }
}

fn local(address: SocketAddr) -> Backend {
    Backend::Local { slot: slot(0), address }
}

/// A port that was free a moment ago.
async fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await.unwrap();
    listener.local_addr().unwrap().port()
}

/// An address where nobody listens.
async fn nobody() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, free_port().await).into()
}

async fn connect(port: u16) -> TcpStream {
    let connected = async {
        loop {
            // The listener opens in a task of its own.
            match TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await {
                Ok(stream) => return stream,
                Err(_) => sleep(Duration::from_millis(5)).await,
            }
        }
    };
    timeout(SOON, connected).await.unwrap()
}

/// What a client sees that says `text` and ends.
async fn say(port: u16, text: &str) -> String {
    let mut stream = connect(port).await;
    stream.write_all(text.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    let read = timeout(SOON, stream.read_to_string(&mut answer)).await.unwrap();
    if read.is_err() { "broken off".to_owned() } else { answer }
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let reached = async {
        while !condition() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(SOON, reached).await.expect(what);
}

#[tokio::test]
async fn replicas_on_this_node_come_first_and_take_turns() {
    let bench = Bench::new();
    let port = free_port().await;
    let far = bench.remote(1, bench.replica("far ").await);
    let near = [bench.replica("one ").await, bench.replica("two ").await];
    let backends = vec![far.clone(), local(near[0]), local(near[1])];
    bench.proxy.update(vec![Served { route: route(port), backends }]);
    let mut seen = vec![say(port, "x").await, say(port, "x").await];
    seen.sort();
    assert_eq!(seen, ["one x", "two x"]);
    bench.proxy.update(vec![Served { route: route(port), backends: vec![far] }]);
    assert_eq!(say(port, "x").await, "far x");
}

#[tokio::test]
async fn a_replica_that_does_not_answer_is_passed_over() {
    let bench = Bench::new();
    let port = free_port().await;
    let backends = vec![
        local(nobody().await),
        bench.remote(1, nobody().await),
        bench.remote(2, bench.replica("third ").await),
    ];
    bench.proxy.update(vec![Served { route: route(port), backends }]);
    for _ in 0..4 {
        assert_eq!(say(port, "x").await, "third x");
    }
    let counts = Counts { connections: 4, failures: 0, open: 0 };
    until("all connections end", || bench.proxy.counts() == [(route(port), counts)]).await;
}

#[tokio::test]
async fn a_connection_waits_for_a_replica_to_be_ready() {
    let bench = Bench::new();
    let port = free_port().await;
    bench.proxy.update(vec![Served { route: route(port), backends: vec![] }]);
    let client = async { say(port, "x").await };
    let failover = async {
        sleep(Duration::from_millis(100)).await;
        let backends = vec![local(bench.replica("late ").await)];
        bench.proxy.update(vec![Served { route: route(port), backends }]);
    };
    let (seen, ()) = tokio::join!(client, failover);
    assert_eq!(seen, "late x");
}

#[tokio::test]
async fn a_connection_is_given_up_after_a_bounded_time() {
    let bench = Bench::new();
    let port = free_port().await;
    let begun = Instant::now();
    let backends = vec![local(nobody().await)];
    bench.proxy.update(vec![Served { route: route(port), backends }]);
    let seen = say(port, "x").await;
    assert!(seen.is_empty() || seen == "broken off", "{seen}");
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    let counts = Counts { connections: 1, failures: 1, open: 0 };
    until("it is counted", || bench.proxy.counts() == [(route(port), counts)]).await;
}

#[tokio::test]
async fn a_port_in_use_is_reported_then_recovered_and_harms_no_other() {
    let bench = Bench::new();
    let squatter = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await.unwrap();
    let (taken, free) = (squatter.local_addr().unwrap().port(), free_port().await);
    let backends = vec![local(bench.replica("here ").await)];
    let served = |port| Served { route: route(port), backends: backends.clone() };
    bench.proxy.update(vec![served(taken), served(free)]);
    until("the problem is reported", || {
        let problems = bench.proxy.problems();
        problems
            .iter()
            .any(|p| matches!(p, Problem::Unbound { route: r, .. } if *r == route(taken)))
    })
    .await;
    assert_eq!(say(free, "x").await, "here x");
    drop(squatter);
    until("the problem is gone", || bench.proxy.problems().is_empty()).await;
    assert_eq!(say(taken, "x").await, "here x");
}

#[tokio::test]
async fn two_routes_with_one_port_are_reported_and_the_first_is_served() {
    let bench = Bench::new();
    let port = free_port().await;
    let first = route(port);
    let second = Route { app: AppUid([2; 16]), ..first.clone() };
    let backends = [local(bench.replica("first ").await), local(bench.replica("second ").await)];
    let [b1, b2] = backends;
    bench.proxy.update(vec![
        Served { route: second.clone(), backends: vec![b2.clone()] },
        Served { route: first.clone(), backends: vec![b1] },
    ]);
    assert_eq!(say(port, "x").await, "first x");
    let contested = Problem::Contested { route: second.clone(), winner: first };
    assert_eq!(bench.proxy.problems(), [contested]);
    bench.proxy.update(vec![Served { route: second, backends: vec![b2] }]);
    assert_eq!(say(port, "x").await, "second x");
    assert_eq!(bench.proxy.problems(), []);
}

#[tokio::test]
async fn an_end_of_one_direction_leaves_the_other_open() {
    let bench = Bench::new();
    let port = free_port().await;
    let backends = vec![bench.remote(1, bench.replica("hello ").await)];
    bench.proxy.update(vec![Served { route: route(port), backends }]);
    let long = "x".repeat(1_000_000);
    // The replica answers only after it saw the end of what the client says.
    assert_eq!(say(port, &long).await, format!("hello {long}"));
}

#[tokio::test]
async fn connections_outlive_their_route_but_not_their_node() {
    let bench = Bench::new();
    let port = free_port().await;
    let far = bench.remote(1, bench.replica("far").await);
    bench.proxy.update(vec![Served { route: route(port), backends: vec![far] }]);
    let mut stream = connect(port).await;
    let mut greeting = [0; 3];
    timeout(SOON, stream.read_exact(&mut greeting)).await.unwrap().unwrap();
    bench.proxy.update(vec![]);
    bench.proxy.node_down(NodeId::from_bytes([2; 10]));
    let silent = timeout(Duration::from_millis(100), stream.read(&mut greeting)).await;
    assert!(silent.is_err(), "a draining replica keeps its connections");
    bench.proxy.node_down(NodeId::from_bytes([1; 10]));
    let closed = timeout(SOON, stream.read(&mut greeting)).await.unwrap();
    assert!(matches!(closed, Ok(0) | Err(_)), "{closed:?}");
}

#[tokio::test]
async fn a_port_that_is_published_no_more_is_closed() {
    let bench = Bench::new();
    let port = free_port().await;
    let backends = vec![local(bench.replica("here ").await)];
    bench.proxy.update(vec![Served { route: route(port), backends }]);
    assert_eq!(say(port, "x").await, "here x");
    bench.proxy.update(vec![]);
    let refused = async {
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_ok() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, refused).await.expect("the listener should close");
    assert_eq!(bench.proxy.counts(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_short_connections_all_get_their_answer() {
    let bench = Bench::new();
    let port = free_port().await;
    let backends = vec![local(bench.replica("near ").await), local(bench.replica("near ").await)];
    bench.proxy.update(vec![Served { route: route(port), backends }]);
    connect(port).await.shutdown().await.unwrap();
    let clients = (0..1000).map(|number| async move {
        let text = number.to_string();
        assert_eq!(say(port, &text).await, format!("near {text}"));
    });
    let clients =
        futures_util::StreamExt::buffer_unordered(futures_util::stream::iter(clients), 100);
    assert_eq!(futures_util::StreamExt::count(clients).await, 1000);
    let counts = Counts { connections: 1001, failures: 0, open: 0 };
    until("all are counted", || bench.proxy.counts() == [(route(port), counts)]).await;
    assert_eq!(bench.tasks.stop(SOON).await, 0);
}
