//! Label names and values of the series that have samples in a range.

use std::collections::{BTreeSet, HashSet};

use pyrrha_index::{RoaringBitmap, label_names, label_values, postings_for_matchers};
use pyrrha_model::contract::{LabelQuery, QueryContext};
use pyrrha_model::{StoreError, TimeRange};

use super::Head;
use super::admission::is_cut;
use super::directory::Directory;
use super::select::HeadView;

/// How many series are looked at between two looks at the cancel flag.
const CHECK_EVERY: usize = 4096;

/// How much of a head lies in a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Overlap {
    None,
    Some,
    All,
}

impl Head {
    /// Names of the labels of the series that the query asks for, sorted.
    pub(crate) fn label_names(
        &self,
        ctx: &QueryContext,
        query: &LabelQuery,
        view: &HeadView,
    ) -> Result<Vec<String>, StoreError> {
        let overlap = self.overlap(query.range, view);
        let directory = self.directory.read();
        match overlap {
            Overlap::None => Ok(Vec::new()),
            // The index knows without a look at the series.
            Overlap::All => Ok(query.union(
                query.sets().map(|set| label_names(&directory.index(), set, query.limit, &ctx.cancel)),
            )?),
            Overlap::Some => {
                let mut shapes = HashSet::new();
                self.visit(&directory, ctx, query, view, |series| {
                    shapes.insert(directory.shape_of(series));
                })?;
                let ids: BTreeSet<u32> = shapes.iter().flat_map(|&s| directory.names(s)).copied().collect();
                Ok(texts(&directory, ids))
            }
        }
    }

    /// Values of a label of those series, sorted.
    pub(crate) fn label_values(
        &self,
        ctx: &QueryContext,
        name: &str,
        query: &LabelQuery,
        view: &HeadView,
    ) -> Result<Vec<String>, StoreError> {
        let overlap = self.overlap(query.range, view);
        let directory = self.directory.read();
        match overlap {
            Overlap::None => Ok(Vec::new()),
            Overlap::All => Ok(query.union(
                query.sets().map(|set| label_values(&directory.index(), name, set, query.limit, &ctx.cancel)),
            )?),
            Overlap::Some => {
                let Some(name) = directory.symbols.lookup(name) else { return Ok(Vec::new()) };
                let mut ids = BTreeSet::new();
                self.visit(&directory, ctx, query, view, |series| {
                    let (names, values) = directory.ids(series);
                    ids.extend(names.iter().zip(values).find(|(n, _)| **n == name).map(|(_, v)| *v));
                })?;
                Ok(texts(&directory, ids))
            }
        }
    }

    fn overlap(&self, range: TimeRange, view: &HeadView) -> Overlap {
        let data = self.data.read();
        let shown = data.ranges.iter().filter(|(start, _)| !is_cut(&view.cut, **start));
        let late = data.late.iter().filter(|late| !view.late_cut.contains(&late.id)).map(|late| &late.info);
        // The index has series of which all that is left is hidden, where older readers still have it.
        let hidden = data.ranges.keys().any(|start| is_cut(&view.cut, *start))
            || data.late.iter().any(|late| view.late_cut.contains(&late.id));
        let (mut some, mut all) = (false, !hidden);
        for info in shown.map(|(_, info)| info).chain(late) {
            let times = TimeRange::new(info.min_time, info.max_time);
            some |= times.overlaps(&range);
            all &= range.contains(times.start) && range.contains(times.end);
        }
        match (some, all) {
            (false, _) => Overlap::None,
            (true, false) => Overlap::Some,
            (true, true) => Overlap::All,
        }
    }

    fn visit(
        &self,
        directory: &Directory,
        ctx: &QueryContext,
        query: &LabelQuery,
        view: &HeadView,
        mut found: impl FnMut(u32),
    ) -> Result<(), StoreError> {
        let range = query.range;
        let set = matching(directory, ctx, query)?;
        let data = self.data.read();
        let late = data.late_in(range, view);
        for (i, series) in set.iter().enumerate() {
            if i % CHECK_EVERY == 0 {
                ctx.cancel.check()?;
            }
            if data.snapshot(series, range, view).is_some()
                || data.late_snapshot(series, range, &late, 0).is_some()
            {
                found(series);
            }
        }
        Ok(())
    }
}

/// The series that satisfy one of the query's matcher sets.
pub(super) fn matching(
    directory: &Directory,
    ctx: &QueryContext,
    query: &LabelQuery,
) -> Result<RoaringBitmap, StoreError> {
    let mut all = RoaringBitmap::new();
    for matchers in query.sets() {
        all |= postings_for_matchers(&directory.index(), matchers, &ctx.cancel)?;
    }
    Ok(all)
}

fn texts(directory: &Directory, ids: BTreeSet<u32>) -> Vec<String> {
    let mut texts: Vec<String> = ids.into_iter().map(|id| directory.symbols.get(id).to_owned()).collect();
    texts.sort_unstable();
    texts
}
