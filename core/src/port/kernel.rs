//! What a kernel asks of a filesystem and what it is told, at the level of FUSE kernel ABI 7.45.
//!
//! A transport maps its wire format to these enums and back, and decides nothing.

use crate::error::FsError;
use crate::id::{Handle, Ino, RequestId};
use crate::time::WallTime;
use alloc::vec::Vec;
use bytes::Bytes;
use core::time::Duration;
use smallvec::SmallVec;

/// A request and who makes it.
#[derive(Clone, Debug)]
pub struct Request {
    /// On whose behalf.
    pub caller: Caller,
    /// What.
    pub op: Operation,
}

/// Credentials of the calling process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// Filesystem user id.
    pub uid: u32,
    /// Filesystem group id.
    pub gid: u32,
    /// Process id; 0 when the kernel itself asks.
    pub pid: u32,
}

/// One kernel request. Names and targets are raw bytes; modes and flags have Linux' values.
#[derive(Clone, Debug)]
pub enum Operation {
    /// FUSE_LOOKUP. Counts one lookup of the inode found. Answered by [`Reply::Entry`].
    Lookup {
        /// Directory.
        parent: Ino,
        /// Name in it.
        name: Bytes,
    },
    /// FUSE_FORGET and FUSE_BATCH_FORGET: lookups given back. Not answered.
    Forget {
        /// Inodes with the number of lookups each gives back.
        nodes: Vec<(Ino, u64)>,
    },
    /// FUSE_GETATTR. Answered by [`Reply::Attr`].
    GetAttr {
        /// Whose.
        ino: Ino,
        /// Through which open file, if any.
        handle: Option<Handle>,
    },
    /// FUSE_SETATTR. Answered by [`Reply::Attr`].
    SetAttr {
        /// Whose.
        ino: Ino,
        /// Through which open file, if any.
        handle: Option<Handle>,
        /// What to change.
        set: SetAttr,
    },
    /// FUSE_READLINK. Answered by [`Reply::Target`].
    ReadLink {
        /// Symlink.
        ino: Ino,
    },
    /// FUSE_SYMLINK. Answered by [`Reply::Entry`].
    Symlink {
        /// Directory.
        parent: Ino,
        /// New name.
        name: Bytes,
        /// What it points to.
        target: Bytes,
    },
    /// FUSE_MKNOD. Answered by [`Reply::Entry`].
    MkNod {
        /// Directory.
        parent: Ino,
        /// New name.
        name: Bytes,
        /// Type and permission bits, umask not applied.
        mode: u32,
        /// The caller's umask: counts unless the directory has a default ACL.
        umask: u32,
        /// Device number of a device node.
        rdev: u32,
    },
    /// FUSE_MKDIR. Answered by [`Reply::Entry`].
    MkDir {
        /// Directory.
        parent: Ino,
        /// New name.
        name: Bytes,
        /// Permission bits, umask not applied.
        mode: u32,
        /// The caller's umask: counts unless the directory has a default ACL.
        umask: u32,
    },
    /// FUSE_UNLINK. Answered by [`Reply::Done`].
    Unlink {
        /// Directory.
        parent: Ino,
        /// Name to remove.
        name: Bytes,
    },
    /// FUSE_RMDIR. Answered by [`Reply::Done`].
    RmDir {
        /// Directory.
        parent: Ino,
        /// Name to remove.
        name: Bytes,
    },
    /// FUSE_RENAME2. Answered by [`Reply::Done`].
    Rename {
        /// Old directory.
        parent: Ino,
        /// Old name.
        name: Bytes,
        /// New directory.
        new_parent: Ino,
        /// New name.
        new_name: Bytes,
        /// RENAME_* bits.
        flags: u32,
    },
    /// FUSE_LINK. Answered by [`Reply::Entry`].
    Link {
        /// Existing inode.
        ino: Ino,
        /// Directory of the new name.
        new_parent: Ino,
        /// New name.
        new_name: Bytes,
    },
    /// FUSE_OPEN. Answered by [`Reply::Opened`].
    Open {
        /// File.
        ino: Ino,
        /// O_* flags.
        flags: OpenFlags,
    },
    /// FUSE_CREATE: create (or find) and open. Answered by [`Reply::Created`].
    Create {
        /// Directory.
        parent: Ino,
        /// Name.
        name: Bytes,
        /// Permission bits, umask not applied.
        mode: u32,
        /// The caller's umask: counts unless the directory has a default ACL.
        umask: u32,
        /// O_* flags.
        flags: OpenFlags,
    },
    /// FUSE_TMPFILE: create a file without a name and open it. Answered by [`Reply::Created`].
    TmpFile {
        /// Directory whose group and default ACL it inherits.
        parent: Ino,
        /// Permission bits, umask not applied.
        mode: u32,
        /// The caller's umask: counts unless the directory has a default ACL.
        umask: u32,
        /// O_* flags; with O_EXCL it can never get a name.
        flags: OpenFlags,
    },
    /// FUSE_READ. Answered by [`Reply::Data`].
    Read {
        /// File.
        ino: Ino,
        /// Open file.
        handle: Handle,
        /// First byte.
        offset: u64,
        /// Bytes wanted; fewer are returned only at the end of the file.
        len: u32,
    },
    /// FUSE_WRITE. Answered by [`Reply::Written`].
    Write {
        /// File.
        ino: Ino,
        /// Open file.
        handle: Handle,
        /// First byte. Stale for a write-through O_APPEND write.
        offset: u64,
        /// The bytes.
        data: Bytes,
        /// How it was issued.
        flags: WriteFlags,
    },
    /// FUSE_FLUSH: a descriptor was closed. Answered by [`Reply::Done`].
    Flush {
        /// File.
        ino: Ino,
        /// Open file.
        handle: Handle,
    },
    /// FUSE_RELEASE: the last descriptor was closed. Answered by [`Reply::Done`].
    Release {
        /// File.
        ino: Ino,
        /// Open file.
        handle: Handle,
    },
    /// FUSE_FSYNC. Answered by [`Reply::Done`] once durable.
    Fsync {
        /// File.
        ino: Ino,
        /// Open file.
        handle: Handle,
        /// fdatasync(2).
        datasync: bool,
    },
    /// FUSE_FALLOCATE. Answered by [`Reply::Done`].
    Fallocate {
        /// File.
        ino: Ino,
        /// Open file.
        handle: Handle,
        /// First byte.
        offset: u64,
        /// Bytes.
        len: u64,
        /// FALLOC_FL_* bits.
        mode: u32,
    },
    /// FUSE_LSEEK with SEEK_DATA or SEEK_HOLE. Answered by [`Reply::Offset`].
    Seek {
        /// File.
        ino: Ino,
        /// Open file.
        handle: Handle,
        /// Where to begin.
        offset: u64,
        /// What to look for.
        whence: Whence,
    },
    /// FUSE_COPY_FILE_RANGE and FUSE_COPY_FILE_RANGE_64. Answered by [`Reply::Copied`].
    CopyRange {
        /// Source file.
        ino: Ino,
        /// Open source.
        handle: Handle,
        /// First byte in the source.
        offset: u64,
        /// Target file; may be the source.
        to_ino: Ino,
        /// Open target.
        to_handle: Handle,
        /// First byte in the target.
        to_offset: u64,
        /// Bytes.
        len: u64,
    },
    /// FUSE_GETXATTR. Answered by [`Reply::Value`], or [`Reply::Room`] when `room` is 0.
    GetXattr {
        /// Whose.
        ino: Ino,
        /// Full name, namespace included.
        name: Bytes,
        /// Bytes the caller has room for; 0 asks how many are needed.
        room: u32,
    },
    /// FUSE_LISTXATTR: names, each ended by NUL. Answered as [`Operation::GetXattr`].
    ListXattr {
        /// Whose.
        ino: Ino,
        /// Bytes the caller has room for; 0 asks how many are needed.
        room: u32,
    },
    /// FUSE_SETXATTR. Answered by [`Reply::Done`].
    SetXattr {
        /// Whose.
        ino: Ino,
        /// Full name, namespace included.
        name: Bytes,
        /// New value.
        value: Bytes,
        /// XATTR_CREATE (1) and XATTR_REPLACE (2).
        flags: u32,
        /// FUSE_SETXATTR_ACL_KILL_SGID: clear the set-group-id bit with this ACL.
        kill_sgid: bool,
    },
    /// FUSE_REMOVEXATTR. Answered by [`Reply::Done`].
    RemoveXattr {
        /// Whose.
        ino: Ino,
        /// Full name, namespace included.
        name: Bytes,
    },
    /// FUSE_OPENDIR. Answered by [`Reply::Opened`].
    OpenDir {
        /// Directory.
        ino: Ino,
    },
    /// FUSE_READDIR and FUSE_READDIRPLUS. Answered by [`Reply::Entries`].
    ReadDir {
        /// Directory.
        ino: Ino,
        /// Open directory.
        handle: Handle,
        /// Cookie of the last entry seen; 0 at the start.
        cookie: u64,
        /// Bytes the kernel has room for.
        room: u32,
        /// READDIRPLUS: each entry carries attributes and counts a lookup.
        plus: bool,
    },
    /// FUSE_RELEASEDIR. Answered by [`Reply::Done`].
    ReleaseDir {
        /// Directory.
        ino: Ino,
        /// Open directory.
        handle: Handle,
    },
    /// FUSE_FSYNCDIR. Answered by [`Reply::Done`] once durable.
    FsyncDir {
        /// Directory.
        ino: Ino,
        /// Open directory.
        handle: Handle,
        /// fdatasync(2).
        datasync: bool,
    },
    /// FUSE_STATFS. Answered by [`Reply::StatFs`].
    StatFs {
        /// Any inode.
        ino: Ino,
    },
    /// FUSE_INTERRUPT: the caller of `target` got a signal. Not answered.
    Interrupt {
        /// The request to give up.
        target: RequestId,
    },
}

