//! A bucket in a directory.

use std::path::Path;
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use serde::Deserialize;

use super::{ConfigError, StoreConfig, required};

/// `type: FILESYSTEM`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FilesystemConfig {
    directory: String,
}

impl StoreConfig for FilesystemConfig {
    fn texts(&mut self) -> Vec<(&'static str, &mut String)> {
        vec![("config.directory", &mut self.directory)]
    }

    fn open(self) -> Result<(Arc<dyn ObjectStore>, String), ConfigError> {
        required("config.directory", &self.directory)?;
        open(Path::new(&self.directory))
    }
}

impl FilesystemConfig {
    /// Makes the directory if it does not exist.
    pub(super) fn create(&self) -> Result<(), ConfigError> {
        required("config.directory", &self.directory)?;
        create(Path::new(&self.directory))
    }
}

/// Makes a directory if it does not exist.
pub(super) fn create(dir: &Path) -> Result<(), ConfigError> {
    std::fs::create_dir_all(dir).map_err(|source| ConfigError::Directory { path: dir.to_owned(), source })
}

/// The store in a directory, which must exist. What it acknowledges is synced, names too.
pub(super) fn open(dir: &Path) -> Result<(Arc<dyn ObjectStore>, String), ConfigError> {
    std::fs::read_dir(dir).map_err(|source| ConfigError::Directory { path: dir.to_owned(), source })?;
    let store = LocalFileSystem::new_with_prefix(dir)?.with_fsync(true);
    Ok((Arc::new(store), format!("file://{}", dir.display())))
}
