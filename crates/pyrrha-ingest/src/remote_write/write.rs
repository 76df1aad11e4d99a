//! From a compressed body to a committed batch.

use std::cell::Cell;
use std::collections::HashSet;

use pyrrha_model::contract::{AppendStats, Appender, Ingest, Refused, SeriesKey};
use pyrrha_model::{Exemplar, Labels, SeriesRef, TenantId, Timestamp};

use super::outcome::{ProtobufError, WriteError, WriteOutcome};
use super::request::{MetadataRefs, Request, SeriesSlot};
use super::{KeyHasher, Protocol, v1, v2};
use crate::IngestLimits;
use crate::series_labels::abridge;

/// Largest buffer that a thread keeps for its next request: what Prometheus sends fits by far.
const SCRATCH_BYTES_MAX: usize = 4 << 20;

thread_local! {
    /// The decompressed body of the thread's last request: fresh memory costs more than decoding.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Takes remote write requests. One for the process; threads share it.
#[derive(Debug)]
pub struct RemoteWriter {
    hasher: KeyHasher,
    limits: IngestLimits,
}

impl RemoteWriter {
    /// A writer with these limits and a fresh secret seed.
    pub fn new(limits: IngestLimits) -> Self {
        Self { hasher: KeyHasher::new(), limits }
    }

    /// Decodes a snappy-compressed body and stores it for `tenant`. When it returns `Ok`, what the
    /// outcome says is stored is durable; what it says is refused is not stored. On an error
    /// nothing of the request is stored.
    pub fn write(
        &self,
        store: &dyn Ingest,
        tenant: &TenantId,
        protocol: Protocol,
        body: &[u8],
    ) -> Result<WriteOutcome, WriteError> {
        let mut scratch = SCRATCH.take();
        let result = self.write_with(store, tenant, protocol, body, &mut scratch);
        if scratch.capacity() <= SCRATCH_BYTES_MAX {
            SCRATCH.set(scratch);
        }
        result
    }

    fn write_with(
        &self,
        store: &dyn Ingest,
        tenant: &TenantId,
        protocol: Protocol,
        body: &[u8],
        scratch: &mut Vec<u8>,
    ) -> Result<WriteOutcome, WriteError> {
        let body = self.decompress(body, scratch)?;
        let request = self.decode(protocol, body)?;
        let mut write = Write {
            request: &request,
            limits: &self.limits,
            protocol,
            outcome: WriteOutcome::default(),
            stores_anything: false,
            described: HashSet::default(),
        };
        // The batch is opened only now: a store may serialise the batches of a tenant.
        let mut appender = store.appender(tenant)?;
        write.append_all(appender.as_mut());
        let Write { mut outcome, stores_anything, .. } = write;
        outcome.stats = if stores_anything { appender.commit()? } else { AppendStats::default() };
        Ok(outcome)
    }

    fn decompress<'s>(&self, body: &[u8], scratch: &'s mut Vec<u8>) -> Result<&'s [u8], WriteError> {
        let bytes = snap::raw::decompress_len(body).map_err(WriteError::Snappy)?;
        let limit = self.limits.request_bytes_max;
        if bytes > limit {
            return Err(WriteError::TooLarge { bytes, limit });
        }
        // The densest snappy element copies 64 bytes for 3: a claim beyond that is refused before it
        // is allocated.
        if bytes / 22 > body.len() {
            return Err(WriteError::Bomb { declared: bytes, compressed: body.len() });
        }
        if scratch.len() < bytes {
            scratch.resize(bytes, 0);
        }
        let len = snap::raw::Decoder::new().decompress(body, scratch).map_err(WriteError::Snappy)?;
        Ok(&scratch[..len])
    }

    fn decode<'a>(&self, protocol: Protocol, body: &'a [u8]) -> Result<Request<'a>, WriteError> {
        let max = self.limits.decoded_bytes_max;
        let (message, result) = match protocol {
            Protocol::V1 => ("prometheus.WriteRequest", v1::walk(body, self.hasher, max)),
            Protocol::V2 => ("io.prometheus.write.v2.Request", v2::walk(body, self.hasher, max)),
        };
        result.map_err(|source| WriteError::Protobuf { message, source: ProtobufError::from(source) })
    }
}

/// One request on its way into a batch.
struct Write<'r, 'a> {
    request: &'r Request<'a>,
    limits: &'r IngestLimits,
    protocol: Protocol,
    outcome: WriteOutcome,
    stores_anything: bool,
    /// Metric families whose metadata this request has given already.
    described: HashSet<&'a str>,
}

