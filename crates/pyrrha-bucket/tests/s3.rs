//! The bucket on real S3 servers: `moto_server`, found by `PYRRHA_MOTO_SERVER` or on the path, and another one that
//! `PYRRHA_S3_CONFIG` names, as `.ci/e2e/radosgw` does. Without them the tests say so and pass.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use pyrrha_bucket::attach::{AttachConfig, AttachedBucket, WithBuckets};
use pyrrha_bucket::tools::BucketTools;
use pyrrha_bucket::{
    Bucket, BucketManifestStore, BucketQueryable, BucketRuntime, BucketTenants, Created, Gateway,
    GatewayConfig, Operation, config,
};
use pyrrha_env::{Clock, Disk, SystemClock};
use pyrrha_model::contract::{LabelQuery, QueryContext, Queryable};
use pyrrha_model::{Labels, TenantId, TimeRange};
use pyrrha_storage::block::{BlockId, BlockMeta};
use pyrrha_storage::manifest::{BlockEntry, Manifest, ManifestError};
use pyrrha_storage::{Db, StorageConfig};
use pyrrha_testkit::SimDisk;
use pyrrha_testkit::foreign_bucket::{ForeignBlock, ForeignBucket};
use pyrrha_testkit::object_stores::{MotoServer, other_s3_yml};

/// A connection of its own.
fn connect(yml: &str) -> Bucket {
    config::open(yml).unwrap()
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
    let Some(moto) = MotoServer::start() else { return };
    serves(&moto.yml("prod"));
}

#[test]
fn another_s3_server_serves() {
    if let Some(yml) = other_s3_yml("serves") {
        serves(&yml);
    }
}

fn serves(yml: &str) {
    let runtime = Arc::new(BucketRuntime::start(2).unwrap());
    let bucket = connect(yml);
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
            let (bucket, runtime) = (connect(yml), &runtime);
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

#[test]
fn a_bucket_of_thanos_on_a_real_s3_server_is_attached_and_adopted() {
    let Some(moto) = MotoServer::start() else { return };
    is_attached_and_adopted(&moto.yml("prod"));
}

#[test]
fn a_bucket_of_thanos_on_another_s3_server_is_attached_and_adopted() {
    if let Some(yml) = other_s3_yml("adopted") {
        is_attached_and_adopted(&yml);
    }
}

fn is_attached_and_adopted(yml: &str) {
    let runtime = Arc::new(BucketRuntime::start(2).unwrap());
    let bucket = connect(yml);
    let mut foreign = ForeignBucket::default();
    for (n, cluster) in [(1, "eu"), (2, "us")] {
        let block = ForeignBlock::new(&id(n).to_string(), 0, 7_200_000, &[("cluster", cluster)]);
        foreign.add("", &block.with_floats(&[("__name__", "up")], &[(1000, 1.0), (2000, n as f64)]));
    }
    let (filled, objects) = (bucket.clone(), foreign.objects);
    let put = async move {
        for (key, bytes) in objects {
            filled.put(&key, bytes.into()).await?;
        }
        Ok(())
    };
    runtime.wait(put).unwrap();
    let (disk, clock): (Arc<dyn Disk>, Arc<dyn Clock>) =
        (Arc::new(SimDisk::new(1)), Arc::new(SystemClock::new()));
    let reading = |name: &str| GatewayConfig {
        cache_dir: name.into(),
        cache_bytes: 1 << 20,
        disk_bytes: 0,
        header_bytes: 1 << 20,
    };
    let config = AttachConfig::new(reading("/theirs"));
    let attached =
        AttachedBucket::new(connect(yml), runtime.clone(), disk.clone(), clock.clone(), config.clone());
    assert_eq!(attached.look().unwrap().added, 2);
    assert_eq!((attached.looks().done, attached.looks().failed), (1, 0));
    let sent = |bucket: &Bucket| {
        let writes = [Operation::Put, Operation::Create, Operation::Upload, Operation::Delete];
        writes.map(|operation| bucket.counters().attempts(operation)).iter().sum::<u64>()
    };
    let db = || {
        let db =
            Db::open_single_threaded(StorageConfig::new("/data"), Arc::new(SimDisk::new(2)), clock.clone());
        Arc::new(db.unwrap()).queryable()
    };
    let series = |from: &dyn Queryable| -> Vec<String> {
        let all = LabelQuery::all(TimeRange::ALL);
        let found = from.series(&QueryContext::unlimited(), &all).unwrap();
        found.iter().map(Labels::to_string).collect()
    };
    let attached = Arc::new(attached);
    let expected = [r#"up{cluster="eu"}"#, r#"up{cluster="us"}"#];
    assert_eq!(series(&WithBuckets::new(db(), vec![attached.clone()])), expected);
    assert_eq!(sent(attached.bucket()), 0, "nothing is written to an attached bucket");
    // Adopted, the same, with one object for the manifest and its hint.
    let tenants = Arc::new(BucketTenants::new(bucket.clone(), runtime.clone(), clock.clone()));
    let tools = BucketTools::new(tenants.clone(), runtime.clone(), disk.clone(), clock.clone());
    let before = sent(&bucket);
    let done = tools.adopt(&config, &[], false).unwrap();
    assert_eq!((done.tenants[0].blocks.len(), sent(&bucket) - before), (2, 2));
    let gateway = Arc::new(Gateway::new(tenants, runtime, disk, reading("/ours")));
    let listed = BucketQueryable::new(db(), Arc::new(|_| BTreeSet::new()), gateway);
    assert_eq!(series(&listed), expected);
}
