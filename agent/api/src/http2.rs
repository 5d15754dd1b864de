//! Reads along what an HTTP/2 connection says, to notice that the other end does not speak it, or asks for too much.
//!
//! The HTTP library ends such a connection by itself and tells nobody why. But it tells the other end: the last thing that it
//! writes is a GOAWAY frame with the reason.

/// What a client begins with.
pub(crate) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The type of a frame that begins a call.
const HEADERS: u8 = 1;

/// The type of a frame that ends the connection.
const GOAWAY: u8 = 7;

/// How many bytes say how long a frame is and of which type.
const HEAD_LEN: usize = 9;

/// What this side writes, frame by frame.
#[derive(Debug, Default)]
pub(crate) struct Written {
    /// Bytes that are no part of what is looked at.
    skip: usize,
    /// The beginning of a frame: nine bytes say how long it is and of which type; of a GOAWAY the next eight say why.
    head: Vec<u8>,
}

impl Written {
    /// What a server writes.
    pub(crate) fn by_server() -> Self {
        Self::default()
    }

    /// What a client writes.
    pub(crate) fn by_client() -> Self {
        Self { skip: PREFACE.len(), ..Self::default() }
    }

    /// Reads what was written next. Says which fault of the other end ended the connection, if one did.
    pub(crate) fn read(&mut self, mut bytes: &[u8]) -> Option<&'static str> {
        let mut found = None;
        while let Some((byte, rest)) = bytes.split_first() {
            if self.skip > 0 {
                let skipped = self.skip.min(bytes.len());
                self.skip = self.skip.saturating_sub(skipped);
                bytes = bytes.get(skipped..).unwrap_or_default();
                continue;
            }
            self.head.push(*byte);
            bytes = rest;
            match *self.head.as_slice() {
                [a, b, c, GOAWAY, .., e, f, g, h] if self.head.len() == 17 => {
                    found = found.or_else(|| fault(u32::from_be_bytes([e, f, g, h])));
                    self.next(length([a, b, c]).saturating_sub(8));
                }
                [a, b, c, kind, ..] if kind != GOAWAY && self.head.len() == 9 => {
                    self.next(length([a, b, c]));
                }
                _ => {}
            }
        }
        found
    }

    fn next(&mut self, skip: usize) {
        self.skip = skip;
        self.head.clear();
    }
}

/// What a client writes, as far as it begins calls.
#[derive(Debug)]
pub(crate) struct Calls {
    /// Bytes that are no part of what is looked at.
    skip: usize,
    head: Vec<u8>,
    has_left: bool,
}

impl Default for Calls {
    fn default() -> Self {
        Self { skip: PREFACE.len(), head: Vec::with_capacity(HEAD_LEN), has_left: false }
    }
}

impl Calls {
    /// Whether the client said that it ends the connection.
    pub(crate) const fn has_left(&self) -> bool {
        self.has_left
    }

    /// Reads what was written next. Returns how many calls that began.
    pub(crate) fn read(&mut self, mut bytes: &[u8]) -> usize {
        let mut n_begun = 0_usize;
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len());
            self.skip = self.skip.saturating_sub(skipped);
            bytes = bytes.get(skipped..).unwrap_or_default();
            let missing = HEAD_LEN.saturating_sub(self.head.len()).min(bytes.len());
            let (head, rest) = bytes.split_at_checked(missing).unwrap_or_default();
            self.head.extend_from_slice(head);
            bytes = rest;
            if let [a, b, c, kind, _, _, _, _, _] = *self.head.as_slice() {
                n_begun = n_begun.saturating_add(usize::from(kind == HEADERS));
                self.has_left |= kind == GOAWAY;
                self.skip = length([a, b, c]);
                self.head.clear();
            }
        }
        n_begun
    }
}

fn length([a, b, c]: [u8; 3]) -> usize {
    usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap_or(usize::MAX)
}

/// What the reason of a GOAWAY says about the other end; `None` when it is not at fault.
const fn fault(code: u32) -> Option<&'static str> {
    match code {
        1 => Some("it breaks the rules of HTTP/2"),
        3 => Some("it sends more than it was allowed to"),
        5 => Some("it goes on in a stream that has ended"),
        6 => Some("a frame has an impossible length"),
        9 => Some("its headers cannot be decompressed"),
        11 => Some("it keeps this agent busy with nothing"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    //! However the bytes are cut, the reason is found, and only there.

    use super::{Calls, PREFACE, Written};

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, 0, 0, 0, 0, 0], payload].concat()
    }

    fn goaway(code: u32) -> Vec<u8> {
        frame(7, &[&[0, 0, 0, 9], &code.to_be_bytes()[..], b"why"].concat())
    }

    fn read(mut written: Written, bytes: &[u8], cut: usize) -> Option<&'static str> {
        bytes.chunks(cut).filter_map(|chunk| written.read(chunk)).last()
    }

    #[test]
    fn a_goaway_for_a_fault_is_found_wherever_it_is_cut() {
        // What looks like a GOAWAY inside of data is none.
        let data = frame(0, &goaway(6));
        let bytes = [frame(4, b"settings"), data, goaway(1), frame(6, b"12345678")].concat();
        for cut in 1..=bytes.len() {
            let found = read(Written::by_server(), &bytes, cut);
            assert_eq!(found, Some("it breaks the rules of HTTP/2"), "{cut}");
            let after = [PREFACE.as_slice(), &bytes].concat();
            assert_eq!(read(Written::by_client(), &after, cut), found, "{cut}");
        }
    }

    #[test]
    fn calls_are_counted_wherever_the_bytes_are_cut() {
        let frames = [frame(4, b""), frame(1, b"get"), frame(0, &frame(1, b"")), frame(1, b"")];
        let bytes = [PREFACE.as_slice(), &frames.concat()].concat();
        for cut in 1..=bytes.len() {
            let mut calls = Calls::default();
            let n_begun: usize = bytes.chunks(cut).map(|chunk| calls.read(chunk)).sum();
            assert_eq!((n_begun, calls.has_left()), (2, false), "{cut}");
            calls.read(&goaway(0));
            assert!(calls.has_left());
        }
    }

    #[test]
    fn the_end_in_good_order_is_no_fault() {
        let bytes = [frame(4, b""), goaway(0), goaway(2)].concat();
        assert_eq!(read(Written::by_server(), &bytes, 7), None);
    }
}
