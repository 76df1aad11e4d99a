//! Opens a log that a process left behind: finds where each segment ends, cuts off what was never
//! finished, and plans the replay.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use pyrrha_env::Disk;

use super::WalError;
use super::checkpoint::UsedSegments;
use super::damage::{Damage, DamageReason};
use super::frame::{self, FrameHeader, SegmentKey};
use super::segment::{self, Ended, SegmentHeader, UNKNOWN};
use super::walk::{self, Scan, Torn, VOID};

/// Numbers left out where it is not known how far they were used: far more than a process uses up
/// without leaving a segment.
const LEFT_OUT: u64 = 1 << 20;

/// A segment that can be replayed.
#[derive(Debug, Clone)]
pub(super) struct Planned {
    pub(super) path: PathBuf,
    /// Where its records start, and the key to them.
    pub(super) first: usize,
    pub(super) key: SegmentKey,
    pub(super) ended: Ended,
    /// Its bytes as they would be if its torn end was marked in the file.
    pub(super) marked: Option<Bytes>,
}

/// What is known about the log before any of it is replayed.
#[derive(Debug, Default)]
pub(super) struct Recovered {
    /// The segments there are, oldest first.
    pub(super) closed: Vec<Ended>,
    /// Those with records, oldest first.
    pub(super) plan: Vec<Planned>,
    /// Number of the first new segment.
    pub(super) next: u64,
    /// Damage to whole segments, oldest first.
    pub(super) lost: Vec<Damage>,
    /// Bytes of unfinished writes that were cut off.
    pub(super) torn_bytes: u64,
    /// Whether files are made what they count for.
    mend: bool,
}

/// What a file is, by its header.
enum Shape {
    Good(SegmentHeader),
    /// No header and no data: it was being created.
    Empty,
    /// Data without a header.
    Headless(u64),
    /// The disk does not give its bytes.
    Unreadable(u64),
}

/// Looks at all segments of a directory: at their headers, and at the records of those only that no
/// later header lists. New segments come after `used`: what a checkpoint names is not replayed on
/// top of it.
pub(super) fn recover(disk: &Arc<dyn Disk>, dir: &Path, used: UsedSegments) -> Result<Recovered, WalError> {
    look_at(disk, dir, used, true)
}

/// As [`recover`]; the files stay as they are unless `mend`.
pub(super) fn look_at(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    used: UsedSegments,
    mend: bool,
) -> Result<Recovered, WalError> {
    let entries = disk.list(dir).map_err(|e| WalError::io("list", dir, e))?;
    let mut shapes = BTreeMap::new();
    for entry in entries.iter().filter(|e| !e.is_dir) {
        if let Some(number) = segment::number_of(&entry.name) {
            shapes.insert(number, look(disk, dir, number, entry.len)?);
        }
    }
    let mut listed = BTreeMap::new();
    for shape in shapes.values() {
        if let Shape::Good(SegmentHeader { earlier: Some(earlier), .. }) = shape {
            listed.extend(earlier.iter().filter(|e| e.end != UNKNOWN).map(|e| (e.number, *e)));
        }
    }
    let mut all = Recovered { mend, ..Recovered::default() };
    let oldest = shapes.keys().next().copied().unwrap_or(u64::MAX);
    let newest = shapes.keys().chain(listed.keys()).max().map_or(0, |n| n.saturating_add(1));
    let UsedSegments { up_to, unknown } = used;
    all.next = newest.max(up_to.segment.saturating_add(u64::from(up_to.offset > 0)));
    if unknown {
        all.next = all.next.saturating_add(LEFT_OUT);
    }
    for (number, ended) in &listed {
        let expected = *number >= oldest && ended.records > 0;
        if expected && !shapes.contains_key(number) {
            all.lost.push(lost(*number, ended.end, Some(ended), DamageReason::Missing));
        }
    }
    for (number, shape) in shapes {
        all.take(disk, dir, number, shape, listed.get(&number))?;
    }
    all.lost.sort_by_key(|damage| damage.segment);
    Ok(all)
}

fn look(disk: &Arc<dyn Disk>, dir: &Path, number: u64, len: u64) -> Result<Shape, WalError> {
    let path = segment::path(dir, number);
    let Ok(bytes) = disk.map(&path) else { return Ok(Shape::Unreadable(len)) };
    Ok(match segment::decode_header(&bytes, number, &path)? {
        Some(header) => Shape::Good(header),
        None if segment::has_records(&bytes) => Shape::Headless(bytes.len() as u64),
        None => Shape::Empty,
    })
}

fn lost(segment: u64, bytes: u64, ended: Option<&Ended>, reason: DamageReason) -> Damage {
    Damage {
        segment,
        offset: 0,
        bytes,
        records: ended.map(|e| u64::from(e.records)),
        samples: ended.map(|e| u64::from(e.samples)),
        reason,
    }
}

