//! Exemplars and metadata of a head: caches of what the log has (decision 11).

use std::collections::{BTreeMap, VecDeque};

use hashbrown::HashMap;
use pyrrha_index::RoaringBitmap;
use pyrrha_model::contract::Refused;
use pyrrha_model::{Exemplar, Metadata};

use crate::block::same_exemplar as same;

/// Most characters in the labels of an exemplar, as OpenMetrics has it.
const MAX_LABEL_CHARS: usize = 128;

/// The newest admitted exemplar of each series.
#[derive(Debug, Default)]
pub(crate) struct ExemplarAdmission {
    newest: HashMap<u32, Exemplar, foldhash::fast::RandomState>,
}

impl ExemplarAdmission {
    /// Judges an exemplar and remembers it. Returns what was the newest one before.
    pub(crate) fn admit(&mut self, series: u32, exemplar: &Exemplar) -> Result<Option<Exemplar>, Refused> {
        let chars: usize =
            exemplar.labels.iter().map(|l| l.name.chars().count() + l.value.chars().count()).sum();
        if chars > MAX_LABEL_CHARS {
            return Err(Refused::InvalidLabels(format!(
                "label length for exemplar exceeds maximum of {MAX_LABEL_CHARS} UTF-8 characters"
            )));
        }
        if let Some(newest) = self.newest.get(&series) {
            if same(newest, exemplar) {
                return Err(Refused::DuplicateExemplar);
            }
            if exemplar.timestamp < newest.timestamp {
                return Err(Refused::OutOfOrderExemplar);
            }
        }
        Ok(self.newest.insert(series, exemplar.clone()))
    }

    /// Undoes [`admit`](Self::admit).
    pub(crate) fn restore(&mut self, series: u32, before: Option<Exemplar>) {
        match before {
            Some(before) => drop(self.newest.insert(series, before)),
            None => drop(self.newest.remove(&series)),
        }
    }

    /// Makes what is admitted equal to what is stored.
    pub(crate) fn reset(&mut self, ring: &ExemplarRing) {
        self.newest.clear();
        for item in &ring.items {
            self.newest.insert(item.series, item.exemplar.clone());
        }
    }

    /// Forgets removed series.
    pub(crate) fn forget(&mut self, series: &RoaringBitmap) {
        self.newest.retain(|s, _| !series.contains(*s));
    }
}

/// An exemplar in the ring.
#[derive(Debug, Clone)]
pub(crate) struct RingItem {
    /// Counts up as exemplars come.
    pub(crate) number: u64,
    pub(crate) series: u32,
    pub(crate) exemplar: Exemplar,
}

/// The exemplars of a tenant that are in no block, as they came; the oldest go where they are too
/// many.
#[derive(Debug, Default)]
pub(crate) struct ExemplarRing {
    items: VecDeque<RingItem>,
    next: u64,
}

impl ExemplarRing {
    /// Adds an exemplar; the oldest ones beyond `most` go. Gives the number of those.
    pub(crate) fn push(&mut self, series: u32, exemplar: Exemplar, most: usize) -> u64 {
        let number = self.next;
        self.next += 1;
        self.items.push_back(RingItem { number, series, exemplar });
        let gone = self.items.len().saturating_sub(most);
        self.items.drain(..gone);
        gone as u64
    }

    /// The number of the next exemplar.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &RingItem> {
        self.items.iter()
    }

    /// The series that have exemplars here.
    pub(crate) fn series(&self) -> RoaringBitmap {
        self.items.iter().map(|item| item.series).collect()
    }

    /// Keeps those for which `keep` is true.
    pub(crate) fn retain(&mut self, keep: impl Fn(&RingItem) -> bool) {
        self.items.retain(keep);
    }

    /// Empties the ring.
    pub(crate) fn take(&mut self) -> Vec<(u32, Exemplar)> {
        self.items.drain(..).map(|item| (item.series, item.exemplar)).collect()
    }

    /// Puts exemplars before those that came since.
    pub(crate) fn put_back(&mut self, items: Vec<(u32, Exemplar)>) {
        let since = self.take();
        for (series, exemplar) in items.into_iter().chain(since) {
            self.push(series, exemplar, usize::MAX);
        }
    }

    /// Brings what the log had, maybe twice, into the order of time.
    pub(crate) fn tidy(&mut self) {
        let mut items = self.take();
        items.sort_by_key(|(series, exemplar)| (*series, exemplar.timestamp));
        items.dedup_by(|a, b| a.0 == b.0 && same(&a.1, &b.1));
        items.sort_by_key(|(_, exemplar)| exemplar.timestamp);
        self.put_back(items);
    }

    /// Number of exemplars.
    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }
}

/// Metadata by metric family.
pub(crate) type MetadataMap = BTreeMap<String, Metadata>;
