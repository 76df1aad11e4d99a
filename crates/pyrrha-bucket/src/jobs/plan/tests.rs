//! What is merged when.

use pyrrha_storage::block::BlockMeta;
use pyrrha_storage::manifest::{BlockEntry, ManifestState};

use super::*;
use crate::block_files::with_set_aside;

const HOUR: i64 = 3_600_000;

fn entry(n: u64, min: i64, max: i64) -> BlockEntry {
    BlockEntry::of(&BlockMeta::of_head(BlockId::from_parts(n, 1), min * HOUR, max * HOUR), 1000)
}

fn labelled(mut entry: BlockEntry, labels: &[(&str, &str)]) -> BlockEntry {
    let labels: BTreeMap<&str, &str> = labels.iter().copied().collect();
    entry.other.insert("labels".to_owned(), serde_json::to_value(labels).expect("a map"));
    entry
}

fn planned(entries: &[BlockEntry], now: i64) -> Vec<(i64, i64, usize)> {
    planned_with(entries, now, &[], &BTreeSet::new())
}

fn planned_with(
    entries: &[BlockEntry],
    now: i64,
    replica: &[&str],
    busy: &BTreeSet<BlockId>,
) -> Vec<(i64, i64, usize)> {
    let blocks = entries.iter().map(|b| (b.ulid, Arc::new(b.clone()))).collect();
    let mut state = ManifestState::default();
    state.blocks = blocks;
    let replica: Vec<String> = replica.iter().map(|s| (*s).to_owned()).collect();
    let jobs = plan(&state, &Ladder::default(), &BlockTargets::default(), &replica, busy, now * HOUR);
    jobs.iter().map(|j| (j.min_time / HOUR, j.max_time / HOUR, j.inputs.len())).collect()
}

fn hours(from: i64, to: i64) -> Vec<BlockEntry> {
    (from / 2..to / 2).map(|n| entry(n as u64 + 1, n * 2, n * 2 + 2)).collect()
}

#[test]
fn windows_that_are_over_are_merged_side_by_side() {
    // 0-12 and 12-24 are over, 24-36 is not.
    assert_eq!(planned(&hours(0, 28), 28), [(0, 12, 6), (12, 24, 6)]);
    // Nothing comes after it, but it has long been over.
    assert_eq!(planned(&hours(0, 10), 10), []);
    assert_eq!(planned(&hours(0, 10), 24), [(0, 10, 5)]);
}

#[test]
fn larger_windows_wait_for_smaller_ones() {
    let mut blocks = hours(12, 26);
    blocks.push(entry(100, 0, 12));
    assert_eq!(planned(&blocks, 26), [(12, 24, 6)]);
    let halves = [entry(100, 0, 12), entry(101, 12, 24), entry(102, 24, 26)];
    assert_eq!(planned(&halves, 26), [(0, 24, 2)]);
    let mut days: Vec<BlockEntry> = (0..14).map(|d| entry(d as u64 + 1, d * 24, d * 24 + 24)).collect();
    assert_eq!(planned(&days, 14 * 24), []);
    days.push(entry(100, 14 * 24, 14 * 24 + 2));
    assert_eq!(planned(&days, 14 * 24), [(0, 14 * 24, 14)]);
}

#[test]
fn what_is_busy_is_left_alone_with_its_window() {
    let blocks = hours(0, 28);
    let busy = BTreeSet::from([blocks[2].ulid]);
    assert_eq!(planned_with(&blocks, 28, &[], &busy), [(12, 24, 6)]);
}

#[test]
fn overlaps_come_first_and_straddlers_join_what_contains_them() {
    let mut blocks = hours(0, 28);
    blocks.push(entry(50, 4, 6));
    // The smallest merge first; its window waits.
    assert_eq!(planned(&blocks, 28), [(4, 6, 2), (12, 24, 6)]);
    // A block over the edge of 12 h is no part of either half, but of the day.
    let straddling = [
        entry(1, 0, 2),
        entry(2, 2, 10),
        entry(3, 10, 14),
        entry(4, 14, 16),
        entry(5, 16, 18),
        entry(6, 40, 42),
    ];
    assert_eq!(planned(&straddling, 42), [(14, 18, 2), (0, 10, 2)].map(|(a, b, n)| (a, b, n)));
    let later = [entry(1, 0, 10), entry(3, 10, 14), entry(4, 14, 18), entry(6, 40, 42)];
    assert_eq!(planned(&later, 42), [(0, 18, 3)]);
}

#[test]
fn blocks_of_other_labels_do_not_mix_unless_they_are_replicas() {
    let of = |n: u64, cluster: &str, replica: &str| {
        labelled(entry(n, 0, 2), &[("cluster", cluster), ("replica", replica)])
    };
    let blocks = [of(1, "a", "0"), of(2, "a", "1"), of(3, "b", "0"), entry(4, 2, 4)];
    assert_eq!(planned(&blocks, 4), []);
    assert_eq!(planned_with(&blocks, 4, &["replica"], &BTreeSet::new()), [(0, 2, 2)]);
}

#[test]
fn what_is_set_aside_or_downsampled_takes_no_part() {
    let mut blocks = hours(0, 14);
    blocks[1] = with_set_aside(&blocks[1], "damaged");
    blocks[2].resolution = 300_000;
    assert_eq!(planned(&blocks, 14), [(0, 12, 4)]);
}

#[test]
fn a_ladder_is_made_of_multiples() {
    assert!(Ladder::new(vec![7_200_000, 43_200_000]).is_ok());
    for bad in [vec![], vec![0], vec![2, 3], vec![4, 2]] {
        assert!(Ladder::new(bad).is_err());
    }
}

#[test]
fn what_is_not_to_be_split_is_merged_only_up_to_what_fits() {
    let sized = |n: u64, min: i64, max: i64| BlockEntry { series: 100, bytes: 1000, ..entry(n, min, max) };
    let planned = |entries: &[BlockEntry], splits: bool| {
        let mut state = ManifestState::default();
        state.blocks = entries.iter().map(|b| (b.ulid, Arc::new(b.clone()))).collect();
        // An index is a tenth of a block where nobody says.
        let targets = BlockTargets { index_bytes: 350, series: 0, splits };
        let jobs = plan(&state, &Ladder::default(), &targets, &[], &BTreeSet::new(), 100 * HOUR);
        jobs.iter().map(|job| (job.inputs.len(), job.outputs)).collect::<Vec<_>>()
    };
    let six: Vec<BlockEntry> = (0..6).map(|n| sized(n as u64 + 1, n * 2, n * 2 + 2)).collect();
    assert_eq!(planned(&six, true), [(6, 2)]);
    assert_eq!(planned(&six, false), [(3, 1)]);
    let large = [BlockEntry { bytes: 3000, ..sized(1, 0, 6) }, sized(2, 6, 8), sized(3, 7, 9)];
    assert_eq!(planned(&large, false), [(2, 1)], "those that overlap");
    assert_eq!(planned(&[large[0].clone(), large[1].clone()], false), []);
}
