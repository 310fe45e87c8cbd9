//! Mounting, and the threads that read the kernel's queue.

use super::kernel::Kernel;
use super::mountinfo;
use super::reply::Pending;
use super::unmount::{Unmount, unmount};
use crate::host::{Host, Notify};
use fuser::{Config, INodeNo, MountOption, Notifier, Session, SessionACL};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::MountFlags;
use std::ffi::{CString, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use vellum_core::port::kernel::Notification;

/// The device through which the kernel talks to us.
const DEVICE: &str = "/dev/fuse";
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
    readers: JoinHandle<io::Result<()>>,
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
        let kernel = Kernel::new(host.clone());
        let session = if rustix::process::geteuid().is_root() {
            mount_as_root(kernel, spec)?
        } else {
            Session::new(kernel, &spec.mountpoint, &user_config(spec)).map_err(sort)?
        };
        Self::serve(host, spec, session).map_err(|error| {
            let _ = unmount(&spec.mountpoint, Unmount::Lazy);
            MountError::Other(error)
        })
    }

    fn serve(
        host: &Arc<Host<Pending>>,
        spec: &MountSpec,
        session: Session<Kernel>,
    ) -> io::Result<Mounted> {
        host.notify_through(ToKernel(session.notifier()))?;
        let mount = mountinfo::at(&spec.mountpoint)?
            .ok_or_else(|| io::Error::other("the mount vanished right after it was made"))?;
        let device = (mount.major, mount.minor);
        let readers =
            std::thread::Builder::new().name("vellum-fuse".into()).spawn(move || session.run())?;
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
        self.readers.join().unwrap_or_else(|_| Err(io::Error::other("a reader panicked")))
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

/// The mount(2) call itself, so that type, subtype and flags are ours to choose.
fn mount_as_root(kernel: Kernel, spec: &MountSpec) -> Result<Session<Kernel>, MountError> {
    let device = rustix::fs::open(DEVICE, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).map_err(
        |errno| match errno {
            Errno::NOENT | Errno::NODEV | Errno::NXIO => MountError::NoDevice(errno.into()),
            other => sort(other.into()),
        },
    )?;
    use std::os::fd::AsRawFd;
    let mut data = format!(
        "fd={},rootmode=40000,user_id=0,group_id=0,default_permissions",
        device.as_raw_fd()
    );
    if spec.allow_other {
        data.push_str(",allow_other");
    }
    let data = CString::new(data).expect("numbers and words");
    let source = format!("vellum:{}", spec.volume);
    rustix::mount::mount(
        source.as_str(),
        &spec.mountpoint,
        mountinfo::FS_TYPE,
        mount_flags(spec),
        data.as_c_str(),
    )
    .map_err(|errno| match errno {
        Errno::NODEV => MountError::NoDevice(errno.into()),
        other => sort(other.into()),
    })?;
    Session::from_fd(kernel, device, SessionACL::All, config(spec)).map_err(|error| {
        let _ = unmount(&spec.mountpoint, Unmount::Lazy);
        sort(error)
    })
}

fn mount_flags(spec: &MountSpec) -> MountFlags {
    let mut flags = MountFlags::empty();
    flags.set(MountFlags::RDONLY, spec.read_only);
    flags.set(MountFlags::NOSUID, !spec.suid);
    flags.set(MountFlags::NODEV, !spec.dev);
    flags.set(MountFlags::NOEXEC, !spec.exec);
    flags.set(MountFlags::NOATIME, spec.noatime);
    flags
}

fn config(spec: &MountSpec) -> Config {
    let mut config = Config::default();
    config.n_threads = Some(spec.threads.max(2));
    config.clone_fd = true;
    config
}

/// For users other than root: options for `fusermount3`, which refuses suid and dev anyhow.
fn user_config(spec: &MountSpec) -> Config {
    let mut config = config(spec);
    config.acl = if spec.allow_other { SessionACL::All } else { SessionACL::Owner };
    config.mount_options = vec![
        MountOption::FSName(format!("vellum:{}", spec.volume).replace(',', "\\,")),
        MountOption::Subtype("vellum".into()),
        MountOption::DefaultPermissions,
        if spec.read_only { MountOption::RO } else { MountOption::RW },
        if spec.exec { MountOption::Exec } else { MountOption::NoExec },
    ];
    if spec.noatime {
        config.mount_options.push(MountOption::NoAtime);
    }
    config
}

fn sort(error: io::Error) -> MountError {
    match error.kind() {
        io::ErrorKind::PermissionDenied => MountError::Permission(error),
        _ => MountError::Other(error),
    }
}

/// Best effort: without it sequential reads arrive in pieces of 128 KiB.
fn raise_read_ahead((major, minor): (u32, u32), bytes: u64) {
    let file = format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb");
    if let Err(error) = std::fs::write(&file, (bytes >> 10).to_string()) {
        tracing::debug!(%error, file, "read-ahead stays as the kernel set it");
    }
}

/// Notifications to the kernel.
struct ToKernel(Notifier);

impl Notify for ToKernel {
    fn notify(&self, notification: &Notification) -> io::Result<()> {
        let result = match notification {
            Notification::Inode { ino, offset, len } => {
                self.0.inval_inode(INodeNo(ino.0), *offset, *len)
            }
            Notification::Entry { parent, name } => {
                self.0.inval_entry(INodeNo(parent.0), OsStr::from_bytes(name))
            }
        };
        match result {
            // The kernel does not know the object, or the name is busy being looked up again.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
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
