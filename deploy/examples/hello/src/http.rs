//! As much of HTTP/1.1 as a server needs that never looks at a body: requests are read whole, so that connections can be kept.

use std::io::{self, BufRead, ErrorKind, Read, Write};

/// The longest line of a request, and the most lines; beyond, the request is refused.
const LINE_LEN_MAX: u64 = 8 * 1024;
const LINES_MAX: usize = 100;

/// The longest body that is read for the sake of the connection.
const BODY_LEN_MAX: u64 = 16 * 1024 * 1024;

/// A request whose head was read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// `GET`, `HEAD`, …
    pub(crate) method: String,
    /// The path without the query.
    pub(crate) path: String,
    /// What follows the `?`; empty without one.
    pub(crate) query: String,
    /// Whether the client wants the connection to stay open.
    pub(crate) keeps: bool,
    body: Body,
    waits: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Body {
    Chunked,
    Sized(u64),
}

/// How much of a response is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Everything but the text, which a `HEAD` request asks for.
    Head,
    /// All of it.
    Whole,
}

/// What is sent back.
#[derive(Debug)]
pub(crate) struct Response {
    /// The number and its words.
    pub(crate) status: &'static str,
    /// The text.
    pub(crate) body: String,
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what.to_owned())
}

/// Reads the head of a request. An error of the kind `InvalidData` deserves an answer, any other does not.
pub(crate) fn read_head(from: &mut impl BufRead) -> io::Result<Request> {
    let first = line(from)?;
    let mut words = first.split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(malformed("a request has three words"));
    };
    if !version.starts_with("HTTP/1.") || method.is_empty() || target.is_empty() {
        return Err(malformed("not a request of HTTP/1"));
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut request = Request {
        method: method.to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        keeps: version != "HTTP/1.0",
        body: Body::Sized(0),
        waits: false,
    };
    for _ in 0..LINES_MAX {
        let header = line(from)?;
        if header.is_empty() {
            return Ok(request);
        }
        let (name, value) =
            header.split_once(':').ok_or_else(|| malformed("a header has a colon"))?;
        request.note(&name.to_ascii_lowercase(), value.trim())?;
    }
    Err(malformed("too many headers"))
}

impl Request {
    fn note(&mut self, name: &str, value: &str) -> io::Result<()> {
        match name {
            "connection" => {
                for option in value.split(',') {
                    match option.trim().to_ascii_lowercase().as_str() {
                        "close" => self.keeps = false,
                        "keep-alive" => self.keeps = true,
                        _ => {}
                    }
                }
            }
            "content-length" => {
                let len =
                    value.parse().map_err(|_digits| malformed("content-length is not a number"))?;
                // Where both are given, the chunks are what is really there.
                if self.body != Body::Chunked {
                    self.body = Body::Sized(len);
                }
            }
            "transfer-encoding" => self.body = Body::Chunked,
            "expect" => self.waits = value.eq_ignore_ascii_case("100-continue"),
            _ => {}
        }
        Ok(())
    }

