//! Buckets of tests: each body runs over one in a directory and over one of a real S3 server, `moto_server`.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

use pyrrha_bucket::{Bucket, BucketRuntime, config};
use pyrrha_testkit::object_stores::{MotoServer, directory_yml};

/// Makes tests of bodies that take a [`Fixture`](crate::bucket::Fixture), for either kind of bucket.
macro_rules! on_each_bucket {
    ($($body:ident)*) => {
        mod directory {
            $(#[test]
            fn $body() {
                super::$body(&$crate::bucket::Fixture::new($crate::place::Place::directory()));
            })*
        }
        mod s3 {
            $(#[test]
            fn $body() {
                if let Some(place) = $crate::place::Place::s3() {
                    super::$body(&$crate::bucket::Fixture::new(place));
                }
            })*
        }
    };
}
pub(crate) use on_each_bucket;

/// A directory for a test, and where its buckets are.
pub(crate) struct Place {
    home: tempfile::TempDir,
    /// The server, and what its keys of this test begin with; without one buckets are directories.
    server: Option<(Arc<MotoServer>, String)>,
}

/// The server that the tests of this process share; it ends with the last of them.
fn server() -> Option<Arc<MotoServer>> {
    static SHARED: Mutex<Weak<MotoServer>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap();
    if let Some(running) = shared.upgrade() {
        return Some(running);
    }
    let started = Arc::new(MotoServer::start()?);
    *shared = Arc::downgrade(&started);
    Some(started)
}

impl Place {
    /// With buckets in directories.
    pub(crate) fn directory() -> Self {
        Self { home: tempfile::tempdir().unwrap(), server: None }
    }

    /// With buckets on an S3 server; `None`, with a word, where there is none.
    pub(crate) fn s3() -> Option<Self> {
        static TESTS: AtomicU64 = AtomicU64::new(0);
        let prefix = format!("test-{}", TESTS.fetch_add(1, Ordering::Relaxed));
        Some(Self { home: tempfile::tempdir().unwrap(), server: Some((server()?, prefix)) })
    }

    /// Its directory.
    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// A bucket of that name, or the part of it under `prefix` ("" for all).
    pub(crate) fn bucket(&self, name: &str, prefix: &str) -> Objects {
        let yml = match &self.server {
            Some((server, test)) => server.yml(format!("{test}/{name}/{prefix}").trim_end_matches('/')),
            None => directory_yml(&self.home().join(name), prefix),
        };
        let file = self.home().join(format!("{name}.yml"));
        std::fs::write(&file, yml).unwrap();
        let bucket = config::open_file(&file).unwrap();
        Objects { file, bucket, runtime: Arc::new(BucketRuntime::start(2).unwrap()) }
    }
}

/// The objects of a bucket, for whoever looks at them behind the back of the binary.
pub(crate) struct Objects {
    file: PathBuf,
    pub(crate) bucket: Bucket,
    pub(crate) runtime: Arc<BucketRuntime>,
}

impl Objects {
    /// The flag that names the bucket to the binary.
    pub(crate) fn flag(&self, name: &str) -> String {
        format!("--{name}={}", self.file.display())
    }

    /// Keys under a directory ("" for all).
    pub(crate) fn keys(&self, dir: &str) -> Vec<String> {
        let (bucket, dir) = (self.bucket.clone(), dir.to_owned());
        let found = self.runtime.wait(async move { bucket.list(&dir).await }).unwrap();
        found.into_iter().map(|object| object.key).collect()
    }

    /// What an object holds, if there is one.
    pub(crate) fn get(&self, key: &str) -> Option<Vec<u8>> {
        let (bucket, key) = (self.bucket.clone(), key.to_owned());
        let found = self.runtime.wait(async move { bucket.get(&key, u64::MAX).await }).unwrap();
        found.map(|bytes| bytes.to_vec())
    }

    /// Whether there is an object.
    pub(crate) fn has(&self, key: &str) -> bool {
        let (bucket, key) = (self.bucket.clone(), key.to_owned());
        self.runtime.wait(async move { bucket.head(&key).await }).unwrap().is_some()
    }

    /// Writes an object.
    pub(crate) fn put(&self, key: &str, bytes: Vec<u8>) {
        let (bucket, key) = (self.bucket.clone(), key.to_owned());
        self.runtime.wait(async move { bucket.put(&key, bytes.into()).await }).unwrap();
    }

    /// Changes a byte of an object.
    pub(crate) fn flip(&self, key: &str, at: usize) {
        let mut bytes = self.get(key).unwrap();
        bytes[at] ^= 0x40;
        self.put(key, bytes);
    }

    /// Removes an object, or all under a directory.
    pub(crate) fn remove(&self, key: &str) {
        let mut keys = self.keys(key);
        if keys.is_empty() {
            keys.push(key.to_owned());
        }
        let bucket = self.bucket.clone();
        let remove = async move {
            for key in keys {
                bucket.delete(&key).await?;
            }
            Ok(())
        };
        self.runtime.wait(remove).unwrap();
    }
}
