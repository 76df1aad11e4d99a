//! Tests of the streams below HTTP: peers that neither speak nor listen.

use axum::extract::Path;
use axum::http::Uri;
use axum::routing::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::*;

const SHORT: Duration = Duration::from_millis(50);
const LONG: Duration = Duration::from_secs(60);
const GET: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

#[tokio::test]
async fn a_peer_that_takes_nothing_loses_the_connection() {
    let (ours, mut theirs) = tokio::io::duplex(1000);
    let mut ours = ImpatientStream::new(ours, SHORT, SHORT);
    ours.write_all(&[1; 1000]).await.expect("fits the peer's buffer");
    let mut taken = [0; 500];
    theirs.read_exact(&mut taken).await.expect("written");
    ours.write_all(&[1; 500]).await.expect("the peer took as much");
    let error = ours.write_all(&[1; 1]).await.expect_err("nobody reads");
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
}

#[tokio::test]
async fn a_peer_that_asks_for_nothing_loses_the_connection() {
    for said in ["", "P", "PRI * HTTP/2.0\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\n"] {
        let (ours, mut theirs) = tokio::io::duplex(1000);
        let mut ours = ImpatientStream::new(ours, SHORT, SHORT);
        theirs.write_all(said.as_bytes()).await.expect("room");
        let error = ours.read_to_end(&mut Vec::new()).await.expect_err(said);
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}

#[tokio::test]
async fn a_peer_that_has_asked_may_rest() {
    for said in ["GET / HTTP/1.1\r\nHost: x\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let (ours, mut theirs) = tokio::io::duplex(1000);
        theirs.write_all(said.as_bytes()).await.expect("room");
        let mut ours = ImpatientStream::new(ours, SHORT, SHORT);
        let mut read = vec![0; said.len()];
        ours.read_exact(&mut read).await.expect(said);
        let more = tokio::time::timeout(SHORT * 3, ours.read(&mut read)).await;
        assert!(more.is_err(), "{said}");
    }
}

/// A connection on which so much was said already.
async fn served(said: &str, patience: Patience) -> (DuplexStream, tokio::task::JoinHandle<()>) {
    let (ours, mut theirs) = tokio::io::duplex(1000);
    theirs.write_all(said.as_bytes()).await.expect("room");
    let router = Router::new().route("/", get(|| async { "here" }));
    let connection = connection(ours, Client([127, 0, 0, 1].into()), router, patience);
    (theirs, tokio::spawn(async move { drop(connection.await) }))
}

#[tokio::test]
async fn connections_end_when_nothing_is_said_on_them() {
    let short = Patience { first_head: SHORT, next_head: SHORT, ping: SHORT, write: LONG };
    for said in ["", "PRI * HTTP/2.0\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "GET / HTT", GET] {
        let (mut client, served) = served(said, short).await;
        client.read_to_end(&mut Vec::new()).await.expect("closed");
        served.await.expect("ends");
    }
}

#[tokio::test]
async fn a_client_may_rest_between_requests_longer_than_before_the_first() {
    let patience = Patience { first_head: SHORT, next_head: LONG, ping: LONG, write: LONG };
    let (mut client, served) = served(GET, patience).await;
    for _ in 0..2 {
        let mut answer = Vec::new();
        while !answer.ends_with(b"here") {
            answer.push(client.read_u8().await.expect("answered"));
        }
        tokio::time::sleep(SHORT * 3).await;
        client.write_all(GET.as_bytes()).await.expect("still open");
    }
    drop(client);
    served.await.expect("ends");
}

#[tokio::test]
async fn urls_may_have_raw_bytes_on_a_connection_that_goes_on() {
    let patience = Patience { first_head: LONG, next_head: LONG, ping: LONG, write: LONG };
    let (ours, mut client) = tokio::io::duplex(1000);
    let echo = |Path(path): Path<String>, uri: Uri, body: String| async move {
        format!("[{path}|{}|{body}]", uri.query().unwrap_or_default())
    };
    let router = Router::new().route("/{path}", get(echo).post(echo));
    let connection = connection(ours, Client([127, 0, 0, 1].into()), router, patience);
    let served = tokio::spawn(async move { drop(connection.await) });
    let cases: [(&[u8], &str); 4] = [
        (b"GET /<a>?q=up{job=\"x\"}#1 HTTP/1.1\r\nHost: x\r\n\r\n", "[<a>|q=up%7Bjob=%22x%22%7D%231|]"),
        (b"POST /b?\"{ HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nGET /\"> {", "[b|%22%7B|GET /\"> {]"),
        ("GET /ä?ä`\\^| HTTP/1.1\r\nHost: x\r\n\r\n".as_bytes(), "[ä|%C3%A4%60%5C%5E%7C|]"),
        (b"GET /c?\xff HTTP/1.1\r\nHost: x\r\n\r\n", "[c|%FF|]"),
    ];
    for (request, expected) in cases {
        client.write_all(request).await.expect("open");
        let mut answer = Vec::new();
        while !answer.ends_with(b"]") {
            answer.push(client.read_u8().await.expect("answered"));
        }
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with(expected), "{answer}");
    }
    drop(client);
    served.await.expect("ends");
}
