//! The engine with a real coordinator and a faked world, in virtual time.

mod container;
mod directory;
mod disk;
mod fakes;
mod image;
mod journal;
mod parting;
mod rollout;
mod route;
mod submission;
mod world;
