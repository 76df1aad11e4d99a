//! Native histograms that a database took, cut, merged with late ones, compacted and deleted in part, as
//! Prometheus shows them over the same blocks.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pyrrha_encoding::{SeriesSamples, Want, decode_series};
use pyrrha_env::OsDisk;
use pyrrha_model::contract::{Deletes, Ingest, QueryContext, SelectHints, SeriesBatch, Value};
use pyrrha_model::{CounterResetHint, FloatHistogram, Histogram, Labels, Matcher, TenantId, TimeRange};
use pyrrha_storage::{Db, StorageConfig};
use pyrrha_testkit::SimClock;

use crate::server::{Server, bucket_counts};
use crate::{block_dirs, histogram};

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
/// A multiple of a day.
const START: i64 = 19_675 * 24 * HOUR;
const HOURS: i64 = 30;

/// What is there at a place: bits of a float; or bits of count, sum and counts of buckets.
#[derive(Debug, Clone, PartialEq)]
enum Shown {
    Float(u64),
    Histogram(Vec<u64>),
}

type All = BTreeMap<(String, i64), Shown>;

fn shown(h: &FloatHistogram) -> Shown {
    let numbers = [h.count, h.sum].into_iter().chain(bucket_counts(h));
    Shown::Histogram(numbers.map(f64::to_bits).collect())
}

fn value(name: &str, minute: i64) -> Value {
    // Grows, and starts anew every seven hours.
    let grown = histogram(1 + minute % 420);
    match name {
        "float" => Value::FloatHistogram(Box::new(grown.to_float())),
        "gauge" => Value::Histogram(Box::new(Histogram {
            counter_reset_hint: CounterResetHint::Gauge,
            ..histogram(500 - minute % 420)
        })),
        // Buckets appear.
        "wide" if minute % 420 >= 200 => {
            let mut wide = grown;
            wide.positive_spans[1].length = 3;
            wide.positive_buckets.push(1);
            wide.count += 2 * (1 + minute % 420) as u64 + 1;
            Value::Histogram(Box::new(wide))
        }
        "mixed" if minute / 30 % 2 == 0 => Value::Float(minute as f64),
        _ => Value::Histogram(Box::new(grown)),
    }
}

fn append(db: &Db, samples: &[(&str, i64)]) {
    let mut appender = db.appender(&TenantId::anonymous()).unwrap();
    for &(name, minute) in samples {
        let series = appender.resolve(None, &Labels::from_pairs([("__name__", name)])).unwrap();
        let t = START + minute * MINUTE;
        match value(name, minute) {
            Value::Float(v) => appender.append(series, 0, t, v).unwrap(),
            histogram => appender.append_histogram(series, 0, t, histogram).unwrap(),
        }
    }
    appender.commit().unwrap();
}

fn read(db: &Db) -> All {
    let (ctx, mut all) = (QueryContext::unlimited(), All::new());
    let mut set = db.queryable().select(&ctx, &[], TimeRange::ALL, &SelectHints::default()).unwrap();
    let (mut batch, mut samples) = (SeriesBatch::default(), SeriesSamples::default());
    while set.next_batch(64, &mut batch).unwrap() {
        for entry in &batch.series {
            let name = batch.resolve(&ctx.symbols, entry).metric_name().to_owned();
            decode_series(entry, TimeRange::ALL, Want::default(), &mut samples).unwrap();
            let SeriesSamples { floats, histograms, .. } = &samples;
            let floats = floats.times.iter().zip(&floats.values).map(|(t, v)| (t, Shown::Float(v.to_bits())));
            let histograms = histograms.times.iter().zip(&histograms.values).map(|(t, h)| (t, shown(h)));
            all.extend(floats.chain(histograms).map(|(&t, v)| ((name.clone(), t), v)));
        }
    }
    all
}

fn number(v: &serde_json::Value) -> f64 {
    v.as_str().unwrap().parse().unwrap()
}

fn histogram_of(h: &serde_json::Value) -> Shown {
    let buckets = h["buckets"].as_array().cloned().unwrap_or_default();
    let numbers = [number(&h["count"]), number(&h["sum"])];
    let numbers = numbers.into_iter().chain(buckets.iter().map(|b| number(&b[3])));
    Shown::Histogram(numbers.map(f64::to_bits).collect())
}

/// What Prometheus answers at a time, of all series.
fn ask(server: &Server, time: i64) -> BTreeMap<String, Shown> {
    let selector = "%7B__name__%3D~%22.%2B%22%7D";
    let body = server.get(&format!("/api/v1/query?query={selector}&time={}", time / 1000));
    let answer: serde_json::Value = serde_json::from_str(&body).unwrap();
    let result = answer["data"]["result"].as_array().unwrap().iter().map(|series| {
        let h = &series["histogram"][1];
        let shown =
            if h.is_null() { Shown::Float(number(&series["value"][1]).to_bits()) } else { histogram_of(h) };
        (series["metric"]["__name__"].as_str().unwrap().to_owned(), shown)
    });
    result.collect()
}

