//! The exemplars of a block with what rules make of them: as a stream, and sorted in runs on the local disk
//! where labels change.

use std::iter::Peekable;
use std::path::Path;
use std::sync::Arc;

use pyrrha_env::Disk;
use pyrrha_model::contract::Exemplars;
use pyrrha_model::{StoreError, TimeRange};
use pyrrha_storage::block::{Block, BlockId, BlockMeta, BlockWriter, ExemplarFile};

use super::{Fate, RewriteRules};

/// Exemplars that are held to be sorted.
const RUN: usize = 1 << 18;

/// The exemplars that stay, in the file of a block without series under `home`, `None` if none does; and how
/// many go.
pub(crate) fn exemplars(
    disk: &Arc<dyn Disk>,
    home: &Path,
    file: &ExemplarFile,
    rules: &RewriteRules,
) -> Result<(Option<Block>, u64), StoreError> {
    by_runs(disk, home, file, rules, RUN)
}

/// How many exemplars would go.
pub(crate) fn deleted_exemplars(file: &ExemplarFile, rules: &RewriteRules) -> u64 {
    let mut deleted = 0;
    rewritten(file, rules, &mut deleted).for_each(drop);
    deleted
}

fn by_runs(
    disk: &Arc<dyn Disk>,
    home: &Path,
    file: &ExemplarFile,
    rules: &RewriteRules,
    run: usize,
) -> Result<(Option<Block>, u64), StoreError> {
    let mut deleted = 0;
    if !rules.relabels() {
        let kept = rewritten(file, rules, &mut deleted).map(Ok);
        let block = write(disk, home, 0, Joined::of([kept]))?;
        return Ok((block, deleted));
    }
    let (mut runs, mut held, mut count) = (Vec::new(), Vec::new(), 0);
    let mut sort = |held: &mut Vec<Exemplars>| {
        held.sort_by(|a, b| a.series.cmp(&b.series));
        let all = Joined::of([held.drain(..).map(Ok)]);
        runs.extend(write(disk, home, runs.len() as u64 + 1, all)?);
        Ok::<_, StoreError>(())
    };
    for found in rewritten(file, rules, &mut deleted) {
        count += found.exemplars.len();
        held.push(found);
        if count >= run {
            sort(&mut held)?;
            count = 0;
        }
    }
    sort(&mut held)?;
    let files = runs.iter().map(Block::exemplar_file).collect::<Result<Vec<_>, _>>()?;
    let series = files.iter().flatten().map(|run| run.series(&[], TimeRange::ALL));
    let all = Joined::of(series.map(|series| series.map(|found| found.map_err(StoreError::from))));
    Ok((write(disk, home, 0, all)?, deleted))
}

/// What stays of each series, with the labels that it gets, in the order of the file. What goes is counted.
fn rewritten<'a>(
    file: &'a ExemplarFile,
    rules: &'a RewriteRules,
    deleted: &'a mut u64,
) -> impl Iterator<Item = Exemplars> + 'a {
    // What comes after damage is lost in any merge.
    file.series(&[], TimeRange::ALL).map_while(Result::ok).filter_map(move |mut found| {
        let before = found.exemplars.len() as u64;
        match rules.fate(&found.series) {
            Fate::Goes => found.exemplars.clear(),
            Fate::Stays => {}
            Fate::Cut(cut) => found
                .exemplars
                .retain(|e| !cut.iter().any(|i| i.start <= e.timestamp && e.timestamp <= i.end)),
        }
        let labels = rules.relabelled(&found.series).filter(|_| !found.exemplars.is_empty());
        *deleted += before - labels.as_ref().map_or(0, |_| found.exemplars.len() as u64);
        labels.map(|series| Exemplars { series, exemplars: found.exemplars })
    })
}

/// Writes exemplars as those of a block without series; `None` if there are none.
fn write(
    disk: &Arc<dyn Disk>,
    home: &Path,
    number: u64,
    all: impl Iterator<Item = Result<Exemplars, StoreError>>,
) -> Result<Option<Block>, StoreError> {
    let id = BlockId::from_parts(number, 0);
    let dir = home.join(id.to_string());
    let mut writer = BlockWriter::create(disk.clone(), &dir)?;
    if writer.write_exemplars(all)? == 0 {
        return Ok(None);
    }
    writer.finish(BlockMeta::of_head(id, 0, 1))?;
    Ok(Some(Block::open(&**disk, &dir)?))
}

/// Exemplars of several sources, each by labels, with each series once and its exemplars by time.
struct Joined<I: Iterator<Item = Result<Exemplars, StoreError>>>(Vec<Peekable<I>>);

