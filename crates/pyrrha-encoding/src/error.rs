//! Why bytes could not be read.

use pyrrha_model::ErrorKind;

/// Why bytes could not be read. Whoever knows where the bytes came from (file, offset, series)
/// adds that.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end too early.
    #[error("bytes end inside part={part}")]
    Truncated {
        /// What was being read.
        part: &'static str,
    },
    /// No writer produces such bytes.
    #[error("malformed part={part}")]
    Malformed {
        /// What was being read.
        part: &'static str,
    },
    /// Stored and computed checksum differ.
    #[error("checksum mismatch part={part} stored={stored:08x} computed={computed:08x}")]
    Checksum {
        /// What was being read.
        part: &'static str,
        /// The checksum beside the bytes.
        stored: u32,
        /// The checksum of the bytes.
        computed: u32,
    },
    /// The operation does not work on chunks of this encoding.
    #[error("unexpected chunk encoding={encoding}")]
    Encoding {
        /// The encoding byte.
        encoding: u8,
    },
}

impl DecodeError {
    /// What the caller should do next.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Truncated { .. }
            | Self::Malformed { .. }
            | Self::Checksum { .. }
            | Self::Encoding { .. } => ErrorKind::Corrupt,
        }
    }
}
