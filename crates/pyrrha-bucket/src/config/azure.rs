//! Azure Blob Storage.

use std::sync::Arc;

use object_store::ObjectStore;
use object_store::azure::MicrosoftAzureBuilder;
use serde::Deserialize;

use super::http::{HttpConfig, retries};
use super::{ConfigError, StoreConfig, required};

/// Where accounts are unless the configuration says otherwise.
const ENDPOINT: &str = "blob.core.windows.net";

/// `type: AZURE`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct AzureConfig {
    storage_account: String,
    storage_account_key: String,
    storage_connection_string: String,
    container: String,
    /// Domain of accounts.
    endpoint: String,
    az_tenant_id: String,
    client_id: String,
    client_secret: String,
    user_assigned_id: String,
    http_config: HttpConfig,
    storage_create_container: bool,
    #[allow(dead_code, reason = "retries are ours to choose")]
    max_retries: u32,
    #[allow(dead_code, reason = "retries are ours to choose")]
    reader_config: ReaderConfig,
    #[allow(dead_code, reason = "retries are ours to choose")]
    pipeline_config: PipelineConfig,
}

/// `reader_config`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(dead_code, reason = "retries are ours to choose")]
struct ReaderConfig {
    max_retry_requests: u32,
}

/// `pipeline_config`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(dead_code, reason = "retries are ours to choose")]
struct PipelineConfig {
    max_tries: u32,
    try_timeout: String,
    retry_delay: String,
    max_retry_delay: String,
}

impl StoreConfig for AzureConfig {
    fn texts(&mut self) -> Vec<(&'static str, &mut String)> {
        let mut texts = vec![
            ("config.storage_account", &mut self.storage_account),
            ("config.storage_account_key", &mut self.storage_account_key),
            ("config.storage_connection_string", &mut self.storage_connection_string),
            ("config.container", &mut self.container),
            ("config.endpoint", &mut self.endpoint),
            ("config.az_tenant_id", &mut self.az_tenant_id),
            ("config.client_id", &mut self.client_id),
            ("config.client_secret", &mut self.client_secret),
            ("config.user_assigned_id", &mut self.user_assigned_id),
        ];
        texts.extend(self.http_config.texts());
        texts
    }

    fn open(mut self) -> Result<(Arc<dyn ObjectStore>, String), ConfigError> {
        required("config.container", &self.container)?;
        if self.storage_create_container {
            let message = "is not supported; create the container first".to_owned();
            return Err(ConfigError::Value { key: "config.storage_create_container", message });
        }
        self.apply_connection_string()?;
        required("config.storage_account", &self.storage_account)?;
        let domain = if self.endpoint.is_empty() { ENDPOINT } else { &self.endpoint };
        let mut builder = MicrosoftAzureBuilder::from_env()
            .with_account(&self.storage_account)
            .with_container_name(&self.container)
            .with_endpoint(format!("https://{}.{domain}", self.storage_account))
            .with_client_options(self.http_config.client(false)?)
            .with_retry(retries());
        if !self.storage_account_key.is_empty() {
            builder = builder.with_access_key(&self.storage_account_key);
        } else if !self.client_secret.is_empty() {
            builder = builder.with_client_secret_authorization(
                &self.client_id,
                &self.client_secret,
                &self.az_tenant_id,
            );
        } else if !self.user_assigned_id.is_empty() {
            builder = builder.with_client_id(&self.user_assigned_id);
        }
        let name = format!("azure://{}/{}", self.storage_account, self.container);
        Ok((Arc::new(builder.build()?), name))
    }
}

impl AzureConfig {
    /// `AccountName=...;AccountKey=...;EndpointSuffix=...`
    fn apply_connection_string(&mut self) -> Result<(), ConfigError> {
        const KEY: &str = "config.storage_connection_string";
        let text = std::mem::take(&mut self.storage_connection_string);
        for part in text.split(';').filter(|part| !part.is_empty()) {
            let Some((name, value)) = part.split_once('=') else {
                return Err(ConfigError::Value { key: KEY, message: "must be name=value;...".to_owned() });
            };
            match name {
                "AccountName" => self.storage_account = value.to_owned(),
                "AccountKey" => self.storage_account_key = value.to_owned(),
                "EndpointSuffix" => self.endpoint = format!("blob.{value}"),
                "DefaultEndpointsProtocol" if value == "https" => {}
                other => {
                    let message = format!("part is not supported: {other}");
                    return Err(ConfigError::Value { key: KEY, message });
                }
            }
        }
        Ok(())
    }
}
