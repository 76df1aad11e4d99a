//! Which blocks answer which time.

use std::sync::Arc;

use pyrrha_model::contract::WindowHints;
use pyrrha_storage::block::{BlockId, BlockMeta};
use pyrrha_storage::manifest::BlockEntry;

use super::*;
use crate::downsample::FIVE_MINUTES;

fn candidate(n: u64, from: i64, to: i64, resolution: i64) -> Candidate {
    let meta = BlockMeta::of_head(BlockId::from_parts(n, 0), from * HOUR, to * HOUR);
    let mut entry = BlockEntry { resolution, ..BlockEntry::of(&meta, 1) };
    if resolution > 0 {
        entry.other.insert("downsampled".to_owned(), serde_json::json!({"from": [], "through": 1}));
        entry.sources = (1..4).map(|n| BlockId::from_parts(n, 0)).collect();
    }
    Candidate { entry: Arc::new(entry), since: i64::MIN, hidden: false, usable: true }
}

fn hints(step: i64, range: i64) -> SelectHints {
    let windows = Some(WindowHints { max_resolution_ms: i64::MAX, ..WindowHints::default() });
    SelectHints { step_ms: step, range_ms: range, windows, ..SelectHints::default() }
}

fn hours(from: i64, to: i64) -> TimeRange {
    TimeRange::new(from * HOUR, to * HOUR)
}

/// Resolution, first and last hour of each part, by time.
fn chosen(candidates: &[Candidate], range: TimeRange, hints: &SelectHints) -> Vec<(i64, i64, i64)> {
    let mut parts: Vec<_> = choose(candidates, range, hints)
        .parts
        .iter()
        .map(|p| (p.entry.resolution, p.range.start.div_euclid(HOUR), (p.range.end + 1).div_euclid(HOUR)))
        .collect();
    parts.sort_by_key(|p| p.1);
    parts
}

#[test]
fn resolution_follows_step_and_range() {
    let aligned = hours(0, 10);
    let fine = |r, range, h: &SelectHints| is_fine_enough(r, true, range, h);
    assert!(fine(HOUR, aligned, &hints(HOUR, HOUR)));
    assert!(fine(HOUR, aligned, &hints(HOUR, 0)));
    assert!(fine(HOUR, aligned, &hints(0, 24 * HOUR)));
    assert!(!fine(HOUR, aligned, &hints(0, 0)), "one instant");
    assert!(!fine(HOUR, aligned, &hints(HOUR, HOUR / 2)));
    assert!(!fine(HOUR, aligned, &hints(HOUR / 2, HOUR)));
    let shifted = TimeRange::new(0, 10 * HOUR + 1_800_000);
    assert!(!fine(HOUR, shifted, &hints(HOUR, HOUR)));
    assert!(fine(HOUR, shifted, &hints(5 * HOUR, 5 * HOUR)));
    assert!(fine(FIVE_MINUTES, shifted, &hints(HOUR, HOUR)));
    assert!(!is_fine_enough(HOUR, false, aligned, &hints(HOUR, HOUR)), "others' windows");
    assert!(is_fine_enough(HOUR, false, aligned, &hints(HOUR, 2 * HOUR)));
    let mut edges = hints(HOUR, 2 * HOUR);
    edges.windows = Some(WindowHints { edges: true, max_resolution_ms: i64::MAX, ..WindowHints::default() });
    assert!(
        fine(HOUR, aligned, &edges) && !is_fine_enough(HOUR, false, aligned, &edges),
        "their last samples"
    );
    let mut limited = hints(HOUR, HOUR);
    limited.windows = Some(WindowHints { max_resolution_ms: FIVE_MINUTES, ..WindowHints::default() });
    assert!(!fine(HOUR, aligned, &limited) && fine(FIVE_MINUTES, aligned, &limited));
    limited.windows = None;
    assert!(!fine(FIVE_MINUTES, aligned, &limited));
}

