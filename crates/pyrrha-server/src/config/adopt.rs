//! Settings of adopting by the server: what others upload to its bucket becomes its tenants' own.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use pyrrha_bucket::GatewayConfig;
use pyrrha_bucket::attach::AttachConfig;
use serde::Deserialize;

use super::ConfigError;
use super::attach_bucket::{Layout, RuleFile, owners};
use super::value::{setting, some_span, span};

const KEY: &str = "objstore.adopt";

/// Flags of adopting.
#[derive(Debug, Default, Args)]
pub struct AdoptFlags {
    /// Take over what Thanos, Mimir or Cortex upload to the bucket, now and then; their compactors have to be off
    /// [default: false].
    #[arg(long = "objstore.adopt", env = "PYRRHA_OBJSTORE_ADOPT", value_name = "BOOL",
          num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub objstore_adopt: Option<bool>,
}

/// The file's keys of adopting.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct AdoptFile {
    enabled: Option<bool>,
    layout: Layout,
    tenant: Option<String>,
    tenant_label: Option<String>,
    tenants: Vec<RuleFile>,
    consistency_delay: Option<String>,
    look_every: Option<String>,
}

/// How a server adopts.
#[derive(Debug, Clone)]
pub struct AdoptSettings {
    /// Time between two looks at the bucket.
    pub look_every: Duration,
    /// What is adopted, and whose it is.
    pub config: AttachConfig,
}

/// The settings, if it is switched on.
pub(super) fn resolve(
    flags: &AdoptFlags,
    file: AdoptFile,
    has_bucket: bool,
) -> Result<Option<AdoptSettings>, ConfigError> {
    let enabled = flags.objstore_adopt.or(file.enabled).unwrap_or(false);
    // What is wrong in the file is said whether it is switched on or not.
    let reading = GatewayConfig { cache_dir: PathBuf::new(), cache_bytes: 0, disk_bytes: 0, header_bytes: 0 };
    let config = AttachConfig {
        layout: file.layout.into(),
        tenants: owners(KEY, file.tenants, file.tenant_label, file.tenant)?,
        // In either layout: what another server is shipping is not somebody else's.
        consistency_delay: Some(setting(
            "objstore.adopt.consistency_delay",
            None,
            file.consistency_delay,
            "30m",
            span,
        )?),
        ..AttachConfig::new(reading)
    };
    let look_every = setting("objstore.adopt.look_every", None, file.look_every, "5m", some_span)?;
    match (enabled, has_bucket) {
        (false, _) => Ok(None),
        (true, true) => Ok(Some(AdoptSettings { look_every, config })),
        (true, false) => {
            let message = "there is no bucket: objstore.config-file is not given".to_owned();
            Err(ConfigError::Value { key: KEY, value: "true".to_owned(), message })
        }
    }
}
