//! One connection of a client: finding a replica for it, then carrying bytes both ways.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mesh_coordinator::id::{NodeId, SlotId};
use mesh_ports::network::{Stream, Tunnels};
use mesh_telemetry::Chain;
use nix::sys::socket::{setsockopt, sockopt};
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional_with_sizes};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{Counter, Nodes, Port, Target};

/// How long a replica on this node may take to accept: the way is a bridge of this host, so a third of a second of silence means
/// that nobody is there.
const LOCAL_LIMIT: Duration = Duration::from_millis(300);

/// How long the way through another agent may take to open.
const REMOTE_LIMIT: Duration = Duration::from_secs(1);

/// How long a connection waits for a backend to be found. When there is none, a failover is the likely reason; a client that
/// waits a moment is served by the new replica, whereas one that is refused shows an error to somebody.
const HOLD: Duration = Duration::from_secs(2);

/// How soon backends that all failed are tried again when nothing new was heard of them.
const RETRY: Duration = Duration::from_millis(200);

/// The buffer of each direction: what one wake-up moves at most.
const BUFFER_LEN: usize = 16 * 1024;

/// A peer that said nothing for two minutes is asked, then every quarter minute, and is given up after four questions: three
/// minutes in all, which even a phone between two networks survives.
const KEEPALIVE_IDLE_S: u32 = 120;
const KEEPALIVE_INTERVAL_S: u32 = 15;
const KEEPALIVE_COUNT: u32 = 4;

/// Why a replica on this node could not be reached. *No byte was sent to it.*
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// It said nothing for 300 ms.
    #[error("{0} does not answer")]
    Silent(SocketAddr),
    /// The connection was refused, or there is no way to the address.
    #[error("cannot connect to {address}")]
    Refused {
        /// Where the replica should listen.
        address: SocketAddr,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// Connects to a replica on this node: what the proxy does for its own clients, and the agent for those of other agents.
///
/// # Errors
///
/// When the replica does not accept within 300 ms.
pub async fn dial_local(address: SocketAddr) -> Result<TcpStream, DialError> {
    let stream = match timeout(LOCAL_LIMIT, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(source)) => return Err(DialError::Refused { address, source }),
        Err(_elapsed) => return Err(DialError::Silent(address)),
    };
    prepare(&stream).map_err(|source| DialError::Refused { address, source })?;
    Ok(stream)
}

/// Sets a connection up for being relayed.
///
/// Bytes are passed on as they come, since waiting for more would only add delay. And the kernel asks a silent peer from time to
/// time whether it is still there: an idle connection may last for ever, but one whose peer vanished without a word must give its
/// place back.
pub(super) fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    setsockopt(stream, sockopt::KeepAlive, &true)?;
    setsockopt(stream, sockopt::TcpKeepIdle, &KEEPALIVE_IDLE_S)?;
    setsockopt(stream, sockopt::TcpKeepInterval, &KEEPALIVE_INTERVAL_S)?;
    setsockopt(stream, sockopt::TcpKeepCount, &KEEPALIVE_COUNT)?;
    Ok(())
}

/// Carries bytes both ways until both sides have ended, or one of them is broken. An end of one direction is passed on as such
/// (half-close), and nothing is cut for being idle.
///
/// # Errors
///
/// When either side breaks off.
pub async fn relay<A, B>(client: &mut A, backend: &mut B) -> io::Result<(u64, u64)>
where
    A: AsyncRead + AsyncWrite + Unpin + ?Sized,
    B: AsyncRead + AsyncWrite + Unpin + ?Sized,
{
    copy_bidirectional_with_sizes(client, backend, BUFFER_LEN, BUFFER_LEN).await
}

/// What a connection needs to be served.
#[derive(Debug)]
pub(super) struct Connection<T> {
    /// The published port that it came to.
    pub(super) port: Arc<Port>,
    /// The way to other nodes.
    pub(super) tunnels: Arc<T>,
    /// Which nodes are down.
    pub(super) nodes: Arc<Nodes>,
    /// Its place among the port's connections, given back when it ends.
    pub(super) permit: OwnedSemaphorePermit,
}

/// The way to a replica.
enum Way {
    Local(TcpStream),
    Remote(Box<dyn Stream>, CancellationToken),
}

/// Counts a connection as open while it lives.
struct Open(Arc<Counter>);

impl Open {
    fn new(counter: Arc<Counter>) -> Self {
        counter.connections.fetch_add(1, Ordering::Relaxed);
        counter.open.fetch_add(1, Ordering::Relaxed);
        Self(counter)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<T: Tunnels> Connection<T> {
    /// The whole life of the connection.
    pub(super) async fn serve(self, mut client: TcpStream) {
        let open = Open::new(Arc::clone(&self.port.target.borrow().counter));
        let last_try_ends = Instant::now() + HOLD + REMOTE_LIMIT;
        let found = timeout_at(last_try_ends, self.find()).await;
        let end = match found.ok().flatten() {
            Some(Way::Local(mut backend)) => relay(&mut client, &mut backend).await.map(drop),
            Some(Way::Remote(mut backend, alive)) => {
                let carried = alive.run_until_cancelled(relay(&mut client, &mut *backend)).await;
                carried.map_or(Ok(()), |end| end.map(drop))
            }
            None => {
                open.0.failures.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
        };
        if let Err(error) = end {
            debug!(error = %Chain(&error), "connection broken off");
        }
        drop(self.permit);
    }

    /// A way to a replica, or none when none could be opened in time.
    async fn find(&self) -> Option<Way> {
        let give_up = Instant::now() + HOLD;
        let mut view = self.port.target.subscribe();
        loop {
            let target = Arc::clone(&view.borrow_and_update());
            if let Some(way) = self.try_all(&target).await {
                return Some(way);
            }
            let nobody = target.local.is_empty() && target.remote.is_empty();
            let next_try = if nobody { give_up } else { give_up.min(Instant::now() + RETRY) };
            tokio::select! {
                biased;
                Ok(()) = view.changed() => {}
                () = sleep_until(next_try) => {}
            }
            if Instant::now() >= give_up {
                return None;
            }
        }
    }

    async fn try_all(&self, target: &Target) -> Option<Way> {
        let turn = self.port.turn.fetch_add(1, Ordering::Relaxed);
        for address in in_turn(&target.local, turn) {
            match dial_local(*address).await {
                Ok(stream) => return Some(Way::Local(stream)),
                Err(error) => debug!(error = %Chain(&error), "replica passed over"),
            }
        }
        for (node, slot) in in_turn(&target.remote, turn) {
            if let Some(way) = self.open_remote(*node, slot, target.route.target).await {
                return Some(way);
            }
        }
        None
    }

    async fn open_remote(&self, node: NodeId, slot: &SlotId, target: u16) -> Option<Way> {
        // Taken before opening: a node that is declared down meanwhile is not missed.
        let alive = self.nodes.alive(node);
        match timeout(REMOTE_LIMIT, self.tunnels.open(node, slot, target)).await {
            Ok(Ok(stream)) => Some(Way::Remote(stream, alive)),
            Ok(Err(error)) => {
                debug!(error = %Chain(&error), "replica passed over");
                None
            }
            Err(_elapsed) => {
                debug!(%node, "replica passed over, its agent is slow");
                None
            }
        }
    }
}

/// All of `backends`, each turn beginning with the next one.
fn in_turn<B>(backends: &[B], turn: usize) -> impl Iterator<Item = &B> {
    let first = turn.checked_rem(backends.len()).unwrap_or(0);
    backends.iter().cycle().skip(first).take(backends.len())
}
