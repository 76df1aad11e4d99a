//! One block's answer to one selector, produced on the bucket's threads ahead of the query.

use std::sync::Arc;

use pyrrha_encoding::windows::WindowPart;
use pyrrha_index::SeriesRow;
use pyrrha_model::contract::{ChunkRef, QueryContext, SelectHints, SeriesBatch, SeriesEntry, WindowHints};
use pyrrha_model::{ChunkEncoding, Matcher, StoreError, TimeRange, Timestamp};
use pyrrha_storage::block::WindowsEntry;
use tokio::sync::mpsc::Sender;

use super::block::{BucketBlock, Opened};
use super::budget::Reserved;
use super::chunks::{self, WantedChunk};
use super::deletes::{self, Hidden};
use super::foreign;
use super::labels::Translation;
use super::pace::{BLOCK_BYTES, Pace};
use super::rows::{self, Rows};
use super::windows;
use crate::deletes::Standing;
use crate::shard::Residues;

/// Values whose ids a block remembers, for each series of a piece.
const VALUES_PER_SERIES: usize = 256;

/// What a query wants of a block.
pub(super) struct Selection {
    pub(super) block: Arc<BucketBlock>,
    pub(super) ctx: QueryContext,
    pub(super) matchers: Arc<[Matcher]>,
    pub(super) range: TimeRange,
    pub(super) hints: SelectHints,
    /// Deletes that stand.
    pub(super) deletes: Arc<[Standing]>,
    /// Series of which any of these sets holds are left out altogether, of windows too.
    pub(super) leave_out: Arc<[Vec<Matcher>]>,
    /// Samples before this moment are past retention.
    pub(super) horizon: Option<Timestamp>,
    /// Labels that the reader will take away: series come in the order of what is left.
    pub(super) without: Arc<[String]>,
    /// The series that the block answers for, if not all.
    pub(super) only: Option<Residues>,
    /// What it may hold, and when it may send requests.
    pub(super) pace: Arc<Pace>,
    /// Whether that an object is gone is an error even where the answer may have gaps.
    pub(super) tells_gone: bool,
}

/// Some series, with the memory that they take of the query's budget.
pub(super) struct Piece {
    pub(super) batch: SeriesBatch,
    pub(super) memory: Reserved,
}

/// What is sent of a block: its pieces, and `None` after the last. Who says nothing more has died.
pub(super) type Sent = Result<Option<Piece>, StoreError>;

impl Piece {
    fn of(batch: SeriesBatch, mut memory: Reserved) -> Result<Self, StoreError> {
        let chunks: usize = batch.series.iter().map(|entry| entry.chunks.len()).sum();
        let labels = size_of_val(&batch.labels[..]);
        memory.grow((labels + size_of_val(&batch.series[..]) + chunks * size_of::<ChunkRef>()) as u64)?;
        Ok(Self { batch, memory })
    }
}

/// A series whose chunks are to be fetched.
struct Found {
    series: u32,
    row: SeriesRow,
    chunks: Vec<WantedChunk>,
}

impl Selection {
    /// Sends the block's series, sorted by labels, and then that this was all, or an error. Waits while the
    /// query is behind.
    pub(super) async fn run(self, send: Sender<Sent>) {
        let end = self.stream(&send).await.map(|()| None);
        // Nobody listens any more to a query that ended.
        let _ = send.send(end).await;
    }

    async fn stream(&self, send: &Sender<Sent>) -> Result<(), StoreError> {
        let _own = Reserved::new(&self.ctx, BLOCK_BYTES)?;
        let work = self.pace.work().await;
        let opened = &*self.block.open(&self.ctx).await?;
        let mut series = self.block.matching(&self.ctx, opened, &self.matchers).await?;
        for matchers in &self.block.external.left_of_sets(&self.leave_out) {
            series -= self.block.matching(&self.ctx, opened, matchers).await?;
        }
        let _reserved = Reserved::new(&self.ctx, series.serialized_size() as u64)?;
        let hidden = self.block.hidden(&self.ctx, opened, &self.deletes).await?;
        let (rows, _order) =
            foreign::rows_without(&self.block, opened, &self.ctx, series, &self.without, self.pace.rows)
                .await?;
        drop(work);
        self.pieces(opened, &hidden, rows, send).await
    }

