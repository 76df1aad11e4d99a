//! Errors of manifests.

use pyrrha_model::{ErrorKind, StoreError};

use crate::block::BlockId;

/// Why a manifest could not be read, or a change not be committed.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The store failed.
    #[error("manifest i/o failed: number={number}: {source}")]
    Io {
        /// Number of the manifest; 0 if none in particular.
        number: u64,
        /// What the store said.
        source: std::io::Error,
    },
    /// A manifest is damaged.
    #[error("manifest is corrupt: {what} number={number}")]
    Corrupt {
        /// Number of the manifest.
        number: u64,
        /// What is wrong.
        what: String,
    },
    /// A block that the change replaces is not live any more.
    #[error("block is not live any more: block={block} number={number}")]
    InputGone {
        /// The block.
        block: BlockId,
        /// Number of the manifest looked at.
        number: u64,
    },
    /// A live block's entry is not as the change takes it for.
    #[error("block was changed meanwhile: block={block} number={number}")]
    Changed {
        /// The block.
        block: BlockId,
        /// Number of the manifest looked at.
        number: u64,
    },
    /// The change was planned on an older manifest.
    #[error("manifest was committed to meanwhile: planned_on={planned} number={number}")]
    Overtaken {
        /// The number that it was planned on.
        planned: u64,
        /// Number of the manifest looked at.
        number: u64,
    },
    /// A deletion came after the job began, and touches what it replaces.
    #[error("block was touched by a newer deletion: block={block} delete={delete}")]
    DeletedSince {
        /// The block.
        block: BlockId,
        /// Number of the manifest that brought the deletion.
        delete: u64,
    },
    /// The job that made this block was revoked.
    #[error("block was revoked before it was committed: block={block}")]
    Revoked {
        /// The block.
        block: BlockId,
    },
    /// The block is live already, with other content.
    #[error("another block of that id is live: block={block}")]
    Duplicate {
        /// The block.
        block: BlockId,
    },
    /// Other writers won every race.
    #[error("manifest is contended: number={number}")]
    Contended {
        /// Number of the manifest seen last.
        number: u64,
    },
}

impl ManifestError {
    /// What the caller should do next.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { .. } | Self::Contended { .. } => ErrorKind::Unavailable,
            Self::Corrupt { .. } => ErrorKind::Corrupt,
            Self::InputGone { .. }
            | Self::Changed { .. }
            | Self::Overtaken { .. }
            | Self::DeletedSince { .. }
            | Self::Revoked { .. } => ErrorKind::Execution,
            Self::Duplicate { .. } => ErrorKind::Internal,
        }
    }
}

impl From<ManifestError> for StoreError {
    fn from(error: ManifestError) -> Self {
        StoreError::new(error.kind(), error.to_string())
    }
}
