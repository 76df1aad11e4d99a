//! `label_replace` and `label_join`.

use foldhash::{HashMap, HashMapExt};
use pyrrha_model::SymbolId;
use pyrrha_model::go_regex::GoReplacer;

use crate::error::QueryError;
use crate::kernel::{KernelArgs, KernelNotes};
use crate::lexer::raw_byte;
use crate::value::Series;

/// `label_replace(v, dst, replacement, src, regex)`
pub(super) fn label_replace(
    mut series: Vec<Series>,
    args: &KernelArgs<'_>,
    _: &mut KernelNotes<'_>,
) -> Result<Vec<Series>, QueryError> {
    let [destination, replacement, source, expression] = args.strings else {
        return Err(QueryError::execution("label_replace() needs four strings"));
    };
    let replacer = GoReplacer::new(expression, replacement).map_err(|_| {
        QueryError::execution(format!("invalid regular expression in label_replace(): {expression}"))
    })?;
    check_name(destination, "invalid destination label name in label_replace()")?;
    let (destination_id, source) = (args.symbols.intern(destination), args.symbols.intern(source));
    let mut known: HashMap<SymbolId, Option<SymbolId>> = HashMap::new();
    for series in &mut series {
        let value = series.labels.get(source);
        let replaced = known.entry(value).or_insert_with(|| {
            replacer.replace(&args.symbols.resolve(value)).map(|text| args.symbols.intern(&text))
        });
        if let Some(replaced) = *replaced {
            set(series, destination_id, replaced, args);
        }
    }
    Ok(series)
}

/// `label_join(v, dst, separator, src...)`
pub(super) fn label_join(
    mut series: Vec<Series>,
    args: &KernelArgs<'_>,
    _: &mut KernelNotes<'_>,
) -> Result<Vec<Series>, QueryError> {
    let [destination, separator, sources @ ..] = args.strings else {
        return Err(QueryError::execution("label_join() needs two strings"));
    };
    for source in sources {
        check_name(source, "invalid source label name in label_join()")?;
    }
    check_name(destination, "invalid destination label name in label_join()")?;
    let destination_id = args.symbols.intern(destination);
    let sources: Vec<SymbolId> = sources.iter().map(|s| args.symbols.intern(s)).collect();
    for series in &mut series {
        let mut joined = String::new();
        for (i, source) in sources.iter().enumerate() {
            if i > 0 {
                joined.push_str(separator);
            }
            joined.push_str(&args.symbols.resolve(series.labels.get(*source)));
        }
        let joined = args.symbols.intern(&joined);
        set(series, destination_id, joined, args);
    }
    Ok(series)
}

fn set(series: &mut Series, name: SymbolId, value: SymbolId, args: &KernelArgs<'_>) {
    series.labels = series.labels.with(args.symbols, name, value);
    // A name given on purpose stays.
    if name == SymbolId::METRIC_NAME {
        series.drop_name = false;
    }
}

fn check_name(name: &str, text: &str) -> Result<(), QueryError> {
    if is_label_name(name) { Ok(()) } else { Err(QueryError::execution(format!("{text}: {name}"))) }
}

/// Whether a label may have this name: any text but none.
pub(crate) fn is_label_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c| raw_byte(c).is_some())
}
