//! Blocks of Thanos and Mimir become blocks of Pyrrha's tenants where they are (decision 17): a manifest
//! lists them, and nothing is copied, rewritten or moved.
//!
//! What is listed is what an attached bucket would read, less what is marked for deletion, what a job of
//! ours names, and what listed blocks hold already. So it may be done again and again, and brings in what
//! others uploaded meanwhile.

use std::collections::{BTreeMap, BTreeSet};

use pyrrha_model::{ErrorKind, StoreError, TenantId, Timestamp};
use pyrrha_storage::manifest::{BlockEntry, Change, ManifestState};
use serde::Serialize;

use super::BucketTools;
use super::named::Named;
use super::theirs::{Theirs, entry_of};
use crate::attach::{self, AttachConfig, Candidate, Why};
use crate::block_files::{self, external_labels, is_adopted};
use crate::sources::{Went, has_sources, holders_first, went};

/// Commits that others were before are tried again so often.
const TRIES: usize = 16;

/// A block of somebody else, as it is listed.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AdoptedBlock {
    /// Its id.
    pub ulid: String,
    /// Its directory in the bucket.
    pub dir: String,
    /// The external labels that its series get.
    pub labels: BTreeMap<String, String>,
    /// First millisecond of its range.
    pub min_time: i64,
    /// First millisecond after it.
    pub max_time: i64,
    /// Resolution, ms; 0 for samples.
    pub resolution: i64,
    /// Number of series.
    pub series: u64,
    /// Number of samples.
    pub samples: u64,
    /// Bytes of its files.
    pub bytes: u64,
}

/// A block that is not listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LeftOut {
    /// Whose it is, if that is known.
    pub tenant: Option<String>,
    /// Its directory in the bucket.
    pub dir: String,
    /// Why, in a word: `partial`, `damaged`, `young`, `deleted`, `superseded`, `no-tenant`, `job`, `gone`,
    /// `gone-partly` or `forgotten`.
    pub why: String,
    /// Why, as a sentence.
    pub detail: String,
}

impl LeftOut {
    /// Whether it is left out for good, unless somebody does something about it.
    pub(super) fn is_lost(&self) -> bool {
        matches!(self.why.as_str(), "damaged" | "no-tenant")
    }
}

/// What became of the blocks of a tenant, or would.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AdoptedTenant {
    /// The tenant.
    pub tenant: String,
    /// Blocks that became live.
    pub blocks: Vec<AdoptedBlock>,
    /// Blocks that were live before, or whose data live blocks have.
    pub known_blocks: u64,
    /// Adopted blocks whose data another one has now, and that left.
    pub replaced: Vec<String>,
    /// Adopted blocks that are live and that somebody has removed: their data is lost to queries.
    pub missing: Vec<String>,
    /// Whether something was committed.
    pub committed: bool,
}

/// What became of the blocks of a bucket, or would.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Adoption {
    /// By tenant, of those that have something.
    pub tenants: Vec<AdoptedTenant>,
    /// Blocks that are not listed, and why.
    pub left_out: Vec<LeftOut>,
}

impl Adoption {
    /// Whether every block that counts is listed and there.
    pub fn is_whole(&self) -> bool {
        !self.left_out.iter().any(LeftOut::is_lost)
            && self.tenants.iter().all(|tenant| tenant.missing.is_empty())
    }
}

/// Somebody else's blocks of one tenant.
#[derive(Debug, Default)]
struct Own {
    /// Those that count.
    blocks: Vec<Candidate>,
    /// Directories that have a `meta.json`.
    there: BTreeSet<String>,
}

impl BucketTools {
    /// Lists the blocks of others in the manifests of their tenants, of those that are `wanted` if any is.
    /// With `dry_run` nothing is written. Waits for requests.
    pub fn adopt(
        &self,
        config: &AttachConfig,
        wanted: &[TenantId],
        dry_run: bool,
    ) -> Result<Adoption, StoreError> {
        self.adopt_found(self.theirs(config)?, config, wanted, dry_run)
    }

    /// The same, of blocks that were found.
    pub(super) fn adopt_found(
        &self,
        found: Theirs,
        config: &AttachConfig,
        wanted: &[TenantId],
        dry_run: bool,
    ) -> Result<Adoption, StoreError> {
        let mut done = Adoption::default();
        let mut tenants: BTreeMap<TenantId, Own> = BTreeMap::new();
        for tenant in self.tenant_ids(&[])? {
            tenants.insert(tenant, Own::default());
        }
        let all = found.tenants.values().flatten().chain(found.others.iter().map(|(block, _)| block));
        for (tenant, block) in all.filter_map(|block| Some((block.tenant.clone()?, block))) {
            let own = tenants.entry(tenant).or_default();
            if !block.partial {
                own.there.insert(block.dir.clone());
            }
        }
        for (tenant, blocks) in found.tenants {
            tenants.entry(tenant).or_default().blocks = blocks;
        }
        let others = found.others.iter().map(|(block, why)| left_out(block.tenant.as_ref(), block, why));
        done.left_out.extend(others);
        let is_wanted = |tenant: &TenantId| wanted.is_empty() || wanted.contains(tenant);
        for (tenant, own) in tenants.iter().filter(|(tenant, _)| is_wanted(tenant)) {
            let (adopted, left) = self.adopt_tenant(tenant, own, config, dry_run)?;
            done.left_out.extend(left);
            if !adopted.blocks.is_empty() || adopted.known_blocks > 0 || !adopted.missing.is_empty() {
                done.tenants.push(adopted);
            }
        }
        if !wanted.is_empty() {
            let texts: BTreeSet<String> = wanted.iter().map(ToString::to_string).collect();
            done.left_out.retain(|left| left.tenant.as_ref().is_none_or(|tenant| texts.contains(tenant)));
        }
        Ok(done)
    }

