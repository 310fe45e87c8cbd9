//! `mount -o remount,...`: changes the flags of a mount while it is served.
//!
//! The kernel keeps these flags; the daemon is not asked. So what the daemon was told when it started
//! (`-o ro`, sizes of buffers) stays.

use super::{Exit, Failure, preflight, status};
use crate::fuse::mountinfo::Mount;
use rustix::mount::MountFlags;
use std::path::Path;

/// What mount(8) says about every FUSE mount, and nobody can change.
const FIXED: &[&str] = &[
    "allow_other",
    "blksize",
    "default_permissions",
    "defaults",
    "async",
    "fsname",
    "group_id",
    "max_read",
    "remount",
    "rootmode",
    "subtype",
    "user_id",
];

/// Whether a list of options asks for a remount.
pub(super) fn is_asked_for(lists: &[String]) -> bool {
    lists.iter().flat_map(|list| list.split(',')).any(|option| option == "remount")
}

/// Changes the flags of the mount at `path`; those that are not named stay.
///
/// # Errors
/// 5 when nothing of ours is mounted there, 2 for an option that needs a new mount, 6 when files are
/// open for writing and it shall become read-only.
pub(super) fn run(path: &Path, lists: &[String]) -> Result<Exit, Failure> {
    let path = preflight::without_touching(path)?;
    let mount = preflight::mount_at(&path)?.filter(Mount::is_vellum).ok_or_else(|| {
        Failure::new(Exit::NotFound, format!("no Vellum mount at {}", path.display()))
    })?;
    let mut flags = MountFlags::empty();
    for option in mount.options.split(',') {
        // Those of other kinds cannot be on a mount of ours.
        let _ = set(&mut flags, option);
    }
    let before = flags;
    for option in lists.iter().flat_map(|list| list.split(',')).filter(|o| !o.is_empty()) {
        let name = option.split('=').next().unwrap_or(option);
        if !set(&mut flags, option) && !FIXED.contains(&name) {
            let text = format!("`{option}` cannot be changed while it is mounted");
            return Err(Failure::new(Exit::Usage, text));
        }
    }
    if before.contains(MountFlags::RDONLY) && !flags.contains(MountFlags::RDONLY) {
        served_for_writing(&mount)?;
    }
    rustix::mount::mount_remount(&mount.mountpoint, flags, "").map_err(|errno| {
        let at = mount.mountpoint.display();
        match errno {
            rustix::io::Errno::BUSY => Failure::new(
                Exit::Busy,
                format!("files on {at} are open for writing (`fuser -vm {at}` shows by whom)"),
            ),
            other => Failure::io(format_args!("remounting {at}"), &other.into()),
        }
    })?;
    Ok(Exit::Ok)
}

/// Whether it is an option that became a flag.
fn set(flags: &mut MountFlags, option: &str) -> bool {
    let times = MountFlags::NOATIME | MountFlags::RELATIME | MountFlags::STRICTATIME;
    let (flag, value) = match option {
        "ro" => (MountFlags::RDONLY, true),
        "rw" => (MountFlags::RDONLY, false),
        "nosuid" => (MountFlags::NOSUID, true),
        "suid" => (MountFlags::NOSUID, false),
        "nodev" => (MountFlags::NODEV, true),
        "dev" => (MountFlags::NODEV, false),
        "noexec" => (MountFlags::NOEXEC, true),
        "exec" => (MountFlags::NOEXEC, false),
        "noatime" | "relatime" | "atime" => {
            flags.remove(times);
            let one = if option == "noatime" { MountFlags::NOATIME } else { MountFlags::RELATIME };
            (one, true)
        }
        _ => return false,
    };
    flags.set(flag, value);
    true
}

/// A daemon that began read-only has not prepared the volume for writing.
fn served_for_writing(mount: &Mount) -> Result<(), Failure> {
    if !status::ask(mount)?.read_only {
        return Ok(());
    }
    let text = format!(
        "{} was mounted read-only; unmount it, and mount it without `ro`",
        mount.mountpoint.display()
    );
    Err(Failure::new(Exit::Configuration, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_options_win_and_foreign_ones_are_told_apart() {
        let mut flags = MountFlags::empty();
        for option in ["rw", "nosuid", "noatime", "ro", "suid", "relatime"] {
            assert!(set(&mut flags, option), "{option}");
        }
        assert_eq!(flags, MountFlags::RDONLY | MountFlags::RELATIME);
        assert!(!set(&mut flags, "dirty_max=64M") && !set(&mut flags, "user_id=0"));
        assert!(is_asked_for(&["rw".into(), "ro,remount".into()]));
        assert!(!is_asked_for(&["rw,remountable".into()]));
    }
}
