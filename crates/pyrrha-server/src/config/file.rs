//! The YAML file: every key is known, every error names file, line and key.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::attach_bucket::AttachFile;
use super::bucket::BucketFile;
use super::compactor::CompactorFile;
use super::limits::LimitsFile;
use super::size::YamlBytes;
use super::storage::Tsdb;
use super::{ConfigError, LogFormat, LogLevel};

/// The file's keys.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct File {
    pub(super) storage: Storage,
    /// Buckets of others.
    pub(super) attach: Vec<AttachFile>,
    pub(super) objstore: BucketFile,
    pub(super) compactor: CompactorFile,
    pub(super) web: Web,
    pub(super) features: Option<Vec<String>>,
    pub(super) log: Log,
    pub(super) query: Query,
    pub(super) self_scrape: Option<bool>,
    /// By tenant.
    pub(super) limits: BTreeMap<String, LimitsFile>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Storage {
    pub(super) path: Option<PathBuf>,
    pub(super) attach: Vec<String>,
    pub(super) out_of_order_window: Option<String>,
    pub(super) wal_strict: Option<bool>,
    pub(super) tsdb: Tsdb,
    pub(super) compaction: Option<bool>,
    pub(super) dense: Option<bool>,
    pub(super) index_tables: Option<bool>,
    pub(super) compaction_memory_budget: Option<YamlBytes>,
    pub(super) head_memory: Option<YamlBytes>,
    pub(super) disk_reserve: Option<YamlBytes>,
    pub(super) log_limit: Option<YamlBytes>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Web {
    pub(super) listen_address: Option<String>,
    pub(super) cors_origin: Option<String>,
    pub(super) enable_admin_api: Option<bool>,
    pub(super) max_body_bytes: Option<YamlBytes>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Log {
    pub(super) level: Option<LogLevel>,
    pub(super) format: Option<LogFormat>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Query {
    pub(super) max_concurrency: Option<usize>,
    pub(super) timeout: Option<String>,
    pub(super) max_samples: Option<usize>,
    pub(super) lookback_delta: Option<String>,
    pub(super) memory_budget: Option<YamlBytes>,
    pub(super) tenant_memory_budget: Option<YamlBytes>,
    pub(super) process_memory_budget: Option<YamlBytes>,
    pub(super) log_slower_than: Option<String>,
    pub(super) log_file: Option<PathBuf>,
}

/// Reads the file, if there is one; returns its text too.
pub(super) fn load(path: Option<&Path>) -> Result<(File, Option<String>), ConfigError> {
    let Some(path) = path else { return Ok((File::default(), None)) };
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    let file = parse(path, &text)?;
    Ok((file, Some(text)))
}

/// Characters that are shown of a line.
const SHOWN_MAX: usize = 100;

pub(super) fn parse(path: &Path, text: &str) -> Result<File, ConfigError> {
    let only_comments = text.lines().all(|l| l.trim().is_empty() || l.trim_start().starts_with('#'));
    if only_comments {
        return Ok(File::default());
    }
    serde_saphyr::from_str(text).map_err(|error| {
        let (line, column) = error.location().map_or((0, 0), |at| (at.line(), at.column()));
        let rendered = error.without_snippet().to_string();
        let message = rendered.lines().next().unwrap_or_default();
        // What is said of a value does not name its key: the line does.
        let place = usize::try_from(line).ok().and_then(|line| text.lines().nth(line.checked_sub(1)?));
        let shown: String = place.unwrap_or_default().trim().chars().take(SHOWN_MAX).collect();
        let message = format!("{message}: {shown}");
        ConfigError::Syntax { path: path.to_owned(), line, column, message }
    })
}
