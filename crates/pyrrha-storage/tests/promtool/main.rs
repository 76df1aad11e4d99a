//! Blocks against Prometheus itself: `promtool` and the server read what we write, we read what
//! they write. Skipped, with a word, where they are not on the path.

#![allow(clippy::unwrap_used, reason = "a test")]

mod lived;
mod server;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use pyrrha_encoding::{SeriesSamples, Want, decode_series, encode_series};
use pyrrha_env::OsDisk;
use pyrrha_model::contract::{ChunkRef, Exemplars, QueryContext, Queryable, SelectHints, SeriesBatch, Value};
use pyrrha_model::{
    CounterResetHint, Exemplar, Histogram, Label, Labels, Matcher, Metadata, Span, TimeRange, go_fmt,
};
use pyrrha_storage::block::{Block, BlockError, BlockId, BlockMeta, BlockWriter};

use server::{Server, bucket_counts};

const START: i64 = 1_700_000_000_000;

/// Samples by labels, as bits, so that every NaN counts.
type Floats = BTreeMap<Labels, Vec<(i64, u64)>>;

fn promtool(arguments: &[&str]) -> Option<String> {
    let output = match Command::new("promtool").args(arguments).output() {
        Ok(output) => output,
        Err(error) => {
            println!("skipped: promtool cannot be run: {error}");
            return None;
        }
    };
    let (out, errors) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "promtool {arguments:?}: {out}\n{errors}");
    Some(out)
}

fn id() -> BlockId {
    BlockId::from_parts(START as u64, 7)
}

/// A data directory as Prometheus expects one.
fn write(series: &BTreeMap<Labels, Vec<ChunkRef>>) -> (tempfile::TempDir, BlockMeta) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("wal")).unwrap();
    let mut writer = BlockWriter::create(Arc::new(OsDisk), &dir.path().join(id().to_string())).unwrap();
    for (labels, chunks) in series {
        writer.add_series(labels, chunks).unwrap();
    }
    // What Prometheus does not know it passes over.
    let exemplars = series.keys().map(|labels| {
        let exemplar = Exemplar { labels: labels.clone(), value: 1.0, timestamp: START };
        Ok::<_, BlockError>(Exemplars { series: labels.clone(), exemplars: vec![exemplar] })
    });
    writer.write_exemplars(exemplars).unwrap();
    writer.write_metadata([("metric_1", &Metadata::default())]).unwrap();
    let meta = writer.finish(BlockMeta::of_head(id(), START, START + 7_200_000)).unwrap();
    (dir, meta)
}

fn path_of(dir: &tempfile::TempDir) -> &str {
    dir.path().to_str().unwrap()
}

fn float_series() -> Floats {
    let special =
        [f64::INFINITY, f64::NEG_INFINITY, -0.0, f64::MAX, f64::MIN_POSITIVE, 0.1, 5e-324, f64::NAN];
    let value = |i: i64, s: i64| match s % 4 {
        0 => s as f64,
        1 => special[(s as usize / 4) % special.len()],
        2 => (i * 1000 + s) as f64 / 7.0,
        _ => (s * s) as f64 * 1e9,
    };
    let labels = |i: i64| {
        Labels::from_pairs([
            ("__name__", format!("metric_{}", i % 5)),
            ("instance", format!("host-{i:03}:9100")),
            ("odd", ["", "ü€", "a \"quoted\" \\ value", "line\nfeed"][i as usize % 4].to_owned()),
        ])
    };
    let samples = |i: i64| (0..300).map(|s| (START + s * 15_000 + i, value(i, s).to_bits())).collect();
    (0..60).map(|i| (labels(i), samples(i))).collect()
}

fn float_chunks(floats: &Floats) -> BTreeMap<Labels, Vec<ChunkRef>> {
    let chunks = |samples: &Vec<(i64, u64)>| {
        let samples: Vec<_> =
            samples.iter().map(|&(t, bits)| (0, t, Value::Float(f64::from_bits(bits)))).collect();
        encode_series(&samples, false)
    };
    floats.iter().map(|(labels, samples)| (labels.clone(), chunks(samples))).collect()
}

fn histogram(i: i64) -> Histogram {
    Histogram {
        schema: 2,
        zero_threshold: 0.001,
        zero_count: i as u64,
        count: 12 * i as u64,
        sum: i as f64 * 1.5,
        positive_spans: vec![Span { offset: -1, length: 2 }, Span { offset: 3, length: 2 }],
        positive_buckets: vec![2 * i, i, -i, 0],
        negative_spans: vec![Span { offset: 0, length: 1 }],
        negative_buckets: vec![2 * i],
        ..Histogram::default()
    }
}

/// Parses what `tsdb dump` prints: `{name="value", ...} value time`.
fn parse_dump(text: &str) -> Floats {
    let mut floats = Floats::new();
    for line in text.lines() {
        let (rest, time) = line.rsplit_once(' ').unwrap();
        let (labels, value) = rest.rsplit_once(' ').unwrap();
        let value: f64 = value.parse().unwrap_or_else(|_| panic!("a float: {line}"));
        floats.entry(parse_labels(labels)).or_default().push((time.parse().unwrap(), value.to_bits()));
    }
    floats
}

