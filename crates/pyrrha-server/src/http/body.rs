//! The body of a query's answer: encoded piece by piece as the client reads.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use pyrrha_env::Clock;

use crate::active::{ActiveGuard, Reservation};
use crate::json::PIECE_BYTES;

/// Holds the query's place in the list, and with it the memory, until the last byte has left.
struct ResultBody {
    guard: ActiveGuard,
    clock: Arc<dyn Clock>,
}

impl HttpBody for ResultBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let mut piece = Vec::with_capacity(PIECE_BYTES + 1024);
        let now = self.clock.monotonic();
        let more = self.guard.query.with_result(|sending| {
            sending.last_read = now;
            sending.encoder.next_piece(&mut piece)
        });
        Poll::Ready(match more {
            Some(true) => Some(Ok(Frame::data(piece.into()))),
            Some(false) => None,
            // Cancelled after its first byte: the connection ends without a proper end.
            None => Some(Err(io::Error::new(io::ErrorKind::ConnectionAborted, "query was canceled"))),
        })
    }
}

/// A body that encodes the result which the query is sending.
pub(crate) fn streamed(guard: ActiveGuard, clock: Arc<dyn Clock>) -> Body {
    Body::new(ResultBody { guard, clock })
}

/// A whole text that stays charged until it was sent.
struct HeldBody {
    text: Bytes,
    _reservation: Reservation,
}

impl HttpBody for HeldBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let len = self.text.len().min(PIECE_BYTES);
        let piece = self.text.split_to(len);
        Poll::Ready((!piece.is_empty()).then(|| Ok(Frame::data(piece))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.text.len() as u64)
    }
}

/// A body of that text.
pub(crate) fn held(text: Vec<u8>, reservation: Reservation) -> Body {
    Body::new(HeldBody { text: text.into(), _reservation: reservation })
}
