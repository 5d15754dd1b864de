//! The wire format of Agent Mesh: protobuf messages and gRPC services, generated and checked in.
//!
//! The source is `mesh/v1/*.proto`; `tests/codegen.rs` turns it into `src/generated` and fails when the two differ, so that no
//! build needs a protobuf compiler. Nothing here knows what the messages mean: `mesh-identity` and `mesh-api` convert them to the
//! types of the core.

/// Version 1 of the wire format.
#[allow(
    missing_docs,
    clippy::all,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::as_conversions,
    clippy::clone_on_ref_ptr,
    clippy::doc_markdown,
    clippy::empty_structs_with_brackets,
    clippy::missing_errors_doc,
    clippy::must_use_candidate,
    clippy::return_self_not_must_use,
    clippy::struct_excessive_bools,
    clippy::too_many_lines,
    clippy::use_self,
    clippy::wildcard_enum_match_arm,
    clippy::wildcard_imports,
    elided_lifetimes_in_paths,
    trivial_casts,
    unused_qualifications,
    reason = "the code is generated; what it looks like is decided elsewhere"
)]
pub mod v1 {
    include!("generated/mesh.v1.rs");
}
