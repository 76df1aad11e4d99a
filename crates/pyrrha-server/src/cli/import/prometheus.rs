//! `pyrrha import prometheus`: takes over a data directory, block by block and then the head.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use pyrrha_env::{Clock, Disk, OsDisk, SystemClock};
use pyrrha_model::{TenantId, Timestamp};
use pyrrha_storage::backfill::{Backfill, BackfillConfig, Published, Target, publish};
use pyrrha_storage::block::Block;
use pyrrha_storage::prometheus::{HeadReport, fingerprint, load_head};
use pyrrha_storage::tsdb::{Directory, DirectoryKind, Standing, TsdbError, verify_block};

use super::{TargetArgs, summary};
use crate::cli::directory::{LATE, end_of_blocks};
use crate::cli::output::{CommandError, Out, warn};
use crate::cli::progress::Progress;

/// What to import, and where to.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// Data directory of Prometheus.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    #[command(flatten)]
    target: TargetArgs,
    /// Import the blocks alone, without what is in the log.
    #[arg(long)]
    no_head: bool,
}

pub(super) fn run(out: &mut Out, args: &Args) -> Result<bool, CommandError> {
    let disk: Arc<dyn Disk> = Arc::new(OsDisk);
    let source = Directory::find(disk.clone(), &args.dir, &TenantId::anonymous())?;
    if *source.kind() != DirectoryKind::Prometheus {
        let dir = args.dir.display();
        return Err(CommandError::new(format!("directory is none of Prometheus' path={dir}")));
    }
    warn_if_running(&source, &disk, &args.dir);
    let target = args.target.open()?;
    let mut progress = Progress::new();
    let blocks = import_blocks(&source, &target, &mut progress)?;
    progress.clear();
    writeln!(out, "{} left out={}", summary(&blocks.published), blocks.left_out)?;
    out.flush()?;
    if !args.no_head {
        let (report, published) = import_head(&disk, args, blocks.end, &target, &mut progress)?;
        progress.clear();
        describe(out, &report, &published)?;
        for (path, fault) in &report.faults {
            let (path, offset, what) = (path.display(), fault.offset, &fault.what);
            warn(format!(
                "log is damaged, everything else of it was read file={path} offset={offset}: {what}"
            ));
        }
        if report.more_faults > 0 {
            warn(format!("and {} faults more", report.more_faults));
        }
    }
    Ok(blocks.left_out == 0)
}

/// What was scraped after its files were read is not imported.
fn warn_if_running(source: &Directory, disk: &Arc<dyn Disk>, dir: &std::path::Path) {
    if disk.exists(&dir.join("lock")) && matches!(source.lock(), Err(TsdbError::InUse { .. })) {
        warn(
            "Prometheus runs on the directory: import once more when it has stopped, for what comes until then",
        );
    }
}

/// What became of the blocks.
struct Blocks {
    published: Published,
    left_out: usize,
    /// Up to here samples in order are in blocks.
    end: Timestamp,
}

/// Verifies and adopts block after block, each by a commit of its own: what was done stays done.
fn import_blocks(
    source: &Directory,
    target: &Target,
    progress: &mut Progress,
) -> Result<Blocks, CommandError> {
    let found = source.blocks()?;
    let size = |b: &Result<Block, _>| b.as_ref().map_or(0, Block::bytes);
    let total = found.iter().map(|f| size(&f.block)).sum();
    let mut blocks = Blocks { published: Published::default(), left_out: 0, end: Timestamp::MIN };
    let mut done = 0;
    for found in found.into_iter().filter(|f| f.standing == Standing::Live) {
        progress.show("blocks", done, total);
        done += size(&found.block);
        let block = match found.block {
            Ok(block) => block,
            Err(error) => {
                progress.clear();
                warn(format!("block left out: {error}; pyrrha tsdb repair saves what is readable"));
                blocks.left_out += 1;
                continue;
            }
        };
        blocks.end = blocks.end.max(end_of_blocks(std::iter::once(&block)));
        let id = block.meta().ulid;
        if target.has(id) {
            blocks.published.known.push(id);
            continue;
        }
        let report = verify_block(&**source.disk(), block.dir());
        if let Some(problem) = report.problems.first() {
            progress.clear();
            let (count, file) = (report.problems.len(), &problem.file);
            let what = &problem.what;
            warn(format!(
                "block left out: block={id} problems={count}, the first: file={file}: {what}; pyrrha tsdb \
                 repair saves what is readable"
            ));
            blocks.left_out += 1;
        } else if block.meta().thanos.as_ref().is_some_and(|t| t.downsample.resolution != 0) {
            progress.clear();
            warn(format!("block left out, as it is downsampled: block={id}"));
            blocks.left_out += 1;
        } else if target.adopt(&block)? {
            blocks.published.added.push(id);
        }
    }
    Ok(blocks)
}

/// Makes blocks of what the log has from `from` on. The same log again makes the same blocks.
fn import_head(
    disk: &Arc<dyn Disk>,
    args: &Args,
    from: Timestamp,
    target: &Target,
    progress: &mut Progress,
) -> Result<(HeadReport, Published), CommandError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let identity = fingerprint(&**disk, &args.dir)?;
    let begin = |name: &str, identity: u128, hints: Vec<String>| {
        let config = BackfillConfig { identity: Some(identity), hints, ..BackfillConfig::default() };
        Backfill::begin(disk.clone(), clock.clone(), target.home(), name, config)
    };
    let in_order = begin("import-head", identity, Vec::new())?;
    let late = begin("import-late", !identity, vec![LATE.to_owned()])?;
    let mut sink = (in_order, late);
    let report = load_head(&**disk, &args.dir, from, &mut sink, &mut |p| {
        progress.show("head", p.read, p.total);
    })?;
    let (mut staged, _) = sink.0.finish()?;
    staged.extend(sink.1.finish()?.0);
    let published = publish(target, &staged)?;
    Ok((report, published))
}

fn describe(out: &mut Out, report: &HeadReport, published: &Published) -> Result<(), CommandError> {
    writeln!(
        out,
        "head: series={} samples={} exemplars={} deleted intervals={} in blocks already={} refused by \
         Prometheus={} of unknown series={} unknown records={} {}",
        report.series,
        report.samples,
        report.exemplars,
        report.deleted,
        report.in_blocks,
        report.refused,
        report.unknown_series,
        report.unknown_records,
        summary(published)
    )?;
    Ok(())
}