#[test]
fn each_time_is_answered_by_the_coarsest_that_does() {
    let all = [
        candidate(1, 0, 24, 0),
        candidate(2, 24, 48, 0),
        candidate(3, 48, 50, 0),
        candidate(4, 0, 24, HOUR),
        candidate(5, 0, 24, FIVE_MINUTES),
        candidate(6, 24, 48, FIVE_MINUTES),
    ];
    let range = hours(10, 50);
    // Windows are read from an hour before the range.
    let found = chosen(&all, range, &hints(HOUR, HOUR));
    assert_eq!(found, [(HOUR, 9, 24), (FIVE_MINUTES, 24, 48), (0, 48, 50)]);
    assert_eq!(
        chosen(&all, range, &hints(600_000, HOUR)),
        [(FIVE_MINUTES, 9, 24), (FIVE_MINUTES, 24, 48), (0, 48, 50)]
    );
    assert_eq!(chosen(&all, range, &hints(60_000, 60_000)), [(0, 10, 24), (0, 24, 48), (0, 48, 50)]);
    let plain = SelectHints { windows: None, ..hints(HOUR, HOUR) };
    assert_eq!(chosen(&all, range, &plain).len(), 3);
    assert!(choose(&all, range, &hints(HOUR, HOUR)).coarse.is_empty());
}

#[test]
fn windows_that_lack_something_are_passed_over() {
    let mut all = vec![candidate(1, 0, 24, 0), candidate(4, 0, 24, HOUR), candidate(5, 0, 24, FIVE_MINUTES)];
    all[1].usable = false;
    assert_eq!(chosen(&all, hours(1, 20), &hints(HOUR, HOUR)), [(FIVE_MINUTES, 0, 20)]);
    all[2].usable = false;
    assert_eq!(chosen(&all, hours(1, 20), &hints(HOUR, HOUR)), [(0, 1, 20)]);
}

#[test]
fn where_samples_are_gone_the_next_coarser_answers_and_says_so() {
    let all = [candidate(2, 24, 48, 0), candidate(4, 0, 24, HOUR), candidate(5, 0, 24, FIVE_MINUTES)];
    let found = choose(&all, hours(10, 30), &hints(60_000, 60_000));
    assert_eq!(found.coarse.len(), 1);
    let (range, resolution) = found.coarse[0];
    assert_eq!((range.start.div_euclid(HOUR), range.end + 1, resolution), (9, 24 * HOUR, FIVE_MINUTES));
    let warning = warning(range, resolution, &hints(60_000, 60_000));
    assert!(warning.contains("range [1m] was widened to 5m"), "{warning}");
    assert_eq!(chosen(&all, hours(10, 30), &hints(60_000, 60_000)), [(FIVE_MINUTES, 9, 24), (0, 24, 30)]);
    // What was asked for is no reason for a warning.
    assert!(choose(&all, hours(10, 30), &hints(HOUR, HOUR)).coarse.is_empty());
    // An instant, and a source that hides a block.
    assert_eq!(choose(&all, hours(10, 12), &hints(0, 0)).coarse.len(), 1);
    let mut hidden = candidate(1, 0, 24, 0);
    hidden.hidden = true;
    let with_hidden = [hidden, all[1].clone(), all[2].clone()];
    assert!(choose(&with_hidden, hours(10, 12), &hints(0, 0)).parts.is_empty());
}

#[test]
fn samples_that_end_in_the_middle_of_a_window_are_all_there_is() {
    let mut all = [candidate(1, 0, 24, 0), candidate(5, 0, 24, FIVE_MINUTES)];
    let entry = Arc::make_mut(&mut all[0].entry);
    (entry.min_time, entry.max_time) = (30_000, 24 * HOUR - 29_999);
    let found = choose(&all, hours(0, 24), &hints(60_000, 60_000));
    assert_eq!((found.coarse.len(), found.parts.len()), (0, 1));
    assert_eq!(found.parts[0].entry.resolution, 0);
}

#[test]
fn what_came_after_samples_had_gone_does_not_stand_for_them() {
    let late = candidate(9, 4, 6, 0);
    let all = [candidate(5, 0, 24, FIVE_MINUTES), late.clone()];
    let (range, fine) = (hours(2, 20), hints(60_000, 60_000));
    assert_eq!(chosen(&all, range, &fine), [(FIVE_MINUTES, 1, 20), (0, 4, 6)]);
    // Beside samples that they were made of, both are read.
    let all = [candidate(1, 0, 24, 0), all[0].clone(), late];
    assert_eq!(chosen(&all, range, &fine), [(0, 2, 20), (0, 4, 6)]);
}

#[test]
fn a_block_of_all_times_is_a_block() {
    let mut all = candidate(1, 0, 1, HOUR);
    let entry = Arc::make_mut(&mut all.entry);
    (entry.min_time, entry.max_time) = (i64::MIN, i64::MAX);
    assert_eq!(chosen(&[all, candidate(2, 0, 24, HOUR)], hours(0, 10), &hints(HOUR, HOUR))[0].0, HOUR);
}
