//! Ports of the host that lead to one container.
//!
//! The way itself is address translation ([`super::firewall`]). Beside it a socket holds each port, so that a port that another
//! program uses is refused instead of being taken away from it, and none can take it later. It never sees traffic.

use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, UdpSocket};

use mesh_coordinator::spec::Protocol;
use mesh_ports::network::HostPort;

use super::step::StepError;

/// Keeps a port of the host from others while it lives.
#[derive(Debug)]
pub(super) struct Held {
    port: HostPort,
    _socket: Socket,
}

#[derive(Debug)]
enum Socket {
    Tcp { _listener: TcpListener },
    Udp { _socket: UdpSocket },
}

impl Held {
    /// Takes the port, in the calling thread's network namespace.
    pub(super) fn take(port: HostPort) -> Result<Self, StepError> {
        let address = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port.host);
        let socket = match port.protocol {
            Protocol::Tcp => {
                TcpListener::bind(address).map(|listener| Socket::Tcp { _listener: listener })
            }
            Protocol::Udp => UdpSocket::bind(address).map(|socket| Socket::Udp { _socket: socket }),
        };
        socket.map(|socket| Self { port, _socket: socket }).map_err(|error| {
            StepError::refused(format!("take the host port {}/{}", port.host, port.protocol), error)
        })
    }

    /// Whether it is this port of the host that is held.
    pub(super) fn is_for(&self, port: HostPort) -> bool {
        self.port.host == port.host && self.port.protocol == port.protocol
    }
}
