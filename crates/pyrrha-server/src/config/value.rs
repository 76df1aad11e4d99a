//! Values of settings: text from a flag, the file or the default, and what it means.

use std::time::Duration;

use pyrrha_model::time::parse_duration;

use super::ConfigError;
use super::size::parse_bytes;

/// The value of `key`: the flag's, else the file's, else the default.
pub(super) fn setting<T>(
    key: &'static str,
    flag: Option<String>,
    file: Option<impl Into<String>>,
    default: &str,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<T, ConfigError> {
    let value = flag.or(file.map(Into::into)).unwrap_or_else(|| default.to_owned());
    parse(&value).map_err(|message| ConfigError::Value { key, value, message })
}

/// A duration in ms, which may be zero.
pub(super) fn milliseconds(text: &str) -> Result<i64, String> {
    parse_duration(text).map_err(|e| e.to_string())
}

/// A duration in ms.
pub(super) fn some_milliseconds(text: &str) -> Result<i64, String> {
    match milliseconds(text)? {
        ms if ms > 0 => Ok(ms),
        _ => Err("must be more than zero".into()),
    }
}

/// A duration, which may be zero.
pub(crate) fn span(text: &str) -> Result<Duration, String> {
    milliseconds(text).map(|ms| Duration::from_millis(ms.unsigned_abs()))
}

/// A duration of more than zero.
pub(super) fn some_span(text: &str) -> Result<Duration, String> {
    some_milliseconds(text).map(|ms| Duration::from_millis(ms.unsigned_abs()))
}

/// A size, where `0` is none.
pub(super) fn bytes_or_none(text: &str) -> Result<usize, String> {
    if matches!(text, "0" | "0B") { Ok(0) } else { parse_bytes(text) }
}
