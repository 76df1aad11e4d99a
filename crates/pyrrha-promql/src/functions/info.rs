//! `info()`: adds the labels of info metrics of the same instance and job.

use foldhash::{HashMap, HashMapExt};
use pyrrha_model::{METRIC_NAME, MatchOp, Matcher, SymbolId};

use crate::error::QueryError;
use crate::kernel::{InfoSeries, InfoSource, KernelArgs, KernelNotes};
use crate::labels::LabelIds;
use crate::value::{Column, Series};

/// Labels that say which info series belongs to a series.
const IDENTIFYING: [&str; 2] = ["instance", "job"];
/// The info metric that is meant where none is named.
const DEFAULT_METRIC: &str = "target_info";

/// `info(v, {selector})`
pub(super) fn info(
    base: Vec<Series>,
    selector: &[Matcher],
    source: &dyn InfoSource,
    args: &KernelArgs<'_>,
    _: &mut KernelNotes<'_>,
) -> Result<Vec<Series>, QueryError> {
    let (mut names, data): (Vec<Matcher>, Vec<Matcher>) =
        selector.iter().cloned().partition(|m| m.name == METRIC_NAME);
    if names.is_empty() {
        names.push(Matcher::equal(METRIC_NAME, DEFAULT_METRIC));
    } else if names.iter().all(|m| matches!(m.op, MatchOp::NotEqual | MatchOp::NotRegex)) {
        names.push(matcher(MatchOp::Regex, METRIC_NAME, ".+_info")?);
    }
    // Info metrics themselves pass unchanged.
    let is_info = |series: &Series| {
        let name = series.labels.metric_name(args.symbols);
        names.iter().all(|m| m.matches(&name))
    };
    let (unchanged, base): (Vec<Series>, Vec<Series>) = base.into_iter().partition(is_info);
    let infos = select(&base, &names, &data, source, args)?;
    let mut out = Enriched::new(&base, infos, &data, args).run()?;
    out.extend(unchanged);
    Ok(out)
}

fn matcher(op: MatchOp, name: &str, value: &str) -> Result<Matcher, QueryError> {
    Matcher::new(op, name, value).map_err(|e| QueryError::execution(e.to_string()))
}

/// The info series that any base series may want.
fn select(
    base: &[Series],
    names: &[Matcher],
    data: &[Matcher],
    source: &dyn InfoSource,
    args: &KernelArgs<'_>,
) -> Result<Vec<InfoSeries>, QueryError> {
    let mut matchers = names.to_vec();
    let mut identified = false;
    for label in IDENTIFYING {
        let id = args.symbols.intern(label);
        let mut values: Vec<_> =
            base.iter().map(|s| s.labels.get(id)).filter(|v| *v != SymbolId::EMPTY).collect();
        values.sort_unstable();
        values.dedup();
        if values.is_empty() {
            continue;
        }
        identified = true;
        let words: Vec<String> = values.iter().map(|v| quote_meta(&args.symbols.resolve(*v))).collect();
        matchers.push(matcher(MatchOp::Regex, label, &words.join("|"))?);
    }
    if !identified {
        return Ok(Vec::new());
    }
    matchers.extend_from_slice(data);
    source.select(&matchers)
}

/// Escapes what has a meaning in a regular expression.
fn quote_meta(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if r"\.+*?()|[]{}^$".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// Info series of the same metric and identifying labels: at one step only the newest counts.
struct Group {
    members: Vec<usize>,
}

/// What two series have in common that belong together.
type Signature = [SymbolId; 2];

struct Enriched<'a> {
    base: &'a [Series],
    infos: Vec<InfoSeries>,
    data: &'a [Matcher],
    args: &'a KernelArgs<'a>,
    groups: Vec<Group>,
    /// Groups of each base series.
    wanted: Vec<Vec<usize>>,
}

