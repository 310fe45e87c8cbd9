//! The program `vellum`: it mounts, inspects and checks volumes.
//!
//! Owns: threads, clocks, signals, sockets, the command line.
//! Never does: a decision about a file. Those are made by [`vellum_core::client::Client`]; this crate
//! performs what it asks for and passes messages.
//!
//! - [`host`] drives the machine with stores,
//! - [`fuse`] maps the kernel's protocol to the machine's,
//! - [`ctl`] is the socket on which a running mount answers questions,
//! - [`cli`] is the command line, one file per verb.
// One line of the transport needs it.
#![deny(unsafe_code)]

pub mod cli;
pub mod ctl;
pub mod fuse;
pub mod host;
