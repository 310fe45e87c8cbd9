//! Vellum's core: everything that *decides*, as deterministic state machines that perform no I/O.
//!
//! Owns: the meaning of every operation, the layout of metadata and data, caching, retries, recovery.
//! Never does: I/O, clocks, randomness, threads. Each of them arrives as an input
//! ([`time::Now`], a seed in the configuration, a [`port::Completion`]).
//!
//! The boundary is plain data in [`port`]; the mount's machine is [`client::Client`].
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

#[macro_use]
mod planted;

#[cfg(feature = "canary")]
pub mod canary;
pub mod check;
pub mod client;
pub mod data;
pub mod error;
pub mod id;
pub mod limits;
pub mod local;
pub mod meta;
pub mod peer;
pub mod port;
mod task;
pub mod time;
pub mod wire;
