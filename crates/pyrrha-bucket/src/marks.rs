//! Marks: what people, or other tools, say is to be done with a block, or not to be done.
//!
//! The marks in a block's manifest entry count. Files beside the block say the same to other tools, and are
//! how those tools mark: a file that a job finds is taken into the manifest. See `docs/format/manifest.md`.
//!
//! ```json
//! "marks": {"no-compact": {"at": 1700000000000, "reason": "manual", "details": "..."}}
//! ```

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::stream::{StreamExt, TryStreamExt};
use pyrrha_model::{ErrorKind, StoreError, TenantId, Timestamp};
use pyrrha_storage::block::BlockId;
use pyrrha_storage::manifest::{BlockEntry, Change, Manifest, ManifestError};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::block_files::dir;
use crate::door::Bucket;
use crate::error::BucketError;
use crate::mimir_index;

/// Key of the marks in an entry.
const MARKS: &str = "marks";
/// Largest mark that is read.
pub(crate) const MARK_MAX: u64 = 1 << 20;
/// Requests for small objects under way at once.
const REQUESTS_AT_ONCE: usize = 16;
/// Others may change an entry at the same time so often before a change of it gives up.
const ATTEMPTS: usize = 16;
/// Ends the name of a mark's file.
pub(crate) const SUFFIX: &str = "-mark.json";
/// Where Mimir lists copies of marks, below a tenant's directory.
const GLOBAL: &str = "markers";

/// What a mark says of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MarkKind {
    /// It goes after a delay.
    Deletion,
    /// It is merged with no other.
    NoCompact,
    /// No windows are made of it.
    NoDownsample,
}

impl MarkKind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Deletion, Self::NoCompact, Self::NoDownsample];

    /// Its name in manifests, flags and names of files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Deletion => "deletion",
            Self::NoCompact => "no-compact",
            Self::NoDownsample => "no-downsample",
        }
    }

    /// The name of its file in a block's directory, as Thanos and Mimir have it.
    pub(crate) fn file(self) -> &'static str {
        match self {
            Self::Deletion => "deletion-mark.json",
            Self::NoCompact => "no-compact-mark.json",
            Self::NoDownsample => "no-downsample-mark.json",
        }
    }

    /// The field of the file with the time, s.
    fn time_field(self) -> &'static str {
        match self {
            Self::Deletion => "deletion_time",
            Self::NoCompact => "no_compact_time",
            Self::NoDownsample => "no_downsample_time",
        }
    }

    /// Whether Mimir keeps a copy where it finds it without looking at each block.
    fn is_global(self) -> bool {
        self != Self::NoDownsample
    }
}

/// A mark.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// When it was made, by the clock of whoever made it, ms.
    pub at: Timestamp,
    /// A word for why, as other tools choose from; not of deletions.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub details: String,
}

impl Mark {
    /// One that somebody makes by hand.
    pub fn by_hand(at: Timestamp, details: impl Into<String>) -> Self {
        Self { at, reason: "manual".to_owned(), details: details.into() }
    }

    /// The file of a mark of a block.
    pub(crate) fn encode(&self, block: BlockId, kind: MarkKind) -> Bytes {
        let mut file = json!({ "id": block.to_string(), "version": 1 });
        file[kind.time_field()] = self.at.div_euclid(1000).into();
        if !self.details.is_empty() {
            file["details"] = self.details.as_str().into();
        }
        if kind != MarkKind::Deletion {
            let reason = if self.reason.is_empty() { "manual" } else { &self.reason };
            file["reason"] = reason.into();
        }
        Bytes::from(file.to_string())
    }

    /// What a file says; the error says why it does not read.
    pub(crate) fn decode(kind: MarkKind, file: &[u8]) -> Result<Self, String> {
        let json: Value = serde_json::from_slice(file).map_err(|e| format!("mark does not read: {e}"))?;
        let at = json.get(kind.time_field()).and_then(Value::as_i64);
        let at = at.ok_or_else(|| format!("mark has no {}", kind.time_field()))?.saturating_mul(1000);
        let text = |field: &str| json.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        Ok(Self { at, reason: text("reason"), details: text("details") })
    }
}

/// The marks of a live block.
pub fn marks(entry: &BlockEntry) -> BTreeMap<MarkKind, Mark> {
    let Some(Value::Object(map)) = entry.other.get(MARKS) else { return BTreeMap::new() };
    MarkKind::ALL.into_iter().filter_map(|kind| Some((kind, read(map, kind)?))).collect()
}

