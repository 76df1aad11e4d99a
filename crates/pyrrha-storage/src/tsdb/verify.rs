//! Every checksum, order and reference of a block.

mod chunk;
mod postings;

use std::collections::BTreeMap;
use std::path::Path;

use foldhash::fast::RandomState;
use hashbrown::HashSet;
use pyrrha_env::Disk;
use pyrrha_index::{IndexError, IndexSalvage, LabelIndex, RoaringBitmap, SeriesRow};
use pyrrha_model::{Labels, StoreError, TimeRange};
use serde::Serialize;

use crate::block::{Block, BlockError, BlockStats};
pub(super) use chunk::with_true_times;
use postings::PairSums;

/// Problems of one block that are kept; the rest is counted.
const KEPT: usize = 1000;

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// File within the block.
    pub file: String,
    /// Byte offset of the damaged part, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// The series it belongs to, where its labels can be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub series: Option<String>,
    /// What is wrong.
    pub what: String,
}

impl Problem {
    fn of(error: BlockError, series: Option<&Labels>) -> Self {
        let series = series.map(Labels::to_string);
        let (file, offset, what) = match error {
            BlockError::Corrupt { file, offset, what, .. } => (file, Some(offset), what),
            BlockError::Index { source: IndexError::Corrupt { what, offset }, .. } => {
                ("index".to_owned(), Some(offset), what.to_owned())
            }
            BlockError::Index { source, .. } => ("index".to_owned(), None, source.to_string()),
            BlockError::Io { file, source, .. } => (file, None, source.to_string()),
            BlockError::UnknownVersion { version, .. } => {
                ("meta.json".to_owned(), None, format!("unknown version {version}"))
            }
            BlockError::Refused { what, .. } => (".".to_owned(), None, what),
        };
        Self { file, offset, series, what }
    }
}

/// What was found in a block.
#[derive(Debug, Clone, Default, Serialize)]
pub struct BlockReport {
    /// Series entries that could be read.
    pub series: u64,
    /// Chunks that could be read.
    pub chunks: u64,
    /// Samples in them.
    pub samples: u64,
    /// What is wrong, at most a thousand.
    pub problems: Vec<Problem>,
    /// Problems beyond those listed.
    pub more_problems: u64,
    /// What is odd and does no harm.
    pub notes: Vec<String>,
}

impl BlockReport {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }

    fn add(&mut self, problem: Problem) {
        if self.problems.len() < KEPT {
            self.problems.push(problem);
        } else {
            self.more_problems += 1;
        }
    }

    fn wrong(&mut self, file: &str, offset: Option<u64>, series: Option<&Labels>, what: impl Into<String>) {
        let (file, series) = (file.to_owned(), series.map(Labels::to_string));
        self.add(Problem { file, offset, series, what: what.into() });
    }
}

/// Reads the whole block in `dir`, whoever wrote it, and says what is wrong with it. Memory grows
/// with the number of label pairs and chunks.
pub fn verify_block(disk: &dyn Disk, dir: &Path) -> BlockReport {
    let mut report = BlockReport::default();
    let block = match Block::open(disk, dir) {
        Ok(block) => block,
        Err(error) => {
            report.add(Problem::of(error, None));
            return report;
        }
    };
    if dir.file_name().is_some_and(|name| name.to_string_lossy() != block.meta().ulid.to_string()) {
        report
            .notes
            .push(format!("meta.json has another ulid than the directory ulid={}", block.meta().ulid));
    }
    let all = match block.series_matching(&[]) {
        Ok(all) => all,
        Err(error) => {
            report.add(Problem::of(error, None));
            RoaringBitmap::new()
        }
    };
    let mut walk = Walk {
        block: &block,
        report: &mut report,
        pairs: PairSums::default(),
        referenced: HashSet::default(),
        stats: BlockStats::default(),
    };
    walk.series(&all);
    let Walk { pairs, referenced, stats, .. } = walk;
    postings::check(&block, pairs, &mut report);
    unlisted_series(disk, dir, &all, &mut report);
    segments(&block, &referenced, &mut report);
    tombstones(&block, &all, &mut report);
    if let Err(error) = sidecars(&block) {
        report.wrong("exemplars, metadata", None, None, error.to_string());
    }
    meta(&block, &stats, &mut report);
    report
}

/// A walk over the series of a block.
struct Walk<'a> {
    block: &'a Block,
    report: &'a mut BlockReport,
    pairs: PairSums,
    referenced: HashSet<u64, RandomState>,
    stats: BlockStats,
}

