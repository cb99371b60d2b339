//! Bodies of requests, and whether they were read to their end. What an answer leaves unread ends the
//! connection under HTTP/1.1; who is not told so sends the next request to nobody.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::http::{HeaderValue, Version, header};
use axum::response::Response;
use futures_util::StreamExt;
use futures_util::stream::poll_fn;

/// Whether something of a request's body is unread.
pub(super) struct Unread {
    version: Version,
    left: Arc<AtomicBool>,
}

impl Unread {
    /// Looks at how the request's body is read from now on.
    pub(super) fn of(request: &mut Request) -> Self {
        let left = Arc::new(AtomicBool::new(!request.body().is_end_stream()));
        if left.load(Ordering::Relaxed) {
            let (mut body, left) =
                (std::mem::take(request.body_mut()).into_data_stream(), left.clone());
            let watched = poll_fn(move |context| {
                let piece = body.poll_next_unpin(context);
                if matches!(piece, Poll::Ready(None)) || body.is_end_stream() {
                    left.store(false, Ordering::Relaxed);
                }
                piece
            });
            *request.body_mut() = Body::from_stream(watched);
        }
        Self { version: request.version(), left }
    }

    /// Has the answer say so if the connection ends with it.
    pub(super) fn tell(&self, response: &mut Response) {
        if self.version <= Version::HTTP_11 && self.left.load(Ordering::Relaxed) {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
    }
}
