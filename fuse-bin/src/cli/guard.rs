//! `-o auto_unmount`: a process of its own that unmounts when the daemon is gone, however it went.
//!
//! It waits for the end of a pipe of which only the daemon has the other end.

use super::{Exit, Failure, daemon};
use crate::fuse::Unmounter;
use clap::Args;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Arguments of the hidden verb.
#[derive(Args, Debug)]
pub(super) struct GuardArgs {
    mountpoint: PathBuf,
    major: u32,
    minor: u32,
}

/// In the process that waits.
pub(super) fn run(args: &GuardArgs) -> Result<Exit, Failure> {
    // A signal for the daemon's terminal or group is not meant for it.
    daemon::become_session();
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    Unmounter::of(args.mountpoint.clone(), (args.major, args.minor))
        .unmount()
        .map(|()| Exit::Ok)
        .map_err(|e| Failure::io(format_args!("unmounting {}", args.mountpoint.display()), &e))
}

/// Starts the process. The mount is guarded until the result is dropped.
///
/// # Errors
/// When the system refuses a process.
pub(super) fn start(mountpoint: &Path, (major, minor): (u32, u32)) -> Result<Guard, Failure> {
    let program = std::env::current_exe().map_err(|e| Failure::io("/proc/self/exe", &e))?;
    let mut command = Command::new(program);
    command.arg0("vellum").arg("guard").arg("--").arg(mountpoint);
    command.args([major.to_string(), minor.to_string()]).current_dir("/");
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().map(Guard).map_err(|e| Failure::io("starting a process", &e))
}

/// The process that waits.
pub(super) struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}
