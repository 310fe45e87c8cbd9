//! System calls as data: what to do, and what came out. Debug prints an operation on one line, for a
//! person who reads a failing run; the run itself is replayed from its seed.

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
///
/// A call that names one existing node takes `@3` for a path, too: the file that is open in slot 3, with a
/// name or without, as `/proc/self/fd` leads to it. So `chmod` is also `fchmod`, and the like.
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
    /// `O_TMPFILE | O_RDWR` in a directory; `exclusive` is `O_EXCL`.
    Tmpfile {
        slot: u8,
        path: Vec<u8>,
        exclusive: bool,
        perm: u16,
    },
    /// `linkat` of an open file by way of `/proc/self/fd`.
    LinkSlot {
        slot: u8,
        to: Vec<u8>,
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
    /// copy_file_range(2) from one open file to another, or within one.
    CopyRange {
        from: u8,
        offset: u64,
        to: u8,
        to_offset: u64,
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
    /// `follow` is `AT_SYMLINK_FOLLOW`, for a link in `from`.
    Link {
        from: Vec<u8>,
        to: Vec<u8>,
        follow: bool,
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
    /// Tells the longest name.
    Statfs {
        path: Vec<u8>,
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

/// As derived, but paths and names as text, permissions in octal, and data by its length.
impl fmt::Debug for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open { .. }
            | Self::Close { .. }
            | Self::Tmpfile { .. }
            | Self::LinkSlot { .. }
            | Self::Pread { .. }
            | Self::Pwrite { .. }
            | Self::Fstat { .. }
            | Self::Ftruncate { .. }
            | Self::Fallocate { .. }
            | Self::CopyRange { .. }
            | Self::SeekData { .. }
            | Self::SeekHole { .. } => self.fmt_on_slot(f),
            Self::Setxattr { .. }
            | Self::Getxattr { .. }
            | Self::Listxattr { .. }
            | Self::Removexattr { .. } => self.fmt_on_xattr(f),
            _ => self.fmt_on_path(f),
        }
    }
}

impl Op {
    fn fmt_on_slot(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open { slot, path, flags, perm } => {
                let path = text(path);
                write!(f, "Open {{ slot: {slot}, path: {path}, flags: {flags}, perm: {perm:#o} }}")
            }
            Self::Close { slot } => write!(f, "Close {{ slot: {slot} }}"),
            Self::Tmpfile { slot, path, exclusive, perm } => {
                let path = text(path);
                write!(
                    f,
                    "Tmpfile {{ slot: {slot}, path: {path}, exclusive: {exclusive}, perm: {perm:#o} }}"
                )
            }
            Self::LinkSlot { slot, to } => {
                write!(f, "LinkSlot {{ slot: {slot}, to: {} }}", text(to))
            }
            Self::Pread { slot, offset, len } => {
                write!(f, "Pread {{ slot: {slot}, offset: {offset}, len: {len} }}")
            }
            Self::Pwrite { slot, offset, data } => {
                let data = length(data);
                write!(f, "Pwrite {{ slot: {slot}, offset: {offset}, data: {data} }}")
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
            Self::CopyRange { from, offset, to, to_offset, len } => {
                write!(f, "CopyRange {{ from: {from}, offset: {offset}, to: {to}, ")?;
                write!(f, "to_offset: {to_offset}, len: {len} }}")
            }
            Self::SeekData { slot, offset } => {
                write!(f, "SeekData {{ slot: {slot}, offset: {offset} }}")
            }
            Self::SeekHole { slot, offset } => {
                write!(f, "SeekHole {{ slot: {slot}, offset: {offset} }}")
            }
            _ => unreachable!("dispatched by fmt"),
        }
    }

    fn fmt_on_path(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields = Fields(f);
        match self {
            Self::Mkdir { path, perm } => {
                fields.all("Mkdir", path, format_args!("perm: {perm:#o}"))
            }
            Self::Mknod { path, kind, perm, rdev } => fields.all(
                "Mknod",
                path,
                format_args!("kind: {kind:?}, perm: {perm:#o}, rdev: {rdev}"),
            ),
            Self::Rmdir { path } => fields.path("Rmdir", path),
            Self::Unlink { path } => fields.path("Unlink", path),
            Self::Rename { from, to, flags } => fields.pair(
                "Rename",
                ("from", from),
                ("to", to),
                format_args!(", flags: {flags:?}"),
            ),
            Self::Link { from, to, follow } => {
                fields.pair("Link", ("from", from), ("to", to), format_args!(", follow: {follow}"))
            }
            Self::Symlink { target, path } => {
                fields.pair("Symlink", ("target", target), ("path", path), format_args!(""))
            }
            Self::Readlink { path } => fields.path("Readlink", path),
            Self::Chmod { path, perm } => {
                fields.all("Chmod", path, format_args!("perm: {perm:#o}"))
            }
            Self::Chown { path, uid, gid, follow } => {
                let rest = format_args!("uid: {uid:?}, gid: {gid:?}, follow: {follow}");
                fields.all("Chown", path, rest)
            }
            Self::Utimens { path, atime, mtime, follow } => {
                let rest = format_args!("atime: {atime:?}, mtime: {mtime:?}, follow: {follow}");
                fields.all("Utimens", path, rest)
            }
            Self::Truncate { path, size } => {
                fields.all("Truncate", path, format_args!("size: {size}"))
            }
            Self::Statfs { path } => fields.path("Statfs", path),
            Self::Stat { path } => fields.path("Stat", path),
            Self::Lstat { path } => fields.path("Lstat", path),
            Self::Readdir { path } => fields.path("Readdir", path),
            _ => unreachable!("dispatched by fmt"),
        }
    }

    fn fmt_on_xattr(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields = Fields(f);
        match self {
            Self::Setxattr { path, name, value, mode, follow } => {
                let (name, value) = (text(name), length(value));
                let rest =
                    format_args!("name: {name}, value: {value}, mode: {mode:?}, follow: {follow}");
                fields.all("Setxattr", path, rest)
            }
            Self::Getxattr { path, name, follow } => {
                fields.all("Getxattr", path, format_args!("name: {}, follow: {follow}", text(name)))
            }
            Self::Listxattr { path, follow } => {
                fields.all("Listxattr", path, format_args!("follow: {follow}"))
            }
            Self::Removexattr { path, name, follow } => fields.all(
                "Removexattr",
                path,
                format_args!("name: {}, follow: {follow}", text(name)),
            ),
            _ => unreachable!("dispatched by fmt"),
        }
    }
}

/// Writes the fields of a call on paths.
struct Fields<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl Fields<'_, '_> {
    fn path(&mut self, call: &str, path: &[u8]) -> fmt::Result {
        write!(self.0, "{call} {{ path: {} }}", text(path))
    }

    fn all(&mut self, call: &str, path: &[u8], rest: fmt::Arguments<'_>) -> fmt::Result {
        write!(self.0, "{call} {{ path: {}, {rest} }}", text(path))
    }

    fn pair(
        &mut self,
        call: &str,
        first: (&str, &[u8]),
        second: (&str, &[u8]),
        rest: fmt::Arguments<'_>,
    ) -> fmt::Result {
        let (one, two) = (text(first.1), text(second.1));
        write!(self.0, "{call} {{ {}: {one}, {}: {two}{rest} }}", first.0, second.0)
    }
}

fn text(bytes: &[u8]) -> String {
    format!("\"{}\"", bytes.escape_ascii())
}

fn length(bytes: &[u8]) -> String {
    match bytes {
        [] => "[]".to_owned(),
        [first, ..] => format!("[{first}, ..; {}]", bytes.len()),
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
