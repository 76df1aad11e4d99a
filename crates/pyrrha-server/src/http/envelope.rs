//! Prometheus' envelope: `{"status":…,"data":…}`, error types and their codes.

use std::fmt;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use pyrrha_model::contract::Notices;
use pyrrha_model::{ErrorKind, StoreError};
use serde::Serialize;

use crate::query_pool::PoolError;

/// Most warnings and infos that an answer carries; the rest is one line.
const NOTICES_MAX: usize = 10;

/// An error as the API tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApiError {
    error_type: &'static str,
    code: StatusCode,
    message: String,
}

impl ApiError {
    fn new(error_type: &'static str, code: StatusCode, message: impl Into<String>) -> Self {
        Self { error_type, code, message: message.into() }
    }

    /// The request is wrong.
    pub(crate) fn bad_data(message: impl Into<String>) -> Self {
        Self::new("bad_data", StatusCode::BAD_REQUEST, message)
    }

    /// A parameter is wrong.
    pub(crate) fn parameter(name: &str, why: impl fmt::Display) -> Self {
        Self::bad_data(format!("invalid parameter {}: {why}", pyrrha_model::go_fmt::quote(name)))
    }

    /// The same, said of a parameter, if the request is wrong.
    pub(crate) fn of_parameter(self, name: &str) -> Self {
        if self.is_bad_data() { Self::parameter(name, self.message) } else { self }
    }

    /// The admin API is off: 500, as Prometheus has it.
    pub(crate) fn admin_disabled() -> Self {
        Self::new("unavailable", StatusCode::INTERNAL_SERVER_ERROR, "admin APIs disabled")
    }

    /// The body did not arrive in time.
    pub(crate) fn body_too_slow() -> Self {
        Self::new("timeout", StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time")
    }

    /// The same as plain text, for what is no API.
    pub(crate) fn into_text(self) -> Response {
        text(self.code, &self.message)
    }

    /// Whether the request is wrong.
    pub(crate) fn is_bad_data(&self) -> bool {
        self.code == StatusCode::BAD_REQUEST
    }

    /// What a failed query tells. `message` is the error's text.
    pub(crate) fn of_kind(kind: ErrorKind, message: impl Into<String>) -> Self {
        let (error_type, code) = match kind {
            ErrorKind::Invalid => ("bad_data", StatusCode::BAD_REQUEST),
            ErrorKind::NotFound => ("not_found", StatusCode::NOT_FOUND),
            ErrorKind::Execution | ErrorKind::Limit => ("execution", StatusCode::UNPROCESSABLE_ENTITY),
            ErrorKind::Timeout => ("timeout", StatusCode::SERVICE_UNAVAILABLE),
            // 499, as nginx has it: the client closed the request.
            ErrorKind::Canceled => {
                ("canceled", StatusCode::from_u16(499).unwrap_or(StatusCode::SERVICE_UNAVAILABLE))
            }
            ErrorKind::Unavailable => ("unavailable", StatusCode::SERVICE_UNAVAILABLE),
            ErrorKind::Corrupt | ErrorKind::Internal => ("internal", StatusCode::INTERNAL_SERVER_ERROR),
        };
        Self::new(error_type, code, message)
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        Self::of_kind(error.kind(), error.to_string())
    }
}

impl From<PoolError> for ApiError {
    fn from(error: PoolError) -> Self {
        Self::of_kind(error.kind(), error.to_string())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Failure<'a> {
            status: &'a str,
            error_type: &'a str,
            error: &'a str,
        }
        let failure = Failure { status: "error", error_type: self.error_type, error: &self.message };
        json(self.code, serde_json::to_vec(&failure).unwrap_or_default())
    }
}

/// Warnings and infos of an answer.
#[derive(Debug, Default)]
pub(crate) struct NoticeLists {
    /// What may be wrong with the answer.
    pub(crate) warnings: Vec<String>,
    /// What may be wrong with the query.
    pub(crate) infos: Vec<String>,
}

impl NoticeLists {
    /// What sources said of the answer: warnings, and what data is missing.
    pub(crate) fn of(notices: &Notices) -> Self {
        let mut warnings = notices.warnings();
        for (range, why) in notices.gaps() {
            warnings.push(format!("data is missing: from={} to={}: {why}", range.start, range.end));
        }
        Self { warnings, infos: Vec::new() }
    }

    /// Appends the lists to an envelope whose data is written, and closes it.
    pub(crate) fn close(&self, out: &mut Vec<u8>) {
        for (key, what, texts) in [("warnings", "warning", &self.warnings), ("infos", "info", &self.infos)] {
            if texts.is_empty() {
                continue;
            }
            out.extend_from_slice(format!(",\"{key}\":[").as_bytes());
            for (i, text) in texts.iter().take(NOTICES_MAX).enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                crate::json::push_string(out, text);
            }
            if texts.len() > NOTICES_MAX {
                let more = texts.len() - NOTICES_MAX;
                out.push(b',');
                crate::json::push_string(out, &format!("{more} more {what} annotations omitted"));
            }
            out.push(b']');
        }
        out.extend_from_slice(b"}");
    }
}

/// A success with small data.
pub(crate) fn success(data: &impl Serialize, notices: &NoticeLists) -> Response {
    let mut out = br#"{"status":"success","data":"#.to_vec();
    match serde_json::to_vec(data) {
        Ok(encoded) => out.extend_from_slice(&encoded),
        Err(e) => return ApiError::of_kind(ErrorKind::Internal, e.to_string()).into_response(),
    }
    notices.close(&mut out);
    json(StatusCode::OK, out)
}

/// A success with a list whose elements `push` writes.
pub(crate) fn success_list<T>(
    list: &[T],
    push: impl Fn(&mut Vec<u8>, &T),
    notices: &NoticeLists,
) -> Response {
    let mut out = br#"{"status":"success","data":["#.to_vec();
    for (i, one) in list.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        push(&mut out, one);
    }
    out.push(b']');
    notices.close(&mut out);
    json(StatusCode::OK, out)
}

/// A JSON answer.
pub(crate) fn json(code: StatusCode, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = code;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A plain text answer, as Go's `http.Error` gives it.
pub(crate) fn text(code: StatusCode, message: &str) -> Response {
    let mut response = Response::new(Body::from(format!("{message}\n")));
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_ten_notices_are_counted() {
        let lists =
            NoticeLists { warnings: (0..12).map(|i| format!("w\"{i}")).collect(), infos: vec!["i".into()] };
        let mut out = br#"{"status":"success""#.to_vec();
        lists.close(&mut out);
        let value: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
        let warnings = value["warnings"].as_array().expect("a list");
        assert_eq!(warnings.len(), 11);
        assert_eq!(warnings[0], "w\"0");
        assert_eq!(warnings[10], "2 more warning annotations omitted");
        assert_eq!(value["infos"], serde_json::json!(["i"]));
    }
}
