//! Validation of a series' labels as a sender spells them.

use pyrrha_model::{Label, Labels, METRIC_NAME};

use crate::IngestLimits;

/// Checks raw label pairs and builds the sorted set. Pairs with an empty value are left out, as
/// the data model has them. The error says which label is wrong and why.
pub(crate) fn build<'a>(
    pairs: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    limits: &IngestLimits,
) -> Result<Labels, String> {
    let mut labels = Vec::new();
    for (name, value) in pairs {
        labels.extend(check_pair(name, value, limits)?);
        if labels.len() > limits.labels_max {
            return Err(format!("series has more than {} labels", limits.labels_max));
        }
    }
    labels.sort_unstable();
    if let Some(twice) = labels.windows(2).find(|w| w[0].name == w[1].name) {
        return Err(format!("duplicate label name {:?}", twice[0].name));
    }
    Ok(Labels::from_sorted(labels))
}

/// As [`build`], for a series: it needs a metric name.
pub(crate) fn build_series<'a>(
    pairs: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    limits: &IngestLimits,
) -> Result<Labels, String> {
    let labels = build(pairs, limits)?;
    if labels.get(METRIC_NAME).is_none() {
        return Err(format!(
            "series {} has no metric name (label {METRIC_NAME})",
            abridge(&labels.to_string())
        ));
    }
    Ok(labels)
}

fn check_pair(name: &[u8], value: &[u8], limits: &IngestLimits) -> Result<Option<Label>, String> {
    let lossy = |bytes: &[u8]| abridge(&String::from_utf8_lossy(bytes));
    if name.is_empty() {
        return Err(format!("empty label name (its value is {:?})", lossy(value)));
    }
    if name.len() > limits.label_name_bytes_max {
        return Err(format!("label name of {} bytes is over {}", name.len(), limits.label_name_bytes_max));
    }
    let Ok(name) = std::str::from_utf8(name) else {
        return Err(format!("label name {:?} is not valid UTF-8", lossy(name)));
    };
    if value.len() > limits.label_value_bytes_max {
        return Err(format!(
            "value of label {name:?} has {} bytes, over {}",
            value.len(),
            limits.label_value_bytes_max
        ));
    }
    let Ok(value) = std::str::from_utf8(value) else {
        return Err(format!("value {:?} of label {name:?} is not valid UTF-8", lossy(value)));
    };
    Ok((!value.is_empty()).then(|| Label { name: name.to_owned(), value: value.to_owned() }))
}

/// At most 200 characters of a text that a message quotes.
pub(crate) fn abridge(text: &str) -> String {
    match text.char_indices().nth(200) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}
