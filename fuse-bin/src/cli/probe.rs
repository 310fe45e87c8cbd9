//! Whether a mount answers, asked by a process of its own.
//!
//! A daemon that waited for its own mount could not be killed in that moment: the kernel keeps the
//! thread until an answer comes that nobody is left to give.

use super::{Exit, Failure};
use clap::Args;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Arguments of the hidden verb.
#[derive(Args, Debug)]
pub(super) struct ProbeArgs {
    mountpoint: PathBuf,
}

/// In the process that asks.
pub(super) fn run(args: &ProbeArgs) -> Result<Exit, Failure> {
    rustix::fs::statfs(&args.mountpoint)
        .map(|_| Exit::Ok)
        .map_err(|errno| Failure::io("the mount does not answer", &errno.into()))
}

/// Waits until the mount answered a real request.
///
/// # Errors
/// 3 when it does not.
pub(super) fn ask_another(mountpoint: &Path) -> Result<(), Failure> {
    let program = std::env::current_exe().map_err(|e| Failure::io("/proc/self/exe", &e))?;
    let status = Command::new(program)
        .arg0("vellum")
        .arg("probe")
        .arg("--")
        .arg(mountpoint)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .map_err(|e| Failure::io("starting a process", &e))?;
    match status.success() {
        true => Ok(()),
        false => Err(Failure::new(Exit::Unreachable, "the mount does not answer")),
    }
}
