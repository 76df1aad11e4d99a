//! From matchers to series: one algorithm over every kind of index.

use pyrrha_model::contract::CancelToken;
use pyrrha_model::{MatchOp, Matcher};
use roaring::RoaringBitmap;

use crate::postings::union;
use crate::{IndexError, Postings};

/// How many values are looked at between two looks at the cancel flag.
const CHECK_EVERY: u32 = 1024;

/// Postings by label: a head's index or an index file.
pub trait LabelIndex {
    /// All series.
    fn all(&self) -> Result<Postings<'_>, IndexError>;

    /// The series with label `name` = `value`; none for the empty value, which is never stored.
    fn postings(&self, name: &str, value: &str) -> Result<Postings<'_>, IndexError>;

    /// The series that have label `name` at all.
    fn having(&self, name: &str) -> Result<Postings<'_>, IndexError> {
        let mut lists = Vec::new();
        self.postings_where(name, "", &mut |_| Ok(true), &mut lists)?;
        Ok(Postings::Owned(union(&lists)))
    }

    /// Adds to `found` the postings of each value of `name` that begins with `prefix` and for
    /// which `keep` says true.
    fn postings_where<'s>(
        &'s self,
        name: &str,
        prefix: &str,
        keep: &mut dyn FnMut(&str) -> Result<bool, IndexError>,
        found: &mut Vec<Postings<'s>>,
    ) -> Result<(), IndexError>;

    /// Label names, sorted; only those that a series of `within` has. `keep` is called every now
    /// and then and may stop the search.
    fn names_of(
        &self,
        within: Option<&RoaringBitmap>,
        keep: &mut dyn FnMut() -> Result<(), IndexError>,
    ) -> Result<Vec<String>, IndexError>;

    /// Values of `name` for which `keep` says true, sorted, at most `limit`; only those that a
    /// series of `within` has.
    fn values_of(
        &self,
        name: &str,
        within: Option<&RoaringBitmap>,
        limit: usize,
        keep: &mut dyn FnMut(&str) -> Result<bool, IndexError>,
    ) -> Result<Vec<String>, IndexError>;
}

/// The series that satisfy all matchers. An absent label counts as the empty value, so a matcher
/// that accepts "" also selects series without its label.
pub fn postings_for_matchers(
    index: &impl LabelIndex,
    matchers: &[Matcher],
    cancel: &CancelToken,
) -> Result<RoaringBitmap, IndexError> {
    let mut terms: Vec<Term<'_>> = matchers.iter().filter_map(Term::of).collect();
    // Look-ups before walks over all values, and cuts before subtractions: what is left is small
    // or empty by the time that the dear terms come.
    terms.sort_by_key(|term| (term.cost(), term.subtract));
    let mut set = start(index, &mut terms)?;
    for term in terms {
        cancel.check()?;
        if set.is_empty() {
            break;
        }
        set = term.apply(set, index, cancel)?;
    }
    Ok(set.into_bitmap())
}

/// The set to begin with: the smallest of all plain look-ups cut by the others, or all series.
fn start<'i>(index: &'i impl LabelIndex, terms: &mut Vec<Term<'_>>) -> Result<Postings<'i>, IndexError> {
    let mut looked_up = Vec::new();
    for term in terms.iter().filter(|t| !t.subtract) {
        if let Values::Only(value) = term.values {
            looked_up.push(index.postings(term.name, value)?);
        }
    }
    terms.retain(|t| t.subtract || !matches!(t.values, Values::Only(_)));
    looked_up.sort_by_key(Postings::len);
    let mut rest = looked_up.into_iter();
    let mut set = match rest.next() {
        Some(smallest) => smallest,
        None => index.all()?,
    };
    for postings in rest {
        if set.is_empty() {
            break;
        }
        set = cut(set, postings);
    }
    Ok(set)
}

/// What is in both. The smaller becomes a bitmap; the larger stays as it is.
fn cut<'i>(a: Postings<'i>, b: Postings<'i>) -> Postings<'i> {
    let (small, large) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    let mut set = small.into_bitmap();
    large.intersect_into(&mut set);
    Postings::Owned(set)
}

