//! OpenMetrics text with a time on every line, which `pyrrha import openmetrics` and promtool read.

use pyrrha_ingest::exposition::OpenMetricsWriter;
use pyrrha_model::contract::Value;
use pyrrha_model::{Labels, is_stale_nan};
use pyrrha_storage::tsdb::StoredSample;

#[derive(Default)]
pub(super) struct Encoder {
    writer: OpenMetricsWriter,
    histograms: u64,
    stale: u64,
}

impl super::Encode for Encoder {
    fn series(&mut self, labels: &Labels, samples: &[StoredSample], out: &mut Vec<u8>) {
        self.writer.series(labels);
        for (_, time, value) in samples {
            match value {
                Value::Float(value) if is_stale_nan(*value) => self.stale += 1,
                Value::Float(value) => self.writer.sample(*value, *time, out),
                Value::Histogram(_) | Value::FloatHistogram(_) => self.histograms += 1,
            }
        }
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        OpenMetricsWriter::end(out);
    }

    fn left_out(&self) -> Option<String> {
        let (histograms, stale) = (self.histograms, self.stale);
        (histograms + stale > 0).then(|| {
            format!("OpenMetrics cannot carry everything, left out: native histograms={histograms} stale markers={stale}")
        })
    }
}
