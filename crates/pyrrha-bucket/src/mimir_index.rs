//! Mimir's and Cortex' `bucket-index.json.gz`: the blocks of a tenant in one object.

use std::fmt;
use std::io::{Read, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use pyrrha_model::{TenantId, Timestamp};
use pyrrha_storage::block::BlockId;
use serde::de::{DeserializeOwned, Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use tokio::sync::Semaphore;

use crate::error::BucketError;

/// Name of the object in a tenant's directory.
pub(crate) const NAME: &str = "bucket-index.json.gz";
/// Largest object that is read, and largest index, unpacked: 250 bytes a block, and a quarter of a million.
pub(crate) const PACKED_MAX: u64 = 16 << 20;
const INDEX_MAX: u64 = 64 << 20;
/// Most fields of a block of which nothing is known.
const OTHERS_MAX: usize = 8;
/// One index is unpacked at a time: what it takes in memory is many times the object.
static UNPACKING: Semaphore = Semaphore::const_new(1);
/// The version that is written: the first with shards.
const VERSION: u64 = 2;

/// The key of a tenant's index in a bucket.
pub(crate) fn key(tenant: &TenantId) -> String {
    format!("{tenant}/{NAME}")
}

/// What an index says of blocks, which are told as far as `B` wants to know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(bound(deserialize = "B: Deserialize<'de>"))]
pub(crate) struct MimirIndex<B = IndexedBlock> {
    version: u64,
    #[serde(default, deserialize_with = "or_none")]
    pub(crate) blocks: Vec<B>,
    #[serde(default, deserialize_with = "or_none")]
    pub(crate) block_deletion_marks: Vec<IndexedMark>,
    /// When it was written, s.
    pub(crate) updated_at: i64,
}

/// What readers want to know of a block.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct ListedBlock {
    pub(crate) block_id: BlockId,
    pub(crate) min_time: Timestamp,
    /// The millisecond after the last.
    pub(crate) max_time: Timestamp,
    /// `i_of_N`
    #[serde(default)]
    pub(crate) compactor_shard_id: String,
    #[serde(default)]
    pub(crate) compaction_level: u64,
}

/// A block as the index names it. Fields of which nothing is known are kept.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct IndexedBlock {
    pub(crate) block_id: BlockId,
    pub(crate) min_time: Timestamp,
    /// The millisecond after the last.
    pub(crate) max_time: Timestamp,
    /// How chunk segments are named: `1b6d` is six digits, counted from 1.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) segments_format: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) segments_num: u64,
    /// When its `meta.json` was uploaded, s.
    pub(crate) uploaded_at: i64,
    /// `i_of_N`
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) compactor_shard_id: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) compaction_level: u64,
    #[serde(flatten)]
    pub(crate) other: Map<String, Value>,
}

impl<'de> Deserialize<'de> for IndexedBlock {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(BlockVisitor)
    }
}

/// Reads a block field by field. What serde derives for unknown fields would hold each value of any depth, in
/// many times the bytes that it was read from.
struct BlockVisitor;

impl<'de> Visitor<'de> for BlockVisitor {
    type Value = IndexedBlock;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a block")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<IndexedBlock, A::Error> {
        let (mut id, mut min_time, mut max_time) = (None, None, None);
        let mut block = IndexedBlock {
            block_id: BlockId::from_parts(0, 0),
            min_time: 0,
            max_time: 0,
            segments_format: String::new(),
            segments_num: 0,
            uploaded_at: 0,
            compactor_shard_id: String::new(),
            compaction_level: 0,
            other: Map::new(),
        };
        while let Some(name) = fields.next_key::<String>()? {
            match name.as_str() {
                "block_id" => id = Some(fields.next_value()?),
                "min_time" => min_time = Some(fields.next_value()?),
                "max_time" => max_time = Some(fields.next_value()?),
                "segments_format" => block.segments_format = fields.next_value()?,
                "segments_num" => block.segments_num = fields.next_value()?,
                "uploaded_at" => block.uploaded_at = fields.next_value()?,
                "compactor_shard_id" => block.compactor_shard_id = fields.next_value()?,
                "compaction_level" => block.compaction_level = fields.next_value()?,
                _ if block.other.len() == OTHERS_MAX => {
                    return Err(A::Error::custom(format!("block has too many fields: limit={OTHERS_MAX}")));
                }
                _ => drop(block.other.insert(name, fields.next_value::<Scalar>()?.0)),
            }
        }
        block.block_id = id.ok_or_else(|| A::Error::missing_field("block_id"))?;
        block.min_time = min_time.ok_or_else(|| A::Error::missing_field("min_time"))?;
        block.max_time = max_time.ok_or_else(|| A::Error::missing_field("max_time"))?;
        Ok(block)
    }
}

/// A value that is no list and no object.
struct Scalar(Value);

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(ScalarVisitor).map(Self)
    }
}

struct ScalarVisitor;

impl Visitor<'_> for ScalarVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, a text or nothing")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }
}

/// A block that was marked for deletion.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct IndexedMark {
    pub(crate) block_id: BlockId,
    /// s
    pub(crate) deletion_time: i64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// An empty list may be spelt `null`.