impl<'a> Write<'_, 'a> {
    fn append_all(&mut self, appender: &mut dyn Appender) {
        let mut found = Vec::new();
        appender.lookup(&self.request.keys, &mut found);
        for (index, slot) in self.request.series.iter().enumerate() {
            let usable = !self.lacks_samples(slot) && self.request.metadata_is_sound(slot);
            let known = found.get(index).copied().flatten().filter(|_| usable);
            let series = known.or_else(|| self.resolve(appender, slot, self.request.keys[index]));
            if let Some(series) = series {
                self.append_series(appender, slot, series);
            }
        }
        for (metric, metadata) in &self.request.families {
            if metric.is_empty() {
                self.outcome.refuse_series("metadata without a metric family name");
            } else {
                appender.append_metadata(metric, metadata.clone());
                self.stores_anything = true;
            }
        }
    }

    /// The slow path of a series that is not in the cache: checks and builds its labels.
    fn resolve(
        &mut self,
        appender: &mut dyn Appender,
        slot: &SeriesSlot<'a>,
        key: SeriesKey,
    ) -> Option<SeriesRef> {
        let labels = match self.checked_labels(slot) {
            Ok(labels) => labels,
            Err(why) => {
                self.outcome.refuse_series(&why);
                return None;
            }
        };
        match appender.resolve(Some(key), &labels) {
            Ok(series) => Some(series),
            Err(refused) => {
                self.outcome.refuse(&refused, || format!("series={}", abridge(&labels.to_string())));
                None
            }
        }
    }

    fn checked_labels(&self, slot: &SeriesSlot<'a>) -> Result<Labels, String> {
        if let Some(refs) = slot.metadata {
            self.request.metadata(refs)?;
        }
        let labels = self.request.series_labels(&slot.labels, self.limits)?;
        if self.lacks_samples(slot) {
            return Err(format!(
                "TimeSeries must contain at least one sample or histogram for series {}",
                abridge(&labels.to_string())
            ));
        }
        Ok(labels)
    }

    /// 2.0 demands a sample of each series.
    fn lacks_samples(&self, slot: &SeriesSlot<'a>) -> bool {
        self.protocol == Protocol::V2 && slot.samples.is_empty() && slot.histograms.is_empty()
    }

    fn append_series(&mut self, appender: &mut dyn Appender, slot: &SeriesSlot<'a>, series: SeriesRef) {
        let request = self.request;
        for sample in &request.samples[slot.samples.start as usize..slot.samples.end as usize] {
            match appender.append(series, sample.start, sample.t, sample.v) {
                Ok(()) => self.stores_anything = true,
                Err(refused) => self.refuse_sample(&refused, slot, sample.t),
            }
        }
        for h in &request.histograms[slot.histograms.start as usize..slot.histograms.end as usize] {
            match appender.append_histogram(series, h.start, h.t, h.value.clone()) {
                Ok(()) => self.stores_anything = true,
                Err(refused) => self.refuse_sample(&refused, slot, h.t),
            }
        }
        self.append_exemplars(appender, slot, series);
        self.append_metadata(appender, slot);
    }

    /// 2.0 repeats a family's metadata with each of its series; the first of a request is enough.
    fn append_metadata(&mut self, appender: &mut dyn Appender, slot: &SeriesSlot<'a>) {
        let Some(refs) = slot.metadata.filter(|m| *m != MetadataRefs::default()) else { return };
        let Some(metric) = self.request.metric_name(&slot.labels) else { return };
        if self.described.insert(metric)
            && let Ok(metadata) = self.request.metadata(refs)
        {
            appender.append_metadata(metric, metadata);
            self.stores_anything = true;
        }
    }

    fn append_exemplars(&mut self, appender: &mut dyn Appender, slot: &SeriesSlot<'a>, series: SeriesRef) {
        let request = self.request;
        for exemplar in &request.exemplars[slot.exemplars.start as usize..slot.exemplars.end as usize] {
            let labels = match request.exemplar_labels(&exemplar.labels, self.limits) {
                Ok(labels) => labels,
                Err(why) => {
                    self.outcome.refuse_series(&format!("exemplar: {why}"));
                    continue;
                }
            };
            let value = Exemplar { labels, value: exemplar.value, timestamp: exemplar.t };
            match appender.append_exemplar(series, value) {
                Ok(()) => self.stores_anything = true,
                // Senders repeat an exemplar until a newer one comes: that is no fault.
                Err(Refused::DuplicateExemplar) => {}
                // 1.0 has no way to say it without making the sender drop the whole request.
                Err(Refused::OutOfOrderExemplar) if self.protocol == Protocol::V1 => {}
                Err(refused) => self.refuse_sample(&refused, slot, exemplar.t),
            }
        }
    }

    fn refuse_sample(&mut self, refused: &Refused, slot: &SeriesSlot<'a>, t: Timestamp) {
        let (request, limits) = (self.request, self.limits);
        self.outcome.refuse(refused, || {
            let labels = request.series_labels(&slot.labels, limits);
            let labels = labels.map_or_else(|why| why, |l| abridge(&l.to_string()));
            format!("timestamp={t} series={labels}")
        });
    }
}
