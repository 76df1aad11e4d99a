//! Bad input: a clear answer, unchanged state, a living process.

use std::io::{Read, Write};
use std::net::TcpStream;

use prost::Message;
use pyrrha_ingest::proto::v1;
use serde_json::json;

use crate::http;
use crate::process::{Server, directory, now_ms};
use crate::remote_write::{PROTOBUF, SNAPPY, body, compress, series};

const HOUR: i64 = 3_600_000;

/// Headers, body, expected status, part of the text.
type Case<'a> = (&'a [(&'a str, &'a str)], &'a [u8], u16, &'a str);

/// Stands in a request for two bytes that are not UTF-8.
const MARK: &str = "@@";

/// A request in which the mark is what it stands for.
fn body_with_bad_text(timeseries: Vec<v1::TimeSeries>) -> Vec<u8> {
    let mut bytes = v1::WriteRequest { timeseries, ..Default::default() }.encode_to_vec();
    while let Some(at) = bytes.windows(2).position(|two| two == MARK.as_bytes()) {
        bytes[at..at + 2].copy_from_slice(&[0xff, 0xfe]);
    }
    compress(&bytes)
}

/// Posts to the write endpoint; code and text.
fn post(server: &Server, headers: &[(&str, &str)], bytes: &[u8]) -> (u16, String) {
    let answer = http::request(&server.address, "POST", "/api/v1/write", headers, bytes).unwrap();
    (answer.status, answer.text())
}

#[test]
fn malformed_requests_change_nothing() {
    let (_guard, dir) = directory();
    let server = Server::start(&dir, &["--self-scrape=false", "--web.max-body-bytes=1MiB"]);
    let good = body(vec![series(&[("__name__", "m")], &[(now_ms(), 1.0)])]);
    let bomb = [0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0, 0];
    let zeros = compress(&vec![0; 2 << 20]);
    let unknown = ("Content-Type", "application/x-protobuf;proto=io.prometheus.write.v9.Request");
    let cases: [Case; 10] = [
        (&[("Content-Type", "application/json"), SNAPPY], b"{}", 415, "application/x-protobuf"),
        (&[("Content-Type", "image/png"), SNAPPY], &good, 415, "image/png"),
        (&[unknown, SNAPPY], &good, 415, "v9"),
        (&[PROTOBUF, ("Content-Encoding", "gzip")], &good, 415, "snappy"),
        (&[PROTOBUF, SNAPPY], b"this is no snappy", 400, "snappy"),
        (&[PROTOBUF, SNAPPY], &compress(b"\xff\xff\xff no protobuf"), 400, "prometheus.WriteRequest"),
        (&[PROTOBUF, SNAPPY], &good[..good.len() - 3], 400, "snappy"),
        (&[PROTOBUF, SNAPPY], &bomb, 413, "limit"),
        (&[PROTOBUF, SNAPPY], &zeros, 413, "limit"),
        (&[PROTOBUF, SNAPPY, ("Content-Length", "2000000")], b"", 413, "limit"),
    ];
    for (headers, bytes, code, part) in cases {
        let (got, text) = post(&server, headers, bytes);
        assert_eq!(got, code, "{headers:?}: {text}");
        assert!(text.contains(part), "{headers:?}: {text}");
    }
    assert_eq!(server.get("/api/v1/labels").json()["data"], json!([]), "nothing was stored");
    assert_eq!(post(&server, &[PROTOBUF, SNAPPY], &good).0, 204, "and the server lives");
}

