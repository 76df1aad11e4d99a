//! Attached buckets: opened with the store, looked at again now and then.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use pyrrha_bucket::attach::AttachedBucket;
use pyrrha_bucket::{BucketRuntime, config};
use pyrrha_env::{Clock, OsDisk};

use crate::config::Settings;

/// Rounds of the thread that looks.
const ROUND: Duration = Duration::from_secs(1);

/// The buckets of the settings, and the thread that looks at them.
pub(super) struct AttachedBuckets {
    pub(super) buckets: Vec<Arc<AttachedBucket>>,
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl AttachedBuckets {
    /// Opens them; `None` if there is none. A file that does not read stops the start; a bucket that cannot
    /// be reached is looked at again.
    pub(super) fn open(settings: &Settings, clock: &Arc<dyn Clock>) -> Result<Option<Self>, String> {
        if settings.attach_buckets.is_empty() {
            return Ok(None);
        }
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        let runtime =
            Arc::new(BucketRuntime::start(threads).map_err(|e| format!("cannot start threads: {e}"))?);
        let (mut buckets, mut every) = (Vec::new(), Vec::new());
        for (i, setting) in settings.attach_buckets.iter().enumerate() {
            let bucket = config::open_existing_file(&setting.objstore_file)
                .map_err(|e| format!("cannot attach bucket: {e} file={}", setting.objstore_file.display()))?;
            let reading = settings.reading(settings.storage_path.join("attach-cache").join(i.to_string()));
            let attached = AttachedBucket::new(
                bucket,
                runtime.clone(),
                Arc::new(OsDisk),
                clock.clone(),
                setting.config(reading),
            );
            let attached = Arc::new(attached);
            look(&attached);
            buckets.push(attached);
            every.push(setting.look_every);
        }
        let (stop, stopped) = channel();
        let all = buckets.clone();
        let thread = std::thread::Builder::new().name("attached".into()).spawn(move || {
            let mut waited = vec![Duration::ZERO; all.len()];
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(ROUND) {
                for ((bucket, waited), every) in all.iter().zip(&mut waited).zip(&every) {
                    *waited += ROUND;
                    // One that could not be reached at the start is tried sooner.
                    let unseen = bucket.view().looked_at == 0 && waited.as_secs().is_multiple_of(10);
                    if *waited >= *every || unseen {
                        *waited = Duration::ZERO;
                        look(bucket);
                    }
                }
            }
        });
        let thread = thread.map_err(|e| format!("cannot start a thread: {e}"))?;
        Ok(Some(Self { buckets, stop, thread }))
    }

    pub(super) fn stop(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            tracing::error!("the thread of attached buckets panicked");
        }
    }
}

/// Looks at a bucket. One that cannot be looked at stays as it was.
fn look(bucket: &AttachedBucket) {
    if let Err(error) = bucket.look() {
        tracing::warn!(bucket = bucket.name(), %error, "attached bucket cannot be looked at, its blocks stay as they are");
    }
}
