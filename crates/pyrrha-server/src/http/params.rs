//! Parameters of a request: URL query and form as one, with Prometheus' rules and texts.

use pyrrha_model::Timestamp;
use pyrrha_model::go_fmt::quote;
use pyrrha_model::time::parse_duration;

use super::envelope::ApiError;

/// Earliest time, `-292273086-05-16T16:47:06Z`, ms: what an absent start means. Prometheus has it as
/// `math.MinInt64/1000 + 62135596801` seconds.
pub(crate) const MIN_TIME: Timestamp = (i64::MIN / 1000 + 62_135_596_801) * 1000;
/// Latest time, `292277025-08-18T07:12:54.999999999Z`, ms.
pub(crate) const MAX_TIME: Timestamp = (i64::MAX / 1000 - 62_135_596_801) * 1000 + 999;

const MIN_TIME_TEXT: &str = "-292273086-05-16T16:47:06Z";
const MAX_TIME_TEXT: &str = "292277025-08-18T07:12:54.999999999Z";

/// Most parameters of a request.
const PARAMS_MAX: usize = 10_000;

/// Decoded `key=value` pairs, of which the first counts where one is asked for.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Params {
    pairs: Vec<(String, String)>,
    /// What is wrong with the first pair that could not be decoded.
    malformed: Option<ApiError>,
}

impl Params {
    /// Decodes URL-encoded pairs and appends them. Pairs that do not decode are left out, see
    /// [`check`](Self::check).
    pub(crate) fn add(&mut self, encoded: &str) -> Result<(), ApiError> {
        for pair in encoded.split('&').filter(|p| !p.is_empty()) {
            self.has_room()?;
            match decode_pair(pair) {
                Ok(decoded) => self.pairs.push(decoded),
                Err(error) if self.malformed.is_none() => self.malformed = Some(error),
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// Appends a value that is not encoded.
    pub(crate) fn push(&mut self, name: String, value: Vec<u8>) -> Result<(), ApiError> {
        self.has_room()?;
        self.pairs.push((name, text_of(value)));
        Ok(())
    }

    fn has_room(&self) -> Result<(), ApiError> {
        match self.pairs.len() < PARAMS_MAX {
            true => Ok(()),
            false => Err(bad_form(&format!("more than {PARAMS_MAX} parameters"))),
        }
    }

    /// Fails if a pair could not be decoded. Prometheus looks at this where it asks for lists of values;
    /// elsewhere it takes what is good.
    pub(crate) fn check(&self) -> Result<(), ApiError> {
        self.malformed.clone().map_or(Ok(()), Err)
    }

    /// Fails if there is no value of `name`.
    pub(crate) fn some(&self, name: &str) -> Result<(), ApiError> {
        let none = || ApiError::bad_data(format!("no {name} parameter provided"));
        self.all(name).next().map(|_| ()).ok_or_else(none)
    }

    /// The first value of `name`; "" is absent.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str()).filter(|v| !v.is_empty())
    }

    /// All values of `name`.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> + 'a {
        self.pairs.iter().filter(move |(k, _)| k == name).map(|(_, v)| v.as_str())
    }

    /// A time, ms.
    pub(crate) fn time(&self, name: &str) -> Result<Option<Timestamp>, ApiError> {
        let refused = |e| ApiError::parameter(name, format!("invalid time value for '{name}': {e}"));
        self.get(name).map(|text| parse_time(text).map_err(refused)).transpose()
    }

    /// A time that must be given.
    pub(crate) fn required_time(&self, name: &str) -> Result<Timestamp, ApiError> {
        parse_time(self.get(name).unwrap_or("")).map_err(|e| ApiError::parameter(name, e))
    }

    /// A duration, ms.
    pub(crate) fn duration(&self, name: &str) -> Result<Option<i64>, ApiError> {
        self.span(name).map_err(|e| ApiError::parameter(name, e))
    }

    /// A duration, ms, or what is wrong with it.
    pub(crate) fn span(&self, name: &str) -> Result<Option<i64>, String> {
        self.get(name).map(parse_span).transpose()
    }

    /// A duration that must be given.
    pub(crate) fn required_duration(&self, name: &str) -> Result<i64, ApiError> {
        parse_span(self.get(name).unwrap_or("")).map_err(|e| ApiError::parameter(name, e))
    }

    /// A switch, in Go's words; absent is off.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, ApiError> {
        self.flag_or(name, "unable to parse boolean")
    }

