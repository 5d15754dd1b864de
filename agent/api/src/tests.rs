//! Servers and clients of this crate against each other, over loopback and real TLS, with fakes behind them.

mod convert;
mod fakes;
mod hostile;
mod join;
mod lease;
mod operator;
mod parting;
mod peers;
mod proxy;
mod security;
mod tunnel;
mod world;
