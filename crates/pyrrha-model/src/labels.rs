//! Label sets: sorted name/value pairs that identify a series.

use std::fmt;

/// The label that holds the metric's name.
pub const METRIC_NAME: &str = "__name__";

/// One name/value pair.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label {
    /// Label name, any non-empty UTF-8.
    pub name: String,
    /// Label value, any UTF-8; an empty value means that the label is absent.
    pub value: String,
}

/// A label set: sorted by name bytes, no duplicate names, no empty values.
///
/// `Ord` is Prometheus' order of series: pairwise by name, then value; a prefix sorts first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Labels(Vec<Label>);

impl Labels {
    /// The empty set.
    pub const fn empty() -> Self {
        Self(Vec::new())
    }

    /// Builds a set from pairs in any order. Empty values are left out; of duplicate names the
    /// last wins.
    pub fn from_pairs<N: Into<String>, V: Into<String>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        let mut builder = LabelsBuilder::default();
        for (name, value) in pairs {
            builder.set(name, value);
        }
        builder.build()
    }

    /// Takes pairs that are already sorted by name, unique, and without empty values.
    ///
    /// Debug builds assert that.
    pub fn from_sorted(pairs: Vec<Label>) -> Self {
        debug_assert!(pairs.windows(2).all(|w| w[0].name < w[1].name), "labels are sorted and unique");
        debug_assert!(pairs.iter().all(|l| !l.value.is_empty()), "no label value is empty");
        Self(pairs)
    }

    /// The value of `name`, if present.
    pub fn get(&self, name: &str) -> Option<&str> {
        // Sets are short: a scan beats a binary search over separate heap strings.
        self.0.iter().find(|l| l.name == name).map(|l| l.value.as_str())
    }

    /// The metric's name, or "".
    pub fn metric_name(&self) -> &str {
        self.get(METRIC_NAME).unwrap_or("")
    }

    /// The pairs, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Label> {
        self.0.iter()
    }

    /// Number of labels.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A builder that starts with these labels.
    pub fn to_builder(&self) -> LabelsBuilder {
        LabelsBuilder { labels: self.0.clone() }
    }

    /// Prometheus' `Labels.Hash` of its default build: xxhash64, seed 0, over each name and value
    /// prefixed with its length (one byte below 255, else 0xFF and three bytes little-endian).
    /// `limit_ratio` samples by it.
    pub fn prometheus_hash(&self) -> u64 {
        let mut bytes = Vec::with_capacity(self.0.iter().map(|l| l.name.len() + l.value.len() + 2).sum());
        for label in &self.0 {
            push_sized(&mut bytes, &label.name);
            push_sized(&mut bytes, &label.value);
        }
        xxhash_rust::xxh64::xxh64(&bytes, 0)
    }
}

fn push_sized(bytes: &mut Vec<u8>, text: &str) {
    if text.len() < 255 {
        bytes.push(text.len() as u8);
    } else {
        bytes.push(0xFF);
        bytes.extend_from_slice(&(text.len() as u32).to_le_bytes()[..3]);
    }
    bytes.extend_from_slice(text.as_bytes());
}

impl<'a> IntoIterator for &'a Labels {
    type Item = &'a Label;
    type IntoIter = std::slice::Iter<'a, Label>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl fmt::Display for Labels {
    /// The form in which Prometheus prints a series: `name{a="b"}`, `{a="b"}`, or
    /// `{"my.name", "a.b"="c"}` where names need quoting.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.get(METRIC_NAME);
        let bare = name.filter(|n| is_legacy_metric_name(n));
        if let Some(name) = bare {
            f.write_str(name)?;
            if self.0.len() == 1 {
                return Ok(());
            }
        }
        f.write_str("{")?;
        let mut first = true;
        let mut comma = |f: &mut fmt::Formatter<'_>| {
            if std::mem::take(&mut first) { Ok(()) } else { f.write_str(", ") }
        };
        if let (Some(name), None) = (name, bare) {
            comma(f)?;
            f.write_str(&crate::go_fmt::quote(name))?;
        }
        for label in self.0.iter().filter(|l| l.name != METRIC_NAME) {
            comma(f)?;
            if is_legacy_label_name(&label.name) {
                f.write_str(&label.name)?;
            } else {
                f.write_str(&crate::go_fmt::quote(&label.name))?;
            }
            write!(f, "={}", crate::go_fmt::quote(&label.value))?;
        }
        f.write_str("}")
    }
}

/// Whether `name` can be written without quotes as a metric name: `[a-zA-Z_:][a-zA-Z0-9_:]*`.
pub fn is_legacy_metric_name(name: &str) -> bool {
    is_identifier(name, |b| b == b':')
}

/// Whether `name` can be written without quotes as a label name: `[a-zA-Z_][a-zA-Z0-9_]*`.
pub fn is_legacy_label_name(name: &str) -> bool {
    is_identifier(name, |_| false)
}

fn is_identifier(name: &str, also: impl Fn(u8) -> bool) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_' || also(b))
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_' || also(b))
}

/// Builds a [`Labels`] from edits in any order.
#[derive(Debug, Clone, Default)]
pub struct LabelsBuilder {
    labels: Vec<Label>,
}

impl LabelsBuilder {
    /// Sets `name` to `value`; an empty value removes the label.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) -> &mut Self {
        let (name, value) = (name.into(), value.into());
        match self.labels.binary_search_by(|l| l.name.as_str().cmp(&name)) {
            Ok(i) if value.is_empty() => drop(self.labels.remove(i)),
            Ok(i) => self.labels[i].value = value,
            Err(_) if value.is_empty() => {}
            Err(i) => self.labels.insert(i, Label { name, value }),
        }
        self
    }

    /// Removes `name` if present.
    pub fn remove(&mut self, name: &str) -> &mut Self {
        self.labels.retain(|l| l.name != name);
        self
    }

    /// Keeps the labels for which `keep` returns true.
    pub fn retain(&mut self, keep: impl Fn(&Label) -> bool) -> &mut Self {
        self.labels.retain(keep);
        self
    }

    /// The value that `name` has now, or "".
    pub fn get(&self, name: &str) -> &str {
        self.labels.iter().find(|l| l.name == name).map_or("", |l| &l.value)
    }

    /// The finished set.
    pub fn build(self) -> Labels {
        Labels(self.labels)
    }
}

#[cfg(test)]
mod tests;
