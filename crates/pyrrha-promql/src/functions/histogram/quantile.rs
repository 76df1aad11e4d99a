//! `histogram_quantile`, `histogram_quantiles` and `histogram_fraction` over classic and native
//! histograms in one vector.

use std::sync::Arc;

use foldhash::{HashMap, HashMapExt};
use pyrrha_model::go_fmt::float_g;
use pyrrha_model::histogram::NanEffect;
use pyrrha_model::{FloatHistogram, SymbolId};

use super::classic::{self, Cumulative, Forced};
use crate::annotations::{Monotonicity, Note};
use crate::error::QueryError;
use crate::functions::relabel::is_label_name;
use crate::kernel::{KernelArgs, KernelNotes};
use crate::labels::LabelIds;
use crate::printer::quoted;
use crate::value::{Bits, Column, Series};

/// `histogram_quantile(φ, v)`
pub(in crate::functions) fn histogram_quantile(
    series: Vec<Series>,
    args: &KernelArgs<'_>,
    notes: &mut KernelNotes<'_>,
) -> Result<Vec<Series>, QueryError> {
    notes.about(None);
    note_bad_quantiles(0, args, 0, notes);
    let input = Input::new(series, args, 1, notes);
    Ok(input.evaluate(args, notes, |step| Question::Quantile(args.scalar_at(0, step).unwrap_or(f64::NAN))))
}

/// `histogram_quantiles(v, label, φ...)`
pub(in crate::functions) fn histogram_quantiles(
    series: Vec<Series>,
    args: &KernelArgs<'_>,
    notes: &mut KernelNotes<'_>,
) -> Result<Vec<Series>, QueryError> {
    notes.about(None);
    let Some(label) = args.strings.first() else {
        return Err(QueryError::execution("histogram_quantiles() needs a label name"));
    };
    if !is_label_name(label) {
        return Err(QueryError::execution(format!("invalid label name {}", quoted(label))));
    }
    let label = args.symbols.intern(label);
    for i in 0..args.scalars.len() {
        note_bad_quantiles(i, args, 2 + i, notes);
    }
    let input = Input::new(series, args, 0, notes);
    let mut out = Vec::new();
    for i in 0..args.scalars.len() {
        let all = input
            .evaluate(args, notes, |step| Question::Quantile(args.scalar_at(i, step).unwrap_or(f64::NAN)));
        for series in all {
            // The quantile may change from step to step, and with it the label.
            out.extend(split_by_quantile(series, label, i, args));
        }
    }
    Ok(out)
}

/// `histogram_fraction(lower, upper, v)`
pub(in crate::functions) fn histogram_fraction(
    series: Vec<Series>,
    args: &KernelArgs<'_>,
    notes: &mut KernelNotes<'_>,
) -> Result<Vec<Series>, QueryError> {
    let input = Input::new(series, args, 2, notes);
    let bound = |i: usize, step: usize| args.scalar_at(i, step).unwrap_or(f64::NAN);
    Ok(input.evaluate(args, notes, |step| Question::Fraction(bound(0, step), bound(1, step))))
}

/// Warns of values of a scalar, written as argument `arg`, that are no quantile.
fn note_bad_quantiles(scalar: usize, args: &KernelArgs<'_>, arg: usize, notes: &mut KernelNotes<'_>) {
    let constant = args.scalars.get(scalar).is_some_and(|s| s.constant().is_some());
    for step in 0..if constant { args.steps.count.min(1) } else { args.steps.count } {
        if let Some(q) = args.scalar_at(scalar, step).filter(|q| !(0.0..=1.0).contains(q)) {
            notes.add(arg, Note::InvalidQuantile(q));
        }
    }
}

fn split_by_quantile(series: Series, label: SymbolId, scalar: usize, args: &KernelArgs<'_>) -> Vec<Series> {
    let mut by_label: Vec<(SymbolId, Column)> = Vec::new();
    for step in series.column.presence().iter() {
        let (Some(q), Some(value)) = (args.scalar_at(scalar, step), series.column.float(step)) else {
            continue;
        };
        let text = args.symbols.intern(&open_metrics_float(q));
        let at = by_label.iter().position(|(t, _)| *t == text).unwrap_or_else(|| {
            by_label.push((text, Column::new(series.column.steps())));
            by_label.len() - 1
        });
        by_label[at].1.set_float(step, value);
    }
    let labelled = |(text, column)| Series {
        labels: series.labels.with(args.symbols, label, text),
        drop_name: series.drop_name,
        column,
    };
    by_label.into_iter().map(labelled).collect()
}

/// A float as OpenMetrics writes it: always with a point or an exponent.
fn open_metrics_float(value: f64) -> String {
    let mut text = float_g(value);
    if value.is_finite() && !text.contains(['.', 'e']) {
        text.push_str(".0");
    }
    text
}

/// What is asked of each histogram.
#[derive(Clone, Copy)]
enum Question {
    Quantile(f64),
    Fraction(f64, f64),
}

/// The histograms of a vector.
struct Input {
    native: Vec<Native>,
    classic: Vec<Classic>,
    /// Index of the vector among the arguments.
    arg: usize,
}

struct Native {
    labels: LabelIds,
    histograms: Vec<(u32, Arc<FloatHistogram>)>,
}

/// The buckets of one classic histogram.
struct Classic {
    /// Labels without `le`.
    labels: LabelIds,
    /// Upper bounds, ascending, with their columns.
    buckets: Vec<(f64, Column)>,
    /// Steps where a native histogram has the same labels: nothing is evaluated there.
    mixed: Bits,
}

