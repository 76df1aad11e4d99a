//! Settings of the work on the bucket's blocks: merging, retention, removal.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use pyrrha_bucket::downsample::{FIVE_MINUTES, HOUR};
use pyrrha_bucket::{
    BlockTargets, CompactorConfig, JobKind, Ladder, MatcherRetention, MirrorConfig, MirrorKind, Retention,
};
use pyrrha_model::TenantId;
use pyrrha_model::time::DurationDisplay;
use serde::Deserialize;

use super::matcher_retention::{rule, text};
use super::size::{YamlBytes, parse_bytes};
use super::value::{setting, some_milliseconds, some_span, span};
use super::{ConfigError, TenantLimits};

const RANGES: &str = "compactor.ranges";
const DELETE_DELAY: &str = "compactor.delete-delay";
const INTERVAL: &str = "compactor.interval";
const LEASE_TIMEOUT: &str = "compactor.lease-timeout";
const MEMORY_BUDGET: &str = "compactor.memory-budget";
const BLOCK_INDEX_SIZE: &str = "compactor.block-index-size";
const BLOCK_SERIES: &str = "compactor.block-series";
const MIRROR: &str = "objstore.mirror";
const RETENTION_RAW: &str = "retention.resolution-raw";
const RETENTION_5M: &str = "retention.resolution-5m";
const RETENTION_1H: &str = "retention.resolution-1h";
const RETENTION_MATCHER: &str = "retention.matcher";

/// Flags of the work on the bucket's blocks, by Thanos' names where it has them.
#[derive(Debug, Default, Args)]
pub struct CompactorFlags {
    /// Ranges that blocks in the bucket grow through, each a multiple of the one before
    /// [default: 2h,12h,1d,14d].
    #[arg(
        long = "compactor.ranges",
        env = "PYRRHA_COMPACTOR_RANGES",
        value_name = "DURATIONS",
        value_delimiter = ','
    )]
    pub compactor_ranges: Vec<String>,
    /// Files of blocks that were replaced stay in the bucket so long [default: 48h].
    #[arg(long = "compactor.delete-delay", env = "PYRRHA_COMPACTOR_DELETE_DELAY", value_name = "DURATION")]
    pub compactor_delete_delay: Option<String>,
    /// Time between two looks for something to do [default: 1m].
    #[arg(long = "compactor.interval", env = "PYRRHA_COMPACTOR_INTERVAL", value_name = "DURATION")]
    pub compactor_interval: Option<String>,
    /// Workers that say nothing for so long are taken for dead [default: 2m].
    #[arg(long = "compactor.lease-timeout", env = "PYRRHA_COMPACTOR_LEASE_TIMEOUT", value_name = "DURATION")]
    pub compactor_lease_timeout: Option<String>,
    /// Memory of a job [default: 256MiB].
    #[arg(long = "compactor.memory-budget", env = "PYRRHA_COMPACTOR_MEMORY_BUDGET", value_name = "BYTES")]
    pub compactor_memory_budget: Option<String>,
    /// Blocks whose indexes together are larger are not merged into one, but into shards by the hash of their
    /// series [default: 8GiB].
    #[arg(
        long = "compactor.block-index-size",
        env = "PYRRHA_COMPACTOR_BLOCK_INDEX_SIZE",
        value_name = "BYTES"
    )]
    pub compactor_block_index_size: Option<String>,
    /// The same, of blocks of one time that have more series together; 0 is no matter how many [default: 0].
    #[arg(long = "compactor.block-series", env = "PYRRHA_COMPACTOR_BLOCK_SERIES", value_name = "COUNT")]
    pub compactor_block_series: Option<String>,
    /// Keep beside blocks what tools of others look for: `thanos` (marks) or `mimir` (marks and bucket indexes)
    /// [default: none].
    #[arg(long = "objstore.mirror", env = "PYRRHA_OBJSTORE_MIRROR", value_name = "KIND")]
    pub objstore_mirror: Option<String>,
    /// External label that tells replicas apart; may be repeated.
    #[arg(
        long = "deduplication.replica-label",
        env = "PYRRHA_DEDUPLICATION_REPLICA_LABEL",
        value_name = "NAME",
        value_delimiter = ','
    )]
    pub replica_labels: Vec<String>,
    /// Make no blocks of windows of 5 minutes and 1 hour [default: false].
    #[arg(long = "downsampling.disable", env = "PYRRHA_DOWNSAMPLING_DISABLE", value_name = "BOOL",
          num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub downsampling_disable: Option<bool>,
    /// How long raw samples stay in the bucket; 0 is for ever [default: 0].
    #[arg(
        long = "retention.resolution-raw",
        env = "PYRRHA_RETENTION_RESOLUTION_RAW",
        value_name = "DURATION"
    )]
    pub retention_raw: Option<String>,
    /// How long samples of 5 minutes stay in the bucket; 0 is for ever [default: 0].
    #[arg(long = "retention.resolution-5m", env = "PYRRHA_RETENTION_RESOLUTION_5M", value_name = "DURATION")]
    pub retention_5m: Option<String>,
    /// How long samples of 1 hour stay in the bucket; 0 is for ever [default: 0].
    #[arg(long = "retention.resolution-1h", env = "PYRRHA_RETENTION_RESOLUTION_1H", value_name = "DURATION")]
    pub retention_1h: Option<String>,
    /// Series that stay shorter in the bucket, as '{__name__=~"debug_.*"} 7d', or by resolution
    /// '{job="x"} raw=7d,5m=30d'; may be repeated.
    #[arg(long = "retention.matcher", env = "PYRRHA_RETENTION_MATCHER", value_name = "RULE")]
    pub retention_matcher: Vec<String>,
}

