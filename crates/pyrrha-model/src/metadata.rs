//! What accompanies samples: metric metadata and exemplars.

use std::fmt;

use crate::{Labels, Timestamp};

/// The type of a metric family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum MetricType {
    /// Not known.
    #[default]
    Unknown,
    /// Monotone counter.
    Counter,
    /// Gauge.
    Gauge,
    /// Histogram, classic or native.
    Histogram,
    /// Gauge histogram.
    GaugeHistogram,
    /// Summary.
    Summary,
    /// Info metric.
    Info,
    /// State set.
    StateSet,
}

impl MetricType {
    /// The name that Prometheus' API and exposition formats use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::GaugeHistogram => "gaugehistogram",
            Self::Summary => "summary",
            Self::Info => "info",
            Self::StateSet => "stateset",
        }
    }
}

impl fmt::Display for MetricType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Type, help and unit of a metric family.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Metadata {
    /// Metric type.
    pub metric_type: MetricType,
    /// Help text.
    pub help: String,
    /// Unit, "" if none.
    pub unit: String,
}

/// A sample that points outside the metrics: a trace id, usually.
#[derive(Debug, Clone, PartialEq)]
pub struct Exemplar {
    /// The exemplar's own labels.
    pub labels: Labels,
    /// Observed value.
    pub value: f64,
    /// Time of the observation, ms; 0 means not given.
    pub timestamp: Timestamp,
}
