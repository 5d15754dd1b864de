//! Containers behind `ports::Runtime`: an embedded OCI runtime in a shim per container, and images on disk.

pub mod image;
