//! Finds the bytes of request lines that a URL may not have as they are, in whatever pieces they arrive.
//!
//! Go's server, and so Prometheus', takes them, and Prometheus' own documentation has them in examples:
//! `…/delete_series?match[]=m{job="prometheus"}`. `http::Uri` refuses some of them and cuts what follows a `#`.

/// Bytes that are looked at of a method or a header; no name that matters here is as long.
const HELD: usize = 64;

/// Bytes of a target that are to be percent-encoded: what RFC 3986 allows nowhere in it, and `#`, which no
/// client means to send. Control characters and spaces are not among them: with those it is no request line.
const ESCAPED: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = byte >= 0x80
            || matches!(byte as u8, b'"' | b'#' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}');
        byte += 1;
    }
    table
};

/// Follows the requests of a connection, as far as that is certain.
#[derive(Debug)]
pub(super) struct RequestLines {
    part: Part,
    /// The beginning of a method or a line, if it did not arrive as a whole.
    held: Vec<u8>,
    /// What the head that is read says of its body.
    body: Body,
}

/// What the next byte is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// The method, or empty lines before it.
    Method,
    /// The target of the request.
    Target,
    /// What follows the target in its line.
    Version,
    /// A line of the head.
    Header,
    /// A body that goes on for so many bytes.
    Body(u64),
    /// Anything: nothing more is looked at.
    Unknown,
}

/// How long a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Body {
    Bytes(u64),
    /// In chunks, or in a way that hyper will refuse.
    Unknown,
}

impl RequestLines {
    /// Before the first byte of a connection.
    pub(super) fn new() -> Self {
        Self { part: Part::Method, held: Vec::new(), body: Body::Bytes(0) }
    }

    /// Reads what arrived up to the first byte that is to be encoded, and tells where that is; of the bytes
    /// after that one nothing is known yet. Without such a byte it has read all.
    pub(super) fn next_escaped(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let used = match self.part {
                Part::Method => self.method(rest),
                Part::Target => {
                    let end = rest.iter().position(|b| *b <= b' ' || ESCAPED[usize::from(*b)])?;
                    rest = &rest[end..];
                    match rest[0] {
                        b' ' => self.part = Part::Version,
                        0..b' ' => self.part = Part::Unknown,
                        _ => return Some(bytes.len() - rest.len()),
                    }
                    1
                }
                Part::Version => {
                    let end = line_end(rest)?;
                    (self.part, self.body) = (Part::Header, Body::Bytes(0));
                    end + 1
                }
                Part::Header => self.header(rest),
                Part::Body(missing) => {
                    let used = missing.min(rest.len() as u64);
                    self.part = if used == missing { Part::Method } else { Part::Body(missing - used) };
                    used as usize
                }
                Part::Unknown => return None,
            };
            rest = &rest[used..];
        }
        None
    }

    /// Reads up to the space after the method, and tells how many bytes that are.
    fn method(&mut self, bytes: &[u8]) -> usize {
        if self.held.is_empty() && matches!(bytes[0], b'\r' | b'\n') {
            return 1;
        }
        let Some(end) = bytes.iter().position(|b| *b <= b' ') else {
            self.hold(bytes);
            return bytes.len();
        };
        self.hold(&bytes[..end]);
        self.part = match (bytes[end], self.held.as_slice()) {
            // The preface of HTTP/2, and what makes a tunnel.
            (_, b"PRI" | b"CONNECT") => Part::Unknown,
            (b' ', _) => Part::Target,
            _ => Part::Unknown,
        };
        self.held.clear();
        end + 1
    }

    /// Reads up to the end of a line of a head, and tells how many bytes that are.
    fn header(&mut self, bytes: &[u8]) -> usize {
        let Some(end) = line_end(bytes) else {
            self.hold(bytes);
            return bytes.len();
        };
        if self.held.is_empty() {
            self.line(&bytes[..end]);
        } else {
            self.hold(&bytes[..end]);
            let line = std::mem::take(&mut self.held);
            self.line(&line);
            self.held = line;
            self.held.clear();
        }
        end + 1
    }

    /// Takes a line of a head, of which as much is there as is held of one.
    fn line(&mut self, line: &[u8]) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            self.part = match self.body {
                Body::Bytes(0) => Part::Method,
                Body::Bytes(bytes) => Part::Body(bytes),
                Body::Unknown => Part::Unknown,
            };
            return;
        }
        let Some(colon) = line.iter().take(HELD).position(|b| *b == b':') else { return };
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.body = Body::Unknown;
        } else if name.eq_ignore_ascii_case(b"content-length") {
            // What is cut off might be more digits.
            let length = if line.len() < HELD { length(value) } else { None };
            self.body = match (self.body, length) {
                (Body::Bytes(before), Some(bytes)) if before == 0 || before == bytes => Body::Bytes(bytes),
                _ => Body::Unknown,
            };
        }
    }

    /// Keeps the beginning of something.
    fn hold(&mut self, bytes: &[u8]) {
        let room = HELD.saturating_sub(self.held.len());
        self.held.extend_from_slice(&bytes[..room.min(bytes.len())]);
    }
}

fn line_end(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|b| *b == b'\n')
}

/// The value of a `Content-Length`.
fn length(value: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(value).ok()?.trim_matches([' ', '\t']);
    if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok() } else { None }
}
