//! Which blocks, and in which form they are shown.

use std::collections::BTreeSet;
use std::io::{self, Write};

use pyrrha_bucket::downsample::{FIVE_MINUTES, HOUR};
use pyrrha_bucket::tools::{BlockSelector, BucketTools};
use pyrrha_env::{Clock, SystemClock};
use pyrrha_model::time::parse_duration;
use pyrrha_model::{TenantId, TimeRange, Timestamp, rfc3339};
use pyrrha_storage::block::BlockId;
use serde::Serialize;

use crate::cli::output::{CommandError, Out};

/// Form of what a command prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    /// Columns, or lines.
    Table,
    /// One JSON document.
    Json,
}

/// In which form something is shown.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(in crate::cli) struct FormArgs {
    /// Form of the output.
    #[arg(long, short, value_enum, default_value = "table")]
    output: Form,
}

impl FormArgs {
    /// Prints what was found as JSON, or as `table` writes it.
    pub(in crate::cli) fn print<T: Serialize + ?Sized>(
        &self,
        out: &mut Out,
        found: &T,
        table: impl FnOnce(&mut Out) -> io::Result<()>,
    ) -> io::Result<()> {
        if self.output == Form::Table {
            return table(out);
        }
        serde_json::to_writer_pretty(&mut *out, found)?;
        writeln!(out)
    }
}

/// The word that JSON has for a value of an enum.
pub(super) fn word(value: impl Serialize) -> String {
    let value = serde_json::to_value(value).unwrap_or_default();
    value.as_str().unwrap_or_default().to_owned()
}

/// Which blocks of which tenants; all that is given must hold.
#[derive(Debug, clap::Args)]
pub(super) struct SelectArgs {
    /// Tenant; may be repeated [default: all].
    #[arg(long, value_name = "TENANT", value_parser = parse_tenant)]
    tenant: Vec<TenantId>,
    /// ULID of a block; may be repeated.
    #[arg(long, value_name = "ULID", value_parser = parse_id)]
    id: Vec<BlockId>,
    /// Blocks with data at or after it: milliseconds since 1970, RFC 3339, or a duration before now as
    /// `-2d`.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = parse_time)]
    min_time: Option<Timestamp>,
    /// Blocks with data at or before it.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = parse_time)]
    max_time: Option<Timestamp>,
    /// Resolution: `raw`, `5m` or `1h`; may be repeated.
    #[arg(long, value_name = "RESOLUTION", value_parser = parse_resolution)]
    resolution: Vec<i64>,
    /// Lowest compaction level.
    #[arg(long, value_name = "LEVEL")]
    min_level: Option<u32>,
    /// Highest compaction level.
    #[arg(long, value_name = "LEVEL")]
    max_level: Option<u32>,
    /// Selector of external labels, as `{cluster="eu"}`; may be repeated, and any of them may match.
    #[arg(long, value_name = "SELECTOR")]
    label: Vec<String>,
}

impl SelectArgs {
    /// The tenants that are named, or all. Fails if a tenant is named that the bucket does not have, or a block that
    /// no tenant of these has: what was mistyped is not sound, nor done.
    pub(super) fn tenants_of(&self, tools: &BucketTools) -> Result<Vec<TenantId>, CommandError> {
        let tenants = tools.tenant_ids(&self.tenant)?;
        self.must_be_live(tools, &tenants)?;
        Ok(tenants)
    }

    pub(super) fn selector(&self) -> Result<BlockSelector, CommandError> {
        let parse = |text: &String| pyrrha_promql::parser::parse_selector(text).map_err(CommandError::new);
        let range =
            TimeRange::new(self.min_time.unwrap_or(Timestamp::MIN), self.max_time.unwrap_or(Timestamp::MAX));
        Ok(BlockSelector {
            ids: self.id.iter().copied().collect(),
            range: (self.min_time.is_some() || self.max_time.is_some()).then_some(range),
            resolutions: self.resolution.iter().copied().collect(),
            min_level: self.min_level,
            max_level: self.max_level,
            labels: self.label.iter().map(parse).collect::<Result<_, _>>()?,
        })
    }

    /// Fails if a block is named that no tenant of these has. Where a manifest does not read that is not known.
    fn must_be_live(&self, tools: &BucketTools, tenants: &[TenantId]) -> Result<(), CommandError> {
        let mut missing: BTreeSet<BlockId> = self.id.iter().copied().collect();
        for tenant in tenants {
            if missing.is_empty() {
                break;
            }
            let Ok(state) = tools.state(tenant) else { return Ok(()) };
            missing.retain(|id| !state.blocks.contains_key(id));
        }
        if missing.is_empty() {
            return Ok(());
        }
        let ids: Vec<String> = missing.iter().map(ToString::to_string).collect();
        Err(CommandError::new(format!("no live block has this id: id={}", ids.join(" "))))
    }

    /// What is chosen, which must not be everything unless `all` is meant.
    pub(super) fn chosen(&self, all: bool) -> Result<BlockSelector, CommandError> {
        let selector = self.selector()?;
        if selector.is_everything() && !all {
            return Err(CommandError::new(
                "no blocks are chosen: --id and the like choose some, --all chooses all",
            ));
        }
        Ok(selector)
    }
}

/// A resolution in ms as users write it.
pub(in crate::cli) fn resolution(ms: i64) -> String {
    match ms {
        0 => "raw".to_owned(),
        ms => pyrrha_model::time::DurationDisplay(ms).to_string(),
    }
}

pub(in crate::cli) fn parse_tenant(text: &str) -> Result<TenantId, String> {
    TenantId::new(text).map_err(|error| error.to_string())
}

pub(in crate::cli) fn parse_id(text: &str) -> Result<BlockId, String> {
    text.parse().map_err(|_| "is no ULID".to_owned())
}

fn parse_resolution(text: &str) -> Result<i64, String> {
    match text {
        "raw" | "0" | "0s" => Ok(0),
        "5m" | "5m0s" => Ok(FIVE_MINUTES),
        "1h" | "1h0m0s" => Ok(HOUR),
        _ => Err("there are raw, 5m and 1h".to_owned()),
    }
}

fn parse_time(text: &str) -> Result<Timestamp, String> {
    if let Ok(ms) = text.parse() {
        return Ok(ms);
    }
    let before = text.strip_prefix('-').and_then(|text| parse_duration(text).ok());
    if let Some(before) = before {
        return Ok(SystemClock::new().now_ms().saturating_sub(before));
    }
    rfc3339::parse(text)
        .ok_or_else(|| "is neither milliseconds, nor a time as 2006-01-02T15:04:05Z, nor as -2d".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_may_be_relative() {
        assert_eq!(parse_time("-5"), Ok(-5));
        assert_eq!(parse_time("1970-01-01T00:00:01Z"), Ok(1000));
        let now = SystemClock::new().now_ms();
        let hour_ago = parse_time("-1h").expect("a duration");
        assert!((now - 3_600_000 - hour_ago).abs() < 60_000);
        assert!(parse_time("yesterday").is_err());
        assert_eq!(parse_resolution("5m").map(resolution), Ok("5m".to_owned()));
        assert_eq!(parse_resolution("raw").map(resolution), Ok("raw".to_owned()));
        assert!(parse_resolution("7m").is_err());
    }
}
