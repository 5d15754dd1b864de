//! Durable state, as bytes.

use mesh_coordinator::lease::exclusive::{LeaseId, Register};

/// Which table a key belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Signed records by hash.
    Records,
    /// How often this agent redeemed an invitation, by the invitation's key.
    Redemptions,
    /// Small facts of this node: its incarnation, its address book, its events.
    Node,
    /// What this node vouches for as a witness, by slot. Belongs to [`Store::id`]: a store with another one begins without any.
    Registers,
}

impl Table {
    /// All tables.
    pub const ALL: [Self; 4] = [Self::Records, Self::Redemptions, Self::Node, Self::Registers];
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Sets a key.
    Put(Table, Vec<u8>, Vec<u8>),
    /// Removes a key; fine when it is not there.
    Delete(Table, Vec<u8>),
}

/// The most witnesses among which a majority of a slot decides. Five is what anybody asks for; more only cost time.
pub const WITNESSES_MAX: usize = 16;

/// Between registers and the bytes of [`Table::Registers`].
pub trait RegisterCodec: Send + Sync + 'static {
    /// The key and the value under which it is stored.
    fn encode(&self, lease: &LeaseId, register: &Register) -> (Vec<u8>, Vec<u8>);
    /// What is stored under a key.
    ///
    /// # Errors
    /// Says for people what is wrong with the bytes. A store in which this happens has lost its word: [`Store::renew`].
    fn decode(&self, key: &[u8], value: &[u8]) -> Result<(LeaseId, Register), String>;
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
    /// The number of this store, made at random with it. Where anything was lost that the store had acknowledged, or may have been,
    /// there is another number and no register: whoever goes by a promise of this store must be able to tell that it is not the one
    /// that promised.
    fn id(&self) -> u128;
    /// Gives the store another number and forgets all registers, when somebody finds that they cannot be what was stored.
    ///
    /// # Errors
    /// When the disk is full or fails. *Registers cannot be written any more; the next life finds a new store.*
    fn renew(&self) -> Result<u128, StoreError>;
    /// All registers, as pairs for a [`RegisterCodec`].
    ///
    /// # Errors
    /// When the disk cannot be read.
    fn registers(&self) -> Result<Pairs, StoreError> {
        self.scan(Table::Registers, &[])
    }
    /// Writes registers, all or none, and returns when they would survive a power failure: one flush, however many they are. Of
    /// several for one lease the last is kept.
    ///
    /// # Errors
    /// When the disk is full or fails, or what the store had promised may be lost meanwhile. *Whether they were written is unknown,
    /// but for [`StoreError::Full`]: they were not.*
    fn put_registers(&self, registers: Pairs) -> Result<(), StoreError> {
        let put = |(key, value)| Change::Put(Table::Registers, key, value);
        self.commit(registers.into_iter().map(put).collect())
    }
}
