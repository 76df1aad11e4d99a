//! Operators between two instant vectors: matching once per series, values step by step.

mod columns;
mod set;

use hashbrown::HashMap;
use pyrrha_model::SymbolId;

use crate::annotations::Annotation;
use crate::ast::{Cardinality, Pos, VectorMatching};
use crate::error::QueryError;
use crate::exec::operator::drops_name;
use crate::exec::{Exec, Table, mismatch};
use crate::labels::LabelIds;
use crate::plan::Binary;
use crate::value::{Bits, Column, Series, Steps};
use columns::Elements;

type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// Matching labels as ids.
pub(super) struct Matching {
    on: bool,
    labels: Vec<SymbolId>,
    include: Vec<SymbolId>,
}

impl Matching {
    /// What must be equal on both sides.
    fn signature(&self, labels: &LabelIds) -> LabelIds {
        if self.on { labels.only(&self.labels) } else { labels.without(&self.labels) }
    }
}

/// The series of both sides that have one signature, as indices.
#[derive(Default)]
struct Match {
    many: Vec<usize>,
    one: Vec<usize>,
}

/// The least error, by step and then by order within the step (decision 32).
#[derive(Default)]
struct Least(Option<((usize, u8, usize), String)>);

impl Least {
    fn offer(&mut self, key: (usize, u8, usize), text: impl FnOnce() -> String) {
        if self.0.as_ref().is_none_or(|(known, _)| key < *known) {
            self.0 = Some((key, text()));
        }
    }
}

/// The evaluation of one operator.
struct Operation<'a, 't> {
    exec: &'a Exec<'a>,
    matching: &'t Matching,
    syntax: &'t VectorMatching,
    elements: Elements,
    /// The side that may have many: left, except with `group_right`.
    many: &'t [Series],
    one: &'t [Series],
    /// Steps at which the operator sees a sample at all.
    live: Bits,
    drops_name: bool,
    /// Whether labels that go with a name are among those that the "one" side gives: the name of the
    /// "many" side goes before they come.
    includes_name: bool,
    steps: usize,
    error: Least,
    notes: Vec<Annotation>,
    out: Vec<Series>,
    /// Whether results of two signatures may have the same labels: not while each has its signature's.
    may_clash: bool,
}

impl<'a> Exec<'a> {
    /// Evaluates an operator between two instant vectors.
    pub(crate) fn vector_operator(
        &'a self,
        binary: &'a Binary,
        pos: Pos,
        steps: Steps,
    ) -> Result<Table<'a>, QueryError> {
        let Some(syntax) = &binary.matching else { return Err(mismatch(crate::ast::ValueType::Vector)) };
        let lhs = self.vector(&binary.lhs, steps)?;
        let rhs = self.vector(&binary.rhs, steps)?;
        let ids = |names: &[String]| names.iter().map(|n| self.ctx.symbols.intern(n)).collect::<Vec<_>>();
        let mut labels = ids(&syntax.labels);
        if !syntax.on {
            labels.push(SymbolId::METRIC_NAME);
        }
        let matching = Matching { on: syntax.on, labels, include: ids(&syntax.include) };
        if binary.op.is_set() {
            return self.set_operator(binary.op, lhs, rhs, &matching);
        }
        let swapped = syntax.card == Cardinality::OneToMany;
        let (many, one) = if swapped { (&rhs, &lhs) } else { (&lhs, &rhs) };
        let mut operation = Operation {
            exec: self,
            matching: &matching,
            syntax,
            elements: Elements { op: binary.op, return_bool: binary.return_bool, swapped, pos },
            many: &many.series,
            one: &one.series,
            live: live(&lhs.series, &rhs.series, syntax, steps.count),
            drops_name: drops_name(binary.op, binary.return_bool),
            includes_name: matching.include.iter().any(|l| self.name_labels.contains(l)),
            steps: steps.count,
            error: Least::default(),
            notes: Vec::new(),
            out: Vec::new(),
            may_clash: false,
        };
        operation.run()?;
        let Operation { error, notes, out, may_clash, .. } = operation;
        if let Some((_, text)) = error.0 {
            return Err(QueryError::Execution(text));
        }
        self.annotate(notes);
        drop((lhs, rhs));
        let table = Table::charged(self, out)?;
        if may_clash { self.merge_equal(table, false) } else { Ok(table) }
    }
}

