//! Go's number and string formatting, as clients of Prometheus see it (decision 37).
//!
//! Source of the rules: the documentation of Go's packages `fmt` and `strconv`.

mod float;
mod text;

pub use float::{
    Exponent, Fixed, General, Plain, float_f, float_g, json_float, push_float_e, push_float_f, push_float_g,
    push_json_float, push_json_timestamp,
};
pub use text::{push_quoted, quote, quote_bytes, quote_char, unicode_point};

#[cfg(test)]
mod tests;
