//! The whole head: checkpoint, log, out-of-order log and head chunks, in the order in which
//! Prometheus itself brings them back.

use std::path::{Path, PathBuf};

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use pyrrha_encoding::decode_stored;
use pyrrha_env::Disk;
use pyrrha_model::contract::{SeriesEntry, Value};
use pyrrha_model::{Exemplar, Labels, Metadata, TimeRange, Timestamp};
use xxhash_rust::xxh3::Xxh3Default;

use super::{HeadChunks, LogError, LogFault, Record, SampleRow, SegmentRecords, decode_record};
use crate::backfill::{Backfill, BackfillError, SeriesSlot};

/// Faults that are kept; the rest is counted.
const KEPT: usize = 100;

/// Where a head's content goes: what came in order, and what did not.
pub trait HeadSink {
    /// A sample. `late`: it came out of order.
    fn sample(
        &mut self,
        series: &mut Slots,
        labels: &Labels,
        row: SampleRow,
        late: bool,
    ) -> Result<(), BackfillError>;

    /// Deletes the samples of a series that came so far.
    fn delete(&mut self, labels: &Labels, range: TimeRange);

    /// An exemplar.
    fn exemplar(&mut self, labels: &Labels, exemplar: Exemplar) -> Result<(), BackfillError>;

    /// Metadata of a metric family.
    fn describe(&mut self, metric: &str, metadata: Metadata);
}

/// Where a series is in each of the two backfills.
#[derive(Debug, Default, Clone, Copy)]
pub struct Slots {
    in_order: SeriesSlot,
    late: SeriesSlot,
}

/// How far reading has come.
#[derive(Debug)]
pub struct Progress<'a> {
    /// Bytes read so far.
    pub read: u64,
    /// Bytes to read.
    pub total: u64,
    /// The file that is being read.
    pub file: &'a Path,
}

/// What came in order goes to the first, the rest to the second: overlapping blocks are made of what
/// came out of order, as Prometheus does.
impl HeadSink for (Backfill, Backfill) {
    fn sample(
        &mut self,
        slots: &mut Slots,
        labels: &Labels,
        row: SampleRow,
        late: bool,
    ) -> Result<(), BackfillError> {
        let SampleRow { start, time, value, .. } = row;
        if late {
            self.1.push(&mut slots.late, labels, start, time, value)
        } else {
            self.0.push(&mut slots.in_order, labels, start, time, value)
        }
    }

    fn delete(&mut self, labels: &Labels, range: TimeRange) {
        self.0.delete(labels, range);
        self.1.delete(labels, range);
    }

    fn exemplar(&mut self, labels: &Labels, exemplar: Exemplar) -> Result<(), BackfillError> {
        let time = exemplar.timestamp;
        self.0.push_exemplar(labels, time, exemplar)
    }

    fn describe(&mut self, metric: &str, metadata: Metadata) {
        self.0.describe(metric, metadata);
    }
}

/// What was found in a head.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeadReport {
    /// Series that the log defines.
    pub series: u64,
    /// Samples handed on.
    pub samples: u64,
    /// Samples that blocks have already.
    pub in_blocks: u64,
    /// Samples that Prometheus itself had refused after it had logged them.
    pub refused: u64,
    /// Samples of series whose definition is not there.
    pub unknown_series: u64,
    /// Exemplars handed on.
    pub exemplars: u64,
    /// Deleted intervals.
    pub deleted: u64,
    /// Records of types that this version does not know.
    pub unknown_records: u64,
    /// Files and places that could not be read, at most a hundred.
    pub faults: Vec<(PathBuf, LogFault)>,
    /// Faults beyond those listed.
    pub more_faults: u64,
}

impl HeadReport {
    fn fault(&mut self, path: &Path, fault: LogFault) {
        if self.faults.len() < KEPT {
            self.faults.push((path.to_owned(), fault));
        } else {
            self.more_faults += 1;
        }
    }
}

