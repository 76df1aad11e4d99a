//! Which blocks of a bucket are to be read, by the rules of those that write it. Pure.
//!
//! Thanos: uploads without `meta.json` are not there yet; blocks younger than a delay are not, but for
//! those of a compactor; marked ones go after a delay; of blocks of one resolution one is left out whose
//! sources are a subset of another's. Mimir: no delay for young blocks; of a block that was split, all
//! shards must be there.

use std::collections::BTreeMap;
use std::sync::Arc;

use pyrrha_model::{TenantId, Timestamp, rfc3339};
use pyrrha_storage::block::{BlockId, BlockMeta};
use pyrrha_storage::manifest::BlockEntry;

use super::ownership::TenantRules;
use super::{AttachConfig, BucketLayout, entry_without_meta};
use crate::shard::{Shard, cover};
use crate::sources::{Holders, holders_first};

const MINUTE: i64 = 60_000;

/// Why a block is not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// There is no `meta.json`: the upload goes on, or was given up.
    Partial,
    /// Its `meta.json` does not read.
    Damaged(String),
    /// It was uploaded a moment ago.
    Young,
    /// It was marked for deletion, long enough ago.
    Deleted,
    /// Another block has all its data.
    Superseded(BlockId),
    /// The label that names the tenant has a value that is none.
    NoTenant,
}

impl Why {
    /// All words that [`word`](Self::word) gives.
    pub const WORDS: [&str; 6] = ["partial", "damaged", "young", "deleted", "superseded", "no-tenant"];

    /// A word for it, for metrics and lists.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Partial => "partial",
            Self::Damaged(_) => "damaged",
            Self::Young => "young",
            Self::Deleted => "deleted",
            Self::Superseded(_) => "superseded",
            Self::NoTenant => "no-tenant",
        }
    }
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Partial => f.write_str("no meta.json, the upload goes on or was given up"),
            Self::Damaged(why) => f.write_str(why),
            Self::Young => f.write_str("uploaded a moment ago"),
            Self::Deleted => f.write_str("marked for deletion"),
            Self::Superseded(by) => write!(f, "its data is in block={by}"),
            Self::NoTenant => f.write_str("the label that names the tenant has no valid value"),
        }
    }
}

/// A block that was found.
#[derive(Debug, Clone)]
pub(crate) struct Candidate {
    /// Whose it is; of flat buckets found by rule.
    pub(crate) tenant: Option<TenantId>,
    /// Its directory in the bucket.
    pub(crate) dir: String,
    pub(crate) entry: Arc<BlockEntry>,
    /// `None` where nothing but a bucket index was read.
    pub(crate) meta: Option<Arc<BlockMeta>>,
    /// External labels.
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) partial: bool,
    pub(crate) damaged: Option<String>,
    pub(crate) deletion: Option<Timestamp>,
    pub(crate) no_compact: Option<String>,
}

impl Default for Candidate {
    fn default() -> Self {
        Self {
            tenant: None,
            dir: String::new(),
            entry: Arc::new(entry_without_meta(BlockId::from_parts(0, 0))),
            meta: None,
            labels: BTreeMap::new(),
            partial: false,
            damaged: None,
            deletion: None,
            no_compact: None,
        }
    }
}

/// The rules with their delays.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    now: Timestamp,
    young: i64,
    marked: i64,
}

impl Rules {
    pub(super) fn of(config: &AttachConfig, layout: BucketLayout, now: Timestamp) -> Self {
        let (young, marked) =
            if layout == BucketLayout::Tenants { (0, 60 * MINUTE) } else { (30 * MINUTE, 24 * 60 * MINUTE) };
        let ms = |time: Option<std::time::Duration>, or: i64| {
            time.map_or(or, |t| t.as_millis().try_into().unwrap_or(i64::MAX))
        };
        Self {
            now,
            young: ms(config.consistency_delay, young),
            marked: ms(config.ignore_deletion_marks_delay, marked),
        }
    }

    /// Each block with the reason for which it is not read, if there is one; by directory.
    pub(super) fn sort_out(
        &self,
        blocks: Vec<Candidate>,
        owners: &TenantRules,
    ) -> Vec<(Candidate, Option<Why>)> {
        let mut sorted = Vec::with_capacity(blocks.len());
        for mut block in blocks {
            let why = self.alone(&block);
            if why.is_none() && block.tenant.is_none() {
                block.tenant = owners.tenant(&block.labels);
            }
            let why = why.or_else(|| block.tenant.is_none().then_some(Why::NoTenant));
            sorted.push((block, why));
        }
        supersede(&mut sorted);
        sorted.sort_by(|a, b| a.0.dir.cmp(&b.0.dir));
        sorted
    }

    /// What speaks against a block, whatever others there are.
    fn alone(&self, block: &Candidate) -> Option<Why> {
        if let Some(why) = &block.damaged {
            return Some(Why::Damaged(why.clone()));
        }
        if block.partial {
            return Some(Why::Partial);
        }
        if self.is_young(block) {
            return Some(Why::Young);
        }
        let past = |at: Timestamp| self.now.saturating_sub(at) > self.marked;
        block.deletion.is_some_and(past).then_some(Why::Deleted)
    }

