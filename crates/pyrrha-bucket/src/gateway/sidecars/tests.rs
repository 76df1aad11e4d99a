//! What lies beside blocks is answered from the bucket once the local store has let them go.

use std::path::Path;

use object_store::memory::InMemory;
use pyrrha_model::contract::Queryable;
use pyrrha_model::{ErrorKind, MatchOp, Matcher, MetricType};
use pyrrha_storage::block::{Block, BlockError, BlockMeta, BlockWriter};
use pyrrha_testkit::SimDisk;

use super::*;
use crate::door::Operation;
use crate::worlds::{RANGE, World, id, series};

fn exemplar(trace: &str, timestamp: i64) -> Exemplar {
    Exemplar { labels: Labels::from_pairs([("trace_id", trace)]), value: 0.5, timestamp }
}

fn described(help: &str) -> Metadata {
    Metadata { metric_type: MetricType::Counter, help: help.to_owned(), unit: String::new() }
}

/// Block `n`, with an exemplar each of two series, and metadata of a metric that all have and one of its own.
fn block(disk: &SimDisk, n: u64) -> Block {
    let meta = BlockMeta::of_head(id(n + 1), n as i64 * RANGE, (n as i64 + 1) * RANGE);
    let dir = Path::new("/local").join(meta.ulid.to_string());
    let mut writer = BlockWriter::create(std::sync::Arc::new(disk.clone()), &dir).expect("no fault");
    for (labels, chunks) in series(n, 2) {
        writer.add_series(&labels, &chunks).expect("in order");
        let at = n as i64 * RANGE + 60_000;
        if labels.get("instance") == Some("host-00001") {
            continue;
        }
        let of_series = Exemplars { series: labels, exemplars: vec![exemplar(&format!("t{n}"), at)] };
        writer.write_exemplars([Ok::<_, BlockError>(of_series)]).expect("no fault");
    }
    let (own, all) = (format!("own_{n}"), described(&format!("as of {n}")));
    writer.write_metadata([("metric_0", &all), (own.as_str(), &all)]).expect("no fault");
    writer.finish(meta).expect("no fault");
    Block::open(disk, &dir).expect("a sound block")
}

fn traces(found: &[Exemplars]) -> Vec<(String, i64)> {
    let each = found.iter().flat_map(|s| s.exemplars.iter());
    each.map(|e| (e.labels.get("trace_id").unwrap_or_default().to_owned(), e.timestamp)).collect()
}

fn helps(found: &BTreeMap<String, Vec<Metadata>>) -> Vec<(&str, &str)> {
    found.iter().map(|(name, all)| (name.as_str(), all[0].help.as_str())).collect()
}

#[test]
fn exemplars_and_metadata_are_answered_from_the_bucket() {
    let world = World::on(SimDisk::new(1), Arc::new(InMemory::new()), 8 << 20);
    let blocks: Vec<Block> = (0..3).map(|n| block(&world.disk, n)).collect();
    world.ship(&blocks).expect("no fault");
    let (ctx, remote) = (QueryContext::unlimited(), world.queryable([]));
    let metric = |name: &str| vec![Matcher::new(MatchOp::Equal, "__name__", name).expect("valid")];
    let ask = |matchers: Vec<Vec<Matcher>>, range| {
        traces(&remote.exemplars(&ctx, &LabelQuery::new(matchers, range)).expect("no fault"))
    };
    let all: Vec<(String, i64)> = (0..3).map(|n| (format!("t{n}"), n * RANGE + 60_000)).collect();
    assert_eq!(ask(vec![metric("metric_0")], TimeRange::ALL), all);
    assert_eq!(ask(vec![metric("metric_1")], TimeRange::ALL), []);
    assert_eq!(ask(vec![], TimeRange::new(RANGE, RANGE + 60_000)), all[1..2]);
    assert_eq!(ask(vec![], TimeRange::new(RANGE, RANGE + 59_999)), []);
    let found = remote.metadata(&ctx, None).expect("no fault");
    let expected =
        [("metric_0", "as of 2"), ("own_0", "as of 0"), ("own_1", "as of 1"), ("own_2", "as of 2")];
    assert_eq!(helps(&found), expected);
    assert_eq!(helps(&remote.metadata(&ctx, Some("own_1")).expect("no fault")), expected[2..3]);
    // Once more costs no request.
    let requests = || world.bucket.counters().attempts(Operation::GetRange);
    let before = requests();
    assert_eq!(ask(vec![], TimeRange::ALL), all);
    assert_eq!(helps(&remote.metadata(&ctx, None).expect("no fault")), expected);
    assert_eq!(requests(), before);
    // What the local store has is its own to answer.
    let beside = world.queryable([id(2)]);
    let left = beside.exemplars(&ctx, &LabelQuery::all(TimeRange::ALL)).expect("no fault");
    assert_eq!(traces(&left), [all[0].clone(), all[2].clone()]);
    assert_eq!(beside.metadata(&ctx, None).expect("no fault").len(), 3);
}

#[test]
fn what_is_damaged_is_an_error_of_exemplars_and_left_out_of_metadata() {
    let world = World::on(SimDisk::new(1), Arc::new(InMemory::new()), 0);
    world.ship(&(0..2).map(|n| block(&world.disk, n)).collect::<Vec<_>>()).expect("no fault");
    for name in [EXEMPLARS, METADATA] {
        let (bucket, key) = (world.bucket.clone(), format!("anonymous/{}/{name}", id(1)));
        world
            .runtime
            .wait(async move {
                let mut bytes = bucket.get(&key, 1 << 20).await?.expect("it is there").to_vec();
                bytes[14] ^= 0xff;
                bucket.put(&key, bytes.into()).await
            })
            .expect("no fault");
    }
    let (ctx, remote) = (QueryContext::unlimited(), world.queryable([]));
    let query = LabelQuery::all(TimeRange::ALL);
    let error = remote.exemplars(&ctx, &query).expect_err("damaged");
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains(&id(1).to_string()), "{error}");
    let partial = QueryContext { partial_response: true, ..QueryContext::unlimited() };
    let found = remote.exemplars(&partial, &query).expect("with a gap");
    assert_eq!(traces(&found), [("t1".to_owned(), RANGE + 60_000)]);
    let found = remote.metadata(&ctx, None).expect("metadata describes");
    assert_eq!(helps(&found), [("metric_0", "as of 1"), ("own_1", "as of 1")]);
}

#[test]
fn the_newest_blocks_alone_are_asked_for_metadata() {
    let entry = |n: u64| {
        let listed = serde_json::json!([{ "name": METADATA, "bytes": 9, "crc32c": 0 }]);
        let mut entry = BlockEntry::of(&BlockMeta::of_head(id(n), 0, n as i64), 9);
        entry.other.insert("files".to_owned(), listed);
        (entry.ulid, Arc::new(entry))
    };
    let mut state = ManifestState::default();
    state.blocks.extend((0..100).map(entry));
    let asked = newest_with_metadata(&state, |block| block.max_time == 98);
    assert_eq!(asked.len(), METADATA_BLOCKS);
    let expected: Vec<i64> = [99].into_iter().chain((0..98).rev()).take(METADATA_BLOCKS).collect();
    assert_eq!(asked.iter().map(|entry| entry.max_time).collect::<Vec<_>>(), expected);
}
