//! Settings: one table of flags, environment variables, file keys and defaults.

mod adopt;
mod attach;
mod attach_bucket;
mod bucket;
mod compactor;
mod file;
mod limits;
mod matcher_retention;
mod size;
mod storage;
mod value;
mod worker;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use pyrrha_bucket::GatewayConfig;
use pyrrha_model::{ErrorKind, TenantId};
use serde::Deserialize;

pub use adopt::{AdoptFlags, AdoptSettings};
pub use attach::AttachSetting;
pub(crate) use attach_bucket::Layout;
pub use attach_bucket::{AttachFlags, AttachedBucketSetting};
pub use bucket::{BucketFlags, BucketSettings};
pub use compactor::{CompactorFlags, CompactorSettings};
pub use limits::TenantLimits;
pub use size::parse_bytes;
pub use storage::{StorageFlags, StorageSettings};
pub(crate) use value::span;
use value::{milliseconds, setting, some_milliseconds, some_span};
pub use worker::WorkerFlags;

/// Why settings were refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration: file={}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("bad configuration: file={} line={line} column={column}: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: u64,
        /// Column, from 1.
        column: u64,
        /// What is wrong, with the key.
        message: String,
    },
    /// A value that does not make sense.
    #[error("bad setting: {key}={value:?}: {message}")]
    Value {
        /// The flag.
        key: &'static str,
        /// The value.
        value: String,
        /// What is wrong with it.
        message: String,
    },
}

impl ConfigError {
    /// What the caller should do next: fix the settings, always.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Read { .. } | Self::Syntax { .. } | Self::Value { .. } => ErrorKind::Invalid,
        }
    }
}

/// How much the log says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// What needs an operator.
    Error,
    /// And what may become so.
    Warn,
    /// And the milestones of a healthy life.
    #[default]
    Info,
    /// And decisions.
    Debug,
    /// And everything.
    Trace,
}

/// The shape of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// `key=value` pairs.
    #[default]
    Logfmt,
    /// One JSON object a line.
    Json,
}

