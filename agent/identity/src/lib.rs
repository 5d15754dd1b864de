//! Keys, invitations, pinned-key TLS, signing and checking of records.
//!
//! Everything that a key proves is proved here: who wrote a record ([`record`]), who said a fact ([`fact`]), who asks
//! ([`request`]), who is at the other end of a connection ([`tls`]). Whether that key had the *right* to do so is not decided
//! here but in the core, from the catalogue. No clock is read: nothing expires while a host is switched off.
//!
//! Start reading at [`keys`]. Each use of a key has a context of its own ([`context`]), so that a signature made for one cannot
//! serve another.

pub mod context;
pub mod fact;
pub mod invite;
pub mod keys;
pub mod operator;
pub mod pin;
pub mod record;
pub mod recovery;
pub mod register;
pub mod request;
mod seal;
mod secret_file;
mod text;
pub mod tls;
pub mod token;
mod wire;

pub use self::secret_file::SecretFileError;
pub use self::wire::Fault;