fn parse_labels(text: &str) -> Labels {
    let mut pairs = Vec::new();
    let mut rest = text.trim_start_matches('{');
    while let Some((name, after)) = rest.split_once("=\"") {
        let mut value = String::new();
        let mut characters = after.char_indices();
        let end = loop {
            match characters.next().unwrap() {
                (at, '"') => break at,
                (_, '\\') => match characters.next().unwrap().1 {
                    'n' => value.push('\n'),
                    other => value.push(other),
                },
                (_, other) => value.push(other),
            }
        };
        pairs.push((name.to_owned(), value));
        rest = after[end + 1..].trim_start_matches(", ");
    }
    Labels::from_pairs(pairs)
}

/// A NaN is printed without its bits.
fn with_one_nan(mut floats: Floats) -> Floats {
    for (_, bits) in floats.values_mut().flatten().filter(|(_, bits)| f64::from_bits(*bits).is_nan()) {
        *bits = f64::NAN.to_bits();
    }
    floats
}

fn read(block: &Block, matchers: &[Matcher], range: TimeRange) -> Floats {
    let ctx = QueryContext::unlimited();
    let mut set = block.select(&ctx, matchers, range, &SelectHints::default()).unwrap();
    let (mut batch, mut samples, mut floats) =
        (SeriesBatch::default(), SeriesSamples::default(), Floats::new());
    while set.next_batch(64, &mut batch).unwrap() {
        for entry in &batch.series {
            decode_series(entry, range, Want::default(), &mut samples).unwrap();
            let column = &samples.floats;
            let pairs = column.times.iter().zip(&column.values).map(|(&t, v)| (t, v.to_bits())).collect();
            floats.insert(batch.resolve(&ctx.symbols, entry), pairs);
        }
    }
    floats
}

#[test]
fn prometheus_reads_our_floats() {
    let floats = float_series();
    let (dir, meta) = write(&float_chunks(&floats));
    let Some(dump) = promtool(&["tsdb", "dump", path_of(&dir)]) else { return };
    assert!(parse_dump(&dump) == with_one_nan(floats), "dump differs from what was written");

    let list = promtool(&["tsdb", "list", path_of(&dir)]).unwrap();
    let row: Vec<&str> = list.lines().last().unwrap().split_whitespace().collect();
    let stats = [meta.stats.num_samples, meta.stats.num_chunks, meta.stats.num_series];
    assert_eq!(row[0], id().to_string());
    assert_eq!(row[4..7], stats.map(|n| n.to_string()));
    assert_eq!(stats[..1], [60 * 300]);

    let analysis = promtool(&["tsdb", "analyze", path_of(&dir), &id().to_string()]).unwrap();
    let expected =
        ["Series: 60", "Label names: 3", "Postings (unique label pairs): 68", "12 __name__=metric_0"];
    for line in expected {
        assert!(analysis.lines().any(|l| l == line), "{line:?} is missing: {analysis}");
    }
}

