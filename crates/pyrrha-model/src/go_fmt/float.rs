//! Floats as `strconv.FormatFloat` writes them: shortest digits that read back the same, or a
//! given precision.

use std::fmt;

/// `strconv.FormatFloat(v, 'f', -1, 64)`: never an exponent.
pub fn float_f(value: f64) -> String {
    string(|out| push_float_f(out, value))
}

/// `%g` and `%v`: with an exponent below 1e-4 and from 1e6 on.
pub fn float_g(value: f64) -> String {
    string(|out| push_float_g(out, value))
}

/// A float as Prometheus' JSON writes it inside its quotes: `'f'`, but `'e'` below 1e-6 and from
/// 1e21.
pub fn json_float(value: f64) -> String {
    string(|out| push_json_float(out, value))
}

/// `{}` prints as [`float_g`]; `{:.N}` as Go's `%.Ng`.
#[derive(Debug, Clone, Copy)]
pub struct General(pub f64);

/// `{}` prints as [`float_f`].
#[derive(Debug, Clone, Copy)]
pub struct Plain(pub f64);

/// `{}` prints as Go's `%e` (six decimals); `{:.N}` as `%.Ne`.
#[derive(Debug, Clone, Copy)]
pub struct Exponent(pub f64);

/// `{}` prints as Go's `%f` (six decimals); `{:.N}` as `%.Nf`.
#[derive(Debug, Clone, Copy)]
pub struct Fixed(pub f64);

impl fmt::Display for General {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(precision) = f.precision() else {
            return f.write_str(&float_g(self.0));
        };
        f.write_str(&string(|out| push_general(out, self.0, precision.clamp(1, 64))))
    }
}

impl fmt::Display for Plain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&float_f(self.0))
    }
}

impl fmt::Display for Exponent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimals = f.precision().unwrap_or(6);
        f.write_str(&string(|out| {
            if !push_special(out, self.0) {
                let (negative, digits) = rounded(self.0, decimals + 1);
                push_exponent_form(out, negative, &digits, decimals + 1);
            }
        }))
    }
}

impl fmt::Display for Fixed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut special = Vec::new();
        if push_special(&mut special, self.0) {
            return f.write_str(&String::from_utf8_lossy(&special));
        }
        write!(f, "{:.*}", f.precision().unwrap_or(6), self.0)
    }
}

/// Appends [`float_f`].
pub fn push_float_f(out: &mut Vec<u8>, value: f64) {
    if push_special(out, value) || push_integer(out, value) {
        return;
    }
    let mut buffer = zmij::Buffer::new();
    let text = buffer.format_finite(value);
    if text.bytes().any(|b| b == b'e') {
        let (negative, digits) = parse_digits(text);
        push_plain_form(out, negative, &digits);
    } else {
        out.extend_from_slice(text.strip_suffix(".0").unwrap_or(text).as_bytes());
    }
}

/// Appends `strconv.FormatFloat(v, 'e', -1, 64)`.
pub fn push_float_e(out: &mut Vec<u8>, value: f64) {
    if push_special(out, value) {
        return;
    }
    let (negative, digits) = shortest(value);
    push_exponent_form(out, negative, &digits, digits.len);
}

/// Appends [`float_g`].
pub fn push_float_g(out: &mut Vec<u8>, value: f64) {
    if push_special(out, value) {
        return;
    }
    let (negative, digits) = shortest(value);
    let exponent = digits.point - 1;
    // With shortest digits Go decides as if the precision were 6.
    if !(-4..6).contains(&exponent) {
        push_exponent_form(out, negative, &digits, digits.len);
    } else {
        push_plain_form(out, negative, &digits);
    }
}

/// Appends [`json_float`].
pub fn push_json_float(out: &mut Vec<u8>, value: f64) {
    let size = value.abs();
    if size != 0.0 && !(1e-6..1e21).contains(&size) {
        push_float_e(out, value);
    } else {
        push_float_f(out, value);
    }
}

/// Appends milliseconds as seconds, as Prometheus' JSON does: three decimals, or none when whole.
pub fn push_json_timestamp(out: &mut Vec<u8>, milliseconds: i64) {
    if milliseconds < 0 {
        out.push(b'-');
    }
    let size = milliseconds.unsigned_abs();
    out.extend_from_slice(itoa::Buffer::new().format(size / 1000).as_bytes());
    let fraction = (size % 1000) as u16;
    if fraction != 0 {
        let digit = |n: u16| b'0' + (n % 10) as u8;
        out.extend_from_slice(&[b'.', digit(fraction / 100), digit(fraction / 10), digit(fraction)]);
    }
}

