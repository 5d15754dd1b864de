//! What is printed: the documents, and the tables made from the same views.

pub(crate) mod json;
pub(crate) mod leases;
pub(crate) mod of;
pub(crate) mod text;
