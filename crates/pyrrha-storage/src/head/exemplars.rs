//! Exemplars and metadata of a head: caches of what the log has (decision 11).

use std::collections::{BTreeMap, VecDeque};

use hashbrown::HashMap;
use pyrrha_model::contract::Refused;
use pyrrha_model::{Exemplar, Metadata};

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
        for (series, exemplar) in &ring.items {
            self.newest.insert(*series, exemplar.clone());
        }
    }
}

fn same(a: &Exemplar, b: &Exemplar) -> bool {
    a.timestamp == b.timestamp && a.value.to_bits() == b.value.to_bits() && a.labels == b.labels
}

/// The newest exemplars of a tenant, oldest first.
#[derive(Debug, Default)]
pub(crate) struct ExemplarRing {
    items: VecDeque<(u32, Exemplar)>,
}

impl ExemplarRing {
    /// Adds an exemplar; the oldest ones beyond `most` go.
    pub(crate) fn push(&mut self, series: u32, exemplar: Exemplar, most: usize) {
        self.items.push_back((series, exemplar));
        while self.items.len() > most {
            self.items.pop_front();
        }
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &(u32, Exemplar)> {
        self.items.iter()
    }

    /// Forgets those of removed series.
    pub(crate) fn retain(&mut self, live: impl Fn(u32) -> bool) {
        self.items.retain(|(series, _)| live(*series));
    }

    /// Empties the ring.
    pub(crate) fn take(&mut self) -> Vec<(u32, Exemplar)> {
        std::mem::take(&mut self.items).into()
    }

    /// Puts exemplars before those that came since.
    pub(crate) fn put_back(&mut self, mut items: Vec<(u32, Exemplar)>) {
        items.extend(self.items.drain(..));
        self.items = items.into();
    }

    /// Brings what the log had, maybe twice, into the order of time.
    pub(crate) fn tidy(&mut self) {
        let mut items = self.take();
        items.sort_by_key(|(series, exemplar)| (*series, exemplar.timestamp));
        items.dedup_by(|a, b| a.0 == b.0 && same(&a.1, &b.1));
        items.sort_by_key(|(_, exemplar)| exemplar.timestamp);
        self.items = items.into();
    }

    /// Number of exemplars.
    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }
}

/// Metadata by metric family.
pub(crate) type MetadataMap = BTreeMap<String, Metadata>;
