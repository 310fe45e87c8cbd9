//! The words the model speaks: node numbers, kinds, times, attributes and changes of them.

use std::fmt;

/// The number of a node. Never reused within one [`Fs`](crate::Fs).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NodeId(pub u64);

impl NodeId {
    /// The root directory.
    pub const ROOT: Self = Self(1);
}

/// What a node is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A socket's name.
    Socket,
    /// A character device.
    CharDev,
    /// A block device.
    BlockDev,
}

impl Kind {
    /// Only devices carry a device number.
    pub fn is_device(self) -> bool {
        matches!(self, Self::CharDev | Self::BlockDev)
    }
}

/// A point in time, as `struct timespec`: seconds since 1970 and nanoseconds below 10^9.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time {
    /// Seconds since 1970-01-01 UTC; negative before it.
    pub secs: i64,
    /// Nanoseconds of the second.
    pub nanos: u32,
}

impl Time {
    /// A time from its two parts.
    pub const fn new(secs: i64, nanos: u32) -> Self {
        Self { secs, nanos }
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}", self.secs, self.nanos)
    }
}

/// What `stat` tells about a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attr {
    /// The node.
    pub node: NodeId,
    /// What it is.
    pub kind: Kind,
    /// The 12 permission bits: set-id, sticky, and three times `rwx`.
    pub perm: u16,
    /// Names of a file; 2 plus the subdirectories of a directory; 0 once it is removed.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes of a file, length of a symbolic link's target, otherwise 0. What a directory reports is
    /// left open by POSIX: do not compare it.
    pub size: u64,
    /// Device number of a device, otherwise 0.
    pub rdev: u64,
    /// Last access.
    pub atime: Time,
    /// Last change of the data, or of a directory's entries.
    pub mtime: Time,
    /// Last change of the node.
    pub ctime: Time,
    /// Birth.
    pub btime: Time,
}

/// What a new node is given.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct New {
    /// Permission bits. `mkdir` ignores set-id bits in it, and a symbolic link is always 0777, as on
    /// Linux.
    pub perm: u16,
    /// Permission bits that are taken off, unless the directory has a default ACL.
    pub umask: u16,
    /// The owner: the caller's file-system user.
    pub uid: u32,
    /// The caller's file-system group; a set-group-ID parent directory overrides it.
    pub gid: u32,
}

impl New {
    /// Owner 0, group 0, no umask and these permissions.
    pub const fn perm(perm: u16) -> Self {
        Self { perm, umask: 0, uid: 0, gid: 0 }
    }
}

/// Whether the caller keeps set-id bits of a file that it writes or cuts (`CAP_FSETID`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Caller {
    /// Has `CAP_FSETID`: its writes leave set-id bits alone.
    #[default]
    Privileged,
    /// Its writes and truncations clear set-user-ID, and set-group-ID where the group may execute
    /// (elsewhere that bit once meant mandatory locking): what the kernel asks of a FUSE filesystem
    /// by `FUSE_WRITE_KILL_SUIDGID` and `FATTR_KILL_SUIDGID`.
    Unprivileged,
}

/// A time in a [`SetAttr`], as in `utimensat`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SetTime {
    /// Leave it (`UTIME_OMIT`).
    #[default]
    Omit,
    /// The time of the call (`UTIME_NOW`).
    Now,
    /// This time.
    Set(Time),
}

/// A change of attributes; the default changes nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SetAttr {
    /// New permission bits, taken as given (the kernel has already dropped what the caller may not set).
    pub perm: Option<u16>,
    /// New owner.
    pub uid: Option<u32>,
    /// New group.
    pub gid: Option<u32>,
    /// New size of a file. Stamps mtime and ctime, also if it is the old one (POSIX truncate, ftruncate
    /// and `O_TRUNC`; ext4 does so, tmpfs only for a new size or `ftruncate`).
    pub size: Option<u64>,
    /// New access time.
    pub atime: SetTime,
    /// New modification time.
    pub mtime: SetTime,
    /// A `chown`: clears the set-id bits of anything but a directory (set-group-ID only where the group
    /// may execute), whoever calls, unless `perm` is given. Implied by `uid` and `gid`; alone it is
    /// `chown(-1, -1)`, which Linux counts as a change.
    pub chown: bool,
}

/// One entry of a directory listing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DirEntry {
    /// Its name.
    pub name: Vec<u8>,
    /// The node it names.
    pub node: NodeId,
    /// What that is.
    pub kind: Kind,
}
