//! A day in which half of all series are replaced every hour, by a simulated clock on a simulated
//! disk: what the head holds in memory stays what it was, and goes when the series are gone.
//!
//! `cargo test -p pyrrha-storage --test churn -- --nocapture` prints what it holds by hour.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::sync::Arc;
use std::time::Duration;

use pyrrha_env::Clock;
use pyrrha_model::contract::{Ingest, QueryContext, SelectHints, SeriesBatch, SeriesKey};
use pyrrha_model::{Labels, Matcher, TenantId, TimeRange};
use pyrrha_storage::{Db, HeadStats, StorageConfig};
use pyrrha_testkit::{SimClock, SimDisk, SimRng};

const HOUR_MS: i64 = 3_600_000;
const SCRAPE: Duration = Duration::from_secs(120);
const SCRAPES_PER_HOUR: u64 = 30;
const PODS: usize = 50;
const SERIES_PER_POD: usize = 20;

struct World {
    db: Db,
    clock: Arc<SimClock>,
    rng: SimRng,
    /// The pods that run, by number.
    pods: Vec<u64>,
    started: u64,
}

impl World {
    fn new() -> Self {
        let clock = Arc::new(SimClock::new(1_700_000_000_000 / (2 * HOUR_MS) * 2 * HOUR_MS));
        let mut config = StorageConfig::new("data");
        config.wal.segment_bytes = 1 << 20;
        config.disk_reserve_bytes = 0;
        let db = Db::open_single_threaded(config, Arc::new(SimDisk::new(1)), clock.clone()).unwrap();
        Self { db, clock, rng: SimRng::new(7), pods: (0..PODS as u64).collect(), started: PODS as u64 }
    }

    fn labels(pod: u64, series: usize) -> Labels {
        Labels::from_pairs([
            ("__name__", format!("container_metric_{series}")),
            ("namespace", format!("team-{}", pod % 7)),
            ("node", format!("node-{}", pod % 11)),
            ("pod", format!("application-{:016x}", pod.wrapping_mul(0x9e37_79b9_7f4a_7c15))),
        ])
    }

    /// One scrape of all pods, and housekeeping.
    fn scrape(&mut self) {
        self.clock.advance(SCRAPE);
        let now = self.clock.now_ms();
        let mut found = Vec::new();
        let mut appender = self.db.appender(&TenantId::anonymous()).unwrap();
        for &pod in &self.pods {
            for series in 0..SERIES_PER_POD {
                let key = u128::from(pod * SERIES_PER_POD as u64 + series as u64 + 1);
                let key = SeriesKey(key.wrapping_mul(0x9e37_79b9_7f4a_7c15_bf58_476d_1ce4_e5b9));
                found.clear();
                appender.lookup(&[key], &mut found);
                let reference = found[0]
                    .unwrap_or_else(|| appender.resolve(Some(key), &Self::labels(pod, series)).unwrap());
                appender.append(reference, 0, now, (now / 1000 % 977 + series as i64) as f64).unwrap();
            }
        }
        appender.commit().unwrap();
        self.db.maintain().unwrap();
    }

    /// An hour in which `percent` of the pods are replaced, spread over it; gives the most that the
    /// head held.
    fn hour(&mut self, percent: u64) -> HeadStats {
        let mut most = HeadStats::default();
        let mut due = 0;
        for _ in 0..SCRAPES_PER_HOUR {
            due += self.pods.len() as u64 * percent;
            while due >= SCRAPES_PER_HOUR * 100 {
                due -= SCRAPES_PER_HOUR * 100;
                let place = self.rng.index(self.pods.len());
                self.pods[place] = self.started;
                self.started += 1;
            }
            self.scrape();
            let stats = self.db.head_stats();
            most.memory_bytes = most.memory_bytes.max(stats.memory_bytes);
            most.index_bytes = most.index_bytes.max(stats.index_bytes);
            most.series = most.series.max(stats.series);
        }
        most
    }
}

#[test]
fn a_day_of_churn_leaves_memory_flat_and_the_end_of_it_frees_it() {
    let mut world = World::new();
    let hours: Vec<HeadStats> = (0..24).map(|_| world.hour(50)).collect();
    let created = world.db.metrics().series_created.get();
    assert_eq!(created, world.started * SERIES_PER_POD as u64);
    assert!(created > 12 * (PODS * SERIES_PER_POD) as u64, "{created}");
    let removed = world.db.metrics().series_removed.get();
    assert!(removed > created * 3 / 4, "{removed} of {created} have left");
    let most = |hours: &[HeadStats]| hours.iter().map(|h| (h.memory_bytes, h.series)).max().unwrap();
    // Cuts come every two hours, a range and a half behind: by the eighth hour all is as it will be.
    let ((early, few), (late, many)) = (most(&hours[8..16]), most(&hours[16..]));
    let shown: Vec<_> = hours.iter().map(|h| (h.memory_bytes, h.series)).collect();
    println!(
        "{created} series created, {removed} left; most bytes and series of the head by hour: {shown:?}"
    );
    assert!(late <= early + early / 20, "{late} B after {early} B: {shown:?}");
    assert!(many <= few + few / 10, "{many} series after {few}");
    assert!(many < 5 * (PODS * SERIES_PER_POD) as u64);
    // A tenth stays, unchanged.
    world.pods.truncate(PODS / 10);
    for _ in 0..6 {
        world.hour(0);
    }
    let end = world.db.head_stats();
    assert_eq!(end.series, (PODS / 10 * SERIES_PER_POD) as u64);
    let labels = hours[23].index_bytes;
    assert!(end.index_bytes * 5 < labels, "{} B of {labels} B for labels are left", end.index_bytes);
    println!("after six hours with a tenth of the series: {} bytes, {} series", end.memory_bytes, end.series);
    // Rooms for open chunks are kept for the next series.
    assert!(end.memory_bytes * 10 < late * 6, "{} B of {late} B are left", end.memory_bytes);
    // What left the head is in blocks.
    let ctx = QueryContext::unlimited();
    let matchers = [Matcher::equal("__name__", "container_metric_3")];
    let mut set =
        world.db.queryable().select(&ctx, &matchers, TimeRange::ALL, &SelectHints::default()).unwrap();
    let (mut batch, mut series) = (SeriesBatch::default(), 0);
    while set.next_batch(100, &mut batch).unwrap() {
        series += batch.series.len() as u64;
    }
    assert_eq!(series, world.started);
}
