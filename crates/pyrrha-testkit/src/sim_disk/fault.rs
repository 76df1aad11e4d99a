//! Which operation fails, and how.

use std::io;

use crate::SimRng;

/// A kind of disk operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DiskOp {
    /// `create_dir_all`
    CreateDir,
    /// `list`
    List,
    /// `create_new`
    Create,
    /// `open`
    Open,
    /// `read`
    Read,
    /// `map`
    Map,
    /// `rename`
    Rename,
    /// `hard_link`
    HardLink,
    /// `remove_file`, `remove_dir_all`
    Remove,
    /// `sync_dir`
    SyncDir,
    /// `lock`
    Lock,
    /// `write_at`
    Write,
    /// `read_at`, `len`
    ReadAt,
    /// `sync_data`
    SyncData,
    /// `allocate`
    Allocate,
    /// `set_len`
    SetLen,
}

/// How an operation fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// I/O error. A write may have happened in part, a change may have happened although it is
    /// reported as failed, and what a failed sync should have made durable may be lost for good.
    Io,
    /// No space left on the device. Only operations that need space fail so; others go through.
    Full,
    /// Power fails during the operation; see [`super::SimDisk::power_off`].
    PowerOff,
}

/// What becomes of one operation.
pub(super) enum Verdict {
    Go,
    Fail(io::Error),
    /// It fails, but its effect may be there.
    FailAfter(io::Error),
}

#[derive(Debug)]
struct Plan {
    op: Option<DiskOp>,
    left: u64,
    fault: Fault,
}

/// The faults that are planned.
#[derive(Debug)]
pub(super) struct Faults {
    rng: SimRng,
    count: u64,
    off: bool,
    plans: Vec<Plan>,
    random: Option<(u64, Fault)>,
}

impl Faults {
    pub(super) fn new(seed: u64) -> Self {
        Self { rng: SimRng::new(!seed), count: 0, off: false, plans: Vec::new(), random: None }
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn power_off(&mut self) {
        self.off = true;
    }

    pub(super) fn is_off(&self) -> bool {
        self.off
    }

    pub(super) fn plan_at(&mut self, n: u64, fault: Fault) {
        self.plans.push(Plan { op: None, left: n, fault });
    }

    pub(super) fn plan_op(&mut self, op: DiskOp, n: u64, fault: Fault) {
        self.plans.push(Plan { op: Some(op), left: n, fault });
    }

    pub(super) fn set_random(&mut self, per_mille: u64, fault: Fault) {
        self.random = Some((per_mille, fault));
    }

    pub(super) fn clear(&mut self) {
        self.plans.clear();
        self.random = None;
        self.off = false;
    }

    /// Counts an operation and says what becomes of it.
    pub(super) fn check(&mut self, op: DiskOp) -> Verdict {
        if self.off {
            return Verdict::Fail(io::Error::other("simulated power loss"));
        }
        self.count += 1;
        let mut due = None;
        self.plans.retain_mut(|plan| {
            if plan.op.is_some_and(|only| only != op) {
                return true;
            }
            if plan.left == 0 {
                due = Some(plan.fault);
                return false;
            }
            plan.left -= 1;
            true
        });
        if let (None, Some((per_mille, fault))) = (due, self.random)
            && self.rng.below(1000) < per_mille
        {
            due = Some(fault);
        }
        match due {
            None => Verdict::Go,
            Some(Fault::Full) if needs_space(op) => Verdict::Fail(full()),
            Some(Fault::Full) => Verdict::Go,
            Some(Fault::Io) => self.partly(io::Error::other("simulated I/O error")),
            Some(Fault::PowerOff) => {
                self.off = true;
                self.partly(io::Error::other("simulated power loss"))
            }
        }
    }

    fn partly(&mut self, error: io::Error) -> Verdict {
        if self.rng.percent(50) { Verdict::FailAfter(error) } else { Verdict::Fail(error) }
    }
}

pub(super) fn full() -> io::Error {
    io::Error::new(io::ErrorKind::StorageFull, "simulated disk is full")
}

fn needs_space(op: DiskOp) -> bool {
    matches!(
        op,
        DiskOp::CreateDir
            | DiskOp::Create
            | DiskOp::Rename
            | DiskOp::HardLink
            | DiskOp::Write
            | DiskOp::Allocate
            | DiskOp::SyncData
            | DiskOp::SyncDir
    )
}
