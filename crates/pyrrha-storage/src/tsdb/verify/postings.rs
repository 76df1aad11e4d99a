//! Postings lists against the series entries.

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use pyrrha_index::LabelIndex;
use pyrrha_model::Labels;
use xxhash_rust::xxh3::xxh3_64;

use super::BlockReport;
use crate::block::Block;

/// Of each label pair: how many series have it, and a sum over which they are. Two sets of series
/// of equal size and sum are taken for equal.
#[derive(Debug, Default)]
pub(super) struct PairSums {
    pairs: HashMap<u64, Sum, RandomState>,
    key: Vec<u8>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Sum {
    count: u64,
    sum: u64,
}

impl Sum {
    fn add(&mut self, series: u32) {
        self.count += 1;
        self.sum = self.sum.wrapping_add(xxh3_64(&series.to_be_bytes()));
    }
}

impl PairSums {
    /// Adds a series.
    pub(super) fn add(&mut self, labels: &Labels, series: u32) {
        for label in labels {
            let key = key(&mut self.key, &label.name, &label.value);
            self.pairs.entry(key).or_default().add(series);
        }
    }
}

fn key(buffer: &mut Vec<u8>, name: &str, value: &str) -> u64 {
    buffer.clear();
    buffer.extend_from_slice(&(name.len() as u64).to_be_bytes());
    buffer.extend_from_slice(name.as_bytes());
    buffer.extend_from_slice(value.as_bytes());
    xxh3_64(buffer)
}

/// Reads every list and compares it with what the series say.
pub(super) fn check(block: &Block, mut sums: PairSums, report: &mut BlockReport) {
    let index = block.index();
    let names: Vec<String> = match index.label_value_counts() {
        Ok(counts) => counts.map(|(name, _)| name.to_owned()).collect(),
        Err(error) => {
            report.wrong("index", None, None, format!("label names: {error}"));
            return;
        }
    };
    // Series that could not be read were reported, and are missing in the sums.
    let complete = report.problems.is_empty();
    for name in names {
        let values = match index.values_of(&name, None, usize::MAX, &mut |_| Ok(true)) {
            Ok(values) => values,
            Err(error) => {
                report.wrong("index", None, None, format!("values of label {name:?}: {error}"));
                continue;
            }
        };
        for value in values {
            let key = key(&mut sums.key, &name, &value);
            let said = sums.pairs.remove(&key).unwrap_or_default();
            let mut listed = Sum::default();
            match index.postings(&name, &value) {
                Ok(list) => list.to_bitmap().iter().for_each(|series| listed.add(series)),
                Err(error) => {
                    report.wrong("index", None, None, format!("postings of {name}={value:?}: {error}"));
                    continue;
                }
            }
            if complete && listed != said {
                let (listed, said) = (listed.count, said.count);
                let what =
                    format!("postings of {name}={value:?} list {listed} series, {said} have the label");
                report.wrong("index", None, None, what);
            }
        }
    }
    if !sums.pairs.is_empty() {
        let missing = sums.pairs.len();
        report.wrong("index", None, None, format!("label pairs without a postings list: {missing}"));
    }
}
