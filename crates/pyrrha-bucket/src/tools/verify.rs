//! Whether what the manifest of a tenant names is there and sound, and what is there beside it.

mod block;

use std::path::PathBuf;
use std::sync::Arc;

use pyrrha_model::{ErrorKind, StoreError, TenantId};
use pyrrha_storage::block::BlockId;
use pyrrha_storage::manifest::BlockEntry;
use serde::Serialize;

use super::survey::{ObjectClass, Survey};
use super::{BlockSelector, BucketTools, Progress};
use crate::block_files::{external_labels, set_aside};
use crate::sources::{Holders, holders_first};

/// How much is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Depth {
    /// A listing, and of each block `meta.json` and the tables of its index.
    #[default]
    Objects,
    /// Every byte, for its checksum.
    Checksums,
    /// Every byte, and every series, postings list and chunk is decoded.
    Deep,
}

/// What is verified, and how.
#[derive(Debug, Clone, Default)]
pub struct VerifyOptions {
    /// The blocks.
    pub selector: BlockSelector,
    /// How much is read.
    pub depth: Depth,
    /// Where blocks are brought to be decoded, one at a time.
    pub scratch_dir: PathBuf,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Answers are wrong or incomplete, or will be.
    Error,
    /// Room is wasted, or work lies before the compactor.
    Warning,
}

/// What is not as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum IssueKind {
    /// The manifest does not read.
    Manifest,
    /// An object that the manifest names is not there.
    Missing,
    /// It has another length.
    Length,
    /// It has another checksum.
    Checksum,
    /// `meta.json` does not read, or says something else than the manifest.
    Meta,
    /// The index does not read.
    Index,
    /// A file does not decode.
    Damage,
    /// A block was set aside by a job that failed on it.
    SetAside,
    /// Another live block has all of its data.
    Duplicate,
    /// It shares times with another of the same labels and resolution.
    Overlap,
    /// Objects that nothing names.
    Orphan,
    /// Objects in a live block's directory that it does not name.
    Unreferenced,
}

/// One thing that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Issue {
    /// How bad it is.
    pub severity: Severity,
    /// What it is.
    pub kind: IssueKind,
    /// The block.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_text")]
    pub block: Option<BlockId>,
    /// The file within the block.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Where in the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// In words.
    pub what: String,
}

fn as_text<S: serde::Serializer>(block: &Option<BlockId>, out: S) -> Result<S::Ok, S::Error> {
    match block {
        Some(block) => out.serialize_str(&block.to_string()),
        None => out.serialize_none(),
    }
}

impl Issue {
    fn new(severity: Severity, kind: IssueKind, what: impl Into<String>) -> Self {
        Self { severity, kind, block: None, file: None, offset: None, what: what.into() }
    }

    fn error(kind: IssueKind, what: impl Into<String>) -> Self {
        Self::new(Severity::Error, kind, what)
    }

    fn warning(kind: IssueKind, what: impl Into<String>) -> Self {
        Self::new(Severity::Warning, kind, what)
    }

    fn of_block(self, block: BlockId) -> Self {
        Self { block: Some(block), ..self }
    }

    fn in_file(self, file: &str) -> Self {
        Self { file: Some(file.to_owned()), ..self }
    }
}

/// What was found of a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VerifyReport {
    /// The tenant.
    pub tenant: String,
    /// The manifest number.
    pub manifest: u64,
    /// Blocks that were looked at.
    pub blocks: u64,
    /// Objects of theirs that are named.
    pub objects: u64,
    /// Bytes of those.
    pub bytes: u64,
    /// Bytes of which the checksum was computed.
    pub read_bytes: u64,
    /// Samples that were decoded.
    pub samples: u64,
    /// What is wrong.
    pub issues: Vec<Issue>,
}

impl VerifyReport {
    fn of(tenant: &TenantId) -> Self {
        Self {
            tenant: tenant.to_string(),
            manifest: 0,
            blocks: 0,
            objects: 0,
            bytes: 0,
            read_bytes: 0,
            samples: 0,
            issues: Vec::new(),
        }
    }

    /// Whether there is no error; warnings may be.
    pub fn is_sound(&self) -> bool {
        self.issues.iter().all(|issue| issue.severity != Severity::Error)
    }
}

