//! A filesystem under measurement: a directory, and for mounts the daemon behind it.

use anyhow::{Context, Result, bail};
use rustix::fs::statfs;
use rustix::mount::{UnmountFlags, unmount};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(60);
const EXT4_MAGIC: i64 = 0xEF53;

/// One column of the table.
pub(crate) struct Target {
    name: String,
    work: PathBuf,
    mount: Option<Mount>,
    /// Keeps a directory of our own until the end.
    _own: Option<TempDir>,
}

/// A mount that can be taken away and put back.
struct Mount {
    start: Box<dyn Fn() -> Command>,
    stop: Box<dyn Fn() -> Command>,
    mountpoint: PathBuf,
    daemon: Option<Child>,
}

impl Target {
    /// Vellum: a fresh volume on the disk.
    pub(crate) fn vellum(binary: &Path, options: &[String], disk: &Path) -> Result<Target> {
        let binary = fs::canonicalize(binary).with_context(|| format!("{}", binary.display()))?;
        let (volume, mountpoint) = (disk.join("vellum-volume"), disk.join("vellum"));
        fs::create_dir(&mountpoint)?;
        succeed(Command::new(&binary).arg("format").arg(&volume))?;
        let (mnt, bin, options) = (mountpoint.clone(), binary.clone(), options.to_vec());
        let start = move || {
            let mut command = Command::new(&bin);
            command.arg("mount").args(&options).arg(&volume).arg(&mnt);
            command
        };
        let mnt = mountpoint.clone();
        let stop = move || {
            let mut command = Command::new(&binary);
            command.arg("umount").arg(&mnt);
            command
        };
        Target::mounted("vellum", mountpoint, Box::new(start), Box::new(stop))
    }

    /// A passthrough over a directory on the disk: what FUSE itself costs. `None` if no program is here.
    pub(crate) fn thin(passthrough: Option<&Path>, disk: &Path) -> Result<Option<Target>> {
        let (source, mountpoint) = (disk.join("thin-source"), disk.join("thin"));
        fs::create_dir(&source)?;
        fs::create_dir(&mountpoint)?;
        let mnt = mountpoint.clone();
        let (name, start): (&str, Box<dyn Fn() -> Command>) = match passthrough {
            Some(binary) => {
                let binary =
                    fs::canonicalize(binary).with_context(|| format!("{}", binary.display()))?;
                let options = format!(
                    "source={},cache=always,xattr,allow_other,default_permissions",
                    source.display()
                );
                let start = move || {
                    let mut command = Command::new(&binary);
                    command.args(["-f", "-o", &options]).arg(&mnt);
                    command
                };
                ("thin (passthrough_ll)", Box::new(start))
            }
            None if Command::new("bindfs").arg("--version").output().is_ok() => {
                let start = move || {
                    let mut command = Command::new("bindfs");
                    command.args(["-f", "--multithreaded"]).arg(&source).arg(&mnt);
                    command
                };
                ("thin (bindfs)", Box::new(start))
            }
            None => return Ok(None),
        };
        let mnt = mountpoint.clone();
        let stop = move || {
            let mut command = Command::new("umount");
            command.arg(&mnt);
            command
        };
        Target::mounted(name, mountpoint, start, Box::new(stop)).map(Some)
    }

    /// A plain directory on the disk, named after its filesystem.
    pub(crate) fn disk(disk: &Path) -> Result<Target> {
        let work = disk.join("plain");
        fs::create_dir(&work)?;
        let name = if statfs(&work)?.f_type as i64 == EXT4_MAGIC { "ext4" } else { "disk" };
        Ok(Target { name: name.into(), work, mount: None, _own: None })
    }

    /// A directory in memory.
    pub(crate) fn tmpfs() -> Result<Target> {
        let own = tempfile::tempdir_in("/dev/shm").context("/dev/shm")?;
        Ok(Target { name: "tmpfs".into(), work: own.path().into(), mount: None, _own: Some(own) })
    }

    /// Any directory somebody names.
    pub(crate) fn directory(name: &str, path: &Path) -> Result<Target> {
        let own = tempfile::tempdir_in(path).with_context(|| format!("{}", path.display()))?;
        Ok(Target { name: name.into(), work: own.path().into(), mount: None, _own: Some(own) })
    }

    fn mounted(
        name: &str,
        mountpoint: PathBuf,
        start: Box<dyn Fn() -> Command>,
        stop: Box<dyn Fn() -> Command>,
    ) -> Result<Target> {
        let mut mount = Mount { start, stop, mountpoint: mountpoint.clone(), daemon: None };
        mount.mount()?;
        Ok(Target { name: name.into(), work: mountpoint, mount: Some(mount), _own: None })
    }

    /// Column heading.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Where the work happens.
    pub(crate) fn work(&self) -> &Path {
        &self.work
    }

    /// Process id of the daemon, if there is one.
    pub(crate) fn daemon(&self) -> Option<u32> {
        self.mount.as_ref()?.daemon.as_ref().map(Child::id)
    }

    /// Makes every cache cold: the daemon's by a new mount, the kernel's by dropping them (root only).
    pub(crate) fn cool(&mut self) -> Result<()> {
        if let Some(mount) = &mut self.mount {
            mount.unmount()?;
        }
        rustix::fs::sync();
        fs::write("/proc/sys/vm/drop_caches", "3")
            .context("cold rows need root, to drop the kernel's caches")?;
        if let Some(mount) = &mut self.mount {
            mount.mount()?;
        }
        Ok(())
    }

    /// Unmounts.
    pub(crate) fn leave(mut self) -> Result<()> {
        self.mount.as_mut().map_or(Ok(()), Mount::unmount)
    }
}

impl Mount {
    fn mount(&mut self) -> Result<()> {
        let mut command = (self.start)();
        let outside = fs::metadata(&self.mountpoint)?.dev();
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
        let begin = Instant::now();
        while fs::metadata(&self.mountpoint).map_or(true, |meta| meta.dev() == outside) {
            if let Some(status) = child.try_wait()? {
                bail!("{command:?} ended with {status}");
            }
            if begin.elapsed() > PATIENCE {
                let _ = child.kill();
                bail!("{command:?} did not mount within {PATIENCE:?}");
            }
            sleep(Duration::from_millis(2));
        }
        self.daemon = Some(child);
        Ok(())
    }

    fn unmount(&mut self) -> Result<()> {
        succeed(&mut (self.stop)())?;
        if let Some(mut child) = self.daemon.take() {
            child.wait()?;
        }
        Ok(())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if let Some(mut child) = self.daemon.take() {
            let _ = unmount(&self.mountpoint, UnmountFlags::DETACH);
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Runs a program that must succeed.
pub(crate) fn succeed(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{command:?}"))?;
    if !output.status.success() {
        bail!(
            "{command:?} ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}
