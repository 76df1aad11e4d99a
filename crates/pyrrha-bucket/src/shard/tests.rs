//! Shards among themselves, and how merges are split.

use proptest::prelude::*;
use pyrrha_storage::block::{BlockId, BlockMeta};

use super::*;
use crate::block_files::{BlockFile, with_files, with_labels};

fn shard(index: u32, count: u32) -> Shard {
    Shard { index, count }
}

fn entry(n: u64, text: &str, series: u64, index_bytes: u64) -> Arc<BlockEntry> {
    let meta = BlockMeta::of_head(BlockId::from_parts(n, 1), 0, 10);
    let entry = BlockEntry { series, ..BlockEntry::of(&meta, 100) };
    let file = BlockFile { name: "index".to_owned(), bytes: index_bytes, crc32c: None };
    let label = (!text.is_empty()).then(|| (SHARD_LABEL.to_owned(), text.to_owned()));
    Arc::new(with_files(&with_labels(entry, &label.into_iter().collect()), &[file]))
}

#[test]
fn the_hash_is_the_one_that_others_split_by() {
    let hash = |pairs: &[(&str, &str)]| stable_hash(&Labels::from_pairs(pairs.iter().copied()));
    assert_eq!(hash(&[]), 0xef46_db37_51d8_e999);
    assert_eq!(hash(&[("hello", "world")]), 0x347c_8ee7_a9e2_9708);
    assert_eq!(hash(&[("__name__", "metric"), ("label", "value")]), 0xcbab_4054_0f26_097d);
}

#[test]
fn labels_name_shards_and_what_does_not_read_is_whole() {
    for (text, named) in [
        ("1_of_2", shard(0, 2)),
        ("3_of_3", shard(2, 3)),
        ("", Shard::WHOLE),
        ("0_of_2", Shard::WHOLE),
        ("3_of_2", Shard::WHOLE),
        ("1_of_5000", Shard::WHOLE),
        ("x_of_y", Shard::WHOLE),
    ] {
        assert_eq!(Shard::of(&entry(1, text, 1, 1)), named, "{text}");
    }
    assert_eq!((shard(2, 4).text().as_deref(), Shard::WHOLE.text()), (Some("3_of_4"), None));
}

#[test]
fn blocks_are_split_by_what_they_would_become() {
    let parts = |targets: BlockTargets, inputs: &[Arc<BlockEntry>]| {
        let split = targets.split(inputs);
        (0..split.parts()).map(|part| split.shard(part)).collect::<Vec<_>>()
    };
    let series = |series| BlockTargets { series, index_bytes: 0, splits: true };
    let index = |index_bytes| BlockTargets { series: 0, index_bytes, splits: true };
    let two = [entry(1, "", 1000, 600), entry(2, "", 1000, 600)];
    assert_eq!(parts(BlockTargets::default(), &two), [Shard::WHOLE]);
    assert_eq!(parts(index(1200), &two), [Shard::WHOLE]);
    assert_eq!(parts(index(1199), &two), [shard(0, 2), shard(1, 2)]);
    assert_eq!(parts(index(400), &two).len(), 4, "a power of two");
    assert_eq!(parts(series(2000), &two), [Shard::WHOLE]);
    assert_eq!(parts(series(1000), &two).len(), 2, "they overlap");
    // A shard stays what it is, and may be split again.
    let shards = [entry(1, "2_of_3", 1000, 600), entry(2, "2_of_3", 1000, 600)];
    assert_eq!(parts(BlockTargets::default(), &shards), [shard(1, 3)]);
    assert_eq!(parts(index(700), &shards), [shard(1, 6), shard(4, 6)]);
    // What is merged with shards is split as they are.
    let mixed = [entry(1, "", 1000, 600), entry(2, "1_of_4", 1000, 600)];
    assert_eq!(parts(BlockTargets::default(), &mixed).len(), 4);
    let mixed = [entry(1, "1_of_4", 1000, 600), entry(2, "3_of_4", 1000, 600)];
    assert_eq!(parts(BlockTargets::default(), &mixed), [shard(0, 4), shard(2, 4)]);
    // There is an end.
    assert_eq!(parts(index(1), &two).len(), 32, "no shard is likely to be empty");
    let many = [entry(1, "", 1 << 40, 1 << 60)];
    assert_eq!(parts(index(1), &many).len(), 64);
    assert_eq!(parts(index(1), &[entry(1, "5_of_4096", 1 << 40, 1 << 60)]), [shard(4, 4096)]);
}

#[test]
fn what_is_linked_is_one_group() {
    let near = |a: &i32, b: &i32| a.abs_diff(*b) <= 1;
    assert_eq!(linked(&[1, 5, 3, 2, 9, 6], near), [vec![0, 2, 3], vec![1, 5], vec![4]]);
    assert!(linked(&[], near).is_empty());
}

fn some_shard() -> impl Strategy<Value = Shard> {
    (0usize..6, any::<u32>()).prop_map(|(n, i)| {
        let count = [1, 2, 3, 4, 6, 8][n];
        shard(i % count, count)
    })
}

proptest! {
    /// All of them are told by residues modulo 24.
    #[test]
    fn shards_are_sets_of_hashes(a in some_shard(), b in some_shard(), more in proptest::collection::vec(some_shard(), 0..5)) {
        let of = |shard: Shard| (0..24u64).filter(|r| shard.has_residue(*r)).collect::<Vec<_>>();
        let (in_a, in_b) = (of(a), of(b));
        prop_assert_eq!(a.meets(b), in_a.iter().any(|r| in_b.contains(r)));
        prop_assert_eq!(a.has(b), in_b.iter().all(|r| in_a.contains(r)));
        let covered = in_a.iter().all(|r| more.iter().any(|m| m.has_residue(*r)));
        prop_assert_eq!(cover(more.iter().copied(), a), covered);
        let around = Shard::around(more.iter().copied().chain([a]));
        prop_assert!(more.iter().chain([&a]).all(|m| around.has(*m)));
        prop_assert_eq!(residues(a, 24).collect::<Vec<_>>(), in_a);
    }

    /// Each series goes into one part, which has its hash, and parts are no wider than the inputs are.
    #[test]
    fn parts_are_shards(inputs in proptest::collection::vec(some_shard(), 1..5), twice in 0u32..3, n in any::<u32>()) {
        let least = Split::least(inputs.clone());
        let split = Split::new(inputs.clone(), least.parts() << twice);
        let labels = Labels::from_pairs([("__name__", "m".to_owned()), ("n", n.to_string())]);
        let part = split.part_of(&labels);
        prop_assert!(part < split.parts());
        if split.whole().has_residue(stable_hash(&labels)) {
            prop_assert!(split.shard(part).has_residue(stable_hash(&labels)));
        }
        let parts: Vec<Shard> = (0..split.parts()).map(|part| split.shard(part)).collect();
        prop_assert!(cover(parts.iter().copied(), split.whole()));
        for (i, a) in parts.iter().enumerate() {
            prop_assert!(parts[..i].iter().all(|b| !a.meets(*b)));
            prop_assert!(inputs.iter().all(|input| input.has(*a) || !input.meets(*a)), "{:?} {:?}", inputs, a);
        }
        let named = split.shard(part);
        let mut labels = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        named.name(&mut labels);
        prop_assert_eq!(Shard::named(&labels).unwrap_or(Shard::WHOLE), named);
    }
}
