//! Counts the calls that are refused.
//!
//! A refusal is a status, whoever made it: the gate, a check of a signature, or the library, which lets no message through that is
//! too long. So they are counted where all of them come by.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use mesh_ports::directory::{Directory, Standing};
use mesh_telemetry::Refusals;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http::{Request, Response};

use super::connection::Caller;
use crate::status;

/// Counts, and says who it was.
#[derive(Clone)]
pub(super) struct Watch {
    refusals: Refusals,
    directory: Arc<dyn Directory>,
}

/// A service whose refusals are counted.
#[derive(Clone)]
pub(super) struct Watched<S> {
    inner: S,
    watch: Watch,
}

/// A caller, as the log names it.
pub(super) struct Whose<'a>(pub(super) &'a dyn Directory, pub(super) Option<Caller>);

impl fmt::Display for Whose<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(directory, Some(Caller { key, address })) = self else {
            return f.write_str("unknown");
        };
        match directory.standing(key) {
            Standing::Member(node) | Standing::Parted(node) => write!(f, "node {node}"),
            Standing::Operator(_) | Standing::Removed => write!(f, "operator {key}"),
            Standing::Recovery => write!(f, "recovery key {key}"),
            Standing::Unknown => write!(f, "key {key}"),
        }?;
        write!(f, " at {address}")
    }
}

impl Watch {
    pub(super) const fn new(refusals: Refusals, directory: Arc<dyn Directory>) -> Self {
        Self { refusals, directory }
    }

    pub(super) fn over<S>(&self, inner: S) -> Watched<S> {
        Watched { inner, watch: self.clone() }
    }

    fn note(&self, caller: Option<Caller>, status: &Status) {
        if let Some(reason) = status::refusal(status) {
            let whose = Whose(self.directory.as_ref(), caller);
            self.refusals.refuse(reason, whose, status.message());
        }
    }
}

impl<S> Service<Request<Body>> for Watched<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, req: Request<Body>) -> Self::Future {
        let caller = req.extensions().get::<Caller>().copied();
        let watch = self.watch.clone();
        let answer = self.inner.call(req);
        Box::pin(async move {
            let answer = answer.await?;
            if let Some(status) = answer.extensions().get::<Status>() {
                watch.note(caller, status);
            }
            Ok(answer)
        })
    }
}
