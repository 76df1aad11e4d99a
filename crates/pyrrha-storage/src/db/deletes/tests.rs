//! What deletes hide, show again and remove, through cuts, restarts, compaction and lost checkpoints.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pyrrha_encoding::{SeriesSamples, Want, decode_series};
use pyrrha_model::contract::{Ingest, LabelQuery, Refused, SelectHints, SeriesBatch};
use pyrrha_model::{Exemplar, Labels};
use pyrrha_testkit::{SimClock, SimDisk};

use super::*;
use crate::config::StorageConfig;
use crate::db::tests::{append, labels, read};
use crate::wal::WalConfig;

const MINUTE: i64 = 60_000;

struct Bed {
    disk: SimDisk,
    clock: Arc<SimClock>,
    db: Option<Db>,
}

impl Bed {
    fn new() -> Self {
        let mut bed = Self { disk: SimDisk::new(1), clock: Arc::new(SimClock::new(0)), db: None };
        bed.clock.set_wall(2_000 * MINUTE);
        bed.restart();
        bed
    }

    fn db(&self) -> &Db {
        self.db.as_ref().expect("open")
    }

    fn restart(&mut self) {
        self.db = None;
        let config = StorageConfig {
            quiet_before_cut: Duration::ZERO,
            wal: WalConfig { segment_bytes: 8 << 10, ..WalConfig::default() },
            disk_reserve_bytes: 0,
            ..StorageConfig::new("data")
        };
        let disk = Arc::new(self.disk.clone());
        self.db = Some(Db::open_single_threaded(config, disk, self.clock.clone()).expect("opens"));
    }

    /// Power goes, and comes back.
    fn crash(&mut self) {
        self.disk.power_off();
        self.db = None;
        self.disk.crash();
        self.disk.heal();
        self.restart();
    }

    /// Samples of two series, one a minute.
    fn fill(&self, minutes: std::ops::Range<i64>) {
        for t in minutes {
            append(self.db(), &TenantId::anonymous(), &[(0, t * MINUTE, t as f64), (1, t * MINUTE, 1.0)]);
        }
    }

    fn delete(&self, i: usize, from: i64, to: i64) -> DeleteId {
        let sets = [vec![Matcher::equal("i", i.to_string())]];
        let range = TimeRange::new(from.saturating_mul(MINUTE), to.saturating_mul(MINUTE));
        self.db().delete(&TenantId::anonymous(), &sets, range).expect("deletes").expect("there is something")
    }

    fn undo(&self, id: DeleteId) -> Result<(), ErrorKind> {
        self.db().undo_delete(&TenantId::anonymous(), id).map_err(|e| e.kind())
    }

    /// Minutes at which a series has samples.
    fn minutes(&self, i: usize) -> Vec<i64> {
        let found = read(self.db(), &TenantId::anonymous());
        found.get(&labels(i)).map(|s| s.iter().map(|(t, _)| t / MINUTE).collect()).unwrap_or_default()
    }

    fn maintain(&self) {
        self.db().maintain().expect("maintains");
    }

    /// Samples on the disk, in blocks.
    fn in_blocks(&self) -> u64 {
        self.db().blocks(&TenantId::anonymous()).iter().map(|b| b.stats.num_samples).sum()
    }

    fn standing(&self) -> usize {
        self.db().standing_deletes(&TenantId::anonymous()).expect("lists").len()
    }
}

fn range(minutes: std::ops::Range<i64>) -> Vec<i64> {
    minutes.collect()
}