    fn is_young(&self, block: &Candidate) -> bool {
        let Some(meta) = &block.meta else { return false };
        let thanos = meta.thanos.as_ref();
        let source = thanos.map_or("", |t| t.source.as_str());
        if self.young == 0 || matches!(source, "compactor" | "compactor.repair" | "bucket.repair") {
            return false;
        }
        let uploaded = thanos.and_then(|t| t.upload_time.as_deref()).and_then(rfc3339::parse);
        let made = i64::try_from(meta.ulid.timestamp_ms()).unwrap_or(i64::MAX);
        self.now.saturating_sub(uploaded.unwrap_or(made)) < self.young
    }
}

/// Hides blocks whose data others have.
fn supersede(blocks: &mut [(Candidate, Option<Why>)]) {
    let mut order: Vec<usize> = (0..blocks.len()).filter(|&i| blocks[i].1.is_none()).collect();
    order.sort_by_key(|&i| holders_first(&blocks[i].0.entry));
    // Those that stay.
    let mut kept = Holders::default();
    for i in order {
        let block = &blocks[i].0;
        let group = (block.tenant.clone(), block.entry.resolution);
        let holders = kept.of(&group, &block.entry).into_iter();
        let holders: Vec<(usize, Shard)> = holders.map(|k| (k, shard(&blocks[k].0.labels))).collect();
        match by(&holders, shard(&block.labels)) {
            Some(holder) => {
                let by = blocks[holder].0.entry.ulid;
                blocks[i].1 = Some(Why::Superseded(by));
            }
            None => kept.add(&group, &block.entry, i),
        }
    }
}

/// Whether blocks with these labels, of which each has all sources of a block with labels `own`, have its data.
pub(crate) fn have(holders: &[BTreeMap<String, String>], own: &BTreeMap<String, String>) -> bool {
    let holders: Vec<_> = holders.iter().enumerate().map(|(i, labels)| (i, shard(labels))).collect();
    by(&holders, shard(own)).is_some()
}

/// Of blocks with all sources of a block, one that tells that its data is there; all shards of a split
/// together do.
fn by(holders: &[(usize, Shard)], own: Shard) -> Option<usize> {
    let one = holders.iter().find(|(_, shard)| shard.has(own));
    let some = || {
        let together = cover(holders.iter().map(|(_, shard)| *shard), own);
        holders.iter().find(|(_, shard)| together && shard.meets(own))
    };
    one.or_else(some).map(|(i, _)| *i)
}

fn shard(labels: &BTreeMap<String, String>) -> Shard {
    Shard::named(labels).unwrap_or(Shard::WHOLE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::SHARD_LABEL;

    fn id(n: u64) -> BlockId {
        BlockId::from_parts(n, 7)
    }

    fn block(n: u64, level: u32, sources: &[u64], shard: &str) -> Candidate {
        let mut entry = entry_without_meta(id(n));
        entry.level = level;
        entry.sources = sources.iter().map(|&s| id(s)).collect();
        let labels = (!shard.is_empty()).then(|| (SHARD_LABEL.to_owned(), shard.to_owned()));
        Candidate {
            dir: format!("{n:05}"),
            entry: Arc::new(entry),
            labels: labels.into_iter().collect(),
            ..Candidate::default()
        }
    }

    fn seen(blocks: Vec<Candidate>) -> Vec<u64> {
        let config = AttachConfig::new(crate::GatewayConfig {
            cache_dir: "/".into(),
            cache_bytes: 0,
            disk_bytes: 0,
            header_bytes: 1 << 20,
        });
        let rules = Rules::of(&config, BucketLayout::Flat, 1_000_000_000_000);
        let sorted = rules.sort_out(blocks, &TenantRules::default());
        sorted.iter().filter(|(_, why)| why.is_none()).map(|(b, _)| b.entry.ulid.timestamp_ms()).collect()
    }

    #[test]
    fn a_block_goes_when_another_has_all_its_sources() {
        let four = vec![
            block(1, 1, &[1], ""),
            block(2, 1, &[2], ""),
            block(3, 1, &[3], ""),
            block(10, 2, &[1, 2], ""),
        ];
        assert_eq!(seen(four), [3, 10]);
        // The same made twice: the newer stays; one that was rewritten in place is of a higher level.
        assert_eq!(seen(vec![block(10, 2, &[1, 2], ""), block(11, 2, &[1, 2], "")]), [11]);
        assert_eq!(seen(vec![block(10, 3, &[1, 2], ""), block(11, 2, &[1, 2], "")]), [10]);
        // Another resolution is another block.
        let mut windows = block(20, 2, &[1, 2], "");
        Arc::make_mut(&mut windows.entry).resolution = 300_000;
        assert_eq!(seen(vec![block(1, 1, &[1], ""), windows]), [1, 20]);
    }

    #[test]
    fn a_split_block_goes_with_the_last_shard() {
        let one = || vec![block(1, 1, &[1], ""), block(10, 2, &[1], "1_of_3"), block(11, 2, &[1], "2_of_3")];
        assert_eq!(seen(one()), [1, 10, 11]);
        let mut all = one();
        all.push(block(12, 2, &[1], "3_of_3"));
        assert_eq!(seen(all.clone()), [10, 11, 12]);
        // A shard goes for a larger one of the same number only.
        all.push(block(20, 3, &[1, 2], "2_of_3"));
        assert_eq!(seen(all), [10, 12, 20]);
        assert_eq!(seen(vec![block(1, 1, &[1], ""), block(10, 2, &[1], "4_of_3")]), [10], "no shard");
    }
}
