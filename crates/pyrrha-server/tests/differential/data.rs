//! The data both servers get: gauges, counters that reset, classic histograms, a series with gaps.

use prost::Message;
use pyrrha_ingest::proto::v1::{Label, Sample, TimeSeries, WriteRequest};

const INTERVAL_S: i64 = 15;
/// So many that no window reaches the beginning, where 2.42 extrapolates counters differently.
const SCRAPES: i64 = 90 * 60 / INTERVAL_S;

/// Where a seed places the data: the hour, which decides how chunks and blocks lie, and the phase of the scrapes.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    /// The end of the data, seconds since 1970: a full minute of 2020 to 2024.
    pub(crate) end_s: i64,
    /// Of the first scrape, below the interval and never a full second: no sample lies on a window's edge.
    phase_ms: i64,
}

impl Place {
    /// The same seed gives the same place, whenever the test runs.
    pub(crate) fn of(seed: u64) -> Self {
        let scrambled = mix(seed as i64);
        let end_s = (1_580_000_000 + mix(scrambled) % 130_000_000) / 60 * 60;
        let phase_ms = mix(scrambled + 1) % INTERVAL_S * 1000 + 1 + mix(scrambled + 2) % 995;
        Self { end_s, phase_ms }
    }
}

/// Remote write bodies in time order.
pub(crate) fn requests(place: Place) -> Vec<Vec<u8>> {
    (0..SCRAPES)
        .map(|scrape| {
            let t = (place.end_s - (SCRAPES - scrape) * INTERVAL_S) * 1000 + place.phase_ms + scrape % 3;
            let request = WriteRequest { timeseries: series(scrape, t), metadata: Vec::new() };
            snap::raw::Encoder::new().compress_vec(&request.encode_to_vec()).expect("compressible")
        })
        .collect()
}

fn series(scrape: i64, t: i64) -> Vec<TimeSeries> {
    let mut all = Vec::new();
    let mut push = |labels: &[(&str, &str)], value: f64| {
        let mut labels: Vec<_> =
            labels.iter().map(|(n, v)| Label { name: (*n).into(), value: (*v).into() }).collect();
        labels.sort_by(|a, b| a.name.cmp(&b.name));
        all.push(TimeSeries { labels, samples: vec![Sample { value, timestamp: t }], ..Default::default() });
    };
    for (j, job) in ["api", "db", "web"].iter().enumerate() {
        push(&[("__name__", "job_info"), ("job", job), ("team", ["red", "blue", "red"][j])], 1.0);
        for (i, instance) in ["a:1", "b:1", "c:1", "d:1"].iter().enumerate() {
            let series = (j * 4 + i) as i64;
            let id = [("job", *job), ("instance", *instance)];
            push(
                &[&[("__name__", "load"), ("zone", ["x", "y"][i % 2])], &id[..]].concat(),
                load(series, scrape),
            );
            for (c, code) in ["200", "404", "500"].iter().enumerate() {
                let value = counter(series * 3 + c as i64, scrape);
                push(&[&[("__name__", "requests_total"), ("code", *code)], &id[..]].concat(), value);
            }
            if (scrape + series * 7) % 60 < 35 {
                push(&[&[("__name__", "sparse")], &id[..]].concat(), load(series + 40, scrape));
            }
        }
        for (b, le) in ["0.1", "0.5", "1", "+Inf"].iter().enumerate() {
            let value: f64 = (0..=b as i64).map(|k| counter(100 + j as i64 * 4 + k, scrape)).sum();
            push(&[("__name__", "latency_bucket"), ("job", job), ("le", le)], value);
        }
    }
    all
}

/// A gauge in quarters, so that sums are exact; distinct between series, so that topk has no ties.
fn load(series: i64, scrape: i64) -> f64 {
    let wave = mix(series * 1_000 + scrape / 2) % 400;
    (series * 512 + wave) as f64 / 4.0 - 700.0
}

/// A counter far from zero that falls (to a value far from zero) now and then.
fn counter(series: i64, scrape: i64) -> f64 {
    let since_reset = (scrape + series * 13) % 150;
    let steps: i64 = (0..since_reset).map(|k| mix(series * 10_000 + k) % 9).sum();
    (5_000_000 + series * 1_000 + steps) as f64
}

/// A fixed scramble of a number, never negative.
fn mix(n: i64) -> i64 {
    let x = (n as u64).wrapping_add(0x9E37_79B9_7F4A_7C15).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    ((x ^ (x >> 31)).wrapping_mul(0x94D0_49BB_1331_11EB) >> 33) as i64
}
