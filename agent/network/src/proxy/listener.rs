//! One address of a published port: bound as soon as it can be, then accepting for as long as the port is published.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mesh_ports::network::Tunnels;
use mesh_telemetry::{Chain, Tasks};
use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::{TcpListener, TcpSocket};
use tokio::time::sleep;
use tracing::{info, warn};

use super::connection::{Connection, prepare};
use super::{Nodes, Port, lock};

/// Connections that wait in the kernel while all permits are taken or the agent is busy; the kernel lowers it to its own limit.
const BACKLOG: u32 = 1024;

/// The first wait after a port could not be bound, doubled up to [`REBIND_MAX`]: a predecessor's socket is gone in an instant.
const REBIND_MIN: Duration = Duration::from_millis(100);

/// The longest wait: another program has the port, and the operator who stops it wants to see the effect.
const REBIND_MAX: Duration = Duration::from_secs(3);

/// The wait after accepting failed for lack of something: a descriptor is free again when some connection ends.
const SHORTAGE: Duration = Duration::from_millis(50);

/// A listener to be.
#[derive(Debug)]
pub(super) struct Listener<T> {
    /// Where to listen.
    pub(super) address: SocketAddr,
    /// The published port.
    pub(super) port: Arc<Port>,
    /// Where connections run.
    pub(super) tasks: Tasks,
    /// The way to other nodes.
    pub(super) tunnels: Arc<T>,
    /// Which nodes are down.
    pub(super) nodes: Arc<Nodes>,
}

impl<T: Tunnels> Listener<T> {
    /// Listens until it is dropped, or ends at once where the host has no such kind of address.
    pub(super) async fn run(self) {
        if let Some(listener) = self.bind().await {
            self.accept(listener).await;
        }
    }

    async fn bind(&self) -> Option<TcpListener> {
        let mut pause = REBIND_MIN;
        loop {
            match bind(self.address) {
                Ok(listener) => {
                    if lock(&self.port.unbound).remove(&self.address).is_some() {
                        info!(address = %self.address, "published port is free again");
                    }
                    return Some(listener);
                }
                Err(error) if self.address.is_ipv6() && is_without_ipv6(&error) => return None,
                Err(error) => {
                    let known =
                        lock(&self.port.unbound).insert(self.address, error.to_string()).is_some();
                    if !known {
                        warn!(address = %self.address, error = %Chain(&error), "cannot listen on a published port");
                    }
                    sleep(pause).await;
                    pause = pause.saturating_mul(2).min(REBIND_MAX);
                }
            }
        }
    }

    async fn accept(&self, listener: TcpListener) {
        let mut is_short = false;
        loop {
            let Ok(permit) = Arc::clone(&self.port.permits).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((client, _)) => {
                    is_short = false;
                    if prepare(&client).is_err() {
                        continue;
                    }
                    let connection = Connection {
                        port: Arc::clone(&self.port),
                        tunnels: Arc::clone(&self.tunnels),
                        nodes: Arc::clone(&self.nodes),
                        permit,
                    };
                    self.tasks.spawn("connection", connection.serve(client));
                }
                Err(error) if is_of_one_client(&error) => {}
                Err(error) => {
                    if !is_short {
                        warn!(address = %self.address, error = %Chain(&error), "cannot accept for the moment");
                    }
                    is_short = true;
                    sleep(SHORTAGE).await;
                }
            }
        }
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // The agent may come back while connections of its earlier life linger.
    socket.set_reuseaddr(true)?;
    if address.is_ipv6() {
        // Version 4 has a listener of its own, which must not depend on whether the host has version 6.
        setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
    }
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn is_without_ipv6(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

/// Whether accepting failed because that client went away or the network did, which says nothing about the next one.
fn is_of_one_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}
