//! Sidecar files come back as they were written, and damage is told.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use pyrrha_model::contract::{
    CancelReason, Delete, DeleteId, Exemplars, LabelQuery, QueryContext, Queryable, Value,
};
use pyrrha_model::{Exemplar, Labels, MatchOp, Matcher, Metadata, MetricType};
use pyrrha_testkit::SimDisk;

use super::super::{Block, BlockId, BlockMeta, BlockWriter, ExemplarFile, MetadataFile};
use super::*;

type Model = BTreeMap<Labels, Vec<Exemplar>>;

fn labels(pairs: &[(&str, String)]) -> Labels {
    Labels::from_pairs(pairs.iter().map(|(n, v)| (n.to_string(), v.clone())))
}

fn exemplar() -> impl Strategy<Value = Exemplar> {
    (any::<u64>(), -5i64..2_000_000_000_000, prop::collection::btree_map("[a-c]", "[x-z]{1,3}", 0..3))
        .prop_map(|(bits, timestamp, pairs)| Exemplar {
            labels: Labels::from_pairs(pairs),
            value: f64::from_bits(bits),
            timestamp,
        })
}

fn model() -> impl Strategy<Value = Model> {
    let series =
        (0u32..40).prop_map(|i| labels(&[("__name__", format!("m{}", i % 3)), ("i", i.to_string())]));
    prop::collection::btree_map(series, prop::collection::vec(exemplar(), 1..8), 0..20).prop_map(
        |mut model| {
            model.values_mut().for_each(|e| e.sort_by_key(|e| e.timestamp));
            model
        },
    )
}

/// A block with a sample, so that there is one, and these sidecars.
fn write(disk: &Arc<SimDisk>, exemplars: &Model, families: &BTreeMap<String, Metadata>) -> Block {
    let dir = Path::new("/bucket/t").join(BlockId::from_parts(1, 1).to_string());
    let mut writer = BlockWriter::create(disk.clone(), &dir).expect("creates");
    let chunks = pyrrha_encoding::encode_series(&[(0, 5, pyrrha_model::contract::Value::Float(1.0))], false);
    writer.add_series(&labels(&[("__name__", "m0".into())]), &chunks).expect("adds");
    let series = exemplars
        .iter()
        .map(|(series, e)| Ok::<_, BlockError>(Exemplars { series: series.clone(), exemplars: e.clone() }));
    let count = writer.write_exemplars(series).expect("writes");
    assert_eq!(count, exemplars.values().map(|e| e.len() as u64).sum::<u64>());
    writer.write_metadata(families.iter().map(|(n, m)| (n.as_str(), m))).expect("writes");
    writer.finish(BlockMeta::of_head(BlockId::from_parts(1, 1), 0, 10)).expect("finishes");
    Block::open(&**disk, &dir).expect("opens")
}

/// A series with its exemplars, NaN payloads included.
type Bits = (Labels, Vec<(i64, u64, Labels)>);

