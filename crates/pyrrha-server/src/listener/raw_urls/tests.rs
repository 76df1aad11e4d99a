//! Connections in pieces of any size, beside what a simple encoder makes of them.

use std::collections::VecDeque;
use std::task::Waker;

use proptest::prelude::*;

use super::*;

/// A stream that gives these pieces, then ends.
struct Pieces(VecDeque<Vec<u8>>);

impl AsyncRead for Pieces {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(mut piece) = self.0.pop_front() else { return Poll::Ready(Ok(())) };
        let rest = piece.split_off(piece.len().min(buffer.remaining()));
        buffer.put_slice(&piece);
        if !rest.is_empty() {
            self.0.push_front(rest);
        }
        Poll::Ready(Ok(()))
    }
}

/// All that is read of `bytes`, which arrive in pieces of these sizes, by reads of these sizes.
fn read(bytes: &[u8], pieces: &[usize], reads: &[usize]) -> Vec<u8> {
    let (mut rest, mut queue) = (bytes, VecDeque::new());
    for size in pieces.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, after) = rest.split_at(rest.len().min(*size));
        queue.push_back(piece.to_vec());
        rest = after;
    }
    let (mut stream, mut all) = (RawUrls::new(Pieces(queue)), Vec::new());
    for size in reads.iter().cycle() {
        let mut space = vec![0; *size];
        let mut buffer = ReadBuf::new(&mut space);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(matches!(Pin::new(&mut stream).poll_read(&mut cx, &mut buffer), Poll::Ready(Ok(()))));
        if buffer.filled().is_empty() {
            break;
        }
        let most = reads.iter().max().map_or(0, |size| 3 * size);
        assert!(stream.encoded.len() <= most, "{} > {most}", stream.encoded.len());
        all.extend_from_slice(buffer.filled());
    }
    all
}

fn encoded(target: &[u8]) -> Vec<u8> {
    let is_raw = |b: u8| b >= 128 || br##""#<>\^`{|}"##.contains(&b);
    target.iter().flat_map(|b| if is_raw(*b) { format!("%{b:02X}").into_bytes() } else { vec![*b] }).collect()
}

/// A request, or something else, and what follows it.
#[derive(Debug, Clone)]
struct Said {
    before: &'static str,
    method: &'static str,
    target: Vec<u8>,
    /// From the space after the target to the end of the body.
    rest: Vec<u8>,
    /// Nothing after this one is looked at.
    is_last: bool,
}

fn said() -> impl Strategy<Value = Said> {
    let target = prop::collection::vec(
        prop_oneof![4 => b'a'..=b'z', 1 => Just(b'"'), 1 => prop::sample::select(br##"#<>\^`{|}%?&=/+;'~"##.to_vec()),
                    1 => 128u8..=255],
        1..40,
    );
    let body = "\"<GET /\"{} HTTP/1.1\r\n\r\n\r\n".repeat(9);
    let head = prop_oneof![
        6 => Just((String::new(), 0, false)),
        1 => Just(("content-length: 0\r\n".to_owned(), 0, false)),
        4 => (0..body.len(), prop::sample::select(vec!["Content-Length: ", "content-length:", "CONTENT-LENGTH:  "]))
            .prop_map(|(length, name)| (format!("{name}{length}\r\n"), length, false)),
        1 => Just(("Content-Length: 7\r\nContent-Length: 7 \r\n".to_owned(), 7, false)),
        1 => Just(("Transfer-Encoding: chunked\r\n".to_owned(), 40, true)),
        1 => Just(("Content-Length: x\r\n".to_owned(), 40, true)),
    ];
    let noise = prop::sample::select(vec![
        "",
        "Host: \"x\"\r\n",
        "Content-Lengths: 9\r\nX-Content-Length: 9\r\n",
        "Upgrade: h2c\r\nConnection: Upgrade\r\n",
        "A: 0123456789012345678901234567890123456789012345678901234567890123456789\r\n",
    ]);
    let method = prop::sample::select(vec!["GET", "POST", "DELETE"]);
    let before = prop::sample::select(vec!["", "", "", "\r\n", "\n\r\n"]);
    (before, method, target, noise, head, any::<bool>()).prop_map(
        move |(before, method, target, noise, (head, length, is_last), bare)| {
            let mut lines = format!(" HTTP/1.1\r\n{noise}{head}\r\n");
            if bare {
                lines = lines.replace("\r\n", "\n");
            }
            let rest = [lines.as_bytes(), &body.as_bytes()[..length]].concat();
            Said { before, method, target, rest, is_last }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn targets_are_encoded_and_nothing_else_is_touched(
        all in prop::collection::vec(said(), 1..6),
        pieces in prop::collection::vec(1usize..90, 1..8),
        reads in prop::collection::vec(1usize..90, 1..8),
    ) {
        let (mut sent, mut expected, mut ended) = (Vec::new(), Vec::new(), false);
        for one in &all {
            let head = [one.before, one.method, " "].concat();
            sent.extend([head.as_bytes(), &one.target, &one.rest].concat());
            let target = if ended { one.target.clone() } else { encoded(&one.target) };
            expected.extend([head.as_bytes(), &target, &one.rest].concat());
            ended |= one.is_last;
        }
        let found = read(&sent, &pieces, &reads);
        prop_assert_eq!(String::from_utf8_lossy(&found), String::from_utf8_lossy(&expected));
        prop_assert!(read(&sent, &[sent.len()], &[sent.len()]) == expected);
    }
}

#[test]
fn what_is_no_request_of_http_1_is_left_alone() {
    for said in [
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\"{GET /\"{ HTTP/1.1\r\n\r\n",
        "CONNECT a:1 HTTP/1.1\r\n\r\nGET /\"{ HTTP/1.1\r\n\r\n",
        "\u{16}\u{3}\u{1} \"{\"{ \r\n\r\n",
        "GET /\u{1}\"{ HTTP/1.1\r\n\r\nGET /\"{ HTTP/1.1\r\n\r\n",
        "\r\n\r\n",
        "",
    ] {
        for size in [1, 2, 100] {
            assert_eq!(String::from_utf8_lossy(&read(said.as_bytes(), &[size], &[100])), said);
        }
    }
}

#[test]
fn a_length_that_is_cut_off_is_not_trusted() {
    let long = format!("Content-Length:{}1{}\r\n\r\n", " ".repeat(47), "0".repeat(9));
    let said = format!("POST /\" HTTP/1.1\r\n{long}GET /\" HTTP/1.1\r\n\r\n");
    for size in [1, 30, 1000] {
        let read = read(said.as_bytes(), &[size], &[1000]);
        assert_eq!(String::from_utf8_lossy(&read), said.replacen('"', "%22", 1));
    }
}