/// The file's keys of the work on the bucket's blocks.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct CompactorFile {
    enabled: Option<bool>,
    ranges: Option<Vec<String>>,
    delete_delay: Option<String>,
    interval: Option<String>,
    lease_timeout: Option<String>,
    memory_budget: Option<YamlBytes>,
    block_index_size: Option<YamlBytes>,
    block_series: Option<u64>,
    mirror: Option<String>,
    replica_labels: Option<Vec<String>>,
    downsampling: Option<bool>,
    retention: RetentionFile,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RetentionFile {
    raw: Option<String>,
    #[serde(rename = "5m")]
    five_minutes: Option<String>,
    #[serde(rename = "1h")]
    one_hour: Option<String>,
    matchers: Vec<String>,
}

/// Settings of the work on the bucket's blocks, resolved.
#[derive(Debug, Clone)]
pub struct CompactorSettings {
    /// Whether a server does it.
    pub enabled: bool,
    /// Time between two looks for something to do.
    pub interval: Duration,
    /// The ranges, ms.
    ranges: Vec<i64>,
    /// Whose tools are to see a bucket of their kind.
    mirror: Option<MirrorKind>,
    /// What workers need, but for their scratch directory.
    config: CompactorConfig,
}

impl CompactorSettings {
    /// Of flags, else of the file, else the defaults; `limits` say for which tenants blocks stay otherwise.
    pub(super) fn resolve(
        flags: CompactorFlags,
        enabled: Option<bool>,
        file: CompactorFile,
        limits: &BTreeMap<TenantId, TenantLimits>,
    ) -> Result<Self, ConfigError> {
        let texts = match flags.compactor_ranges.is_empty() {
            true => file.ranges.unwrap_or_else(|| ["2h", "12h", "1d", "14d"].map(str::to_owned).to_vec()),
            false => flags.compactor_ranges,
        };
        let bad = |message: String| ConfigError::Value { key: RANGES, value: texts.join(","), message };
        let ranges: Vec<i64> =
            texts.iter().map(|text| some_milliseconds(text)).collect::<Result<_, _>>().map_err(bad)?;
        let mut config = CompactorConfig::new(PathBuf::new());
        config.ladder = Ladder::new(ranges.clone()).map_err(bad)?;
        config.replica_labels = match flags.replica_labels.is_empty() {
            true => file.replica_labels.unwrap_or_default(),
            false => flags.replica_labels,
        };
        config.delete_delay =
            setting(DELETE_DELAY, flags.compactor_delete_delay, file.delete_delay, "48h", span)?;
        config.lease_timeout =
            setting(LEASE_TIMEOUT, flags.compactor_lease_timeout, file.lease_timeout, "2m", some_span)?;
        config.memory_bytes =
            setting(MEMORY_BUDGET, flags.compactor_memory_budget, file.memory_budget, "256MiB", parse_bytes)?;
        let (index, series) = (flags.compactor_block_index_size, flags.compactor_block_series);
        let in_file = file.block_series.map(|count| count.to_string());
        config.targets = BlockTargets {
            index_bytes: setting(BLOCK_INDEX_SIZE, index, file.block_index_size, "8GiB", parse_bytes)? as u64,
            series: setting(BLOCK_SERIES, series, in_file, "0", count)?,
            splits: true,
        };
        let off = flags.downsampling_disable.or(file.downsampling.map(|on| !on)).unwrap_or(false);
        config.leaves = if off { JobKind::DOWNSAMPLING.to_vec() } else { Vec::new() };
        let keep = file.retention;
        config.retention = Retention {
            raw: setting(RETENTION_RAW, flags.retention_raw, keep.raw, "0", span)?,
            resolutions: BTreeMap::from([
                (FIVE_MINUTES, setting(RETENTION_5M, flags.retention_5m, keep.five_minutes, "0", span)?),
                (HOUR, setting(RETENTION_1H, flags.retention_1h, keep.one_hour, "0", span)?),
            ]),
            matchers: match flags.retention_matcher.is_empty() {
                true => rules(&keep.matchers)?,
                false => rules(&flags.retention_matcher)?,
            },
            tenants: limits.iter().filter_map(|(id, l)| Some((id.clone(), l.bucket_retention?))).collect(),
            tenant_matchers: limits
                .iter()
                .filter_map(|(id, l)| Some((id.clone(), l.bucket_retention_matchers.clone()?)))
                .collect(),
        };
        Ok(Self {
            enabled: enabled.or(file.enabled).unwrap_or(true),
            interval: setting(INTERVAL, flags.compactor_interval, file.interval, "1m", some_span)?,
            ranges,
            mirror: setting(MIRROR, flags.objstore_mirror, file.mirror, "none", mirror_kind)?,
            config,
        })
    }

