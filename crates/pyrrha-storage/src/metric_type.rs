//! The byte that stands for a metric type in logs, checkpoints and blocks.

use pyrrha_model::MetricType;

/// The byte of a type.
pub(crate) fn byte(metric_type: MetricType) -> u8 {
    match metric_type {
        MetricType::Unknown => 0,
        MetricType::Counter => 1,
        MetricType::Gauge => 2,
        MetricType::Histogram => 3,
        MetricType::GaugeHistogram => 4,
        MetricType::Summary => 5,
        MetricType::Info => 6,
        MetricType::StateSet => 7,
    }
}

/// The type of a byte. That of a later version is one that this version does not know.
pub(crate) fn of(byte: u8) -> MetricType {
    match byte {
        1 => MetricType::Counter,
        2 => MetricType::Gauge,
        3 => MetricType::Histogram,
        4 => MetricType::GaugeHistogram,
        5 => MetricType::Summary,
        6 => MetricType::Info,
        7 => MetricType::StateSet,
        _ => MetricType::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_has_a_byte_of_its_own() {
        for b in 0..8 {
            assert_eq!(byte(of(b)), b);
        }
        assert_eq!(of(200), MetricType::Unknown);
    }
}
