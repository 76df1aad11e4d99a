//! Buckets of Thanos, Mimir and Cortex that are read beside the store.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use pyrrha_bucket::attach::{AttachConfig, BucketLayout, TenantRule, TenantRules};
use pyrrha_model::TenantId;
use serde::Deserialize;

use super::ConfigError;
use super::value::span;

const KEY: &str = "attach";

/// Flags of attached buckets, for those that need no more than that.
#[derive(Debug, Default, Args)]
pub struct AttachFlags {
    /// Thanos' objstore.yml of a bucket of Thanos, Mimir or Cortex that queries read in place and nothing
    /// writes to; may be repeated.
    #[arg(
        id = "attach-buckets",
        long = "attach.bucket",
        env = "PYRRHA_ATTACH_BUCKET",
        value_name = "FILE",
        value_delimiter = ','
    )]
    pub buckets: Vec<PathBuf>,
    /// Label that tells replicas of a series apart in these buckets: they become one; may be repeated.
    #[arg(
        id = "attach-replica-labels",
        long = "attach.replica-label",
        env = "PYRRHA_ATTACH_REPLICA_LABEL",
        value_name = "NAME",
        value_delimiter = ',',
        requires = "attach-buckets"
    )]
    pub replica_labels: Vec<String>,
    /// External label whose value is the tenant of a block [default: all are those of "anonymous"].
    #[arg(
        id = "attach-tenant-label",
        long = "attach.tenant-label",
        env = "PYRRHA_ATTACH_TENANT_LABEL",
        value_name = "NAME",
        requires = "attach-buckets"
    )]
    pub tenant_label: Option<String>,
}

/// An entry of the file's list.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct AttachFile {
    objstore_file: PathBuf,
    layout: Layout,
    replica_labels: Vec<String>,
    tenant: Option<String>,
    tenant_label: Option<String>,
    tenants: Vec<RuleFile>,
    consistency_delay: Option<String>,
    ignore_deletion_marks_delay: Option<String>,
    index_max_age: Option<String>,
    look_every: Option<String>,
}

/// How blocks lie in a bucket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Layout {
    /// As the bucket looks.
    #[default]
    Auto,
    /// At the root, told apart by external labels.
    Thanos,
    /// A directory per tenant.
    Mimir,
}

impl From<Layout> for BucketLayout {
    fn from(layout: Layout) -> Self {
        match layout {
            Layout::Auto => Self::Auto,
            Layout::Thanos => Self::Flat,
            Layout::Mimir => Self::Tenants,
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RuleFile {
    labels: BTreeMap<String, String>,
    tenant: String,
}

/// A bucket of somebody else, and how it is read.
#[derive(Debug, Clone)]
pub struct AttachedBucketSetting {
    /// The file that says where it is.
    pub objstore_file: PathBuf,
    /// Time between two looks at it.
    pub look_every: Duration,
    layout: BucketLayout,
    tenants: TenantRules,
    replica_labels: Vec<String>,
    consistency_delay: Option<Duration>,
    ignore_deletion_marks_delay: Option<Duration>,
    index_max_age: Option<Duration>,
}

impl AttachedBucketSetting {
    /// The settings for whoever reads it.
    pub(crate) fn config(&self, reading: pyrrha_bucket::GatewayConfig) -> AttachConfig {
        AttachConfig {
            layout: self.layout,
            tenants: self.tenants.clone(),
            replica_labels: self.replica_labels.clone(),
            consistency_delay: self.consistency_delay,
            ignore_deletion_marks_delay: self.ignore_deletion_marks_delay,
            index_max_age: self.index_max_age,
            ..AttachConfig::new(reading)
        }
    }
}

impl std::fmt::Display for AttachedBucketSetting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.objstore_file.display().fmt(f)
    }
}

/// What is read beside the store, as flags.
pub(super) fn as_flags(buckets: &[AttachedBucketSetting]) -> Vec<(&'static str, String)> {
    let all = |of: &dyn Fn(&AttachedBucketSetting) -> Vec<String>| {
        buckets.iter().flat_map(of).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(",")
    };
    vec![
        ("attach.bucket", all(&|bucket| vec![bucket.to_string()])),
        ("attach.replica-label", all(&|bucket| bucket.replica_labels.clone())),
        ("attach.tenant-label", all(&|bucket| bucket.tenants.label.iter().cloned().collect())),
    ]
}

/// Reads the settings of the flags, or else of the file.
pub(super) fn resolve(
    flags: AttachFlags,
    file: Vec<AttachFile>,
) -> Result<Vec<AttachedBucketSetting>, ConfigError> {
    let entry = |bucket: PathBuf| AttachFile {
        objstore_file: bucket,
        replica_labels: flags.replica_labels.clone(),
        tenant_label: flags.tenant_label.clone(),
        ..AttachFile::default()
    };
    let entries =
        if flags.buckets.is_empty() { file } else { flags.buckets.iter().cloned().map(entry).collect() };
    entries.into_iter().map(read).collect()
}

fn read(entry: AttachFile) -> Result<AttachedBucketSetting, ConfigError> {
    let fail = |key: &str, value: &str, message: String| ConfigError::Value {
        key: KEY,
        value: format!("{key}: {value}"),
        message,
    };
    if entry.objstore_file.as_os_str().is_empty() {
        return Err(fail("objstore_file", "", "must name a file".to_owned()));
    }
    let time = |key: &str, text: Option<String>| {
        text.map(|text| span(&text).map_err(|e| fail(key, &text, e))).transpose()
    };
    Ok(AttachedBucketSetting {
        objstore_file: entry.objstore_file,
        look_every: time("look_every", entry.look_every)?
            .unwrap_or(Duration::from_secs(300))
            .max(Duration::from_secs(1)),
        layout: entry.layout.into(),
        tenants: owners(KEY, entry.tenants, entry.tenant_label, entry.tenant)?,
        replica_labels: entry.replica_labels,
        consistency_delay: time("consistency_delay", entry.consistency_delay)?,
        ignore_deletion_marks_delay: time("ignore_deletion_marks_delay", entry.ignore_deletion_marks_delay)?,
        index_max_age: time("index_max_age", entry.index_max_age)?,
    })
}

/// Whose the blocks of a bucket of Thanos are, as a list of `key` says.
pub(super) fn owners(
    key: &'static str,
    rules: Vec<RuleFile>,
    label: Option<String>,
    otherwise: Option<String>,
) -> Result<TenantRules, ConfigError> {
    let fail = |of: &str, value: &str, message: String| ConfigError::Value {
        key,
        value: format!("{of}: {value}"),
        message,
    };
    let tenant = |of: &str, id: &str| TenantId::new(id).map_err(|e| fail(of, id, e.to_string()));
    let rule = |rule: RuleFile| {
        let owner = tenant("tenants", &rule.tenant)?;
        TenantRule::new(&rule.labels, owner).map_err(|e| fail("tenants", &rule.tenant, e.to_string()))
    };
    Ok(TenantRules {
        rules: rules.into_iter().map(rule).collect::<Result<_, _>>()?,
        label,
        otherwise: otherwise.map_or_else(|| Ok(TenantId::anonymous()), |id| tenant("tenant", &id))?,
    })
}
