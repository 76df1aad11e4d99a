//! Accumulators: one group over all steps.

use pyrrha_model::histogram::kahan_add;

use super::histograms::HistogramTotals;
use crate::annotations::{HistogramOperation, Note};
use crate::ast::AggregateOp;
use crate::functions::float_sum::Mean;
use crate::functions::over_time::quantile;
use crate::value::{Bits, Column, ScalarColumn};

/// One group of an aggregation over all steps.
pub(super) struct Accumulator {
    op: AggregateOp,
    steps: usize,
    present: Bits,
    floats: Floats,
    histograms: HistogramTotals,
}

/// What is kept per step.
enum Floats {
    /// Sums and their compensations.
    Sums(Vec<f64>, Vec<f64>),
    Means(Vec<Mean>),
    /// One value: the extreme, or the count.
    Values(Vec<f64>),
    /// Nothing but presence.
    Nothing,
    /// Count, mean and sum of squared differences from it.
    Moments(Vec<[f64; 3]>),
    /// All values.
    All(Vec<Vec<f64>>),
}

impl Accumulator {
    pub(super) fn new(op: AggregateOp, steps: usize) -> Self {
        let floats = match op {
            AggregateOp::Sum => Floats::Sums(vec![0.0; steps], vec![0.0; steps]),
            AggregateOp::Avg => Floats::Means(vec![Mean::default(); steps]),
            AggregateOp::Stddev | AggregateOp::Stdvar => Floats::Moments(vec![[0.0; 3]; steps]),
            AggregateOp::Quantile => Floats::All(vec![Vec::new(); steps]),
            AggregateOp::Group => Floats::Nothing,
            AggregateOp::Min
            | AggregateOp::Max
            | AggregateOp::Count
            | AggregateOp::Topk
            | AggregateOp::Bottomk
            | AggregateOp::CountValues
            | AggregateOp::Limitk
            | AggregateOp::LimitRatio => Floats::Values(vec![0.0; steps]),
        };
        Self { op, steps, present: Bits::none(steps), floats, histograms: HistogramTotals::default() }
    }

    /// Bytes of a new one.
    pub(super) fn bytes(op: AggregateOp, steps: usize) -> usize {
        let per_step = match op {
            AggregateOp::Sum => 16,
            AggregateOp::Avg => 32,
            AggregateOp::Stddev | AggregateOp::Stdvar | AggregateOp::Quantile => 24,
            AggregateOp::Group => 1,
            _ => 8,
        };
        200 + steps * per_step
    }

    /// Adds a series.
    pub(super) fn add(&mut self, column: &Column, note: &mut impl FnMut(Note)) {
        let (values, present) = column.floats();
        match &mut self.floats {
            Floats::Sums(sums, compensations) => {
                add_sums(sums, compensations, values, present);
                self.histograms.add(column, false, note);
            }
            Floats::Means(means) => {
                present.iter().for_each(|i| means[i].add(values[i]));
                self.histograms.add(column, true, note);
            }
            Floats::Values(counts) if self.op == AggregateOp::Count => {
                let all = column.presence();
                all.iter().for_each(|i| counts[i] += 1.0);
                self.present.union(&all);
                return;
            }
            Floats::Values(extremes) => {
                let max = self.op == AggregateOp::Max;
                for i in present.iter() {
                    let better = if max { extremes[i] < values[i] } else { extremes[i] > values[i] };
                    if better || extremes[i].is_nan() || !self.present.get(i) {
                        extremes[i] = values[i];
                    }
                }
                self.ignored(column, note);
            }
            Floats::Nothing => {
                self.present.union(&column.presence());
                return;
            }
            Floats::Moments(moments) => {
                for i in present.iter() {
                    let [count, mean, squares] = &mut moments[i];
                    *count += 1.0;
                    let delta = values[i] - *mean;
                    *mean += delta / *count;
                    *squares += delta * (values[i] - *mean);
                }
                self.ignored(column, note);
            }
            Floats::All(all) => {
                present.iter().for_each(|i| all[i].push(values[i]));
                self.ignored(column, note);
            }
        }
        self.present.union(present);
    }

