//! `topk` and `bottomk`: one heap per group and step, so that memory grows with k × steps × groups.

use std::collections::BTreeMap;

use super::groups::{Grouping, Groups};
use super::pick::Picked;
use crate::annotations::{Annotation, Note};
use crate::ast::AggregateOp;
use crate::error::QueryError;
use crate::exec::pipeline::Fold;
use crate::exec::{Charge, Exec, Table};
use crate::labels::LabelIds;
use crate::plan::Aggregate;
use crate::value::{Column, ScalarColumn, Series, Steps};

/// Keeps the k greatest (or least) floats of each group and step. NaN loses to any number, and of
/// equal ones those that a binary heap keeps are kept, as in Prometheus.
struct Ranking<'a> {
    exec: &'a Exec<'a>,
    node: &'a Aggregate,
    grouping: Grouping,
    k: ScalarColumn,
    steps: usize,
}

/// What is kept so far.
struct Kept<'a> {
    groups: Groups,
    /// By group, then by step.
    heaps: Vec<Vec<Heap>>,
    /// Series that were kept at some step, in order.
    series: Vec<Candidate>,
    charge: Charge<'a>,
}

#[derive(Clone)]
struct Candidate {
    labels: LabelIds,
    drop_name: bool,
    group: usize,
}

impl<'a> Exec<'a> {
    pub(super) fn ranked(
        &'a self,
        node: &'a Aggregate,
        k: ScalarColumn,
        steps: Steps,
    ) -> Result<Picked<'a>, QueryError> {
        let ranking = Ranking { exec: self, node, grouping: self.grouping(node), k, steps: steps.count };
        let mut kept = ranking.begin()?;
        self.run(self.aggregated(node, steps)?, &ranking, &mut kept)?;
        let mut columns: BTreeMap<usize, (Column, usize)> = BTreeMap::new();
        for (place, (_, step, value, index)) in kept.entries().enumerate() {
            let picked = columns.entry(index).or_insert_with(|| (Column::new(steps.count), place));
            picked.0.set_float(step, value);
            picked.1 = place;
        }
        let mut picked = Picked { table: Table::empty(self), groups: Vec::new(), places: Vec::new() };
        for (index, (column, place)) in columns {
            let Candidate { labels, drop_name, group } = kept.series[index].clone();
            picked.table.push(Series { labels, drop_name, column })?;
            picked.groups.push(group);
            picked.places.push(place);
        }
        Ok(picked)
    }
}

impl<'a> Ranking<'a> {
    /// Offers a value to the heap of a group and step; whether it was taken.
    fn offer(
        &self,
        kept: &mut Kept<'a>,
        group: usize,
        step: usize,
        value: f64,
        index: usize,
    ) -> Result<bool, QueryError> {
        let k = self.k.at(step);
        if k < 1.0 {
            return Ok(false);
        }
        let heap = &mut kept.heaps[group][step];
        if heap.items.len() < k as usize {
            kept.charge.grow(size_of::<(f64, usize)>(), 1)?;
        }
        Ok(heap.offer(value, index, k as usize, self.node.op == AggregateOp::Topk))
    }

    /// The group that was found; a new one gets its heaps.
    fn group(&self, kept: &mut Kept<'a>, found: (usize, bool)) -> Result<usize, QueryError> {
        let (group, new) = found;
        if new {
            kept.charge.grow(self.steps * size_of::<Heap>(), 0)?;
            kept.heaps.push(vec![Heap::default(); self.steps]);
        }
        Ok(group)
    }
}

impl<'a> Fold for Ranking<'a> {
    type Part = Kept<'a>;
    type Total = Kept<'a>;

