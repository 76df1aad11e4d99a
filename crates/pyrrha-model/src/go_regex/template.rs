//! Replacement templates by the rules of Go's `Regexp.Expand`.

use regex::bytes::{Captures, Regex};

use super::translate::{GROUP_PREFIX, TWIN_MARK};

/// A parsed replacement: `$1`, `${1}`, `$name`, `${name}`, `$$`.
#[derive(Debug, Clone)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, Clone)]
enum Part {
    Text(String),
    /// The first of these groups that took part.
    Group(Vec<usize>),
}

impl Template {
    /// Resolves the references of `template` against the groups of `regex`. A reference to a group
    /// that does not exist stands for nothing; a malformed `$` for itself.
    pub(super) fn parse(template: &str, regex: &Regex) -> Self {
        let mut parts = Vec::new();
        let mut text = String::new();
        let mut rest = template;
        while let Some(at) = rest.find('$') {
            text.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('$') {
                text.push('$');
                rest = after;
            } else if let Some((name, after)) = reference(rest) {
                rest = after;
                let groups = group_indices(name, regex);
                if !groups.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut text)));
                    parts.push(Part::Group(groups));
                }
            } else {
                text.push('$');
            }
        }
        text.push_str(rest);
        parts.push(Part::Text(text));
        Self { parts }
    }

    /// The text of a template without references.
    pub(super) fn constant(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    pub(super) fn expand(&self, text: &str, groups: &Captures<'_>) -> String {
        let mut out = String::new();
        for part in &self.parts {
            match part {
                Part::Text(literal) => out.push_str(literal),
                Part::Group(of) => {
                    let found = of.iter().find_map(|group| groups.get(*group));
                    let found = found.and_then(|m| text.get(m.start()..m.end()));
                    out.push_str(found.unwrap_or_default());
                }
            }
        }
        out
    }
}

/// The name after a `$` and what follows it.
fn reference(rest: &str) -> Option<(&str, &str)> {
    let (body, braced) = match rest.strip_prefix('{') {
        Some(body) => (body, true),
        None => (rest, false),
    };
    let end = body.find(|c: char| c != '_' && !c.is_alphanumeric()).unwrap_or(body.len());
    let (name, after) = body.split_at(end);
    if name.is_empty() {
        return None;
    }
    if braced { after.strip_prefix('}').map(|after| (name, after)) } else { Some((name, after)) }
}

fn group_indices(name: &str, regex: &Regex) -> Vec<usize> {
    let number = name.bytes().all(|b| b.is_ascii_digit()) && (name.len() == 1 || !name.starts_with('0'));
    if number {
        return name.parse().ok().filter(|n| *n < regex.captures_len()).into_iter().collect();
    }
    let groups = regex.capture_names().enumerate();
    groups.filter(|(_, group)| group.and_then(go_name) == Some(name)).map(|(index, _)| index).collect()
}

/// The name that a group has in Go.
fn go_name(group: &str) -> Option<&str> {
    let group = group.strip_prefix(GROUP_PREFIX)?;
    Some(group.split_once(TWIN_MARK).map_or(group, |(name, _)| name))
}
