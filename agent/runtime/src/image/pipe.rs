//! Between asynchronous channels and the blocking readers of this module.

use std::io::{self, Read};

use bytes::{Buf, Bytes};
use tokio::sync::mpsc;

use super::digest::BUFFER_LEN;

/// Reads the pieces that arrive on a channel as one stream; blocks until there is one.
#[derive(Debug)]
pub(super) struct Pieces {
    receiver: mpsc::Receiver<Bytes>,
    current: Bytes,
}

impl Pieces {
    /// Reads from `receiver`. Not from within an asynchronous task.
    pub(super) const fn new(receiver: mpsc::Receiver<Bytes>) -> Self {
        Self { receiver, current: Bytes::new() }
    }
}

impl Read for Pieces {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.receiver.blocking_recv() {
                Some(piece) => self.current = piece,
                None => return Ok(0),
            }
        }
        let n = self.current.as_ref().read(buf)?;
        self.current.advance(n);
        Ok(n)
    }
}

/// Sends what `from` gives, piece by piece, until it ends or nobody listens any more. Returns whether it was read to its end.
pub(super) fn send(mut from: impl Read, to: &mpsc::Sender<Bytes>) -> io::Result<bool> {
    let mut buffer = vec![0; BUFFER_LEN];
    loop {
        let n = from.read(&mut buffer)?;
        let piece = Bytes::copy_from_slice(buffer.get(..n).unwrap_or_default());
        if piece.is_empty() {
            return Ok(true);
        }
        if to.blocking_send(piece).is_err() {
            return Ok(false);
        }
    }
}
