//! The simulated world around Vellum's machines, and the judge of what they do in it.
//!
//! One thread, virtual time, every bit of chance from one seed: a run is a function of its seed and its
//! options. The machine is the one that production runs; the stores, the kernel, the callers and the
//! clock are simulated, and go wrong in the ways that the fault atlas ([`faults`]) lists.
//!
//! The way of a run: [`plan`] makes up what the callers do, [`callers`] and [`kernel`] turn it into
//! requests, [`world`] carries requests, effects and completions with delays and faults between the
//! machine and [`kv`] and [`pages`], [`history`] keeps what was asked and answered, [`check`] replays it in
//! the model in the order of the commits, [`observe`] and [`recover`] compare the tree after a crash.
#![forbid(unsafe_code)]

pub mod callers;
pub mod canaries;
pub mod check;
mod claims;
pub mod dice;
pub mod disk;
pub mod exhaustive;
pub mod faults;
pub mod history;
pub mod infer;
pub mod invariants;
mod job;
pub mod kernel;
pub mod kv;
pub mod link;
pub mod local;
pub mod observe;
pub mod pages;
pub mod plan;
pub mod probes;
pub mod recover;
pub mod replay;
pub mod runner;
mod shed;
pub mod shrink;
pub mod store;
pub mod times;
pub mod trace;
pub mod world;
