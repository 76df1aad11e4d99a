//! `process_*` metrics, with the names of Prometheus' client libraries. Source: proc(5).

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// Writes one gauge.
pub(crate) fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: f64) -> fmt::Result {
    let metric = ConstGauge::new(value);
    metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
}

/// Writes one counter; `name` without `_total`.
pub(crate) fn counter(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: f64,
) -> fmt::Result {
    let metric = ConstCounter::new(value);
    metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
}

/// Reads `/proc/self` when asked; where that does not exist, there are no such metrics.
#[derive(Debug)]
pub(super) struct ProcessCollector;

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        if let Some(stat) = Stat::read() {
            counter(&mut encoder, "process_cpu_seconds", "CPU time, user and system", stat.cpu_seconds)?;
            gauge(&mut encoder, "process_resident_memory_bytes", "Resident memory", stat.resident_bytes)?;
            gauge(&mut encoder, "process_virtual_memory_bytes", "Virtual memory", stat.virtual_bytes)?;
            gauge(&mut encoder, "process_threads", "Threads", stat.threads)?;
        }
        if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
            gauge(&mut encoder, "process_open_fds", "Open file descriptors", open.count() as f64)?;
        }
        Ok(())
    }
}

struct Stat {
    cpu_seconds: f64,
    threads: f64,
    virtual_bytes: f64,
    resident_bytes: f64,
}

impl Stat {
    fn read() -> Option<Self> {
        let text = std::fs::read_to_string("/proc/self/stat").ok()?;
        let ticks = rustix::param::clock_ticks_per_second();
        Self::parse(&text, ticks as f64, rustix::param::page_size() as f64)
    }

    fn parse(text: &str, ticks: f64, page: f64) -> Option<Self> {
        // The command's name is in parentheses and may hold anything; fields are counted after it.
        let fields: Vec<&str> = text[text.rfind(')')? + 1..].split_whitespace().collect();
        let field = |number: usize| -> Option<f64> { fields.get(number - 3)?.parse().ok() };
        Some(Self {
            cpu_seconds: (field(14)? + field(15)?) / ticks,
            threads: field(20)?,
            virtual_bytes: field(23)?,
            resident_bytes: field(24)? * page,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_after_the_name() {
        let text = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 9 0 100 4096000 300 1";
        let stat = Stat::parse(text, 100.0, 4096.0).expect("well-formed");
        assert_eq!((stat.cpu_seconds, stat.threads), (2.0, 9.0));
        assert_eq!((stat.virtual_bytes, stat.resident_bytes), (4_096_000.0, 300.0 * 4096.0));
        assert!(Stat::parse("7 (a", 100.0, 4096.0).is_none());
    }
}
