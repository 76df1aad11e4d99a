//! The files of a block in its manifest entry: a reader needs no LIST and no HEAD.
//!
//! ```json
//! "files": [{"name": "index", "bytes": 1234, "crc32c": 987}, {"name": "chunks/000001", ...}]
//! ```

use std::collections::BTreeMap;

use pyrrha_model::TenantId;
use pyrrha_model::contract::DeleteId;
use pyrrha_storage::block::{Block, BlockId, BlockMeta, ENCODINGS_FIELD};
use pyrrha_storage::manifest::BlockEntry;
use serde::{Deserialize, Serialize};

use crate::downsample::Origin;

/// The file of a block that says what it is: whoever has it takes the block for whole.
pub(crate) const META: &str = "meta.json";

/// Key of the list in an entry.
pub(crate) const FILES: &str = "files";
/// Key of the external labels in an entry.
const LABELS: &str = "labels";
/// Key of the newest delete that a block knows.
const DELETES_THROUGH: &str = "deletesThrough";
/// Key that says that a block lists what deletes hide of it.
const DELETES_LISTED: &str = "deletesListed";
/// Key of the reason for which a block takes no part in compaction.
const SET_ASIDE: &str = "setAside";

/// Key of the directory above a block's own, where that is not its tenant's.
const ROOT: &str = "root";
/// Key that says that somebody else made a block, and that it was listed where it was.
const ADOPTED: &str = "adopted";

/// A file of a block in the bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BlockFile {
    /// Path within the block.
    pub(crate) name: String,
    /// Length.
    pub(crate) bytes: u64,
    /// CRC-32C of the content, if whoever uploaded it was us.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) crc32c: Option<u32>,
}

/// The entry of a block with these files.
pub(crate) fn entry(meta: &BlockMeta, files: Vec<BlockFile>) -> BlockEntry {
    let bytes = files.iter().map(|f| f.bytes).fold(0, u64::saturating_add);
    let mut entry = with_files(&BlockEntry::of(meta, bytes), &files);
    if let Some(labels) = meta.thanos.as_ref().and_then(|thanos| thanos.labels.as_ref()) {
        entry = with_labels(entry, labels);
    }
    Origin::copy(meta, &mut entry.other);
    if let Some(encodings) = meta.other.get(ENCODINGS_FIELD) {
        entry.other.insert(ENCODINGS_FIELD.to_owned(), encodings.clone());
    }
    entry
}

/// Whether chunks of a live block hold start timestamps, which Thanos does not read.
pub(crate) fn has_starts(entry: &BlockEntry) -> bool {
    entry.other.contains_key(ENCODINGS_FIELD)
}

/// The entry of a block on a disk, uploaded as these files.
pub(crate) fn entry_of(block: &Block, files: Vec<BlockFile>) -> BlockEntry {
    let deletes = block.deletes();
    let mut entry = with_deletes_through(&entry(block.meta(), files), deletes.through);
    if !deletes.hidden.is_empty() {
        entry.other.insert(DELETES_LISTED.to_owned(), true.into());
    }
    entry
}

/// The entry, of a block of which deletes up to `through` hide nothing but what it lists.
pub(crate) fn with_deletes_through(entry: &BlockEntry, through: DeleteId) -> BlockEntry {
    let mut entry = entry.clone();
    if through != DeleteId::default() {
        entry.other.insert(DELETES_THROUGH.to_owned(), through.to_string().into());
    }
    entry
}

/// Up to which delete the entry's block was made in knowledge of them.
pub(crate) fn deletes_through(entry: &BlockEntry) -> DeleteId {
    let text = entry.other.get(DELETES_THROUGH).and_then(serde_json::Value::as_str);
    text.and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// Whether the block has a file that may list what deletes hide of it.
pub(crate) fn lists_deletes(entry: &BlockEntry) -> bool {
    entry.other.contains_key(DELETES_LISTED)
        || (!entry.other.contains_key(DELETES_THROUGH) && files(entry).iter().any(|f| f.name == "deletes"))
}

/// The external labels of a block; none if it has none, or what the entry says does not read.
pub(crate) fn external_labels(entry: &BlockEntry) -> BTreeMap<String, String> {
    let labels = entry.other.get(LABELS).cloned();
    labels.and_then(|labels| serde_json::from_value(labels).ok()).unwrap_or_default()
}

/// One external label of a block.
pub(crate) fn external_label<'e>(entry: &'e BlockEntry, name: &str) -> Option<&'e str> {
    entry.other.get(LABELS)?.as_object()?.get(name)?.as_str()
}

