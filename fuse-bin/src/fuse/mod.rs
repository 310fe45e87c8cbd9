//! The kernel's FUSE protocol and [`vellum_core::port::kernel`], mapped to each other.
//!
//! Owns: the mount itself, the threads that read the kernel's queue, the wire format (through `fuser`).
//! Never does: a decision about a file.
//!
//! Invariants: every request is answered exactly once; what an answer hands out and the kernel does not
//! take (entries that do not fit) is given back to the machine.
//!
//! Limits of the transport: interrupts do not arrive, a reply that could not be delivered is not
//! reported, and the birth time is not asked for. See `docs/` and ADRs for what follows.
//!
//! Tests: `fuse/attr.rs`, and the mounted tests in `fuse-bin/tests`.

mod attr;
mod kernel;
mod mount;
pub mod mountinfo;
mod reply;
mod unmount;

pub use mount::{MountError, MountSpec, Mounted, Unmounter, user_may_allow_other};
pub use reply::Pending;
pub use unmount::{Unmount, unmount};
