//! A connection to an S3 server on which things go wrong, by a seed. One request per connection.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use pyrrha_env::{Clock, SystemClock};
use pyrrha_testkit::SimRng;

/// Longest head of a request.
const HEAD_MAX: usize = 64 << 10;

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Fine,
    /// Answered with this status, nothing done.
    Refused(&'static str),
    /// Done, and the connection closed without an answer.
    LostReply,
    /// Done, and a part of the answer sent.
    CutReply,
    /// Nothing is done, and the connection closed after a while.
    TimedOut,
    /// Done late.
    Slow,
}

/// A proxy; it ends with the test's process.
pub(super) struct Proxy {
    pub(super) address: String,
    shared: Arc<Shared>,
}

struct Shared {
    to: String,
    seed: u64,
    /// Conditions are not passed on.
    forgets_conditions: bool,
    is_rough: AtomicBool,
    requests: AtomicU64,
    faults: AtomicU64,
    clock: SystemClock,
}

impl Proxy {
    /// One on which things go wrong.
    pub(super) fn rough(to: &str, seed: u64) -> Self {
        Self::start(to, seed, true, false)
    }

    /// One behind which a store seems to ignore conditions, as some do.
    pub(super) fn without_conditions(to: &str) -> Self {
        Self::start(to, 0, false, true)
    }

    fn start(to: &str, seed: u64, is_rough: bool, forgets_conditions: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let shared = Arc::new(Shared {
            to: to.to_owned(),
            seed,
            forgets_conditions,
            is_rough: AtomicBool::new(is_rough),
            requests: AtomicU64::new(0),
            faults: AtomicU64::new(0),
            clock: SystemClock::new(),
        });
        let serving = shared.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let shared = serving.clone();
                std::thread::spawn(move || {
                    let _ = shared.serve(client);
                });
            }
        });
        Self { address, shared }
    }

    /// From now on all goes well.
    pub(super) fn calm(&self) {
        self.shared.is_rough.store(false, Ordering::Relaxed);
    }

    /// Requests so far, and those of which something went wrong.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.shared.requests.load(Ordering::Relaxed), self.shared.faults.load(Ordering::Relaxed))
    }
}

impl Shared {
    fn serve(&self, mut client: TcpStream) -> io::Result<()> {
        let Some((head, body)) = read_request(&mut client)? else { return Ok(()) };
        let mut rng = SimRng::new(self.seed.wrapping_add(self.requests.fetch_add(1, Ordering::Relaxed)));
        let is_create = head.to_ascii_lowercase().contains("\r\nif-none-match:");
        let fate = if self.is_rough.load(Ordering::Relaxed) { fate(&mut rng, is_create) } else { Fate::Fine };
        if fate != Fate::Fine {
            self.faults.fetch_add(1, Ordering::Relaxed);
        }
        match fate {
            Fate::Refused(status) => {
                let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                return client.write_all(answer.as_bytes());
            }
            Fate::TimedOut => {
                self.clock.sleep(Duration::from_millis(1_500));
                return client.shutdown(Shutdown::Both);
            }
            Fate::Slow => self.clock.sleep(Duration::from_millis(100 + rng.below(900))),
            Fate::Fine | Fate::LostReply | Fate::CutReply => {}
        }
        let answer = self.forward(&head, &body)?;
        match fate {
            Fate::LostReply => client.shutdown(Shutdown::Both),
            Fate::CutReply => client.write_all(&answer[..answer.len() / 2]),
            _ => client.write_all(&answer),
        }
    }

    /// Asks the server, on a connection of its own, and gives the whole answer.
    fn forward(&self, head: &str, body: &[u8]) -> io::Result<Vec<u8>> {
        let mut server = TcpStream::connect(&self.to)?;
        let (line, rest) = head.split_once("\r\n").unwrap_or((head, ""));
        let lines = rest.split("\r\n").filter(|line| {
            let name = line.split(':').next().unwrap_or_default();
            let is_condition = name.eq_ignore_ascii_case("if-none-match");
            let is_left_out =
                name.eq_ignore_ascii_case("connection") || (is_condition && self.forgets_conditions);
            !is_left_out && !line.is_empty()
        });
        let mut asked = format!("{line}\r\nConnection: close\r\n");
        for line in lines {
            asked.push_str(line);
            asked.push_str("\r\n");
        }
        asked.push_str("\r\n");
        server.write_all(asked.as_bytes())?;
        server.write_all(body)?;
        let mut answer = Vec::new();
        server.read_to_end(&mut answer)?;
        Ok(answer)
    }
}

fn fate(rng: &mut SimRng, is_create: bool) -> Fate {
    match rng.below(100) {
        0..4 => Fate::Refused("503 Slow Down"),
        4..6 => Fate::Refused("500 Internal Server Error"),
        6..10 => Fate::LostReply,
        10..12 => Fate::CutReply,
        12 => Fate::TimedOut,
        13..19 => Fate::Slow,
        // As if another one were writing the same key, of which nothing comes.
        19..25 if is_create => Fate::Refused("409 Conflict"),
        25..28 if is_create => Fate::Refused("412 Precondition Failed"),
        _ => Fate::Fine,
    }
}

/// Head, with the empty line, and body; `None` if the client went away.
fn read_request(client: &mut TcpStream) -> io::Result<Option<(String, Vec<u8>)>> {
    let (mut read, mut buffer) = (Vec::new(), [0; 16 << 10]);
    let end = loop {
        if let Some(at) = read.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        let n = client.read(&mut buffer)?;
        if n == 0 || read.len() > HEAD_MAX {
            return Ok(None);
        }
        read.extend_from_slice(&buffer[..n]);
    };
    let body = read.split_off(end);
    let head = String::from_utf8_lossy(&read).into_owned();
    let length = head.to_ascii_lowercase();
    let length = length.split("\r\ncontent-length:").nth(1).and_then(|rest| rest.split("\r\n").next());
    let length: usize = length.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    let mut body = body;
    while body.len() < length {
        let n = client.read(&mut buffer)?;
        if n == 0 {
            return Ok(None);
        }
        body.extend_from_slice(&buffer[..n]);
    }
    Ok(Some((head, body)))
}
