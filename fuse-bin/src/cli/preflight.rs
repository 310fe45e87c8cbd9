//! What must be true before a mount is tried, each with the sentence that says how to make it true.

use super::{Exit, Failure};
use crate::fuse::mountinfo::{self, Mount};
use crate::fuse::{Unmount, unmount};
use std::io;
use std::path::{Path, PathBuf};

/// The path with every directory above resolved but the last component left alone, so that a dead
/// mount there is not touched.
///
/// # Errors
/// When a directory above does not exist.
pub(super) fn without_touching(path: &Path) -> Result<PathBuf, Failure> {
    let absolute = std::path::absolute(path)
        .map_err(|e| Failure::io(format_args!("{}", path.display()), &e))?;
    let (Some(parent), Some(name)) = (absolute.parent(), absolute.file_name()) else {
        return Ok(absolute);
    };
    let parent =
        parent.canonicalize().map_err(|e| Failure::io(format_args!("{}", parent.display()), &e))?;
    Ok(parent.join(name))
}

/// The mountpoint, resolved; a dead mount there is detached, a living one refused.
///
/// # Errors
/// 5 when it does not exist, 2 when it is no directory, 6 when a volume is mounted there.
pub(super) fn mountpoint(path: &Path) -> Result<PathBuf, Failure> {
    let untouched = without_touching(path)?;
    detach_corpse(&untouched)?;
    let resolved = untouched.canonicalize().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Failure::new(
            Exit::NotFound,
            format!("mountpoint {} does not exist; create the directory first", path.display()),
        ),
        _ => Failure::io(format_args!("mountpoint {}", path.display()), &error),
    })?;
    // The last component may have been a symlink to another place.
    detach_corpse(&resolved)?;
    if !resolved.is_dir() {
        let text = format!("mountpoint {} is not a directory", path.display());
        return Err(Failure::new(Exit::Usage, text));
    }
    match mount_at(&resolved)? {
        Some(mount) if mount.is_vellum() => Err(Failure::new(
            Exit::Busy,
            format!("{} is mounted at {} already", mount.source, resolved.display()),
        )),
        _ => Ok(resolved),
    }
}

/// Neither directory may lie in the other: the daemon would wait for itself.
///
/// # Errors
/// 7 with both paths.
pub(super) fn not_nested(volume: &Path, mountpoint: &Path) -> Result<(), Failure> {
    let text = if volume.starts_with(mountpoint) {
        format!(
            "volume {} lies inside its own mountpoint {}; the mount would hide and wait for itself",
            volume.display(),
            mountpoint.display()
        )
    } else if mountpoint.starts_with(volume) {
        format!(
            "mountpoint {} lies inside the volume directory {}; choose one outside",
            mountpoint.display(),
            volume.display()
        )
    } else {
        return Ok(());
    };
    Err(Failure::new(Exit::Configuration, text))
}

/// The kernel's FUSE device.
///
/// # Errors
/// 7 when it is missing.
pub(super) fn fuse_device() -> Result<(), Failure> {
    if Path::new("/dev/fuse").exists() { Ok(()) } else { Err(no_device()) }
}

/// What to do without /dev/fuse.
pub(super) fn no_device() -> Failure {
    Failure::new(
        Exit::Configuration,
        "/dev/fuse is missing: load the kernel module with `modprobe fuse`, or in a container pass \
         `--device /dev/fuse --cap-add SYS_ADMIN`",
    )
}

/// The topmost mount at a resolved path.
pub(super) fn mount_at(path: &Path) -> Result<Option<Mount>, Failure> {
    mountinfo::at(path).map_err(|e| Failure::io("/proc/self/mountinfo", &e))
}

/// Detaches FUSE mounts whose daemon is dead. Several may be stacked.
fn detach_corpse(path: &Path) -> Result<(), Failure> {
    while let Some(mount) = mount_at(path)? {
        if !mount.fs_type.starts_with("fuse") || !is_dead(path) {
            return Ok(());
        }
        tracing::warn!(mountpoint = %path.display(), source = mount.source, "detaching a dead mount");
        unmount(path, Unmount::Lazy)
            .map_err(|e| Failure::io(format_args!("dead mount at {}", path.display()), &e))?;
    }
    Ok(())
}

fn is_dead(path: &Path) -> bool {
    matches!(rustix::fs::statfs(path), Err(rustix::io::Errno::NOTCONN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nesting_is_refused_both_ways_and_names_are_not_prefixes() {
        let check = |v: &str, m: &str| not_nested(Path::new(v), Path::new(m)).map_err(|f| f.exit);
        assert_eq!(check("/a/b", "/a"), Err(Exit::Configuration));
        assert_eq!(check("/a", "/a/b"), Err(Exit::Configuration));
        assert_eq!(check("/a", "/a"), Err(Exit::Configuration));
        assert_eq!(check("/a/bc", "/a/b"), Ok(()));
    }

    #[test]
    fn a_missing_mountpoint_and_a_file_have_their_own_codes() {
        let dir = tempfile::tempdir().expect("tempdir");
        assert_eq!(mountpoint(&dir.path().join("x")).unwrap_err().exit, Exit::NotFound);
        assert_eq!(mountpoint(&dir.path().join("x/y")).unwrap_err().exit, Exit::NotFound);
        let file = dir.path().join("f");
        std::fs::write(&file, b"").expect("write");
        assert_eq!(mountpoint(&file).unwrap_err().exit, Exit::Usage);
        assert!(mountpoint(dir.path()).is_ok());
    }
}