impl<'a> Enriched<'a> {
    fn new(
        base: &'a [Series],
        infos: Vec<InfoSeries>,
        data: &'a [Matcher],
        args: &'a KernelArgs<'a>,
    ) -> Self {
        let ids = IDENTIFYING.map(|l| args.symbols.intern(l));
        let signature = |labels: &LabelIds| -> Signature { ids.map(|id| labels.get(id)) };
        let mut groups: Vec<Group> = Vec::new();
        let mut by_name: HashMap<(Signature, SymbolId), usize> = HashMap::new();
        let mut by_signature: HashMap<Signature, Vec<usize>> = HashMap::new();
        for (i, info) in infos.iter().enumerate() {
            let signature = signature(&info.labels);
            let group =
                *by_name.entry((signature, info.labels.get(SymbolId::METRIC_NAME))).or_insert_with(|| {
                    groups.push(Group { members: Vec::new() });
                    by_signature.entry(signature).or_default().push(groups.len() - 1);
                    groups.len() - 1
                });
            groups[group].members.push(i);
        }
        let wanted = base
            .iter()
            .map(|s| by_signature.get(&signature(&s.labels)).cloned().unwrap_or_default())
            .collect();
        Self { base, infos, data, args, groups, wanted }
    }

    fn run(&self) -> Result<Vec<Series>, QueryError> {
        // Label sets by base series and the info series that it takes labels from.
        let mut known: HashMap<(usize, Vec<usize>), Option<usize>> = HashMap::new();
        let mut out: Vec<Series> = Vec::new();
        for step in 0..self.args.steps.count {
            if !self.base.iter().any(|s| s.column.is_present(step)) {
                continue;
            }
            let newest = self.groups.iter().map(|g| self.newest(g, step)).collect::<Result<Vec<_>, _>>()?;
            for (i, series) in self.base.iter().enumerate() {
                let Some(value) = series.column.get(step) else { continue };
                let infos: Vec<usize> = self.wanted[i].iter().filter_map(|g| newest[*g]).collect();
                let at = match known.get(&(i, infos.clone())) {
                    Some(at) => *at,
                    None => {
                        let at = self.enrich(series, &infos)?.map(|labels| {
                            let column = Column::new(self.args.steps.count);
                            out.push(Series { labels, drop_name: series.drop_name, column });
                            out.len() - 1
                        });
                        known.insert((i, infos), at);
                        at
                    }
                };
                if let Some(at) = at {
                    out[at].column.set(step, value);
                }
            }
        }
        Ok(out)
    }

    /// The info series of a group whose sample at a step is the newest.
    fn newest(&self, group: &Group, step: usize) -> Result<Option<usize>, QueryError> {
        let mut best: Option<usize> = None;
        for &i in &group.members {
            let info = &self.infos[i];
            if info.column.histogram(step).is_some() {
                return Err(QueryError::execution(format!(
                    "this should be an info metric, with float samples: {}",
                    info.labels.resolve(self.args.symbols)
                )));
            }
            if info.column.float(step).is_none() {
                continue;
            }
            let time = info.times.get(step).copied().unwrap_or_default();
            match best.map(|b| (b, self.infos[b].times.get(step).copied().unwrap_or_default())) {
                Some((_, other)) if other > time => {}
                Some((existing, other)) if other == time => {
                    let text = |i: usize| self.infos[i].labels.resolve(self.args.symbols);
                    return Err(QueryError::execution(format!(
                        "found duplicate series for info metric: existing {} @ {other}, new {} @ {time}",
                        text(existing),
                        text(i)
                    )));
                }
                _ => best = Some(i),
            }
        }
        Ok(best)
    }

    /// The labels of a base series with those of its info series; None if it is dropped.
    fn enrich(&self, series: &Series, infos: &[usize]) -> Result<Option<LabelIds>, QueryError> {
        if infos.is_empty() {
            let keep = self.data.iter().all(Matcher::matches_empty);
            return Ok(keep.then(|| series.labels.clone()));
        }
        let symbols = self.args.symbols;
        let mut added: Vec<(SymbolId, SymbolId)> = Vec::new();
        for &info in infos {
            for &(name, value) in self.infos[info].labels.pairs() {
                let asked =
                    || self.data.is_empty() || self.data.iter().any(|m| *m.name == *symbols.resolve(name));
                if name == SymbolId::METRIC_NAME || !asked() {
                    continue;
                }
                let known = added.iter().find(|(n, _)| *n == name);
                if known.is_some_and(|(_, v)| *v != value) {
                    return Err(QueryError::execution(format!(
                        "conflicting label: {}",
                        symbols.resolve(name)
                    )));
                }
                if known.is_none() && series.labels.get(name) == SymbolId::EMPTY {
                    added.push((name, value));
                }
            }
        }
        let with = |labels: LabelIds, (name, value)| labels.with(symbols, name, value);
        Ok(Some(added.into_iter().fold(series.labels.clone(), with)))
    }
}