#[test]
fn bad_series_hurt_only_themselves() {
    let (_guard, dir) = directory();
    let server = Server::start(&dir, &["--self-scrape=false"]);
    let now = now_ms();
    let one = [(now, 1.0)];
    let long = "v".repeat(100_000);
    let bad = [
        ("no name", series(&[("a", "b")], &one)),
        ("empty name", series(&[("__name__", "")], &one)),
        ("duplicate label", series(&[("__name__", "bad"), ("a", "1"), ("a", "2")], &one)),
        ("empty label name", series(&[("", "x"), ("__name__", "bad")], &one)),
        ("a value that is too long", series(&[("__name__", "bad"), ("a", &long)], &one)),
        ("too far in the future", series(&[("__name__", "good")], &[(now + 2 * HOUR, 1.0)])),
        ("the last of all times", series(&[("__name__", "good")], &[(i64::MAX, 1.0)])),
        ("not UTF-8", series(&[("__name__", "bad"), ("a", MARK)], &one)),
        ("a name that is not UTF-8", series(&[("__name__", "bad"), (MARK, "a")], &one)),
        ("no labels at all", series(&[], &one)),
    ];
    for (i, (what, bad)) in bad.into_iter().enumerate() {
        let t = now + i as i64;
        let request = body_with_bad_text(vec![bad, series(&[("__name__", "good")], &[(t, i as f64)])]);
        let answer = server.write("anonymous", &request).unwrap();
        assert_eq!(answer.status, 400, "{what}: {}", answer.text());
        assert!(answer.text().contains("samples=1"), "{what}: the rest is stored: {}", answer.text());
    }
    for past in [i64::MIN, i64::MIN + 1, 0, now - 400 * 24 * HOUR] {
        let answer = server.write("anonymous", &body(vec![series(&[("__name__", "good")], &[(past, 0.0)])]));
        let (code, text) = answer.map(|a| (a.status, a.text())).unwrap();
        assert!(code == 400 && text.contains("too old sample"), "{past}: {code} {text}");
    }
    let last = (now + 9) as f64 / 1000.0;
    assert_eq!(server.query("anonymous", "good", last)[0]["value"][1], "9");
    let names = server.get("/api/v1/label/__name__/values").json();
    assert_eq!(names["data"], json!(["good"]));
}

#[test]
fn order_and_duplicates_follow_the_rules() {
    let (_guard, dir) = directory();
    let server = Server::start(&dir, &["--self-scrape=false"]);
    let now = now_ms();
    let write = |t, v| {
        let answer = server.write("anonymous", &body(vec![series(&[("__name__", "m")], &[(t, v)])])).unwrap();
        (answer.status, answer.text())
    };
    assert_eq!(write(now, 1.0).0, 204);
    assert_eq!(write(now, 1.0).0, 204, "the same again is no error");
    let (code, text) = write(now, 2.0);
    assert!(code == 400 && text.contains("duplicate sample for timestamp"), "{code} {text}");
    assert_eq!(write(now - 1000, 1.0).0, 204, "out of order within the window");
    assert_eq!(write(now - 1000, 1.0).0, 204);
    let (code, text) = write(now - 1000, 2.0);
    assert!(code == 400 && text.contains("duplicate sample for timestamp"), "{code} {text}");
    let (code, text) = write(now - 3 * HOUR, 1.0);
    assert!(code == 400 && text.contains("too old sample"), "{code} {text}");
    // Unsorted labels are the same series.
    let labels = [("z", "1"), ("__name__", "n"), ("a", "1")];
    let sorted = [("__name__", "n"), ("a", "1"), ("z", "1")];
    for (labels, t) in [(labels, now), (sorted, now + 1)] {
        assert_eq!(server.write("anonymous", &body(vec![series(&labels, &[(t, 1.0)])])).unwrap().status, 204);
    }
    assert_eq!(server.get("/api/v1/series?match[]=n").json()["data"].as_array().unwrap().len(), 1);
}

#[test]
fn the_out_of_order_window_is_a_setting_also_of_a_tenant() {
    let (_guard, dir) = directory();
    let file = dir.with_file_name("pyrrha.yml");
    std::fs::write(&file, "limits:\n  wide: {out_of_order_window: 1d}\n").unwrap();
    let config = format!("--config.file={}", file.display());
    let server = Server::start(&dir, &["--self-scrape=false", "--storage.out-of-order-window=0s", &config]);
    let now = now_ms();
    let write = |tenant, t| {
        let answer = server.write(tenant, &body(vec![series(&[("__name__", "m")], &[(t, 1.0)])])).unwrap();
        (answer.status, answer.text())
    };
    for tenant in ["anonymous", "wide"] {
        assert_eq!(write(tenant, now).0, 204);
    }
    let (code, text) = write("anonymous", now - 1000);
    assert!(code == 400 && text.contains("out of order sample"), "{code} {text}");
    assert_eq!(write("wide", now - 23 * HOUR).0, 204);
    let (code, text) = write("wide", now - 25 * HOUR);
    assert!(code == 400 && text.contains("too old sample"), "{code} {text}");
}

