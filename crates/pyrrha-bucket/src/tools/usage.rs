//! How much room a tenant takes, and for what.

use std::collections::BTreeMap;

use serde::Serialize;

use super::survey::{FileKind, ObjectClass, Survey};
use super::{BlockSelector, BucketTools};
use pyrrha_model::{StoreError, TenantId};

/// Room for one purpose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UsageRow {
    /// What the objects are there for.
    pub class: ObjectClass,
    /// Resolution in ms of the blocks they belong to, if those are live; 0 for raw samples.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolution: Option<i64>,
    /// Level of those blocks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<u32>,
    /// What kind of file they are.
    pub kind: FileKind,
    /// How many.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Room that a tenant takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// The tenant.
    pub tenant: String,
    /// Live blocks that were chosen.
    pub blocks: u64,
    /// Samples in them; of downsampled ones, as their metas count.
    pub samples: u64,
    /// Room by purpose.
    pub rows: Vec<UsageRow>,
}

impl Usage {
    /// Bytes of all objects.
    pub fn bytes(&self) -> u64 {
        self.rows.iter().map(|row| row.bytes).sum()
    }

    /// Bytes of objects of a class.
    pub fn bytes_of(&self, class: ObjectClass) -> u64 {
        self.rows.iter().filter(|row| row.class == class).map(|row| row.bytes).sum()
    }

    fn of(survey: &Survey, selector: &BlockSelector) -> Self {
        type Key = (ObjectClass, Option<i64>, Option<u32>, FileKind);
        let mut sums: BTreeMap<Key, (u64, u64)> = BTreeMap::new();
        for object in &survey.objects {
            let entry = object.block.and_then(|block| survey.state.blocks.get(&block));
            let wanted = entry.map_or_else(|| selector.is_everything(), |entry| selector.selects(entry));
            if !wanted {
                continue;
            }
            let key = (object.class, entry.map(|e| e.resolution), entry.map(|e| e.level), object.kind);
            let sum = sums.entry(key).or_default();
            *sum = (sum.0 + 1, sum.1.saturating_add(object.bytes));
        }
        let row = |((class, resolution, level, kind), (objects, bytes))| UsageRow {
            class,
            resolution,
            level,
            kind,
            objects,
            bytes,
        };
        let chosen = || survey.state.blocks.values().filter(|entry| selector.selects(entry));
        Self {
            tenant: survey.tenant.to_string(),
            blocks: chosen().count() as u64,
            samples: chosen().map(|entry| entry.samples).fold(0, u64::saturating_add),
            rows: sums.into_iter().map(row).collect(),
        }
    }
}

impl BucketTools {
    /// Room that a tenant's objects take; with a selector, that of the live blocks it chooses.
    pub fn usage(&self, tenant: &TenantId, selector: &BlockSelector) -> Result<Usage, StoreError> {
        Ok(Usage::of(&self.survey(tenant)?, selector))
    }
}
