//! Attributes, times, file types and errors, in both directions.

use fuser::{Errno, FileAttr, FileType, INodeNo, TimeOrNow};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use vellum_core::error::FsError;
use vellum_core::port::kernel::{
    Attr, S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG, S_IFSOCK, SetTime,
};
use vellum_core::time::WallTime;

/// What stat(2) reports as the preferred I/O size.
const BLOCK_SIZE: u32 = 4096;

/// The transport's attributes; `None` for a mode without a file type.
pub(super) fn attr(attr: &Attr) -> Option<FileAttr> {
    Some(FileAttr {
        ino: INodeNo(attr.ino.0),
        size: attr.size,
        blocks: attr.blocks,
        atime: to_system(attr.atime),
        mtime: to_system(attr.mtime),
        ctime: to_system(attr.ctime),
        crtime: to_system(attr.btime),
        kind: kind(attr.mode)?,
        perm: (attr.mode & 0o7777) as u16,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: attr.rdev,
        blksize: BLOCK_SIZE,
        flags: 0,
    })
}

/// The file type of a mode.
pub(super) fn kind(mode: u32) -> Option<FileType> {
    Some(match mode & S_IFMT {
        S_IFREG => FileType::RegularFile,
        S_IFDIR => FileType::Directory,
        S_IFLNK => FileType::Symlink,
        S_IFIFO => FileType::NamedPipe,
        S_IFSOCK => FileType::Socket,
        S_IFCHR => FileType::CharDevice,
        S_IFBLK => FileType::BlockDevice,
        _ => return None,
    })
}

/// An error as the kernel knows it.
pub(super) fn errno(error: FsError) -> Errno {
    Errno::from_i32(error.errno())
}

/// The time to set that a SETATTR carries.
pub(super) fn set_time(time: TimeOrNow) -> SetTime {
    match time {
        TimeOrNow::Now => SetTime::Now,
        TimeOrNow::SpecificTime(time) => SetTime::At(from_setattr(time)),
    }
}

/// Undoes the transport's decoding of a SETATTR time.
///
/// For times before 1970 the transport subtracts both the seconds and the nanoseconds from the epoch,
/// although the nanoseconds count upwards; so the distance to the epoch is not the time itself, but
/// still holds both numbers as they came from the kernel.
pub(super) fn from_setattr(time: SystemTime) -> WallTime {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => WallTime::new(saturate(after.as_secs()), after.subsec_nanos()),
        Err(before) => {
            let before = before.duration();
            WallTime::new(0i64.saturating_sub_unsigned(before.as_secs()), before.subsec_nanos())
        }
    }
}

/// A time as the transport encodes it in replies.
pub(super) fn to_system(time: WallTime) -> SystemTime {
    let nanos = Duration::from_nanos(u64::from(time.nanos));
    let secs = Duration::from_secs(time.secs.unsigned_abs());
    if time.secs >= 0 { UNIX_EPOCH + secs + nanos } else { UNIX_EPOCH - secs + nanos }
}

fn saturate(secs: u64) -> i64 {
    i64::try_from(secs).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the transport makes of the kernel's numbers.
    fn as_transport_decodes(secs: i64, nanos: u32) -> SystemTime {
        if secs >= 0 {
            UNIX_EPOCH + Duration::new(secs as u64, nanos)
        } else {
            UNIX_EPOCH - Duration::new(secs.unsigned_abs(), nanos)
        }
    }

    #[test]
    fn setattr_times_survive_the_transport() {
        for (secs, nanos) in [
            (0, 0),
            (0, 1),
            (-1, 0),
            (-1, 999_999_999),
            (-2, 500_000_000),
            (1 << 40, 7),
            (-(1 << 40), 7),
        ] {
            let decoded = from_setattr(as_transport_decodes(secs, nanos));
            assert_eq!(decoded, WallTime::new(secs, nanos), "{secs}.{nanos}");
        }
    }

    #[test]
    fn reply_times_before_1970_count_nanoseconds_upwards() {
        let half_past_minus_two = to_system(WallTime::new(-2, 500_000_000));
        assert_eq!(half_past_minus_two, UNIX_EPOCH - Duration::from_millis(1500));
        assert_eq!(
            to_system(WallTime::new(i64::MIN, 0)),
            UNIX_EPOCH - Duration::from_secs(1 << 63)
        );
        assert_eq!(
            to_system(WallTime::new(i64::MAX, 999_999_999)),
            UNIX_EPOCH + Duration::new(i64::MAX as u64, 999_999_999)
        );
    }

    #[test]
    fn a_mode_without_type_is_refused() {
        assert_eq!(kind(0o755), None);
        assert_eq!(kind(S_IFIFO | 0o644), Some(FileType::NamedPipe));
    }
}
