//! The bucket on a real S3 server: `moto_server`, found by `PYRRHA_MOTO_SERVER` or on the path.
//! Without one the test says so and passes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pyrrha_bucket::{Bucket, BucketManifestStore, BucketRuntime, Created, Operation, config};
use pyrrha_env::{Clock, SystemClock};
use pyrrha_model::TenantId;
use pyrrha_storage::block::{BlockId, BlockMeta};
use pyrrha_storage::manifest::{BlockEntry, Manifest, ManifestError};

/// A running S3 server with a bucket.
struct Moto {
    child: Child,
    address: String,
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Moto {
    fn start() -> Option<Self> {
        let named = std::env::var_os("PYRRHA_MOTO_SERVER").map(PathBuf::from);
        let on_path = || {
            let path = std::env::var_os("PATH")?;
            std::env::split_paths(&path).map(|dir| dir.join("moto_server")).find(|file| file.exists())
        };
        let Some(program) = named.or_else(on_path) else {
            println!("skipped: no moto_server; pip install 'moto[server]', or set PYRRHA_MOTO_SERVER");
            return None;
        };
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new(program)
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let moto = Self { child, address: format!("127.0.0.1:{port}") };
        let clock = SystemClock::new();
        while !moto.make_bucket() {
            assert!(clock.monotonic() < Duration::from_secs(60), "moto_server does not answer");
            clock.sleep(Duration::from_millis(100));
        }
        Some(moto)
    }

    fn make_bucket(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect(&self.address) else { return false };
        let request = format!(
            "PUT /metrics HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            self.address
        );
        let mut answer = String::new();
        stream.write_all(request.as_bytes()).is_ok()
            && stream.read_to_string(&mut answer).is_ok()
            && answer.starts_with("HTTP/1.1 200")
    }

    /// A connection of its own.
    fn bucket(&self) -> Bucket {
        let text = format!(
            "type: S3\nconfig:\n  bucket: metrics\n  endpoint: {}\n  insecure: true\n  access_key: k\n  \
             secret_key: s\nprefix: prod\n",
            self.address
        );
        config::open(&text).unwrap()
    }
}

fn id(n: u64) -> BlockId {
    BlockId::from_parts(n, 1)
}

fn entry(n: u64) -> BlockEntry {
    BlockEntry::of(&BlockMeta::of_head(id(n), n as i64, n as i64 + 1), 1000)
}

fn manifest(bucket: Bucket, runtime: &Arc<BucketRuntime>) -> Result<Manifest, ManifestError> {
    let store = BucketManifestStore::new(bucket, runtime.clone(), &TenantId::anonymous());
    Manifest::open(Arc::new(store), Arc::new(SystemClock::new()))
}

#[test]
fn a_real_s3_server_serves() {
    let Some(moto) = Moto::start() else { return };
    let runtime = Arc::new(BucketRuntime::start(2).unwrap());
    let bucket = moto.bucket();
    runtime
        .wait({
            let bucket = bucket.clone();
            async move {
                bucket.probe(id(1)).await?;
                let content = Bytes::from((0..40_000_000u32).map(|i| (i >> 9) as u8).collect::<Vec<u8>>());
                bucket.put("a/large", content.clone()).await?;
                assert_eq!(bucket.get_range("a/large", 39_999_990..50_000_000).await?, content[39_999_990..]);
                assert_eq!(bucket.get_range("a/large", 7..9).await?, content[7..9]);
                assert_eq!(bucket.head("a/large").await?.unwrap().bytes, 40_000_000);
                assert_eq!(bucket.get("a/none", 1).await?, None);
                assert_eq!(bucket.create("k", Bytes::from("1")).await?, Created::Created);
                assert_eq!(bucket.create("k", Bytes::from("2")).await?, Created::Exists);
                let keys = bucket.list("").await?.into_iter().map(|o| o.key).collect::<Vec<_>>();
                assert_eq!(keys, ["a/large", "k"]);
                assert_eq!(bucket.list_dirs("").await?, ["a"]);
                bucket.delete("a/large").await?;
                bucket.delete("a/large").await?;
                Ok(())
            }
        })
        .unwrap();
    // Four connections commit at once.
    std::thread::scope(|scope| {
        for writer in 0..4u64 {
            let (bucket, runtime) = (moto.bucket(), &runtime);
            scope.spawn(move || {
                let manifest = manifest(bucket, runtime).unwrap();
                for n in 0..5 {
                    let block = writer * 100 + n;
                    let gone = if n % 2 == 1 { vec![id(block - 1)] } else { Vec::new() };
                    manifest.commit(&[entry(block)], &gone).unwrap();
                }
            });
        }
    });
    let state = manifest(bucket.clone(), &runtime).unwrap().current();
    let expected: BTreeSet<BlockId> = (0..4).flat_map(|w| [1, 3, 4].map(|n| id(w * 100 + n))).collect();
    assert_eq!(state.blocks.keys().copied().collect::<BTreeSet<_>>(), expected);
    assert_eq!(state.number, 20);
    assert!(bucket.counters().attempts(Operation::List) <= 2 + 1);
}
