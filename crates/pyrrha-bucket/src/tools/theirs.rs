//! The blocks of somebody else's bucket: those that count, by tenant, and how manifests list them.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use pyrrha_model::contract::CancelToken;
use pyrrha_model::{StoreError, TenantId, Timestamp};
use pyrrha_storage::manifest::BlockEntry;

use super::BucketTools;
use crate::attach::{self, AttachConfig, Candidate, Metas, Why};
use crate::block_files::{files, with_files, with_labels};
use crate::marks::{Mark, MarkKind, SUFFIX, with_mark};

/// The blocks of a bucket.
pub(super) struct Theirs {
    /// Those that count, by tenant.
    pub(super) tenants: BTreeMap<TenantId, Vec<Candidate>>,
    /// The others, and why they do not.
    pub(super) others: Vec<(Candidate, Why)>,
}

impl BucketTools {
    /// The blocks that an attached bucket would read, less those that are marked for deletion.
    pub(super) fn theirs(&self, config: &AttachConfig) -> Result<Theirs, StoreError> {
        self.theirs_knowing(config, Arc::default(), &CancelToken::default())
    }

    /// The same, by who remembers small objects from one time to the next.
    pub(super) fn theirs_knowing(
        &self,
        config: &AttachConfig,
        known: Arc<Mutex<Metas>>,
        cancel: &CancelToken,
    ) -> Result<Theirs, StoreError> {
        let (bucket, config, now) = (self.tenants.bucket().clone(), config.clone(), self.clock.now_ms());
        let survey = async move { attach::survey(bucket, config, now, known).await };
        let all = self.runtime.wait_while(cancel, survey)?;
        let mut found = Theirs { tenants: BTreeMap::new(), others: Vec::new() };
        for (block, why) in all {
            match (why.or_else(|| block.deletion.map(|_| Why::Deleted)), &block.tenant) {
                (None, Some(tenant)) => found.tenants.entry(tenant.clone()).or_default().push(block),
                (why, _) => found.others.push((block, why.unwrap_or(Why::NoTenant))),
            }
        }
        Ok(found)
    }
}

/// The entry of somebody else's block in the manifest of its tenant, but for where it lies. It has all external
/// labels but the one that says whose it is.
pub(super) fn entry_of(block: &Candidate, config: &AttachConfig, now: Timestamp) -> BlockEntry {
    let mut labels = block.labels.clone();
    labels.retain(|name, _| Some(name) != config.tenants.label.as_ref());
    // Marks come and go.
    let mut kept = files(&block.entry);
    kept.retain(|file| !file.name.ends_with(SUFFIX));
    let entry = with_files(&with_labels((*block.entry).clone().imported(), &labels), &kept);
    match &block.no_compact {
        Some(why) => {
            let mark = Mark { at: now, reason: why.clone(), details: String::new() };
            with_mark(&entry, MarkKind::NoCompact, Some(&mark))
        }
        None => entry,
    }
}
