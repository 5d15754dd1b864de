//! The store as a whole: what goes in comes out, and what is wrong leaves nothing behind.

mod archives;
mod bench;
mod layers;
mod overlay;
mod transfer;
