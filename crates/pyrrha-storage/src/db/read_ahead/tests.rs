//! A reader on a thread of its own brings what a reader on the same thread brings, in the same order.

use std::path::Path;
use std::sync::Arc;

use pyrrha_env::Clock;
use pyrrha_testkit::{SimClock, SimDisk};

use super::*;
use crate::wal::{Wal, WalConfig, WalSink};

/// What a sink was given, as text.
#[derive(Debug, Default, PartialEq)]
struct Told {
    lines: Vec<String>,
    /// So many calls of `tenant` fail.
    refusals: usize,
}

impl ReplaySink for Told {
    type Error = String;

    fn tenant(&mut self, tenant: &TenantId) -> Result<(), String> {
        if self.refusals > 0 {
            self.refusals -= 1;
            return Err(format!("not now {tenant}"));
        }
        self.lines.push(tenant.to_string());
        Ok(())
    }

    fn series(&mut self, series: u32, labels: &[(&str, &str)]) {
        self.lines.push(format!("{series} {labels:?}"));
    }

    fn batch(&mut self, position: LogPosition, batch: LogBatch) {
        self.lines.push(format!("{position:?} {batch:?}"));
    }
}

impl PacketSink for Told {
    fn define(&mut self, definitions: &Definitions) {
        let symbols = definitions.symbols();
        for (series, labels) in definitions.series() {
            let text = |&(name, value): &(u32, u32)| (symbols[name as usize], symbols[value as usize]);
            self.series(series, &labels.iter().map(text).collect::<Vec<_>>());
        }
    }
}

struct Series;

impl WalSink for Series {
    fn labels(&self, tenant: &TenantId, series: u32, visit: &mut dyn FnMut(&str, &str)) {
        visit("__name__", &format!("metric_{series}"));
        visit("tenant", tenant.as_str());
        if series.is_multiple_of(2) {
            visit("zone", "ä");
        }
    }

    fn apply(&self, _: Vec<LogBatch>, _: LogPosition) {}

    fn abandon(&self, _: Vec<LogBatch>) {}
}

/// A log of many records of two tenants.
fn disk() -> SimDisk {
    let disk = SimDisk::new(3);
    let (wal, _) = open(&disk);
    wal.attach(Arc::new(Series));
    for i in 0..60u32 {
        let mut batch = LogBatch::new(TenantId::new(["a", "b"][i as usize % 2]).expect("a tenant"));
        batch.refs = vec![i % 7, i];
        batch.times = vec![i64::from(i), i64::from(i) + 1];
        batch.values = vec![f64::from(i), -0.5];
        let ticket = wal.submit(batch).expect("there is room");
        wal.commit_pending();
        ticket.wait().expect("durable");
    }
    disk
}

fn open(disk: &SimDisk) -> (Wal, Replay) {
    let clock: Arc<dyn Clock> = Arc::new(SimClock::new(0));
    let config = WalConfig { segment_bytes: 2 << 10, ..WalConfig::default() };
    Wal::open(config, Path::new("wal"), Arc::new(disk.clone()), clock, LogPosition::default()).expect("opens")
}

#[test]
fn a_reader_ahead_brings_the_same_in_the_same_order() {
    let disk = disk();
    let (_, mut replay) = open(&disk);
    let mut expected = Told::default();
    while replay.step(&mut expected).expect("taken") {}
    assert!(expected.lines.len() > 150, "{}", expected.lines.len());
    for refusals in [0, 3] {
        let mut told = Told { refusals, ..Told::default() };
        let mut ahead = ReadAhead::start(open(&disk).1).expect("a thread");
        let (mut failed, mut progress) = (0, (0, 0));
        let report = loop {
            match ahead.step(&mut told) {
                Ok(Ahead::Applied { progress: now, .. }) => {
                    assert!(now > progress);
                    progress = now;
                }
                Ok(Ahead::End(replay)) => break replay.report().clone(),
                Err(_) => failed += 1,
            }
        };
        assert_eq!((told, failed), (Told { lines: expected.lines.clone(), refusals: 0 }, refusals));
        assert_eq!(report.to_string(), replay.report().to_string());
    }
}

#[test]
fn whoever_stops_early_stops_the_reader() {
    let mut ahead = ReadAhead::start(open(&disk()).1).expect("a thread");
    let first = ahead.step(&mut Told::default());
    assert!(matches!(first, Ok(Ahead::Applied { .. })));
    drop(ahead);
}
