//! Starts the reference.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::process::{Server, free_address};

/// A Prometheus that scrapes nothing and receives remote writes; `None` if there is none. It is the one that
/// `PYRRHA_DIFFERENTIAL_PROMETHEUS` names, else that on the PATH.
pub(crate) fn prometheus(dir: &Path) -> Option<Server> {
    let program = std::env::var("PYRRHA_DIFFERENTIAL_PROMETHEUS").unwrap_or_else(|_| "prometheus".to_owned());
    Command::new(&program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().ok()?;
    let (address, config) = (free_address(), dir.join("prometheus.yml"));
    std::fs::write(&config, "global: {}\n").expect("writable");
    let child = Command::new(&program)
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.tsdb.path={}", dir.join("prometheus").display()))
        .arg(format!("--web.listen-address={address}"))
        .args(["--web.enable-remote-write-receiver", "--log.level=error"])
        // The data is years old.
        .arg("--storage.tsdb.retention.time=100y")
        .spawn()
        .expect("prometheus starts");
    Some(Server::wait_for(child, &address))
}