/// The directory of a block in the bucket: `<tenant>/<ULID>`, unless its entry says that it lies elsewhere.
pub(crate) fn dir(tenant: &TenantId, entry: &BlockEntry) -> String {
    dir_under(tenant, root(entry), entry.ulid)
}

/// The directory of a block under a root; of its tenant's if there is none.
pub(crate) fn dir_under(tenant: &TenantId, root: Option<&str>, block: BlockId) -> String {
    match root.filter(|root| is_root(root)) {
        None => format!("{tenant}/{block}"),
        Some("") => block.to_string(),
        Some(root) => format!("{root}/{block}"),
    }
}

/// The directory above that of a block, if it is not its tenant's; empty for the root of the bucket.
pub(crate) fn root(entry: &BlockEntry) -> Option<&str> {
    entry.other.get(ROOT).and_then(serde_json::Value::as_str).filter(|root| is_root(root))
}

/// Whether something may be a directory above blocks. What a manifest says must not lead out of the bucket.
fn is_root(root: &str) -> bool {
    let plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(['\\', '\0']);
    root.is_empty() || root.split('/').all(plain)
}

/// The entry, of a block that lies under a root.
pub(crate) fn with_root(mut entry: BlockEntry, root: Option<&str>) -> BlockEntry {
    match root {
        Some(root) => entry.other.insert(ROOT.to_owned(), root.into()),
        None => entry.other.remove(ROOT),
    };
    entry
}

/// Whether somebody else made a block, and it was listed where it was.
pub(crate) fn is_adopted(entry: &BlockEntry) -> bool {
    entry.other.get(ADOPTED).and_then(serde_json::Value::as_bool) == Some(true)
}

/// The entry of somebody else's block that is listed where it is, with the external labels that its series
/// get.
pub(crate) fn adopted(
    entry: &BlockEntry,
    root: Option<&str>,
    labels: &BTreeMap<String, String>,
) -> BlockEntry {
    let mut entry = with_root(entry.clone().imported(), root);
    entry.other.insert(ADOPTED.to_owned(), true.into());
    with_labels(entry, labels)
}

/// The entry, of a block whose series get these external labels.
pub(crate) fn with_labels(mut entry: BlockEntry, labels: &BTreeMap<String, String>) -> BlockEntry {
    entry.other.remove(LABELS);
    // Only a map with keys that are not strings can fail.
    if !labels.is_empty()
        && let Ok(labels) = serde_json::to_value(labels)
    {
        entry.other.insert(LABELS.to_owned(), labels);
    }
    entry
}

/// Why an entry's block takes no part in compaction, if it does not.
pub(crate) fn set_aside(entry: &BlockEntry) -> Option<&str> {
    entry.other.get(SET_ASIDE).and_then(serde_json::Value::as_str)
}

/// The entry, of a block that takes no part in compaction any more.
pub(crate) fn with_set_aside(entry: &BlockEntry, why: &str) -> BlockEntry {
    let mut entry = entry.clone();
    entry.other.insert(SET_ASIDE.to_owned(), why.into());
    entry
}

/// The entry, of a block that takes part again.
pub(crate) fn without_set_aside(entry: &BlockEntry) -> BlockEntry {
    let mut entry = entry.clone();
    entry.other.remove(SET_ASIDE);
    entry
}

/// The entry, of a block with these files.
pub(crate) fn with_files(entry: &BlockEntry, files: &[BlockFile]) -> BlockEntry {
    let mut entry = entry.clone();
    // Only a map with keys that are not strings can fail.
    if let Ok(list) = serde_json::to_value(files) {
        entry.other.insert(FILES.to_owned(), list);
    }
    entry
}

/// The files that an entry names; none if it names none, or what it says does not read.
pub(crate) fn files(entry: &BlockEntry) -> Vec<BlockFile> {
    let list = entry.other.get(FILES).cloned();
    list.and_then(|list| serde_json::from_value(list).ok()).unwrap_or_default()
}
