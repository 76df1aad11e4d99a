//! How stores are reached over HTTP: time limits, TLS, retries.

use std::sync::Once;
use std::time::Duration;

use object_store::{BackoffConfig, Certificate, ClientOptions, RetryConfig};
use pyrrha_model::time::parse_duration;
use serde::Deserialize;

use super::ConfigError;

/// `http_config`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct HttpConfig {
    pub(super) idle_conn_timeout: String,
    response_header_timeout: String,
    pub(super) insecure_skip_verify: bool,
    #[allow(dead_code, reason = "the client bounds the whole connect")]
    tls_handshake_timeout: String,
    #[allow(dead_code, reason = "the client sends no Expect header")]
    expect_continue_timeout: String,
    #[allow(dead_code, reason = "bounded per host")]
    max_idle_conns: u32,
    max_idle_conns_per_host: u32,
    #[allow(dead_code, reason = "requests are bounded, not connections")]
    max_conns_per_host: u32,
    #[allow(dead_code, reason = "nothing is compressed")]
    disable_compression: bool,
    pub(super) tls_config: TlsConfig,
}

/// `tls_config`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct TlsConfig {
    pub(super) ca_file: String,
    cert_file: String,
    key_file: String,
    server_name: String,
    insecure_skip_verify: bool,
}

impl HttpConfig {
    pub(super) fn texts(&mut self) -> Vec<(&'static str, &mut String)> {
        vec![
            ("config.http_config.tls_config.ca_file", &mut self.tls_config.ca_file),
            ("config.http_config.tls_config.cert_file", &mut self.tls_config.cert_file),
            ("config.http_config.tls_config.key_file", &mut self.tls_config.key_file),
        ]
    }

    /// Options of the client. Time limits that are absent are ours.
    pub(super) fn client(&self, insecure: bool) -> Result<ClientOptions, ConfigError> {
        use_ring();
        let tls = &self.tls_config;
        for (key, value) in [
            ("config.http_config.tls_config.cert_file", &tls.cert_file),
            ("config.http_config.tls_config.key_file", &tls.key_file),
            ("config.http_config.tls_config.server_name", &tls.server_name),
        ] {
            if !value.is_empty() {
                return Err(ConfigError::Value { key, message: "is not supported".to_owned() });
            }
        }
        let skip = self.insecure_skip_verify || tls.insecure_skip_verify;
        let mut options = ClientOptions::new()
            .with_allow_http(insecure)
            .with_allow_invalid_certificates(skip)
            .with_connect_timeout(Duration::from_secs(10))
            .with_timeout(Duration::from_secs(120));
        if let Some(idle) = duration("config.http_config.idle_conn_timeout", &self.idle_conn_timeout)? {
            options = options.with_pool_idle_timeout(idle);
        }
        if let Some(limit) =
            duration("config.http_config.response_header_timeout", &self.response_header_timeout)?
        {
            options = options.with_read_timeout(limit);
        }
        if self.max_idle_conns_per_host > 0 {
            options = options.with_pool_max_idle_per_host(self.max_idle_conns_per_host as usize);
        }
        if !tls.ca_file.is_empty() {
            let pem = std::fs::read(&tls.ca_file)
                .map_err(|source| ConfigError::Read { path: tls.ca_file.clone().into(), source })?;
            for certificate in Certificate::from_pem_bundle(&pem)? {
                options = options.with_root_certificate(certificate);
            }
        }
        Ok(options)
    }
}

fn duration(key: &'static str, text: &str) -> Result<Option<Duration>, ConfigError> {
    // Go writes "1m30s", "500ms" and "0s" as Prometheus does.
    match text {
        "" | "0" | "0s" => Ok(None),
        text => match parse_duration(text) {
            Ok(ms) => Ok(Some(Duration::from_millis(ms.unsigned_abs()))),
            Err(error) => Err(ConfigError::Value { key, message: error.to_string() }),
        },
    }
}

/// Retries inside the client, which repair single requests of a large upload. All others are
/// retried by the door as well, which counts them.
pub(super) fn retries() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(2),
            base: 2.0,
        },
        max_retries: 2,
        retry_timeout: Duration::from_secs(45),
    }
}

/// TLS is done by ring; a program has to say so once, before its first client, and where it has chosen
/// another that stays.
pub fn use_ring() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}
