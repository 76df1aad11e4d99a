//! An open file of the simulated disk.

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use pyrrha_env::DiskFile;

use super::fault::{DiskOp, Verdict, full};
use super::tree::State;

#[derive(Debug)]
pub(super) struct SimFile {
    pub(super) state: Arc<Mutex<State>>,
    pub(super) inode: u64,
    pub(super) epoch: u64,
}

impl SimFile {
    fn with<T>(
        &self,
        op: DiskOp,
        action: impl FnOnce(&mut State, Verdict) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut state = self.state.lock();
        if state.epoch != self.epoch {
            return Err(io::Error::other("file was open before the simulated crash"));
        }
        let verdict = state.faults.check(op);
        action(&mut state, verdict)
    }

    fn grow(&self, op: DiskOp, len: u64, only_grow: bool) -> io::Result<()> {
        self.with(op, |state, verdict| {
            if let Verdict::Fail(error) = verdict {
                return Err(error);
            }
            let old = state.file_mut(self.inode)?.len();
            if len > old {
                state.reserve(len - old)?;
            }
            if len > old || !only_grow {
                state.file_mut(self.inode)?.set_len(len);
            }
            match verdict {
                Verdict::FailAfter(error) => Err(error),
                Verdict::Go | Verdict::Fail(_) => Ok(()),
            }
        })
    }
}

impl DiskFile for SimFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.with(DiskOp::Write, |state, verdict| {
            let error = match verdict {
                Verdict::Fail(error) => return Err(error),
                Verdict::FailAfter(error) => Some(error),
                Verdict::Go => None,
            };
            let grows = (offset + bytes.len() as u64).saturating_sub(state.file_mut(self.inode)?.len());
            let free = state.free();
            if grows > free {
                let fits = (bytes.len() as u64 - grows.min(bytes.len() as u64) + free) as usize;
                state.file_mut(self.inode)?.write(offset, &bytes[..fits.min(bytes.len())]);
                return Err(full());
            }
            let (file, rng) = state.file_and_rng(self.inode)?;
            match error {
                Some(error) => {
                    file.write_torn(offset, bytes, rng);
                    Err(error)
                }
                None => {
                    file.write(offset, bytes);
                    Ok(())
                }
            }
        })
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.with(DiskOp::ReadAt, |state, verdict| match verdict {
            Verdict::Go => state.file_mut(self.inode)?.read(offset, buffer),
            Verdict::Fail(error) | Verdict::FailAfter(error) => Err(error),
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.with(DiskOp::SyncData, |state, verdict| {
            let (file, rng) = state.file_and_rng(self.inode)?;
            match verdict {
                Verdict::Go => {
                    file.sync();
                    Ok(())
                }
                Verdict::Fail(error) | Verdict::FailAfter(error) => {
                    file.sync_failed(rng);
                    Err(error)
                }
            }
        })
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.grow(DiskOp::Allocate, len, true)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.grow(DiskOp::SetLen, len, false)
    }

    fn len(&self) -> io::Result<u64> {
        self.with(DiskOp::ReadAt, |state, verdict| match verdict {
            Verdict::Go => Ok(state.file_mut(self.inode)?.len()),
            Verdict::Fail(error) | Verdict::FailAfter(error) => Err(error),
        })
    }
}
