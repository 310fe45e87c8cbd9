//! The crash-critical half of the stores of one machine, sans-IO.
//!
//! Owns: the resolver and the commit overlay over a plain ordered engine ([`kv`]), and the append-only
//! page files with their recovery ([`pages`]).
//! Never does: system calls. Engines and files are traits that the drivers implement with the real thing
//! and the simulator with one that tears, loses and rots; both run this very code.
//!
//! Locks belong to the host, too: the state sits behind [`Shared`], and no engine or file is touched
//! while it is held.

pub mod kv;
pub mod medium;
pub mod pages;

/// Access to state that several threads share. `with` is short: it only touches memory.
pub trait Shared<T> {
    /// Looks at the state.
    fn with<R>(&self, look: impl FnOnce(&T) -> R) -> R;
    /// Changes the state.
    fn with_mut<R>(&self, change: impl FnOnce(&mut T) -> R) -> R;
}
