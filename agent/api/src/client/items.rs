//! Answers that come piece by piece.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::{Stream, StreamExt as _};
use tokio_util::sync::DropGuard;
use tonic::Streaming;

use super::Error;
use crate::convert::Malformed;

/// Answers that come piece by piece; dropping it ends the request.
pub struct Items<T> {
    inner: Pin<Box<dyn Stream<Item = Result<T, Error>> + Send>>,
    /// Ends the stream of the request when this is dropped; `None` when the request was one message.
    request: Option<DropGuard>,
}

impl<T> Items<T> {
    /// The next piece; `None` when there are no more. After an error there is nothing more.
    pub async fn next(&mut self) -> Option<Result<T, Error>> {
        self.inner.next().await
    }

    /// The pieces of `stream`, which comes from `address`.
    pub(crate) fn of<W, F>(stream: Streaming<W>, address: String, convert: F) -> Self
    where
        W: Send + 'static,
        F: Fn(W) -> Result<T, Malformed> + Send + 'static,
    {
        let inner = stream.map(move |item| match item {
            Ok(wire) => convert(wire).map_err(Error::from),
            Err(status) => Err(Error::of(&status, &address)),
        });
        Self { inner: Box::pin(inner), request: None }
    }

    /// The same pieces, of a call whose request goes on until `request` is dropped.
    pub(crate) fn with_request(self, request: DropGuard) -> Self {
        Self { request: Some(request), ..self }
    }
}

impl<T> Stream for Items<T> {
    type Item = Result<T, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.inner.poll_next_unpin(cx)
    }
}

impl<T> fmt::Debug for Items<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Items").field("request", &self.request).finish_non_exhaustive()
    }
}
