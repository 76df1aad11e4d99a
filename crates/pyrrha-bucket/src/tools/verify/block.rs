//! One block: its objects, its meta, its index, and on request all that is in it.

use std::collections::BTreeSet;

use pyrrha_model::{ErrorKind, StoreError};
use pyrrha_storage::block::BlockMeta;
use pyrrha_storage::manifest::BlockEntry;
use pyrrha_storage::tsdb::verify_block;

use super::{Depth, Issue, IssueKind, VerifyOptions, VerifyReport, aside};
use crate::block_files::{self, BlockFile, META, files};
use crate::error::BucketError;
use crate::fetch;
use crate::gateway::check_header;
use crate::tools::BucketTools;
use crate::tools::survey::Survey;

/// Files that every block has.
const NEEDED: [&str; 2] = ["index", META];

impl BucketTools {
    /// Looks at one block.
    pub(super) fn verify_block(
        &self,
        survey: &Survey,
        entry: &BlockEntry,
        meta: Result<BlockMeta, String>,
        options: &VerifyOptions,
        report: &mut VerifyReport,
    ) -> Result<(), StoreError> {
        report.blocks += 1;
        report.issues.extend(aside(entry));
        let before = report.issues.len();
        let mut named = files(entry);
        let whole = lengths(survey, entry, &named, report);
        match meta {
            Ok(meta) => {
                let differences = differences(entry, &meta).into_iter();
                let issue = |what| Issue::error(IssueKind::Meta, what).of_block(entry.ulid).in_file(META);
                report.issues.extend(differences.map(issue));
            }
            // That it is missing is said.
            Err(_) if report.issues[before..].iter().any(|i| i.file.as_deref() == Some(META)) => {}
            Err(what) => {
                let issue = Issue::error(IssueKind::Meta, what);
                report.issues.push(issue.of_block(entry.ulid).in_file(META));
            }
        }
        let key = block_files::dir(&survey.tenant, entry);
        match options.depth {
            Depth::Objects => {
                let index = named.iter().find(|f| f.name == "index" && whole.contains(f.name.as_str()));
                if let Some(index) = index {
                    self.verify_index(&key, index, entry, report)?;
                }
            }
            Depth::Checksums => {
                for file in named.iter().filter(|f| whole.contains(f.name.as_str())) {
                    let (bucket, key, bytes) =
                        (self.tenants.bucket().clone(), format!("{key}/{}", file.name), file.bytes);
                    let read = self.runtime.wait(async move { fetch::checksum(&bucket, &key, bytes).await });
                    compare(entry, file, read, report)?;
                }
            }
            Depth::Deep => {
                // Of what has another length a part alone could be read, or more than there is.
                let complete = whole.len() == named.len();
                named.retain(|file| whole.contains(file.name.as_str()));
                self.verify_deep(&key, &named, complete, (entry, options), report)?;
            }
        }
        Ok(())
    }

