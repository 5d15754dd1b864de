//! Reads along what an HTTP/2 connection says, to notice that the other end does not speak it.
//!
//! The HTTP library ends such a connection by itself and tells nobody why. But it tells the other end: the last thing that it
//! writes is a GOAWAY frame with the reason.

/// What a client begins with.
pub(crate) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The type of a frame that ends the connection.
const GOAWAY: u8 = 7;

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

    use super::{PREFACE, Written};

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
    fn the_end_in_good_order_is_no_fault() {
        let bytes = [frame(4, b""), goaway(0), goaway(2)].concat();
        assert_eq!(read(Written::by_server(), &bytes, 7), None);
    }
}
