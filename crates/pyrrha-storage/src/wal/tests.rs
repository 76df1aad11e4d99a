use std::path::PathBuf;
use std::sync::Barrier;

use pyrrha_env::{OsDisk, SystemClock};
use pyrrha_model::TenantId;
use pyrrha_testkit::{DiskOp, Fault, SimClock, SimDisk};

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

const DIR: &str = "wal";

fn open_sim(disk: &SimDisk, config: WalConfig, from: LogPosition) -> Result<(Wal, Replay), WalError> {
    Wal::open(config, Path::new(DIR), Arc::new(disk.clone()), Arc::new(SimClock::new(1)), from)
}

fn small() -> WalConfig {
    WalConfig { segment_bytes: 16 << 10, ..WalConfig::default() }
}

/// A batch of ten samples of its own series.
fn numbered(n: u32) -> LogBatch {
    let mut batch = LogBatch::new(TenantId::anonymous());
    batch.refs = (n * 10..n * 10 + 10).collect();
    batch.times = vec![i64::from(n); 10];
    batch.values = vec![f64::from(n); 10];
    batch
}

fn write(wal: &Wal, numbers: std::ops::Range<u32>) {
    wal.attach(Arc::new(Numbers::default()));
    for n in numbers {
        wal.submit(numbered(n)).and_then(Ticket::wait).expect("durable");
    }
}

fn read(replay: &mut Replay) -> Vec<u32> {
    let number = |entry| match entry {
        LogEntry::Batch { batch, .. } => {
            assert_eq!(batch, numbered(batch.times[0] as u32));
            Some(batch.times[0] as u32)
        }
        LogEntry::Series { .. } => None,
    };
    replay.filter_map(number).collect()
}

/// A log with these batches, the path of its segment, and where its records end.
fn written(numbers: std::ops::Range<u32>) -> (SimDisk, PathBuf, u64) {
    let disk = SimDisk::new(7);
    let (wal, _) = open_sim(&disk, small(), LogPosition::default()).expect("open");
    write(&wal, numbers);
    let end = wal.position().offset;
    (disk, Path::new(DIR).join("0000000000.wal"), end)
}

#[test]
fn every_flipped_bit_is_counted_exactly_and_costs_one_record_with_its_definitions() {
    let (disk, path, len) = written(0..12);
    // Another life, so that the first segment has an end that is known.
    let (wal, _) = open_sim(&disk, small(), LogPosition::default()).expect("open");
    write(&wal, 12..14);
    drop(wal);
    let first = 1024 + 8;
    let mut hit = 0;
    for offset in 0..len {
        disk.flip_bit(&path, offset, (offset % 8) as u8).expect("flip");
        let (_, mut replay) = open_sim(&disk, small(), LogPosition::default()).expect("open");
        let back = read(&mut replay);
        let report = replay.report();
        let lost = 14 - back.len() as u64;
        // The first record defines the symbols that all others in its segment need.
        let most = if hit == 0 || lost == 12 { 12 } else { 1 };
        assert!(lost <= most && back.ends_with(&[12, 13]), "offset {offset}: {back:?}");
        assert_eq!((report.records, report.samples), (lost.min(1), lost * 10), "offset {offset}: {report}");
        assert!(!report.more && report.count == report.places.len() as u64);
        if let Some(place) = report.places.first().filter(|place| place.reason != DamageReason::Header) {
            hit += 1;
            assert!(place.segment == 0 && place.offset <= offset && offset < place.offset + place.bytes);
        }
        disk.flip_bit(&path, offset, (offset % 8) as u8).expect("flip back");
    }
    // Only the header, which is there twice, and padding may be hit without loss.
    assert!(hit > (len - first) * 9 / 10, "{hit} of {len}");
}

