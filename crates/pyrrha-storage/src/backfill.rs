//! Samples from elsewhere, in any order, as blocks: for imports, in bounded memory.
//!
//! ```text
//! push ─► columns per series and 2 h range ─► (memory full) a run per range ─► finish: one block per range
//! ```
//!
//! All is written under one unfinished directory, which a start of the database removes; only
//! [`publish`](publish::publish) makes blocks live, by one commit.

mod error;
mod publish;
mod run;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use pyrrha_env::{Clock, Disk};
use pyrrha_model::contract::Value;
use pyrrha_model::{Exemplar, Labels, Metadata, TimeRange, Timestamp};
use xxhash_rust::xxh3::xxh3_128_with_seed;

pub use error::BackfillError;
pub use publish::{Published, Target, publish};

use crate::block::{BlockId, UNFINISHED};
use run::Column;

/// What of a series' samples costs memory besides its labels, bytes, about.
const SERIES_BYTES: usize = 96;

/// How samples become blocks.
#[derive(Debug, Clone)]
pub struct BackfillConfig {
    /// Length of a block, ms, at multiples of which blocks begin.
    pub range_ms: i64,
    /// Bytes that samples and labels may take in memory before they go to disk, about.
    pub memory_bytes: usize,
    /// Whether start timestamps are stored (XOR2 and ST chunks).
    pub start_timestamps: bool,
    /// Hints for `meta.json`.
    pub hints: Vec<String>,
    /// What the blocks' ids are derived from: the same samples again make blocks of the same ids.
    /// `None`: they are new.
    pub identity: Option<u128>,
}

impl Default for BackfillConfig {
    fn default() -> Self {
        Self {
            range_ms: 2 * 3_600_000,
            memory_bytes: 256 << 20,
            start_timestamps: false,
            hints: Vec::new(),
            identity: None,
        }
    }
}

/// What a backfill has taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BackfillStats {
    /// Samples pushed.
    pub samples: u64,
    /// Samples whose time their series had already in memory: the first stays.
    pub repeated: u64,
    /// Exemplars pushed.
    pub exemplars: u64,
    /// Times that memory was full.
    pub flushes: u64,
}

/// Where a series is in memory; any value will do, the default is as good as others.
#[derive(Debug, Clone, Copy, Default)]
pub struct SeriesSlot {
    generation: u32,
    id: u32,
}

/// A block that is written and not live yet.
#[derive(Debug, Clone)]
pub struct Staged {
    /// Its id.
    pub id: BlockId,
    /// Where it is.
    pub dir: PathBuf,
}

/// Takes samples and writes blocks. Dropping it leaves an unfinished directory, which the next
/// begin or start removes.
#[derive(Debug)]
pub struct Backfill {
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    config: BackfillConfig,
    staging: PathBuf,
    /// Bumped when memory is given back.
    generation: u32,
    ids: HashMap<Labels, u32, RandomState>,
    ranges: BTreeMap<i64, HashMap<u32, Column, RandomState>>,
    held: usize,
    /// Blocks on disk by range, in the order in which they were written.
    runs: BTreeMap<i64, Vec<Staged>>,
    deleted: BTreeMap<Labels, Vec<TimeRange>>,
    exemplars: BTreeMap<i64, BTreeMap<Labels, Vec<Exemplar>>>,
    metadata: BTreeMap<String, Metadata>,
    stats: BackfillStats,
}

impl Backfill {
    /// Begins under `home`, where the blocks will be, in a directory of its own named `name`.
    pub fn begin(
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        home: &Path,
        name: &str,
        config: BackfillConfig,
    ) -> Result<Self, BackfillError> {
        let staging = home.join(format!("{name}{UNFINISHED}"));
        disk.remove_dir_all(&staging)
            .and_then(|()| crate::durable::create_dir(&*disk, &staging))
            .map_err(BackfillError::io("create directory", &staging))?;
        Ok(Self {
            disk,
            clock,
            config,
            staging,
            generation: 1,
            ids: HashMap::default(),
            ranges: BTreeMap::new(),
            held: 0,
            runs: BTreeMap::new(),
            deleted: BTreeMap::new(),
            exemplars: BTreeMap::new(),
            metadata: BTreeMap::new(),
            stats: BackfillStats::default(),
        })
    }