#[test]
fn a_delete_hides_what_was_there_and_nothing_that_comes_later() {
    let mut bed = Bed::new();
    bed.fill(0..100);
    let id = bed.delete(0, 50, i64::MAX);
    assert_eq!((bed.minutes(0), bed.minutes(1)), (range(0..50), range(0..100)));
    bed.fill(100..110);
    let after: Vec<i64> = (0..50).chain(100..110).collect();
    assert_eq!(bed.minutes(0), after, "newer samples are seen");
    bed.crash();
    assert_eq!((bed.minutes(0), bed.minutes(1)), (after.clone(), range(0..110)));
    bed.restart();
    assert_eq!(bed.minutes(0), after, "with a checkpoint");
    let listed = bed.db().standing_deletes(&TenantId::anonymous()).expect("lists");
    assert_eq!((listed.len(), listed[0].id, listed[0].selectors()), (1, id, vec![r#"{i="0"}"#.to_owned()]));
    bed.undo(id).expect("undone");
    assert_eq!((bed.minutes(0), bed.standing()), (range(0..110), 0));
    bed.crash();
    assert_eq!((bed.minutes(0), bed.standing()), (range(0..110), 0));
    assert_eq!(bed.undo(id), Err(ErrorKind::NotFound));
}

#[test]
fn late_samples_are_deleted_too_and_none_comes_where_a_delete_would_hide_it() {
    let mut bed = Bed::new();
    let tenant = TenantId::anonymous();
    append(bed.db(), &tenant, &[(0, 100 * MINUTE, 1.0)]);
    append(bed.db(), &tenant, &[(0, 60 * MINUTE, 1.0), (0, 90 * MINUTE, 1.0)]);
    let id = bed.delete(0, 50, 70);
    assert_eq!(bed.minutes(0), [90, 100]);
    let late = |bed: &Bed, minute: i64| {
        let mut appender = bed.db().appender(&tenant).expect("an appender");
        let series = appender.resolve(None, &labels(0)).expect("a series");
        let result = appender.append(series, 0, minute * MINUTE, 2.0);
        appender.commit().expect("a commit");
        result
    };
    assert_eq!(late(&bed, 65), Err(Refused::Deleted), "it would be acknowledged and not seen");
    late(&bed, 80).expect("nothing is deleted there");
    bed.crash();
    assert_eq!((late(&bed, 65), bed.minutes(0)), (Err(Refused::Deleted), vec![80, 90, 100]));
    bed.undo(id).expect("undone");
    late(&bed, 65).expect("no delete stands");
    assert_eq!(bed.minutes(0), [60, 65, 80, 90, 100]);
}

#[test]
fn the_newest_sample_that_is_shown_is_the_newest() {
    let bed = Bed::new();
    bed.fill(0..100);
    bed.delete(0, 50, i64::MAX);
    let hints = SelectHints { newest_only: true, ..SelectHints::default() };
    let ctx = QueryContext::unlimited();
    let mut set = bed.db().queryable().select(&ctx, &[], TimeRange::ALL, &hints).expect("selects");
    let (mut batch, mut samples) = (SeriesBatch::default(), SeriesSamples::default());
    assert!(set.next_batch(10, &mut batch).expect("a batch"));
    let newest = batch.series.iter().map(|entry| {
        decode_series(entry, TimeRange::ALL, Want::default(), &mut samples).expect("chunks");
        samples.floats.times.last().map(|t| t / MINUTE)
    });
    assert_eq!(newest.collect::<Vec<_>>(), [Some(49), Some(99)]);
}

#[test]
fn a_delete_of_all_hides_series_from_lists() {
    let bed = Bed::new();
    bed.fill(0..400);
    bed.maintain();
    assert!(bed.in_blocks() > 0);
    bed.delete(1, 0, i64::MAX);
    let (ctx, store) = (QueryContext::unlimited(), bed.db().queryable());
    let found = store.series(&ctx, &LabelQuery::all(TimeRange::ALL)).expect("series");
    assert_eq!(found, [labels(0)]);
    assert_eq!(bed.minutes(1), range(0..0));
    assert_eq!(bed.minutes(0), range(0..400));
    let other = Labels::from_pairs([("a", "b")]);
    assert!(!found.contains(&other));
}

#[test]
fn what_is_deleted_in_the_head_stays_hidden_in_its_block_and_comes_back() {
    let mut bed = Bed::new();
    bed.fill(0..100);
    let first = bed.delete(0, 10, 90);
    bed.fill(100..110);
    let second = bed.delete(0, 80, 105);
    bed.fill(110..400);
    let shown: Vec<i64> = (0..10).chain(106..400).collect();
    assert_eq!(bed.minutes(0), shown);
    bed.maintain();
    assert!(bed.in_blocks() > 400, "what may come back is in the block");
    assert_eq!((bed.minutes(0), bed.minutes(1)), (shown.clone(), range(0..400)));
    bed.crash();
    assert_eq!(bed.minutes(0), shown);
    // The log has no more of it, and the checkpoints are lost: blocks and log say it all.
    for t in 400..900 {
        bed.fill(t..t + 1);
        bed.maintain();
    }
    assert_eq!(bed.standing(), 2);
    bed.db = None;
    for entry in pyrrha_env::Disk::list(&bed.disk, Path::new("data/checkpoint")).expect("lists") {
        let path = Path::new("data/checkpoint").join(entry.name);
        pyrrha_env::Disk::remove_file(&bed.disk, &path).expect("removes");
    }
    bed.restart();
    let shown: Vec<i64> = (0..10).chain(106..900).collect();
    assert_eq!((bed.minutes(0), bed.standing()), (shown, 2));
    bed.undo(first).expect("undone");
    assert_eq!(bed.minutes(0), (0..80).chain(106..900).collect::<Vec<_>>());
    bed.crash();
    bed.undo(second).expect("undone");
    assert_eq!((bed.minutes(0), bed.minutes(1)), (range(0..900), range(0..900)));
}

#[test]
fn after_a_day_a_delete_is_final_and_its_samples_leave_the_disk() {
    let mut bed = Bed::new();
    bed.fill(0..800);
    bed.maintain();
    let stored = bed.in_blocks();
    let id = bed.delete(0, 100, 200);
    let later = bed.delete(0, 790, i64::MAX);
    bed.maintain();
    assert_eq!(bed.in_blocks(), stored, "nothing is removed yet");
    let shown: Vec<i64> = (0..100).chain(201..790).collect();
    assert_eq!(bed.minutes(0), shown);
    bed.clock.advance(Duration::from_secs(24 * 3600));
    bed.maintain();
    bed.maintain();
    // Nothing came for a day, so the head has become a block too, without what is final.
    assert_eq!(bed.in_blocks(), 1600 - 101 - 10);
    assert_eq!(bed.minutes(0), shown);
    assert_eq!((bed.undo(id), bed.undo(later)), (Err(ErrorKind::NotFound), Err(ErrorKind::NotFound)));
    assert_eq!(bed.standing(), 0, "nothing is left of either");
    bed.crash();
    assert_eq!((bed.minutes(0), bed.minutes(1)), (shown, range(0..800)));
    // The log has them still, and so has the head that it brought back; nobody can undo it.
    let standing = bed.db().standing_deletes(&TenantId::anonymous()).expect("lists");
    assert!(standing.iter().all(|d| d.is_final), "{standing:?}");
}

#[test]
fn what_is_final_in_the_head_is_not_written_into_its_block() {
    let mut bed = Bed::new();
    bed.fill(0..100);
    let id = bed.delete(0, 20, i64::MAX);
    bed.db().purge_deletes(&TenantId::anonymous()).expect("purges");
    assert_eq!((bed.undo(id), bed.standing()), (Err(ErrorKind::Invalid), 1), "the head still has some");
    bed.fill(100..400);
    bed.crash();
    let shown: Vec<i64> = (0..20).chain(100..400).collect();
    assert_eq!(bed.minutes(0), shown);
    bed.maintain();
    bed.maintain();
    assert_eq!(bed.in_blocks(), 2 * 240 - 80);
    assert_eq!((bed.minutes(0), bed.standing()), (shown.clone(), 0), "the cut has applied it");
    bed.crash();
    assert_eq!((bed.minutes(0), bed.minutes(1)), (shown, range(0..400)));
}

#[test]
fn purging_removes_at_once_and_a_younger_delete_goes_along() {
    let mut bed = Bed::new();
    bed.fill(0..800);
    bed.maintain();
    let stored = bed.in_blocks();
    bed.delete(0, 0, 10);
    let id = bed.delete(1, 0, i64::MAX);
    bed.db().purge_deletes(&TenantId::anonymous()).expect("purges");
    assert!(bed.in_blocks() < stored / 2, "one of two series has left");
    assert_eq!(bed.undo(id), Err(ErrorKind::Invalid));
    assert_eq!((bed.minutes(0), bed.minutes(1)), (range(11..800), vec![]));
    bed.crash();
    assert_eq!((bed.minutes(0), bed.minutes(1)), (range(11..800), vec![]));
    bed.fill(800..810);
    assert_eq!(bed.minutes(1), range(800..810));
}

#[test]
fn compaction_keeps_what_may_come_back() {
    let bed = Bed::new();
    bed.fill(0..300);
    let id = bed.delete(0, 0, 250);
    bed.fill(300..1500);
    for _ in 0..3 {
        bed.maintain();
    }
    assert!(bed.db().metrics().compactions.get() > 0);
    let shown: Vec<i64> = (251..1500).collect();
    assert_eq!(bed.minutes(0), shown);
    bed.undo(id).expect("undone");
    bed.maintain();
    assert_eq!((bed.minutes(0), bed.minutes(1)), (range(0..1500), range(0..1500)));
}

#[test]
fn nobody_elses_series_are_deleted() {
    let bed = Bed::new();
    let other = TenantId::new("other").expect("a tenant");
    assert_eq!(bed.db().delete(&other, &[vec![]], TimeRange::ALL).expect("deletes"), None);
    append(bed.db(), &other, &[(0, MINUTE, 1.0)]);
    bed.fill(0..10);
    bed.db().delete(&other, &[vec![]], TimeRange::ALL).expect("deletes");
    assert_eq!(read(bed.db(), &other).len(), 0);
    assert_eq!(bed.minutes(0), range(0..10));
    assert!(bed.db().appender(&other).is_ok());
}

#[test]
fn a_range_that_is_purged_with_its_block_does_not_come_back_out_of_the_log() {
    let mut bed = Bed::new();
    let other = TenantId::new("other").expect("a tenant");
    // It stays in the head, and all of the log behind it.
    append(bed.db(), &other, &[(0, 2_000 * MINUTE, 1.0)]);
    bed.fill(0..100);
    bed.fill(240..500);
    bed.maintain();
    bed.delete(0, 0, 120);
    bed.delete(1, 0, 120);
    bed.db().purge_deletes(&TenantId::anonymous()).expect("purges");
    let blocks = bed.db().blocks(&TenantId::anonymous());
    assert!(blocks.iter().all(|b| b.min_time >= 120 * MINUTE), "the block had nothing else");
    for _ in 0..3 {
        bed.crash();
        assert_eq!((bed.minutes(0), bed.minutes(1)), (range(240..500), range(240..500)));
        bed.maintain();
        bed.maintain();
    }
    bed.restart();
    assert_eq!(bed.minutes(0), range(240..500), "with a checkpoint");
}

#[test]
fn what_was_deleted_in_a_block_alone_does_not_come_back_out_of_the_log() {
    let mut bed = Bed::new();
    let other = TenantId::new("other").expect("a tenant");
    append(bed.db(), &other, &[(0, 2_000 * MINUTE, 1.0)]);
    bed.fill(0..100);
    let newest: Vec<_> = (300..500).map(|t| (2, t * MINUTE, 1.0)).collect();
    append(bed.db(), &TenantId::anonymous(), &newest);
    bed.maintain();
    bed.delete(0, 0, 120);
    bed.delete(1, 0, 120);
    bed.db().purge_deletes(&TenantId::anonymous()).expect("purges");
    assert!(bed.db().blocks(&TenantId::anonymous()).iter().all(|b| b.min_time >= 120 * MINUTE));
    for _ in 0..3 {
        bed.crash();
        assert_eq!((bed.minutes(0), bed.minutes(1), bed.minutes(2)), (vec![], vec![], range(300..500)));
        bed.maintain();
    }
}

#[test]
fn an_older_sample_that_came_after_a_delete_is_seen_after_a_restart_too() {
    let mut bed = Bed::new();
    let (tenant, other) = (TenantId::anonymous(), TenantId::new("other").expect("a tenant"));
    append(bed.db(), &other, &[(0, 2_000 * MINUTE, 1.0)]);
    bed.fill(0..350);
    let id = bed.delete(0, 0, i64::MAX);
    bed.fill(350..430);
    bed.maintain();
    append(bed.db(), &tenant, &[(0, 340 * MINUTE + 1, 7.0)]);
    let shown: Vec<i64> = [340].into_iter().chain(350..430).collect();
    assert_eq!(bed.minutes(0), shown, "what the delete hides is in blocks");
    bed.crash();
    assert_eq!(bed.minutes(0), shown);
    bed.restart();
    assert_eq!(bed.minutes(0), shown, "with a checkpoint");
    bed.crash();
    assert_eq!(bed.minutes(0), shown, "with a checkpoint alone");
    bed.undo(id).expect("undone");
    assert_eq!(bed.minutes(0).len(), 431);
}

#[test]
fn deletes_that_have_nothing_left_do_not_count_to_the_limit() {
    let bed = Bed::new();
    bed.fill(0..10);
    for _ in 0..MOST_STANDING {
        bed.delete(0, 20, 30);
    }
    let sets = [vec![Matcher::equal("i", "0")]];
    let refused = bed.db().delete(&TenantId::anonymous(), &sets, TimeRange::ALL);
    assert_eq!(refused.map_err(|e| e.kind()), Err(ErrorKind::Limit));
    bed.db().purge_deletes(&TenantId::anonymous()).expect("purges");
    assert_eq!(bed.standing(), 0);
    bed.delete(0, 5, i64::MAX);
    assert_eq!(bed.minutes(0), range(0..5));
}

#[test]
fn exemplars_that_no_delete_speaks_of_outlive_their_block() {
    let mut bed = Bed::new();
    let tenant = TenantId::anonymous();
    let exemplars = |bed: &Bed| -> Vec<i64> {
        let found =
            bed.db().queryable().exemplars(&QueryContext::unlimited(), &LabelQuery::all(TimeRange::ALL));
        found.expect("reads").iter().flat_map(|e| &e.exemplars).map(|e| e.timestamp / MINUTE).collect()
    };
    bed.fill(0..430);
    bed.maintain();
    let mut appender = bed.db().appender(&tenant).expect("an appender");
    let series = appender.resolve(None, &labels(1)).expect("a series");
    for timestamp in [10 * MINUTE, 420 * MINUTE, 450 * MINUTE + 30_000] {
        let exemplar = Exemplar { labels: labels(9), value: 1.0, timestamp };
        appender.append_exemplar(series, exemplar).expect("admitted");
    }
    let other = appender.resolve(None, &labels(2)).expect("a series");
    let exemplar = Exemplar { labels: labels(9), value: 2.0, timestamp: 421 * MINUTE };
    appender.append_exemplar(other, exemplar).expect("admitted");
    appender.commit().expect("commits");
    bed.fill(430..550);
    bed.maintain();
    assert_eq!(exemplars(&bed), [10, 420, 450, 421]);
    // No sample is between the two, and one exemplar is.
    for i in [0, 1] {
        bed.delete(i, 360, 450);
        bed.delete(i, 451, 479);
    }
    bed.db().purge_deletes(&tenant).expect("purges");
    let blocks = bed.db().blocks(&tenant);
    assert!(blocks.iter().all(|b| b.max_time <= 360 * MINUTE || b.min_time >= 480 * MINUTE));
    assert_eq!(exemplars(&bed), [10, 450, 421], "one went with what was deleted of its series");
    bed.crash();
    assert_eq!(exemplars(&bed), [10, 450, 421]);
    bed.fill(550..700);
    bed.maintain();
    bed.restart();
    assert_eq!(exemplars(&bed), [10, 450, 421]);
}