    /// Reads the body and forgets it.
    pub(crate) fn skip_body(&self, from: &mut impl BufRead, to: &mut impl Write) -> io::Result<()> {
        if self.waits {
            to.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        match self.body {
            Body::Sized(len) => skip(from, len),
            Body::Chunked => skip_chunks(from),
        }
    }

    /// The number that the query gives to `key`.
    pub(crate) fn number(&self, key: &str) -> Option<u64> {
        let pairs = self.query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.filter(|(name, _)| *name == key).find_map(|(_, value)| value.parse().ok())
    }
}

impl Response {
    /// Writes the response, and says whether the connection `keeps` open after it.
    pub(crate) fn write(&self, to: &mut impl Write, keeps: bool, part: Part) -> io::Result<()> {
        let connection = if keeps { "keep-alive" } else { "close" };
        let mut message = format!(
            "HTTP/1.1 {}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nConnection: {connection}\r\n\r\n",
            self.status,
            self.body.len(),
        );
        if part == Part::Whole {
            message.push_str(&self.body);
        }
        to.write_all(message.as_bytes())?;
        to.flush()
    }
}

/// A line without its end.
fn line(from: &mut impl BufRead) -> io::Result<String> {
    let mut bytes = Vec::new();
    from.by_ref().take(LINE_LEN_MAX).read_until(b'\n', &mut bytes)?;
    if bytes.pop() != Some(b'\n') {
        let is_long =
            u64::try_from(bytes.len()).is_ok_and(|len| len.saturating_add(1) >= LINE_LEN_MAX);
        return Err(if is_long {
            malformed("a line is too long")
        } else {
            ErrorKind::UnexpectedEof.into()
        });
    }
    if bytes.last() == Some(&b'\r') {
        bytes.pop();
    }
    String::from_utf8(bytes).map_err(|_bytes| malformed("a line is not text"))
}

fn skip(from: &mut impl BufRead, len: u64) -> io::Result<()> {
    if len > BODY_LEN_MAX {
        return Err(malformed("the body is too long"));
    }
    let skipped = io::copy(&mut from.by_ref().take(len), &mut io::sink())?;
    if skipped == len { Ok(()) } else { Err(ErrorKind::UnexpectedEof.into()) }
}

fn skip_chunks(from: &mut impl BufRead) -> io::Result<()> {
    let mut total = 0_u64;
    loop {
        let head = line(from)?;
        let digits = head.split(';').next().unwrap_or_default().trim();
        let len = u64::from_str_radix(digits, 16)
            .map_err(|_digits| malformed("a chunk has no length"))?;
        total = total.saturating_add(len).saturating_add(1);
        if total > BODY_LEN_MAX {
            return Err(malformed("the body is too long"));
        }
        if len == 0 {
            break;
        }
        skip(from, len)?;
        line(from)?;
    }
    for _ in 0..LINES_MAX {
        if line(from)?.is_empty() {
            return Ok(());
        }
    }
    Err(malformed("too many trailers"))
}

#[cfg(test)]
mod tests {
    //! A request is read whole and not a byte more.

    use super::{Part, Response, read_head};

    #[test]
    fn two_requests_on_one_connection_are_told_apart() {
        let mut bytes: &[u8] = b"POST /a?ms=5&x=y HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc\
            PUT /b HTTP/1.1\r\ntransfer-encoding: chunked\r\nExpect: 100-continue\r\n\r\n3;x=1\r\nabc\r\n0\r\nT: v\r\n\r\n\
            GET /c HTTP/1.0\r\n\r\n";
        let mut sent = Vec::new();
        let first = read_head(&mut bytes).unwrap();
        assert_eq!(
            (first.path.as_str(), first.number("ms"), first.number("x")),
            ("/a", Some(5), None)
        );
        assert!(first.keeps);
        first.skip_body(&mut bytes, &mut sent).unwrap();
        assert!(sent.is_empty());
        let second = read_head(&mut bytes).unwrap();
        second.skip_body(&mut bytes, &mut sent).unwrap();
        assert_eq!(sent, b"HTTP/1.1 100 Continue\r\n\r\n");
        let third = read_head(&mut bytes).unwrap();
        assert_eq!(third.path, "/c");
        assert!(!third.keeps && bytes.is_empty());
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for bytes in [
            "GET /\r\n\r\n",
            "\x16\x03\x01\r\n",
            "GET / HTTP/2\r\n\r\n",
            "GET / HTTP/1.1\r\nno colon\r\n\r\n",
        ] {
            let error = read_head(&mut bytes.as_bytes()).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::InvalidData, "{bytes}");
        }
        let endless = "x".repeat(10_000);
        assert_eq!(
            read_head(&mut endless.as_bytes()).unwrap_err().kind(),
            std::io::ErrorKind::InvalidData
        );
        let long =
            read_head(&mut &b"POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n"[..]).unwrap();
        assert!(long.skip_body(&mut std::io::empty(), &mut std::io::sink()).is_err());
    }

    #[test]
    fn the_length_of_the_text_is_told_even_without_it() {
        let mut out = Vec::new();
        let response = Response { status: "200 OK", body: "abc".to_owned() };
        response.write(&mut out, false, Part::Head).unwrap();
        let out = String::from_utf8(out).unwrap();
        assert!(
            out.contains("Content-Length: 3\r\nConnection: close\r\n\r\n")
                && out.ends_with("\r\n\r\n")
        );
    }
}