/// Flags of `pyrrha server`, each also an environment variable.
#[derive(Debug, Default, Args)]
pub struct Flags {
    /// YAML file with settings.
    #[arg(long = "config.file", env = "PYRRHA_CONFIG_FILE", value_name = "FILE")]
    pub config_file: Option<PathBuf>,
    /// Data directory [default: ./data].
    #[arg(long = "storage.path", env = "PYRRHA_STORAGE_PATH", value_name = "DIR")]
    pub storage_path: Option<PathBuf>,
    /// Blocks of a Prometheus that queries read beside the store's, and nothing writes to; may be
    /// repeated. Without a tenant they are those of "anonymous".
    #[arg(
        long = "storage.attach",
        env = "PYRRHA_STORAGE_ATTACH",
        value_name = "[TENANT=]DIR",
        value_delimiter = ','
    )]
    pub attach: Vec<String>,
    /// Buckets of others.
    #[command(flatten)]
    pub attach_buckets: AttachFlags,
    /// How storage looks after itself.
    #[command(flatten)]
    pub storage: StorageFlags,
    /// Where blocks go for good.
    #[command(flatten)]
    pub bucket: BucketFlags,
    /// Look after the blocks in the bucket: merge them, let go what is past retention [default: true].
    #[arg(long = "compactor.enabled", env = "PYRRHA_COMPACTOR_ENABLED", value_name = "BOOL",
          num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub compactor_enabled: Option<bool>,
    /// How that is done.
    #[command(flatten)]
    pub compactor: CompactorFlags,
    /// How far behind its tenant's newest sample an out-of-order sample may lie; 0s: none is taken
    /// [default: 2h].
    #[arg(
        long = "storage.out-of-order-window",
        env = "PYRRHA_STORAGE_OUT_OF_ORDER_WINDOW",
        value_name = "DURATION"
    )]
    pub out_of_order_window: Option<String>,
    /// Refuse to start on a damaged write log instead of keeping what is readable.
    #[arg(long = "wal.strict", env = "PYRRHA_WAL_STRICT", value_name = "BOOL",
          num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub wal_strict: Option<bool>,
    /// Address and port to listen on [default: 127.0.0.1:9009].
    #[arg(long = "web.listen-address", env = "PYRRHA_WEB_LISTEN_ADDRESS", value_name = "ADDRESS")]
    pub listen_address: Option<String>,
    /// Allow the admin API: snapshots, deleting series [default: false].
    #[arg(long = "web.enable-admin-api", env = "PYRRHA_WEB_ENABLE_ADMIN_API", value_name = "BOOL",
          num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub enable_admin_api: Option<bool>,
    /// Regular expression of origins that browsers may call from [default: .*].
    #[arg(long = "web.cors-origin", env = "PYRRHA_WEB_CORS_ORIGIN", value_name = "REGEX")]
    pub cors_origin: Option<String>,
    /// Largest body of a write request, decompressed or not [default: 32MiB].
    #[arg(long = "web.max-body-bytes", env = "PYRRHA_WEB_MAX_BODY_BYTES", value_name = "BYTES")]
    pub max_body_bytes: Option<String>,
    /// Prometheus' feature names, comma separated; unknown ones only warn.
    #[arg(
        long = "enable-feature",
        env = "PYRRHA_ENABLE_FEATURE",
        value_name = "NAMES",
        value_delimiter = ','
    )]
    pub enable_feature: Vec<String>,
    /// How much to log [default: info].
    #[arg(long = "log.level", env = "PYRRHA_LOG_LEVEL", value_enum)]
    pub log_level: Option<LogLevel>,
    /// Shape of log lines [default: logfmt].
    #[arg(long = "log.format", env = "PYRRHA_LOG_FORMAT", value_enum)]
    pub log_format: Option<LogFormat>,
    /// Queries that run at once; more wait in turn [default: 20].
    #[arg(long = "query.max-concurrency", env = "PYRRHA_QUERY_MAX_CONCURRENCY", value_name = "N")]
    pub query_max_concurrency: Option<usize>,
    /// Deadline of a query, waiting included [default: 2m].
    #[arg(long = "query.timeout", env = "PYRRHA_QUERY_TIMEOUT", value_name = "DURATION")]
    pub query_timeout: Option<String>,
    /// Samples that a query may hold at once [default: 50000000].
    #[arg(long = "query.max-samples", env = "PYRRHA_QUERY_MAX_SAMPLES", value_name = "N")]
    pub query_max_samples: Option<usize>,
    /// How far back an instant selector looks for a sample [default: 5m].
    #[arg(long = "query.lookback-delta", env = "PYRRHA_QUERY_LOOKBACK_DELTA", value_name = "DURATION")]
    pub query_lookback_delta: Option<String>,
    /// Memory of one query [default: 1GiB].
    #[arg(long = "query.memory-budget", env = "PYRRHA_QUERY_MEMORY_BUDGET", value_name = "BYTES")]
    pub query_memory_budget: Option<String>,
    /// Memory of all queries of one tenant [default: three quarters of all queries'].
    #[arg(
        long = "query.tenant-memory-budget",
        env = "PYRRHA_QUERY_TENANT_MEMORY_BUDGET",
        value_name = "BYTES"
    )]
    pub query_tenant_memory_budget: Option<String>,
    /// Memory of all queries together [default: half of the machine's].
    #[arg(
        long = "query.process-memory-budget",
        env = "PYRRHA_QUERY_PROCESS_MEMORY_BUDGET",
        value_name = "BYTES"
    )]
    pub query_process_memory_budget: Option<String>,
    /// Log queries that take longer, waiting included [default: none].
    #[arg(long = "query.log-slower-than", env = "PYRRHA_QUERY_LOG_SLOWER_THAN", value_name = "DURATION")]
    pub query_log_slower_than: Option<String>,
    /// File that gets a line of JSON for every query [default: none].
    #[arg(long = "query.log-file", env = "PYRRHA_QUERY_LOG_FILE", value_name = "FILE")]
    pub query_log_file: Option<PathBuf>,
    /// Store the server's own metrics every 15 s [default: true].
    #[arg(long = "self-scrape", env = "PYRRHA_SELF_SCRAPE", value_name = "BOOL",
          num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub self_scrape: Option<bool>,
}

/// Flag of the out-of-order window.
const OUT_OF_ORDER_WINDOW: &str = "storage.out-of-order-window";