/// What Prometheus answers of one series at all times. Of one: where a range selector of Prometheus 2.42 finds
/// several series, it gives each but the first ones' histograms as one and the same at all times, as it reuses
/// the object that it decodes into. Of the same blocks Pyrrha gives what was stored, however many it is asked
/// for.
fn ask_all(server: &Server, name: &str) -> All {
    let end = START / 1000 + HOURS * 3600;
    let body = server.get(&format!("/api/v1/query?query={name}%5B60h%5D&time={end}"));
    let answer: serde_json::Value = serde_json::from_str(&body).unwrap();
    let result = &answer["data"]["result"];
    assert_eq!(result.as_array().map(Vec::len), Some(1), "{name}");
    let points = |kind: &str| result[0][kind].as_array().cloned().unwrap_or_default();
    let at = |point: &serde_json::Value| {
        let ms = (point[0].as_f64().unwrap() * 1000.0).round() as i64;
        (name.to_owned(), ms)
    };
    let floats = points("values").into_iter().map(|p| (at(&p), Shown::Float(number(&p[1]).to_bits())));
    let histograms = points("histograms").into_iter().map(|p| (at(&p), histogram_of(&p[1])));
    floats.chain(histograms).collect()
}

/// A database's life; gives what it shows, all of it out of blocks.
fn live(dir: &Path) -> All {
    let clock = Arc::new(SimClock::new(START));
    let config = StorageConfig {
        quiet_before_cut: Duration::ZERO,
        out_of_order_window_ms: 8 * HOUR,
        ..StorageConfig::new(dir)
    };
    let db = Db::open_single_threaded(config, Arc::new(OsDisk), clock.clone()).unwrap();
    for minute in 0..HOURS * 60 {
        let mut samples: Vec<_> =
            ["counter", "float", "gauge", "gone", "mixed", "wide"].map(|name| (name, minute)).into();
        // Every other one comes four hours later, when its range is a block.
        if minute % 2 == 0 {
            samples.push(("late", minute));
        }
        append(&db, &samples);
        if minute % 60 == 59 && minute >= 299 {
            let late: Vec<_> =
                (minute - 299..minute - 239).filter(|m| m % 2 == 1).map(|m| ("late", m)).collect();
            append(&db, &late);
            db.maintain().unwrap();
        }
        clock.advance(Duration::from_secs(60));
    }
    // Nothing comes for a day, so what the head still has becomes blocks too.
    clock.advance(Duration::from_secs(24 * 3600));
    for _ in 0..3 {
        db.maintain().unwrap();
    }
    let all = |name: &str| [vec![Matcher::equal("__name__", name)]];
    let part = TimeRange::new(START + 3 * HOUR, START + 4 * HOUR);
    db.delete(&TenantId::anonymous(), &all("gone"), TimeRange::ALL).unwrap();
    db.delete(&TenantId::anonymous(), &all("counter"), part).unwrap();
    db.delete(&TenantId::anonymous(), &all("mixed"), part).unwrap();
    db.purge_deletes(&TenantId::anonymous()).unwrap();
    db.maintain().unwrap();
    assert!(db.metrics().compactions.get() > 3);
    assert!(db.metrics().late_blocks_cut.get() > 0, "late samples were cut apart and merged");
    let blocks = db.blocks(&TenantId::anonymous());
    assert!(blocks.iter().any(|b| b.compaction.level >= 3), "some were compacted twice");
    assert_eq!(blocks.iter().map(|b| b.max_time).max(), Some(START + HOURS * HOUR));
    let all = read(&db);
    assert_eq!(blocks.iter().map(|b| b.stats.num_samples).sum::<u64>(), all.len() as u64, "no head is left");
    db.close().unwrap();
    all
}

#[test]
fn prometheus_answers_with_histograms_that_we_compacted_and_deleted() {
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let all = live(ours.path());
    let names: Vec<&str> = ["counter", "float", "gauge", "late", "mixed", "wide"].into();
    let count = |name: &str| all.keys().filter(|(n, _)| n == name).count() as i64;
    let counts: Vec<i64> = names.iter().map(|name| count(name)).collect();
    let whole = HOURS * 60;
    assert_eq!(counts[1..3], [whole, whole]);
    assert_eq!(counts[0], whole - 61);
    assert!(counts[3] > whole * 9 / 10, "{counts:?}");

    let blocks = ours.path().join("bucket").join(TenantId::anonymous().as_str());
    for block in block_dirs(&blocks) {
        let to = theirs.path().join(block.file_name().unwrap());
        std::fs::create_dir_all(to.join("chunks")).unwrap();
        for part in ["", "chunks"] {
            for entry in std::fs::read_dir(block.join(part)).unwrap().map(Result::unwrap) {
                if entry.file_type().unwrap().is_file() {
                    std::fs::copy(entry.path(), to.join(part).join(entry.file_name())).unwrap();
                }
            }
        }
    }
    let Some(server) = Server::start(theirs.path()) else { return };
    server.get("/-/ready");
    for minute in (0..whole).step_by(7) {
        // Between two samples: what is five minutes old is not looked at.
        let time = START + minute * MINUTE + MINUTE / 2;
        let newest = names.iter().filter_map(|name| {
            let range = ((*name).to_owned(), time - 5 * MINUTE)..=((*name).to_owned(), time);
            Some(((*name).to_owned(), all.range(range).next_back()?.1.clone()))
        });
        assert_eq!(ask(&server, time), newest.collect(), "minute {minute}");
    }
    for name in names {
        let ours = all.iter().filter(|((n, _), _)| n == name).map(|(k, v)| (k.clone(), v.clone()));
        assert_eq!(ask_all(&server, name), ours.collect(), "{name}");
    }
}
