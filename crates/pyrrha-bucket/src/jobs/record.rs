//! What the files of a job say.

use std::collections::BTreeMap;

use pyrrha_model::{TenantId, Timestamp};
use pyrrha_storage::block::BlockId;
use serde::{Deserialize, Serialize};

use super::{JobKind, JobSpec};
use crate::block_files;

const VERSION: u32 = 2;

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum JobState {
    /// Its worker works, or died.
    Running,
    /// Nothing of this lease, or of those that it ended, will be committed any more: it was committed, or
    /// came too late, or its worker died.
    Done,
    /// The same, and it failed. It may be tried again.
    Failed,
}

/// The content of each file of `jobs/<id>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct JobRecord {
    pub(crate) version: u32,
    pub(crate) kind: JobKind,
    /// The lease that says this. No other ever has this id.
    pub(crate) lease: BlockId,
    /// Who took it.
    pub(crate) worker: BlockId,
    /// Grows while the worker lives.
    pub(crate) beat: u64,
    pub(crate) state: JobState,
    /// Blocks that are read.
    pub(crate) inputs: Vec<BlockId>,
    /// Blocks that the commit replaces; their files go after a delay.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) replaces: Vec<BlockId>,
    /// Blocks that it may upload and commit. There is one at least, so that a commit that uploads nothing
    /// can be revoked too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) outputs: Vec<BlockId>,
    /// Leases that this one has ended, as their workers are taken for dead.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) taken_over: Vec<BlockId>,
    /// Outputs of those.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) abandoned: Vec<BlockId>,
    /// Where blocks lie that it replaces or makes, unless that is where their tenant's do.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) roots: BTreeMap<BlockId, String>,
    pub(crate) min_time: Timestamp,
    pub(crate) max_time: Timestamp,
    /// Bytes that are read.
    pub(crate) bytes: u64,
    /// Wall clock of the worker when it began, ms.
    pub(crate) began_at: Timestamp,
    /// Whether it ended with a commit, so that what it replaces is garbage.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) committed: bool,
    /// How long it took, once it ended.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) took_ms: u64,
    /// How often it failed before.
    #[serde(default, skip_serializing_if = "is_none")]
    pub(crate) failures: u32,
    /// Why it failed last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn is_none(number: &u32) -> bool {
    *number == 0
}

impl JobRecord {
    /// A job that is taken now, after another lease has ended if one had.
    pub(crate) fn taken(
        spec: &JobSpec,
        lease: BlockId,
        worker: BlockId,
        outputs: Vec<BlockId>,
        began_at: Timestamp,
        before: Option<&Self>,
    ) -> Self {
        Self {
            version: VERSION,
            kind: spec.kind,
            lease,
            worker,
            beat: 0,
            state: JobState::Running,
            inputs: spec.inputs.clone(),
            replaces: spec.replaces.clone(),
            outputs,
            taken_over: Vec::new(),
            abandoned: Vec::new(),
            roots: BTreeMap::new(),
            min_time: spec.min_time,
            max_time: spec.max_time,
            bytes: spec.bytes,
            began_at,
            committed: false,
            took_ms: 0,
            failures: before.map_or(0, |before| before.failures),
            error: before.and_then(|before| before.error.clone()),
        }
    }

    /// Its outputs and those of the leases that it ended.
    pub(crate) fn all_outputs(&self) -> Vec<BlockId> {
        self.abandoned.iter().chain(&self.outputs).copied().collect()
    }

    /// All blocks that the lease, which ended, may have left files of.
    pub(crate) fn named(&self) -> impl Iterator<Item = BlockId> + '_ {
        let replaced: &[BlockId] = if self.committed { &self.replaces } else { &[] };
        replaced.iter().chain(&self.abandoned).chain(&self.outputs).copied()
    }

    /// Names no others from now on among those that it may have left files of.
    pub(crate) fn name_only(&mut self, is_named: impl Fn(&BlockId) -> bool) {
        self.outputs.retain(&is_named);
        self.abandoned.retain(&is_named);
        if self.committed {
            self.replaces.retain(&is_named);
        }
    }

    /// The directory in the bucket of a block that it names.
    pub(crate) fn dir_of(&self, tenant: &TenantId, block: BlockId) -> String {
        block_files::dir_under(tenant, self.roots.get(&block).map(String::as_str), block)
    }

    /// All blocks that must be live for it to commit.
    pub(crate) fn wants_live(&self) -> impl Iterator<Item = BlockId> + '_ {
        self.inputs.iter().chain(&self.replaces).copied()
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        // Only a map with keys that are not strings, or a failing writer, can fail.
        serde_json::to_vec(self).expect("a struct with string keys serialises into memory")
    }

    /// `None` if it is of another version, or no job at all.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok().filter(|record: &Self| record.version == VERSION)
    }
}
