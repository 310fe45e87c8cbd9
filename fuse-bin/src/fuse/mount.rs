//! A mount that is being served.

use super::attach;
use super::device::Device;
use super::mountinfo;
use super::notify::ToKernel;
use super::session::{Pending, Readers, handshake};
use super::unmount::{Unmount, unmount};
use crate::host::Host;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How to mount.
#[derive(Clone, Debug)]
pub struct MountSpec {
    /// Where; absolute and without symlinks.
    pub mountpoint: PathBuf,
    /// What stands in the list of mounts after `vellum:`.
    pub volume: String,
    /// Refuse writes.
    pub read_only: bool,
    /// Honour set-id bits.
    pub suid: bool,
    /// Honour device nodes.
    pub dev: bool,
    /// Allow programs to be run.
    pub exec: bool,
    /// Do not keep access times.
    pub noatime: bool,
    /// Let users other than the mounting one in.
    pub allow_other: bool,
    /// Threads that read the kernel's queue; at least 2.
    pub threads: usize,
    /// Read-ahead of the kernel, in bytes.
    pub read_ahead: u64,
}

impl MountSpec {
    /// Read-ahead unless told otherwise: four READs of the largest size under way.
    pub const READ_AHEAD: u64 = 4 << 20;
}

/// A mount that is being served.
pub struct Mounted {
    mountpoint: PathBuf,
    device: (u32, u32),
    readers: Readers,
}

/// Why a mount failed.
#[derive(Debug)]
pub enum MountError {
    /// No /dev/fuse.
    NoDevice(io::Error),
    /// Not permitted.
    Permission(io::Error),
    /// Anything else.
    Other(io::Error),
}

impl Mounted {
    /// Mounts and starts serving.
    ///
    /// # Errors
    /// See [`MountError`].
    pub fn start(host: &Arc<Host<Pending>>, spec: &MountSpec) -> Result<Mounted, MountError> {
        let device = if rustix::process::geteuid().is_root() {
            attach::as_root(spec)?
        } else {
            attach::as_user(spec)?
        };
        Self::serve(host, spec, device).map_err(|error| {
            let _ = unmount(&spec.mountpoint, Unmount::Lazy);
            MountError::Other(error)
        })
    }

    fn serve(host: &Arc<Host<Pending>>, spec: &MountSpec, kernel: Device) -> io::Result<Mounted> {
        let dialect = handshake(&kernel)?;
        let kernel = Arc::new(kernel);
        host.notify_through(ToKernel(kernel.clone()))?;
        let mount = mountinfo::at(&spec.mountpoint)?
            .ok_or_else(|| io::Error::other("the mount vanished right after it was made"))?;
        let device = (mount.major, mount.minor);
        let readers = Readers::start(host, kernel, dialect, spec.threads)?;
        raise_read_ahead(device, spec.read_ahead);
        Ok(Mounted { mountpoint: spec.mountpoint.clone(), device, readers })
    }

    /// Major and minor device number, which name the mount.
    pub fn device(&self) -> (u32, u32) {
        self.device
    }

    /// Waits until the kernel has ended the connection and every reader is gone.
    ///
    /// # Errors
    /// When a reader failed.
    pub fn wait(self) -> io::Result<()> {
        self.readers.wait()
    }

    /// What is needed to unmount from another thread.
    pub fn unmounter(&self) -> Unmounter {
        Unmounter { mountpoint: self.mountpoint.clone(), device: self.device }
    }
}

/// Unmounts one mount and no other that came to its place.
pub struct Unmounter {
    mountpoint: PathBuf,
    device: (u32, u32),
}

impl Unmounter {
    /// Of the mount with this device number.
    pub fn of(mountpoint: PathBuf, device: (u32, u32)) -> Unmounter {
        Unmounter { mountpoint, device }
    }

    /// Unmounts; a mount in use is taken out of the tree and its users lose it when the process ends.
    ///
    /// # Errors
    /// As [`unmount`].
    pub fn unmount(&self) -> io::Result<()> {
        match mountinfo::at(&self.mountpoint)? {
            Some(mount) if (mount.major, mount.minor) == self.device => {}
            _ => return Ok(()),
        }
        match unmount(&self.mountpoint, Unmount::Clean) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                tracing::warn!(
                    mountpoint = %self.mountpoint.display(),
                    "still in use; detaching it, its users get ENOTCONN"
                );
                unmount(&self.mountpoint, Unmount::Lazy)
            }
            other => other,
        }
    }
}

/// Best effort: without it sequential reads arrive in pieces of 128 KiB.
fn raise_read_ahead((major, minor): (u32, u32), bytes: u64) {
    let file = format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb");
    if let Err(error) = std::fs::write(&file, (bytes >> 10).to_string()) {
        tracing::debug!(%error, file, "read-ahead stays as the kernel set it");
    }
}

/// Whether another user may be let in by a user that is not root.
///
/// # Errors
/// The text says what to do.
pub fn user_may_allow_other(fuse_conf: &Path) -> Result<(), String> {
    let text = std::fs::read_to_string(fuse_conf).unwrap_or_default();
    if text.lines().any(|line| line.trim() == "user_allow_other") {
        return Ok(());
    }
    Err(format!(
        "-o allow_other is not permitted to you: let root add a line `user_allow_other` to {}",
        fuse_conf.display()
    ))
}