/// The files of a head, in the order in which they are read.
struct Files {
    log: Vec<PathBuf>,
    late: Vec<PathBuf>,
    chunks: Vec<PathBuf>,
    total: u64,
}

impl Files {
    fn of(disk: &dyn Disk, dir: &Path) -> Result<Self, LogError> {
        let mut files = Self { log: Vec::new(), late: Vec::new(), chunks: Vec::new(), total: 0 };
        let wal = dir.join("wal");
        let mut first = 0;
        if let Some((number, checkpoint)) = newest_checkpoint(disk, &wal)? {
            // Segments up to its number are in the checkpoint.
            first = number + 1;
            files.log = files.numbered(disk, &checkpoint, 0)?;
        }
        let segments = files.numbered(disk, &wal, first)?;
        files.log.extend(segments);
        files.late = files.numbered(disk, &dir.join("wbl"), 0)?;
        files.chunks = files.numbered(disk, &dir.join("chunks_head"), 0)?;
        Ok(files)
    }

    /// Files with numbers for names, from `first`, by number.
    fn numbered(&mut self, disk: &dyn Disk, dir: &Path, first: u64) -> Result<Vec<PathBuf>, LogError> {
        if !disk.exists(dir) {
            return Ok(Vec::new());
        }
        let entries = disk.list(dir).map_err(LogError::io("list directory", dir))?;
        let mut found = Vec::new();
        for entry in entries.iter().filter(|e| !e.is_dir) {
            let digits = entry.name.bytes().all(|b| b.is_ascii_digit());
            if let Some(number) = entry.name.parse::<u64>().ok().filter(|&n| digits && n >= first) {
                found.push((number, dir.join(&entry.name)));
                self.total += entry.len;
            }
        }
        found.sort();
        Ok(found.into_iter().map(|(_, path)| path).collect())
    }

    fn all(&self) -> impl Iterator<Item = &PathBuf> {
        self.log.iter().chain(&self.late).chain(&self.chunks)
    }
}

fn newest_checkpoint(disk: &dyn Disk, wal: &Path) -> Result<Option<(u64, PathBuf)>, LogError> {
    if !disk.exists(wal) {
        return Ok(None);
    }
    let entries = disk.list(wal).map_err(LogError::io("list directory", wal))?;
    let number = |name: &str| {
        name.strip_prefix("checkpoint.").filter(|n| n.bytes().all(|b| b.is_ascii_digit()))?.parse().ok()
    };
    let found =
        entries.iter().filter(|e| e.is_dir).filter_map(|e| Some((number(&e.name)?, wal.join(&e.name))));
    Ok(found.max())
}

/// What a head's files contain, as one number: the same files again give the same.
pub fn fingerprint(disk: &dyn Disk, dir: &Path) -> Result<u128, LogError> {
    let mut hash = Xxh3Default::new();
    for path in Files::of(disk, dir)?.all() {
        hash.update(path.file_name().unwrap_or_default().as_encoded_bytes());
        hash.update(&disk.map(path).map_err(LogError::io("read file", path))?);
    }
    Ok(hash.digest128())
}

