//! Cross-origin headers, as Prometheus sets them.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use pyrrha_model::go_regex::GoRegex;

/// Which origins browsers may call from.
#[derive(Debug)]
pub(crate) struct CorsPolicy {
    /// `None`: any origin.
    allowed: Option<GoRegex>,
}

impl CorsPolicy {
    /// From the setting's regular expression; the error says what is wrong with it.
    pub(crate) fn new(regex: &str) -> Result<Self, String> {
        let allowed = match regex {
            ".*" => None,
            regex => Some(GoRegex::anchored(regex).map_err(|e| e.to_string())?),
        };
        Ok(Self { allowed })
    }

    fn apply(&self, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
        let Some(origin) = origin else { return };
        let echoed = match &self.allowed {
            None => HeaderValue::from_static("*"),
            Some(regex) if origin.to_str().is_ok_and(|o| regex.is_match(o)) => origin.clone(),
            Some(_) => return,
        };
        // Beside Prometheus' the headers that name a tenant, and the method that cancels a query.
        const HEADERS: &str = "Accept, Authorization, Content-Type, Origin, X-Scope-OrgID, THANOS-TENANT";
        for (name, value) in [
            (header::ACCESS_CONTROL_ALLOW_HEADERS, HEADERS),
            (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, DELETE, OPTIONS"),
            (header::ACCESS_CONTROL_EXPOSE_HEADERS, "Date"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, echoed);
    }
}

/// Middleware: answers `OPTIONS`, and sets the headers on every answer of the API.
pub(crate) async fn layer(
    State(policy): State<std::sync::Arc<CorsPolicy>>,
    request: Request,
    next: Next,
) -> Response {
    let origin = request.headers().get(header::ORIGIN).cloned();
    let mut response = if request.method() == Method::OPTIONS {
        StatusCode::NO_CONTENT.into_response()
    } else {
        next.run(request).await
    };
    policy.apply(origin.as_ref(), response.headers_mut());
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(regex: &str, origin: &'static str) -> Option<String> {
        let mut headers = HeaderMap::new();
        CorsPolicy::new(regex)
            .expect("a valid regex")
            .apply(Some(&HeaderValue::from_static(origin)), &mut headers);
        headers.get("access-control-allow-origin").map(|v| v.to_str().unwrap_or("").to_owned())
    }

    #[test]
    fn an_origin_is_echoed_only_if_it_matches() {
        assert_eq!(allowed(".*", "https://a.org"), Some("*".into()));
        assert_eq!(allowed("https://(a|b)\\.org", "https://b.org"), Some("https://b.org".into()));
        assert_eq!(allowed("https://a\\.org", "https://a.org.evil.example"), None);
        assert!(CorsPolicy::new("(").is_err());
    }
}
