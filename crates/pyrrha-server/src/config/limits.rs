//! Limits and features by tenant.

use std::collections::BTreeMap;
use std::time::Duration;

use pyrrha_bucket::MatcherRetention;
use pyrrha_model::TenantId;
use pyrrha_promql::Features;
use serde::Deserialize;

use super::ConfigError;
use super::matcher_retention::rule;
use super::size::{YamlBytes, parse_bytes};
use super::value::{milliseconds, some_span, span};
use crate::features::{self, FeatureSet};

const KEY: &str = "limits";

/// The file's keys of one tenant; what is missing is as for everybody.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct LimitsFile {
    features: Option<Vec<String>>,
    query_max_samples: Option<usize>,
    query_timeout: Option<String>,
    query_memory_budget: Option<YamlBytes>,
    memory_budget: Option<YamlBytes>,
    retention: Option<String>,
    bucket_retention: Option<String>,
    bucket_retention_matchers: Option<Vec<String>>,
    out_of_order_window: Option<String>,
    dense: Option<bool>,
}

/// What a tenant may do, where it differs from everybody.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TenantLimits {
    /// Parts of PromQL that are switched on.
    pub features: Option<Features>,
    /// Names of features that nobody knows.
    pub unknown_features: Vec<String>,
    /// Samples that a query may hold.
    pub query_max_samples: Option<usize>,
    /// Deadline of a query.
    pub query_timeout: Option<Duration>,
    /// Memory of one query, bytes.
    pub query_memory_budget: Option<usize>,
    /// Memory of all queries of the tenant, bytes.
    pub memory_budget: Option<usize>,
    /// How long samples are kept; zero: for ever.
    pub retention: Option<Duration>,
    /// How long blocks of any resolution stay in the bucket; zero: for ever.
    pub bucket_retention: Option<Duration>,
    /// Series that stay shorter in the bucket, instead of those that do for everybody.
    pub bucket_retention_matchers: Option<Vec<MatcherRetention>>,
    /// How far behind the tenant's newest sample an out-of-order sample may lie, ms.
    pub out_of_order_window_ms: Option<i64>,
    /// Whether blocks are written in the layout that only Pyrrha reads.
    pub dense: Option<bool>,
}

/// Checks the file's limits.
pub(super) fn resolve(
    file: BTreeMap<String, LimitsFile>,
) -> Result<BTreeMap<TenantId, TenantLimits>, ConfigError> {
    file.into_iter()
        .map(|(tenant, limits)| {
            let bad = |value: &str, message: String| ConfigError::Value {
                key: KEY,
                value: format!("{tenant}: {value}"),
                message,
            };
            let id = TenantId::new(&tenant).map_err(|e| bad("", e.to_string()))?;
            let (features, unknown_features) = match limits.features {
                Some(names) => features(&names).map_err(|e| bad(&names.join(","), e))?,
                None => (None, Vec::new()),
            };
            let bytes = |size: Option<YamlBytes>| checked(size, parse_bytes, &bad);
            let limits = TenantLimits {
                features,
                unknown_features,
                query_max_samples: limits.query_max_samples,
                query_timeout: checked(limits.query_timeout, some_span, &bad)?,
                query_memory_budget: bytes(limits.query_memory_budget)?,
                memory_budget: bytes(limits.memory_budget)?,
                retention: checked(limits.retention, span, &bad)?,
                bucket_retention: checked(limits.bucket_retention, span, &bad)?,
                bucket_retention_matchers: limits
                    .bucket_retention_matchers
                    .map(|rules| rules.iter().map(|text| rule(text).map_err(|e| bad(text, e))).collect())
                    .transpose()?,
                out_of_order_window_ms: checked(limits.out_of_order_window, milliseconds, &bad)?,
                dense: limits.dense,
            };
            Ok((id, limits))
        })
        .collect()
}

/// What a key's text means, if it is there.
fn checked<T>(
    text: Option<impl Into<String>>,
    parse: impl FnOnce(&str) -> Result<T, String>,
    bad: &impl Fn(&str, String) -> ConfigError,
) -> Result<Option<T>, ConfigError> {
    let text: Option<String> = text.map(Into::into);
    text.map(|text| parse(&text).map_err(|e| bad(&text, e))).transpose()
}

/// What a tenant's names of features switch on, and names that nobody knows.
fn features(names: &[String]) -> Result<(Option<Features>, Vec<String>), String> {
    features::check(names)?;
    let (set, unknown) = FeatureSet::from_names(names.iter().map(String::as_str));
    Ok((Some(set.promql), unknown.into_iter().map(str::to_owned).collect()))
}
