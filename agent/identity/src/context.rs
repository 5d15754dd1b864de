//! What a signature is for. The name is part of what is signed, so no two uses can be confused.

/// A record of the catalogue.
pub const RECORD: &str = "mesh record";
/// A fact in gossip.
pub const FACT: &str = "mesh fact";
/// An invitation's consent to a member: mesh, key and name.
pub const INVITATION: &str = "mesh invitation";
/// An operator's request to one agent.
pub const REQUEST: &str = "mesh request";