impl<I: Iterator<Item = Result<Exemplars, StoreError>>> Joined<I> {
    fn of(sources: impl IntoIterator<Item = I>) -> Self {
        Self(sources.into_iter().map(Iterator::peekable).collect())
    }

    fn take(&mut self) -> Result<Option<Exemplars>, StoreError> {
        let mut least = None;
        for source in &mut self.0 {
            match source.peek() {
                Some(Ok(found)) if least.as_ref().is_none_or(|least| found.series < *least) => {
                    least = Some(found.series.clone());
                }
                Some(Ok(_)) | None => {}
                Some(Err(_)) => return source.next().transpose(),
            }
        }
        let Some(series) = least else { return Ok(None) };
        let mut exemplars = Vec::new();
        for source in &mut self.0 {
            // A series may come several times in a row.
            while let Some(found) = source.next_if(|next| next.as_ref().is_ok_and(|n| n.series == series)) {
                exemplars.extend(found?.exemplars);
            }
        }
        exemplars.sort_by_key(|e| e.timestamp);
        Ok(Some(Exemplars { series, exemplars }))
    }
}

impl<I: Iterator<Item = Result<Exemplars, StoreError>>> Iterator for Joined<I> {
    type Item = Result<Exemplars, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.take().transpose()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use pyrrha_model::{Exemplar, Labels, Matcher};
    use pyrrha_testkit::SimDisk;

    use super::*;

    /// Series `i` of `count` with `each` exemplars.
    fn file(disk: &Arc<dyn Disk>, count: i64, each: i64) -> Block {
        let of = |i: i64| Exemplars {
            series: Labels::from_pairs([("a", format!("{i:03}")), ("b", (i % 7).to_string())]),
            exemplars: (0..each)
                .map(|t| Exemplar { labels: Labels::default(), value: i as f64, timestamp: t * 1000 + i })
                .collect(),
        };
        let all = (0..count).map(of).map(Ok);
        write(disk, Path::new("/in"), 9, all).expect("in order").expect("some")
    }

    fn rules(delete: Option<&str>, relabel: Option<&str>) -> RewriteRules {
        let parse = |text: &str| {
            let (name, value) = text.split_once('=').ok_or("no matcher")?;
            Ok(vec![Matcher::equal(name, value)])
        };
        RewriteRules::parse(delete, None, relabel, &parse).expect("rules")
    }

    fn all(block: &Block) -> Vec<(String, Vec<i64>)> {
        let file = block.exemplar_file().expect("reads").expect("some");
        let found = file.series(&[], TimeRange::ALL).map(|found| found.expect("sound"));
        found.map(|f| (f.series.to_string(), f.exemplars.iter().map(|e| e.timestamp).collect())).collect()
    }

    #[test]
    fn rules_that_match_nothing_take_nothing_however_many_there_are() {
        let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(1));
        let block = file(&disk, 50, 9);
        let read = block.exemplar_file().expect("reads").expect("some");
        let rules = rules(Some("- matchers: a=nowhere\n"), None);
        let (kept, deleted) = by_runs(&disk, Path::new("/out"), read, &rules, 7).expect("no fault");
        assert_eq!((deleted, deleted_exemplars(read, &rules)), (0, 0));
        assert_eq!(all(&kept.expect("all of them")), all(&block));
    }

    #[test]
    fn runs_are_as_one_whatever_their_length() {
        let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(1));
        let block = file(&disk, 50, 9);
        let read = block.exemplar_file().expect("reads").expect("some");
        // Seven series become one, and the order is another.
        let rules = rules(
            Some("- matchers: b=3\n  intervals: [{mint: 0, maxt: 999}]\n- matchers: b=5\n"),
            Some("- {action: labeldrop, regex: a}"),
        );
        let mut expected: BTreeMap<String, Vec<i64>> = BTreeMap::new();
        for (i, t) in (0..50i64).flat_map(|i| (0..9).map(move |t| (i, t * 1000 + i))) {
            if i % 7 != 5 && (i % 7 != 3 || t > 999) {
                expected.entry(format!("{{b=\"{}\"}}", i % 7)).or_default().push(t);
            }
        }
        expected.values_mut().for_each(|times| times.sort_unstable());
        let gone = 450 - expected.values().map(Vec::len).sum::<usize>() as u64;
        for run in [1, 10, 100, RUN] {
            let home = format!("/out-{run}");
            let (kept, deleted) = by_runs(&disk, Path::new(&home), read, &rules, run).expect("no fault");
            assert_eq!(deleted, gone);
            assert_eq!(all(&kept.expect("some")), expected.clone().into_iter().collect::<Vec<_>>());
        }
        assert_eq!(deleted_exemplars(read, &rules), gone);
    }
}
