//! The shell around the peer protocol of [`vellum_core::peer`]: sockets, tasks, timers. It decides nothing.
//!
//! One task drives a machine; each connection has a task of its own, which turns bytes into packets and
//! packets into bytes, so that the machine never hashes or copies payload.
//!
//! The same code runs on real sockets and, built with `--cfg madsim`, in a simulated network where a seed
//! chooses latencies, losses, partitions and kills. For that every `select!` is biased: a random one asks
//! the operating system for randomness. Tests: `peer/tests`.
#![forbid(unsafe_code)]

mod carrier;
mod drive;
pub mod echo;
mod peer;

pub use peer::{Peer, dial, listen};
