//! `pyrrha tsdb repair`: rewrites damaged blocks from what is readable.

use std::io::{self, Write};
use std::sync::Arc;

use pyrrha_env::{Clock, SystemClock};
use pyrrha_storage::tsdb::{Loss, Repair, Standing, plan_repair, repair, verify_block};
use serde::Serialize;

use super::DirectoryArgs;
use crate::cli::output::{CommandError, Out};

#[derive(Serialize)]
struct Line<'a> {
    block: String,
    done: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    new_block: Option<String>,
    #[serde(flatten)]
    repair: &'a Repair,
}

pub(super) fn run(out: &mut Out, args: &DirectoryArgs, yes: bool, json: bool) -> Result<bool, CommandError> {
    let directory = args.find()?;
    let _lock = if yes { directory.lock()? } else { None };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let (mut damaged, mut failed) = (0, 0);
    for found in directory.blocks()?.into_iter().filter(|f| f.standing != Standing::Unlisted) {
        if verify_block(&**directory.disk(), &found.dir).is_sound() {
            continue;
        }
        damaged += 1;
        let done = if yes {
            repair(&directory, &found.dir, &clock).map(|r| (r.repair, r.block, Some(r.original)))
        } else {
            plan_repair(&**directory.disk(), &found.dir).map(|r| (r, None, None))
        };
        let (repair, block, original) = match done {
            Ok(done) => done,
            Err(error) => {
                failed += 1;
                crate::cli::output::warn(error);
                continue;
            }
        };
        if json {
            let new_block = block.map(|b| b.to_string());
            let line = Line { block: found.id.to_string(), done: yes, new_block, repair: &repair };
            serde_json::to_writer(&mut *out, &line).map_err(io::Error::from)?;
            writeln!(out)?;
            continue;
        }
        let dir = found.dir.display();
        writeln!(out, "{dir}: keeps series={} chunks={}", repair.series, repair.chunks)?;
        print(out, &repair)?;
        match (block, original) {
            (Some(block), Some(original)) => {
                writeln!(out, "  rewritten as {block}, the original is {}", original.display())?;
            }
            (None, Some(original)) => {
                writeln!(out, "  nothing is readable, the original is {}", original.display())?;
            }
            _ => {}
        }
    }
    if !json && damaged == 0 {
        writeln!(out, "nothing to repair")?;
    } else if !json && !yes {
        writeln!(out, "nothing was changed; --yes rewrites what is damaged")?;
    }
    Ok(failed == 0 && (yes || damaged == 0))
}

fn print(out: &mut Out, repair: &Repair) -> io::Result<()> {
    for Loss { series, range, why } in &repair.losses {
        write!(out, "  loses: {why}")?;
        if let Some(series) = series {
            write!(out, " series={series}")?;
        }
        if let Some((first, last)) = range {
            write!(out, " min_time={first} max_time={last}")?;
        }
        writeln!(out)?;
    }
    if repair.more_losses > 0 {
        writeln!(out, "  and {} losses more", repair.more_losses)?;
    }
    for note in &repair.notes {
        writeln!(out, "  {note}")?;
    }
    Ok(())
}
