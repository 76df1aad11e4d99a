//! What commands over data directories have in common: which directory, which series, which times.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use pyrrha_env::{OsDisk, SystemClock};
use pyrrha_model::contract::{QueryContext, Queryable};
use pyrrha_model::{Matcher, TenantId, TimeRange, Timestamp, rfc3339};
use pyrrha_storage::backfill::{Backfill, BackfillConfig};
use pyrrha_storage::block::Block;
use pyrrha_storage::prometheus::load_head;
use pyrrha_storage::tsdb::{Directory, DirectoryKind, FoundBlock, Standing};
use pyrrha_storage::{Db, StorageConfig, StorageError};

use super::output::{CommandError, warn};

/// Hint of blocks that overlap others by design.
pub(super) const LATE: &str = "from-out-of-order";

/// A data directory.
#[derive(Debug, Args)]
pub(super) struct DirectoryArgs {
    /// A data directory of Prometheus or Pyrrha, or a single block.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Tenant, in a data directory of Pyrrha.
    #[arg(long, default_value = "anonymous")]
    tenant: String,
}

impl DirectoryArgs {
    /// The directory `dir`, seen by `tenant`.
    pub(super) fn new(dir: PathBuf, tenant: String) -> Self {
        Self { dir, tenant }
    }

    /// Finds out what the directory is.
    pub(super) fn find(&self) -> Result<Directory, CommandError> {
        Ok(Directory::find(Arc::new(OsDisk), &self.dir, &self.tenant()?)?)
    }

    pub(super) fn tenant(&self) -> Result<TenantId, CommandError> {
        TenantId::new(&self.tenant).map_err(CommandError::new)
    }
}

/// Which series and samples.
#[derive(Debug, Args)]
pub(super) struct Selection {
    /// Series selector; may be repeated, and any of them may match [default: all series].
    #[arg(long = "match", value_name = "SELECTOR")]
    matchers: Vec<String>,
    /// Earliest time: milliseconds since 1970, or RFC 3339.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = parse_time)]
    min_time: Option<Timestamp>,
    /// Latest time: milliseconds since 1970, or RFC 3339.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = parse_time)]
    max_time: Option<Timestamp>,
    /// Leave out blocks that do not open, instead of giving up.
    #[arg(long)]
    skip_damaged: bool,
}

impl Selection {
    pub(super) fn matchers(&self) -> Result<Vec<Vec<Matcher>>, CommandError> {
        let parse = |text: &String| pyrrha_promql::parser::parse_selector(text).map_err(CommandError::new);
        self.matchers.iter().map(parse).collect()
    }

    /// The selectors as they were written.
    pub(super) fn selectors(&self) -> &[String] {
        &self.matchers
    }

    pub(super) fn range(&self) -> TimeRange {
        TimeRange::new(self.min_time.unwrap_or(Timestamp::MIN), self.max_time.unwrap_or(Timestamp::MAX))
    }
}

fn parse_time(text: &str) -> Result<Timestamp, String> {
    if let Ok(ms) = text.parse() {
        return Ok(ms);
    }
    rfc3339::parse(text)
        .ok_or_else(|| "is neither milliseconds nor a time as 2006-01-02T15:04:05Z".to_owned())
}

/// All that a directory can be asked for samples.
pub(super) struct Sources {
    pub(super) ctx: QueryContext,
    blocks: Vec<Block>,
    /// Blocks made of the log of a Prometheus, while they are read.
    _head: Option<TemporaryDirectory>,
    /// A data directory of Pyrrha, opened as the server does: with what its log holds.
    db: Option<Arc<dyn Queryable>>,
}

