//! The real stores behind the ports of `vellum-core`: they make the calls and decide nothing.
//!
//! Owns: system calls, threads, files, the choice of an engine.
//! Never does: anything about files, directories or versions. The crash-critical logic is
//! `vellum_core::local`, which runs here and in the simulator alike.

#![deny(unsafe_code)]

mod buffers;
pub mod conformance;
mod disk;
pub mod embedded;
pub mod pages;
pub mod volume;

pub use embedded::EmbeddedKv;
pub use pages::DiskPages;
pub use volume::{LocalVolume, OpenMode, VolumeError};
