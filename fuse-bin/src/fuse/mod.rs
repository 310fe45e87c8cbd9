//! The kernel's FUSE protocol over /dev/fuse, and [`vellum_core::port::kernel`], mapped to each other.
//!
//! Owns: the mount itself, the threads that read the kernel's queue, the wire format.
//! Never does: a decision about a file.
//!
//! - `abi` is the kernel's header, `decode` and `encode` are pure functions between its bytes and the
//!   machine's requests and replies, `init` settles what both sides can do;
//! - `device` makes the system calls, `buffer` holds what comes in, `session` reads and answers,
//!   `interrupts` passes signals on, `notify` tells the kernel what it did not ask for;
//! - `attach`, `mount` and `unmount` make mounts and end them, `mountinfo` finds them.
//!
//! Invariants: every request is answered exactly once, on the descriptor it came from; what an answer
//! hands out and the kernel does not take (entries that do not fit, an answer that nobody waits for any
//! more) is given back to the machine; no bytes from the kernel make it panic.
//!
//! Tests: beside the code, and the mounted tests in `fuse-bin/tests`.

mod abi;
mod attach;
mod buffer;
pub mod decode;
mod device;
mod encode;
mod init;
mod interrupts;
mod mount;
pub mod mountinfo;
mod notify;
mod session;
mod unmount;

pub use mount::{MountError, MountSpec, Mounted, Unmounter, user_may_allow_other};
pub use session::Pending;
pub use unmount::{Unmount, unmount};
