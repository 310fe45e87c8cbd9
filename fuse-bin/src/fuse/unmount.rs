//! Unmounting: by the system call for root, through `fusermount3` for everybody else.

use rustix::mount::UnmountFlags;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

/// How hard to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmount {
    /// Fails with EBUSY while anybody uses it.
    Clean,
    /// Takes it out of the tree now; it lives on for those who still use it.
    Lazy,
    /// As [`Unmount::Lazy`], and aborts every request under way.
    Force,
}

/// Unmounts what is at `mountpoint`.
///
/// # Errors
/// As umount2(2); a refusal of `fusermount3` is `ResourceBusy` or `Other` with its text.
pub fn unmount(mountpoint: &Path, how: Unmount) -> io::Result<()> {
    let flags = UnmountFlags::NOFOLLOW
        | match how {
            Unmount::Clean => UnmountFlags::empty(),
            Unmount::Lazy => UnmountFlags::DETACH,
            Unmount::Force => UnmountFlags::FORCE | UnmountFlags::DETACH,
        };
    match rustix::mount::unmount(mountpoint, flags) {
        Err(rustix::io::Errno::PERM) if !rustix::process::geteuid().is_root() => {
            fusermount(mountpoint, how)
        }
        other => Ok(other?),
    }
}

fn fusermount(mountpoint: &Path, how: Unmount) -> io::Result<()> {
    let mut command = Command::new("fusermount3");
    command.arg("-u");
    if how != Unmount::Clean {
        command.arg("-z");
    }
    let output = command.arg("--").arg(mountpoint).stdin(Stdio::null()).output().map_err(|e| {
        io::Error::new(e.kind(), format!("fusermount3: {e}; install the package fuse3"))
    })?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr).trim().to_string();
    let kind =
        if text.contains("busy") { io::ErrorKind::ResourceBusy } else { io::ErrorKind::Other };
    Err(io::Error::new(kind, text))
}
