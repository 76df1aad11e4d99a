//! No switch changes a result: every script's queries give identical bits, errors and annotations
//! with all optimiser rules, with each of them off, with none, and on one thread or several.

use std::fs;
use std::path::{Path, PathBuf};

use pyrrha_model::Timestamp;
use pyrrha_promql::ast::Expr;
use pyrrha_promql::{Engine, EngineOptions, Optimiser, QueryValue};
use pyrrha_promqltest::{Answer, EngineTarget, LoadedSeries, Target, run_script, script_options};
use pyrrha_testkit::ModelDb;

type One = EngineTarget<ModelDb, fn() -> ModelDb>;

/// Targets that must agree; the first one's answers count.
struct Agreeing(Vec<(String, One)>);

impl Agreeing {
    fn new() -> Self {
        let on = Optimiser::ON;
        let settings = [
            ("all rules", 1, on),
            ("no rule", 1, Optimiser::OFF),
            ("threads", 3, on),
            ("no folding", 1, Optimiser { fold_constants: false, ..on }),
            ("no hoisting", 1, Optimiser { hoist_invariant: false, ..on }),
            ("no sharing", 1, Optimiser { share_common: false, ..on }),
            ("no projection", 1, Optimiser { project_labels: false, ..on }),
        ];
        let target = |(name, threads, optimiser): (&str, usize, Optimiser)| {
            let options = EngineOptions { threads, thread_worth: 0, optimiser, ..script_options() };
            (name.to_owned(), EngineTarget::new(Engine::new(options), ModelDb::new as fn() -> ModelDb))
        };
        Self(settings.into_iter().map(target).collect())
    }

    fn each<T>(
        &mut self,
        mut run: impl FnMut(&mut One) -> Result<T, String>,
    ) -> Vec<(String, Result<T, String>)> {
        self.0.iter_mut().map(|(name, target)| (name.clone(), run(target))).collect()
    }

    fn agree(
        &mut self,
        query: &str,
        run: impl FnMut(&mut One) -> Result<Answer, String>,
    ) -> Result<Answer, String> {
        let mut answers = self.each(run).into_iter();
        let (_, first) = answers.next().expect("there are targets");
        for (name, other) in answers {
            assert_eq!(bits(&first), bits(&other), "{name}: {query}");
        }
        first
    }
}

/// An answer in which equal means the same bits.
fn bits(answer: &Result<Answer, String>) -> String {
    let answer = match answer {
        Err(error) => return error.clone(),
        Ok(answer) => answer,
    };
    let value = match &answer.value {
        QueryValue::Scalar { t, v } => format!("{t} {:x}", v.to_bits()),
        QueryValue::Matrix(series) => series
            .iter()
            .map(|s| {
                let floats: Vec<_> = s.floats.iter().map(|(t, v)| (*t, v.to_bits())).collect();
                format!("{} {floats:x?} {:?}\n", s.labels, s.histograms)
            })
            .collect(),
        QueryValue::Vector(samples) => samples
            .iter()
            .map(|s| {
                format!("{} {} {:x?}\n", s.labels, s.t, s.value.as_float().map(f64::to_bits).ok_or(&s.value))
            })
            .collect(),
        other => format!("{other:?}"),
    };
    // How many samples an annotation was about differs where the same one is looked at once.
    let text = |text: &String| match (text.find(", from buckets"), text.find(" occurrences)")) {
        (Some(end), _) => text[..end].to_owned(),
        (None, Some(end)) => {
            let start = text[..end].rfind(" (").unwrap_or(end);
            format!("{}{}", &text[..start], &text[end + " occurrences)".len()..])
        }
        (None, None) => text.clone(),
    };
    let texts = |texts: &[String]| texts.iter().map(text).collect::<Vec<_>>();
    format!("{value}\n{:?}\n{:?}", texts(&answer.warnings), texts(&answer.infos))
}

impl Target for Agreeing {
    fn clear(&mut self) -> Result<(), String> {
        self.each(|t| t.clear()).into_iter().try_for_each(|(_, r)| r)
    }

    fn load(&mut self, series: &[LoadedSeries]) -> Result<(), String> {
        self.each(|t| t.load(series)).into_iter().try_for_each(|(_, r)| r)
    }

    fn instant(&mut self, query: &str, expr: &Expr, t: Timestamp) -> Result<Answer, String> {
        self.agree(query, |target| target.instant(query, expr, t))
    }

    fn range(
        &mut self,
        query: &str,
        expr: &Expr,
        start: Timestamp,
        end: Timestamp,
        step: i64,
    ) -> Result<Answer, String> {
        self.agree(query, |target| target.range(query, expr, start, end, step))
    }
}

fn scripts(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|e| e.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "test"))
        .collect();
    files.sort();
    files
}

#[test]
fn no_switch_changes_a_result() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let own = scripts(&workspace.join("testdata/promql"));
    assert!(!own.is_empty());
    for path in own.into_iter().chain(scripts(&workspace.join("../shared/promqltest"))) {
        let text = fs::read_to_string(&path).expect("scripts are text");
        run_script(&path.display().to_string(), &text, &mut Agreeing::new());
    }
}