fn bits(all: &[Exemplars]) -> Vec<Bits> {
    let one = |e: &Exemplar| (e.timestamp, e.value.to_bits(), e.labels.clone());
    all.iter().map(|e| (e.series.clone(), e.exemplars.iter().map(one).collect())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn exemplars_come_back_and_are_found_by_labels_and_time(model in model(), from in -5i64..1_000_000_000_000) {
        let disk = Arc::new(SimDisk::new(1));
        let block = write(&disk, &model, &BTreeMap::new());
        let ctx = QueryContext::unlimited();
        let range = TimeRange::new(from, i64::MAX);
        let sets = [vec![Matcher::equal("__name__", "m1")], vec![Matcher::equal("i", "2")]];
        let mut want = Vec::new();
        for (series, exemplars) in &model {
            let exemplars: Vec<_> = exemplars.iter().filter(|e| range.contains(e.timestamp)).cloned().collect();
            if !exemplars.is_empty() && (series.get("__name__") == Some("m1") || series.get("i") == Some("2")) {
                want.push(Exemplars { series: series.clone(), exemplars });
            }
        }
        let query = LabelQuery::new(sets, range);
        prop_assert_eq!(bits(&block.exemplars(&ctx, &query).expect("reads")), bits(&want));
        let first = block.exemplars(&ctx, &query.limited_to(1)).expect("reads");
        prop_assert_eq!(bits(&first), bits(&want[..want.len().min(1)]));
        let all: usize = block.exemplars(&ctx, &LabelQuery::all(TimeRange::ALL)).expect("reads").iter().map(|e| e.exemplars.len()).sum();
        prop_assert_eq!(all, model.values().map(Vec::len).sum::<usize>());
        let file = block.exemplar_file().expect("sound");
        prop_assert_eq!(file.is_some(), !model.is_empty());
        block.verify(&ctx).expect("sound");
    }

    #[test]
    fn no_flipped_bit_and_no_noise_passes(model in model(), at in any::<prop::sample::Index>(), bit in 0u8..8) {
        prop_assume!(!model.is_empty());
        let disk = Arc::new(SimDisk::new(1));
        let families = BTreeMap::from([("m".to_owned(), Metadata::default())]);
        let block = write(&disk, &model, &families);
        for name in ["exemplars", "metadata"] {
            let mut bytes = disk.read(&block.dir().join(name)).expect("the file").to_vec();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let intact = match name {
                "exemplars" => ExemplarFile::parse("b", bytes.into())
                    .and_then(|file| file.series(&[], TimeRange::ALL).try_for_each(|s| s.map(drop))),
                _ => MetadataFile::parse("b", bytes.into())
                    .and_then(|file| file.collect(None, &mut BTreeMap::new())),
            };
            // Three bytes of the header have no meaning yet; the trailer covers them.
            prop_assert!(intact.is_err(), "{} at {}", name, at);
        }
    }

    #[test]
    fn what_has_right_checksums_and_no_sense_does_not_panic(page in prop::collection::vec(any::<u8>(), 0..80)) {
        for magic in [*b"PYEX", *b"PYMD"] {
            let [a, b, c, d] = magic;
            let mut bytes = vec![a, b, c, d, VERSION, 0, 0, 0];
            let trailer = Summary { pages: 1, entries: 1, times: TimeRange::ALL }.encode(&bytes);
            crc::put_section(&mut bytes, &page);
            bytes.extend_from_slice(&trailer);
            let _ = ExemplarFile::parse("b", bytes.clone().into())
                .and_then(|file| file.series(&[], TimeRange::ALL).try_for_each(|s| s.map(drop)));
            let _ = MetadataFile::parse("b", bytes.into()).and_then(|f| f.collect(None, &mut BTreeMap::new()));
        }
    }
}

#[test]
fn a_long_series_and_many_pages_are_one_list() {
    let disk = Arc::new(SimDisk::new(1));
    let one = |t: i64| Exemplar {
        labels: labels(&[("trace_id", format!("{t:032x}"))]),
        value: t as f64,
        timestamp: t,
    };
    let model: Model = (0..3)
        .map(|i| (labels(&[("__name__", "m".into()), ("i", i.to_string())]), (0..5000).map(one).collect()))
        .collect();
    let block = write(&disk, &model, &BTreeMap::new());
    let found = block.exemplars(&QueryContext::unlimited(), &LabelQuery::all(TimeRange::ALL)).expect("reads");
    let want: Vec<_> = model.into_iter().map(|(series, exemplars)| Exemplars { series, exemplars }).collect();
    assert!(block.exemplar_file().expect("sound").is_some_and(|f| f.bytes() > 2 * PAGE as u64));
    assert_eq!(found, want);
}

#[test]
fn a_damaged_sidecar_costs_its_exemplars_and_no_sample() {
    let disk = Arc::new(SimDisk::new(1));
    let exemplar = Exemplar { labels: Labels::default(), value: 1.0, timestamp: 1 };
    let model = Model::from([(labels(&[("__name__", "m".into())]), vec![exemplar])]);
    let block = write(&disk, &model, &BTreeMap::new());
    let path = block.dir().join("exemplars");
    disk.remove_file(&path).expect("removes");
    disk.create_new(&path).expect("creates").write_at(0, b"nonsense").expect("writes");
    let block = Block::open(&*disk, block.dir()).expect("opens");
    let ctx = QueryContext::unlimited();
    let error = block.exemplars(&ctx, &LabelQuery::all(TimeRange::ALL)).expect_err("damaged");
    assert!(error.to_string().contains("file=exemplars offset=0"), "{error}");
    assert_eq!(block.series(&ctx, &LabelQuery::all(TimeRange::ALL)).expect("reads").len(), 1);
}

#[test]
fn deletes_come_back_and_a_damaged_file_is_a_damaged_block() {
    let disk = Arc::new(SimDisk::new(1));
    let dir = Path::new("/bucket/t").join(BlockId::from_parts(1, 1).to_string());
    let mut writer = BlockWriter::create(disk.clone(), &dir).expect("creates");
    writer.knows_deletes(DeleteId(9));
    for i in 0..5000 {
        let samples = [(0, 5, Value::Float(1.0)), (0, 7, Value::Float(1.0))];
        let chunks = pyrrha_encoding::encode_series(&samples, false);
        writer.add_series(&labels(&[("i", format!("{i:05}"))]), &chunks).expect("adds");
        if i % 2 == 0 {
            writer.hide(DeleteId(7), TimeRange::new(6, 7));
        } else {
            writer.hide(DeleteId(8), TimeRange::new(0, 9));
        }
    }
    writer.finish(BlockMeta::of_head(BlockId::from_parts(1, 1), 0, 10)).expect("finishes");
    let block = Block::open(&*disk, &dir).expect("opens");
    let sizes: Vec<_> = block.deletes().hidden.iter().map(|(id, hidden)| (id.0, hidden.len())).collect();
    assert_eq!((block.deletes().through, sizes), (DeleteId(9), vec![(7, 2500), (8, 2500)]));
    let ctx = QueryContext::unlimited();
    let series = |block: &Block| block.series(&ctx, &LabelQuery::all(TimeRange::ALL)).expect("reads");
    assert_eq!(series(&block).len(), 2500, "until someone says otherwise all that is listed is hidden");
    assert!(
        series(&block).iter().all(|l| l.get("i").is_some_and(|i| i.ends_with(['0', '2', '4', '6', '8'])))
    );
    let of = |id: u128, matcher: Matcher| Delete {
        id: DeleteId(id),
        matcher_sets: vec![vec![matcher]],
        range: TimeRange::ALL,
        at: 0,
        is_final: id > 9,
    };
    // The first is known and lists nothing here, whatever it matches; the second came later.
    let standing = [of(5, Matcher::equal("i", "00001")), of(10, Matcher::equal("i", "00002"))];
    let block = block.with_deletes(&standing, DeleteId(10), &ctx).expect("hides");
    assert_eq!(series(&block).len(), 4999);
    assert!(block.is_hidden_by(DeleteId(10)) && !block.is_undoable() && block.to_purge().is_some());
    // What a delete hides is looked up once: whoever is canceled cannot look up.
    let canceled = QueryContext::unlimited();
    canceled.cancel.cancel(CancelReason::Canceled);
    let [first, second] = standing;
    let third = of(11, Matcher::new(MatchOp::Regex, "i", "0000[34]").expect("valid"));
    let standing = [first, second, third];
    assert!(block.with_deletes(&standing, DeleteId(11), &canceled).is_err());
    let asked = block.with_deletes(&standing, DeleteId(11), &ctx).expect("hides");
    let again = asked.with_deletes(&standing, DeleteId(11), &canceled).expect("is known");
    assert_eq!((series(&asked).len(), series(&again)), (4997, series(&asked)));
    let undone = again.with_deletes(&standing[..2], DeleteId(11), &canceled).expect("is known");
    assert_eq!(series(&undone).len(), 4999);
    let file = disk.open(&dir.join("deletes")).expect("the file");
    file.write_at(40, &[0xFF]).expect("writes");
    let error = Block::open(&*disk, &dir).expect_err("damaged");
    assert!(error.to_string().contains("file=deletes"), "{error}");
}

#[test]
fn metadata_comes_back() {
    let disk = Arc::new(SimDisk::new(1));
    let families: BTreeMap<String, Metadata> = (0..3000)
        .map(|i| {
            let metric_type = [MetricType::Counter, MetricType::StateSet, MetricType::Unknown][i % 3];
            (format!("m{i:05}"), Metadata { metric_type, help: "é".repeat(i % 40), unit: "s".into() })
        })
        .collect();
    let block = write(&disk, &Model::new(), &families);
    let ctx = QueryContext::unlimited();
    let found = block.metadata(&ctx, None).expect("reads");
    assert_eq!(found, families.iter().map(|(n, m)| (n.clone(), vec![m.clone()])).collect());
    assert_eq!(block.metadata(&ctx, Some("m00007")).expect("reads").len(), 1);
    assert_eq!(block.metadata(&ctx, Some("m")).expect("reads").len(), 0);
}