#[test]
fn strict_mode_refuses_damage_and_names_it_but_not_a_torn_end() {
    let (disk, path, end) = written(0..5);
    let strict = || open_sim(&disk, WalConfig { strict: true, ..small() }, LogPosition::default());
    disk.poke(&path, end - 20, 0xff).expect("poke");
    let (_, mut replay) = strict().expect("a torn end is repaired");
    assert_eq!(read(&mut replay), [0, 1, 2, 3]);
    assert!(replay.report().torn_bytes > 0 && replay.report().is_clean());
    disk.poke(&path, 1024 + (end - 1024) / 2, 0xff).expect("poke");
    match strict() {
        Err(error @ WalError::Damaged(_)) => {
            let text = error.to_string();
            assert!(text.contains("records=1 samples=10") && text.contains("segment=0 offset="), "{text}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_lost_definition_costs_its_samples_until_the_next_segment() {
    let disk = SimDisk::new(7);
    let (wal, _) = open_sim(&disk, small(), LogPosition::default()).expect("open");
    wal.attach(Arc::new(Numbers::default()));
    let again = |n: u32, t: i64| LogBatch { times: vec![t; 10], ..numbered(n) };
    for batch in [again(0, 0), again(1, 1), again(0, 2)] {
        wal.submit(batch).and_then(Ticket::wait).expect("durable");
    }
    wal.cut_segment();
    wal.submit(again(0, 3)).and_then(Ticket::wait).expect("durable");
    drop(wal);
    let path = Path::new(DIR).join("0000000000.wal");
    disk.poke(&path, 1100, 0xee).expect("poke");
    let (_, mut replay) = open_sim(&disk, small(), LogPosition::default()).expect("open");
    let samples = |entry| match entry {
        LogEntry::Batch { batch, .. } => Some((batch.refs.len(), batch.times.first().copied())),
        LogEntry::Series { .. } => None,
    };
    let back: Vec<_> = (&mut replay).filter_map(samples).filter(|(n, _)| *n > 0).collect();
    assert_eq!(back, [(10, Some(3))], "the symbols of the name went with the first record");
    assert_eq!(replay.report().samples, 30);
}

#[test]
fn replay_starts_at_a_position_with_the_definitions_before_it() {
    let disk = SimDisk::new(7);
    let (wal, _) = open_sim(&disk, small(), LogPosition::default()).expect("open");
    write(&wal, 0..3);
    let position = wal.position();
    let again = LogBatch { times: vec![9; 10], ..numbered(1) };
    wal.submit(again.clone()).and_then(Ticket::wait).expect("durable");
    drop(wal);
    let (_, replay) = open_sim(&disk, small(), position).expect("open");
    let entries: Vec<_> = replay.collect();
    assert_eq!(entries.iter().filter(|e| matches!(e, LogEntry::Series { .. })).count(), 30);
    assert_eq!(entries.last(), Some(&LogEntry::Batch { position, batch: again }));
    assert_eq!(entries.len(), 31);
}

#[test]
fn a_failed_sync_moves_the_group_to_a_new_segment_and_two_of_them_refuse_it() {
    let disk = SimDisk::new(7);
    let (wal, _) = open_sim(&disk, small(), LogPosition::default()).expect("open");
    write(&wal, 0..2);
    disk.fail_op_in(DiskOp::SyncData, 0, Fault::Io);
    write(&wal, 2..3);
    assert_eq!(wal.metrics().failed_segments.get(), 1);
    disk.fail_op_in(DiskOp::SyncData, 0, Fault::Io);
    disk.fail_op_in(DiskOp::SyncData, 1, Fault::Io);
    let error = wal.submit(numbered(99)).and_then(Ticket::wait).expect_err("the disk failed twice");
    assert_eq!(error.kind(), pyrrha_model::ErrorKind::Unavailable);
    write(&wal, 3..4);
    drop(wal);
    disk.crash();
    let (_, mut replay) = open_sim(&disk, small(), LogPosition::default()).expect("open");
    assert_eq!(read(&mut replay), [0, 1, 2, 3]);
    assert!(replay.report().is_clean());
}

#[test]
fn truncation_deletes_whole_segments_and_a_missing_one_is_damage() {
    let disk = SimDisk::new(7);
    let (wal, _) = open_sim(&disk, small(), LogPosition::default()).expect("open");
    for n in 0..5 {
        write(&wal, n..n + 1);
        assert_eq!(wal.cut_segment(), LogPosition { segment: u64::from(n) + 1, offset: 0 });
    }
    wal.truncate_before(LogPosition { segment: 2, offset: 0 }).expect("truncate");
    assert_eq!(wal.metrics().segments.get(), 3);
    write(&wal, 5..6);
    drop(wal);
    let (_, mut replay) = open_sim(&disk, small(), LogPosition::default()).expect("open");
    assert_eq!(read(&mut replay), [2, 3, 4, 5]);
    assert!(replay.report().is_clean());
    disk.remove_file(&Path::new(DIR).join("0000000003.wal")).expect("remove");
    let (_, mut replay) = open_sim(&disk, small(), LogPosition::default()).expect("open");
    assert_eq!(read(&mut replay), [2, 4, 5]);
    let report = replay.report();
    assert_eq!((report.places[0].reason, report.samples), (DamageReason::Missing, 10));
}

#[test]
fn a_segment_of_another_version_is_refused() {
    let (disk, path, _) = written(0..1);
    for copy in [0, 512] {
        let mut identity = disk.read(&path).expect("read")[copy..copy + 40].to_vec();
        identity[8] = 2;
        let crc = crc32c::crc32c(&identity).to_le_bytes();
        disk.poke(&path, copy as u64 + 8, 2).expect("poke");
        for (i, byte) in crc.into_iter().enumerate() {
            disk.poke(&path, (copy + 40 + i) as u64, byte).expect("poke");
        }
    }
    let error = open_sim(&disk, small(), LogPosition::default()).map(|_| ()).expect_err("another version");
    assert!(matches!(error, WalError::Version { found: 2, supported: 1, .. }), "{error}");
}

#[test]
fn a_copied_record_or_segment_is_not_taken_for_another() {
    let (disk, path, _) = written(0..4);
    let bytes = disk.read(&path).expect("read");
    // The same bytes under another number: nothing in them counts.
    let copy = disk.create_new(&Path::new(DIR).join("0000000001.wal")).expect("create");
    copy.write_at(0, &bytes).expect("write");
    let (_, mut replay) = open_sim(&disk, small(), LogPosition::default()).expect("open");
    assert_eq!(read(&mut replay), [0, 1, 2, 3]);
    assert_eq!(replay.report().places[0].reason, DamageReason::Header);
}
