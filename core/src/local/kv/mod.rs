//! FoundationDB's semantics over a plain ordered engine.
//!
//! Commits gather in memory, in a *layer* with every version of every key, which is also the window in
//! which conflicts are found. A sync appends the commits since the last one to a log and syncs one file
//! ([`log`]). A flush, now and then, freezes the layer and gives it to the engine as one durable batch;
//! commits go on into a new layer meanwhile, and the log of the layer goes. What a crash leaves is always
//! a prefix of the commits.
//!
//! ```text
//!   active layer    commits since the last freeze            changes under the lock
//!   frozen layer    the batch the engine is taking           immutable, shared
//!   snapshot        the engine after the last batch          immutable, shared
//!   history         older snapshots, each with the layer that led to the next one
//! ```
//!
//! Owns: versions, conflicts, limits, atomics, stamps, what a flush contains, what is durable.
//! Never does: I/O under the lock, retries, decisions about files.
//!
//! Invariants: a commit is applied whole or not at all; versions only grow, over restarts too; a version
//! at or above the oldest snapshot reads the same for as long as it reads at all; nothing is reported
//! durable before the log or the engine took it.
//!
//! Tests: `tests.rs` here (against a naive multi-version map), the conformance suite of the drivers, and
//! the simulator.

mod cut;
mod engine;
mod layer;
pub mod log;
mod ranges;
mod read;
mod store;

#[cfg(test)]
mod tests;

pub use engine::{Batch, Engine, EngineError, Snapshot, Visit, Write};
pub use layer::Operand;
pub use read::read;
pub use store::{Admission, Flush, Flushed, Start, Store, StoreLimits, SyncStep};