/// One mark of a live block.
pub(crate) fn mark_of(entry: &BlockEntry, kind: MarkKind) -> Option<Mark> {
    entry.other.get(MARKS)?.as_object().and_then(|map| read(map, kind))
}

/// One that does not read is one nonetheless.
fn read(map: &Map<String, Value>, kind: MarkKind) -> Option<Mark> {
    Some(serde_json::from_value(map.get(kind.name())?.clone()).unwrap_or_default())
}

/// Whether a live block has a mark.
pub(crate) fn is_marked(entry: &BlockEntry, kind: MarkKind) -> bool {
    entry.other.get(MARKS).is_some_and(|marks| marks.get(kind.name()).is_some())
}

/// The entry with a mark, or without.
pub(crate) fn with_mark(entry: &BlockEntry, kind: MarkKind, mark: Option<&Mark>) -> BlockEntry {
    let mut entry = entry.clone();
    let marks = entry.other.entry(MARKS).or_insert_with(|| Map::new().into());
    if !marks.is_object() {
        *marks = Map::new().into();
    }
    if let Value::Object(marks) = marks {
        // Only a map with keys that are not strings can fail.
        match mark.and_then(|mark| serde_json::to_value(mark).ok()) {
            Some(value) => marks.insert(kind.name().to_owned(), value),
            None => marks.remove(kind.name()),
        };
        if marks.is_empty() {
            entry.other.remove(MARKS);
        }
    }
    entry
}

/// Gives what is made of `inputs`, and takes their place, the marks that all of them have.
pub(crate) fn carry_over(inputs: &[std::sync::Arc<BlockEntry>], entry: &mut BlockEntry) {
    for kind in MarkKind::ALL {
        if let Some(mark) = inputs.first().and_then(|input| mark_of(input, kind))
            && inputs.iter().all(|input| is_marked(input, kind))
        {
            *entry = with_mark(entry, kind, Some(&mark));
        }
    }
}

/// Changes entries of live blocks in one commit, and gives those that it changed; `change` gives `None` for
/// what is to stay as it is. Nothing that others change at the same time is lost. Blocks that are not live
/// are passed over.
pub(crate) fn change_entries(
    manifest: &Manifest,
    blocks: &[BlockId],
    change: impl Fn(&BlockEntry) -> Option<BlockEntry>,
) -> Result<Vec<BlockEntry>, StoreError> {
    for _ in 0..ATTEMPTS {
        let live = manifest.current();
        let found = blocks.iter().filter_map(|block| live.blocks.get(block));
        let changed = found.filter_map(|before| Some((before.clone(), change(before)?)));
        let (before, added): (Vec<_>, Vec<_>) = changed.unzip();
        if added.is_empty() {
            return Ok(added);
        }
        let removed = added.iter().map(|entry| entry.ulid).collect();
        let commit = Change { added: added.clone(), removed, expects: before, ..Change::default() };
        match manifest.commit_change(&commit) {
            Ok(_) => return Ok(added),
            // Gone, or changed: what was read is not the newest.
            Err(ManifestError::InputGone { .. } | ManifestError::Changed { .. }) => manifest.refresh()?,
            Err(error) => return Err(error.into()),
        };
    }
    Err(StoreError::new(ErrorKind::Unavailable, "entries of blocks are changed by others all the time"))
}

/// Where Mimir looks for a copy of a mark.
pub(crate) fn global_key(tenant: &TenantId, block: BlockId, kind: MarkKind) -> String {
    format!("{tenant}/{GLOBAL}/{block}-{}", kind.file())
}

/// The files of a tenant's marks.
#[derive(Debug, Clone)]
pub(crate) struct MarkFiles {
    bucket: Bucket,
    tenant: TenantId,
}

impl MarkFiles {
    pub(crate) fn new(bucket: Bucket, tenant: &TenantId) -> Self {
        Self { bucket, tenant: tenant.clone() }
    }

    fn key(&self, entry: &BlockEntry, kind: MarkKind) -> String {
        format!("{}/{}", dir(&self.tenant, entry), kind.file())
    }

    fn global_key(&self, block: BlockId, kind: MarkKind) -> String {
        global_key(&self.tenant, block, kind)
    }

    /// Whether Mimir reads this tenant's directory.
    async fn is_mimir(&self) -> Result<bool, BucketError> {
        Ok(self.bucket.head(&mimir_index::key(&self.tenant)).await?.is_some()
            || !self.bucket.list(&format!("{}/{GLOBAL}", self.tenant)).await?.is_empty())
    }

