//! Which blocks of a tenant a command is about.

use std::collections::BTreeSet;

use pyrrha_model::{Matcher, TimeRange};
use pyrrha_storage::block::BlockId;
use pyrrha_storage::manifest::BlockEntry;

use crate::block_files::external_labels;

/// Chooses blocks; the default chooses all.
#[derive(Debug, Clone, Default)]
pub struct BlockSelector {
    /// These alone, unless it is empty.
    pub ids: BTreeSet<BlockId>,
    /// Those that overlap it.
    pub range: Option<TimeRange>,
    /// Of these resolutions in ms, 0 for raw samples, unless it is empty.
    pub resolutions: BTreeSet<i64>,
    /// Of this level or a higher one.
    pub min_level: Option<u32>,
    /// Of this level or a lower one.
    pub max_level: Option<u32>,
    /// Whose external labels satisfy one of these sets of matchers, unless there is none.
    pub labels: Vec<Vec<Matcher>>,
}

impl BlockSelector {
    /// Whether a block is chosen.
    pub fn selects(&self, entry: &BlockEntry) -> bool {
        (self.ids.is_empty() || self.ids.contains(&entry.ulid))
            && self.range.is_none_or(|range| range.overlaps(&entry.range()))
            && (self.resolutions.is_empty() || self.resolutions.contains(&entry.resolution))
            && self.min_level.is_none_or(|level| entry.level >= level)
            && self.max_level.is_none_or(|level| entry.level <= level)
            && (self.labels.is_empty() || self.matches(entry))
    }

    fn matches(&self, entry: &BlockEntry) -> bool {
        let labels = external_labels(entry);
        let value = |name: &str| labels.get(name).map_or("", String::as_str);
        self.labels.iter().any(|set| set.iter().all(|m| m.matches(value(&m.name))))
    }

    /// Whether it chooses every block there may be.
    pub fn is_everything(&self) -> bool {
        self.ids.is_empty()
            && self.range.is_none()
            && self.resolutions.is_empty()
            && self.min_level.is_none()
            && self.max_level.is_none()
            && self.labels.is_empty()
    }
}
