//! Questions about labels, and answers of several sources put together.

use std::sync::Arc;

use crate::{Matcher, TimeRange};

/// Which series are asked for, and how many answers are wanted. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LabelQuery {
    /// The series satisfy one of these sets of matchers; if there is none, all series do.
    pub matcher_sets: Arc<[Vec<Matcher>]>,
    /// They have data in it.
    pub range: TimeRange,
    /// At most so many answers, the first in their order; 0: all.
    pub limit: usize,
}

impl LabelQuery {
    /// Asks for the series that satisfy one of the matcher sets and have data in `range`.
    pub fn new(matcher_sets: impl Into<Arc<[Vec<Matcher>]>>, range: TimeRange) -> Self {
        Self { matcher_sets: matcher_sets.into(), range, limit: 0 }
    }

    /// Asks for all series that have data in `range`.
    pub fn all(range: TimeRange) -> Self {
        Self::new([], range)
    }

    /// The same with at most `limit` answers (0: all).
    pub fn limited_to(self, limit: usize) -> Self {
        Self { limit, ..self }
    }

    /// The same of another range.
    pub fn within(&self, range: TimeRange) -> Self {
        Self { range, ..self.clone() }
    }

    /// The matcher sets to ask for one after another: one without matchers if all series are wanted.
    pub fn sets(&self) -> impl Iterator<Item = &[Matcher]> {
        let all = self.matcher_sets.is_empty().then_some(&[][..]);
        all.into_iter().chain(self.matcher_sets.iter().map(Vec::as_slice))
    }

    /// The most answers that are wanted.
    pub fn most(&self) -> usize {
        if self.limit == 0 { usize::MAX } else { self.limit }
    }

    /// The answers of several sources (or to several matcher sets) as one: sorted, unique, at most as
    /// many as are wanted. A source that has more than that many gives the first of them.
    pub fn union<T: Ord, E>(
        &self,
        answers: impl IntoIterator<Item = Result<Vec<T>, E>>,
    ) -> Result<Vec<T>, E> {
        let mut all = Vec::new();
        for answer in answers {
            all.extend(answer?);
            // Two sorted runs, which this sort merges.
            all.sort();
            all.dedup();
            all.truncate(self.most());
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_matcher_set_all_series_are_asked_for() {
        let all = LabelQuery::all(TimeRange::ALL);
        assert_eq!(all.sets().collect::<Vec<_>>(), [&[][..]]);
        let sets = vec![vec![Matcher::equal("a", "1")], vec![Matcher::equal("b", "2")]];
        let some = LabelQuery::new(sets.clone(), TimeRange::ALL);
        assert_eq!(some.sets().collect::<Vec<_>>(), sets);
    }

    #[test]
    fn a_union_is_sorted_unique_and_as_long_as_wanted() {
        let answers = || [Ok::<_, ()>(vec![2, 4, 6]), Ok(vec![]), Ok(vec![1, 2, 3, 6])];
        let query = LabelQuery::all(TimeRange::ALL);
        assert_eq!(query.union(answers()), Ok(vec![1, 2, 3, 4, 6]));
        assert_eq!(query.clone().limited_to(3).union(answers()), Ok(vec![1, 2, 3]));
        assert_eq!(query.union([Ok(vec![1]), Err("broken"), Ok(vec![2])]), Err("broken"));
    }
}
