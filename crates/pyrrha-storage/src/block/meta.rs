//! `meta.json`: what a block holds and where it comes from.

use std::collections::{BTreeMap, BTreeSet};

use pyrrha_model::{ChunkEncoding, TimeRange, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::BlockId;
use super::error::{Blame, BlockError};

/// The only version of either part of `meta.json` that exists.
const VERSION: u64 = 1;
/// Field of `meta.json`: those of the encodings of a block's chunks that hold start timestamps, by their bytes.
pub const ENCODINGS_FIELD: &str = "encodings";

/// The content of `meta.json`: Prometheus' part, and Thanos' and Mimir's under `thanos`. Fields
/// that this version does not know are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BlockMeta {
    /// The block's id.
    pub ulid: BlockId,
    /// First millisecond of the block's range.
    pub min_time: Timestamp,
    /// First millisecond after the block's range.
    pub max_time: Timestamp,
    /// How much it holds; set by the writer.
    #[serde(default)]
    pub stats: BlockStats,
    /// What it was made from.
    #[serde(default)]
    pub compaction: CompactionMeta,
    /// 1.
    pub version: u64,
    /// The part that Thanos and Mimir add.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thanos: Option<ThanosMeta>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// How much a block holds.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BlockStats {
    /// Samples of either kind.
    #[serde(skip_serializing_if = "is_zero")]
    pub num_samples: u64,
    /// Float samples.
    #[serde(skip_serializing_if = "is_zero")]
    pub num_float_samples: u64,
    /// Native histogram samples.
    #[serde(skip_serializing_if = "is_zero")]
    pub num_histogram_samples: u64,
    /// Series.
    #[serde(skip_serializing_if = "is_zero")]
    pub num_series: u64,
    /// Chunks.
    #[serde(skip_serializing_if = "is_zero")]
    pub num_chunks: u64,
    /// Deleted intervals.
    #[serde(skip_serializing_if = "is_zero")]
    pub num_tombstones: u64,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// What a block was made from.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CompactionMeta {
    /// 1 for a block cut from a head, one more for each compaction.
    pub level: u32,
    /// The level-1 blocks whose data it holds; itself, if it is one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<BlockId>,
    /// Whether the block is empty and may go.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub deletable: bool,
    /// The blocks it directly replaces.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parents: Vec<ParentBlock>,
    /// Whether compacting it failed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub failed: bool,
    /// `from-out-of-order`, `from-stale-series`, `from-selected-series`; sorted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hints: Vec<String>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// A block that another was compacted from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ParentBlock {
    /// Its id.
    pub ulid: BlockId,
    /// First millisecond of its range.
    pub min_time: Timestamp,
    /// First millisecond after its range.
    pub max_time: Timestamp,
}

/// The part of `meta.json` that Thanos and Mimir add.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ThanosMeta {
    /// 1; 0 or absent means 1.
    #[serde(skip_serializing_if = "is_zero")]
    pub version: u64,
    /// External labels: they belong to every series of the block.
    pub labels: Option<BTreeMap<String, String>>,
    /// Resolution.
    pub downsample: ThanosDownsample,
    /// Which component made the block.
    pub source: String,
    /// Names of the chunk segments (superseded by `files`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub segment_files: Vec<String>,
    /// Files of the block, by path.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<ThanosFile>,
    /// How the block was rewritten.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rewrites: Vec<Value>,
    /// Sizes seen in the index.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index_stats: Option<ThanosIndexStats>,
    /// Anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extensions: Option<Value>,
    /// When the block was uploaded, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upload_time: Option<String>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// Resolution of a block.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ThanosDownsample {
    /// Milliseconds between samples: 0 (raw), 300000 or 3600000.
    pub resolution: i64,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// A file of a block.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ThanosFile {
    /// Path within the block.
    pub rel_path: String,
    /// Length in bytes; 0 for `meta.json` itself.
    #[serde(skip_serializing_if = "is_zero")]
    pub size_bytes: u64,
    /// Hash of the content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash: Option<ThanosHash>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// Hash of a file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ThanosHash {
    /// Function, `SHA256`.
    pub func: String,
    /// Hash in hexadecimal.
    pub value: String,
}

