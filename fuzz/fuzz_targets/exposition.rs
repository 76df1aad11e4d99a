//! Any text as an exposition: no panic, and errors name a line of it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pyrrha_ingest::exposition::{Format, parse};

fuzz_target!(|input: &[u8]| {
    let text = String::from_utf8_lossy(input);
    for format in [Format::Prometheus, Format::OpenMetrics] {
        if let Err(error) = parse(&text, format) {
            assert!((1..=text.lines().count()).contains(&error.line), "{error}");
        }
    }
});