    fn begin(&self) -> Result<Kept<'a>, QueryError> {
        let charge = Charge::new(self.exec);
        Ok(Kept { groups: Groups::default(), heaps: Vec::new(), series: Vec::new(), charge })
    }

    fn add(
        &self,
        kept: &mut Kept<'a>,
        series: Series,
        notes: &mut Vec<Annotation>,
    ) -> Result<(), QueryError> {
        if !series.column.histograms().is_empty() {
            let note = Note::HistogramIgnoredInAggregation(self.node.op);
            notes.push(Annotation { note, metric: "".into(), pos: self.node.pos });
        }
        let (values, present) = series.column.floats();
        if present.is_empty() {
            return Ok(());
        }
        let found = kept.groups.find_restricted(&series.labels, &self.grouping);
        let group = self.group(kept, found)?;
        let index = kept.series.len();
        let mut taken = false;
        for step in present.iter() {
            taken |= self.offer(kept, group, step, values[step], index)?;
        }
        if taken {
            kept.remember(Candidate { labels: series.labels, drop_name: series.drop_name, group })?;
        }
        Ok(())
    }

    fn fold(&self, total: &mut Kept<'a>, part: Kept<'a>) -> Result<(), QueryError> {
        if total.series.is_empty() {
            // Heaps as they are: of equal values their order tells.
            *total = part;
            return Ok(());
        }
        let mut entries: Vec<_> = part.entries().collect();
        // In the order of the series, as if all were offered one after another.
        entries.sort_unstable_by_key(|(_, step, _, index)| (*index, *step));
        let mut groups = Vec::with_capacity(part.groups.labels.len());
        for labels in &part.groups.labels {
            let found = total.groups.find(labels.pairs());
            groups.push(self.group(total, found)?);
        }
        for series in entries.chunk_by(|a, b| a.3 == b.3) {
            let index = total.series.len();
            let mut taken = false;
            for &(group, step, value, _) in series {
                taken |= self.offer(total, groups[group], step, value, index)?;
            }
            if let (true, Some((group, _, _, local))) = (taken, series.first()) {
                total.remember(Candidate { group: groups[*group], ..part.series[*local].clone() })?;
            }
        }
        Ok(())
    }
}

impl Kept<'_> {
    fn remember(&mut self, candidate: Candidate) -> Result<(), QueryError> {
        self.charge.grow(size_of::<Candidate>() + candidate.labels.pairs().len() * 8, 0)?;
        self.series.push(candidate);
        Ok(())
    }

    /// Group, step, value and series of everything kept.
    fn entries(&self) -> impl Iterator<Item = (usize, usize, f64, usize)> + '_ {
        self.heaps.iter().enumerate().flat_map(|(group, heaps)| {
            heaps.iter().enumerate().flat_map(move |(step, heap)| {
                heap.items.iter().map(move |&(value, index)| (group, step, value, index))
            })
        })
    }
}

/// A binary heap whose root is the first to go, with the sift order of Go's container/heap.
#[derive(Debug, Clone, Default)]
struct Heap {
    items: Vec<(f64, usize)>,
}

impl Heap {
    fn less(&self, i: usize, j: usize, top: bool) -> bool {
        let (a, b) = (self.items[i].0, self.items[j].0);
        a.is_nan() || if top { a < b } else { a > b }
    }

    /// Whether the value was taken.
    fn offer(&mut self, value: f64, index: usize, k: usize, top: bool) -> bool {
        if self.items.len() < k {
            self.items.push((value, index));
            self.up(self.items.len() - 1, top);
            return true;
        }
        let worst = self.items[0].0;
        let better = if top { worst < value } else { worst > value };
        let taken = better || (worst.is_nan() && !value.is_nan());
        if taken {
            self.items[0] = (value, index);
            self.down(top);
        }
        taken
    }

    fn up(&mut self, mut j: usize, top: bool) {
        while j > 0 {
            let parent = (j - 1) / 2;
            if !self.less(j, parent, top) {
                break;
            }
            self.items.swap(parent, j);
            j = parent;
        }
    }

    fn down(&mut self, top: bool) {
        let (mut i, n) = (0, self.items.len());
        loop {
            let left = 2 * i + 1;
            if left >= n {
                break;
            }
            let right = left + 1;
            let child = if right < n && self.less(right, left, top) { right } else { left };
            if !self.less(child, i, top) {
                break;
            }
            self.items.swap(i, child);
            i = child;
        }
    }
}
