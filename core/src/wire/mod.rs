//! Bytes between processes, as pure functions.

pub mod packet;
