//! Every object of a tenant, and what it is there for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pyrrha_model::{StoreError, TenantId};
use pyrrha_storage::block::BlockId;
use pyrrha_storage::manifest::ManifestState;
use serde::Serialize;

use super::BucketTools;
use super::named::Named;
use crate::block_files::{META, files, root};
use crate::door::ObjectInfo;
use crate::marks::SUFFIX;

/// What an object is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ObjectClass {
    /// A file of a live block.
    Live,
    /// In the directory of a live block, which does not name it.
    Unreferenced,
    /// Of a block that a job under way is making.
    Working,
    /// Of a block that a job replaced or gave up: it goes after a delay.
    Leaving,
    /// Of a block that neither manifest nor jobs name: an upload that goes on or was given up, or
    /// somebody else's.
    Orphaned,
    /// Manifests.
    Manifest,
    /// Jobs.
    Jobs,
    /// Something else.
    Other,
}

/// What kind of file of a block an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FileKind {
    /// Segments of chunks.
    Chunks,
    /// The index.
    Index,
    /// First and last samples, sums and extremes of windows.
    Windows,
    /// `meta.json`.
    Meta,
    /// Marks that other tools read.
    Mark,
    /// Other files of a block: exemplars, metadata, deletes, tombstones.
    Sidecar,
    /// No file of a block.
    None,
}

impl FileKind {
    fn of(name: &str) -> Self {
        match name {
            "index" => Self::Index,
            META => Self::Meta,
            "windows" | "windows-values" => Self::Windows,
            _ if name.starts_with("chunks/") => Self::Chunks,
            _ if name.ends_with(SUFFIX) => Self::Mark,
            _ => Self::Sidecar,
        }
    }
}

/// An object of a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SurveyedObject {
    /// What it is there for.
    pub class: ObjectClass,
    /// What kind of file it is.
    pub kind: FileKind,
    /// The block in whose directory it is.
    pub block: Option<BlockId>,
    /// Its key, below the tenant's directory.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// When it was written, by the store's clock, ms.
    pub modified_ms: i64,
}

/// All objects of a tenant.
#[derive(Debug, Clone)]
pub struct Survey {
    /// The tenant.
    pub tenant: TenantId,
    /// The manifest that was read before the objects were listed.
    pub state: Arc<ManifestState>,
    /// The objects, by key.
    pub objects: Vec<SurveyedObject>,
}

impl Survey {
    /// What lies in the directory of a block, by name.
    pub(crate) fn files_of(&self, block: BlockId) -> BTreeMap<&str, &SurveyedObject> {
        let prefix = format!("{block}/");
        let start = self.objects.partition_point(|o| o.name.as_str() < prefix.as_str());
        let mine = self.objects[start..].iter().take_while(|o| o.name.starts_with(&prefix));
        mine.map(|o| (&o.name[prefix.len()..], o)).collect()
    }

    /// Blocks that have objects of a class.
    pub fn blocks_of(&self, class: ObjectClass) -> BTreeSet<BlockId> {
        self.objects.iter().filter(|o| o.class == class).filter_map(|o| o.block).collect()
    }
}

impl BucketTools {
    /// Lists all objects of a tenant and says what each is there for. One listing, and one request per
    /// job that is remembered.
    pub fn survey(&self, tenant: &TenantId) -> Result<Survey, StoreError> {
        // In this order: what is committed meanwhile is not taken for an orphan of a job.
        let named = self.named_by_jobs(tenant)?;
        let (bucket, dir) = (self.tenants.bucket().clone(), tenant.as_str().to_owned());
        let mut listed = self.runtime.wait(async move { bucket.list(&dir).await })?;
        let state = self.state(tenant)?;
        let prefix = format!("{tenant}/");
        listed.extend(self.list_elsewhere(&state, &named, &prefix)?);
        listed.sort_by(|a, b| a.key.cmp(&b.key));
        let mut known: BTreeMap<BlockId, BTreeSet<String>> = BTreeMap::new();
        for entry in state.blocks.values() {
            known.insert(entry.ulid, files(entry).into_iter().map(|file| file.name).collect());
        }
        let place = |object: ObjectInfo| {
            let name = object.key.strip_prefix(&prefix)?.to_owned();
            let (class, kind, block) = place_of(&name, &known, &named);
            Some(SurveyedObject {
                class,
                kind,
                block,
                name,
                bytes: object.bytes,
                modified_ms: object.modified_ms,
            })
        };
        let objects = listed.into_iter().filter_map(place).collect();
        Ok(Survey { tenant: tenant.clone(), state, objects })
    }

    /// Objects of live blocks that lie elsewhere, and of those that jobs name there, as if they were the
    /// tenant's. What else is there is none of its business.
    fn list_elsewhere(
        &self,
        state: &ManifestState,
        named: &Named,
        prefix: &str,
    ) -> Result<Vec<ObjectInfo>, StoreError> {
        let roots: BTreeSet<&str> = state.blocks.values().filter_map(|entry| root(entry)).collect();
        let mut found = Vec::new();
        for above in roots {
            let (bucket, dir) = (self.tenants.bucket().clone(), above.to_owned());
            for object in self.runtime.wait(async move { bucket.list(&dir).await })? {
                let path = if above.is_empty() {
                    Some(object.key.as_str())
                } else {
                    object.key.strip_prefix(above).and_then(|k| k.strip_prefix('/'))
                };
                let block =
                    path.and_then(|p| p.split_once('/')).and_then(|(id, _)| id.parse::<BlockId>().ok());
                let (Some(path), Some(block)) = (path, block) else { continue };
                let lies_here = match state.blocks.get(&block) {
                    Some(entry) => root(entry) == Some(above),
                    None => named.working.contains(&block) || named.leaving.contains(&block),
                };
                if lies_here {
                    found.push(ObjectInfo { key: format!("{prefix}{path}"), ..object });
                }
            }
        }
        Ok(found)
    }
}

fn place_of(
    name: &str,
    known: &BTreeMap<BlockId, BTreeSet<String>>,
    named: &Named,
) -> (ObjectClass, FileKind, Option<BlockId>) {
    let (directory, file) = name.split_once('/').unwrap_or(("", name));
    let Ok(block) = directory.parse::<BlockId>() else {
        let class = match directory {
            "manifest" => ObjectClass::Manifest,
            "jobs" => ObjectClass::Jobs,
            _ => ObjectClass::Other,
        };
        return (class, FileKind::None, None);
    };
    let kind = FileKind::of(file);
    let class = match known.get(&block) {
        // An entry of an earlier version may name none.
        Some(files) if files.is_empty() || files.contains(file) || kind == FileKind::Mark => {
            ObjectClass::Live
        }
        Some(_) => ObjectClass::Unreferenced,
        None if named.working.contains(&block) => ObjectClass::Working,
        None if named.leaving.contains(&block) => ObjectClass::Leaving,
        None => ObjectClass::Orphaned,
    };
    (class, kind, Some(block))
}