    /// Takes a sample. `slot` is the caller's for this series, and spares a look-up.
    pub fn push(
        &mut self,
        slot: &mut SeriesSlot,
        labels: &Labels,
        start: Timestamp,
        time: Timestamp,
        value: Value,
    ) -> Result<(), BackfillError> {
        if slot.generation != self.generation {
            *slot = SeriesSlot { generation: self.generation, id: self.intern(labels) };
        }
        let range = time.div_euclid(self.config.range_ms);
        let column = self.ranges.entry(range).or_default().entry(slot.id).or_insert_with(|| {
            self.held += SERIES_BYTES;
            Column::default()
        });
        self.held += column.push(start, time, value);
        self.stats.samples += 1;
        if self.held >= self.config.memory_bytes {
            self.flush()?;
        }
        Ok(())
    }

    /// Takes an exemplar of a sample at `time`, which is its own time if it has none.
    pub fn push_exemplar(
        &mut self,
        labels: &Labels,
        time: Timestamp,
        mut exemplar: Exemplar,
    ) -> Result<(), BackfillError> {
        if exemplar.timestamp == 0 {
            exemplar.timestamp = time;
        }
        let range = exemplar.timestamp.div_euclid(self.config.range_ms);
        let text: usize = labels.iter().chain(&exemplar.labels).map(|l| l.name.len() + l.value.len()).sum();
        self.held += text + SERIES_BYTES;
        self.exemplars.entry(range).or_default().entry(labels.clone()).or_default().push(exemplar);
        self.stats.exemplars += 1;
        if self.held >= self.config.memory_bytes { self.flush() } else { Ok(()) }
    }

    /// Takes metadata of a metric family, which goes into every block written from now on.
    pub fn describe(&mut self, metric: &str, metadata: Metadata) {
        self.metadata.insert(metric.to_owned(), metadata);
    }

    /// Leaves out the samples of a series in `range`, whenever they were pushed.
    pub fn delete(&mut self, labels: &Labels, range: TimeRange) {
        self.deleted.entry(labels.clone()).or_default().push(range);
    }

    /// What was taken so far.
    pub fn stats(&self) -> BackfillStats {
        self.stats
    }

    /// Writes what is left; gives a block per range, by time, none live yet.
    pub fn finish(mut self) -> Result<(Vec<Staged>, BackfillStats), BackfillError> {
        self.flush()?;
        let mut blocks = Vec::new();
        for (range, runs) in std::mem::take(&mut self.runs) {
            match <[Staged; 1]>::try_from(runs) {
                Ok([only]) if self.deleted.is_empty() && self.config.identity.is_none() => blocks.push(only),
                Ok([only]) => blocks.extend(self.merge(range, &[only])?),
                Err(runs) => blocks.extend(self.merge(range, &runs)?),
            }
        }
        if blocks.is_empty() {
            let staging = &self.staging;
            self.disk.remove_dir_all(staging).map_err(BackfillError::io("remove directory", staging))?;
        }
        Ok((blocks, self.stats))
    }

    fn intern(&mut self, labels: &Labels) -> u32 {
        if let Some(&id) = self.ids.get(labels) {
            return id;
        }
        let id = self.ids.len() as u32;
        let text: usize = labels.iter().map(|l| l.name.len() + l.value.len() + size_of_val(l)).sum();
        self.held += text + SERIES_BYTES;
        self.ids.insert(labels.clone(), id);
        id
    }

    /// The id of the block of a range; `last`: of the one that stays.
    fn id_of(&self, range: i64, last: bool) -> BlockId {
        match self.config.identity.filter(|_| last) {
            None => BlockId::new(&*self.clock),
            Some(identity) => {
                let hash = xxh3_128_with_seed(&identity.to_be_bytes(), range as u64);
                let end = (range + 1).saturating_mul(self.config.range_ms);
                // The upper 48 bits of an id are its time, the lower 80 are ours.
                BlockId::from_parts(u64::try_from(end).unwrap_or(0) & ((1 << 48) - 1), hash >> 48)
            }
        }
    }
}

#[cfg(test)]
mod tests;
