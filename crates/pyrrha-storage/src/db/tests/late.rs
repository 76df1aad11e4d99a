//! Samples that come out of order: seen at once, there after every restart, part of a block in the
//! end.

use std::time::Duration;

use proptest::prelude::*;
use pyrrha_model::FloatHistogram;
use pyrrha_model::contract::Refused;
use pyrrha_testkit::{SimClock, SimDisk};

use super::*;

const NOW: i64 = 1_700_000_000_000;
const RANGE: i64 = 60_000;

struct World {
    disk: SimDisk,
    clock: Arc<SimClock>,
    config: StorageConfig,
    tenant: TenantId,
    db: Option<Db>,
}

impl World {
    fn new(config: StorageConfig) -> Self {
        let clock = Arc::new(SimClock::new(NOW));
        let mut world =
            Self { disk: SimDisk::new(1), clock, config, tenant: TenantId::anonymous(), db: None };
        world.open();
        world
    }

    fn with_window(window: i64) -> Self {
        Self::new(StorageConfig {
            block_range_ms: RANGE,
            samples_per_chunk: 10,
            quiet_before_cut: Duration::ZERO,
            idle_cut_after: Duration::from_secs(20),
            checkpoint_after_samples: 200,
            out_of_order_window_ms: window,
            ..StorageConfig::new("data")
        })
    }

    fn without_compaction(window: i64) -> Self {
        let mut world = Self::with_window(window);
        world.config.compaction = false;
        world.restart();
        world
    }

    fn open(&mut self) {
        let (disk, clock) = (Arc::new(self.disk.clone()), self.clock.clone());
        self.db = Some(Db::open_single_threaded(self.config.clone(), disk, clock).expect("opens"));
    }

    fn restart(&mut self) {
        self.db = None;
        self.open();
    }

    fn kill(&mut self) {
        self.disk.power_off();
        self.db = None;
        self.disk.crash();
        self.disk.heal();
        self.open();
    }

    fn db(&self) -> &Db {
        self.db.as_ref().expect("it is open")
    }

    fn try_append(&self, samples: &[(usize, i64, Value)]) -> Vec<Result<(), Refused>> {
        let mut appender = self.db().appender(&self.tenant).expect("an appender");
        let results = samples
            .iter()
            .map(|(i, t, value)| {
                let series = appender.resolve(None, &labels(*i)).expect("a series");
                appender.append_histogram(series, t - 1, *t, value.clone())
            })
            .collect();
        appender.commit().expect("a commit");
        results
    }

    fn append(&self, i: usize, t: i64, v: f64) -> Result<(), Refused> {
        self.try_append(&[(i, t, Value::Float(v))]).remove(0)
    }

    fn maintain(&self) {
        self.db().maintain().expect("maintains");
    }

    fn read(&self) -> Samples {
        read(self.db(), &self.tenant)
    }

    fn metas(&self) -> Vec<crate::block::BlockMeta> {
        let tenant = self.db().shared.tenants.get(&self.tenant).expect("a tenant");
        let mut metas: Vec<_> = tenant.blocks().iter().map(|b| b.meta().clone()).collect();
        metas.sort_by_key(|m| (m.min_time, m.compaction.hints.clone()));
        metas
    }
}

fn histogram(count: u64, sum: f64) -> Histogram {
    Histogram {
        count,
        sum,
        positive_spans: vec![Span { offset: (count % 3) as i32, length: 1 }],
        positive_buckets: vec![count as i64],
        ..Histogram::default()
    }
}

/// The value of a sample is a function of its place; each series is of another kind.
fn value(series: usize, t: i64) -> Value {
    let n = (t - NOW).unsigned_abs() + 1;
    match series % 4 {
        _ if n.is_multiple_of(17) && series % 4 < 2 => Value::Float(stale_nan()),
        0 => Value::Float(n as f64 / 8.0),
        1 => Value::Histogram(Box::new(histogram(n, n as f64))),
        2 => Value::FloatHistogram(Box::new(histogram(n, -(n as f64)).to_float())),
        _ if n.is_multiple_of(2) => Value::Histogram(Box::new(histogram(n, 0.5))),
        _ => Value::Float(n as f64),
    }
}

