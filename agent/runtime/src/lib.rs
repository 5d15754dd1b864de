//! Containers behind `ports::Runtime`: an embedded OCI runtime in a shim per container, and images on disk.
//!
//! [`embedded::Driver`] needs nothing on the host but a Linux kernel (5.6 or newer) and the rights that [`doctor`] names. It
//! keeps no state that it could not find again: a container is a directory, a cgroup and a shim, see `record.rs` for the files
//! and [`shim`] for the process. What it deliberately does not do: decide when to start, restart, probe or stop (the core
//! does), connect containers (behind `ports::network::ContainerNetwork`), and fetch images ([`image`] only stores them).
//!
//! Start reading at [`embedded`].

mod capacity;
mod cgroup;
pub mod clock;
pub mod doctor;
pub mod embedded;
mod env;
pub mod image;
mod process;
mod record;
mod seccomp;
pub mod shim;
mod sys;

pub use self::record::LogLimits;
pub use self::shim::shim_main;
