//! Sizes in bytes: `1048576`, `512KB`, `1.5GiB`.

use serde::Deserialize;

const UNITS: [(&str, f64); 10] = [
    ("KiB", 1024.0),
    ("MiB", 1_048_576.0),
    ("GiB", 1_073_741_824.0),
    ("TiB", 1_099_511_627_776.0),
    ("KB", 1e3),
    ("MB", 1e6),
    ("GB", 1e9),
    ("TB", 1e12),
    ("B", 1.0),
    ("", 1.0),
];

/// Parses a size; the error says what is accepted.
pub fn parse_bytes(text: &str) -> Result<usize, String> {
    let digits = text.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
    let (number, unit) = text.split_at(digits);
    let factor = UNITS.iter().find(|(name, _)| *name == unit.trim()).map(|(_, f)| *f);
    match (number.parse::<f64>(), factor) {
        // Sizes beyond 2^53 do not exist.
        (Ok(n), Some(factor)) if n * factor >= 1.0 && n * factor < 9e15 => Ok((n * factor) as usize),
        _ => Err("expected a positive size such as 1048576, 512MB or 2GiB".into()),
    }
}

/// A size in YAML, with or without a unit.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum YamlBytes {
    Number(u64),
    Text(String),
}

impl From<YamlBytes> for String {
    fn from(size: YamlBytes) -> Self {
        match size {
            YamlBytes::Number(n) => n.to_string(),
            YamlBytes::Text(text) => text,
        }
    }
}
