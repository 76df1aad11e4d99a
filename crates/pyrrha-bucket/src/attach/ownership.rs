//! Whose the blocks of a flat bucket are, by their external labels (decision 19).

use std::collections::BTreeMap;

use pyrrha_model::{ErrorKind, MatchOp, Matcher, TenantId};

/// Why a rule was refused.
#[derive(Debug, thiserror::Error)]
#[error("bad rule for tenants: label={label} value={value}: {message}")]
pub struct OwnershipError {
    label: String,
    value: String,
    message: String,
}

impl OwnershipError {
    /// What the caller should do next.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}

/// Blocks whose external labels match are a tenant's.
#[derive(Debug, Clone)]
pub struct TenantRule {
    matchers: Vec<Matcher>,
    tenant: TenantId,
}

impl TenantRule {
    /// Blocks belong to `tenant` if the value of each of these labels matches its regular expression
    /// wholly; a label that a block lacks is empty.
    pub fn new(labels: &BTreeMap<String, String>, tenant: TenantId) -> Result<Self, OwnershipError> {
        let matcher = |(label, value): (&String, &String)| {
            Matcher::new(MatchOp::Regex, label.clone(), value.clone()).map_err(|e| OwnershipError {
                label: label.clone(),
                value: value.clone(),
                message: e.to_string(),
            })
        };
        Ok(Self { matchers: labels.iter().map(matcher).collect::<Result<_, _>>()?, tenant })
    }
}

/// Maps external labels to tenants: the first rule that matches, else the value of a label, else one
/// tenant.
#[derive(Debug, Clone)]
pub struct TenantRules {
    /// Looked at in order.
    pub rules: Vec<TenantRule>,
    /// The label whose value is the tenant, for blocks that have it. It is not injected into series.
    pub label: Option<String>,
    /// Whose the others are.
    pub otherwise: TenantId,
}

impl Default for TenantRules {
    fn default() -> Self {
        Self { rules: Vec::new(), label: None, otherwise: TenantId::anonymous() }
    }
}

impl TenantRules {
    /// Whose a block with these external labels is; `None` if the label's value is no tenant's id.
    pub(super) fn tenant(&self, labels: &BTreeMap<String, String>) -> Option<TenantId> {
        let value = |name: &str| labels.get(name).map_or("", String::as_str);
        let holds = |rule: &&TenantRule| rule.matchers.iter().all(|m| m.matches(value(&m.name)));
        if let Some(rule) = self.rules.iter().find(holds) {
            return Some(rule.tenant.clone());
        }
        match self.label.as_ref().map(|label| value(label)) {
            Some(id) if !id.is_empty() => TenantId::new(id).ok(),
            _ => Some(self.otherwise.clone()),
        }
    }
}
