//! Objects that several processes replace: whoever writes says what it has read, and nobody goes back behind
//! what another wrote meanwhile.

use bytes::Bytes;
use object_store::{Error, GetOptions, PutMode, PutOptions, PutPayload, UpdateVersion};

use super::{Bucket, Created, Operation};
use crate::error::BucketError;

/// What was there when an object was read; `None` if nothing was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen(Option<UpdateVersion>);

/// What became of a conditional write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Replaced {
    /// It was written.
    Written,
    /// Somebody else has written it since it was read; nothing was changed. Maybe an earlier attempt of this
    /// very call did it.
    Changed,
}

impl Bucket {
    /// The content of an object of at most `limit` bytes that is to be replaced; `None` if there is none.
    pub(crate) async fn get_to_replace(
        &self,
        key: &str,
        limit: u64,
    ) -> Result<(Option<Bytes>, Seen), BucketError> {
        let path = self.path(key);
        let read = || async {
            let result = self.0.store.get_opts(&path, GetOptions::default()).await?;
            let (e_tag, version) = (result.meta.e_tag.clone(), result.meta.version.clone());
            let seen = Seen(Some(UpdateVersion { e_tag, version }));
            let bytes = result.meta.size;
            if bytes > limit { Ok(Err(bytes)) } else { Ok(Ok((result.bytes().await?, seen))) }
        };
        match self.run(Operation::Get, key, read).await {
            Ok(Ok((bytes, seen))) => {
                self.0.counters.received(bytes.len());
                Ok((Some(bytes), seen))
            }
            Ok(Err(bytes)) => Err(BucketError::TooLarge { key: key.to_owned(), bytes, limit }),
            Err(BucketError::NotFound { .. }) => Ok((None, Seen(None))),
            Err(error) => Err(error),
        }
    }

    /// Replaces an object if it is still what was `seen`. A directory knows no such condition: there the last
    /// writer wins.
    pub(crate) async fn replace(
        &self,
        key: &str,
        bytes: Bytes,
        seen: &Seen,
    ) -> Result<Replaced, BucketError> {
        let Some(version) = &seen.0 else {
            return Ok(match self.create(key, bytes).await? {
                Created::Created => Replaced::Written,
                Created::Exists => Replaced::Changed,
            });
        };
        let path = self.path(key);
        let write = || async {
            let options = PutOptions { mode: PutMode::Update(version.clone()), ..PutOptions::default() };
            let payload = || PutPayload::from_bytes(bytes.clone());
            match self.0.store.put_opts(&path, payload(), options).await {
                Ok(_) => Ok(Replaced::Written),
                Err(Error::NotImplemented { .. } | Error::NotSupported { .. }) => {
                    self.0.store.put_opts(&path, payload(), PutOptions::default()).await?;
                    Ok(Replaced::Written)
                }
                Err(Error::Precondition { .. } | Error::AlreadyExists { .. } | Error::NotFound { .. }) => {
                    Ok(Replaced::Changed)
                }
                Err(error) => Err(error),
            }
        };
        let replaced = self.run(Operation::Put, key, write).await?;
        if replaced == Replaced::Written {
            self.0.counters.sent(bytes.len());
        }
        Ok(replaced)
    }
}
