//! Making [`ImageError`]s: whether an input/output error is the host's or the image's fault.

use std::io;

use mesh_ports::runtime::ImageError;

/// The image is at fault.
pub(super) fn invalid(reason: impl Into<String>) -> ImageError {
    ImageError::Invalid { reason: reason.into() }
}

/// The host is at fault.
pub(super) fn host(attempt: impl Into<String>, source: impl Into<io::Error>) -> ImageError {
    ImageError::Host { attempt: attempt.into(), source: Box::new(source.into()) }
}

/// Reading went wrong: an error with a number came from the kernel, any other from a decoder that did not like the bytes.
pub(super) fn reading(what: &str, source: io::Error) -> ImageError {
    if source.raw_os_error().is_some() {
        host(format!("read {what}"), source)
    } else {
        invalid(format!("{what}: {source}"))
    }
}
