//! Opening a data directory: lock, version, blocks, log.

use std::io;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use pyrrha_env::{Clock, Disk, DiskLock};
use pyrrha_model::TenantId;

use super::checkpoint::LastCheckpoint;
use super::compaction::Compactor;
use super::recovery::{Driver, Recovery};
use super::sink::{HeadSink, Tenants};
use super::unread::Unread;
use super::{Db, Recoverer, Shared};
use crate::block::{Layout, remove_unfinished};
use crate::config::StorageConfig;
use crate::durable;
use crate::error::StorageError;
use crate::head::CommitLog;
use crate::space::Reserve;
use crate::wal::Wal;
use crate::wal::checkpoint::Checkpoints;

const VERSION_FILE: &str = "VERSION";
const VERSION: &str = "1";
/// Names that no data directory has without a version file.
const OWN_NAMES: [&str; 5] = ["wal", "head", "bucket", "checkpoint", "chunks_head"];

impl Db {
    /// Opens a data directory, creating it if it does not exist. Returns as soon as writes can be
    /// taken; what the log has is brought back on a thread of its own, for which reads wait.
    pub fn open(
        config: StorageConfig,
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StorageError> {
        Self::open_held(config, disk, clock, false)
    }

    /// As [`open`](Self::open). If `held`, recovery begins when
    /// [`release_recovery`](Self::release_recovery) is called: a door for tests that look at a
    /// database that is not recovered.
    pub fn open_held(
        config: StorageConfig,
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        held: bool,
    ) -> Result<Self, StorageError> {
        let (mut db, driver) = Self::open_detached(config, disk, clock)?;
        db.threaded = true;
        db.wal.start(db.sink.clone())?;
        if held {
            db.shared.recovery.hold();
        }
        *db.recoverer.lock() = Recoverer::Thread(driver.start()?);
        Ok(db)
    }

    /// As [`open`](Self::open), but without a thread of its own, and recovered: whoever waits for a
    /// batch writes the log. For simulations, which want one thread and one order.
    pub fn open_single_threaded(
        config: StorageConfig,
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StorageError> {
        let db = Self::open_stepwise(config, disk, clock)?;
        while db.recover_step()? {}
        Ok(db)
    }

    /// As [`open_single_threaded`](Self::open_single_threaded), but recovered only once
    /// [`recover_step`](Self::recover_step) has been called often enough. Until then reads that need
    /// the log fail.
    pub fn open_stepwise(
        config: StorageConfig,
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StorageError> {
        let (db, driver) = Self::open_detached(config, disk, clock)?;
        db.wal.attach(db.sink.clone());
        *db.recoverer.lock() = Recoverer::Caller(Box::new(driver));
        Ok(db)
    }

    fn open_detached(
        config: StorageConfig,
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
    ) -> Result<(Self, Driver), StorageError> {
        let dir = config.dir.clone();
        create_data_dir(&*disk, &dir).map_err(StorageError::io("create data directory", &dir))?;
        let lock = take_lock(&*disk, &dir)?;
        check_version(&*disk, &dir)?;
        let (reserve, disk) = Reserve::new(disk, &dir, config.disk_reserve_bytes);
        reserve.restore();
        let shared = Arc::new(Shared {
            config: Arc::new(config),
            disk: disk.clone(),
            clock: clock.clone(),
            metrics: Arc::default(),
            tenants: Tenants::default(),
            reserve,
            recovery: Recovery::default(),
            unread: Unread::default(),
            log: OnceLock::new(),
        });
        shared.open_tenants()?;
        let checkpoints = Checkpoints::open(disk.clone(), &shared.checkpoint_dir())?;
        let now = clock.monotonic();
        let used = checkpoints.used_segments()?;
        let (wal, old) = Wal::open_beside(shared.config.wal.clone(), &dir.join("wal"), disk, clock, used)?;
        let driver = Driver::new(shared.clone(), checkpoints.clone(), old);
        if shared.config.wal.strict {
            driver.check()?;
        }
        let wal = Arc::new(wal);
        let log: Arc<dyn CommitLog> = wal.clone();
        shared.log.get_or_init(|| Arc::downgrade(&log));
        let sink = Arc::new(HeadSink::new(shared.clone(), wal.position()));
        let db = Self {
            shared,
            log,
            wal,
            sink,
            checkpoints,
            recoverer: Mutex::default(),
            last_checkpoint: Mutex::new(LastCheckpoint::now(now)),
            retention: Mutex::default(),
            compactor: Compactor::default(),
            threaded: false,
            housekeeping: Mutex::default(),
            truncated: Mutex::default(),
            closed: AtomicBool::new(false),
            _lock: lock,
        };
        Ok((db, driver))
    }
}

impl Shared {
    /// Opens the tenants that have a directory.
    pub(crate) fn open_tenants(&self) -> Result<(), StorageError> {
        for part in ["head", "bucket"] {
            let dir = self.config.dir.join(part);
            durable::create_dir(&*self.disk, &dir)
                .and_then(|()| durable::sync_name(&*self.disk, &dir))
                .map_err(StorageError::io("create directory", &dir))?;
            let entries = self.disk.list(&dir).map_err(StorageError::io("list directory", &dir))?;
            for entry in entries.iter().filter(|e| e.is_dir) {
                // Other names are not ours.
                let Ok(tenant) = TenantId::new(&entry.name) else { continue };
                let bucket = self.bucket_dir(&tenant);
                for home in Layout::ALL.map(|layout| layout.home(&bucket)) {
                    if self.disk.exists(&home) {
                        remove_unfinished(&*self.disk, &home)
                            .map_err(StorageError::io("remove unfinished blocks", &home))?;
                    }
                }
                self.tenant(&tenant)?;
            }
        }
        Ok(())
    }
}

fn create_data_dir(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    durable::create_dir(disk, dir)?;
    // An earlier start may have created it and died before its name was durable.
    match durable::sync_name(disk, dir) {
        // Not ours to read, so not created by us either.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        result => result,
    }
}

fn take_lock(disk: &dyn Disk, dir: &Path) -> Result<Box<dyn DiskLock>, StorageError> {
    disk.lock(&dir.join("LOCK")).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => StorageError::InUse { path: dir.to_path_buf() },
        _ => StorageError::io("lock data directory", dir)(error),
    })
}

fn check_version(disk: &dyn Disk, dir: &Path) -> Result<(), StorageError> {
    let path = dir.join(VERSION_FILE);
    if disk.exists(&path) {
        let found = disk.read(&path).map_err(StorageError::io("read version file", &path))?;
        let found = String::from_utf8_lossy(&found[..found.len().min(32)]).trim().to_owned();
        return if found == VERSION {
            Ok(())
        } else {
            Err(StorageError::Version { path, found, supported: VERSION })
        };
    }
    let entries = disk.list(dir).map_err(StorageError::io("list data directory", dir))?;
    if let Some(entry) = entries.into_iter().find(|e| OWN_NAMES.contains(&e.name.as_str())) {
        return Err(StorageError::Foreign { path: dir.to_path_buf(), name: entry.name });
    }
    write_version(disk, dir)
}

/// Makes a directory one of ours.
pub(super) fn write_version(disk: &dyn Disk, dir: &Path) -> Result<(), StorageError> {
    let path = dir.join(VERSION_FILE);
    let written = durable::replace(disk, &path, format!("{VERSION}\n").as_bytes());
    written.map_err(StorageError::io("write version file", &path))
}
