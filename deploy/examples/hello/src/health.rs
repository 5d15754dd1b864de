//! Asking a running `hello` whether it is well.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// Shorter than any sensible timeout of a health check, so that the reason can still be told.
const PATIENCE: Duration = Duration::from_millis(1500);

/// Requests `/healthz` on this host; an error is the reason why it is not well.
pub(crate) fn check(port: u16) -> io::Result<()> {
    let mut stream =
        TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut status = [0; 12];
    stream.read_exact(&mut status)?;
    // Reading to the end lets the server close first.
    io::copy(&mut stream.take(64 * 1024), &mut io::sink())?;
    if &status == b"HTTP/1.1 200" {
        return Ok(());
    }
    Err(io::Error::other(format!("it answers {}", String::from_utf8_lossy(&status))))
}