fn bits(value: &Value) -> u64 {
    match value {
        Value::Float(v) => v.to_bits(),
        Value::Histogram(h) => h.sum.to_bits(),
        Value::FloatHistogram(h) => {
            let FloatHistogram { sum, .. } = &**h;
            sum.to_bits()
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// Series, and how far behind the present time, in seconds.
    Append(Vec<(usize, i64)>),
    Advance(u64),
    Maintain,
    Restart,
    Kill,
}

fn step() -> impl Strategy<Value = Step> {
    let sample = (0usize..4, prop_oneof![3 => 0i64..10, 2 => 0i64..600]);
    prop_oneof![
        12 => prop::collection::vec(sample, 1..40).prop_map(Step::Append),
        4 => (1u64..60).prop_map(Step::Advance),
        4 => Just(Step::Maintain),
        1 => Just(Step::Restart),
        1 => Just(Step::Kill),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn whatever_the_order_every_sample_is_there_once(
        steps in prop::collection::vec(step(), 1..60),
        window in prop_oneof![Just(0i64), Just(100_000), Just(1_000_000)],
        starts in any::<bool>(),
    ) {
        let mut world = World::with_window(window);
        world.config.start_timestamps = starts;
        world.restart();
        let mut expected = Samples::new();
        let mut newest: Option<i64> = None;
        for step in steps {
            match step {
                Step::Append(samples) => {
                    let now = world.clock.now_ms();
                    let samples: Vec<_> = samples.into_iter()
                        .map(|(i, behind)| { let t = now - behind * 1000; (i, t, value(i, t)) }).collect();
                    let results = world.try_append(&samples);
                    for ((i, t, value), result) in samples.into_iter().zip(results) {
                        let stored = expected.entry(labels(i)).or_default();
                        let young = window > 0 && newest.is_none_or(|n| t >= n.min(now) - window);
                        prop_assert!(result.is_ok() || !young, "{result:?} t={t} newest={newest:?}");
                        if result.is_ok() {
                            newest = newest.max(Some(t));
                            if let Err(at) = stored.binary_search_by_key(&t, |s| s.0) {
                                stored.insert(at, (t, bits(&value)));
                            }
                        }
                    }
                }
                Step::Advance(seconds) => world.clock.advance(Duration::from_secs(seconds)),
                Step::Maintain => {
                    world.maintain();
                    prop_assert_eq!(&world.read(), &without_empty(&expected));
                }
                Step::Restart => world.restart(),
                Step::Kill => world.kill(),
            }
            prop_assert_eq!(&world.read(), &without_empty(&expected));
        }
        prop_assert_eq!(world.db().metrics().conflicts.get(), 0);
        // In the end all becomes blocks.
        world.clock.advance(Duration::from_secs(1000));
        world.maintain();
        world.maintain();
        prop_assert_eq!(&world.read(), &without_empty(&expected));
        let stats = world.db().head_stats();
        prop_assert_eq!((stats.series, stats.chunks, stats.late_chunks), (0, 0, 0));
        world.kill();
        prop_assert_eq!(&world.read(), &without_empty(&expected));
    }
}

fn without_empty(samples: &Samples) -> Samples {
    samples.iter().filter(|(_, s)| !s.is_empty()).map(|(l, s)| (l.clone(), s.clone())).collect()
}

#[test]
fn late_samples_of_a_range_that_is_cut_become_an_overlapping_block() {
    let mut world = World::without_compaction(10 * RANGE);
    let start = NOW - NOW % RANGE;
    let at = |second: i64| start + second * 1000;
    for second in (0..180).step_by(2) {
        world.clock.set_wall(at(second));
        let n = second as u64 + 1;
        let histogram = Value::Histogram(Box::new(histogram(n - n % 3, n as f64)));
        let samples = [(0, at(second), Value::Float(1.0)), (1, at(second), histogram)];
        assert!(world.try_append(&samples).iter().all(Result::is_ok));
        // Late for the range that is open: it goes into the same block.
        if second == 40 {
            assert_eq!(world.append(0, at(11), 2.0), Ok(()));
        }
    }
    world.maintain();
    let metas = world.metas();
    assert_eq!(metas.len(), 2);
    assert_eq!(metas[0].stats.num_samples, 61, "30 of each series, and the late one");
    assert!(metas.iter().all(|m| m.compaction.hints.is_empty()));
    for second in (1..60).step_by(2).filter(|s| *s != 11) {
        let reset = Value::Histogram(Box::new(histogram(1, second as f64)));
        let samples =
            [(0, at(second), Value::Float(3.0)), (1, at(second), reset), (2, at(second), Value::Float(9.0))];
        assert!(world.try_append(&samples).iter().all(Result::is_ok), "also of a series that is new");
    }
    let before = world.read();
    assert_eq!(before.values().map(Vec::len).collect::<Vec<_>>(), [90 + 30, 90 + 29, 29]);
    world.kill();
    assert_eq!(world.read(), before);
    world.maintain();
    assert_eq!(world.metas().len(), 2, "late samples wait for company");
    world.clock.advance(Duration::from_secs(40));
    world.maintain();
    let metas = world.metas();
    assert_eq!(metas.len(), 4, "the open range too");
    let late = &metas[1];
    assert_eq!((late.min_time, late.max_time), (start, start + RANGE));
    assert_eq!(late.compaction.hints, ["from-out-of-order"]);
    assert_eq!((late.compaction.level, late.stats.num_samples), (1, 29 * 3));
    assert_eq!(world.db().metrics().late_blocks_cut.get(), 1);
    let stats = world.db().head_stats();
    assert_eq!((stats.series, stats.chunks, stats.late_chunks), (0, 0, 0));
    assert_eq!(world.read(), before);
    world.restart();
    assert_eq!(world.read(), before);
    assert_eq!(world.db().metrics().replayed_late.get(), 0, "the checkpoint knows that a block has them");
}

#[test]
fn the_first_value_stays_in_the_head_and_the_merge_decides_after() {
    let mut world = World::without_compaction(10 * RANGE);
    let t = NOW - NOW % RANGE;
    assert_eq!(world.append(0, t, 5.0), Ok(()));
    assert_eq!(world.append(0, t + 10, stale_nan()), Ok(()));
    assert_eq!(world.append(0, t + 20, 5.0), Ok(()));
    assert_eq!(world.append(0, t, 6.0), Err(Refused::Duplicate));
    assert_eq!(world.append(0, t, 5.0), Ok(()));
    world.clock.advance(Duration::from_secs(100));
    assert_eq!(world.append(0, t + 2 * RANGE, 1.0), Ok(()));
    world.maintain();
    assert_eq!(world.metas().len(), 1);
    let duplicate = || Err(Refused::Duplicate);
    assert_eq!(world.append(0, t, 6.0), Ok(()), "the stored one is in a block");
    assert_eq!(world.append(0, t, 5.0), duplicate(), "the late one is in the head");
    assert_eq!(world.append(0, t + 10, 0.5), Ok(()), "anything goes before a stale marker");
    assert_eq!(world.append(0, t + 20, 4.0), Ok(()));
    let read =
        |world: &World| world.read()[&labels(0)].iter().map(|s| f64::from_bits(s.1)).collect::<Vec<_>>();
    assert_eq!(read(&world), [6.0, 0.5, 5.0, 1.0]);
    world.kill();
    assert_eq!(world.append(0, t, 7.0), duplicate());
    assert_eq!(read(&world), [6.0, 0.5, 5.0, 1.0]);
    world.clock.advance(Duration::from_secs(30));
    world.maintain();
    assert_eq!(world.metas().len(), 2);
    assert_eq!(read(&world), [6.0, 0.5, 5.0, 1.0], "the same in blocks");
    world.config.compaction = true;
    world.restart();
    world.maintain();
    assert_eq!(world.metas().len(), 1, "merged");
    assert_eq!(read(&world), [6.0, 0.5, 5.0, 1.0], "and after a compaction");
}

#[test]
fn the_window_is_that_of_the_tenant() {
    let mut config = StorageConfig::new("data");
    config.out_of_order_window_ms = 1000;
    config.tenant_out_of_order_window_ms = [("wide", 100_000), ("none", 0)]
        .map(|(id, window)| (TenantId::new(id).expect("a tenant"), window))
        .into();
    let mut world = World::new(config);
    let mut verdict = |id: &str, behind: i64| {
        world.tenant = TenantId::new(id).expect("a tenant");
        world.append(0, NOW, 1.0).expect("in order");
        world.append(0, NOW - behind, 1.0)
    };
    assert_eq!(verdict("a", 1000), Ok(()));
    assert_eq!(verdict("a", 1001), Err(Refused::TooOld));
    assert_eq!(verdict("wide", 100_000), Ok(()));
    assert_eq!(verdict("wide", 100_001), Err(Refused::TooOld));
    assert_eq!(verdict("none", 1), Err(Refused::OutOfOrder));
}

#[test]
fn a_full_disk_keeps_late_samples_in_the_log() {
    let mut world = World::with_window(10 * RANGE);
    let start = NOW - NOW % RANGE;
    let mut expected = Vec::new();
    for i in 0..200i64 {
        let t = start + i * 1000;
        world.clock.set_wall(t);
        assert_eq!(world.append(0, t, i as f64), Ok(()));
        expected.push((t, (i as f64).to_bits()));
        if i > 20 && i % 3 == 0 {
            let late = t - 15_500;
            assert_eq!(world.append(0, late, 0.25), Ok(()));
            expected.push((late, 0.25f64.to_bits()));
        }
        if i % 10 == 0 {
            // No block can be written.
            world.disk.set_capacity(Some(world.disk.used() + 3000));
            let _ = world.db().maintain();
            world.disk.set_capacity(None);
            world.disk.heal();
        }
    }
    expected.sort_unstable();
    assert_eq!(world.read()[&labels(0)], expected);
    world.kill();
    assert_eq!(world.read()[&labels(0)], expected);
    world.clock.advance(Duration::from_secs(100));
    world.maintain();
    world.maintain();
    assert_eq!(world.read()[&labels(0)], expected);
    assert_eq!(world.db().head_stats().late_chunks, 0);
}
