//! Rules for series that stay shorter in the bucket than the rest: `{__name__=~"debug_.*"} 7d`, or
//! `{job="x"} raw=7d,5m=30d`.

use std::collections::BTreeMap;
use std::time::Duration;

use pyrrha_bucket::MatcherRetention;
use pyrrha_bucket::downsample::{FIVE_MINUTES, HOUR};
use pyrrha_model::time::DurationDisplay;
use pyrrha_promql::parser::parse_selector;

use super::value::span;

/// Resolutions by name, ms.
const RESOLUTIONS: [(&str, i64); 3] = [("raw", 0), ("5m", FIVE_MINUTES), ("1h", HOUR)];

/// Reads a rule: a selector, and after the last space a duration for all resolutions or a list of
/// durations by resolution; 0, or one that is missing, is as for the rest.
pub(super) fn rule(text: &str) -> Result<MatcherRetention, String> {
    let form = "expected a selector and a duration, as in '{job=\"x\"} 7d' or '{job=\"x\"} raw=7d,5m=30d'";
    let (selector, keep) = text.trim().rsplit_once(char::is_whitespace).ok_or(form)?;
    let matchers = parse_selector(selector.trim()).map_err(|e| e.to_string())?;
    let keep: BTreeMap<i64, Duration> = match keep.contains('=') {
        false => {
            let keep = span(keep).map_err(|e| format!("{e}; {form}"))?;
            RESOLUTIONS.iter().map(|&(_, resolution)| (resolution, keep)).collect()
        }
        true => keep.split(',').map(of_resolution).collect::<Result<_, _>>()?,
    };
    Ok(MatcherRetention::new(matchers, keep))
}

fn of_resolution(text: &str) -> Result<(i64, Duration), String> {
    let (name, keep) = text.split_once('=').ok_or_else(|| format!("{text:?} is no resolution=duration"))?;
    let known = RESOLUTIONS.iter().find(|(known, _)| *known == name);
    let &(_, resolution) = known.ok_or_else(|| format!("{name:?} is none of raw, 5m and 1h"))?;
    Ok((resolution, span(keep)?))
}

/// A rule as it is written.
pub(super) fn text(rule: &MatcherRetention) -> String {
    let keep = RESOLUTIONS.iter().filter_map(|(name, resolution)| {
        let keep = rule.keep().get(resolution).filter(|keep| !keep.is_zero())?;
        let keep = DurationDisplay(i64::try_from(keep.as_millis()).unwrap_or(i64::MAX));
        Some(format!("{name}={keep}"))
    });
    format!("{} {}", rule.selector(), keep.collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_a_selector_and_durations() {
        let shown = |written: &str| rule(written).map(|rule| text(&rule));
        assert_eq!(
            shown("{__name__=~\"debug_.*\", a != \"x y\"}  7d").as_deref(),
            Ok("{__name__=~\"debug_.*\",a!=\"x y\"} raw=1w,5m=1w,1h=1w")
        );
        assert_eq!(shown("up raw=2d,1h=0").as_deref(), Ok("{__name__=\"up\"} raw=2d"));
        for bad in ["7d", "up", "{} 7d", "{a=\"b\"", "up x", "up raw", "up 2h=7d", "up raw=", "up raw=1d,,"] {
            assert!(rule(bad).is_err(), "{bad}");
        }
    }
}
