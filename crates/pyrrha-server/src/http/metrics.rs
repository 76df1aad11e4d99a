//! `/metrics`: the server's own metrics as text.

use std::fmt::Write;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};

use crate::app::App;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PLAIN: &str = "text/plain; version=0.0.4; charset=utf-8";

/// `GET /metrics`
pub(crate) async fn metrics(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    let accepts_open = headers
        .get(header::ACCEPT)
        .and_then(|v| v.to_str().ok())
        .is_some_and(|accept| accept.contains("application/openmetrics-text"));
    let open = app.telemetry.render();
    let (content_type, text) = if accepts_open { (OPEN_METRICS, open) } else { (PLAIN, plain(&open)) };
    let mut response = text.into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// OpenMetrics text in the older format, which describes samples by their own names and knows fewer
/// types: `# TYPE requests counter` becomes that of `requests_total`, an info is a gauge. No exemplars,
/// times or units are written, so that the samples are the same.
fn plain(open: &str) -> String {
    let mut out = String::with_capacity(open.len() + open.len() / 16);
    let mut help = None;
    for line in open.lines() {
        if let Some(described) = line.strip_prefix("# HELP ") {
            // It comes before the type, which the name depends on.
            help = described.split_once(' ').map(|(_, text)| text);
        } else if let Some((family, kind)) = line.strip_prefix("# TYPE ").and_then(|l| l.split_once(' ')) {
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                "unknown" => ("", "untyped"),
                kind => ("", kind),
            };
            // Writing to a string cannot fail.
            if let Some(text) = help.take() {
                let _ = writeln!(out, "# HELP {family}{suffix} {text}");
            }
            let _ = writeln!(out, "# TYPE {family}{suffix} {kind}");
        } else if !line.starts_with('#') {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_older_format_describes_samples_by_their_own_names() {
        let open = "# HELP b Version.\n# TYPE b info\nb_info{v=\"1\"} 1\n# HELP r Requests of all.\n\
                    # TYPE r counter\nr_total{code=\"200\"} 3\n# TYPE h histogram\nh_sum 1.0\nh_count 1\n\
                    h_bucket{le=\"+Inf\"} 1\n# TYPE u unknown\nu 1\n# EOF\n";
        let older = "# HELP b_info Version.\n# TYPE b_info gauge\nb_info{v=\"1\"} 1\n\
                     # HELP r_total Requests of all.\n# TYPE r_total counter\nr_total{code=\"200\"} 3\n\
                     # TYPE h histogram\nh_sum 1.0\nh_count 1\nh_bucket{le=\"+Inf\"} 1\n\
                     # TYPE u untyped\nu 1\n";
        assert_eq!(plain(open), older);
    }
}