/// What is in `set` alone.
fn subtract<'i>(set: Postings<'i>, postings: &Postings<'_>) -> Postings<'i> {
    let mut set = set.into_bitmap();
    postings.subtract_from(&mut set);
    Postings::Owned(set)
}

/// One matcher as set algebra: cut by, or subtract, the series whose value is among `values`.
struct Term<'m> {
    name: &'m str,
    subtract: bool,
    values: Values<'m>,
}

/// Which values of a label a term speaks of.
enum Values<'m> {
    /// This one.
    Only(&'m str),
    /// These.
    OneOf(Vec<&'m str>),
    /// All but these.
    NoneOf(Vec<&'m str>),
    /// Every value that is not empty.
    Any,
    /// Those with this prefix that the matcher accepts (`wanted`) or refuses.
    Tested { prefix: &'m str, matcher: &'m Matcher, wanted: bool },
}

impl<'m> Term<'m> {
    /// The term of a matcher, `None` if it holds for every series.
    fn of(matcher: &'m Matcher) -> Option<Self> {
        let subtract = matcher.matches_empty();
        let form = Form::of(matcher);
        let negated = matches!(matcher.op, MatchOp::NotEqual | MatchOp::NotRegex);
        // The values of the term are those that the expression accepts, or those it does not: a
        // cut keeps what the matcher accepts, a subtraction takes away what it refuses.
        let accepted_by_form = subtract == negated;
        let values = match (form, accepted_by_form) {
            (Form::Everything, true) | (Form::NonEmpty, true) => Values::Any,
            (Form::Everything, false) | (Form::NonEmpty, false) if subtract => return None,
            (Form::Everything, false) | (Form::NonEmpty, false) => Values::OneOf(Vec::new()),
            (Form::Set(set), accepted) => of_set(set, accepted),
            (Form::Prefix(prefix), true) => Values::Tested { prefix, matcher, wanted: !subtract },
            (Form::Prefix(_), false) => Values::Tested { prefix: "", matcher, wanted: !subtract },
        };
        Some(Self { name: &matcher.name, subtract, values })
    }

    fn cost(&self) -> u8 {
        match &self.values {
            Values::Only(_) => 0,
            Values::OneOf(_) => 1,
            Values::Any => 2,
            Values::NoneOf(_) => 3,
            Values::Tested { prefix, .. } if !prefix.is_empty() => 4,
            Values::Tested { .. } => 5,
        }
    }

    /// What the term leaves of `set`.
    fn apply<'i>(
        &self,
        set: Postings<'i>,
        index: &'i impl LabelIndex,
        cancel: &CancelToken,
    ) -> Result<Postings<'i>, IndexError> {
        let found = self.evaluate(index, cancel)?;
        cancel.check()?;
        let total: u64 = found.iter().map(Postings::len).sum();
        // A small set is looked up in each list; many lists become one first.
        if found.len() > 1 && set.len().saturating_mul(found.len() as u64) < total {
            let mut set = set.into_bitmap();
            if self.subtract {
                found.iter().for_each(|postings| postings.subtract_from(&mut set));
                return Ok(Postings::Owned(set));
            }
            let mut kept = RoaringBitmap::new();
            for postings in &found {
                let mut part = set.clone();
                postings.intersect_into(&mut part);
                kept |= part;
            }
            return Ok(Postings::Owned(kept));
        }
        let postings = match <[Postings<'i>; 1]>::try_from(found) {
            Ok([only]) => only,
            Err(found) => Postings::Owned(union(&found)),
        };
        Ok(if self.subtract { subtract(set, &postings) } else { cut(set, postings) })
    }

    /// The lists of the values that the term speaks of.
    fn evaluate<'i>(
        &self,
        index: &'i impl LabelIndex,
        cancel: &CancelToken,
    ) -> Result<Vec<Postings<'i>>, IndexError> {
        let mut found = Vec::new();
        match &self.values {
            Values::Only(value) => found.push(index.postings(self.name, value)?),
            Values::Any => found.push(index.having(self.name)?),
            Values::OneOf(values) => {
                for value in values {
                    found.push(index.postings(self.name, value)?);
                }
            }
            Values::NoneOf(values) => {
                let mut set = index.having(self.name)?.to_bitmap();
                for value in values {
                    index.postings(self.name, value)?.subtract_from(&mut set);
                }
                found.push(Postings::Owned(set));
            }
            Values::Tested { prefix, matcher, wanted } => {
                let mut every = Every::new(cancel);
                let mut keep = |value: &str| every.check().map(|()| matcher.matches(value) == *wanted);
                index.postings_where(self.name, prefix, &mut keep, &mut found)?;
            }
        }
        Ok(found)
    }
}

