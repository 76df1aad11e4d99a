//! Google Cloud Storage.

use std::sync::Arc;

use object_store::ObjectStore;
use object_store::gcp::GoogleCloudStorageBuilder;
use serde::Deserialize;

use super::http::{HttpConfig, retries};
use super::{ConfigError, StoreConfig, required};

/// `type: GCS`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct GcsConfig {
    bucket: String,
    /// The key of a service account, as JSON.
    service_account: String,
    http_config: HttpConfig,
    #[allow(dead_code, reason = "JSON over HTTP serves as well")]
    use_grpc: bool,
    #[allow(dead_code, reason = "JSON over HTTP serves as well")]
    grpc_conn_pool_size: u32,
    #[allow(dead_code, reason = "parts are ours to choose")]
    chunk_size_bytes: u64,
    #[allow(dead_code, reason = "retries are ours to choose")]
    max_retries: u32,
}

impl StoreConfig for GcsConfig {
    fn texts(&mut self) -> Vec<(&'static str, &mut String)> {
        let mut texts =
            vec![("config.bucket", &mut self.bucket), ("config.service_account", &mut self.service_account)];
        texts.extend(self.http_config.texts());
        texts
    }

    fn open(self) -> Result<(Arc<dyn ObjectStore>, String), ConfigError> {
        required("config.bucket", &self.bucket)?;
        let mut builder = GoogleCloudStorageBuilder::from_env()
            .with_bucket_name(&self.bucket)
            .with_client_options(self.http_config.client(false)?)
            .with_retry(retries());
        if !self.service_account.is_empty() {
            builder = builder.with_service_account_key(&self.service_account);
        }
        Ok((Arc::new(builder.build()?), format!("gs://{}", self.bucket)))
    }
}
