//! How somebody else's blocks lie in a bucket, and whose they are.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use pyrrha_bucket::GatewayConfig;
use pyrrha_bucket::attach::{AttachConfig, TenantRule, TenantRules};
use pyrrha_model::TenantId;

use super::select::parse_tenant;
use crate::config::{Layout, span};

/// Cache of a command that reads blocks, bytes.
const CACHE: usize = 64 << 20;
/// Memory for what is known of opened blocks: each is looked at once.
const HEADERS: usize = 4 << 20;

/// What others' buckets need to be told about.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct OwnerArgs {
    /// How blocks lie in the bucket.
    #[arg(long, value_enum, default_value = "auto")]
    layout: Layout,
    /// Blocks whose external labels match are this tenant's, as `europe:cluster=eu-.*,env=prod`: regular
    /// expressions for whole values; may be repeated, the first that matches counts.
    #[arg(long, value_name = "TENANT:NAME=REGEX,...", value_parser = parse_rule)]
    tenant_rule: Vec<TenantRule>,
    /// For the others, external label whose value is the tenant. It is not put into series.
    #[arg(long, value_name = "NAME")]
    tenant_label: Option<String>,
    /// Tenant of the rest.
    #[arg(long, value_name = "TENANT", default_value = "anonymous", value_parser = parse_tenant)]
    default_tenant: TenantId,
    /// Blocks that are younger are left for later, unless a compactor made them [default: 30m; mimir: 0s].
    #[arg(long, value_name = "DURATION", value_parser = span)]
    consistency_delay: Option<Duration>,
}

impl OwnerArgs {
    /// The settings of whoever looks at the bucket. Who reads series needs a place for headers, too.
    pub(in crate::cli) fn config(&self) -> AttachConfig {
        AttachConfig {
            layout: self.layout.into(),
            tenants: TenantRules {
                rules: self.tenant_rule.clone(),
                label: self.tenant_label.clone(),
                otherwise: self.default_tenant.clone(),
            },
            consistency_delay: self.consistency_delay,
            ..AttachConfig::new(GatewayConfig {
                cache_dir: PathBuf::new(),
                cache_bytes: CACHE,
                disk_bytes: 0,
                header_bytes: HEADERS,
            })
        }
    }
}

fn parse_rule(text: &str) -> Result<TenantRule, String> {
    let (tenant, labels) = text.split_once(':').ok_or("must be TENANT:NAME=REGEX,...")?;
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=').ok_or("must be TENANT:NAME=REGEX,...")?;
        Ok((name.to_owned(), value.to_owned()))
    };
    let labels = labels.split(',').map(pair).collect::<Result<BTreeMap<_, _>, String>>()?;
    TenantRule::new(&labels, parse_tenant(tenant)?).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_name_a_tenant_and_labels() {
        assert!(parse_rule("europe:cluster=eu-.*,env=prod").is_ok());
        for bad in ["europe", "europe:cluster", "a/b:c=d", "europe:cluster=("] {
            assert!(parse_rule(bad).is_err(), "{bad}");
        }
    }
}