fn of_set(set: Vec<&str>, accepted: bool) -> Values<'_> {
    // An empty alternative speaks of absent labels, which `subtract` has dealt with.
    let values: Vec<&str> = set.into_iter().filter(|v| !v.is_empty()).collect();
    match (accepted, values.as_slice()) {
        (true, [only]) => Values::Only(only),
        (true, _) => Values::OneOf(values),
        (false, []) => Values::Any,
        (false, _) => Values::NoneOf(values),
    }
}

/// What an expression accepts, as far as an index can use it.
enum Form<'m> {
    /// `.*`
    Everything,
    /// `.+`
    NonEmpty,
    /// Exactly these strings.
    Set(Vec<&'m str>),
    /// Only strings with this prefix; which of them takes a test.
    Prefix(&'m str),
}

impl<'m> Form<'m> {
    fn of(matcher: &'m Matcher) -> Self {
        let Some(regex) = matcher.regex() else { return Self::Set(vec![&matcher.value]) };
        if regex.is_any() {
            return Self::Everything;
        }
        if regex.is_any_nonempty() {
            return Self::NonEmpty;
        }
        match regex.set_matches() {
            Some(set) => Self::Set(set.iter().map(String::as_str).collect()),
            None => Self::Prefix(regex.prefix().unwrap_or("")),
        }
    }
}

/// Looks at a cancel flag every so many calls.
struct Every<'c> {
    cancel: &'c CancelToken,
    calls: u32,
}

impl<'c> Every<'c> {
    fn new(cancel: &'c CancelToken) -> Self {
        Self { cancel, calls: 0 }
    }

    fn check(&mut self) -> Result<(), IndexError> {
        self.calls = self.calls.wrapping_add(1);
        if self.calls.is_multiple_of(CHECK_EVERY) { Ok(self.cancel.check()?) } else { Ok(()) }
    }
}

/// Label names of the series that satisfy all matchers (of all series if there are none), sorted,
/// at most `limit` (0: all).
pub fn label_names(
    index: &impl LabelIndex,
    matchers: &[Matcher],
    limit: usize,
    cancel: &CancelToken,
) -> Result<Vec<String>, IndexError> {
    let within = within(index, matchers, cancel)?;
    let mut every = Every::new(cancel);
    let mut names = index.names_of(within.as_ref(), &mut || every.check())?;
    names.truncate(bound(limit));
    Ok(names)
}

/// Values that label `name` has in the series that satisfy all matchers, sorted, at most `limit`
/// (0: all).
pub fn label_values(
    index: &impl LabelIndex,
    name: &str,
    matchers: &[Matcher],
    limit: usize,
    cancel: &CancelToken,
) -> Result<Vec<String>, IndexError> {
    // Matchers on the label itself are decided on its values alone.
    let (own, others): (Vec<Matcher>, Vec<Matcher>) = matchers.iter().cloned().partition(|m| m.name == name);
    let within = within(index, &others, cancel)?;
    let mut every = Every::new(cancel);
    let mut keep = |value: &str| every.check().map(|()| own.iter().all(|m| m.matches(value)));
    index.values_of(name, within.as_ref(), bound(limit), &mut keep)
}

fn within(
    index: &impl LabelIndex,
    matchers: &[Matcher],
    cancel: &CancelToken,
) -> Result<Option<RoaringBitmap>, IndexError> {
    if matchers.is_empty() { Ok(None) } else { postings_for_matchers(index, matchers, cancel).map(Some) }
}

fn bound(limit: usize) -> usize {
    if limit == 0 { usize::MAX } else { limit }
}

#[cfg(test)]
pub(crate) mod tests;
