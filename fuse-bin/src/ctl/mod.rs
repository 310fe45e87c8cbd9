//! The socket on which a running mount answers questions of other processes.
//!
//! One line of JSON asks, one line answers. Owns: the socket's place and its protocol.
//! Never does: anything to a file. The socket lies in a directory of the mounting user, mode 0600, named
//! by the mount's device number, which `stat` and `/proc/self/mountinfo` show.
//!
//! Tests: the mounted tests in `fuse-bin/tests`.

mod client;
mod server;
pub mod wire;

pub use client::Daemon;
pub(crate) use server::answer;
pub use server::{Facts, Socket, serve};

use std::path::PathBuf;

/// Where the socket of a mount is: `/run/vellum/<major>-<minor>/ctl.sock`, for users other than root in
/// their runtime directory.
fn socket_path(user: u32, (major, minor): (u32, u32)) -> PathBuf {
    let own = || std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let base = match user {
        0 => PathBuf::from("/run"),
        user if user == rustix::process::geteuid().as_raw() => {
            own().unwrap_or_else(|| PathBuf::from(format!("/run/user/{user}")))
        }
        user => PathBuf::from(format!("/run/user/{user}")),
    };
    base.join(format!("vellum/{major}-{minor}/ctl.sock"))
}