impl Sources {
    /// Opens a directory for reading.
    pub(super) fn open(args: &DirectoryArgs, selection: &Selection) -> Result<Self, CommandError> {
        let directory = args.find()?;
        let mut ctx = QueryContext::unlimited();
        ctx.tenant = args.tenant()?;
        if let DirectoryKind::Pyrrha { data_dir: Some(dir) } = directory.kind() {
            // Looking takes no room.
            let config = StorageConfig { disk_reserve_bytes: 0, ..StorageConfig::new(dir) };
            match Db::open(config, directory.disk().clone(), Arc::new(SystemClock::new())) {
                Ok(db) => {
                    // What is in the log is wanted too, whatever else may be missing.
                    db.wait_recovered();
                    ctx.partial_response = selection.skip_damaged;
                    let db: Arc<dyn Queryable> = Arc::new(crate::store::DbStore::new(Arc::new(db)));
                    return Ok(Self { ctx, blocks: Vec::new(), _head: None, db: Some(db) });
                }
                Err(StorageError::InUse { .. }) => {
                    warn("a server uses the directory: only its blocks are read, not what is in its log");
                }
                Err(error) => return Err(CommandError::new(error)),
            }
        }
        let mut blocks = live_blocks(directory.blocks()?, selection.skip_damaged)?;
        let mut head = None;
        if *directory.kind() == DirectoryKind::Prometheus {
            let home = TemporaryDirectory::create()?;
            blocks.extend(head_blocks(&directory, &blocks, &home)?);
            head = Some(home);
        }
        Ok(Self { ctx, blocks, _head: head, db: None })
    }

    /// The sources.
    pub(super) fn sources(&self) -> Vec<&dyn Queryable> {
        let blocks = self.blocks.iter().map(|b| b as &dyn Queryable);
        blocks.chain(self.db.as_deref().map(|db| db as &dyn Queryable)).collect()
    }

    /// Says what is missing from what was read.
    pub(super) fn report(&self) {
        self.ctx.notices.warnings().iter().for_each(warn);
        self.ctx.notices.gaps().iter().for_each(|(_, why)| warn(why));
    }
}

/// A directory that goes with its owner.
struct TemporaryDirectory(PathBuf);

impl TemporaryDirectory {
    fn create() -> Result<Self, CommandError> {
        let dir = std::env::temp_dir().join(format!("pyrrha-head-{}", std::process::id()));
        let created = std::fs::create_dir_all(&dir);
        created
            .map_err(|e| CommandError::new(format!("cannot create directory path={}: {e}", dir.display())))?;
        Ok(Self(dir))
    }
}

impl Drop for TemporaryDirectory {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            warn(format!("cannot remove path={}: {error}", self.0.display()));
        }
    }
}

/// The head of a Prometheus as blocks under `home`.
fn head_blocks(
    directory: &Directory,
    blocks: &[Block],
    home: &TemporaryDirectory,
) -> Result<Vec<Block>, CommandError> {
    let disk = directory.disk();
    let begin = |name: &str| {
        let clock = Arc::new(SystemClock::new());
        Backfill::begin(disk.clone(), clock, &home.0, name, BackfillConfig::default())
    };
    let mut sink = (begin("head")?, begin("late")?);
    let from = end_of_blocks(blocks.iter());
    let report = load_head(&**disk, directory.home(), from, &mut sink, &mut |_| {})?;
    for (path, fault) in &report.faults {
        warn(format!("log is damaged file={} offset={}: {}", path.display(), fault.offset, fault.what));
    }
    let mut staged = sink.0.finish()?.0;
    staged.extend(sink.1.finish()?.0);
    staged.iter().map(|s| Block::open(&**disk, &s.dir).map_err(CommandError::new)).collect()
}

/// Up to here samples in order are in blocks of a Prometheus.
pub(super) fn end_of_blocks<'a>(blocks: impl Iterator<Item = &'a Block>) -> Timestamp {
    let in_order = blocks.filter(|b| !b.meta().compaction.hints.iter().any(|hint| hint == LATE));
    in_order.map(|b| b.meta().max_time).max().unwrap_or(Timestamp::MIN)
}

/// The blocks that are part of the data. One that does not open is an error, unless it is to be
/// skipped.
pub(super) fn live_blocks(found: Vec<FoundBlock>, skip_damaged: bool) -> Result<Vec<Block>, CommandError> {
    let mut blocks = Vec::new();
    let live = found.into_iter().filter(|f| matches!(f.standing, Standing::Live | Standing::Missing));
    for found in live {
        match found.block {
            Ok(block) => blocks.push(block),
            Err(error) if skip_damaged => warn(format!("block left out: {error}")),
            Err(error) => {
                return Err(CommandError::new(format!("{error}; --skip-damaged reads the others")));
            }
        }
    }
    Ok(blocks)
}