    fn ignored(&self, column: &Column, note: &mut impl FnMut(Note)) {
        if !column.histograms().is_empty() {
            note(Note::HistogramIgnoredInAggregation(self.op));
        }
    }

    /// Adds what a later batch found for the same group.
    pub(super) fn merge(&mut self, other: Self, note: &mut impl FnMut(Note)) {
        let present = &other.present;
        match (&mut self.floats, other.floats) {
            (Floats::Sums(sums, compensations), Floats::Sums(s, c)) => {
                for i in present.iter() {
                    (sums[i], compensations[i]) = kahan_add(s[i], sums[i], compensations[i]);
                    if !sums[i].is_infinite() {
                        compensations[i] += c[i];
                    }
                }
            }
            (Floats::Means(means), Floats::Means(m)) => present.iter().for_each(|i| means[i].merge(m[i])),
            (Floats::Values(counts), Floats::Values(c)) if self.op == AggregateOp::Count => {
                present.iter().for_each(|i| counts[i] += c[i]);
            }
            (Floats::Values(extremes), Floats::Values(e)) => {
                let max = self.op == AggregateOp::Max;
                for i in present.iter() {
                    let better = if max { extremes[i] < e[i] } else { extremes[i] > e[i] };
                    if better || extremes[i].is_nan() || !self.present.get(i) {
                        extremes[i] = e[i];
                    }
                }
            }
            (Floats::Moments(moments), Floats::Moments(m)) => {
                present.iter().for_each(|i| moments[i] = merge_moments(moments[i], m[i]));
            }
            (Floats::All(all), Floats::All(a)) => {
                all.iter_mut().zip(a).for_each(|(all, a)| all.extend(a));
            }
            _ => {}
        }
        self.present.union(present);
        self.histograms.merge(other.histograms, note);
    }

    /// The group's column. `phi` is the parameter of `quantile`.
    pub(super) fn finish(mut self, phi: Option<&ScalarColumn>, note: &mut impl FnMut(Note)) -> Column {
        // Steps with floats and histograms have no sum.
        let mixed: Vec<usize> =
            self.histograms.steps().map(|s| s as usize).filter(|s| self.present.get(*s)).collect();
        if !mixed.is_empty() {
            note(Note::MixedFloatsHistogramsAggregation);
            mixed.iter().for_each(|s| self.present.clear(*s));
        }
        if self.histograms.conflicting_resets() {
            note(Note::CounterResetCollision(HistogramOperation::Aggregation));
        }
        let mut column = Column::new(self.steps);
        for i in self.present.iter() {
            let value = match &mut self.floats {
                Floats::Sums(sums, c) => sums[i] + c[i],
                Floats::Means(means) => means[i].value(),
                Floats::Values(values) => values[i],
                Floats::Nothing => 1.0,
                Floats::Moments(moments) => {
                    let variance = moments[i][2] / moments[i][0];
                    if self.op == AggregateOp::Stddev { variance.sqrt() } else { variance }
                }
                Floats::All(all) => quantile(phi.map_or(f64::NAN, |p| p.at(i)), &mut all[i]),
            };
            column.set_float(i, value);
        }
        self.histograms.finish(&mut column, |step| !mixed.contains(&step));
        column
    }
}

fn add_sums(sums: &mut [f64], compensations: &mut [f64], values: &[f64], present: &Bits) {
    if present.count() == values.len() {
        for ((sum, c), x) in sums.iter_mut().zip(compensations).zip(values) {
            (*sum, *c) = kahan_add(*x, *sum, *c);
        }
    } else {
        for i in present.iter() {
            (sums[i], compensations[i]) = kahan_add(values[i], sums[i], compensations[i]);
        }
    }
}

/// Chan's formula for the moments of two sets together.
fn merge_moments(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    if a[0] == 0.0 {
        return b;
    }
    let count = a[0] + b[0];
    let delta = b[1] - a[1];
    [count, a[1] + delta * (b[0] / count), a[2] + b[2] + delta * delta * (a[0] * b[0] / count)]
}

#[cfg(test)]
mod tests;
