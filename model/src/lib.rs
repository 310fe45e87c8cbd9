//! The naive reference POSIX filesystem: the oracle that Vellum's simulation compares with.
//!
//! Owns: what each operation does to a tree in memory, which errors it may give, and which times it
//! stamps. It is written to be read: one map of nodes, no caching, no concurrency, no failure modes.
//!
//! Never does: permission checks (the kernel does them before a filesystem is asked), I/O, reading of
//! clocks, randomness. It depends on nothing and shares no logic with the filesystem it judges.
//!
//! Two levels:
//! - [`Fs`]: operations on nodes, as a kernel asks them of a FUSE filesystem.
//! - [`Syscalls`]: operations on absolute paths and on open files, as a program asks them of a kernel;
//!   [`Op`] and [`Outcome`] are their replayable form.
//!
//! The model is itself checked: `tests/linux.rs` runs the same random operations on a real Linux
//! filesystem and compares every outcome, every attribute and the whole tree.
#![forbid(unsafe_code)]

mod acl;
mod allowed;
mod attr;
mod check;
mod data;
mod error;
mod fs;
mod namespace;
mod op;
mod path;
mod quirk;
mod rename;
mod syscalls;
mod tree;
mod xattr;

pub use allowed::Call;
pub use attr::{Attr, Caller, DirEntry, Kind, New, NodeId, SetAttr, SetTime, Time};
pub use data::Allocate;
pub use error::{Error, Result};
pub use fs::{AccessTimes, Fs, Limits};
pub use op::{Op, OpenFlags, Outcome};
pub use path::{Follow, Last, Place};
pub use quirk::Quirk;
pub use rename::RenameFlags;
pub use syscalls::Syscalls;
pub use tree::{Compare, Digest, Entry, Tree, diff};
pub use xattr::XattrMode;
