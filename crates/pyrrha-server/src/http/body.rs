//! The body of an answer that takes memory: piece by piece as the client reads.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::Frame;
use pyrrha_env::Clock;

use crate::active::ActiveGuard;
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

/// A body of what the query is sending.
pub(crate) fn streamed(guard: ActiveGuard, clock: Arc<dyn Clock>) -> Body {
    Body::new(ResultBody { guard, clock })
}
