//! Jobs: work on a tenant's blocks that any number of processes share, without talking to each other.
//!
//! ```text
//! manifest ─► planner ─► lease: create jobs/<id>/<epoch> ─► work, heartbeat ─► upload ─► commit ─► done
//!                                                                               │
//!                      dead worker: next epoch, outputs revoked in the manifest ┘ may fail, then nothing happened
//! ```
//!
//! A lease saves work and the commit is the safety (decision 16): a job commits only if all that it
//! read is still live and its outputs were not revoked. A job names its outputs before it uploads
//! them, and only what a job names is ever cleaned up (decision 17). The files of a job stay until
//! what it replaced is removed, after a delay. See `docs/format/jobs.md`.

mod cleanup;
mod directory;
mod lease;
mod leaving;
mod marked;
mod merge;
mod overview;
mod perform;
mod places;
mod plan;
mod prune;
mod record;
mod replaced;
mod retention;
mod rewrite;
mod runner;
mod take_over;
mod waiting;

use pyrrha_storage::block::BlockId;
use serde::{Deserialize, Serialize};

pub(crate) use cleanup::remove_block;
pub(crate) use directory::{Ends, JobDirectory};
pub(crate) use leaving::{LeavingBlock, leaving};
pub use overview::{JobOverview, JobPhase, SetAside, TenantOverview};
pub use plan::Ladder;
pub use prune::MatcherRetention;
pub(crate) use prune::{identity, pruned_partly};
pub(crate) use replaced::note_replaced;
pub use retention::{Expiring, Retention};
pub use rewrite::RewrittenBlock;
pub use runner::{Compactor, CompactorConfig, CompactorMetrics, Round};

/// What a job does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobKind {
    /// Several blocks become one.
    Compact,
    /// Raw blocks get windows of five minutes.
    #[serde(rename = "downsample-5m")]
    FiveMinutes,
    /// Windows of five minutes become hours.
    #[serde(rename = "downsample-1h")]
    Hour,
    /// A block is written anew without what is deleted for good.
    Purge,
    /// A block is written anew without series that stay shorter than the rest.
    Prune,
    /// Blocks past retention go.
    Retain,
    /// A block is written anew by rules that somebody gives.
    Rewrite,
}

impl JobKind {
    /// Those that make no windows.
    pub const OTHERS: [Self; 4] = [Self::Compact, Self::Purge, Self::Prune, Self::Retain];
    /// Those that make windows.
    pub const DOWNSAMPLING: [Self; 2] = [Self::FiveMinutes, Self::Hour];

    /// Its name in keys, messages and answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Compact => "compact",
            Self::FiveMinutes => "downsample-5m",
            Self::Hour => "downsample-1h",
            Self::Purge => "purge",
            Self::Prune => "prune",
            Self::Retain => "retain",
            Self::Rewrite => "rewrite",
        }
    }
}

/// A job that may be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobSpec {
    /// What is done.
    pub kind: JobKind,
    /// The blocks that are read. All must be live when the job commits.
    pub inputs: Vec<BlockId>,
    /// The blocks that stop being live with its commit: of those read, and of those made earlier from
    /// what it read.
    pub replaces: Vec<BlockId>,
    /// How many blocks it may make.
    pub outputs: usize,
    /// First millisecond of its range.
    pub min_time: i64,
    /// First millisecond after its range.
    pub max_time: i64,
    /// Bytes that it reads.
    pub bytes: u64,
}

impl JobSpec {
    /// Its id: the same for whoever plans it, so that it is taken once.
    pub fn id(&self) -> String {
        let mut named: Vec<u8> = Vec::new();
        for block in self.inputs.iter().chain(&self.replaces) {
            named.extend_from_slice(block.to_string().as_bytes());
        }
        let sum = pyrrha_encoding::crc::checksum(&named);
        let first =
            self.inputs.iter().chain(&self.replaces).min().map(ToString::to_string).unwrap_or_default();
        format!("{}-{first}-{}-{sum:08x}", self.kind.name(), self.inputs.len().max(self.replaces.len()))
    }
}

#[cfg(test)]
mod tests;
