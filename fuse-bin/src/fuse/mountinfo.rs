//! The kernel's list of mounts, read without touching any of them (a hung mount must not hang us).

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// Filesystem type of our mounts.
pub const FS_TYPE: &str = "fuse.vellum";

/// One mount of this process's namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Major device number.
    pub major: u32,
    /// Minor device number.
    pub minor: u32,
    /// Where it is mounted.
    pub mountpoint: PathBuf,
    /// Flags of this mount, in a comma list.
    pub options: String,
    /// Filesystem type with subtype.
    pub fs_type: String,
    /// What is mounted.
    pub source: String,
    /// User that mounted it (FUSE only).
    pub user: Option<u32>,
}

impl Mount {
    /// Whether it is a mount of ours.
    pub fn is_vellum(&self) -> bool {
        self.fs_type == FS_TYPE
            || (self.fs_type.starts_with("fuse") && self.source.starts_with("vellum:"))
    }
}

/// All mounts, in the order in which they were made.
///
/// # Errors
/// When /proc is not there.
pub fn mounts() -> io::Result<Vec<Mount>> {
    let text = std::fs::read("/proc/self/mountinfo")?;
    Ok(text.split(|b| *b == b'\n').filter_map(parse).collect())
}

/// The topmost mount exactly at `path`, which must be absolute and without symlinks.
///
/// # Errors
/// When /proc is not there.
pub fn at(path: &Path) -> io::Result<Option<Mount>> {
    Ok(mounts()?.into_iter().rfind(|m| m.mountpoint == path))
}

/// The topmost mount with this device number.
///
/// # Errors
/// When /proc is not there.
pub fn of_device(major: u32, minor: u32) -> io::Result<Option<Mount>> {
    Ok(mounts()?.into_iter().rfind(|m| (m.major, m.minor) == (major, minor)))
}

/// One line: `36 35 98:0 /root /mountpoint options [fields] - type source super-options`.
fn parse(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|b| *b == b' ');
    let device = std::str::from_utf8(fields.nth(2)?).ok()?;
    let (major, minor) = device.split_once(':')?;
    let mountpoint = fields.nth(1)?;
    let flags = String::from_utf8_lossy(fields.next()?).into_owned();
    let mut rest = fields.skip_while(|f| *f != b"-").skip(1);
    let fs_type = String::from_utf8_lossy(rest.next()?).into_owned();
    let source = String::from_utf8_lossy(&unescape(rest.next()?)).into_owned();
    let options = String::from_utf8_lossy(rest.next()?);
    let user = options.split(',').find_map(|o| o.strip_prefix("user_id=")?.parse().ok());
    Some(Mount {
        major: major.parse().ok()?,
        minor: minor.parse().ok()?,
        mountpoint: PathBuf::from(OsString::from_vec(unescape(mountpoint))),
        options: flags,
        fs_type,
        source,
        user,
    })
}

/// Spaces and the like are written as `\040`.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let octal = tail.get(..3).filter(|d| *first == b'\\' && d.iter().all(u8::is_ascii_digit));
        match octal {
            Some(digits) => {
                let code = digits.iter().fold(0u32, |acc, d| acc * 8 + u32::from(d - b'0'));
                out.push(code as u8);
                rest = &tail[3..];
            }
            None => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_with_escapes_and_optional_fields_is_read() {
        let line = br"98 28 0:52 / /mnt/a\040b rw,nosuid shared:7 master:1 - fuse.vellum vellum:/v\134x rw,user_id=1000,group_id=0";
        let mount = parse(line).expect("a mount");
        assert_eq!((mount.major, mount.minor), (0, 52));
        assert_eq!(mount.mountpoint, Path::new("/mnt/a b"));
        assert_eq!(mount.source, "vellum:/v\\x");
        assert_eq!((mount.user, mount.options.as_str()), (Some(1000), "rw,nosuid"));
        assert!(mount.is_vellum());
    }

    #[test]
    fn other_filesystems_are_not_ours() {
        let line = b"22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw";
        let mount = parse(line).expect("a mount");
        assert!(!mount.is_vellum());
        assert_eq!(mount.user, None);
        assert_eq!(parse(b""), None);
        assert_eq!(parse(b"1 2 x:y / / rw - a b c"), None);
    }
}
