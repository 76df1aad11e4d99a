//! Requests to a server, one after another over one connection.

use std::time::Duration;

use reqwest::Url;
use reqwest::header::{CONTENT_TYPE, USER_AGENT};
use serde_json::Value;
use tokio::runtime::Runtime;

/// Largest answer that is read.
const ANSWER_MAX: usize = 1 << 30;
/// Time to get a connection.
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// A server's address, and the connection to it.
#[derive(Debug)]
pub(in crate::cli) struct Client {
    /// Ends with a slash.
    base: Url,
    tenant: Option<String>,
    http: reqwest::Client,
    runtime: Runtime,
}

impl Client {
    /// A client of the server at `url`: http or https, with `user:password@` where it asks for them.
    pub(in crate::cli) fn new(url: &str, tenant: Option<&str>) -> Result<Self, String> {
        let bad = |what: &dyn std::fmt::Display| format!("bad url: url={url:?}: {what}");
        let mut base: Url = url.parse().map_err(|e| bad(&e))?;
        if !matches!(base.scheme(), "http" | "https") || !base.has_host() {
            return Err(bad(&"expected http://host:port"));
        }
        base.set_path(&format!("{}/", base.path().trim_end_matches('/')));
        let start = |error: &dyn std::fmt::Display| format!("cannot start: {error}");
        pyrrha_bucket::config::use_ring();
        let http = reqwest::Client::builder().connect_timeout(CONNECT_MAX).build().map_err(|e| start(&e))?;
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| start(&e))?;
        Ok(Self { base, tenant: tenant.map(str::to_owned), http, runtime })
    }

    /// Posts a form to a path such as `api/v1/query`; the answer is JSON, whatever its status.
    pub(in crate::cli) fn post(&self, path: &str, form: &[(&str, String)]) -> Result<Value, String> {
        let (status, body) = self.runtime.block_on(self.exchange(path, encode(form)))?;
        serde_json::from_slice(&body).map_err(|_| {
            let text = String::from_utf8_lossy(&body[..body.len().min(200)]).trim().to_owned();
            format!("no answer of a Prometheus API: url={} status={status}: {text}", self.shown())
        })
    }

    async fn exchange(&self, path: &str, form: String) -> Result<(u16, Vec<u8>), String> {
        let url = self.base.join(path).map_err(|e| format!("bad path: path={path:?}: {e}"))?;
        let mut request = self
            .http
            .post(url)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(USER_AGENT, concat!("pyrrha/", env!("CARGO_PKG_VERSION")));
        if let Some(tenant) = &self.tenant {
            request = request.header("X-Scope-OrgID", tenant);
        }
        let mut response = request.body(form).send().await.map_err(|error| {
            self.failed(if error.is_connect() { "cannot connect" } else { "no answer" }, error)
        })?;
        let mut body = Vec::new();
        while let Some(piece) =
            response.chunk().await.map_err(|error| self.failed("the answer broke off", error))?
        {
            if body.len() + piece.len() > ANSWER_MAX {
                return Err(format!("the answer is too large: url={} max_bytes={ANSWER_MAX}", self.shown()));
            }
            body.extend_from_slice(&piece);
        }
        Ok((response.status().as_u16(), body))
    }

    /// The address without what is secret in it.
    fn shown(&self) -> Url {
        let mut shown = self.base.clone();
        let _ = shown.set_password(None);
        shown
    }

    /// With the cause that lies deepest, such as "Connection refused".
    fn failed(&self, what: &str, error: reqwest::Error) -> String {
        let error = error.without_url();
        let mut cause: &dyn std::error::Error = &error;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        format!("{what}: url={}: {cause}", self.shown())
    }
}

/// A form as `application/x-www-form-urlencoded`.
fn encode(form: &[(&str, String)]) -> String {
    let mut url = Url::parse("form:").expect("a constant that parses");
    url.query_pairs_mut().extend_pairs(form);
    url.query().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_and_forms() {
        for good in ["http://localhost:9009/prometheus", "https://a", "http://user:secret@a:1/"] {
            assert!(Client::new(good, None).is_ok(), "{good}");
        }
        for bad in ["localhost:9009", "ftp://a", "", "http://"] {
            assert!(Client::new(bad, None).is_err(), "{bad}");
        }
        let client = Client::new("http://user:secret@127.0.0.1:1/prefix", None).expect("a url");
        let refused = client.post("api/v1/query", &[]).expect_err("nobody listens");
        assert!(
            refused.starts_with("cannot connect: url=http://user@127.0.0.1:1/prefix/: Connection refused"),
            "{refused}"
        );
        assert_eq!(encode(&[("query", "a + b".into()), ("x", "ä".into())]), "query=a+%2B+b&x=%C3%A4");
    }
}