impl Walk<'_> {
    fn series(&mut self, all: &RoaringBitmap) {
        let (mut row, mut previous) = (SeriesRow::default(), None::<Labels>);
        for reference in all {
            let read = self.block.series_row(reference, &mut row).and_then(|()| self.block.row_labels(&row));
            let labels = match read {
                Ok(labels) => labels,
                Err(error) => {
                    self.report.add(Problem::of(error, None));
                    continue;
                }
            };
            let offset = Some(self.block.index().series_offset(reference) as u64);
            if labels.len() != row.labels.len() {
                self.report.wrong("index", offset, Some(&labels), "series has an empty or repeated label");
            }
            if previous.as_ref().is_some_and(|p| *p >= labels) {
                let what = if previous.as_ref() == Some(&labels) {
                    "series is there twice"
                } else {
                    "series out of order"
                };
                self.report.wrong("index", offset, Some(&labels), what);
            }
            self.pairs.add(&labels, reference);
            self.report.series += 1;
            self.stats.num_series += 1;
            self.chunks(&labels, &row, offset);
            previous = Some(labels);
        }
    }

    fn chunks(&mut self, labels: &Labels, row: &SeriesRow, offset: Option<u64>) {
        let range = self.block.meta().range();
        let mut before: Option<&pyrrha_index::ChunkMeta> = None;
        for meta in &row.chunks {
            self.stats.num_chunks += 1;
            self.referenced.insert(meta.reference);
            if before.is_some_and(|b| b.max_time >= meta.min_time) {
                let what = format!("chunks out of order min_time={}", meta.min_time);
                self.report.wrong("index", offset, Some(labels), what);
            }
            before = Some(meta);
            if !range.contains(meta.min_time) || !range.contains(meta.max_time) {
                let what = format!(
                    "chunk outside the block's range min_time={} max_time={}",
                    meta.min_time, meta.max_time
                );
                self.report.wrong("index", offset, Some(labels), what);
            }
            let chunk = match self.block.row_chunk(meta) {
                Ok(chunk) => chunk,
                Err(error) => {
                    self.report.add(Problem::of(error, Some(labels)));
                    continue;
                }
            };
            match chunk::check(&chunk) {
                Ok(samples) => {
                    self.report.chunks += 1;
                    self.report.samples += samples;
                    self.stats.num_samples += samples;
                    if chunk.encoding.is_float() {
                        self.stats.num_float_samples += samples;
                    } else {
                        self.stats.num_histogram_samples += samples;
                    }
                }
                Err(what) => {
                    let (file, offset) = Block::chunk_place(meta);
                    self.report.wrong(&file, Some(offset), Some(labels), what);
                }
            }
        }
    }
}

/// Sound entries of the series section that no postings name.
fn unlisted_series(disk: &dyn Disk, dir: &Path, all: &RoaringBitmap, report: &mut BlockReport) {
    let Ok(file) = disk.map(&dir.join("index")) else { return };
    // Version 1 cannot be walked.
    let Ok(mut salvage) = IndexSalvage::open(file) else { return };
    let mut row = SeriesRow::default();
    while let Some(reference) = salvage.next_series(&mut row) {
        if !u32::try_from(reference).is_ok_and(|r| all.contains(r)) {
            report.wrong("index", Some(reference * 16), None, "series is in no postings list");
        }
    }
}

fn segments(block: &Block, referenced: &HashSet<u64, RandomState>, report: &mut BlockReport) {
    let mut unreferenced = 0u64;
    let stops = block.walk_segments(|reference| unreferenced += u64::from(!referenced.contains(&reference)));
    for (file, offset, what) in stops {
        let known = report.problems.iter().any(|p| p.file == file && p.offset == Some(offset));
        if !known {
            report.wrong(&file, Some(offset), None, what);
        }
    }
    if unreferenced > 0 {
        report.notes.push(format!("chunks that no series refers to: {unreferenced}"));
    }
}

/// Reads the files of exemplars and metadata.
fn sidecars(block: &Block) -> Result<(), StoreError> {
    if let Some(exemplars) = block.exemplar_file()? {
        exemplars.series(&[], TimeRange::ALL).try_for_each(|series| series.map(drop))?;
    }
    if let Some(metadata) = block.metadata_file()? {
        metadata.collect(None, &mut BTreeMap::new())?;
    }
    Ok(())
}

fn tombstones(block: &Block, all: &RoaringBitmap, report: &mut BlockReport) {
    let strangers =
        block.tombstones().series().filter(|&s| !u32::try_from(s).is_ok_and(|s| all.contains(s))).count();
    if strangers > 0 {
        report.notes.push(format!("deleted intervals of series that are not there: {strangers}"));
    }
}

/// The counts of `meta.json` against what was counted.
fn meta(block: &Block, counted: &BlockStats, report: &mut BlockReport) {
    if !report.problems.is_empty() {
        // What could not be read was not counted.
        return;
    }
    let said = &block.meta().stats;
    let mut pairs = vec![
        ("numSeries", said.num_series, counted.num_series),
        ("numChunks", said.num_chunks, counted.num_chunks),
    ];
    // Aggregates have no count of their own, and Prometheus before 3.0 wrote the sum alone.
    if block.meta().thanos.as_ref().is_none_or(|t| t.downsample.resolution == 0) {
        pairs.push(("numSamples", said.num_samples, counted.num_samples));
        if said.num_float_samples + said.num_histogram_samples > 0 {
            pairs.push(("numFloatSamples", said.num_float_samples, counted.num_float_samples));
            pairs.push(("numHistogramSamples", said.num_histogram_samples, counted.num_histogram_samples));
        }
    }
    for (name, said, counted) in pairs.into_iter().filter(|(_, said, counted)| said != counted) {
        report.wrong("meta.json", None, None, format!("{name} is {said}, counted {counted}"));
    }
    if let Err(error) = block.index().all() {
        report.wrong("index", None, None, error.to_string());
    }
}
