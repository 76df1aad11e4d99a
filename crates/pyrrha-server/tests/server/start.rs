//! Starting and stopping: one clear line when it cannot be, exit code 0 when it could.

use std::process::Output;

use crate::process::{Server, directory, pyrrha};

fn refused(args: &[&str]) -> String {
    let Output { status, stderr, .. } = pyrrha(args).output().unwrap();
    let text = String::from_utf8_lossy(&stderr).trim().to_owned();
    assert_eq!(status.code(), Some(1), "{text}");
    assert_eq!(text.lines().count(), 1, "one line: {text}");
    text
}

#[test]
fn a_signal_stops_it_well_and_data_stays() {
    let (_guard, dir) = directory();
    let server = Server::start(&dir, &[]);
    // Its own metrics are there from the first second on.
    for _ in 0..200 {
        if server.get("/api/v1/query?query=pyrrha_build_info").text().contains("version") {
            break;
        }
        pyrrha_env::Clock::sleep(&pyrrha_env::SystemClock::new(), std::time::Duration::from_millis(10));
    }
    let up = server.get("/api/v1/query?query=up").json();
    assert_eq!(up["data"]["result"][0]["metric"]["job"], "pyrrha", "{up}");
    assert_eq!(server.stop().code(), Some(0));
    let again = Server::start(&dir, &["--self-scrape=false"]);
    let up = again.get("/api/v1/query?query=up").json();
    assert_eq!(up["data"]["result"][0]["value"][1], "1", "{up}");
    assert_eq!(again.stop_by("-INT").code(), Some(0), "Ctrl-C does it too");
}

#[test]
fn a_port_in_use_is_said() {
    let (_guard, dir) = directory();
    let server = Server::start(&dir, &["--self-scrape=false"]);
    let text = refused(&[
        "server",
        &format!("--storage.path={}-other", dir.display()),
        &format!("--web.listen-address={}", server.address),
    ]);
    assert!(text.contains("cannot listen") && text.contains(&server.address.to_string()), "{text}");
}

#[test]
fn a_directory_in_use_is_said() {
    let (_guard, dir) = directory();
    let server = Server::start(&dir, &["--self-scrape=false"]);
    let text = refused(&[
        "server",
        &format!("--storage.path={}", dir.display()),
        "--web.listen-address=127.0.0.1:0",
    ]);
    assert!(text.contains("in use by another process"), "{text}");
    assert_eq!(server.get("/-/ready").status, 200, "the first one lives on");
}

#[test]
fn a_directory_that_is_none_of_ours_is_left_alone() {
    let (guard, dir) = directory();
    let at = |path: &std::path::Path| {
        refused(&[
            "server",
            &format!("--storage.path={}", path.display()),
            "--web.listen-address=127.0.0.1:0",
        ])
    };
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("VERSION"), "99\n").unwrap();
    let text = at(&dir);
    assert!(text.contains("version") && text.contains("99"), "{text}");
    assert_eq!(std::fs::read_to_string(dir.join("VERSION")).unwrap(), "99\n");

    let file = guard.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let text = at(&file);
    assert!(text.contains("file"), "{text}");
}

#[test]
fn settings_that_make_no_sense_are_said() {
    let (guard, _) = directory();
    let config = guard.path().join("pyrrha.yml");
    std::fs::write(&config, "web:\n  listen_adress: x\n").unwrap();
    let text = refused(&["server", &format!("--config.file={}", config.display())]);
    assert!(text.contains("line=2") && text.contains("listen_adress"), "{text}");
    let text = refused(&["server", "--query.timeout=soon"]);
    assert!(text.contains("query.timeout"), "{text}");
    let text = refused(&["server", "--config.file=/nowhere/at/all.yml"]);
    assert!(text.contains("/nowhere/at/all.yml"), "{text}");
}

#[test]
fn scripts_pass_or_fail_with_their_place() {
    let (guard, _) = directory();
    let script = guard.path().join("a.test");
    std::fs::write(&script, "load 1m\n  m 1 2 3\n\neval instant at 1m m\n  m 2\n").unwrap();
    let path = script.display().to_string();
    let good = pyrrha(&["promql", "test", &path]).output().unwrap();
    let text = String::from_utf8_lossy(&good.stdout).into_owned();
    assert_eq!((good.status.code(), text.contains("total: 1 passed, 0 failed")), (Some(0), true), "{text}");
    std::fs::write(&script, "load 1m\n  m 1 2 3\n\neval instant at 1m m\n  m 3\n").unwrap();
    let bad = pyrrha(&["promql", "test", "--json", &path]).output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&bad.stdout).unwrap();
    assert_eq!(bad.status.code(), Some(1));
    assert_eq!(report["failed"], 1);
    assert_eq!(report["files"][0]["failures"][0]["line"], 4, "{report}");
    std::fs::write(&script, "lode 1m\n").unwrap();
    let bad = pyrrha(&["promql", "test", &path]).output().unwrap();
    let text = String::from_utf8_lossy(&bad.stdout).into_owned();
    assert_eq!((bad.status.code(), text.contains("total: 0 passed, 1 failed")), (Some(1), true), "{text}");
    let deep = vec!["1"; 2000].join(" + ");
    for command in ["format", "parse"] {
        let printed = pyrrha(&["promql", command, &deep]).output().unwrap();
        assert!(printed.status.success() && printed.stdout.len() > deep.len(), "{command}");
    }
}