    /// Refuses what is stored where those for whom the bucket is mirrored do not read it.
    pub(super) fn check(&self, features: &[String]) -> Result<(), ConfigError> {
        let starts = features.iter().any(|name| name.trim() == crate::features::ST_STORAGE);
        let Some(kind @ MirrorKind::Thanos) = self.mirror.filter(|_| starts) else { return Ok(()) };
        let message = format!("chunks of {} are none that Thanos reads", crate::features::ST_STORAGE);
        Err(ConfigError::Value { key: MIRROR, value: kind.name().to_owned(), message })
    }

    /// How the bucket is mirrored, if it is.
    pub(crate) fn mirror(&self) -> Option<MirrorConfig> {
        self.mirror.map(|kind| MirrorConfig { kind, delete_delay: self.config.delete_delay })
    }

    /// What a worker needs.
    pub(crate) fn config(&self, scratch_dir: PathBuf) -> CompactorConfig {
        let keeps_custom_buckets = self.mirror == Some(MirrorKind::Thanos);
        // Of shards with the same sources it reads one.
        let targets = BlockTargets { splits: self.mirror != Some(MirrorKind::Thanos), ..self.config.targets };
        CompactorConfig { scratch_dir, keeps_custom_buckets, targets, ..self.config.clone() }
    }

    /// The settings as flags.
    pub(super) fn as_flags(&self) -> Vec<(&'static str, String)> {
        let long =
            |d: Duration| DurationDisplay(i64::try_from(d.as_millis()).unwrap_or(i64::MAX)).to_string();
        let ranges: Vec<String> = self.ranges.iter().map(|&ms| DurationDisplay(ms).to_string()).collect();
        let keep = &self.config.retention;
        let of = |resolution: i64| long(keep.resolutions.get(&resolution).copied().unwrap_or_default());
        vec![
            ("compactor.enabled", self.enabled.to_string()),
            (RANGES, ranges.join(",")),
            (DELETE_DELAY, long(self.config.delete_delay)),
            (INTERVAL, long(self.interval)),
            (LEASE_TIMEOUT, long(self.config.lease_timeout)),
            (MEMORY_BUDGET, self.config.memory_bytes.to_string()),
            (BLOCK_INDEX_SIZE, self.config.targets.index_bytes.to_string()),
            (BLOCK_SERIES, self.config.targets.series.to_string()),
            (MIRROR, self.mirror.map_or("none", MirrorKind::name).to_owned()),
            ("deduplication.replica-label", self.config.replica_labels.join(",")),
            ("downsampling.disable", (!self.config.leaves.is_empty()).to_string()),
            (RETENTION_RAW, long(keep.raw)),
            (RETENTION_5M, of(FIVE_MINUTES)),
            (RETENTION_1H, of(HOUR)),
            (RETENTION_MATCHER, keep.matchers.iter().map(text).collect::<Vec<_>>().join(";")),
        ]
    }
}

fn count(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "expected a number of series".to_owned())
}

fn mirror_kind(text: &str) -> Result<Option<MirrorKind>, String> {
    let found = MirrorKind::ALL.into_iter().find(|kind| kind.name() == text);
    match text {
        "none" => Ok(None),
        _ => found.map(Some).ok_or_else(|| "must be none, thanos or mimir".to_owned()),
    }
}

fn rules(texts: &[String]) -> Result<Vec<MatcherRetention>, ConfigError> {
    let read = |value: &String| {
        let bad = |message| ConfigError::Value { key: RETENTION_MATCHER, value: value.clone(), message };
        rule(value).map_err(bad)
    };
    texts.iter().map(read).collect()
}