    /// Sends series by series, a piece at a time.
    async fn pieces(
        &self,
        opened: &Opened,
        hidden: &[Hidden],
        mut rows: Rows<'_>,
        send: &Sender<Sent>,
    ) -> Result<(), StoreError> {
        let series_of_piece = self.pace.series(self.windows().is_some());
        let values = series_of_piece * VALUES_PER_SERIES;
        let mut translation = Translation::new(self.hints.projection.clone(), values);
        let mut left = if self.hints.limit == 0 { usize::MAX } else { self.hints.limit };
        let (mut piece, mut bytes) = (Vec::new(), 0u64);
        loop {
            let group = {
                let _work = self.pace.work().await;
                rows.next(&self.ctx).await?
            };
            if group.is_empty() {
                break;
            }
            let _rows = Reserved::new(&self.ctx, group.iter().map(|(_, row)| row_bytes(row)).sum())?;
            for (series, row) in group {
                let chunks = chunks::wanted(&row, self.range);
                if chunks.is_empty() || left == 0 || !self.in_shard(opened, &row)? {
                    continue;
                }
                left -= 1;
                bytes += chunks.iter().map(WantedChunk::bytes).sum::<u64>();
                piece.push(Found { series, row, chunks });
                if piece.len() >= series_of_piece || bytes >= self.pace.bytes {
                    let found = std::mem::take(&mut piece);
                    if !self.hand_over(opened, hidden, found, &mut translation, send).await? {
                        return Ok(());
                    }
                    bytes = 0;
                }
            }
        }
        if !piece.is_empty() {
            self.hand_over(opened, hidden, piece, &mut translation, send).await?;
        }
        Ok(())
    }

    /// Fetches a piece and sends it; false if nobody listens any more. What is not fetched yet takes no
    /// memory, so the place in the queue comes first.
    async fn hand_over(
        &self,
        opened: &Opened,
        hidden: &[Hidden],
        found: Vec<Found>,
        translation: &mut Translation,
        send: &Sender<Sent>,
    ) -> Result<bool, StoreError> {
        let Ok(place) = send.reserve().await else { return Ok(false) };
        let _work = self.pace.work().await;
        let piece = self.fetch(opened, hidden, found, translation).await?;
        place.send(Ok(Some(piece)));
        Ok(true)
    }

    /// What is wanted of the windows that it is made of.
    pub(super) fn windows(&self) -> Option<WindowHints> {
        self.hints.windows.filter(|_| self.block.entry.resolution > 0)
    }

    /// Whether the block answers for a series, and it is in the query's shard, by the hash that every source uses.
    fn in_shard(&self, opened: &Opened, row: &SeriesRow) -> Result<bool, StoreError> {
        if self.hints.shard.is_none() && self.only.is_none() {
            return Ok(true);
        }
        let labels = rows::labels(&self.block, opened, row)?;
        if self.only.as_ref().is_some_and(|only| !only.has(&labels)) {
            return Ok(false);
        }
        let Some((index, count)) = self.hints.shard else { return Ok(true) };
        Ok(labels.prometheus_hash() % u64::from(count.max(1)) == u64::from(index))
    }

    async fn fetch(
        &self,
        opened: &Opened,
        hidden: &[Hidden],
        piece: Vec<Found>,
        translation: &mut Translation,
    ) -> Result<Piece, StoreError> {
        self.ctx.cancel.check()?;
        if let Some(hints) = self.windows() {
            return self.fetch_windows(opened, hidden, piece, translation, hints).await;
        }
        let mut counts = Vec::with_capacity(piece.len());
        let mut wanted = Vec::new();
        let mut batch = SeriesBatch::default();
        batch.series.reserve_exact(piece.len());
        for found in piece {
            counts.push(found.chunks.len());
            wanted.extend(found.chunks);
            let mut entry = self.entry(opened, &found.row, translation, &mut batch)?;
            deletes::hide(hidden, opened, found.series, &mut entry);
            if let Some(horizon) = self.horizon
                && found.row.chunks.iter().any(|chunk| chunk.min_time < horizon)
            {
                entry.deleted.push(TimeRange::new(Timestamp::MIN, horizon.saturating_sub(1)));
            }
            batch.series.push(entry);
        }
        let mut reserved = Reserved::new(&self.ctx, 0)?;
        let mut chunks = chunks::fetch(&self.block, &wanted, &mut reserved).await?.into_iter();
        for (entry, count) in batch.series.iter_mut().zip(counts) {
            entry.chunks.extend(chunks.by_ref().take(count));
        }
        Piece::of(batch, reserved)
    }
}