/// Steps at which both sides hold something; with a fill, at which one does.
fn live(lhs: &[Series], rhs: &[Series], syntax: &VectorMatching, steps: usize) -> Bits {
    let any = |side: &[Series]| {
        let mut bits = Bits::none(steps);
        side.iter().for_each(|s| bits.union(&s.column.presence()));
        bits
    };
    let (mut left, right) = (any(lhs), any(rhs));
    if syntax.fill_left.is_some() || syntax.fill_right.is_some() {
        left.union(&right);
    } else {
        left.intersect(&right);
    }
    left
}

impl Operation<'_, '_> {
    fn run(&mut self) -> Result<(), QueryError> {
        let (matches, order) = self.matches();
        for signature in order {
            self.exec.check()?;
            let Some(found) = matches.get(&signature) else { continue };
            self.one_signature(&signature, found);
        }
        Ok(())
    }

    fn matches(&self) -> (Map<LabelIds, Match>, Vec<LabelIds>) {
        let mut matches: Map<LabelIds, Match> = Map::default();
        let mut order = Vec::new();
        for (i, series) in self.many.iter().enumerate() {
            let signature = self.matching.signature(&series.labels);
            let entry = matches.entry_ref(&signature).or_insert_with(|| {
                order.push(signature.clone());
                Match::default()
            });
            entry.many.push(i);
        }
        for (i, series) in self.one.iter().enumerate() {
            let signature = self.matching.signature(&series.labels);
            let entry = matches.entry_ref(&signature).or_insert_with(|| {
                order.push(signature.clone());
                Match::default()
            });
            entry.one.push(i);
        }
        (matches, order)
    }

    fn one_signature(&mut self, signature: &LabelIds, found: &Match) {
        self.check_duplicates(signature, &found.one);
        // `group_right` swaps the sides, and Prometheus leaves the fills where they are.
        let (fill_one, fill_many) = (self.syntax.fill_right, self.syntax.fill_left);
        let mut one_present = Bits::none(self.steps);
        found.one.iter().for_each(|i| one_present.union(&self.one[*i].column.presence()));
        // Steps at which a sample of the "many" side has found another.
        let mut matched = Bits::none(self.steps);
        let mut results = Results::default();
        for &m in &found.many {
            let series = &self.many[m];
            let presence = series.column.presence();
            let before = matched.clone();
            let mut met = Bits::none(self.steps);
            for &o in &found.one {
                let one = &self.one[o];
                let labels = self.result_labels(&series.labels, &one.labels, signature);
                let marked = self.is_marked(series.drop_name, one.drop_name);
                met.union(&self.emit(&mut results, m, labels, marked, &series.column, &one.column, None));
            }
            if let Some(fill) = fill_one {
                let mut missing = presence;
                missing.subtract(&one_present);
                let labels = self.result_labels(&series.labels, signature, signature);
                let column = filled(&missing, fill, self.steps);
                let marked = self.is_marked(series.drop_name, false);
                let filled =
                    self.emit(&mut results, m, labels, marked, &series.column, &column, Some(&missing));
                met.union(&filled);
            }
            if self.syntax.card == Cardinality::OneToOne {
                self.check_one_to_one(m, &met, &before);
            }
            matched.union(&met);
        }
        if let Some(fill) = fill_many {
            for &o in &found.one {
                let one = &self.one[o];
                let mut missing = one.column.presence();
                missing.subtract(&matched);
                let labels = self.result_labels(signature, &one.labels, signature);
                let column = filled(&missing, fill, self.steps);
                let marked = self.is_marked(false, one.drop_name);
                let filled =
                    self.emit(&mut results, usize::MAX, labels, marked, &column, &one.column, Some(&missing));
                if self.syntax.card == Cardinality::OneToOne {
                    matched.union(&filled);
                }
            }
        }
        self.may_clash |= results.series.iter().any(|s| s.labels != *signature);
        self.out.extend(results.series);
    }