impl Operation {
    /// Whether it would change the volume.
    pub fn changes(&self) -> bool {
        match self {
            Operation::SetAttr { .. }
            | Operation::Symlink { .. }
            | Operation::MkNod { .. }
            | Operation::MkDir { .. }
            | Operation::Unlink { .. }
            | Operation::RmDir { .. }
            | Operation::Rename { .. }
            | Operation::Link { .. }
            | Operation::Create { .. }
            | Operation::TmpFile { .. }
            | Operation::Fallocate { .. }
            | Operation::CopyRange { .. }
            | Operation::SetXattr { .. }
            | Operation::RemoveXattr { .. }
            | Operation::Write { .. } => true,
            Operation::Open { flags, .. } => flags.writes() || flags.truncates(),
            _ => false,
        }
    }

    /// Bytes of file data it carries.
    pub fn payload(&self) -> u64 {
        if let Operation::Write { data, .. } = self { data.len() as u64 } else { 0 }
    }

    /// Whether the kernel waits for an answer.
    pub fn wants_reply(&self) -> bool {
        !matches!(self, Operation::Forget { .. } | Operation::Interrupt { .. })
    }
}

/// FUSE_SETATTR's fields; `None` leaves one as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetAttr {
    /// New permission bits (type bits are ignored).
    pub mode: Option<u32>,
    /// New owner.
    pub uid: Option<u32>,
    /// New group.
    pub gid: Option<u32>,
    /// New size.
    pub size: Option<u64>,
    /// New access time.
    pub atime: Option<SetTime>,
    /// New modification time.
    pub mtime: Option<SetTime>,
    /// New change time (sent only by a kernel that caches writes).
    pub ctime: Option<WallTime>,
    /// FATTR_KILL_SUIDGID: clear the set-id bits and file capabilities with this change.
    pub kill_suidgid: bool,
}