    fn adopt_tenant(
        &self,
        tenant: &TenantId,
        own: &Own,
        config: &AttachConfig,
        dry_run: bool,
    ) -> Result<(AdoptedTenant, Vec<LeftOut>), StoreError> {
        // In this order: what a job has committed or let go by now is not taken for somebody else's.
        let named = self.named_by_jobs(tenant)?;
        let manifest = self.tenants.manifest(tenant)?;
        let mut tried = 1;
        loop {
            let state = manifest.refresh()?;
            let (mut adopted, change, left) =
                plan(tenant, &state, &named, own, (config, self.clock.now_ms()));
            if dry_run || change.added.is_empty() {
                return Ok((adopted, left));
            }
            match manifest.commit_change(&change) {
                Ok(_) => {
                    adopted.committed = true;
                    let blocks = adopted.blocks.len();
                    tracing::info!(%tenant, blocks, replaced = adopted.replaced.len(), "blocks adopted");
                    return Ok((adopted, left));
                }
                // Somebody else was first; what is left to do is planned anew.
                Err(error) if error.kind() == ErrorKind::Execution && tried < TRIES => tried += 1,
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// What is to be listed as of a state, and what came of all blocks.
fn plan(
    tenant: &TenantId,
    state: &ManifestState,
    named: &Named,
    own: &Own,
    (config, now): (&AttachConfig, Timestamp),
) -> (AdoptedTenant, Change, Vec<LeftOut>) {
    let mut adopted = AdoptedTenant { tenant: tenant.to_string(), ..AdoptedTenant::default() };
    // What is adopted elsewhere meanwhile, and merged, must not come back.
    let mut change = Change { planned_on: Some(state.number), ..Change::default() };
    let mut left = Vec::new();
    for block in &own.blocks {
        if went(state, &block.entry) == Went::Wholly || holds_all(state, block) {
            adopted.known_blocks += 1;
        } else if let Some(barred) = named.bars(tenant, state, &block.entry, &block.dir) {
            left.push(barred);
        } else {
            change.added.push(adopted_entry(tenant, block, config, now));
        }
    }
    for listed in state.blocks.values().filter(|b| is_adopted(b)) {
        let over = |holder: &&BlockEntry| holder.ulid != listed.ulid && goes_for(holder, listed);
        let new: Vec<_> = change.added.iter().filter(over).map(external_labels).collect();
        let old = state.blocks.values().map(|b| &**b).filter(over).map(external_labels);
        let is_replaced = !new.is_empty() && {
            let all: Vec<_> = new.into_iter().chain(old).collect();
            attach::have(&all, &external_labels(listed))
        };
        if is_replaced {
            change.removed.push(listed.ulid);
            adopted.replaced.push(listed.ulid.to_string());
        } else if !own.there.contains(&block_files::dir(tenant, listed)) {
            adopted.missing.push(listed.ulid.to_string());
        }
    }
    adopted.blocks = change.added.iter().map(|entry| shown(tenant, entry)).collect();
    (adopted, change, left)
}

/// Whether one block has all that another has, and goes for it.
fn goes_for(holder: &BlockEntry, entry: &BlockEntry) -> bool {
    has_sources(holder, entry) && holders_first(holder) < holders_first(entry)
}

/// Whether a block is live, or live blocks have all that it has; of a split one all shards do.
pub(super) fn holds_all(state: &ManifestState, block: &Candidate) -> bool {
    state.blocks.contains_key(&block.entry.ulid) || is_held(state, block)
}

fn is_held(state: &ManifestState, block: &Candidate) -> bool {
    // What we made goes for whatever has no more than it.
    let has = |live: &BlockEntry| match is_adopted(live) {
        true => goes_for(live, &block.entry),
        false => has_sources(live, &block.entry),
    };
    let holders = state.blocks.values().filter(|live| has(live));
    let holders: Vec<BTreeMap<String, String>> = holders.map(|live| external_labels(live)).collect();
    attach::have(&holders, &block.labels)
}

/// The manifest entry of somebody else's block that stays where it is.
fn adopted_entry(tenant: &TenantId, block: &Candidate, config: &AttachConfig, now: Timestamp) -> BlockEntry {
    let home = block_files::dir_under(tenant, None, block.entry.ulid);
    let above = block.dir.rsplit_once('/').map_or("", |(above, _)| above);
    let root = (block.dir != home).then_some(above);
    let entry = entry_of(block, config, now);
    block_files::adopted(&entry, root, &external_labels(&entry))
}

fn shown(tenant: &TenantId, entry: &BlockEntry) -> AdoptedBlock {
    AdoptedBlock {
        ulid: entry.ulid.to_string(),
        dir: block_files::dir(tenant, entry),
        labels: external_labels(entry),
        min_time: entry.min_time,
        max_time: entry.max_time,
        resolution: entry.resolution,
        series: entry.series,
        samples: entry.samples,
        bytes: entry.bytes,
    }
}

pub(super) fn left_out(tenant: Option<&TenantId>, block: &Candidate, why: &Why) -> LeftOut {
    LeftOut {
        tenant: tenant.map(ToString::to_string),
        dir: block.dir.clone(),
        why: why.word().to_owned(),
        detail: why.to_string(),
    }
}

#[cfg(test)]
pub(super) mod tests;