    /// Writes the files of all marks of blocks; for Mimir too, if it reads the directory.
    pub(crate) async fn write(&self, entries: &[BlockEntry]) -> Result<(), BucketError> {
        let all = entries.iter().flat_map(|e| marks(e).into_iter().map(move |(k, mark)| (e, k, mark)));
        let all: Vec<(&BlockEntry, MarkKind, Mark)> = all.collect();
        if all.is_empty() {
            return Ok(());
        }
        let mimir = self.is_mimir().await?;
        for (entry, kind, mark) in all {
            let file = mark.encode(entry.ulid, kind);
            self.bucket.put(&self.key(entry, kind), file.clone()).await?;
            if mimir && kind.is_global() {
                self.bucket.put(&self.global_key(entry.ulid, kind), file).await?;
            }
        }
        Ok(())
    }

    /// Removes the files of a mark of blocks, whoever wrote them. Gives the blocks that had one.
    pub(crate) async fn remove(
        &self,
        blocks: &[std::sync::Arc<BlockEntry>],
        kind: MarkKind,
    ) -> Result<Vec<BlockId>, BucketError> {
        let mut had = Vec::new();
        for entry in blocks {
            let block = entry.ulid;
            let mut keys = vec![self.key(entry, kind)];
            keys.extend(kind.is_global().then(|| self.global_key(block, kind)));
            for key in keys {
                if self.bucket.head(&key).await?.is_some() {
                    self.bucket.delete(&key).await?;
                    had.push(block);
                }
            }
        }
        had.dedup();
        Ok(had)
    }

    /// Marks that have files, of blocks whose entries do not have them.
    pub(crate) async fn found(
        &self,
        entries: &[std::sync::Arc<BlockEntry>],
    ) -> Result<Vec<(BlockId, MarkKind, Mark)>, BucketError> {
        let asked = entries.iter().flat_map(|entry| {
            let open = MarkKind::ALL.into_iter().filter(|kind| !is_marked(entry, *kind));
            open.map(|kind| (entry.clone(), kind)).collect::<Vec<_>>()
        });
        let looks = asked.map(|(entry, kind)| async move {
            let (block, key) = (entry.ulid, self.key(&entry, kind));
            let Some(object) = self.bucket.head(&key).await? else { return Ok(None) };
            let said = match self.bucket.get(&key, MARK_MAX).await {
                Ok(Some(file)) => Mark::decode(kind, &file),
                Ok(None) => return Ok(None),
                Err(error @ BucketError::TooLarge { .. }) => Err(error.to_string()),
                Err(error) => return Err(error),
            };
            // A mark that does not read was made when it was written.
            let unread = |details| Mark { at: object.modified_ms, reason: String::new(), details };
            Ok(Some((block, kind, said.unwrap_or_else(unread))))
        });
        let looks = looks.collect::<Vec<_>>();
        let found: Vec<_> =
            futures::stream::iter(looks).buffered(REQUESTS_AT_ONCE).try_collect::<Vec<_>>().await?;
        Ok(found.into_iter().flatten().collect())
    }

    /// Removes what lies outside of the directory of a block that goes.
    pub(crate) async fn forget(&self, block: BlockId) -> Result<(), BucketError> {
        for kind in MarkKind::ALL.into_iter().filter(|kind| kind.is_global()) {
            self.bucket.delete(&self.global_key(block, kind)).await?;
        }
        Ok(())
    }
}

/// Takes marks that were found as files into the manifest.
pub(crate) fn take_in(
    manifest: &Manifest,
    found: &[(BlockId, MarkKind, Mark)],
) -> Result<Vec<BlockEntry>, StoreError> {
    let blocks: Vec<BlockId> = found.iter().map(|(block, _, _)| *block).collect();
    change_entries(manifest, &blocks, |entry| {
        let mine = found.iter().filter(|(block, kind, _)| *block == entry.ulid && !is_marked(entry, *kind));
        let add = |entry: Option<BlockEntry>, before: &BlockEntry, kind: MarkKind, mark: &Mark| {
            Some(with_mark(entry.as_ref().unwrap_or(before), kind, Some(mark)))
        };
        mine.fold(None, |changed, (_, kind, mark)| add(changed, entry, *kind, mark))
    })
}

#[cfg(test)]
mod tests;