impl Input {
    fn new(series: Vec<Series>, args: &KernelArgs<'_>, arg: usize, notes: &mut KernelNotes<'_>) -> Self {
        let le = args.symbols.intern("le");
        let mut input = Self { native: Vec::new(), classic: Vec::new(), arg };
        let mut by_labels: HashMap<LabelIds, usize> = HashMap::new();
        for mut series in series {
            let histograms = std::mem::take(series.column.histograms_mut());
            if !histograms.is_empty() {
                input.native.push(Native { labels: series.labels.clone(), histograms });
            }
            if series.column.is_empty() {
                continue;
            }
            let text = args.symbols.resolve(series.labels.get(le));
            let Ok(upper) = text.parse::<f64>() else {
                notes.about(named(&series.labels, args));
                notes.add(arg, Note::BadBucketLabel(text.to_string()));
                continue;
            };
            let labels = series.labels.without(&[le]);
            let at = *by_labels.entry(labels.clone()).or_insert_with(|| {
                let mixed = Bits::none(args.steps.count);
                input.classic.push(Classic { labels, buckets: Vec::new(), mixed });
                input.classic.len() - 1
            });
            input.classic[at].buckets.push((upper, series.column));
        }
        for classic in &mut input.classic {
            classic.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        }
        input.drop_mixed(&by_labels, args, notes);
        input
    }

    /// Where a classic and a native histogram have the same labels, neither is evaluated.
    fn drop_mixed(
        &mut self,
        by_labels: &HashMap<LabelIds, usize>,
        args: &KernelArgs<'_>,
        notes: &mut KernelNotes<'_>,
    ) {
        for native in &mut self.native {
            let Some(&at) = by_labels.get(&native.labels) else { continue };
            let classic = &mut self.classic[at];
            native.histograms.retain(|(step, _)| {
                let step = *step as usize;
                let both = classic.buckets.iter().any(|(_, column)| column.float(step).is_some());
                if both {
                    classic.mixed.set(step);
                    notes.about(named(&native.labels, args));
                    notes.add(self.arg, Note::MixedClassicNative);
                }
                !both
            });
        }
    }

    fn evaluate(
        &self,
        args: &KernelArgs<'_>,
        notes: &mut KernelNotes<'_>,
        question: impl Fn(usize) -> Question,
    ) -> Vec<Series> {
        let mut out = Vec::with_capacity(self.native.len() + self.classic.len());
        for native in &self.native {
            notes.about(named(&native.labels, args));
            let mut column = Column::new(args.steps.count);
            for (step, histogram) in &native.histograms {
                let step = *step as usize;
                column.set_float(step, self.ask_native(histogram, question(step), notes));
            }
            push(&mut out, &native.labels, column, args);
        }
        let mut buckets = Vec::new();
        for classic in &self.classic {
            notes.about(named(&classic.labels, args));
            let mut column = Column::new(args.steps.count);
            for step in 0..args.steps.count {
                buckets.clear();
                if !classic.mixed.get(step) {
                    let present = |(upper, column): &(f64, Column)| {
                        column.float(step).map(|count| Cumulative { upper: *upper, count })
                    };
                    buckets.extend(classic.buckets.iter().filter_map(present));
                }
                if buckets.is_empty() {
                    continue;
                }
                let value = match question(step) {
                    Question::Fraction(lower, upper) => classic::fraction(lower, upper, &mut buckets),
                    Question::Quantile(q) => {
                        let (value, forced) = classic::quantile(q, &mut buckets);
                        if let Some(forced) = forced {
                            notes.add(self.arg, forced_note(forced, args.steps.time(step)));
                        }
                        value
                    }
                };
                column.set_float(step, value);
            }
            push(&mut out, &classic.labels, column, args);
        }
        out
    }

    fn ask_native(&self, histogram: &FloatHistogram, question: Question, notes: &mut KernelNotes<'_>) -> f64 {
        match question {
            Question::Quantile(q) => {
                let (value, effect) = histogram.quantile(q);
                match effect {
                    NanEffect::None => {}
                    NanEffect::ResultIsNan => notes.add(self.arg, Note::NanQuantile),
                    NanEffect::Skewed => notes.add(self.arg, Note::NanQuantileSkewed),
                }
                value
            }
            Question::Fraction(lower, upper) => {
                let (value, has_nan) = histogram.fraction(lower, upper);
                if has_nan {
                    notes.add(self.arg, Note::NanFraction);
                }
                value
            }
        }
    }
}

/// What texts may name: results carry no name any more, unless names are dropped at the end.
fn named<'a>(labels: &'a LabelIds, args: &KernelArgs<'_>) -> Option<&'a LabelIds> {
    args.delayed_name_removal.then_some(labels)
}

fn forced_note(forced: Forced, time: i64) -> Note {
    Note::ForcedMonotonicity(Monotonicity {
        min_time: time,
        max_time: time,
        min_bucket: forced.min_bucket,
        max_bucket: forced.max_bucket,
        max_diff: forced.max_diff,
        samples: 1,
    })
}

fn push(out: &mut Vec<Series>, labels: &LabelIds, column: Column, args: &KernelArgs<'_>) {
    if column.is_empty() {
        return;
    }
    let labels = if args.delayed_name_removal {
        labels.clone()
    } else {
        let dropped =
            [SymbolId::METRIC_NAME, args.symbols.intern("__type__"), args.symbols.intern("__unit__")];
        labels.without(&dropped)
    };
    out.push(Series { labels, drop_name: args.delayed_name_removal, column });
}
