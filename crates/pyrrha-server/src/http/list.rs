//! Lists as answers: found on the query pool, within the memory budgets until their last byte has left.

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use pyrrha_model::contract::QueryContext;
use pyrrha_model::{Label, Labels, StoreError};

use super::body::streamed;
use super::envelope::{ApiError, NoticeLists, json};
use super::request::ApiRequest;
use super::work;
use crate::active::{Pieces, Reservation, Sending};
use crate::app::App;
use crate::json::PIECE_BYTES;

/// How elements of a list are weighed and written.
pub(crate) struct Shape<T> {
    /// What the list stands in: `[]`, or `{}` of members.
    pub(crate) brackets: [u8; 2],
    /// About how many bytes one takes.
    pub(crate) bytes: fn(&T) -> usize,
    /// Writes one.
    pub(crate) push: fn(&mut Vec<u8>, &T),
}

/// About how many bytes a label set takes.
pub(crate) fn bytes_of_labels(labels: &Labels) -> usize {
    labels.iter().map(|l| l.name.len() + l.value.len() + size_of::<Label>()).sum()
}

/// Answers with what `find` finds, cut to `limit` (0: all), and says so. If there was nothing to look for
/// (`None`), the answer is empty, 204.
pub(crate) async fn answer<T: 'static>(
    app: Arc<App>,
    request: ApiRequest,
    text: &str,
    limit: usize,
    shape: Shape<T>,
    find: impl FnOnce(&QueryContext, &ApiRequest) -> Result<Option<Vec<T>>, ApiError> + Send + 'static,
) -> Result<Response, ApiError> {
    let clock = app.clock.clone();
    let job = move |ctx: &QueryContext, request: &ApiRequest| {
        let Some(mut found) = find(ctx, request)? else { return Ok(None) };
        let _found = Reservation::take(&ctx.budget, found.iter().map(shape.bytes).sum())?;
        let mut notices = NoticeLists::of(&ctx.notices);
        if limit > 0 && found.len() > limit {
            found.truncate(limit);
            notices.warnings.push("results truncated due to limit".to_owned());
        }
        let (text, reservation) = encode(&found, &shape, &notices, ctx)?;
        // Whoever cancelled it meanwhile shall not get an answer that begins well.
        ctx.cancel.check()?;
        Ok(Some(sending(text, reservation, clock.monotonic())))
    };
    let (sending, guard) = work::run(&app, request, text, job).await?;
    // Nothing is asked for, so there is nothing to tell, not even an empty list.
    let Some(sending) = sending else { return Ok(StatusCode::NO_CONTENT.into_response()) };
    guard.query.send(sending);
    Ok(json(StatusCode::OK, streamed(guard, app.clock.clone())))
}

/// A whole text on its way, in memory that is reserved; `now` on the monotonic clock.
pub(crate) fn sending(text: Vec<u8>, reservation: Reservation, now: Duration) -> Sending {
    Sending { encoder: Box::new(Text { text, sent: 0 }), _reservation: reservation, last_read: now }
}

/// A whole text.
struct Text {
    text: Vec<u8>,
    sent: usize,
}

impl Pieces for Text {
    fn next_piece(&mut self, out: &mut Vec<u8>) -> bool {
        out.clear();
        let end = self.text.len().min(self.sent + PIECE_BYTES);
        out.extend_from_slice(&self.text[self.sent..end]);
        self.sent = end;
        !out.is_empty()
    }
}

/// The answer as JSON, in memory that is reserved before it grows.
fn encode<T>(
    list: &[T],
    shape: &Shape<T>,
    notices: &NoticeLists,
    ctx: &QueryContext,
) -> Result<(Vec<u8>, Reservation), StoreError> {
    /// Room that one element nearly always fits in.
    const ROOM: usize = 4096;
    let [open, close] = shape.brackets;
    let mut out = Vec::new();
    let mut reservation = Reservation::take(&ctx.budget, 0)?;
    out.extend_from_slice(br#"{"status":"success","data":"#);
    out.push(open);
    for (i, one) in list.iter().enumerate() {
        if out.capacity() - out.len() < ROOM {
            ctx.cancel.check()?;
            let more = out.capacity().max(4 * ROOM);
            reservation.grow(more)?;
            out.reserve_exact(more);
        }
        if i > 0 {
            out.push(b',');
        }
        (shape.push)(&mut out, one);
    }
    out.push(close);
    notices.close(&mut out);
    Ok((out, reservation))
}