impl BucketTools {
    /// Looks at a tenant. An error only if the bucket cannot be read; what is wrong is in the report.
    pub fn verify(
        &self,
        tenant: &TenantId,
        options: &VerifyOptions,
        progress: Progress<'_>,
    ) -> Result<VerifyReport, StoreError> {
        let mut report = VerifyReport::of(tenant);
        let survey = match self.survey(tenant) {
            Ok(survey) => survey,
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                report.issues.push(Issue::error(IssueKind::Manifest, error.to_string()));
                return Ok(report);
            }
            Err(error) => return Err(error),
        };
        report.manifest = survey.state.number;
        let chosen: Vec<Arc<BlockEntry>> =
            survey.state.blocks.values().filter(|b| options.selector.selects(b)).cloned().collect();
        let total: u64 = chosen.iter().map(|b| b.bytes).fold(0, u64::saturating_add);
        let metas = self.metas(tenant, &chosen)?;
        for (entry, meta) in chosen.iter().zip(metas) {
            progress("verify", report.bytes, total);
            self.verify_block(&survey, entry, meta, options, &mut report)?;
        }
        between(&chosen, &mut report.issues);
        if options.selector.is_everything() {
            beside(&survey, &mut report.issues);
        }
        report.issues.sort_by_key(|issue| (issue.severity, issue.kind, issue.block));
        Ok(report)
    }
}

/// What blocks are to each other.
fn between(blocks: &[Arc<BlockEntry>], issues: &mut Vec<Issue>) {
    let of = |b: &BlockEntry| (b.resolution, external_labels(b));
    let mut sorted: Vec<_> = blocks.iter().map(|b| (of(b), b.min_time, b.clone())).collect();
    sorted.sort_by(|a, b| (&a.0, a.1, a.2.ulid).cmp(&(&b.0, b.1, b.2.ulid)));
    for group in sorted.chunk_by(|a, b| a.0 == b.0) {
        // The block so far that ends last: whoever begins before that overlaps it.
        let mut last: Option<&Arc<BlockEntry>> = None;
        for (_, _, block) in group {
            if let Some(before) = last.filter(|before| before.max_time > block.min_time) {
                let what = format!("overlaps block={}", before.ulid);
                issues.push(Issue::warning(IssueKind::Overlap, what).of_block(block.ulid));
            }
            last = Some(last.filter(|before| before.max_time >= block.max_time).unwrap_or(block));
        }
        duplicates(group.iter().map(|(_, _, block)| block), issues);
    }
}

/// Blocks whose sources another has all of.
fn duplicates<'a>(group: impl Iterator<Item = &'a Arc<BlockEntry>>, issues: &mut Vec<Issue>) {
    let mut all: Vec<&Arc<BlockEntry>> = group.collect();
    all.sort_by_key(|block| holders_first(block));
    let mut holders = Holders::default();
    for (i, block) in all.iter().enumerate() {
        if let Some(&by) = holders.of(&(), block).first() {
            let what = format!("block={} has all of its data", all[by].ulid);
            issues.push(Issue::warning(IssueKind::Duplicate, what).of_block(block.ulid));
        }
        holders.add(&(), block, i);
    }
}

/// What is there beside live blocks.
fn beside(survey: &Survey, issues: &mut Vec<Issue>) {
    for block in survey.blocks_of(ObjectClass::Orphaned) {
        let objects = survey.files_of(block);
        let count = objects.len();
        let bytes = objects.values().map(|o| o.bytes).fold(0, u64::saturating_add);
        let what = format!("neither manifest nor jobs name it: objects={count} bytes={bytes}");
        issues.push(Issue::warning(IssueKind::Orphan, what).of_block(block));
    }
    for object in survey.objects.iter().filter(|o| o.class == ObjectClass::Unreferenced) {
        let Some(block) = object.block else { continue };
        let file = object.name.split_once('/').map_or("", |(_, file)| file);
        let what = format!("the manifest does not name it: bytes={}", object.bytes);
        issues.push(Issue::warning(IssueKind::Unreferenced, what).of_block(block).in_file(file));
    }
}

/// A block that jobs set aside.
fn aside(entry: &BlockEntry) -> Option<Issue> {
    let why = set_aside(entry)?;
    Some(Issue::warning(IssueKind::SetAside, format!("set aside: {why}")).of_block(entry.ulid))
}