#[test]
fn prometheus_finds_series_through_our_postings() {
    let floats = float_series();
    let (dir, _) = write(&float_chunks(&floats));
    for (selector, wanted) in [
        (r#"{__name__="metric_3"}"#, Matcher::equal("__name__", "metric_3")),
        (r#"{odd="ü€"}"#, Matcher::equal("odd", "ü€")),
        (r#"{instance="host-059:9100"}"#, Matcher::equal("instance", "host-059:9100")),
    ] {
        let Some(dump) = promtool(&["tsdb", "dump", &format!("--match={selector}"), path_of(&dir)]) else {
            return;
        };
        let chosen = |l: &Labels| wanted.matches(l.get(&wanted.name).unwrap_or(""));
        let expected: Floats =
            floats.iter().filter(|(l, _)| chosen(l)).map(|(l, s)| (l.clone(), s.clone())).collect();
        assert!(!expected.is_empty());
        assert!(parse_dump(&dump) == with_one_nan(expected), "{selector}");
    }
}

/// Histograms as they come: steady, with buckets that appear, with a reset, gauges.
fn histogram_series() -> BTreeMap<Labels, Vec<Histogram>> {
    let grown = |i: i64| {
        let mut h = histogram(if i < 150 { i } else { i - 149 });
        if i >= 100 {
            h.positive_spans = vec![Span { offset: -1, length: 2 }, Span { offset: 1, length: 4 }];
            h.positive_buckets = vec![2, 1, 0, -2, 4, -1];
            (h.zero_count, h.negative_buckets) = (1, vec![3]);
            h.count = 2 + 3 + 3 + 1 + 5 + 4 + 1 + 3;
        }
        h
    };
    let gauge = |i: i64| Histogram { counter_reset_hint: CounterResetHint::Gauge, ..histogram(200 - i) };
    let named = |name: &str, values: Vec<Histogram>| (Labels::from_pairs([("__name__", name)]), values);
    BTreeMap::from([
        named("gauge", (1..200).map(gauge).collect()),
        named("grown", (1..200).map(grown).collect()),
        named("steady", (1..200).map(histogram).collect()),
    ])
}

fn time_of(i: usize) -> i64 {
    START + (i as i64 + 1) * 15_000
}

fn histogram_chunks(float: bool) -> BTreeMap<Labels, Vec<ChunkRef>> {
    let value = |h: &Histogram| match float {
        true => Value::FloatHistogram(Box::new(h.to_float())),
        false => Value::Histogram(Box::new(h.clone())),
    };
    let chunks = |values: &[Histogram]| {
        let samples: Vec<_> = values.iter().enumerate().map(|(i, h)| (0, time_of(i), value(h))).collect();
        encode_series(&samples, false)
    };
    histogram_series().into_iter().map(|(labels, values)| (labels, chunks(&values))).collect()
}

#[test]
fn prometheus_accepts_our_histograms() {
    for float in [false, true] {
        let (dir, meta) = write(&histogram_chunks(float));
        assert_eq!((meta.stats.num_histogram_samples, meta.stats.num_float_samples), (3 * 199, 0));
        let Some(list) = promtool(&["tsdb", "list", path_of(&dir)]) else { return };
        assert!(list.contains(&id().to_string()));
        let analysis =
            promtool(&["tsdb", "analyze", "--extended", path_of(&dir), &id().to_string()]).unwrap();
        assert!(analysis.contains("Series: 3"), "{analysis}");
    }
}

#[test]
fn prometheus_answers_with_our_histograms() {
    for float in [false, true] {
        let (dir, _) = write(&histogram_chunks(float));
        let Some(server) = Server::start(dir.path()) else { return };
        server.get("/-/ready");
        for i in [0, 1, 60, 98, 99, 130, 148, 149, 198] {
            let selector = "%7B__name__%3D~%22.%2B%22%7D";
            let body = server.get(&format!("/api/v1/query?query={selector}&time={}", time_of(i) / 1000));
            let answer: serde_json::Value = serde_json::from_str(&body).unwrap();
            let series = answer["data"]["result"].as_array().unwrap();
            assert_eq!(series.len(), 3, "{body}");
            for one in series {
                let name = Labels::from_pairs([("__name__", one["metric"]["__name__"].as_str().unwrap())]);
                let expected = histogram_series()[&name][i].to_float();
                let number = |v: &serde_json::Value| v.as_str().unwrap().parse::<f64>().unwrap();
                let found = &one["histogram"][1];
                assert_eq!((number(&found["count"]), number(&found["sum"])), (expected.count, expected.sum));
                let buckets: Vec<f64> =
                    found["buckets"].as_array().unwrap().iter().map(|b| number(&b[3])).collect();
                assert_eq!(buckets, bucket_counts(&expected), "{name} at sample {i}: {found}");
            }
        }
    }
}

#[test]
fn we_read_blocks_of_prometheus() {
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("input");
    let floats: Floats = float_series()
        .into_iter()
        // Exposition text has no way to write the bits of a NaN.
        .map(|(l, s)| (l, s.into_iter().filter(|(_, bits)| !f64::from_bits(*bits).is_nan()).collect()))
        .collect();
    std::fs::write(&input, openmetrics(&floats)).unwrap();
    let blocks = dir.path().join("blocks");
    let arguments =
        ["tsdb", "create-blocks-from", "openmetrics", input.to_str().unwrap(), blocks.to_str().unwrap()];
    if promtool(&arguments).is_none() {
        return;
    }
    let mut read_back = Floats::new();
    for path in block_dirs(&blocks) {
        let block = Block::open(&OsDisk, &path).unwrap();
        block.verify(&QueryContext::unlimited()).unwrap();
        assert_eq!(block.index().version(), 2);
        for (labels, samples) in read(&block, &[], TimeRange::ALL) {
            read_back.entry(labels).or_default().extend(samples);
        }
        let one = read(&block, &[Matcher::equal("instance", "host-007:9100")], TimeRange::ALL);
        assert_eq!(one.len(), 1);
    }
    read_back.values_mut().for_each(|samples| samples.sort_unstable());
    assert!(read_back == floats, "what was read differs from what was given");
}

fn openmetrics(floats: &Floats) -> String {
    let mut text = String::new();
    for (labels, samples) in floats {
        let pair = |l: &Label| format!("{}=\"{}\"", l.name, escaped(&l.value));
        let pairs: Vec<String> = labels.iter().filter(|l| l.name != "__name__").map(pair).collect();
        for &(time, bits) in samples {
            let value = go_fmt::float_g(f64::from_bits(bits));
            let seconds = format!("{}.{:03}", time / 1000, time % 1000);
            text.push_str(&format!("{}{{{}}} {value} {seconds}\n", labels.metric_name(), pairs.join(",")));
        }
    }
    text.push_str("# EOF\n");
    text
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn block_dirs(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap());
    let mut dirs: Vec<PathBuf> =
        entries.filter(|e| e.file_name().to_str().unwrap().len() == 26).map(|e| e.path()).collect();
    dirs.sort();
    assert!(!dirs.is_empty());
    dirs
}
