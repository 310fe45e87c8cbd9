//! Append-only page files that hold many segments.
//!
//! Owns: where segments lie, which bytes are durable, recovery at a start, the bytes of page files other
//! than the segments themselves.
//! Never does: system calls ([`super::medium`] is a trait), I/O under the lock.
//!
//! **The durable mark.** A sync answers with a mark: for each unsealed file the end that the sync made
//! durable and the holes below it (appends in flight or failed). The metadata store keeps the mark in the
//! very batch that names those segments, so at a start every segment that metadata names lies below the
//! mark. Below it a bad record is rot: it is reported and skipped, never a reason to drop what follows.
//! Above it nothing was ever promised and no metadata names anything: it is cut off, footers too. Intact as
//! it may look, it may be in the page cache only, left there by a sync that failed before the start.
//!
//! **Failed syncs** are final for a file, because the kernel takes the bytes for clean afterwards. The
//! segments that were not durable are kept in memory until they are, and are written again into a new
//! file before the sync answers.
//!
//! Tests: `tests.rs`, with a medium that tears, loses and rots; the drivers' conformance suite; the
//! simulator.

mod format;
mod ops;
mod recover;
mod state;

#[cfg(test)]
mod tests;

pub use format::{DEFAULT_FILE_BYTES, FILE_BYTES_MAX, Mark};
pub use ops::{append, checked, delete, locate, read, read_head, sync};
pub use recover::{RecoverError, Recovered, Trouble, recover};
pub use state::{Pages, Place};
