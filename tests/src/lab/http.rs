//! The smallest client of HTTP that can tell an answer from a failure.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

/// How long a whole request may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(2);
/// The longest answer.
const BYTES_MAX: u64 = 1 << 20;

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Its status.
    pub status: u16,
    /// Its text.
    pub body: String,
}

/// Asks once, on a connection of its own.
pub(crate) fn get(address: SocketAddr, path: &str, limit: Duration) -> Result<Page> {
    let begun = Instant::now();
    let mut stream = TcpStream::connect_timeout(&address, limit).context("no connection")?;
    let left = limit.checked_sub(begun.elapsed()).unwrap_or(Duration::from_millis(1));
    stream.set_read_timeout(Some(left))?;
    stream.set_write_timeout(Some(left))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).context("cannot send")?;
    let mut answer = Vec::new();
    stream.take(BYTES_MAX).read_to_end(&mut answer).context("cannot receive")?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").context("the answer breaks off")?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status: u16 = status.context("no status")?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    ensure!(length.is_none_or(|length| body.len() >= length), "the answer breaks off");
    Ok(Page { status, body: body.to_owned() })
}
