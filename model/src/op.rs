//! System calls as data: what to do, and what came out. Both print with Debug in a form that a failing
//! run can be read (and typed in again) from.

use std::fmt;

use crate::attr::{Attr, DirEntry, Kind, SetTime};
use crate::data::Allocate;
use crate::error::Error;
use crate::rename::RenameFlags;
use crate::xattr::XattrMode;

/// How a file is opened. Read and write both false is not a thing: it opens for reading.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct OpenFlags {
    /// For reading.
    pub read: bool,
    /// For writing.
    pub write: bool,
    /// `O_CREAT`
    pub create: bool,
    /// `O_EXCL`; means nothing without `create`.
    pub exclusive: bool,
    /// `O_TRUNC`
    pub truncate: bool,
    /// `O_APPEND`
    pub append: bool,
    /// `O_DIRECTORY`
    pub directory: bool,
    /// `O_NOFOLLOW`
    pub no_follow: bool,
}

/// One system call on absolute paths or on an open file. Open files are named by small slots; opening
/// into a slot that is taken closes it first.
#[derive(Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "each variant is the system call of its name with its arguments")]
pub enum Op {
    Open {
        slot: u8,
        path: Vec<u8>,
        flags: OpenFlags,
        perm: u16,
    },
    Close {
        slot: u8,
    },
    Pread {
        slot: u8,
        offset: u64,
        len: usize,
    },
    /// With `append` in the flags of its open the offset counts for nothing, as on Linux.
    Pwrite {
        slot: u8,
        offset: u64,
        data: Vec<u8>,
    },
    Fstat {
        slot: u8,
    },
    Ftruncate {
        slot: u8,
        size: u64,
    },
    Fallocate {
        slot: u8,
        mode: Allocate,
        offset: u64,
        len: u64,
    },
    SeekData {
        slot: u8,
        offset: u64,
    },
    SeekHole {
        slot: u8,
        offset: u64,
    },
    Mkdir {
        path: Vec<u8>,
        perm: u16,
    },
    Mknod {
        path: Vec<u8>,
        kind: Kind,
        perm: u16,
        rdev: u64,
    },
    Rmdir {
        path: Vec<u8>,
    },
    Unlink {
        path: Vec<u8>,
    },
    Rename {
        from: Vec<u8>,
        to: Vec<u8>,
        flags: RenameFlags,
    },
    /// Does not follow a link in `from`.
    Link {
        from: Vec<u8>,
        to: Vec<u8>,
    },
    Symlink {
        target: Vec<u8>,
        path: Vec<u8>,
    },
    Readlink {
        path: Vec<u8>,
    },
    Chmod {
        path: Vec<u8>,
        perm: u16,
    },
    Chown {
        path: Vec<u8>,
        uid: Option<u32>,
        gid: Option<u32>,
        follow: bool,
    },
    Utimens {
        path: Vec<u8>,
        atime: SetTime,
        mtime: SetTime,
        follow: bool,
    },
    Truncate {
        path: Vec<u8>,
        size: u64,
    },
    Stat {
        path: Vec<u8>,
    },
    Lstat {
        path: Vec<u8>,
    },
    Readdir {
        path: Vec<u8>,
    },
    Setxattr {
        path: Vec<u8>,
        name: Vec<u8>,
        value: Vec<u8>,
        mode: XattrMode,
        follow: bool,
    },
    Getxattr {
        path: Vec<u8>,
        name: Vec<u8>,
        follow: bool,
    },
    Listxattr {
        path: Vec<u8>,
        follow: bool,
    },
    Removexattr {
        path: Vec<u8>,
        name: Vec<u8>,
        follow: bool,
    },
}

/// What came out of an [`Op`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Success that tells nothing.
    Done,
    /// Attributes.
    Attr(Attr),
    /// Bytes: of a file, a link's target, or an attribute's value.
    Bytes(Vec<u8>),
    /// How many bytes were written, or an offset that was sought.
    Count(u64),
    /// A listing, `.` and `..` included.
    Entries(Vec<DirEntry>),
    /// Names of extended attributes, sorted.
    Names(Vec<Vec<u8>>),
    /// An error.
    Failed(Error),
}

impl Outcome {
    /// The error, if it is one.
    pub fn error(&self) -> Option<Error> {
        match self {
            Self::Failed(error) => Some(*error),
            _ => None,
        }
    }
}