/// Reads a head under the data directory `dir` into `sink`. Samples before `from` are in blocks
/// already; those out of order are taken from any time. Damage is reported and costs what it hit.
pub fn load_head<S: HeadSink>(
    disk: &dyn Disk,
    dir: &Path,
    from: Timestamp,
    sink: &mut S,
    on_progress: &mut dyn FnMut(Progress<'_>),
) -> Result<HeadReport, LogError> {
    let files = Files::of(disk, dir)?;
    let mut load = Load {
        from,
        sink,
        total: files.total,
        read: 0,
        on_progress,
        refs: HashMap::default(),
        ids: HashMap::default(),
        series: Vec::new(),
        report: HeadReport::default(),
    };
    for path in &files.log {
        load.segment(disk, path, false)?;
    }
    for path in &files.late {
        load.segment(disk, path, true)?;
    }
    for path in &files.chunks {
        load.chunk_file(disk, path)?;
    }
    Ok(load.report)
}

/// Reads a whole head and hands nothing on: for what its report says.
pub fn verify_head(disk: &dyn Disk, dir: &Path) -> Result<HeadReport, LogError> {
    load_head(disk, dir, Timestamp::MIN, &mut Nowhere, &mut |_| {})
}

/// Takes everything and keeps nothing.
struct Nowhere;

impl HeadSink for Nowhere {
    fn sample(&mut self, _: &mut Slots, _: &Labels, _: SampleRow, _: bool) -> Result<(), BackfillError> {
        Ok(())
    }

    fn delete(&mut self, _: &Labels, _: TimeRange) {}

    fn exemplar(&mut self, _: &Labels, _: Exemplar) -> Result<(), BackfillError> {
        Ok(())
    }

    fn describe(&mut self, _: &str, _: Metadata) {}
}

/// A series of the log.
struct Series {
    labels: Labels,
    slots: Slots,
    /// Times of the first and last sample in order.
    times: Option<(Timestamp, Timestamp)>,
}

struct Load<'a, S> {
    from: Timestamp,
    sink: &'a mut S,
    total: u64,
    read: u64,
    on_progress: &'a mut dyn FnMut(Progress<'_>),
    /// Several references may stand for one series.
    refs: HashMap<u64, u32, RandomState>,
    ids: HashMap<Labels, u32, RandomState>,
    series: Vec<Series>,
    report: HeadReport,
}