impl Recovered {
    fn take(
        &mut self,
        disk: &Arc<dyn Disk>,
        dir: &Path,
        number: u64,
        shape: Shape,
        listed: Option<&Ended>,
    ) -> Result<(), WalError> {
        let path = segment::path(dir, number);
        let nothing_lost = listed.is_some_and(|ended| ended.records == 0);
        let header = match shape {
            Shape::Good(header) => header,
            Shape::Empty => {
                if let Some(ended) = listed.filter(|ended| ended.records > 0) {
                    self.lost.push(lost(number, ended.end, Some(ended), DamageReason::Header));
                }
                // Nothing was ever in it, or nothing is left.
                if self.mend {
                    let _ = disk.remove_file(&path);
                }
                return Ok(());
            }
            Shape::Headless(len) | Shape::Unreadable(len) => {
                let reason = match shape {
                    Shape::Unreadable(_) => DamageReason::Unreadable,
                    _ => DamageReason::Header,
                };
                if !nothing_lost {
                    self.lost.push(lost(number, len, listed, reason));
                }
                let unknown = Ended { number, end: UNKNOWN, records: 0, samples: 0 };
                self.closed.push(unknown);
                return Ok(());
            }
        };
        let (ended, marked) = match listed {
            Some(ended) => {
                if self.mend {
                    cut_beyond(disk, dir, &path, ended)?;
                }
                (*ended, None)
            }
            None => self.finish(disk, &path, &header)?,
        };
        self.closed.push(ended);
        if ended.records > 0 {
            if header.earlier.is_none() {
                self.lost.push(lost(number, 0, Some(&Ended::default()), DamageReason::Header));
            }
            self.plan.push(Planned { path, first: header.first, key: header.key, ended, marked });
        }
        Ok(())
    }

    /// Ends a segment that was open when its process did: what it holds is made durable, what was
    /// torn is marked, what lies beyond is cut off.
    fn finish(
        &mut self,
        disk: &Arc<dyn Disk>,
        path: &Path,
        header: &SegmentHeader,
    ) -> Result<(Ended, Option<Bytes>), WalError> {
        let bytes = disk.map(path).map_err(|e| WalError::io("read", path, e))?;
        let scan = walk::scan(&bytes, header.first, header.key);
        // The file may end before the padding of its last frame.
        let end = bytes.len().min(scan.ended.end as usize);
        // The last group may be in the page cache only, because its process was killed or because
        // its sync failed and left the pages clean; so it is written once more.
        let mut tail = bytes.get(scan.last_group..end).unwrap_or_default().to_vec();
        for torn in &scan.torn {
            let frame = void_frame(&bytes[torn.start..torn.end], header.key, torn)?;
            let at = torn.start.saturating_sub(scan.last_group);
            if let Some(room) = tail.get_mut(at..at + frame.len()) {
                room.copy_from_slice(&frame);
            }
        }
        if !self.mend {
            self.tell_torn(&scan);
            let before = bytes.get(..scan.last_group).filter(|_| !scan.torn.is_empty());
            return Ok((scan.ended, before.map(|before| Bytes::from([before, &tail].concat()))));
        }
        drop(bytes);
        let file = disk.open(path).map_err(|e| WalError::io("open", path, e))?;
        file.write_at(scan.last_group as u64, &tail).map_err(|e| WalError::io("write", path, e))?;
        if let Err(error) = file.set_len(scan.ended.end) {
            tracing::warn!(%error, path = %path.display(), "log segment could not be cut");
        }
        file.sync_data().map_err(|e| WalError::io("sync", path, e))?;
        self.tell_torn(&scan);
        Ok((scan.ended, None))
    }

    fn tell_torn(&mut self, scan: &Scan) {
        let holes: usize = scan.torn.iter().map(|torn| torn.end - torn.start).sum();
        let bytes = (holes + scan.torn_tail) as u64;
        if bytes > 0 {
            tracing::warn!(
                segment = scan.ended.number,
                offset = scan.ended.end,
                bytes,
                samples = scan.torn_samples,
                "the end of the log was torn and does not count; nothing of it was acknowledged"
            );
            self.torn_bytes += bytes;
        }
    }
}

/// A frame that covers a hole without changing the bytes behind its header, and says what the
/// frame after it counts from.
fn void_frame(hole: &[u8], key: SegmentKey, torn: &Torn) -> Result<Vec<u8>, WalError> {
    let mut out = Vec::with_capacity(hole.len());
    let start = frame::begin(&mut out);
    out.extend_from_slice(hole.get(frame::HEADER..).unwrap_or_default());
    let (records_before, samples_before) = (torn.records, torn.samples);
    let header =
        FrameHeader { kind: VOID, last: true, records_before, samples_before, ..FrameHeader::default() };
    frame::finish(&mut out, start, header, key, torn.start as u64)?;
    Ok(out)
}

/// Takes away for good what lies beyond the end that a later segment's header tells. The header may
/// not be durable: after another crash the file is judged by itself again, and a batch that was
/// never acknowledged must not come back then.
fn cut_beyond(disk: &Arc<dyn Disk>, dir: &Path, path: &Path, ended: &Ended) -> Result<(), WalError> {
    if ended.end == UNKNOWN {
        return Ok(());
    }
    let file = disk.open(path).map_err(|e| WalError::io("open", path, e))?;
    if file.len().map_err(|e| WalError::io("measure", path, e))? > ended.end {
        file.set_len(ended.end)
            .and_then(|()| file.sync_data())
            .and_then(|()| disk.sync_dir(dir))
            .map_err(|e| WalError::io("cut", path, e))?;
    }
    Ok(())
}