/// Paths as text: a list of bytes is no help in a failing run.
impl fmt::Debug for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let p = |bytes: &[u8]| format!("{:?}", String::from_utf8_lossy(bytes));
        match self {
            Self::Open { slot, path, flags, perm } => {
                write!(
                    f,
                    "Open {{ slot: {slot}, path: {}, flags: {flags}, perm: {perm:#o} }}",
                    p(path)
                )
            }
            Self::Close { slot } => write!(f, "Close {{ slot: {slot} }}"),
            Self::Pread { slot, offset, len } => {
                write!(f, "Pread {{ slot: {slot}, offset: {offset}, len: {len} }}")
            }
            Self::Pwrite { slot, offset, data } => {
                let first = data.first().copied().unwrap_or(0);
                write!(
                    f,
                    "Pwrite {{ slot: {slot}, offset: {offset}, data: [{first}, ..; {}] }}",
                    data.len()
                )
            }
            Self::Fstat { slot } => write!(f, "Fstat {{ slot: {slot} }}"),
            Self::Ftruncate { slot, size } => {
                write!(f, "Ftruncate {{ slot: {slot}, size: {size} }}")
            }
            Self::Fallocate { slot, mode, offset, len } => {
                write!(
                    f,
                    "Fallocate {{ slot: {slot}, mode: {mode:?}, offset: {offset}, len: {len} }}"
                )
            }
            Self::SeekData { slot, offset } => {
                write!(f, "SeekData {{ slot: {slot}, offset: {offset} }}")
            }
            Self::SeekHole { slot, offset } => {
                write!(f, "SeekHole {{ slot: {slot}, offset: {offset} }}")
            }
            Self::Mkdir { path, perm } => {
                write!(f, "Mkdir {{ path: {}, perm: {perm:#o} }}", p(path))
            }
            Self::Mknod { path, kind, perm, rdev } => {
                write!(
                    f,
                    "Mknod {{ path: {}, kind: {kind:?}, perm: {perm:#o}, rdev: {rdev} }}",
                    p(path)
                )
            }
            Self::Rmdir { path } => write!(f, "Rmdir {{ path: {} }}", p(path)),
            Self::Unlink { path } => write!(f, "Unlink {{ path: {} }}", p(path)),
            Self::Rename { from, to, flags } => {
                write!(f, "Rename {{ from: {}, to: {}, flags: {flags:?} }}", p(from), p(to))
            }
            Self::Link { from, to } => write!(f, "Link {{ from: {}, to: {} }}", p(from), p(to)),
            Self::Symlink { target, path } => {
                write!(f, "Symlink {{ target: {}, path: {} }}", p(target), p(path))
            }
            Self::Readlink { path } => write!(f, "Readlink {{ path: {} }}", p(path)),
            Self::Chmod { path, perm } => {
                write!(f, "Chmod {{ path: {}, perm: {perm:#o} }}", p(path))
            }
            Self::Chown { path, uid, gid, follow } => {
                write!(
                    f,
                    "Chown {{ path: {}, uid: {uid:?}, gid: {gid:?}, follow: {follow} }}",
                    p(path)
                )
            }
            Self::Utimens { path, atime, mtime, follow } => write!(
                f,
                "Utimens {{ path: {}, atime: {atime:?}, mtime: {mtime:?}, follow: {follow} }}",
                p(path)
            ),
            Self::Truncate { path, size } => {
                write!(f, "Truncate {{ path: {}, size: {size} }}", p(path))
            }
            Self::Stat { path } => write!(f, "Stat {{ path: {} }}", p(path)),
            Self::Lstat { path } => write!(f, "Lstat {{ path: {} }}", p(path)),
            Self::Readdir { path } => write!(f, "Readdir {{ path: {} }}", p(path)),
            Self::Setxattr { path, name, value, mode, follow } => write!(
                f,
                "Setxattr {{ path: {}, name: {}, value: [_; {}], mode: {mode:?}, follow: {follow} }}",
                p(path),
                p(name),
                value.len()
            ),
            Self::Getxattr { path, name, follow } => {
                write!(f, "Getxattr {{ path: {}, name: {}, follow: {follow} }}", p(path), p(name))
            }
            Self::Listxattr { path, follow } => {
                write!(f, "Listxattr {{ path: {}, follow: {follow} }}", p(path))
            }
            Self::Removexattr { path, name, follow } => {
                write!(
                    f,
                    "Removexattr {{ path: {}, name: {}, follow: {follow} }}",
                    p(path),
                    p(name)
                )
            }
        }
    }
}

impl fmt::Display for OpenFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.read, self.write) {
            (true, true) => "RDWR",
            (false, true) => "WRONLY",
            _ => "RDONLY",
        })?;
        let rest = [
            (self.create, "CREAT"),
            (self.exclusive, "EXCL"),
            (self.truncate, "TRUNC"),
            (self.append, "APPEND"),
            (self.directory, "DIRECTORY"),
            (self.no_follow, "NOFOLLOW"),
        ];
        rest.into_iter().filter(|(set, _)| *set).try_for_each(|(_, name)| write!(f, "|{name}"))
    }
}