impl<S: HeadSink> Load<'_, S> {
    fn segment(&mut self, disk: &dyn Disk, path: &Path, late: bool) -> Result<(), LogError> {
        let bytes = disk.map(path).map_err(LogError::io("read file", path))?;
        let mut records = SegmentRecords::new(&bytes);
        let mut told = 0;
        while let Some(record) = records.next_record() {
            let decoded = match record {
                Ok(record) => decode_record(record).map_err(|e| e.to_string()),
                Err(fault) => {
                    self.report.fault(path, fault);
                    continue;
                }
            };
            let position = records.position();
            match decoded {
                Ok(record) => self.record(record, late)?,
                Err(what) => self.report.fault(path, LogFault { offset: position as u64, what }),
            }
            if position - told >= 1 << 20 {
                told = position;
                (self.on_progress)(Progress {
                    read: self.read + position as u64,
                    total: self.total,
                    file: path,
                });
            }
        }
        self.done(path, bytes.len());
        Ok(())
    }

    fn done(&mut self, path: &Path, bytes: usize) {
        self.read += bytes as u64;
        (self.on_progress)(Progress { read: self.read, total: self.total, file: path });
    }

    fn record(&mut self, record: Record, late: bool) -> Result<(), BackfillError> {
        match record {
            Record::Series(series) => series.into_iter().for_each(|(r, labels)| self.define(r, labels)),
            Record::Samples(rows) => {
                for row in rows {
                    self.sample(row, late)?;
                }
            }
            Record::Tombstones(rows) => {
                for (reference, range) in rows {
                    if let Some(series) = find(&self.refs, &mut self.series, reference) {
                        self.report.deleted += 1;
                        self.sink.delete(&series.labels, range);
                    }
                }
            }
            Record::Exemplars(rows) => {
                for (reference, exemplar) in rows.into_iter().filter(|(_, e)| e.timestamp >= self.from) {
                    if let Some(series) = find(&self.refs, &mut self.series, reference) {
                        self.report.exemplars += 1;
                        self.sink.exemplar(&series.labels, exemplar)?;
                    }
                }
            }
            Record::Metadata(rows) => {
                for (reference, metadata) in rows {
                    if let Some(series) = find(&self.refs, &mut self.series, reference) {
                        let metric = family(series.labels.metric_name(), &metadata);
                        self.sink.describe(metric, metadata);
                    }
                }
            }
            // The log has what the chunks have.
            Record::Markers(_) => {}
            Record::Unknown(_) => self.report.unknown_records += 1,
        }
        Ok(())
    }

    fn define(&mut self, reference: u64, labels: Labels) {
        let (ids, series) = (&mut self.ids, &mut self.series);
        let id = match ids.get(&labels) {
            Some(&id) => id,
            None => {
                let id = series.len() as u32;
                ids.insert(labels.clone(), id);
                series.push(Series { labels, slots: Slots::default(), times: None });
                self.report.series += 1;
                id
            }
        };
        self.refs.insert(reference, id);
    }

    fn sample(&mut self, row: SampleRow, late: bool) -> Result<(), BackfillError> {
        let Some(series) = find(&self.refs, &mut self.series, row.series) else {
            self.report.unknown_series += 1;
            return Ok(());
        };
        if !late {
            if row.time < self.from {
                self.report.in_blocks += 1;
                return Ok(());
            }
            // The log is written before the head decides; what it refused is in the log as well.
            if series.times.is_some_and(|(_, last)| row.time <= last) {
                self.report.refused += 1;
                return Ok(());
            }
            let first = series.times.map_or(row.time, |(first, _)| first);
            series.times = Some((first, row.time));
        }
        if !is_valid(&row.value) {
            self.report.refused += 1;
            return Ok(());
        }
        self.report.samples += 1;
        self.sink.sample(&mut series.slots, &series.labels, row, late)
    }

    /// Chunks that the log does not have, as some of it is damaged or gone.
    fn chunk_file(&mut self, disk: &dyn Disk, path: &Path) -> Result<(), LogError> {
        let file = disk.map(path).map_err(LogError::io("read file", path))?;
        let len = file.len();
        let mut chunks = HeadChunks::new(file);
        while let Some(chunk) = chunks.next_chunk() {
            let chunk = match chunk {
                Ok(chunk) => chunk,
                Err(fault) => {
                    self.report.fault(path, fault);
                    break;
                }
            };
            let sound = self.report.faults.is_empty();
            let Some(series) = find(&self.refs, &mut self.series, chunk.series) else { continue };
            let (min, max) = (chunk.chunk.min_time, chunk.chunk.max_time);
            let in_log = series.times.is_some_and(|(first, last)| first <= min && max <= last);
            if sound && (chunk.late || in_log) || max < self.from {
                continue;
            }
            let entry = SeriesEntry { chunks: [chunk.chunk].into_iter().collect(), ..SeriesEntry::default() };
            let range = TimeRange::new(self.from, Timestamp::MAX);
            let samples = match decode_stored(&entry, range) {
                Ok(samples) => samples,
                Err(error) => {
                    self.report.fault(path, LogFault { offset: 0, what: error.to_string() });
                    continue;
                }
            };
            for (start, time, value) in samples {
                let row = SampleRow { series: chunk.series, start, time, value };
                self.report.samples += 1;
                // The backfill keeps each time once.
                self.sink.sample(&mut series.slots, &series.labels, row, chunk.late)?;
            }
        }
        self.done(path, len);
        Ok(())
    }
}

fn find<'a>(
    refs: &HashMap<u64, u32, RandomState>,
    series: &'a mut [Series],
    reference: u64,
) -> Option<&'a mut Series> {
    refs.get(&reference).and_then(|&id| series.get_mut(id as usize))
}

/// Nothing is stored that a reader could not make sense of.
fn is_valid(value: &Value) -> bool {
    match value {
        Value::Float(_) => true,
        Value::Histogram(h) => h.is_stale() || h.validate().is_ok(),
        Value::FloatHistogram(h) => h.is_stale() || h.validate().is_ok(),
    }
}

/// The family that a series' metadata belongs to: histograms and summaries have series of other
/// names.
fn family<'a>(name: &'a str, metadata: &Metadata) -> &'a str {
    use pyrrha_model::MetricType::{GaugeHistogram, Histogram, Summary};
    if !matches!(metadata.metric_type, Histogram | GaugeHistogram | Summary) {
        return name;
    }
    let suffixes = ["_bucket", "_sum", "_count"];
    suffixes.iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name)
}