    /// The same; the words say what went wrong.
    pub(crate) fn flag_or(&self, name: &str, wrong: &str) -> Result<bool, ApiError> {
        match self.get(name) {
            Some("1" | "t" | "T" | "TRUE" | "true" | "True") => Ok(true),
            None | Some("0" | "f" | "F" | "FALSE" | "false" | "False") => Ok(false),
            Some(text) => Err(ApiError::parameter(
                name,
                format!("{wrong}: strconv.ParseBool: parsing {}: invalid syntax", quote(text)),
            )),
        }
    }

    /// `limit`; 0 means none.
    pub(crate) fn limit(&self) -> Result<usize, ApiError> {
        let Some(text) = self.get("limit") else { return Ok(0) };
        let limit: i64 = text.parse().map_err(|e: std::num::ParseIntError| {
            let why = match e.kind() {
                std::num::IntErrorKind::PosOverflow | std::num::IntErrorKind::NegOverflow => {
                    "value out of range"
                }
                _ => "invalid syntax",
            };
            ApiError::parameter("limit", format!("strconv.Atoi: parsing {}: {why}", quote(text)))
        })?;
        usize::try_from(limit).map_err(|_| ApiError::parameter("limit", "limit must be non-negative"))
    }
}

fn decode_pair(pair: &str) -> Result<(String, String), ApiError> {
    if pair.contains(';') {
        return Err(bad_form("invalid semicolon separator in query"));
    }
    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
    Ok((decode(key)?, decode(value)?))
}

/// A percent-decoded URL component, `+` being a space.
pub(crate) fn decode(text: &str) -> Result<String, ApiError> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        match bytes[i] {
            b'+' => out.push(b' '),
            b'%' => {
                let digit = |at: usize| bytes.get(at).and_then(|b| char::from(*b).to_digit(16));
                let (Some(high), Some(low)) = (digit(i + 1), digit(i + 2)) else {
                    let end = bytes.len().min(i + 3);
                    let part = String::from_utf8_lossy(&bytes[i..end]);
                    return Err(bad_form(&format!("invalid URL escape {}", quote(&part))));
                };
                out.push((high * 16 + low) as u8);
                i += 2;
            }
            b => out.push(b),
        }
        i += 1;
    }
    Ok(text_of(out))
}

/// Bytes as text. What is no UTF-8 becomes U+FFFD, as in Prometheus: who reads the value says what is wrong.
fn text_of(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
}

/// A form, or what stands for one in a URL, that cannot be read.
pub(super) fn bad_form(why: &str) -> ApiError {
    ApiError::bad_data(format!("error parsing form values: {why}"))
}

/// Unix seconds with fraction, RFC 3339, or the texts of the earliest and latest time.
pub(crate) fn parse_time(text: &str) -> Result<Timestamp, String> {
    let bad = || format!("cannot parse {} to a valid timestamp", quote(text));
    if let Some(seconds) = parse_go_float(text) {
        if seconds.is_nan() {
            return Err(bad());
        }
        let whole = seconds.trunc();
        // Rounded in the fraction alone, as Prometheus does; `as` saturates far out of range.
        let fraction = ((seconds - whole) * 1000.0).round() as i64;
        let whole_ms = (whole as i64).saturating_mul(1000);
        return Ok(whole_ms.saturating_add(fraction).clamp(MIN_TIME, MAX_TIME));
    }
    match text {
        MIN_TIME_TEXT => Ok(MIN_TIME),
        MAX_TIME_TEXT => Ok(MAX_TIME),
        _ => pyrrha_model::rfc3339::parse(text).ok_or_else(bad),
    }
}

/// Seconds with fraction or a Prometheus duration, in ms.
fn parse_span(text: &str) -> Result<i64, String> {
    let bad = || format!("cannot parse {} to a valid duration", quote(text));
    if let Some(seconds) = parse_go_float(text) {
        let nanoseconds = seconds * 1e9;
        if nanoseconds.abs() > i64::MAX as f64 {
            return Err(format!("{}. It overflows int64", bad()));
        }
        if nanoseconds.is_nan() {
            // Go's least integer.
            return Ok(i64::MIN / 1_000_000);
        }
        let ms = (nanoseconds as i64) / 1_000_000;
        // What is finer than a millisecond is one: nothing is no duration.
        return Ok(if nanoseconds >= 1.0 { ms.max(1) } else { ms });
    }
    parse_duration(text).map_err(|_| bad())
}

/// What Go's `strconv.ParseFloat` accepts of decimal notation: digits that are too large are none.
fn parse_go_float(text: &str) -> Option<f64> {
    let value: f64 = text.parse().ok()?;
    (value.is_finite() || !text.bytes().any(|b| b.is_ascii_digit())).then_some(value)
}

#[cfg(test)]
mod tests;
