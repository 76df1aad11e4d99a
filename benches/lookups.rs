//! Series lookups among a million series, in the head's index and in an index file: two regexes of which
//! one is a prefix that a tenth of the hosts has, an infix, negative matchers. What postings take, and how long it
//! takes to open the file.
//!
//! `PYRRHA_HOSTS=2000` for fewer series: a hundred of each host.

use std::hint::black_box;
use std::path::Path;

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use pyrrha_env::Disk;
use pyrrha_index::{
    ChunkMeta, IndexReader, IndexWriter, LabelIndex, MemIndex, MemPostings, SortedSymbols, SymbolPool,
    postings_for_matchers,
};
use pyrrha_model::contract::CancelToken;
use pyrrha_model::{Labels, MatchOp, Matcher};
use pyrrha_testkit::SimDisk;

/// Series of a host: handlers times codes.
const HANDLERS: u32 = 20;
const CODES: [&str; 5] = ["200", "301", "404", "500", "503"];

fn hosts() -> u32 {
    std::env::var("PYRRHA_HOSTS").ok().and_then(|n| n.parse().ok()).unwrap_or(10_000)
}

fn labels_of(host: u32, handler: u32, code: &str) -> Labels {
    Labels::from_pairs([
        ("__name__", "http_requests_total".to_owned()),
        ("code", code.to_owned()),
        ("handler", format!("/api/v1/thing{handler}")),
        ("host", format!("host-{host:05}.example.net")),
        ("job", format!("job{}", host % 8)),
        ("pod", format!("app-{:08x}-{host}", host.wrapping_mul(2_654_435_761))),
    ])
}

/// All series, sorted.
fn series() -> Vec<Labels> {
    let of_host =
        |host| (0..HANDLERS).flat_map(move |handler| CODES.map(|code| labels_of(host, handler, code)));
    let mut all: Vec<Labels> = (0..hosts()).flat_map(of_host).collect();
    all.sort_unstable();
    all
}

fn head(sorted: &[Labels]) -> (SymbolPool, MemPostings) {
    let (mut symbols, mut postings) = (SymbolPool::new(), MemPostings::new());
    // In the order in which hosts are scraped, not sorted.
    let of_host = sorted.len() as u32 / hosts();
    for series in 0..sorted.len() as u32 {
        let labels = &sorted[(series % of_host * hosts() + series / of_host) as usize];
        let ids: Vec<(u32, u32)> =
            labels.iter().map(|l| (symbols.intern(&l.name), symbols.intern(&l.value))).collect();
        postings.insert(series, &ids);
    }
    (symbols, postings)
}

fn file(sorted: &[Labels]) -> Bytes {
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
    println!("index file: {:.1} bytes per series", stats.bytes as f64 / sorted.len() as f64);
    disk.read(Path::new("/index")).expect("the file")
}

/// Opens the file as it is, and with the file of its tables; the latter again with one lookup.
fn open(criterion: &mut Criterion, file: &Bytes) -> IndexReader {
    let walked = IndexReader::open(file.clone()).expect("sound");
    let kept: Bytes = walked.encode_tables().expect("sound").expect("version 2").into();
    let entries = walked.entry_count().expect("sound");
    println!("{entries} symbols and label pairs, {} bytes of tables", kept.len());
    let mut group = criterion.benchmark_group("open an index");
    group.sample_size(20);
    group.bench_function("alone", |b| b.iter(|| IndexReader::open(black_box(file.clone())).expect("sound")));
    let with = || IndexReader::open_with(black_box(file.clone()), Some(&kept)).expect("sound");
    group.bench_function("with its tables", |b| b.iter(with));
    let host = [Matcher::equal("host", "host-01234.example.net")];
    group.bench_function("with its tables, and a lookup", |b| {
        b.iter(|| postings_for_matchers(&with(), &host, &CancelToken::default()).expect("sound"))
    });
    group.finish();
    with()
}

fn selectors() -> Vec<(&'static str, Vec<Matcher>)> {
    let of = |op, name: &str, value: &str| Matcher::new(op, name, value).expect("a valid expression");
    let regex = |name: &str, value: &str| of(MatchOp::Regex, name, value);
    let name = || Matcher::equal("__name__", "http_requests_total");
    vec![
        (
            "prefix of a tenth, and a regex",
            vec![regex("host", "host-03.*"), regex("handler", ".*thing1[0-4]")],
        ),
        ("infix", vec![name(), regex("host", ".*77.*")]),
        ("infix of few", vec![name(), regex("pod", ".*abcd.*")]),
        ("not equal", vec![name(), Matcher::equal("code", "200").inverted()]),
        ("not a prefix", vec![name(), regex("host", "host-03.*").inverted()]),
        (
            "one host, not a regex",
            vec![Matcher::equal("host", "host-01234.example.net"), regex("handler", ".*1.*").inverted()],
        ),
        ("label absent", vec![name(), Matcher::equal("device", "")]),
    ]
}

fn select(criterion: &mut Criterion, place: &str, index: &impl LabelIndex) {
    let cancel = CancelToken::default();
    let mut group = criterion.benchmark_group(format!("lookup in {place}"));
    group.sample_size(20);
    for (name, matchers) in selectors() {
        let count = postings_for_matchers(index, &matchers, &cancel).map_or(0, |set| set.len());
        group.bench_function(format!("{name}, {count} series"), |b| {
            b.iter(|| black_box(postings_for_matchers(index, black_box(&matchers), &cancel)))
        });
    }
    group.finish();
}

fn lookups(criterion: &mut Criterion) {
    let sorted = series();
    println!("{} series", sorted.len());
    let (symbols, postings) = head(&sorted);
    let per_series = |bytes: usize| bytes as f64 / sorted.len() as f64;
    println!(
        "head: {:.1} bytes per series of postings, {:.1} of symbols",
        per_series(postings.heap_bytes()),
        per_series(symbols.heap_bytes())
    );
    select(criterion, "the head", &MemIndex { symbols: &symbols, postings: &postings });
    let file = file(&sorted);
    drop(sorted);
    let kept = open(criterion, &file);
    select(criterion, "a block", &IndexReader::open(file).expect("sound"));
    select(criterion, "a block with tables", &kept);
}

criterion_group!(benches, lookups);
criterion_main!(benches);