    /// Two series of the "one" side at one step.
    fn check_duplicates(&mut self, signature: &LabelIds, one: &[usize]) {
        if one.len() < 2 {
            return;
        }
        let mut seen = Bits::none(self.steps);
        for &i in one {
            let mut twice = self.one[i].column.presence();
            twice.intersect(&self.live);
            let presence = twice.clone();
            twice.intersect(&seen);
            if let Some(step) = twice.iter().next() {
                let other = one.iter().find(|o| self.one[**o].column.is_present(step)).copied().unwrap_or(i);
                let symbols = &self.exec.ctx.symbols;
                let group = signature.braced(symbols);
                let mut both = [i, other].map(|i| self.one[i].labels.braced(symbols));
                both.sort();
                let side = if self.elements.swapped { "left" } else { "right" };
                self.error.offer((step, 0, i), || {
                    format!(
                        "found duplicate series for the match group {group} on the {side} hand-side of the operation: [{}, {}];many-to-many matching not allowed: matching labels must be unique on one side",
                        both[0], both[1]
                    )
                });
            }
            seen.union(&presence);
        }
    }

    /// Two series of the "many" side at one step where only one may match.
    fn check_one_to_one(&mut self, m: usize, met: &Bits, before: &Bits) {
        let mut twice = met.clone();
        twice.intersect(before);
        if let Some(step) = twice.iter().next() {
            self.error.offer((step, 1, m), || {
                "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)"
                    .to_owned()
            });
        }
    }

    /// Computes a pair of columns into the result of `labels`. Returns the steps at which they met.
    #[allow(clippy::too_many_arguments, reason = "one pair of series in all its parts")]
    fn emit(
        &mut self,
        results: &mut Results,
        m: usize,
        labels: LabelIds,
        drop_name: bool,
        many: &Column,
        one: &Column,
        only: Option<&Bits>,
    ) -> Bits {
        let (column, met) = self.elements.columns(many, one, only, &mut self.notes);
        if met.is_empty() {
            return met;
        }
        let mut series = Series { labels, drop_name, column };
        // An included name is the result's own; only `bool` takes that, too.
        if self.drops_name && (!self.includes_name || self.elements.return_bool) {
            self.exec.drop_name(&mut series);
        }
        let index = results.index(&series);
        if self.syntax.card != Cardinality::OneToOne {
            let mut twice = met.clone();
            twice.intersect(&results.met[index]);
            if let Some(step) = twice.iter().next() {
                self.error.offer((step, 1, m), || {
                    "multiple matches for labels: grouping labels must ensure unique matches".to_owned()
                });
                return met;
            }
        }
        results.met[index].union(&met);
        results.put(index, series);
        met
    }

    /// Whether the result's name is one that goes at the end: it is that of the "one" side if that gives it.
    fn is_marked(&self, many: bool, one: bool) -> bool {
        if self.matching.include.contains(&SymbolId::METRIC_NAME) { one } else { many }
    }

    /// Labels of the result for a pair.
    fn result_labels(&self, many: &LabelIds, one: &LabelIds, signature: &LabelIds) -> LabelIds {
        let mut labels = many.clone();
        if self.syntax.card == Cardinality::OneToOne {
            let loses_name = self.drops_name && !self.exec.options.features.delayed_name_removal;
            labels = if self.matching.on || loses_name {
                // What is matched, where the name goes in any case.
                signature.clone()
            } else {
                // The names that `ignoring` always ignores are not its own labels.
                let own = &self.matching.labels[..self.syntax.labels.len()];
                labels.without(own)
            };
        }
        if self.drops_name && self.includes_name {
            labels = self.exec.without_name(&labels);
        }
        for name in &self.matching.include {
            labels = labels.with(&self.exec.ctx.symbols, *name, one.get(*name));
        }
        labels
    }
}

fn filled(steps: &Bits, value: f64, count: usize) -> Column {
    let mut column = Column::new(count);
    steps.iter().for_each(|s| column.set_float(s, value));
    column
}

/// Results of one signature, by labels.
#[derive(Default)]
struct Results {
    series: Vec<Series>,
    /// Steps at which operands met, also where nothing was kept.
    met: Vec<Bits>,
}

impl Results {
    fn index(&mut self, series: &Series) -> usize {
        if let Some(i) = self.series.iter().position(|s| s.labels == series.labels) {
            return i;
        }
        let steps = series.column.steps();
        self.series.push(Series {
            labels: series.labels.clone(),
            drop_name: series.drop_name,
            column: Column::default(),
        });
        self.met.push(Bits::none(steps));
        self.series.len() - 1
    }

    fn put(&mut self, index: usize, series: Series) {
        let into = &mut self.series[index];
        into.drop_name |= series.drop_name;
        if into.column.steps() == 0 {
            into.column = series.column;
        } else {
            // Disjoint, or an error was found.
            into.column.merge(&series.column);
        }
    }
}
