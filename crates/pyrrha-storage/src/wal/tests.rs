use std::sync::Barrier;

use pyrrha_env::{OsDisk, SystemClock};
use pyrrha_model::TenantId;

use super::*;

/// A head that knows every series by its number.
#[derive(Default)]
pub(super) struct Numbers {
    applied: Mutex<Vec<LogBatch>>,
}

impl WalSink for Numbers {
    fn labels(&self, _: &TenantId, series: u32, visit: &mut dyn FnMut(&str, &str)) {
        visit("__name__", "requests_total");
        visit("series", &series.to_string());
    }

    fn apply(&self, batches: Vec<LogBatch>, _: LogPosition) {
        self.applied.lock().extend(batches);
    }

    fn abandon(&self, _: Vec<LogBatch>) {}
}

#[test]
fn many_writers_share_few_syncs_on_a_real_disk() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let open = || {
        let config = WalConfig { segment_bytes: 1 << 20, ..WalConfig::default() };
        let clock = Arc::new(SystemClock::new());
        Wal::open(config, &dir.path().join("wal"), Arc::new(OsDisk), clock, LogPosition::default())
            .expect("open")
    };
    let (wal, _) = open();
    let sink = Arc::new(Numbers::default());
    wal.start(sink.clone()).expect("start");
    let barrier = Barrier::new(16);
    std::thread::scope(|scope| {
        for writer in 0..16u32 {
            let (wal, barrier) = (&wal, &barrier);
            scope.spawn(move || {
                barrier.wait();
                for i in 0..20 {
                    let mut batch = LogBatch::new(TenantId::new(&format!("t{}", writer % 3)).expect("valid"));
                    batch.refs = vec![writer];
                    batch.times = vec![i];
                    batch.values = vec![f64::from(writer)];
                    wal.submit(batch).and_then(Ticket::wait).expect("durable");
                }
            });
        }
    });
    assert_eq!(sink.applied.lock().len(), 320);
    let groups = wal.metrics().groups.get();
    assert!((20..=200).contains(&groups), "{groups} groups");
    wal.stop();
    assert!(matches!(wal.submit(LogBatch::new(TenantId::anonymous())), Err(WalError::Closed)));
    drop(wal);
    let (_, replay) = open();
    let mut last = std::collections::HashMap::new();
    let mut count = 0;
    for entry in replay {
        if let LogEntry::Batch { batch, .. } = entry {
            let before = last.insert(batch.refs[0], batch.times[0]);
            assert_eq!(before.unwrap_or(-1) + 1, batch.times[0], "a writer's batches stay in order");
            count += 1;
        }
    }
    assert_eq!(count, 320);
}
