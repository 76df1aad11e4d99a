//! One request to a server.

use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Request, Uri, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// Largest answer that is read.
const ANSWER_MAX: usize = 1 << 30;
/// Time to get a connection.
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// A server's address.
#[derive(Debug)]
pub(in crate::cli) struct Client {
    base: Uri,
    tenant: Option<String>,
}

impl Client {
    /// A client of the server at `url`.
    pub(in crate::cli) fn new(url: &str, tenant: Option<&str>) -> Result<Self, String> {
        let base: Uri = url.parse().map_err(|e| format!("bad url: url={url:?}: {e}"))?;
        if base.scheme_str() != Some("http") || base.host().is_none() {
            return Err(format!("bad url: url={url:?}: expected http://host:port"));
        }
        Ok(Self { base, tenant: tenant.map(str::to_owned) })
    }

    /// Posts a form; the answer is JSON, whatever its status.
    pub(in crate::cli) fn post(&self, path: &str, form: &[(&str, String)]) -> Result<Value, String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| format!("cannot start: {e}"))?;
        let (status, body) = runtime.block_on(self.exchange(path, encode(form)))?;
        serde_json::from_slice(&body).map_err(|_| {
            let text = String::from_utf8_lossy(&body[..body.len().min(200)]).trim().to_owned();
            format!("no answer of a Prometheus API: url={} status={status}: {text}", self.base)
        })
    }

    async fn exchange(&self, path: &str, form: String) -> Result<(u16, Bytes), String> {
        let host = self.base.host().unwrap_or_default();
        let address = format!("{host}:{}", self.base.port_u16().unwrap_or(80));
        let failed =
            |what: &str, error: &dyn std::fmt::Display| format!("{what}: url={}: {error}", self.base);
        let connecting = tokio::time::timeout(CONNECT_MAX, TcpStream::connect(&address)).await;
        let stream = connecting
            .map_err(|e| failed("cannot connect", &e))?
            .map_err(|e| failed("cannot connect", &e))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| failed("cannot connect", &e))?;
        tokio::spawn(connection);
        let prefix = self.base.path().trim_end_matches('/');
        let mut request = Request::post(format!("{prefix}{path}"))
            .header(header::HOST, &address)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::USER_AGENT, concat!("pyrrha/", env!("CARGO_PKG_VERSION")));
        if let Some(tenant) = &self.tenant {
            request = request.header("X-Scope-OrgID", tenant);
        }
        let request =
            request.body(Full::new(Bytes::from(form))).map_err(|e| failed("cannot be asked", &e))?;
        let response = sender.send_request(request).await.map_err(|e| failed("no answer", &e))?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), ANSWER_MAX).collect().await;
        Ok((status, body.map_err(|e| failed("the answer broke off", &e))?.to_bytes()))
    }
}

/// A form as `application/x-www-form-urlencoded`.
fn encode(form: &[(&str, String)]) -> String {
    let escaped = |text: &str| -> String {
        text.bytes()
            .map(|b| match b {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => char::from(b).to_string(),
                b => format!("%{b:02X}"),
            })
            .collect()
    };
    let pairs: Vec<String> = form.iter().map(|(k, v)| format!("{}={}", escaped(k), escaped(v))).collect();
    pairs.join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_and_forms() {
        assert!(Client::new("http://localhost:9009/prometheus", None).is_ok());
        for bad in ["localhost:9009", "ftp://a", "https://a", "", "http://"] {
            assert!(Client::new(bad, None).is_err(), "{bad}");
        }
        assert_eq!(encode(&[("query", "a + b".into()), ("x", "ä".into())]), "query=a%20%2B%20b&x=%C3%A4");
    }
}
