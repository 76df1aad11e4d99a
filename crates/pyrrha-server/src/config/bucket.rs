//! Settings of the bucket: where blocks go for good, and how they are read from there.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use pyrrha_model::time::DurationDisplay;
use serde::Deserialize;

use super::ConfigError;
use super::adopt::{self, AdoptFile, AdoptFlags, AdoptSettings};
use super::size::YamlBytes;
use super::value::{bytes_or_none, setting, span};

const CONFIG_FILE: &str = "objstore.config-file";
const CACHE_MEMORY: &str = "objstore.cache-memory";
const CACHE_DISK: &str = "objstore.cache-disk";
const HEADER_MEMORY: &str = "objstore.header-memory";
const LOCAL_RETENTION: &str = "objstore.local-retention";

/// Flags of the bucket.
#[derive(Debug, Default, Args)]
pub struct BucketFlags {
    /// YAML file that names the bucket, as Thanos reads it; without one, blocks stay in the data
    /// directory.
    #[arg(long = "objstore.config-file", env = "PYRRHA_OBJSTORE_CONFIG_FILE", value_name = "FILE")]
    pub objstore_config_file: Option<PathBuf>,
    /// Memory for data of buckets that was read before [default: 256MiB].
    #[arg(long = "objstore.cache-memory", env = "PYRRHA_OBJSTORE_CACHE_MEMORY", value_name = "BYTES")]
    pub objstore_cache_memory: Option<String>,
    /// Disk for data of buckets that was read before, in the data directory; 0 for none [default: 1GiB].
    #[arg(long = "objstore.cache-disk", env = "PYRRHA_OBJSTORE_CACHE_DISK", value_name = "BYTES")]
    pub objstore_cache_disk: Option<String>,
    /// Memory for what is known of opened blocks of buckets [default: 64MiB].
    #[arg(long = "objstore.header-memory", env = "PYRRHA_OBJSTORE_HEADER_MEMORY", value_name = "BYTES")]
    pub objstore_header_memory: Option<String>,
    /// Blocks in the bucket stay in the data directory until they are so old [default: 24h].
    #[arg(
        long = "objstore.local-retention",
        env = "PYRRHA_OBJSTORE_LOCAL_RETENTION",
        value_name = "DURATION"
    )]
    pub objstore_local_retention: Option<String>,
    /// Blocks of others.
    #[command(flatten)]
    pub adopt: AdoptFlags,
}

/// The file's keys of the bucket.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct BucketFile {
    config_file: Option<PathBuf>,
    cache_memory: Option<YamlBytes>,
    cache_disk: Option<YamlBytes>,
    header_memory: Option<YamlBytes>,
    local_retention: Option<String>,
    adopt: AdoptFile,
}

/// Settings of the bucket, resolved.
#[derive(Debug, Clone)]
pub struct BucketSettings {
    /// The file that names the bucket; none keeps blocks in the data directory.
    pub config_file: Option<PathBuf>,
    /// Memory of the cache, bytes.
    pub cache_bytes: usize,
    /// Disk of the cache, bytes.
    pub disk_cache_bytes: usize,
    /// Memory for opened blocks, bytes.
    pub header_bytes: usize,
    /// How long shipped blocks stay here.
    pub local_retention: Duration,
    /// How blocks of others are adopted, if they are.
    pub adopt: Option<AdoptSettings>,
}

impl BucketSettings {
    pub(super) fn resolve(flags: BucketFlags, file: BucketFile) -> Result<Self, ConfigError> {
        let (cache, local) = (flags.objstore_cache_memory, flags.objstore_local_retention);
        let config_file = flags.objstore_config_file.or(file.config_file);
        Ok(Self {
            adopt: adopt::resolve(&flags.adopt, file.adopt, config_file.is_some())?,
            config_file,
            cache_bytes: setting(CACHE_MEMORY, cache, file.cache_memory, "256MiB", bytes_or_none)?,
            disk_cache_bytes: setting(
                CACHE_DISK,
                flags.objstore_cache_disk,
                file.cache_disk,
                "1GiB",
                bytes_or_none,
            )?,
            header_bytes: setting(
                HEADER_MEMORY,
                flags.objstore_header_memory,
                file.header_memory,
                "64MiB",
                bytes_or_none,
            )?,
            local_retention: setting(LOCAL_RETENTION, local, file.local_retention, "24h", span)?,
        })
    }

    /// The settings as flags.
    pub(super) fn as_flags(&self) -> [(&'static str, String); 6] {
        let local = i64::try_from(self.local_retention.as_millis()).unwrap_or(i64::MAX);
        [
            (CONFIG_FILE, self.config_file.as_ref().map(|p| p.display().to_string()).unwrap_or_default()),
            (CACHE_MEMORY, self.cache_bytes.to_string()),
            (CACHE_DISK, self.disk_cache_bytes.to_string()),
            (HEADER_MEMORY, self.header_bytes.to_string()),
            (LOCAL_RETENTION, DurationDisplay(local).to_string()),
            ("objstore.adopt", self.adopt.is_some().to_string()),
        ]
    }
}
