//! Which bucket: Thanos' `objstore.yml` as it is.
//!
//! ```yaml
//! type: S3
//! config:
//!   bucket: metrics
//!   endpoint: s3.eu-central-1.amazonaws.com
//!   access_key: ${S3_ACCESS_KEY}
//!   secret_key: ${S3_SECRET_KEY}
//! prefix: prod
//! ```
//!
//! Keys are those of Thanos' documentation ("Object Storage"); `${NAME}` in a value is the
//! environment variable of that name, as Thanos expands it.

mod azure;
mod filesystem;
mod gcs;
mod http;
mod s3;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use object_store::ObjectStore;
use pyrrha_model::ErrorKind;
use serde::Deserialize;
use serde::de::DeserializeOwned;

pub use http::use_ring;

use crate::door::{Bucket, RetryPolicy};

/// Why a bucket's configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the bucket configuration: file={}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("bad bucket configuration: line={line} column={column}: {message}")]
    Syntax {
        /// Line, from 1.
        line: u64,
        /// Column, from 1.
        column: u64,
        /// What is wrong, with the key.
        message: String,
    },
    /// A value that does not make sense.
    #[error("bad bucket configuration: {key}: {message}")]
    Value {
        /// The key.
        key: &'static str,
        /// What is wrong with it.
        message: String,
    },
    /// A variable that is not set.
    #[error("bad bucket configuration: {key}: environment variable is not set: name={name}")]
    Variable {
        /// The key whose value names it.
        key: &'static str,
        /// The variable.
        name: String,
    },
    /// A kind of store that this program does not speak to.
    #[error(
        "bad bucket configuration: type={kind}: this store is not supported; there are S3, GCS, AZURE and \
         FILESYSTEM"
    )]
    Unsupported {
        /// The kind.
        kind: String,
    },
    /// The client for the store could not be made.
    #[error("bucket cannot be opened: {0}")]
    Client(#[from] object_store::Error),
    /// The directory cannot be made, or is not there.
    #[error("bucket cannot be opened: directory={}: {source}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}

impl ConfigError {
    /// What the caller should do next.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Read { .. }
            | Self::Syntax { .. }
            | Self::Value { .. }
            | Self::Variable { .. }
            | Self::Unsupported { .. }
            | Self::Client(_) => ErrorKind::Invalid,
            Self::Directory { .. } => ErrorKind::Unavailable,
        }
    }
}

/// The file with a configuration that is not looked at yet.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Outline {
    r#type: String,
    #[serde(default)]
    #[allow(dead_code, reason = "read a second time, by its type")]
    config: serde::de::IgnoredAny,
    #[serde(default)]
    prefix: String,
}

/// The file once its type is known.
#[derive(Debug, Deserialize)]
struct Whole<C> {
    config: C,
}

/// A store's own part of the configuration.
trait StoreConfig: DeserializeOwned {
    /// Its texts, in which variables are expanded, by key.
    fn texts(&mut self) -> Vec<(&'static str, &mut String)>;

    /// The client, and the bucket's name in messages.
    fn open(self) -> Result<(Arc<dyn ObjectStore>, String), ConfigError>;
}

/// Opens the bucket that a file in the form of Thanos' `objstore.yml` describes. Nothing is asked
/// of it yet. A directory is created if it does not exist.
pub fn open_file(path: &Path) -> Result<Bucket, ConfigError> {
    open(&read_text(path)?)
}

/// As [`open_file`], for whoever expects something there: a directory that does not exist is an error.
pub fn open_existing_file(path: &Path) -> Result<Bucket, ConfigError> {
    open_with(&read_text(path)?, &|name| std::env::var(name).ok(), Missing::Refused)
}

fn read_text(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })
}

/// As [`open_file`], of the file's text.
pub fn open(text: &str) -> Result<Bucket, ConfigError> {
    open_with(text, &|name| std::env::var(name).ok(), Missing::Created)
}

/// The bucket in a directory, which is created if it does not exist.
pub fn open_directory(dir: &Path) -> Result<Bucket, ConfigError> {
    filesystem::create(dir)?;
    open_existing_directory(dir)
}

/// The bucket in a directory, which must exist.
pub fn open_existing_directory(dir: &Path) -> Result<Bucket, ConfigError> {
    let (store, name) = filesystem::open(dir)?;
    Ok(Bucket::new(store, name, "", RetryPolicy::default()))
}

/// What becomes of a directory that does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Missing {
    Created,
    Refused,
}

fn open_with(
    text: &str,
    variable: &dyn Fn(&str) -> Option<String>,
    missing: Missing,
) -> Result<Bucket, ConfigError> {
    let mut outline: Outline = parse(text)?;
    expand("prefix", &mut outline.prefix, variable)?;
    let (store, name) = match outline.r#type.to_ascii_uppercase().as_str() {
        "S3" => open_store::<s3::S3Config>(text, variable)?,
        "GCS" => open_store::<gcs::GcsConfig>(text, variable)?,
        "AZURE" => open_store::<azure::AzureConfig>(text, variable)?,
        "FILESYSTEM" => {
            let config: filesystem::FilesystemConfig = config_of(text, variable)?;
            if missing == Missing::Created {
                config.create()?;
            }
            config.open()?
        }
        _ => return Err(ConfigError::Unsupported { kind: outline.r#type }),
    };
    Ok(Bucket::new(store, name, &outline.prefix, RetryPolicy::default()))
}

fn open_store<C: StoreConfig>(
    text: &str,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<(Arc<dyn ObjectStore>, String), ConfigError> {
    config_of::<C>(text, variable)?.open()
}

fn config_of<C: StoreConfig>(
    text: &str,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<C, ConfigError> {
    let Whole::<C> { mut config } = parse(text)?;
    for (key, text) in config.texts() {
        expand(key, text, variable)?;
    }
    Ok(config)
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<T, ConfigError> {
    serde_saphyr::from_str(text).map_err(|error| {
        let (line, column) = error.location().map_or((0, 0), |at| (at.line(), at.column()));
        let rendered = error.without_snippet().to_string();
        ConfigError::Syntax { line, column, message: rendered.lines().next().unwrap_or_default().to_owned() }
    })
}

/// Replaces each `${NAME}`. A `$` without braces stands for itself: secrets have some.
fn expand(
    key: &'static str,
    text: &mut String,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<(), ConfigError> {
    let (mut expanded, mut rest) = (String::new(), text.as_str());
    while let Some((before, after)) = rest.split_once("${") {
        let Some((name, behind)) = after.split_once('}') else { break };
        let value = variable(name).ok_or_else(|| ConfigError::Variable { key, name: name.to_owned() })?;
        expanded.push_str(before);
        expanded.push_str(&value);
        rest = behind;
    }
    expanded.push_str(rest);
    *text = expanded;
    Ok(())
}

fn required(key: &'static str, value: &str) -> Result<(), ConfigError> {
    if value.is_empty() {
        return Err(ConfigError::Value { key, message: "is missing or empty".to_owned() });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
