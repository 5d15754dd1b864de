//! Keys, invitations, pinned-key TLS, signing and checking of records.
