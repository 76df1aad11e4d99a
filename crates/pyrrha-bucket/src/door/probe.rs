//! Whether a store honours conditions: a key is created twice, and the second must fail.

use bytes::Bytes;
use pyrrha_storage::block::BlockId;

use super::{Bucket, Created};
use crate::error::BucketError;

/// Directory of keys that are created to try a store.
pub(crate) const PROBES: &str = "pyrrha-probe";

impl Bucket {
    /// Creates a key twice under the name of `id`, which must be new, and removes it again. An
    /// error in clear words if the store lets the second through: commits would overwrite each
    /// other, so nothing may be written to it.
    pub async fn probe(&self, id: BlockId) -> Result<(), BucketError> {
        let key = format!("{PROBES}/{id}");
        let (first, second) = (Bytes::from("first"), Bytes::from("second"));
        // After a lost reply the retry of the first finds its own; that proves as much.
        self.create(&key, first.clone()).await?;
        let again = self.create(&key, second).await?;
        let stored = self.get(&key, 64).await?;
        self.delete(&key).await?;
        if again == Created::Created || stored.as_ref() != Some(&first) {
            return Err(BucketError::NoConditions { bucket: self.name().to_owned(), key });
        }
        Ok(())
    }
}