/// All settings, resolved.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The file they came from, and its text.
    pub file: Option<(PathBuf, String)>,
    /// Data directory.
    pub storage_path: PathBuf,
    /// Directories of blocks that are read beside it.
    pub attach: Vec<AttachSetting>,
    /// Buckets of others that are read beside it.
    pub attach_buckets: Vec<AttachedBucketSetting>,
    /// How storage looks after itself.
    pub storage: StorageSettings,
    /// Where blocks go for good.
    pub bucket: BucketSettings,
    /// How the blocks there are looked after.
    pub compactor: CompactorSettings,
    /// How far behind its tenant's newest sample an out-of-order sample may lie, ms.
    pub out_of_order_window_ms: i64,
    /// Whether a damaged log refuses the start.
    pub wal_strict: bool,
    /// Where to listen.
    pub listen_address: String,
    /// Whether the admin API is on.
    pub enable_admin_api: bool,
    /// Allowed origins.
    pub cors_origin: String,
    /// Largest body of a write request, bytes.
    pub max_body_bytes: usize,
    /// Names given to `--enable-feature`.
    pub features: Vec<String>,
    /// How much to log.
    pub log_level: LogLevel,
    /// Shape of log lines.
    pub log_format: LogFormat,
    /// Queries admitted at once.
    pub query_max_concurrency: usize,
    /// Deadline of a query.
    pub query_timeout: Duration,
    /// Samples that a query may hold.
    pub query_max_samples: usize,
    /// Lookback of instant selectors, ms.
    pub query_lookback_ms: i64,
    /// Memory of one query, bytes.
    pub query_memory_budget: usize,
    /// Memory of all queries of a tenant, bytes.
    pub query_tenant_memory_budget: usize,
    /// Memory of all queries, bytes.
    pub query_process_memory_budget: usize,
    /// Queries that take longer are logged.
    pub query_log_slower_than: Option<Duration>,
    /// Where every query is logged.
    pub query_log_file: Option<PathBuf>,
    /// Whether own metrics are stored.
    pub self_scrape: bool,
    /// What is different for some tenants.
    pub limits: BTreeMap<TenantId, TenantLimits>,
}

impl Settings {
    /// How a bucket is read that keeps its headers in `cache_dir`. All buckets share what is set for caches.
    pub fn reading(&self, cache_dir: PathBuf) -> GatewayConfig {
        let own = usize::from(self.bucket.config_file.is_some());
        let buckets = (self.attach_buckets.len() + own).max(1);
        GatewayConfig {
            cache_dir,
            cache_bytes: self.bucket.cache_bytes / buckets,
            disk_bytes: (self.bucket.disk_cache_bytes / buckets) as u64,
            header_bytes: self.bucket.header_bytes / buckets,
        }
    }

    /// Merges flags (and environment), file and defaults, and checks every value.
    pub fn resolve(flags: Flags) -> Result<Self, ConfigError> {
        let (file, text) = file::load(flags.config_file.as_deref())?;
        let process =
            match flags.query_process_memory_budget.or(file.query.process_memory_budget.map(Into::into)) {
                Some(text) => {
                    setting("query.process-memory-budget", Some(text), None::<String>, "", parse_bytes)?
                }
                None => crate::budgets::memory_of_machine() / 2,
            };
        let slower_than = flags.query_log_slower_than.or(file.query.log_slower_than);
        let slower_than = slower_than
            .map(|text| setting("query.log-slower-than", Some(text), None::<String>, "", some_span));
        let limits = limits::resolve(file.limits)?;
        let (compacts, work) = (flags.compactor_enabled, flags.compactor);
        let settings = Self {
            file: flags.config_file.zip(text),
            storage_path: flags.storage_path.or(file.storage.path.clone()).unwrap_or_else(|| "./data".into()),
            attach: attach::resolve(flags.attach, file.storage.attach.clone())?,
            attach_buckets: attach_bucket::resolve(flags.attach_buckets, file.attach)?,
            storage: StorageSettings::resolve(flags.storage, &file.storage)?,
            bucket: BucketSettings::resolve(flags.bucket, file.objstore)?,
            compactor: CompactorSettings::resolve(work, compacts, file.compactor, &limits)?,
            out_of_order_window_ms: setting(
                OUT_OF_ORDER_WINDOW,
                flags.out_of_order_window,
                file.storage.out_of_order_window.clone(),
                "2h",
                milliseconds,
            )?,
            wal_strict: flags.wal_strict.or(file.storage.wal_strict).unwrap_or(false),
            listen_address: flags
                .listen_address
                .or(file.web.listen_address)
                .unwrap_or_else(|| "127.0.0.1:9009".into()),
            enable_admin_api: flags.enable_admin_api.or(file.web.enable_admin_api).unwrap_or(false),
            cors_origin: flags.cors_origin.or(file.web.cors_origin).unwrap_or_else(|| ".*".into()),
            max_body_bytes: setting(
                "web.max-body-bytes",
                flags.max_body_bytes,
                file.web.max_body_bytes,
                "32MiB",
                parse_bytes,
            )?,
            features: features(match flags.enable_feature.is_empty() {
                true => file.features.unwrap_or_default(),
                false => flags.enable_feature,
            })?,
            log_level: flags.log_level.or(file.log.level).unwrap_or_default(),
            log_format: flags.log_format.or(file.log.format).unwrap_or_default(),
            query_max_concurrency: flags.query_max_concurrency.or(file.query.max_concurrency).unwrap_or(20),
            query_timeout: setting(
                "query.timeout",
                flags.query_timeout,
                file.query.timeout,
                "2m",
                some_span,
            )?,
            query_max_samples: flags.query_max_samples.or(file.query.max_samples).unwrap_or(50_000_000),
            query_lookback_ms: setting(
                "query.lookback-delta",
                flags.query_lookback_delta,
                file.query.lookback_delta,
                "5m",
                some_milliseconds,
            )?,
            query_memory_budget: setting(
                "query.memory-budget",
                flags.query_memory_budget,
                file.query.memory_budget,
                "1GiB",
                parse_bytes,
            )?
            .min(process),
            query_tenant_memory_budget: setting(
                "query.tenant-memory-budget",
                flags.query_tenant_memory_budget,
                file.query.tenant_memory_budget,
                &format!("{}", (process / 4 * 3).max(1)),
                parse_bytes,
            )?
            .min(process),
            query_process_memory_budget: process,
            query_log_slower_than: slower_than.transpose()?,
            query_log_file: flags.query_log_file.or(file.query.log_file),
            self_scrape: flags.self_scrape.or(file.self_scrape).unwrap_or(true),
            limits,
        };
        settings.compactor.check(&settings.features)?;
        if settings.query_max_concurrency == 0 {
            return Err(ConfigError::Value {
                key: "query.max-concurrency",
                value: "0".into(),
                message: "must be at least 1".into(),
            });
        }
        Ok(settings)
    }