/// What FUSE_LSEEK looks for; the kernel answers the other kinds itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whence {
    /// SEEK_DATA.
    Data,
    /// SEEK_HOLE.
    Hole,
}

/// A time to set; UTIME_OMIT is `None` around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetTime {
    /// UTIME_NOW: the time of the request.
    Now,
    /// This one.
    At(WallTime),
}

/// O_* flags as the kernel passes them (Linux, x86-64 and arm64 share those used here).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenFlags(pub u32);

impl OpenFlags {
    /// O_TRUNC.
    pub const TRUNC: u32 = 0o1000;
    /// FUSE_OPEN_KILL_SUIDGID, in a bit that no O_* flag uses.
    pub const KILL_SUIDGID: u32 = 1 << 31;

    /// O_WRONLY or O_RDWR.
    pub fn writes(self) -> bool {
        self.0 & 0o3 != 0
    }
    /// O_EXCL.
    pub fn exclusive(self) -> bool {
        self.0 & 0o200 != 0
    }
    /// O_TRUNC; arrives only when FUSE_ATOMIC_O_TRUNC was negotiated, or with CREATE.
    pub fn truncates(self) -> bool {
        self.0 & OpenFlags::TRUNC != 0
    }
    /// FUSE_OPEN_KILL_SUIDGID: clear the set-id bits and file capabilities when this truncates.
    pub fn kills_suidgid(self) -> bool {
        self.0 & OpenFlags::KILL_SUIDGID != 0
    }
    /// O_APPEND.
    pub fn appends(self) -> bool {
        self.0 & 0o2000 != 0
    }
}

/// How a WRITE was issued.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteFlags {
    /// FUSE_WRITE_CACHE: page-cache writeback (mmap). The kernel's offset counts, also with O_APPEND.
    pub from_cache: bool,
    /// FUSE_WRITE_KILL_SUIDGID: clear the set-id bits with this write.
    pub kill_suidgid: bool,
    /// O_APPEND was set on the open file when the write was issued.
    pub append: bool,
}

