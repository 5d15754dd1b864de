//! The reasons: each is an attack that is known, and has a name that scripts may rely on.

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $reason:ident = $name:literal,)+) => {
        /// Why something was refused.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $($(#[doc = $doc])+ $reason,)+
        }

        impl Reason {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$reason,)+];

            /// Its name in logs and in `agentctl status --output json`; never changes.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$reason => $name,)+
                }
            }
        }
    };
}

reasons! {
    /// A blob of an image that a peer sent is not the one that was asked for.
    BlobDigest = "blob-digest",
    /// A datagram of gossip does not open, is of no member, or came before.
    Datagram = "datagram",
    /// A fact in gossip is not signed by the node whose it is said to be, or has no form; a claim, in gossip or said directly, is
    /// well signed and of a slot that only another node can hold; or somebody wrote in this node's own name.
    FactSignature = "fact-signature",
    /// A message, or a field of one, cannot be what it says it is.
    MessageMalformed = "message-malformed",
    /// A message is longer than any may be.
    MessageTooLong = "message-too-long",
    /// A connection did not prove a key: no TLS, none that this mesh speaks, or no key in it.
    NoKey = "no-key",
    /// A record that its author signed says what its author may not say, or what cannot follow.
    RecordRefused = "record-refused",
    /// The signature of a record is not its author's, or the record has no form.
    RecordSignature = "record-signature",
    /// A record of an author whom nobody knows, or not yet.
    RecordUnknownAuthor = "record-unknown-author",
    /// The key of a member that was removed.
    RemovedMember = "removed-member",
    /// The key of an operator who was removed.
    RemovedOperator = "removed-operator",
    /// An operator's signed request is past its time, or too far ahead of it.
    RequestExpired = "request-expired",
    /// An operator's signed request that was served before.
    RequestReplayed = "request-replayed",
    /// A request that an operator must sign is not signed, or is another than the one that was signed.
    RequestSignature = "request-signature",
    /// A known key asks for what it may not: an operator whose role is too low, a member what operators ask.
    Role = "role",
    /// A key that nobody knows asks for more than to be admitted.
    Stranger = "stranger",
    /// The token of an invitation was used too late.
    TokenExpired = "token-expired",
    /// The token of an invitation is not one of this mesh, not for this node, or forged.
    TokenInvalid = "token-invalid",
    /// The token of an invitation was used as often as it may be.
    TokenUsedUp = "token-used-up",
    /// More connections than one address, strangers, or all together may have.
    TooManyConnections = "too-many-connections",
    /// More signed requests at once than are remembered.
    TooManyRequests = "too-many-requests",
    /// Whoever connected did not say in time what it wants.
    TooSlow = "too-slow",
    /// Something that was signed for another mesh.
    WrongMesh = "wrong-mesh",
}