    /// The settings as flags, for `/api/v1/status/flags`.
    pub fn as_flags(&self) -> Vec<(&'static str, String)> {
        let ms = |ms: i64| pyrrha_model::time::DurationDisplay(ms).to_string();
        let span = |span: Duration| ms(i64::try_from(span.as_millis()).unwrap_or(i64::MAX));
        let path =
            |path: &Option<PathBuf>| path.as_ref().map(|p| p.display().to_string()).unwrap_or_default();
        let mut flags = vec![
            ("config.file", self.file.as_ref().map(|(p, _)| p.display().to_string()).unwrap_or_default()),
            ("enable-feature", self.features.join(",")),
            ("log.format", format!("{:?}", self.log_format).to_lowercase()),
            ("log.level", format!("{:?}", self.log_level).to_lowercase()),
            ("query.lookback-delta", ms(self.query_lookback_ms)),
            ("query.max-concurrency", self.query_max_concurrency.to_string()),
            ("query.max-samples", self.query_max_samples.to_string()),
            ("query.log-file", path(&self.query_log_file)),
            ("query.log-slower-than", self.query_log_slower_than.map(span).unwrap_or_default()),
            ("query.memory-budget", self.query_memory_budget.to_string()),
            ("query.process-memory-budget", self.query_process_memory_budget.to_string()),
            ("query.tenant-memory-budget", self.query_tenant_memory_budget.to_string()),
            ("query.timeout", span(self.query_timeout)),
            ("self-scrape", self.self_scrape.to_string()),
            ("storage.attach", self.attach.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")),
            ("storage.out-of-order-window", ms(self.out_of_order_window_ms)),
            ("storage.path", self.storage_path.display().to_string()),
            ("wal.strict", self.wal_strict.to_string()),
            ("web.enable-admin-api", self.enable_admin_api.to_string()),
            ("web.cors-origin", self.cors_origin.clone()),
            ("web.listen-address", self.listen_address.clone()),
            ("web.max-body-bytes", self.max_body_bytes.to_string()),
        ];
        flags.extend(attach_bucket::as_flags(&self.attach_buckets));
        flags.extend(self.storage.as_flags());
        flags.extend(self.bucket.as_flags());
        flags.extend(self.compactor.as_flags());
        flags.sort();
        flags
    }
}

/// The names, unless some of them exclude each other.
fn features(names: Vec<String>) -> Result<Vec<String>, ConfigError> {
    match crate::features::check(&names) {
        Ok(()) => Ok(names),
        Err(message) => Err(ConfigError::Value { key: "enable-feature", value: names.join(","), message }),
    }
}

#[cfg(test)]
mod tests;
