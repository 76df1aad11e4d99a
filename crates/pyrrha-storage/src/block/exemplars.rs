//! `exemplars`: the exemplars of a block's range, as a file beside the standard parts.
//!
//! ```text
//! page: symbols: n, n × text | series: n, n × (labels, exemplars: n, n × (time, value, labels))
//! ```

use std::collections::VecDeque;
use std::path::Path;

use bytes::Bytes;
use hashbrown::HashMap;
use pyrrha_encoding::varint::{put_uvarint, put_varint, take_count, take_u64, take_uvarint32, take_varint};
use pyrrha_env::Disk;
use pyrrha_model::contract::Exemplars;
use pyrrha_model::labels::Label;
use pyrrha_model::{Exemplar, Labels, Matcher, TimeRange};

use super::error::{Blame, BlockError};
use super::sidecar::{Kind, Pages, Sidecar, SidecarWriter, put_text, take_text};

pub(super) const KIND: Kind = Kind { file: "exemplars", magic: *b"PYEX" };

/// Exemplars of one series that are written as one entry: a longer list goes on in the next.
const RUN: usize = 1024;
/// Most bytes of label text that a page may unfold to, symbols being shared: far more than a page that
/// was written by us, far less than what a made-up one could ask for.
const PAGE_TEXT: usize = 64 << 20;

/// Writes the file. Series come sorted by labels.
pub(super) struct ExemplarWriter<'a> {
    out: SidecarWriter<'a>,
    blame: &'a Blame,
    previous: Option<Labels>,
    symbols: HashMap<String, u64, foldhash::fast::RandomState>,
    symbol_bytes: Vec<u8>,
    series: u64,
    series_bytes: Vec<u8>,
}

impl<'a> ExemplarWriter<'a> {
    pub(super) fn new(disk: &'a dyn Disk, dir: &'a Path, blame: &'a Blame) -> Self {
        Self {
            out: SidecarWriter::new(disk, dir, blame, KIND),
            blame,
            previous: None,
            symbols: HashMap::default(),
            symbol_bytes: Vec::new(),
            series: 0,
            series_bytes: Vec::new(),
        }
    }

    /// Adds a series with its exemplars by time. One without exemplars is left out.
    pub(super) fn add(&mut self, series: &Exemplars) -> Result<(), BlockError> {
        if series.exemplars.is_empty() {
            return Ok(());
        }
        if self.previous.as_ref().is_some_and(|p| *p >= series.series) {
            return Err(self.blame.refused(format!("exemplars out of order: {}", series.series)));
        }
        self.previous = Some(series.series.clone());
        for run in series.exemplars.chunks(RUN) {
            self.put_labels(&series.series);
            put_uvarint(&mut self.series_bytes, run.len() as u64);
            let mut before = 0;
            for exemplar in run {
                put_varint(&mut self.series_bytes, exemplar.timestamp.wrapping_sub(before));
                before = exemplar.timestamp;
                self.series_bytes.extend_from_slice(&exemplar.value.to_bits().to_be_bytes());
                self.put_labels(&exemplar.labels);
                self.out.summary.add(exemplar.timestamp);
            }
            self.series += 1;
            if SidecarWriter::is_full(self.symbol_bytes.len() + self.series_bytes.len()) {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn put_labels(&mut self, labels: &Labels) {
        put_uvarint(&mut self.series_bytes, labels.len() as u64);
        for label in labels {
            for text in [&label.name, &label.value] {
                let next = self.symbols.len() as u64;
                let id = *self.symbols.entry_ref(text.as_str()).or_insert_with(|| {
                    put_text(&mut self.symbol_bytes, text);
                    next
                });
                put_uvarint(&mut self.series_bytes, id);
            }
        }
    }

    fn flush(&mut self) -> Result<(), BlockError> {
        if self.series == 0 {
            return Ok(());
        }
        let mut page = Vec::with_capacity(self.symbol_bytes.len() + self.series_bytes.len() + 20);
        put_uvarint(&mut page, self.symbols.len() as u64);
        page.append(&mut self.symbol_bytes);
        put_uvarint(&mut page, std::mem::take(&mut self.series));
        page.append(&mut self.series_bytes);
        self.symbols.clear();
        self.out.page(&page)
    }

    /// Ends the file and syncs it; without exemplars there is none. Gives their number.
    pub(super) fn finish(mut self) -> Result<u64, BlockError> {
        self.flush()?;
        Ok(self.out.finish()?.entries)
    }
}

/// An open file of exemplars. Pages are verified when they are read.
#[derive(Debug)]
pub struct ExemplarFile(Sidecar);

impl ExemplarFile {
    /// Reads a file's content, whoever wrote it; `block` is the block's name, for errors.
    pub fn parse(block: &str, bytes: Bytes) -> Result<Self, BlockError> {
        Sidecar::parse(block, bytes, KIND).map(Self)
    }

    pub(super) fn open(disk: &dyn Disk, dir: &Path, blame: &Blame) -> Result<Option<Self>, BlockError> {
        Ok(Sidecar::open(disk, dir, blame, KIND)?.map(Self))
    }

    /// Number of exemplars.
    pub fn count(&self) -> u64 {
        self.0.summary.entries
    }

    /// Times of the first and last exemplar, ms.
    pub fn times(&self) -> TimeRange {
        self.0.summary.times
    }

    pub(super) fn bytes(&self) -> u64 {
        self.0.len()
    }

    /// The series that satisfy one of the matcher sets (all if there is none) with their exemplars
    /// in `range`, by labels. A series may come several times in a row.
    pub fn series<'a>(&'a self, matcher_sets: &'a [Vec<Matcher>], range: TimeRange) -> ExemplarSeries<'a> {
        ExemplarSeries {
            file: self,
            pages: self.0.pages(),
            matcher_sets,
            range,
            ready: VecDeque::new(),
            previous: Vec::new(),
            failed: false,
        }
    }
}

/// Series of an exemplar file.
#[derive(Debug)]
pub struct ExemplarSeries<'a> {
    file: &'a ExemplarFile,
    pages: Pages<'a>,
    matcher_sets: &'a [Vec<Matcher>],
    range: TimeRange,
    ready: VecDeque<Exemplars>,
    /// Labels of the series before.
    previous: Vec<(&'a str, &'a str)>,
    failed: bool,
}

impl Iterator for ExemplarSeries<'_> {
    type Item = Result<Exemplars, BlockError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.ready.is_empty() && !self.failed {
            match self.pages.next()? {
                Ok((offset, page)) => {
                    if self.take_page(page).is_none() {
                        self.failed = true;
                        return Some(Err(self.file.0.damage(offset, "exemplars do not decode")));
                    }
                }
                Err(error) => {
                    self.failed = true;
                    return Some(Err(error));
                }
            }
        }
        self.ready.pop_front().map(Ok)
    }
}