impl Selection {
    /// An entry with its labels, which go to the batch.
    fn entry(
        &self,
        opened: &Opened,
        row: &SeriesRow,
        translation: &mut Translation,
        batch: &mut SeriesBatch,
    ) -> Result<SeriesEntry, StoreError> {
        let start = batch.labels.len() as u32;
        translation
            .append(&self.ctx, &opened.header, &row.labels, &mut batch.labels)
            .map_err(|e| self.block.blame(e))?;
        Ok(SeriesEntry { labels: start..batch.labels.len() as u32, ..SeriesEntry::default() })
    }

    /// As [`fetch`](Self::fetch), windows: from the files beside the block, where what is not needed is
    /// not read, or from aggregate chunks.
    async fn fetch_windows(
        &self,
        opened: &Opened,
        hidden: &[Hidden],
        piece: Vec<Found>,
        translation: &mut Translation,
        hints: WindowHints,
    ) -> Result<Piece, StoreError> {
        let mut batch = SeriesBatch::default();
        batch.series.reserve_exact(piece.len());
        for found in &piece {
            let mut entry = self.entry(opened, &found.row, translation, &mut batch)?;
            deletes::hide(hidden, opened, found.series, &mut entry);
            batch.series.push(entry);
        }
        // Counts are in both parts.
        let edges = hints.edges || !hints.values;
        let mut reserved = Reserved::new(&self.ctx, 0)?;
        let Some(files) = self.block.windows(&self.ctx, opened).await? else {
            for (entry, found) in batch.series.iter_mut().zip(&piece) {
                let chunks = chunks::fetch(&self.block, &found.chunks, &mut reserved).await?;
                let hints = WindowHints { edges, ..hints };
                let resolution = self.block.entry.resolution;
                let blame = |e| windows::damaged(&self.block, "chunks", &e);
                let decoded = windows::decoded_bytes(&chunks).map_err(blame)?;
                let _decoded = Reserved::new(&self.ctx, decoded as u64)?;
                let windows = windows::of_aggregates(&chunks, resolution, hints, self.range);
                entry.chunks.extend(windows.map_err(blame)?);
                self.drop_deleted(entry)?;
            }
            return Piece::of(batch, reserved);
        };
        let keys: Vec<u64> = piece.iter().map(|f| f.row.chunks.first().map_or(0, |c| c.reference)).collect();
        let found = files.find(&self.block, &self.ctx, &keys).await?;
        let parts = [(edges, WindowPart::Edges), (hints.values, WindowPart::Values)];
        let known: Vec<WindowsEntry> = found.iter().flatten().cloned().collect();
        for (_, part) in parts.into_iter().filter(|(wanted, _)| *wanted) {
            let chunks = files.chunks(&self.block, &known, part, self.range, &mut reserved).await?;
            let with_windows = batch.series.iter_mut().zip(&found).filter(|(_, found)| found.is_some());
            for ((entry, _), chunk) in with_windows.zip(chunks) {
                entry.chunks.push(chunk);
            }
        }
        // Series without windows are as they were.
        let others = batch.series.iter_mut().zip(&piece).zip(&found).filter(|(_, found)| found.is_none());
        for ((entry, series), _) in others {
            entry.chunks.extend(chunks::fetch(&self.block, &series.chunks, &mut reserved).await?);
        }
        for entry in &mut batch.series {
            self.drop_deleted(entry)?;
        }
        Piece::of(batch, reserved)
    }

    /// Drops what a series' deleted intervals hide; windows that they touch, whole (decision 23).
    fn drop_deleted(&self, entry: &mut SeriesEntry) -> Result<(), StoreError> {
        if entry.deleted.is_empty() {
            return Ok(());
        }
        let blame = |e| windows::damaged(&self.block, "windows", &e);
        let decoded = windows::decoded_bytes(&entry.chunks).map_err(blame)?;
        let _decoded = Reserved::new(&self.ctx, decoded as u64)?;
        let mut kept = Vec::with_capacity(entry.chunks.len());
        for chunk in entry.chunks.drain(..) {
            if chunk.encoding == ChunkEncoding::Windows {
                kept.extend(windows::without_touched(chunk, &entry.deleted).map_err(blame)?);
            } else {
                kept.push(chunk);
            }
        }
        // Only samples are left to be hidden.
        if kept.iter().all(|chunk| chunk.encoding == ChunkEncoding::Windows) {
            entry.deleted.clear();
        }
        entry.chunks.extend(kept);
        Ok(())
    }
}

fn row_bytes(row: &SeriesRow) -> u64 {
    (size_of_val(&row.chunks[..]) + size_of_val(&row.labels[..]) + size_of::<SeriesRow>()) as u64
}
