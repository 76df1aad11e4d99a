//! Whether a client has sent the head of its first request.
//!
//! hyper waits for the head of a request with a timer, but not for the bytes by which it tells HTTP/1 from
//! HTTP/2.

/// With this a connection of HTTP/2 begins (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What has arrived of a first head.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct FirstHead {
    /// Bytes that are as the preface has them, as long as all are.
    preface: usize,
    /// Something else has arrived.
    is_other: bool,
    /// Bytes of the last line.
    line: usize,
    /// A line with something in it has arrived.
    has_line: bool,
    ended: bool,
}

impl FirstHead {
    /// Takes note of what arrived.
    pub(super) fn hear(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if self.is_complete() {
                return;
            }
            if !self.is_other && PREFACE.get(self.preface) == Some(byte) {
                self.preface += 1;
            } else {
                self.is_other = true;
            }
            match byte {
                b'\n' => {
                    // Empty lines before a request are passed over.
                    self.ended |= self.line == 0 && self.has_line;
                    self.has_line |= self.line > 0;
                    self.line = 0;
                }
                b'\r' => {}
                _ => self.line += 1,
            }
        }
    }

    /// Whether hyper's own timers run, or need not: the head is there, or the preface is.
    pub(super) fn is_complete(&self) -> bool {
        if self.is_other { self.ended } else { self.preface == PREFACE.len() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_ends_with_an_empty_line_and_the_preface_with_its_last_byte() {
        for (bytes, complete) in [
            (&b""[..], false),
            (b"G", false),
            (b"GET / HTTP/1.1\r\nHost: x\r\n", false),
            (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", true),
            (b"GET / HTTP/1.1\n\n", true),
            (b"\r\n\r\n", false),
            (b"\r\nGET / HTTP/1.1\r\n\r\nbody", true),
            (&PREFACE[..18], false),
            (&PREFACE[..23], false),
            (PREFACE, true),
            (b"PRI * HTTP/1.1\r\n\r\n", true),
        ] {
            let (mut whole, mut pieces) = (FirstHead::default(), FirstHead::default());
            whole.hear(bytes);
            bytes.chunks(1).for_each(|byte| pieces.hear(byte));
            assert_eq!((whole.is_complete(), pieces.is_complete()), (complete, complete), "{bytes:?}");
        }
    }
}