#[test]
fn samples_out_of_order_are_answered_in_order_also_after_a_kill() {
    let (_guard, dir) = directory();
    let mut server = Server::start(&dir, &["--self-scrape=false"]);
    let last = now_ms() / 1000 * 1000;
    // Every second, first the even ones; then the odd ones, newest first.
    let even: Vec<(i64, f64)> = (0..200).map(|k| (last - 400_000 + k * 2000, k as f64 * 2.0)).collect();
    let odd: Vec<(i64, f64)> = even[..199].iter().map(|(t, v)| (t + 1000, v + 1.0)).rev().collect();
    let m = |samples: &[(i64, f64)]| series(&[("__name__", "m"), ("job", "late")], samples);
    assert_eq!(server.write("anonymous", &body(vec![m(&even)])).unwrap().status, 204);
    for part in odd.chunks(50) {
        assert_eq!(server.write("anonymous", &body(vec![m(part)])).unwrap().status, 204);
    }
    for when in ["at once", "after a kill"] {
        let time = last as f64 / 1000.0;
        let rows = server.query("anonymous", "m[10m]", time);
        let values: Vec<f64> = rows[0]["values"]
            .as_array()
            .unwrap()
            .iter()
            .map(|pair| pair[1].as_str().unwrap().parse().unwrap())
            .collect();
        assert_eq!(values, (0..399).map(f64::from).collect::<Vec<_>>(), "{when}");
        let rate = server.query("anonymous", "resets(m[10m]) + count_over_time(m[10m])", time);
        assert_eq!(rate[0]["value"][1], "399", "{when}");
        if when == "at once" {
            let metrics = server.get("/metrics").text();
            assert!(metrics.contains("pyrrha_head_out_of_order_samples_appended_total 199"), "{metrics}");
            server.kill();
            server = Server::start(&dir, &["--self-scrape=false"]);
        }
    }
}

#[test]
fn an_empty_database_accepts_the_past() {
    let (_guard, dir) = directory();
    let server = Server::start(&dir, &["--self-scrape=false"]);
    let past = now_ms() - 400 * 24 * HOUR;
    let request = body(vec![series(&[("__name__", "old")], &[(past, 7.0)])]);
    assert_eq!(server.write("anonymous", &request).unwrap().status, 204);
    assert_eq!(server.query("anonymous", "old", past as f64 / 1000.0)[0]["value"][1], "7");
}

#[test]
fn broken_http_is_survived() {
    let (_guard, dir) = directory();
    let server = Server::start(&dir, &["--self-scrape=false"]);
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00"[..],
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /api/v1/write HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nshort",
    ] {
        let mut stream = TcpStream::connect(&server.address).unwrap();
        stream.write_all(bytes).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
    }
    for path in ["/nothing", "/api/v1/nothing", "/%2e%2e/%2e%2e/etc/passwd"] {
        assert_eq!(server.get(path).status, 404, "{path}");
    }
    let deep = format!("/api/v1/query?query={}1", "(".repeat(50_000));
    let answer = server.get(&deep);
    assert!((400..500).contains(&answer.status), "{}", answer.status);
    let form = format!("query={}1{}", "-(".repeat(100_000), ")".repeat(100_000));
    let headers = [("Content-Type", "application/x-www-form-urlencoded")];
    let answer = http::request(&server.address, "POST", "/api/v1/query", &headers, form.as_bytes()).unwrap();
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert_eq!(server.get("/-/healthy").status, 200);
}
