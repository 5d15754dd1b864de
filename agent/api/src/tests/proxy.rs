//! A wire that can be cut: between an agent and another, as bad networks are.

use std::net::{Ipv4Addr, SocketAddr};

use mesh_telemetry::Tasks;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What becomes of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wire {
    /// Bytes pass.
    Whole,
    /// Nothing passes and nobody is told.
    Cut,
    /// Connections are reset, as by a host whose process was killed; new ones pass.
    Reset,
}

/// A wire to `target`.
pub(super) struct Proxy {
    pub(super) address: SocketAddr,
    pub(super) wire: watch::Sender<Wire>,
}

impl Proxy {
    pub(super) async fn to(target: SocketAddr, tasks: &Tasks) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (wire, state) = watch::channel(Wire::Whole);
        let connections = tasks.clone();
        tasks.spawn("proxy", async move {
            loop {
                let (near, _) = listener.accept().await.unwrap();
                let far = TcpStream::connect(target).await.unwrap();
                let mut state = state.clone();
                state.mark_unchanged();
                connections.spawn("wire", pass(near, far, state));
            }
        });
        Self { address, wire }
    }
}

async fn pass(mut near: TcpStream, mut far: TcpStream, mut state: watch::Receiver<Wire>) {
    let mut is_new = true;
    loop {
        let now = *state.borrow_and_update();
        match now {
            Wire::Whole => {}
            Wire::Reset if is_new => {}
            Wire::Reset => {
                near.set_zero_linger().unwrap();
                return;
            }
            Wire::Cut => {
                state.changed().await.unwrap();
                continue;
            }
        }
        is_new = false;
        tokio::select! {
            _ended = tokio::io::copy_bidirectional(&mut near, &mut far) => {
                drop(near.shutdown().await);
                return;
            }
            _changed = state.changed() => {}
        }
    }
}
