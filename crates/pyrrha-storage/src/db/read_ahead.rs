//! Reads the log on a thread of its own, some records ahead of whoever applies them.
//!
//! ```text
//! thread "log-reader": Replay ─► Packet ─► bounded channel ─► recovery: Replayer
//! ```
//!
//! What is applied, and in which order, is the same as without the thread.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use hashbrown::HashMap;
use pyrrha_model::TenantId;

use crate::wal::{LogBatch, LogPosition, Replay, ReplaySink};

/// Records that wait to be applied. Each is as large as a request that a sender made, or a group of them.
const AHEAD: usize = 4;

/// Series that one record defines. A text that many of them have is there once.
#[derive(Debug, Default)]
pub(super) struct Definitions {
    text: String,
    /// Where each symbol ends in `text`.
    symbols: Vec<usize>,
    /// Name and value of each label, as numbers of symbols.
    labels: Vec<(u32, u32)>,
    /// Reference of each series, and where its labels end in `labels`.
    series: Vec<(u32, usize)>,
    /// Symbols by where their text was read, and its length.
    known: HashMap<(usize, usize), u32, foldhash::fast::RandomState>,
}

impl Definitions {
    fn add(&mut self, series: u32, labels: &[(&str, &str)]) {
        for &(name, value) in labels {
            let pair = (self.symbol(name), self.symbol(value));
            self.labels.push(pair);
        }
        self.series.push((series, self.labels.len()));
    }

    /// The texts of one record lie where they are until it is read.
    fn symbol(&mut self, text: &str) -> u32 {
        let place = (text.as_ptr() as usize, text.len());
        *self.known.entry(place).or_insert_with(|| {
            self.text.push_str(text);
            self.symbols.push(self.text.len());
            self.symbols.len() as u32 - 1
        })
    }

    /// The symbols, in the order of their numbers.
    pub(super) fn symbols(&self) -> Vec<&str> {
        let starts = [0].into_iter().chain(self.symbols.iter().copied());
        starts.zip(&self.symbols).map(|(start, &end)| self.text.get(start..end).unwrap_or_default()).collect()
    }

    /// Each series with its labels, sorted by name.
    pub(super) fn series(&self) -> impl Iterator<Item = (u32, &[(u32, u32)])> {
        let starts = [0].into_iter().chain(self.series.iter().map(|series| series.1));
        let of = |(start, &(series, end)): (usize, &(u32, usize))| (series, &self.labels[start..end]);
        starts.zip(&self.series).map(of)
    }
}

/// Takes what a reader ahead has read.
pub(super) trait PacketSink: ReplaySink {
    /// What [`series`](ReplaySink::series) says of single series, of many.
    fn define(&mut self, definitions: &Definitions);
}

/// What one record of the log holds, and how far the reader was behind it.
#[derive(Debug, Default)]
struct Packet {
    tenant: Option<TenantId>,
    definitions: Definitions,
    batches: Vec<(LogPosition, LogBatch)>,
    /// As [`Replay::progress`].
    progress: (u64, u64),
    /// As [`Replay::segments`].
    segments: (u64, u64, u64),
}

impl Packet {
    fn is_empty(&self) -> bool {
        self.tenant.is_none()
    }

    /// Gives everything to `sink`. After an error all of it is still there, to be given again.
    fn give<S: PacketSink>(&mut self, sink: &mut S) -> Result<(), S::Error> {
        if let Some(tenant) = &self.tenant {
            sink.tenant(tenant)?;
        }
        if !self.definitions.series.is_empty() {
            sink.define(&self.definitions);
        }
        self.batches.drain(..).for_each(|(position, batch)| sink.batch(position, batch));
        Ok(())
    }
}

impl ReplaySink for Packet {
    type Error = std::convert::Infallible;

    fn tenant(&mut self, tenant: &TenantId) -> Result<(), Self::Error> {
        self.tenant = Some(tenant.clone());
        Ok(())
    }

    fn series(&mut self, series: u32, labels: &[(&str, &str)]) {
        self.definitions.add(series, labels);
    }

    fn batch(&mut self, position: LogPosition, batch: LogBatch) {
        self.batches.push((position, batch));
    }
}

/// The reading thread.
#[derive(Debug)]
pub(super) struct ReadAhead {
    /// `None` once the reader is to end.
    packets: Option<Receiver<Packet>>,
    thread: Option<JoinHandle<Replay>>,
    /// What could not be applied yet.
    pending: Option<Packet>,
}

/// What came of a step.
pub(super) enum Ahead {
    /// A record was applied; progress and segments as [`Replay`] gives them.
    Applied { progress: (u64, u64), segments: (u64, u64, u64) },
    /// The log has ended.
    End(Box<Replay>),
}

impl ReadAhead {
    /// Starts to read.
    pub(super) fn start(replay: Replay) -> io::Result<Self> {
        let (sender, packets) = sync_channel(AHEAD);
        let thread = std::thread::Builder::new().name("log-reader".into()).spawn(|| read(replay, sender))?;
        Ok(Self { packets: Some(packets), thread: Some(thread), pending: None })
    }

    /// Gives the next record to `sink`, when it is there. After an error the same record is given again.
    pub(super) fn step<S: PacketSink>(&mut self, sink: &mut S) -> Result<Ahead, S::Error> {
        let next = self.pending.take().or_else(|| self.packets.as_ref()?.recv().ok());
        let Some(mut packet) = next else { return Ok(Ahead::End(Box::new(self.join()))) };
        match packet.give(sink) {
            Ok(()) => Ok(Ahead::Applied { progress: packet.progress, segments: packet.segments }),
            Err(error) => {
                self.pending = Some(packet);
                Err(error)
            }
        }
    }

    /// What the reader knows at its end. If it panicked, this does.
    fn join(&mut self) -> Replay {
        self.packets = None;
        let ended = self.thread.take().map(JoinHandle::join);
        match ended {
            Some(Ok(replay)) => replay,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            None => unreachable!("nobody asks again once the log has ended"),
        }
    }
}

impl Drop for ReadAhead {
    fn drop(&mut self) {
        // Without a receiver the reader ends at its next record.
        self.packets = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn read(mut replay: Replay, packets: SyncSender<Packet>) -> Replay {
    loop {
        let mut packet = Packet::default();
        let Ok(more) = replay.step(&mut packet);
        if !packet.is_empty() {
            (packet.progress, packet.segments) = (replay.progress(), replay.segments());
            if packets.send(packet).is_err() {
                return replay;
            }
        }
        if !more {
            return replay;
        }
    }
}

#[cfg(test)]
mod tests;