/// Sizes seen in an index.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ThanosIndexStats {
    /// Largest series entry, bytes.
    #[serde(skip_serializing_if = "is_zero")]
    pub series_max_size: u64,
    /// Largest chunk, bytes.
    #[serde(skip_serializing_if = "is_zero")]
    pub chunk_max_size: u64,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl BlockMeta {
    /// The meta of a block cut from a head, with range `[min_time, max_time)`: level 1, its own
    /// source.
    pub fn of_head(ulid: BlockId, min_time: Timestamp, max_time: Timestamp) -> Self {
        Self {
            ulid,
            min_time,
            max_time,
            stats: BlockStats::default(),
            compaction: CompactionMeta { level: 1, sources: vec![ulid], ..CompactionMeta::default() },
            version: VERSION,
            thanos: None,
            other: Map::new(),
        }
    }

    /// The meta of a block made from `parents`: their range, sources and external labels, one
    /// level up.
    pub fn of_compaction(ulid: BlockId, parents: &[BlockMeta]) -> Self {
        let min_time = parents.iter().map(|p| p.min_time).min().unwrap_or(0);
        let max_time = parents.iter().map(|p| p.max_time).max().unwrap_or(0);
        let mut meta = Self::of_head(ulid, min_time, max_time);
        let mut sources: Vec<BlockId> =
            parents.iter().flat_map(|p| p.compaction.sources.iter().copied()).collect();
        sources.sort_unstable();
        sources.dedup();
        meta.compaction.level =
            parents.iter().map(|p| p.compaction.level).max().unwrap_or(0).saturating_add(1);
        meta.compaction.sources = sources;
        meta.compaction.parents = parents
            .iter()
            .map(|p| ParentBlock { ulid: p.ulid, min_time: p.min_time, max_time: p.max_time })
            .collect();
        meta.thanos = parents.iter().find_map(|p| p.thanos.clone());
        meta
    }

    /// Notes those of the encodings of its chunks that not everybody reads: with start timestamps.
    pub(super) fn note_encodings(&mut self, all: &BTreeSet<u8>) {
        let starts = [ChunkEncoding::Xor2, ChunkEncoding::HistogramSt, ChunkEncoding::FloatHistogramSt];
        let noted: Vec<u8> = starts.map(|e| e as u8).into_iter().filter(|byte| all.contains(byte)).collect();
        match noted.is_empty() {
            true => self.other.remove(ENCODINGS_FIELD),
            false => self.other.insert(ENCODINGS_FIELD.to_owned(), noted.into()),
        };
    }

    /// The block's range as a closed interval.
    pub fn range(&self) -> TimeRange {
        TimeRange::new(self.min_time, self.max_time.saturating_sub(1))
    }

    /// Reads `meta.json`; `block` is the block's name, for errors.
    pub fn parse(block: &str, json: &[u8]) -> Result<Self, BlockError> {
        Self::read(&Blame::new(block.as_ref()), json)
    }

    pub(super) fn read(blame: &Blame, json: &[u8]) -> Result<Self, BlockError> {
        let meta: Self = serde_json::from_slice(json)
            .map_err(|e| blame.corrupt(super::META_FILE, 0, format!("meta.json does not parse ({e})")))?;
        if meta.version != VERSION {
            return Err(blame.version(meta.version));
        }
        if let Some(version) = meta.thanos.as_ref().map(|t| t.version).filter(|&v| v > VERSION) {
            return Err(blame.version(version));
        }
        if meta.min_time > meta.max_time {
            return Err(blame.corrupt(super::META_FILE, 0, "minTime is after maxTime"));
        }
        Ok(meta)
    }

    /// The file's content, indented with tabs as Prometheus does.
    pub fn to_json(&self) -> Vec<u8> {
        let mut json = Vec::new();
        let indent = serde_json::ser::PrettyFormatter::with_indent(b"\t");
        let mut serializer = serde_json::Serializer::with_formatter(&mut json, indent);
        // Only a map with keys that are not strings, or a failing writer, can fail.
        self.serialize(&mut serializer).expect("a struct with string keys serialises into memory");
        json
    }
}