    fn verify_index(
        &self,
        key: &str,
        index: &BlockFile,
        entry: &BlockEntry,
        report: &mut VerifyReport,
    ) -> Result<(), StoreError> {
        let (bucket, key, bytes) = (self.tenants.bucket().clone(), format!("{key}/index"), index.bytes);
        let checked = self.runtime.wait(async move { Ok(check_header(&bucket, &key, bytes).await) })?;
        match checked {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                let issue = Issue::error(IssueKind::Index, error.to_string());
                report.issues.push(issue.of_block(entry.ulid).in_file("index"));
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Brings these files of a block here, and reads all of it if it is `complete`.
    fn verify_deep(
        &self,
        key: &str,
        named: &[BlockFile],
        mut complete: bool,
        (entry, options): (&BlockEntry, &VerifyOptions),
        report: &mut VerifyReport,
    ) -> Result<(), StoreError> {
        // A name of our own above it: whatever else is in that directory is not to be removed.
        let dir = options.scratch_dir.join("pyrrha-verify").join(entry.ulid.to_string());
        let local = |source| StoreError::from(BucketError::Local { file: dir.display().to_string(), source });
        self.disk.remove_dir_all(&dir).map_err(local)?;
        for file in named {
            let (bucket, disk) = (self.tenants.bucket().clone(), self.disk.clone());
            let (key, path, bytes) = (format!("{key}/{}", file.name), dir.join(&file.name), file.bytes);
            let read =
                self.runtime.wait(async move { fetch::to_file(&bucket, &key, bytes, &*disk, &path).await });
            complete &= compare(entry, file, read, report)?;
        }
        if complete {
            let found = verify_block(&*self.disk, &dir);
            report.samples += found.samples;
            let issues = found.problems.into_iter().map(|problem| {
                let series = problem.series.map(|series| format!(" series={series}")).unwrap_or_default();
                let issue = Issue::error(IssueKind::Damage, format!("{}{series}", problem.what));
                Issue { offset: problem.offset, ..issue.of_block(entry.ulid).in_file(&problem.file) }
            });
            report.issues.extend(issues);
            if found.more_problems > 0 {
                let what = format!("and {} problems more", found.more_problems);
                report.issues.push(Issue::error(IssueKind::Damage, what).of_block(entry.ulid));
            }
        }
        self.disk.remove_dir_all(&dir).map_err(local)
    }
}

/// Whether the named files are there in their length. Gives those that are.
fn lengths(
    survey: &Survey,
    entry: &BlockEntry,
    named: &[BlockFile],
    report: &mut VerifyReport,
) -> BTreeSet<String> {
    let there = survey.files_of(entry.ulid);
    let mut whole = BTreeSet::new();
    for file in named {
        report.objects += 1;
        report.bytes = report.bytes.saturating_add(file.bytes);
        let issue = match there.get(file.name.as_str()) {
            _ if !fetch::is_plain(&file.name) => {
                Issue::error(IssueKind::Manifest, "name leads out of the block's directory")
            }
            None => Issue::error(IssueKind::Missing, "object is not there"),
            Some(object) if object.bytes != file.bytes => {
                let what = format!("expected bytes={} found={}", file.bytes, object.bytes);
                Issue::error(IssueKind::Length, what)
            }
            Some(_) => {
                whole.insert(file.name.clone());
                continue;
            }
        };
        report.issues.push(issue.of_block(entry.ulid).in_file(&file.name));
    }
    for name in NEEDED.iter().filter(|name| !named.iter().any(|f| f.name == **name)) {
        let issue = if there.contains_key(name) {
            Issue::warning(IssueKind::Manifest, "the manifest does not name it")
        } else {
            Issue::error(IssueKind::Missing, "object is not there, and the manifest does not name it")
        };
        report.issues.push(issue.of_block(entry.ulid).in_file(name));
    }
    whole
}

/// What was read against what is said of a file. False if it could not be read.
fn compare(
    entry: &BlockEntry,
    file: &BlockFile,
    read: Result<u32, BucketError>,
    report: &mut VerifyReport,
) -> Result<bool, StoreError> {
    let issue = match read {
        Ok(sum) => {
            report.read_bytes = report.read_bytes.saturating_add(file.bytes);
            match file.crc32c.filter(|expected| *expected != sum) {
                Some(expected) => {
                    let what = format!("expected crc32c={expected:08x} found={sum:08x}");
                    report.issues.push(
                        Issue::error(IssueKind::Checksum, what).of_block(entry.ulid).in_file(&file.name),
                    );
                    return Ok(true);
                }
                None => return Ok(true),
            }
        }
        Err(error @ (BucketError::NotFound { .. } | BucketError::Corrupt { .. })) => error,
        Err(error) => return Err(error.into()),
    };
    // That it is missing or short is said already.
    if !report.issues.iter().any(|i| i.block == Some(entry.ulid) && i.file.as_ref() == Some(&file.name)) {
        let issue = Issue::error(IssueKind::Missing, issue.to_string());
        report.issues.push(issue.of_block(entry.ulid).in_file(&file.name));
    }
    Ok(false)
}

/// Where `meta.json` says something else than the manifest.
fn differences(entry: &BlockEntry, meta: &BlockMeta) -> Vec<String> {
    let resolution = meta.thanos.as_ref().map_or(0, |t| t.downsample.resolution);
    let said = [
        ("minTime", meta.min_time, entry.min_time),
        ("maxTime", meta.max_time, entry.max_time),
        ("level", i64::from(meta.compaction.level), i64::from(entry.level)),
        ("resolution", resolution, entry.resolution),
    ];
    let mut found: Vec<String> = Vec::new();
    if meta.ulid != entry.ulid {
        found.push(format!("it is that of block={}", meta.ulid));
    }
    let other = said.iter().filter(|(_, meta, entry)| meta != entry);
    found.extend(other.map(|(name, meta, entry)| format!("{name}={meta}, the manifest has {entry}")));
    let sources = |ids: &[pyrrha_storage::block::BlockId]| ids.iter().copied().collect::<BTreeSet<_>>();
    if sources(&meta.compaction.sources) != sources(&entry.sources) {
        found.push("its sources are others than the manifest has".to_owned());
    }
    found
}