type Pairs<'a> = Vec<(&'a str, &'a str)>;

impl<'a> ExemplarSeries<'a> {
    fn take_page(&mut self, mut input: &'a [u8]) -> Option<()> {
        let input = &mut input;
        let count = take_count(input, 1).ok()?;
        let mut symbols = Vec::with_capacity(count);
        for _ in 0..count {
            symbols.push(take_text(input)?);
        }
        let (mut pairs, mut own, mut text) = (Pairs::new(), Pairs::new(), 0);
        for _ in 0..take_count(input, 2).ok()? {
            take_pairs(input, &symbols, &mut pairs)?;
            if self.previous > pairs {
                return None;
            }
            self.previous.clone_from(&pairs);
            let wanted = self.wanted(&pairs);
            let (mut time, mut exemplars) = (0i64, Vec::new());
            for _ in 0..take_count(input, 10).ok()? {
                time = time.wrapping_add(take_varint(input).ok()?);
                let value = f64::from_bits(take_u64(input).ok()?);
                take_pairs(input, &symbols, &mut own)?;
                if wanted && self.range.contains(time) {
                    exemplars.push(Exemplar { labels: labels(&own, &mut text)?, value, timestamp: time });
                }
            }
            if !exemplars.is_empty() {
                self.ready.push_back(Exemplars { series: labels(&pairs, &mut text)?, exemplars });
            }
        }
        input.is_empty().then_some(())
    }

    fn wanted(&self, pairs: &[(&str, &str)]) -> bool {
        let value = |name: &str| pairs.iter().find(|p| p.0 == name).map_or("", |p| p.1);
        self.matcher_sets.is_empty()
            || self.matcher_sets.iter().any(|set| set.iter().all(|m| m.matches(value(&m.name))))
    }
}

/// Reads labels, which are sorted by name, unique and not empty.
fn take_pairs<'a>(input: &mut &[u8], symbols: &[&'a str], pairs: &mut Pairs<'a>) -> Option<()> {
    pairs.clear();
    for _ in 0..take_count(input, 2).ok()? {
        let mut text = || symbols.get(take_uvarint32(input).ok()? as usize).copied();
        let pair = (text()?, text()?);
        if pairs.last().is_some_and(|before| before.0 >= pair.0) || pair.1.is_empty() {
            return None;
        }
        pairs.push(pair);
    }
    Some(())
}

/// The labels as strings; `text` counts their bytes, `None` if that is too much for a page.
fn labels(pairs: &[(&str, &str)], text: &mut usize) -> Option<Labels> {
    *text += pairs.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
    if *text > PAGE_TEXT {
        return None;
    }
    let label = |&(name, value): &(&str, &str)| Label { name: name.to_owned(), value: value.to_owned() };
    Some(Labels::from_sorted(pairs.iter().map(label).collect()))
}

/// Whether two exemplars are the same one.
pub(crate) fn same(a: &Exemplar, b: &Exemplar) -> bool {
    a.timestamp == b.timestamp && a.value.to_bits() == b.value.to_bits() && a.labels == b.labels
}

/// Brings the exemplars of one series, from several sources, into the order of time, each once.
pub fn tidy(exemplars: &mut Vec<Exemplar>) {
    exemplars.sort_by(|a, b| {
        let bits = |e: &Exemplar| (e.timestamp, e.value.to_bits());
        bits(a).cmp(&bits(b)).then_with(|| a.labels.cmp(&b.labels))
    });
    exemplars.dedup_by(|a, b| same(a, b));
}