fn or_none<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// Why an index does not read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum IndexError {
    /// It is of a later version.
    UnknownVersion(u64),
    /// It is JSON, and of another form.
    UnknownForm(String),
    /// It is larger than any that is read.
    TooLarge,
    /// It is no JSON.
    Damaged(String),
}

impl IndexError {
    /// As an error of the object.
    pub(crate) fn of(self, key: &str) -> BucketError {
        let key = key.to_owned();
        match self {
            Self::UnknownVersion(version) => BucketError::UnknownVersion { key, version },
            // It is not unpacked any further, so this much is known of it.
            Self::TooLarge => BucketError::TooLarge { key, bytes: INDEX_MAX + 1, limit: INDEX_MAX },
            Self::UnknownForm(what) | Self::Damaged(what) => BucketError::Corrupt { key, what },
        }
    }
}

/// Reads an index beside the threads of requests.
pub(crate) async fn unpack<B>(packed: Bytes) -> Result<MimirIndex<B>, IndexError>
where
    B: DeserializeOwned + Send + 'static,
{
    // It is never closed.
    let _one = UNPACKING.acquire().await.ok();
    let unpacked = tokio::task::spawn_blocking(move || MimirIndex::unpack(&packed)).await;
    unpacked.unwrap_or_else(|error| Err(IndexError::Damaged(format!("index does not unpack: {error}"))))
}

impl MimirIndex {
    /// An index of these blocks.
    pub(crate) fn new(blocks: Vec<IndexedBlock>, marks: Vec<IndexedMark>, updated_at: i64) -> Self {
        Self { version: VERSION, blocks, block_deletion_marks: marks, updated_at }
    }

    /// The object.
    pub(crate) fn pack(&self) -> std::io::Result<Bytes> {
        let mut packed = GzEncoder::new(Vec::new(), Compression::default());
        packed.write_all(&serde_json::to_vec(self)?)?;
        Ok(packed.finish()?.into())
    }
}

impl<B: DeserializeOwned> MimirIndex<B> {
    fn unpack(packed: &[u8]) -> Result<Self, IndexError> {
        let unread = |error: serde_json::Error| {
            let what = format!("index does not read: {error}");
            if error.is_data() { IndexError::UnknownForm(what) } else { IndexError::Damaged(what) }
        };
        let mut json = Vec::new();
        let read = GzDecoder::new(packed).take(INDEX_MAX + 1).read_to_end(&mut json);
        read.map_err(|e| IndexError::Damaged(format!("index does not unpack: {e}")))?;
        if json.len() as u64 > INDEX_MAX {
            return Err(IndexError::TooLarge);
        }
        // A later version may have another form.
        let Version { version } = serde_json::from_slice(&json).map_err(unread)?;
        if !(1..=VERSION).contains(&version) {
            return Err(IndexError::UnknownVersion(version));
        }
        serde_json::from_slice(&json).map_err(unread)
    }
}

#[derive(Deserialize)]
struct Version {
    version: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unpack(json: &str) -> Result<MimirIndex, IndexError> {
        let mut packed = GzEncoder::new(Vec::new(), Compression::default());
        packed.write_all(json.as_bytes()).expect("memory");
        MimirIndex::unpack(&packed.finish().expect("memory"))
    }

    fn with(fields: &str) -> String {
        let id = BlockId::from_parts(7, 9);
        format!(
            r#"{{"version":2,"blocks":[{{"block_id":"{id}","min_time":1,"max_time":2,"uploaded_at":3{fields}}}],"block_deletion_marks":[],"updated_at":9}}"#
        )
    }

    #[test]
    fn what_is_not_known_is_kept_unless_it_is_large() {
        let known = with(r#","none":null,"out_of_order":true,"size":7.5,"text":"a\"b""#);
        let index = unpack(&known).expect("sound");
        assert_eq!(serde_json::to_string(&index).expect("JSON"), known);
        let bare = unpack(&with("")).expect("sound");
        assert!(bare.blocks[0].other.is_empty());
        let many: String = (0..=OTHERS_MAX).map(|n| format!(r#","a{n}":1"#)).collect();
        for large in [r#","x":[0,0]"#.to_owned(), r#","x":{"y":1}"#.to_owned(), many] {
            assert!(matches!(unpack(&with(&large)), Err(IndexError::UnknownForm(_))), "{large}");
        }
        let missing = with("").replace("min_time", "mint");
        assert!(matches!(unpack(&missing), Err(IndexError::UnknownForm(what)) if what.contains("min_time")));
    }

    #[test]
    fn a_later_version_is_none_that_is_damaged() {
        for later in [r#"{"version":3}"#, r#"{"version":3,"blocks":{"a":[]},"updated_at":"now"}"#] {
            assert_eq!(unpack(later), Err(IndexError::UnknownVersion(3)));
        }
        assert!(matches!(unpack("{}"), Err(IndexError::UnknownForm(_))));
        assert!(matches!(unpack("{\"version\":2,"), Err(IndexError::Damaged(_))));
        let spaces = " ".repeat(INDEX_MAX as usize + 1);
        assert_eq!(unpack(&spaces), Err(IndexError::TooLarge));
    }
}