/// The answer to a request.
#[derive(Debug)]
pub enum Reply {
    /// The operation failed and changed nothing.
    Error(FsError),
    /// Success without a value.
    Done,
    /// An inode by name.
    Entry(Entry),
    /// Attributes.
    Attr {
        /// The attributes.
        attr: Attr,
        /// How long the kernel may cache them.
        valid: Duration,
    },
    /// A symlink's target.
    Target(Bytes),
    /// An open file or directory.
    Opened(Opened),
    /// A created (or found) and opened file.
    Created {
        /// The inode by name.
        entry: Entry,
        /// The open file.
        opened: Opened,
    },
    /// Bytes of a file.
    Data(Pieces),
    /// Bytes taken by a write.
    Written(u32),
    /// Bytes copied.
    Copied(u64),
    /// Where data or a hole was found.
    Offset(u64),
    /// The value of an extended attribute, or the list of names.
    Value(Bytes),
    /// How many bytes that would need.
    Room(u32),
    /// A page of a directory. Empty at its end.
    Entries(Vec<DirEntry>),
    /// Filesystem statistics.
    StatFs(StatFs),
}

/// FUSE's entry reply: an inode, its attributes, and how long both may be cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The inode; `None` is a negative entry that may be cached.
    pub attr: Option<Attr>,
    /// How long the name may be cached.
    pub entry_valid: Duration,
    /// How long the attributes may be cached.
    pub attr_valid: Duration,
}

/// FUSE's open reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// To be named in later requests.
    pub handle: Handle,
    /// FOPEN_KEEP_CACHE: cached pages are still true.
    pub keep_cache: bool,
    /// FOPEN_DIRECT_IO: no page cache.
    pub direct_io: bool,
    /// FOPEN_CACHE_DIR: the kernel may cache the listing.
    pub cache_dir: bool,
    /// FOPEN_NOFLUSH: closing a descriptor needs no FLUSH, because nothing can be written through it.
    pub no_flush: bool,
}

/// stat(2)'s fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attr {
    /// Inode number.
    pub ino: Ino,
    /// Type and permission bits.
    pub mode: u32,
    /// Hard links.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number of a device node.
    pub rdev: u32,
    /// Bytes.
    pub size: u64,
    /// Occupied units of 512 bytes.
    pub blocks: u64,
    /// Access time.
    pub atime: WallTime,
    /// Modification time.
    pub mtime: WallTime,
    /// Change time.
    pub ctime: WallTime,
    /// Birth time.
    pub btime: WallTime,
}

/// File type bits of [`Attr::mode`].
pub const S_IFMT: u32 = 0o170_000;
/// A directory.
pub const S_IFDIR: u32 = 0o040_000;
/// A regular file.
pub const S_IFREG: u32 = 0o100_000;
/// A symbolic link.
pub const S_IFLNK: u32 = 0o120_000;
/// A FIFO.
pub const S_IFIFO: u32 = 0o010_000;
/// A socket.
pub const S_IFSOCK: u32 = 0o140_000;
/// A character device.
pub const S_IFCHR: u32 = 0o020_000;
/// A block device.
pub const S_IFBLK: u32 = 0o060_000;
/// Set-user-id.
pub const S_ISUID: u32 = 0o4000;
/// Set-group-id.
pub const S_ISGID: u32 = 0o2000;
/// The group may execute.
pub const S_IXGRP: u32 = 0o010;

/// Bytes of a file without copying: shared buffers and runs of zeros, in order.
pub type Pieces = SmallVec<[Piece; 2]>;

/// One run of a [`Pieces`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Bytes.
    Bytes(Bytes),
    /// So many zeros.
    Zeros(u32),
}

impl Piece {
    /// Length in bytes.
    pub fn len(&self) -> usize {
        match self {
            Piece::Bytes(b) => b.len(),
            Piece::Zeros(n) => *n as usize,
        }
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One entry of a directory page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// Inode number.
    pub ino: Ino,
    /// Where to go on after this entry; stable, not zero, below 2^63.
    pub cookie: u64,
    /// Type bits (S_IF*).
    pub kind: u32,
    /// Name.
    pub name: Bytes,
    /// For READDIRPLUS; `None` for "." and ".." and for an entry that vanished meanwhile.
    pub entry: Option<Entry>,
}

/// statfs(2)'s fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatFs {
    /// Unit of the block counts, in bytes.
    pub block_size: u32,
    /// Blocks in all.
    pub blocks: u64,
    /// Free blocks.
    pub blocks_free: u64,
    /// Inodes in all.
    pub files: u64,
    /// Free inodes.
    pub files_free: u64,
    /// Longest name.
    pub name_max: u32,
}

/// What the kernel is told without having asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notification {
    /// FUSE_NOTIFY_INVAL_INODE: attributes, and the pages of a range unless it is empty.
    Inode {
        /// Whose.
        ino: Ino,
        /// First byte; -1 for attributes only.
        offset: i64,
        /// Bytes; 0 for all after `offset`.
        len: i64,
    },
    /// FUSE_NOTIFY_INVAL_ENTRY: a name.
    Entry {
        /// Directory.
        parent: Ino,
        /// Name in it.
        name: Bytes,
    },
}