fn push_general(out: &mut Vec<u8>, value: f64, precision: usize) {
    if push_special(out, value) {
        return;
    }
    let (negative, digits) = rounded(value, precision);
    let (len, point) = (digits.len as i32, digits.point);
    let mut limit = precision as i32;
    if limit > len && len >= point {
        limit = len;
    }
    if point - 1 < -4 || point > limit {
        push_exponent_form(out, negative, &digits, digits.len);
    } else {
        push_plain_form(out, negative, &digits);
    }
}

/// Decimal digits `0.d1d2d3… · 10^point`, without trailing zeros. Zero has no digits and point 0.
struct Digits {
    digits: [u8; 72],
    len: usize,
    point: i32,
}

impl Digits {
    fn as_slice(&self) -> &[u8] {
        &self.digits[..self.len]
    }
}

fn shortest(value: f64) -> (bool, Digits) {
    parse_digits(zmij::Buffer::new().format_finite(value))
}

/// `count` significant digits, correctly rounded.
fn rounded(value: f64, count: usize) -> (bool, Digits) {
    parse_digits(&format!("{:.*e}", count.clamp(1, 64) - 1, value))
}

/// Reads `-12.34e-5`, the form of the digit printers.
fn parse_digits(text: &str) -> (bool, Digits) {
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let mut out = Digits { digits: [0; 72], len: 0, point: exponent.parse().unwrap_or(0) };
    let mut seen_point = false;
    for byte in mantissa.bytes() {
        if byte == b'.' {
            seen_point = true;
            continue;
        }
        if out.len == 0 && byte == b'0' {
            // A leading zero: after the point it moves the point to the left.
            out.point -= i32::from(seen_point);
            continue;
        }
        out.point += i32::from(!seen_point);
        if out.len < out.digits.len() {
            out.digits[out.len] = byte;
            out.len += 1;
        }
    }
    while out.len > 0 && out.digits[out.len - 1] == b'0' {
        out.len -= 1;
    }
    if out.len == 0 {
        out.point = 0;
    }
    (negative, out)
}

fn push_plain_form(out: &mut Vec<u8>, negative: bool, digits: &Digits) {
    if negative {
        out.push(b'-');
    }
    let (all, point) = (digits.as_slice(), digits.point);
    if point <= 0 {
        out.push(b'0');
        if !all.is_empty() {
            out.push(b'.');
            out.resize(out.len() + point.unsigned_abs() as usize, b'0');
            out.extend_from_slice(all);
        }
        return;
    }
    let point = point as usize;
    if all.len() <= point {
        out.extend_from_slice(all);
        out.resize(out.len() + point - all.len(), b'0');
    } else {
        out.extend_from_slice(&all[..point]);
        out.push(b'.');
        out.extend_from_slice(&all[point..]);
    }
}

/// `d.ddde±dd` with `count` digits, padded with zeros.
fn push_exponent_form(out: &mut Vec<u8>, negative: bool, digits: &Digits, count: usize) {
    if negative {
        out.push(b'-');
    }
    let all = digits.as_slice();
    out.push(all.first().copied().unwrap_or(b'0'));
    if count > 1 {
        out.push(b'.');
        let rest = all.get(1..).unwrap_or_default();
        let shown = rest.len().min(count - 1);
        out.extend_from_slice(&rest[..shown]);
        out.resize(out.len() + count - 1 - shown, b'0');
    }
    let exponent = if all.is_empty() { 0 } else { digits.point - 1 };
    out.extend_from_slice(if exponent < 0 { b"e-" } else { b"e+" });
    let size = exponent.unsigned_abs();
    if size < 10 {
        out.push(b'0');
    }
    out.extend_from_slice(itoa::Buffer::new().format(size).as_bytes());
}

/// `NaN`, `+Inf`, `-Inf`; false if the value is finite.
fn push_special(out: &mut Vec<u8>, value: f64) -> bool {
    if value.is_finite() {
        return false;
    }
    let text: &[u8] = match value {
        v if v.is_nan() => b"NaN",
        v if v > 0.0 => b"+Inf",
        _ => b"-Inf",
    };
    out.extend_from_slice(text);
    true
}

/// Integers that a float holds exactly need no search for digits.
fn push_integer(out: &mut Vec<u8>, value: f64) -> bool {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let integer = value as i64;
    let exact = value.abs() < EXACT && integer as f64 == value && (integer != 0 || value.is_sign_positive());
    if exact {
        out.extend_from_slice(itoa::Buffer::new().format(integer).as_bytes());
    }
    exact
}

fn string(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::with_capacity(24);
    write(&mut out);
    String::from_utf8(out).expect("digits, signs, points and letters are ASCII")
}
