//! Whose data a request speaks of: `X-Scope-OrgID` or `THANOS-TENANT`, else `anonymous`.

use axum::http::HeaderMap;
use pyrrha_model::TenantId;

/// Headers that name the tenant, the first one first.
pub(crate) const HEADERS: [&str; 2] = ["x-scope-orgid", "thanos-tenant"];

/// The tenant of a request, or why its header was refused.
pub(crate) fn of(headers: &HeaderMap) -> Result<TenantId, String> {
    for name in HEADERS {
        let Some(value) = headers.get(name) else { continue };
        let Ok(id) = std::str::from_utf8(value.as_bytes()) else {
            return Err(format!("tenant ID in header {name} is not valid UTF-8"));
        };
        if id.is_empty() {
            continue;
        }
        return TenantId::new(id).map_err(|e| e.to_string());
    }
    Ok(TenantId::anonymous())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn the_first_header_that_names_one_counts() {
        let mut headers = HeaderMap::new();
        assert_eq!(of(&headers), Ok(TenantId::anonymous()));
        headers.insert("thanos-tenant", HeaderValue::from_static("b"));
        assert_eq!(of(&headers).map(|t| t.to_string()), Ok("b".into()));
        headers.insert("x-scope-orgid", HeaderValue::from_static("a"));
        assert_eq!(of(&headers).map(|t| t.to_string()), Ok("a".into()));
        headers.insert("x-scope-orgid", HeaderValue::from_static("../a"));
        assert!(of(&headers).is_err());
    }
}
