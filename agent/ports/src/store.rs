//! Durable state, as bytes.

/// Which table a key belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Signed records by hash.
    Records,
    /// How often this agent redeemed an invitation, by the invitation's key.
    Redemptions,
    /// Small facts of this node: its incarnation, its address book, its events.
    Node,
}

impl Table {
    /// All tables.
    pub const ALL: [Self; 3] = [Self::Records, Self::Redemptions, Self::Node];
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Sets a key.
    Put(Table, Vec<u8>, Vec<u8>),
    /// Removes a key; fine when it is not there.
    Delete(Table, Vec<u8>),
}

/// Keys and values of a table.
pub type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// Why the store did not do something.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk is full. *The change was not made; free space and it can be tried again.*
    #[error("no space is left for the store at {path}")]
    Full {
        /// Where the store is.
        path: String,
    },
    /// The disk failed. *Whether the change was made is unknown.*
    #[error("the store at {path} cannot {attempt}")]
    Io {
        /// Where the store is.
        path: String,
        /// What was attempted.
        attempt: &'static str,
        /// What the store said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Somebody else has the store open. *Nothing was changed.*
    #[error("the store at {path} is in use by another agent")]
    Busy {
        /// Where the store is.
        path: String,
    },
}

impl StoreError {
    /// Whether trying again later can help.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Full { .. } => true,
            Self::Io { .. } | Self::Busy { .. } => false,
        }
    }
}

/// Durable state. Calls block: run them where blocking is allowed.
pub trait Store: Send + Sync + 'static {
    /// The value of a key; `None` when there is none.
    ///
    /// # Errors
    /// When the disk cannot be read.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;
    /// All pairs whose key begins with `prefix`, ascending.
    ///
    /// # Errors
    /// When the disk cannot be read.
    fn scan(&self, table: Table, prefix: &[u8]) -> Result<Pairs, StoreError>;
    /// Makes all changes or none, and returns when they would survive a power failure.
    ///
    /// # Errors
    /// When the disk is full or fails.
    fn commit(&self, changes: Vec<Change>) -> Result<(), StoreError>;
}
