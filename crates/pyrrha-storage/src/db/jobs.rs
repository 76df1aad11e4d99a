//! What a job is about to add and to remove, written down before it begins: a start after a crash
//! removes what the job left behind, and nothing that no job of ours has named (decisions 16, 17).
//!
//! ```text
//! <bucket>/<tenant>/jobs/<ULID>.json    {"version":1,"adds":["<ULID>"],"removes":["<ULID>"]}
//! ```
//!
//! The rule is the same for both lists: a named block that the manifest does not list is garbage.

use std::io;
use std::path::{Path, PathBuf};

use pyrrha_model::TenantId;
use serde::{Deserialize, Serialize};

use super::Shared;
use crate::block::{BlockId, Layout};
use crate::durable;
use crate::error::StorageError;
use crate::manifest::ManifestState;

const DIR: &str = "jobs";
const SUFFIX: &str = ".json";
const VERSION: u32 = 1;

/// A file of the directory of jobs.
#[derive(Debug, Serialize, Deserialize)]
struct Plan {
    version: u32,
    #[serde(default)]
    adds: Vec<BlockId>,
    #[serde(default)]
    removes: Vec<BlockId>,
}

/// A job that has begun. It ends by [`Shared::end_job`]; if the process dies before that, or it is
/// dropped, the next start ends it.
#[derive(Debug)]
pub(crate) struct Job {
    path: PathBuf,
    plan: Plan,
}

impl Shared {
    /// Writes down what a job will do. Nothing of it may be done before this returns.
    pub(crate) fn begin_job(
        &self,
        tenant: &TenantId,
        adds: &[BlockId],
        removes: &[BlockId],
    ) -> Result<Job, StorageError> {
        let dir = self.bucket_dir(tenant).join(DIR);
        let path = dir.join(format!("{}{SUFFIX}", BlockId::new(&*self.clock)));
        let plan = Plan { version: VERSION, adds: adds.to_vec(), removes: removes.to_vec() };
        // Only a map with keys that are not strings, or a failing writer, can fail.
        let json = serde_json::to_vec(&plan).expect("a struct with string keys serialises into memory");
        let written = durable::create_dir(&*self.disk, &dir)
            .and_then(|()| durable::write_new(&*self.disk, &path, &json))
            .and_then(|()| self.disk.sync_dir(&dir));
        if let Err(error) = written {
            // Nothing was begun: what is left of the file says nothing of interest.
            let _ = self.disk.remove_file(&path);
            return Err(StorageError::io("write job", &path)(error));
        }
        Ok(Job { path, plan })
    }

    /// Ends a job whose commit is known to have happened, or not to have been tried: removes the
    /// blocks it names that `live` does not list. What fails is left to the next start.
    pub(crate) fn end_job(&self, tenant: &TenantId, job: &Job, live: &ManifestState) {
        if let Err(error) = self.clean_up(tenant, &job.path, &job.plan, live) {
            tracing::warn!(%tenant, job = %job.path.display(), %error, "job could not be tidied up, the next start does it");
        }
    }

    /// Ends the jobs that an earlier run left behind. `live` is durable, and none of them runs.
    pub(crate) fn sweep_jobs(&self, tenant: &TenantId, live: &ManifestState) -> io::Result<()> {
        let dir = self.bucket_dir(tenant).join(DIR);
        if !self.disk.exists(&dir) {
            return Ok(());
        }
        for entry in self.disk.list(&dir)?.iter().filter(|e| !e.is_dir && is_job(&e.name)) {
            let path = dir.join(&entry.name);
            match serde_json::from_slice::<Plan>(&self.disk.read(&path)?) {
                Ok(plan) if plan.version == VERSION => self.clean_up(tenant, &path, &plan, live)?,
                Ok(plan) => {
                    tracing::warn!(job = %path.display(), version = plan.version, "job of an unknown version is left alone")
                }
                // The crash came before the job was durable, and so before it did anything.
                Err(_) => self.disk.remove_file(&path)?,
            }
        }
        Ok(())
    }

    fn clean_up(&self, tenant: &TenantId, path: &Path, plan: &Plan, live: &ManifestState) -> io::Result<()> {
        let bucket = self.bucket_dir(tenant);
        let mut removed = 0u64;
        for home in Layout::ALL.map(|layout| layout.home(&bucket)) {
            let before = removed;
            for id in plan.adds.iter().chain(&plan.removes).filter(|id| !live.blocks.contains_key(id)) {
                let dir = home.join(id.to_string());
                if self.disk.exists(&dir) {
                    self.disk.remove_dir_all(&dir)?;
                    removed += 1;
                }
            }
            if removed > before {
                // The job must not be forgotten before what it names is gone for good.
                self.disk.sync_dir(&home)?;
            }
        }
        if removed > 0 {
            let unused = plan.adds.iter().filter(|id| !live.blocks.contains_key(id)).count();
            if unused > 0 {
                self.metrics.orphans_removed.add(unused as u64);
                tracing::info!(%tenant, job = %path.display(), blocks = unused, "blocks of an unfinished job removed");
            }
        }
        self.disk.remove_file(path)
    }
}

fn is_job(name: &str) -> bool {
    name.strip_suffix(SUFFIX).is_some_and(|id| id.parse::<BlockId>().is_ok())
}

#[cfg(test)]
mod tests;
