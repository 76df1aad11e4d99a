//! A writer that repeats each batch until it is acknowledged, and remembers how many were. Half of its
//! series come in the order of time, half of them late.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use prost::Message;
use pyrrha_ingest::proto::v1::{Label, Sample, TimeSeries, WriteRequest};

use crate::process::remote_write;

/// Series of a writer.
pub(crate) const SERIES: usize = 50;

/// Time between the samples of a series, ms.
pub(crate) const SPACING_MS: i64 = 100;

/// Late samples come in runs of so many, the newest first.
const RUN: u64 = 16;

/// Which sample of a series, by time, is in a batch; and which batch has that sample.
pub(crate) fn place(series: usize, batch: u64) -> u64 {
    if series.is_multiple_of(2) { batch } else { batch ^ (RUN - 1) }
}

/// One writer.
pub(crate) struct Writer {
    id: usize,
    address: String,
    /// Time of the first sample, ms; the k-th is k spacings later.
    pub(crate) base: i64,
    /// Number of batches that were acknowledged.
    pub(crate) acknowledged: Arc<AtomicU64>,
}

/// The value of a sample of a series, the `k`-th by time: any bits but those of a NaN.
pub(crate) fn value(writer: usize, series: usize, k: u64) -> f64 {
    let seed = (writer as u64) << 48 | (series as u64) << 32 | k;
    let x = seed.wrapping_add(0x9E37_79B9_7F4A_7C15).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = f64::from_bits(x ^ (x >> 29));
    // One in three is a small whole number, as counters are; special values have tests of their own.
    if k.is_multiple_of(3) || !value.is_finite() { (k * 7 + series as u64) as f64 } else { value }
}

impl Writer {
    /// A writer of its own series.
    #[allow(clippy::disallowed_methods, reason = "a test sends data of now")]
    pub(crate) fn new(id: usize, address: &str) -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        // All writers share the base, a whole hour at least one hour ago.
        let base = (now.as_secs() as i64 / 3600 - 1) * 3_600_000;
        Self { id, address: address.to_owned(), base, acknowledged: Arc::default() }
    }

    /// Writes until `stop`; the last batch is acknowledged when it returns.
    #[allow(clippy::disallowed_methods, reason = "a test waits for another process")]
    pub(crate) fn run(self, stop: &AtomicBool) {
        let mut batch = 0;
        while !stop.load(Ordering::Acquire) {
            let body = self.body(batch);
            loop {
                match remote_write(&self.address, &body) {
                    Ok(answer) if answer.status / 100 == 2 => break,
                    Ok(answer) if answer.status / 100 == 4 => {
                        panic!("batch {batch} is refused: {} {}", answer.status, answer.text())
                    }
                    // Down, or its answer was lost: the same batch again, which may be there already.
                    _ => std::thread::sleep(Duration::from_millis(20)),
                }
            }
            batch += 1;
            self.acknowledged.store(batch, Ordering::Release);
        }
    }

    fn body(&self, batch: u64) -> Vec<u8> {
        let label = |name: &str, value: String| Label { name: name.to_owned(), value };
        let timeseries = (0..SERIES)
            .map(|series| TimeSeries {
                labels: vec![
                    label("__name__", "kill_test".to_owned()),
                    label("series", series.to_string()),
                    label("writer", self.id.to_string()),
                ],
                samples: vec![Sample {
                    value: value(self.id, series, place(series, batch)),
                    timestamp: self.base + place(series, batch) as i64 * SPACING_MS,
                }],
                ..Default::default()
            })
            .collect();
        let request = WriteRequest { timeseries, metadata: Vec::new() };
        snap::raw::Encoder::new().compress_vec(&request.encode_to_vec()).expect("compressible")
    }
}
