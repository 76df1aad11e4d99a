//! `GET /api/v1/features`: what this server can do, in Prometheus' words; what it has not is false, or missing.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use pyrrha_model::MatchOp;
use pyrrha_promql::Features;
use pyrrha_promql::ast::{AggregateOp, BinaryOp};
use pyrrha_promql::function::FUNCTIONS;

use super::envelope::{ApiError, NoticeLists, success};
use super::tenant;
use crate::app::App;

/// Whether it is there, by name.
type Category = BTreeMap<&'static str, bool>;

/// `GET /api/v1/features`: as the tenant of the request has them.
pub(crate) async fn features(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Response, ApiError> {
    let tenant = tenant::of(&headers).map_err(ApiError::bad_data)?;
    let promql = app.limits(&tenant).features;
    let all: BTreeMap<&str, Category> = [
        ("api", api(app.settings.enable_admin_api)),
        ("otlp_receiver", none(&["delta_conversion", "native_delta_ingestion"])),
        ("prometheus", [("agent_mode", false), ("auto_reload_config", false), ("server_mode", true)].into()),
        ("promql", keywords(&promql)),
        ("promql_functions", functions(&promql)),
        ("promql_operators", operators(&promql)),
        ("rules", none(&["concurrent_rule_eval", "keep_firing_for", "query_offset"])),
        ("scrape", none(&["extra_scrape_metrics", "start_timestamp_zero_ingestion", "type_and_unit_labels"])),
        ("service_discovery_providers", Category::new()),
        ("templating_functions", Category::new()),
        ("tsdb", tsdb(app.features.start_timestamps)),
        ("ui", none(&["ui_v2", "ui_v3"])),
    ]
    .into();
    Ok(success(&all, &NoticeLists::default()))
}

fn none(names: &[&'static str]) -> Category {
    names.iter().map(|name| (*name, false)).collect()
}

fn api(admin: bool) -> Category {
    [
        ("admin", admin),
        ("exclude_alerts", false),
        ("label_values_match", true),
        ("lifecycle", false),
        ("openapi_3.1", false),
        ("openapi_3.2", false),
        ("otlp_write_receiver", false),
        ("query_stats", true),
        ("query_warnings", true),
        ("remote_write_receiver", true),
        ("time_range_labels", true),
        ("time_range_series", true),
    ]
    .into()
}

fn keywords(features: &Features) -> Category {
    let (extended, fill) = (features.extended_range_selectors, features.binop_fill_modifiers);
    [
        ("anchored", extended),
        ("at_modifier", true),
        ("bool", true),
        ("by", true),
        ("delayed_name_removal", features.delayed_name_removal),
        ("duration_expr", true),
        ("fill", fill),
        ("fill_left", fill),
        ("fill_right", fill),
        ("group_left", true),
        ("group_right", true),
        ("ignoring", true),
        ("negative_offset", true),
        ("offset", true),
        ("on", true),
        ("per_query_lookback_delta", true),
        ("per_step_stats", features.per_step_stats),
        ("smoothed", extended),
        ("subqueries", true),
        ("type_and_unit_labels", features.type_and_unit_labels),
        ("use_start_timestamps", features.use_start_timestamps),
        ("without", true),
    ]
    .into()
}

fn functions(features: &Features) -> Category {
    FUNCTIONS.iter().map(|f| (f.name, !f.experimental || features.experimental_functions)).collect()
}

/// Operators of all kinds, as Prometheus has them in one list: binary ones, aggregations, those of matchers, `@`.
fn operators(features: &Features) -> Category {
    const MATCHERS: [MatchOp; 4] = [MatchOp::Equal, MatchOp::NotEqual, MatchOp::Regex, MatchOp::NotRegex];
    let binary = BinaryOp::ALL.map(|op| (op.as_str(), true));
    let aggregations =
        AggregateOp::ALL.map(|op| (op.as_str(), !op.is_experimental() || features.experimental_functions));
    let matchers = MATCHERS.map(|op| (op.as_str(), true));
    binary.into_iter().chain(aggregations).chain(matchers).chain([("@", true)]).collect()
}

fn tsdb(start_timestamps: bool) -> Category {
    [
        ("delayed_compaction", false),
        ("exemplar_storage", true),
        ("isolation", true),
        ("native_histograms", true),
        ("st_storage", start_timestamps),
        ("use_uncached_io", false),
    ]
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An expression with each keyword; what is not in an expression has none.
    fn example(keyword: &str) -> Option<&'static str> {
        Some(match keyword {
            "anchored" => "rate(a[1m] anchored)",
            "at_modifier" => "a @ 1",
            "bool" => "a > bool 1",
            "by" => "sum by (x) (a)",
            "duration_expr" => "a[1m * 2]",
            "fill" => "a + fill (0) b",
            "fill_left" => "a + fill_left (0) b",
            "fill_right" => "a + fill_right (0) b",
            "group_left" => "a + on (x) group_left b",
            "group_right" => "a + on (x) group_right b",
            "ignoring" => "a + ignoring (x) b",
            "negative_offset" => "a offset -1m",
            "offset" => "a offset 1m",
            "on" => "a + on (x) b",
            "smoothed" => "rate(a[1m] smoothed)",
            "subqueries" => "rate(a[5m:1m])",
            "without" => "sum without (x) (a)",
            _ => return None,
        })
    }

    fn operator(op: &str) -> String {
        match op {
            "=" | "=~" | "!~" => format!("a{{b{op}\"c\"}}"),
            "@" => "a @ 1".to_owned(),
            "topk" | "bottomk" | "quantile" | "limitk" | "limit_ratio" => format!("{op}(1, a)"),
            "count_values" => "count_values(\"x\", a)".to_owned(),
            "atan2" => "a atan2 b".to_owned(),
            op if BinaryOp::ALL.iter().any(|binary| binary.as_str() == op) => format!("a {op} b"),
            op => format!("{op}(a)"),
        }
    }

    #[test]
    fn what_is_said_of_promql_is_what_the_parser_takes() {
        for features in [Features::default(), Features::all()] {
            let takes = |text: &str| match pyrrha_promql::parse(text, &features) {
                Ok(_) => true,
                // Not the wrong number or types of arguments.
                Err(e) => !e.to_string().contains("enabled") && !e.to_string().contains("unknown"),
            };
            let mut seen = 0;
            for (name, is_there) in keywords(&features) {
                let Some(text) = example(name) else { continue };
                assert_eq!(pyrrha_promql::parse(text, &features).is_ok(), is_there, "{text}");
                seen += 1;
            }
            assert_eq!(seen, 17);
            for (name, is_there) in operators(&features) {
                let parsed = pyrrha_promql::parse(&operator(name), &features);
                assert_eq!(parsed.is_ok(), is_there, "{}: {parsed:?}", operator(name));
            }
            for (name, is_there) in functions(&features) {
                assert_eq!(takes(&format!("{name}()")), is_there, "{name}");
            }
        }
        assert_eq!(operators(&Features::default()).len(), 18 + 14 + 3 + 1, "!= is two");
    }
}
