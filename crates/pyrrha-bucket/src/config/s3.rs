//! S3 and what speaks like it.

use std::collections::BTreeMap;
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};
use serde::Deserialize;

use super::http::{HttpConfig, retries};
use super::{ConfigError, StoreConfig, required};

/// `type: S3`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct S3Config {
    bucket: String,
    endpoint: String,
    region: String,
    access_key: String,
    secret_key: String,
    session_token: String,
    /// Plain HTTP.
    insecure: bool,
    /// `auto`, `virtual-hosted` or `path`.
    bucket_lookup_type: String,
    signature_version2: bool,
    sse_config: SseConfig,
    http_config: HttpConfig,
    #[allow(dead_code, reason = "without keys the environment and the instance are asked in any case")]
    aws_sdk_auth: bool,
    #[allow(dead_code, reason = "the endpoint says it")]
    disable_dualstack: bool,
    #[allow(dead_code, reason = "readers do not need it")]
    put_user_metadata: BTreeMap<String, String>,
    #[allow(dead_code, reason = "requests are traced by our own log")]
    trace: Trace,
    #[allow(dead_code, reason = "every store of today speaks version 2")]
    list_objects_version: String,
    #[allow(dead_code, reason = "integrity is TLS' and our checksums'")]
    send_content_md5: bool,
    #[allow(dead_code, reason = "parts are ours to choose")]
    disable_multipart: bool,
    #[allow(dead_code, reason = "parts are ours to choose")]
    part_size: u64,
    sts_endpoint: String,
    #[allow(dead_code, reason = "retries are ours to choose")]
    max_retries: u32,
}

/// `trace`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Trace {
    #[allow(dead_code, reason = "requests are traced by our own log")]
    enable: bool,
}

/// `sse_config`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct SseConfig {
    r#type: String,
    kms_key_id: String,
    kms_encryption_context: BTreeMap<String, String>,
    #[allow(dead_code, reason = "SSE-C, which is refused by its type")]
    encryption_key: String,
}

impl StoreConfig for S3Config {
    fn texts(&mut self) -> Vec<(&'static str, &mut String)> {
        let mut texts = vec![
            ("config.bucket", &mut self.bucket),
            ("config.endpoint", &mut self.endpoint),
            ("config.region", &mut self.region),
            ("config.access_key", &mut self.access_key),
            ("config.secret_key", &mut self.secret_key),
            ("config.session_token", &mut self.session_token),
            ("config.sse_config.kms_key_id", &mut self.sse_config.kms_key_id),
        ];
        texts.extend(self.http_config.texts());
        texts
    }

    fn open(self) -> Result<(Arc<dyn ObjectStore>, String), ConfigError> {
        required("config.bucket", &self.bucket)?;
        required("config.endpoint", &self.endpoint)?;
        self.check_supported()?;
        let host = self.endpoint.trim_end_matches('/');
        if host.contains("://") {
            let message = "must be a host without http://; `insecure: true` says plain HTTP".to_owned();
            return Err(ConfigError::Value { key: "config.endpoint", message });
        }
        let scheme = if self.insecure { "http" } else { "https" };
        let virtual_hosted = self.is_virtual_hosted()?;
        let endpoint = match virtual_hosted {
            true => format!("{scheme}://{}.{host}", self.bucket),
            false => format!("{scheme}://{host}"),
        };
        let builder = self
            .credentials()
            .with_bucket_name(&self.bucket)
            .with_region(self.region_or_guess())
            .with_endpoint(endpoint)
            .with_virtual_hosted_style_request(virtual_hosted)
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            .with_client_options(self.http_config.client(self.insecure)?)
            .with_retry(retries());
        let builder = self.encrypted(builder);
        Ok((Arc::new(builder.build()?), format!("s3://{}", self.bucket)))
    }
}

impl S3Config {
    fn check_supported(&self) -> Result<(), ConfigError> {
        let refuse = |key, message: &str| Err(ConfigError::Value { key, message: message.to_owned() });
        if self.signature_version2 {
            return refuse("config.signature_version2", "only version 4 is supported");
        }
        if !self.sts_endpoint.is_empty() {
            return refuse("config.sts_endpoint", "is not supported; set AWS_ENDPOINT_URL_STS");
        }
        if self.access_key.is_empty() != self.secret_key.is_empty() {
            return refuse("config.secret_key", "access_key and secret_key go together");
        }
        match self.sse_config.r#type.as_str() {
            "" | "SSE-S3" => Ok(()),
            "SSE-KMS" if self.sse_config.kms_encryption_context.is_empty() => {
                required("config.sse_config.kms_key_id", &self.sse_config.kms_key_id)
            }
            "SSE-KMS" => refuse("config.sse_config.kms_encryption_context", "is not supported"),
            _ => refuse("config.sse_config.type", "must be SSE-S3 or SSE-KMS"),
        }
    }

    /// The keys that are given, else what environment and instance offer. Of keys that are given
    /// nothing is mixed with those of the environment.
    fn credentials(&self) -> AmazonS3Builder {
        if self.access_key.is_empty() {
            return AmazonS3Builder::from_env();
        }
        let builder = AmazonS3Builder::new()
            .with_access_key_id(&self.access_key)
            .with_secret_access_key(&self.secret_key);
        if self.session_token.is_empty() { builder } else { builder.with_token(&self.session_token) }
    }

    fn encrypted(&self, builder: AmazonS3Builder) -> AmazonS3Builder {
        match self.sse_config.r#type.as_str() {
            "SSE-S3" => match "aws_server_side_encryption".parse::<AmazonS3ConfigKey>() {
                Ok(key) => builder.with_config(key, "AES256"),
                Err(_) => builder,
            },
            "SSE-KMS" => builder.with_sse_kms_encryption(&self.sse_config.kms_key_id),
            _ => builder,
        }
    }

    /// Whether the bucket's name is part of the host.
    fn is_virtual_hosted(&self) -> Result<bool, ConfigError> {
        match self.bucket_lookup_type.as_str() {
            "virtual-hosted" => Ok(true),
            "path" => Ok(false),
            // A name with dots has no certificate.
            "" | "auto" => Ok(self.endpoint.ends_with(".amazonaws.com") && !self.bucket.contains('.')),
            other => {
                let message = format!("must be auto, virtual-hosted or path, not {other:?}");
                Err(ConfigError::Value { key: "config.bucket_lookup_type", message })
            }
        }
    }

    /// The region, or what an endpoint of AWS says it is.
    fn region_or_guess(&self) -> String {
        if !self.region.is_empty() {
            return self.region.clone();
        }
        let parts: Vec<&str> = self.endpoint.split('.').collect();
        let guess = match parts.as_slice() {
            ["s3", "dualstack", region, "amazonaws", "com"] | ["s3", region, "amazonaws", "com"] => region,
            _ => "us-east-1",
        };
        guess.to_owned()
    }
}
