//! What a selector costs: in the head's index and in an index file, by kind of matcher; what a
//! new series costs; bytes per series.

use std::hint::black_box;
use std::path::Path;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pyrrha_env::Disk;
use pyrrha_index::{
    ChunkMeta, IndexReader, IndexWriter, LabelIndex, MemIndex, MemPostings, RoaringBitmap, SortedSymbols,
    SymbolPool, label_values, postings_for_matchers,
};
use pyrrha_model::contract::CancelToken;
use pyrrha_model::{Labels, MatchOp, Matcher};
use pyrrha_testkit::SimDisk;

/// Scraped hosts, each with as many series.
const HOSTS: u32 = 1000;
const METRICS: u32 = 200;
const SERIES: u32 = HOSTS * METRICS;

fn labels_of(host: u32, metric: u32) -> Labels {
    Labels::from_pairs([
        ("__name__", format!("node_metric_{metric}_total")),
        ("cluster", format!("cluster-{}", host % 10)),
        ("container", format!("container-{}", host % 37)),
        ("env", ["production", "staging", "development"][host as usize % 3].to_owned()),
        ("instance", format!("10.0.{}.{}:9100", host / 256, host % 256)),
        ("job", "node".to_owned()),
        ("namespace", format!("team-{}", host % 50)),
        ("pod", format!("pod-{host:05}-{:05x}", host.wrapping_mul(2_654_435_761) % 0xfffff)),
        ("region", format!("eu-west-{}", host % 3)),
        ("device", if metric.is_multiple_of(2) { format!("disk{}", metric % 8) } else { String::new() }),
    ])
}

struct Head {
    symbols: SymbolPool,
    postings: MemPostings,
}

fn head() -> Head {
    let (mut symbols, mut postings) = (SymbolPool::new(), MemPostings::new());
    for (series, labels) in all_labels().enumerate() {
        let ids = ids_of(&mut symbols, &labels);
        postings.insert(series as u32, &ids);
    }
    Head { symbols, postings }
}

fn all_labels() -> impl Iterator<Item = Labels> {
    (0..HOSTS).flat_map(|host| (0..METRICS).map(move |metric| labels_of(host, metric)))
}

fn ids_of(symbols: &mut SymbolPool, labels: &Labels) -> Vec<(u32, u32)> {
    labels.iter().map(|l| (symbols.intern(&l.name), symbols.intern(&l.value))).collect()
}

fn file() -> IndexReader {
    let mut sorted: Vec<Labels> = all_labels().collect();
    sorted.sort();
    let symbols: SortedSymbols =
        sorted.iter().flatten().flat_map(|l| [l.name.as_str(), l.value.as_str()]).collect();
    let disk = SimDisk::new(1);
    let file = disk.create_new(Path::new("/index")).expect("a file");
    let mut writer = IndexWriter::new(file, symbols).expect("symbols fit");
    for (i, labels) in sorted.iter().enumerate() {
        let ordinal = |text| writer.symbols().lookup(text).expect("a known symbol");
        let ids: Vec<(u32, u32)> = labels.iter().map(|l| (ordinal(&l.name), ordinal(&l.value))).collect();
        let chunk = ChunkMeta { min_time: 0, max_time: 7_199_000, reference: i as u64 * 200 };
        writer.add_series(&ids, &[chunk]).expect("in order");
    }
    let stats = writer.finish().expect("no fault");
    println!("index file: {:.1} bytes per series", stats.bytes as f64 / f64::from(SERIES));
    IndexReader::open(disk.read(Path::new("/index")).expect("the file")).expect("sound")
}

fn selectors() -> Vec<(&'static str, Vec<Matcher>)> {
    let regex =
        |name: &str, value: &str| Matcher::new(MatchOp::Regex, name, value).expect("a valid expression");
    let name = || Matcher::equal("__name__", "node_metric_17_total");
    vec![
        ("one metric", vec![name()]),
        ("metric and job", vec![name(), Matcher::equal("job", "node")]),
        ("metric, env not", vec![name(), Matcher::equal("env", "production").inverted()]),
        ("regex set", vec![name(), regex("instance", r"10\.0\.0\.1:9100|10\.0\.1\.7:9100|10\.0\.3\.9:9100")]),
        ("regex prefix", vec![regex("pod", "pod-0002.*-.*a"), Matcher::equal("job", "node")]),
        ("regex scan", vec![name(), regex("pod", ".*[05]a.*")]),
        ("label absent", vec![name(), Matcher::equal("device", "")]),
        ("label present", vec![Matcher::equal("device", "").inverted()]),
    ]
}

fn select(criterion: &mut Criterion, place: &str, index: &impl LabelIndex) {
    let cancel = CancelToken::default();
    let mut group = criterion.benchmark_group(format!("select from {place}"));
    for (name, matchers) in selectors() {
        let count =
            postings_for_matchers(index, &matchers, &cancel).map_or(0, |set: RoaringBitmap| set.len());
        group.bench_function(format!("{name}, {count} series"), |b| {
            b.iter(|| black_box(postings_for_matchers(index, black_box(&matchers), &cancel)))
        });
    }
    let matchers = [Matcher::equal("namespace", "team-7")];
    group.bench_function("values of a label", |b| {
        b.iter(|| black_box(label_values(index, "pod", &matchers, 0, &cancel)))
    });
    group.finish();
}

fn postings(criterion: &mut Criterion) {
    let head = head();
    let bytes = head.symbols.heap_bytes() + head.postings.heap_bytes();
    println!("head index: {:.1} bytes per series", bytes as f64 / f64::from(SERIES));
    select(criterion, "head", &MemIndex { symbols: &head.symbols, postings: &head.postings });
    select(criterion, "file", &file());

    let Head { mut symbols, .. } = head;
    let ids: Vec<_> = all_labels().map(|labels| ids_of(&mut symbols, &labels)).collect();
    let mut group = criterion.benchmark_group("insert");
    group.throughput(Throughput::Elements(u64::from(SERIES))).sample_size(10);
    group.bench_function("series of ten labels", |b| {
        b.iter(|| {
            let mut postings = MemPostings::new();
            for (series, labels) in ids.iter().enumerate() {
                postings.insert(series as u32, labels);
            }
            postings.all().len()
        })
    });
    group.finish();
}

criterion_group!(benches, postings);
criterion_main!(benches);
