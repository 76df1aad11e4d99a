//! Limits and features by tenant.

use std::collections::BTreeMap;
use std::time::Duration;

use pyrrha_model::TenantId;
use pyrrha_model::time::parse_duration;
use pyrrha_promql::Features;
use serde::Deserialize;

use super::ConfigError;
use super::size::{YamlBytes, parse_bytes};
use crate::features::FeatureSet;

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
    out_of_order_window: Option<String>,
}

/// What a tenant may do, where it differs from everybody.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TenantLimits {
    /// Parts of PromQL that are switched on.
    pub features: Option<Features>,
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
    /// How far behind the tenant's newest sample an out-of-order sample may lie, ms.
    pub out_of_order_window_ms: Option<i64>,
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
            let bytes = |size: Option<YamlBytes>| {
                let text = size.map(YamlBytes::into_text);
                text.map(|text| parse_bytes(&text).map_err(|e| bad(&text, e))).transpose()
            };
            let timeout = limits.query_timeout.map(|text| match parse_duration(&text) {
                Ok(ms) if ms > 0 => Ok(Duration::from_millis(ms.unsigned_abs())),
                Ok(_) => Err(bad(&text, "must be more than zero".into())),
                Err(e) => Err(bad(&text, e.to_string())),
            });
            let retention = limits.retention.map(|text| match parse_duration(&text) {
                Ok(ms) => Ok(Duration::from_millis(ms.unsigned_abs())),
                Err(e) => Err(bad(&text, e.to_string())),
            });
            let window = limits.out_of_order_window.map(|text| match parse_duration(&text) {
                Ok(ms) if ms >= 0 => Ok(ms),
                Ok(_) => Err(bad(&text, "must not be negative".into())),
                Err(e) => Err(bad(&text, e.to_string())),
            });
            let limits = TenantLimits {
                features: limits.features.map(|names| features(&tenant, &names)),
                query_max_samples: limits.query_max_samples,
                query_timeout: timeout.transpose()?,
                query_memory_budget: bytes(limits.query_memory_budget)?,
                memory_budget: bytes(limits.memory_budget)?,
                retention: retention.transpose()?,
                out_of_order_window_ms: window.transpose()?,
            };
            Ok((id, limits))
        })
        .collect()
}

fn features(tenant: &str, names: &[String]) -> Features {
    let (set, unknown) = FeatureSet::from_names(names.iter().map(String::as_str));
    for name in unknown {
        tracing::warn!(name, tenant, "unknown feature");
    }
    set.promql
}
