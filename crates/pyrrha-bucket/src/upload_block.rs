//! The upload of one block from a disk, verified.

use std::path::Path;
use std::sync::Arc;

use pyrrha_encoding::crc;
use pyrrha_env::{Disk, DiskFile};
use pyrrha_storage::block::Block;

use crate::block_files::{BlockFile, META};
use crate::door::Bucket;
use crate::error::BucketError;

const CHUNKS: &str = "chunks";
/// A local file is read in pieces of so many bytes.
const BUFFER: u64 = 1 << 20;

/// The upload of one block.
pub(crate) struct Upload {
    bucket: Bucket,
    disk: Arc<dyn Disk>,
    key: String,
    block: Block,
}

impl Upload {
    /// Of a block on `disk`, to this directory of the bucket.
    pub(crate) fn new(bucket: Bucket, disk: Arc<dyn Disk>, key: String, block: Block) -> Self {
        Self { bucket, disk, key, block }
    }

    /// Uploads what is missing, verifies all of it, and gives the files. An earlier attempt may
    /// have brought some: an object is whole or absent, and a block never changes.
    pub(crate) async fn run(&self) -> Result<Vec<BlockFile>, BucketError> {
        let there = self.bucket.list(&self.key).await?;
        let is_there = |name: &str, bytes: u64| {
            there.iter().any(|o| o.bytes == bytes && self.name_of(&o.key) == Some(name))
        };
        let mut names = self.local_files()?;
        // Whoever looks at the bucket takes a block for whole once this is there.
        names.push(META.to_owned());
        let mut files = Vec::new();
        for name in names {
            let path = self.block.dir().join(&name);
            let file = Arc::<dyn DiskFile>::from(self.disk.open(&path).map_err(local(&path))?);
            let bytes = file.len().map_err(local(&path))?;
            let sum = if is_there(&name, bytes) {
                checksum(&*file, &path, bytes)?
            } else {
                self.bucket.upload(&format!("{}/{name}", self.key), file, bytes).await?
            };
            files.push(BlockFile { name, bytes, crc32c: Some(sum) });
        }
        self.verify(&files).await?;
        Ok(files)
    }

    fn name_of<'k>(&self, key: &'k str) -> Option<&'k str> {
        key.strip_prefix(&self.key)?.strip_prefix('/')
    }

    /// The block's files but `meta.json`: chunks, and what lies beside them.
    fn local_files(&self) -> Result<Vec<String>, BucketError> {
        let dir = self.block.dir();
        let list = |dir: &Path| self.disk.list(dir).map_err(local(dir));
        let mut names = Vec::new();
        for entry in list(dir)? {
            match (entry.is_dir, entry.name.as_str()) {
                (true, CHUNKS) => {
                    let segments = list(&dir.join(CHUNKS))?;
                    names.extend(
                        segments.into_iter().filter(|s| !s.is_dir).map(|s| format!("{CHUNKS}/{}", s.name)),
                    );
                }
                (true, _) | (false, META) => {}
                (false, name) => names.push(name.to_owned()),
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Whether the bucket has each file in its full length.
    async fn verify(&self, files: &[BlockFile]) -> Result<(), BucketError> {
        let there = self.bucket.list(&self.key).await?;
        for file in files {
            let found = there.iter().find(|o| self.name_of(&o.key) == Some(&file.name)).map(|o| o.bytes);
            if found != Some(file.bytes) {
                let what = format!("uploaded bytes={} found={found:?}", file.bytes);
                return Err(BucketError::Corrupt { key: format!("{}/{}", self.key, file.name), what });
            }
        }
        Ok(())
    }
}

fn checksum(file: &dyn DiskFile, path: &Path, bytes: u64) -> Result<u32, BucketError> {
    let (mut sum, mut at) = (0, 0);
    let mut buffer = Vec::new();
    while at < bytes {
        buffer.resize((bytes - at).min(BUFFER) as usize, 0);
        file.read_at(at, &mut buffer).map_err(local(path))?;
        sum = crc::checksum_append(sum, &buffer);
        at += buffer.len() as u64;
    }
    Ok(sum)
}

/// An error of the local disk.
pub(crate) fn local(path: &Path) -> impl Fn(std::io::Error) -> BucketError + '_ {
    move |source| BucketError::Local { file: path.display().to_string(), source }
}
