//! `deletes`: which deletes are accounted for in a block, and what those hide that may be undone, as a
//! file beside the standard parts; and what deletes hide of an open block.
//!
//! ```text
//! page: through u128 | delete u128 | n, n × (series, first, last)
//! ```

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use pyrrha_encoding::varint::{put_uvarint, put_varint, take_array, take_count, take_uvarint, take_varint};
use pyrrha_env::Disk;
use pyrrha_index::RoaringBitmap;
use pyrrha_model::TimeRange;
use pyrrha_model::contract::DeleteId;
use smallvec::SmallVec;

use super::Tombstones;
use super::error::{Blame, BlockError};
use super::sidecar::{Kind, Sidecar, SidecarWriter};

pub(super) const KIND: Kind = Kind { file: "deletes", magic: *b"PYDL" };

/// Deletes that a block was made in the knowledge of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlockDeletes {
    /// Deletes up to this one hide nothing of the block but what is said here. Later ones hide what
    /// their matchers and range say: all of the block was acknowledged before them.
    pub through: DeleteId,
    /// What deletes hide that could be undone when the block was made, by series reference.
    pub hidden: BTreeMap<DeleteId, Tombstones>,
}

impl BlockDeletes {
    /// Reads a file's content, whoever wrote it; `block` is the block's name, for errors.
    pub fn parse(block: &str, bytes: Bytes) -> Result<Self, BlockError> {
        Self::read(&Sidecar::parse(block, bytes, KIND)?)
    }

    pub(super) fn open(disk: &dyn Disk, dir: &Path, blame: &Blame) -> Result<Self, BlockError> {
        match Sidecar::open(disk, dir, blame, KIND)? {
            Some(sidecar) => Self::read(&sidecar),
            None => Ok(Self::default()),
        }
    }

    fn read(sidecar: &Sidecar) -> Result<Self, BlockError> {
        let mut deletes = Self::default();
        for page in sidecar.pages() {
            let (offset, page) = page?;
            let damaged = || sidecar.damage(offset, "deletes do not decode");
            deletes.take_page(page).ok_or_else(damaged)?;
        }
        Ok(deletes)
    }

    fn take_page(&mut self, mut input: &[u8]) -> Option<()> {
        let input = &mut input;
        self.through = DeleteId(u128::from_be_bytes(take_array(input).ok()?));
        let delete = DeleteId(u128::from_be_bytes(take_array(input).ok()?));
        let count = take_count(input, 3).ok()?;
        if count > 0 {
            let hidden = self.hidden.entry(delete).or_default();
            for _ in 0..count {
                let series = take_uvarint(input).ok()?;
                let interval = TimeRange::new(take_varint(input).ok()?, take_varint(input).ok()?);
                hidden.add(series, interval);
            }
        }
        input.is_empty().then_some(())
    }

    /// Makes this the file of the finished block in `dir`, durably; without any delete there is none.
    pub(crate) fn replace(&self, disk: &dyn Disk, dir: &Path) -> Result<(), BlockError> {
        let blame = Blame::new(dir);
        let path = dir.join(KIND.file);
        if disk.exists(&path) {
            disk.remove_file(&path).map_err(blame.io(KIND.file))?;
        }
        self.write(disk, dir, &blame)?;
        disk.sync_dir(dir).map_err(blame.io("."))
    }

    /// Writes the file and syncs it; without any delete there is none.
    pub(super) fn write(&self, disk: &dyn Disk, dir: &Path, blame: &Blame) -> Result<(), BlockError> {
        if self.through == DeleteId::default() && self.hidden.is_empty() {
            return Ok(());
        }
        let mut out = SidecarWriter::new(disk, dir, blame, KIND);
        let head = |delete: DeleteId| {
            let mut page = self.through.0.to_be_bytes().to_vec();
            page.extend_from_slice(&delete.0.to_be_bytes());
            page
        };
        let mut page = head(DeleteId::default());
        put_uvarint(&mut page, 0);
        out.page(&page)?;
        for (&delete, hidden) in &self.hidden {
            let all: Vec<(u64, TimeRange)> = hidden.iter().collect();
            for run in all.chunks(4096) {
                let mut page = head(delete);
                put_uvarint(&mut page, run.len() as u64);
                for (series, interval) in run {
                    put_uvarint(&mut page, *series);
                    put_varint(&mut page, interval.start);
                    put_varint(&mut page, interval.end);
                    out.summary.entries += 1;
                }
                out.page(&page)?;
            }
        }
        out.finish()?;
        Ok(())
    }
}

/// What deletes that stand hide of an open block, beside its tombstones.
#[derive(Debug, Clone, Default)]
pub(super) struct Hidden {
    /// All deletes up to this one are honoured.
    pub(super) through: DeleteId,
    /// By delete.
    pub(super) parts: Vec<HiddenPart>,
    /// The deletes that were asked what they hide, sorted: those that have no part hide nothing.
    pub(super) asked: Vec<DeleteId>,
}

/// What one delete hides.
#[derive(Debug, Clone)]
pub(super) struct HiddenPart {
    pub(super) delete: DeleteId,
    pub(super) is_final: bool,
    pub(super) what: Arc<HiddenSeries>,
}

/// Series with what is hidden of them.
#[derive(Debug)]
pub(super) enum HiddenSeries {
    /// The interval of each of these.
    Matching(RoaringBitmap, TimeRange),
    /// As the block's file of deletes says.
    Listed(Tombstones),
}

impl Hidden {
    /// What an open block hides before anyone has said which deletes stand: all that it lists.
    pub(super) fn listed(deletes: &BlockDeletes) -> Self {
        let part = |(&delete, hidden): (&DeleteId, &Tombstones)| HiddenPart {
            delete,
            is_final: false,
            what: Arc::new(HiddenSeries::Listed(hidden.clone())),
        };
        let parts = deletes.hidden.iter().map(part).collect();
        Self { through: deletes.through, parts, asked: Vec::new() }
    }

    /// What a delete hides.
    pub(super) fn part(&self, delete: DeleteId) -> Option<&HiddenPart> {
        self.parts.get(self.parts.binary_search_by_key(&delete, |part| part.delete).ok()?)
    }

    /// Appends the intervals of a series.
    pub(super) fn of(&self, series: u32, out: &mut SmallVec<[TimeRange; 0]>) {
        for part in &self.parts {
            match &*part.what {
                HiddenSeries::Matching(matching, range) if matching.contains(series) => out.push(*range),
                HiddenSeries::Matching(..) => {}
                HiddenSeries::Listed(listed) => out.extend_from_slice(listed.of(u64::from(series))),
            }
        }
    }
}
