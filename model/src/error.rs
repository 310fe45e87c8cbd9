//! The errors of the model and their Linux numbers.

/// A result of the model.
pub type Result<T> = std::result::Result<T, Error>;

/// A POSIX error by its meaning.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Error {
    /// EPERM: this operation is never allowed on such an object.
    Permission,
    /// ENOENT: no such name.
    NotFound,
    /// ENXIO: no data at or after an offset, or nothing behind a special file.
    NoAddress,
    /// E2BIG: an extended attribute's value is too long.
    ArgTooLong,
    /// EBADF: not an open file, or not open for this.
    BadHandle,
    /// EACCES: permission denied.
    Access,
    /// EBUSY: the name is in use by the system (`.`, `..`, the root).
    Busy,
    /// EEXIST: the name is taken.
    Exists,
    /// EXDEV: another filesystem.
    CrossDevice,
    /// ENOTDIR: a directory was needed.
    NotDir,
    /// EISDIR: a directory was not wanted.
    IsDir,
    /// EINVAL: nonsensical arguments.
    Invalid,
    /// EFBIG: beyond the largest file.
    TooBig,
    /// ENOSPC: no space left. The model itself never runs out.
    NoSpace,
    /// EMLINK: too many links.
    LinkMax,
    /// ERANGE: a buffer is too small, or an attribute's name too long.
    Range,
    /// ENAMETOOLONG: a name or path is too long.
    NameTooLong,
    /// ENOTEMPTY: the directory has entries.
    NotEmpty,
    /// ELOOP: too many symbolic links.
    Loop,
    /// ENODATA: no such extended attribute.
    NoData,
    /// EOPNOTSUPP: not supported here.
    NotSupported,
    /// ESTALE: the node is gone.
    Stale,
}

impl Error {
    /// Every error, for a reverse mapping.
    pub const ALL: [Self; 22] = [
        Self::Permission,
        Self::NotFound,
        Self::NoAddress,
        Self::ArgTooLong,
        Self::BadHandle,
        Self::Access,
        Self::Busy,
        Self::Exists,
        Self::CrossDevice,
        Self::NotDir,
        Self::IsDir,
        Self::Invalid,
        Self::TooBig,
        Self::NoSpace,
        Self::LinkMax,
        Self::Range,
        Self::NameTooLong,
        Self::NotEmpty,
        Self::Loop,
        Self::NoData,
        Self::NotSupported,
        Self::Stale,
    ];

    /// Its number on Linux (x86-64 and arm64 agree on these).
    pub fn errno(self) -> i32 {
        match self {
            Self::Permission => 1,
            Self::NotFound => 2,
            Self::NoAddress => 6,
            Self::ArgTooLong => 7,
            Self::BadHandle => 9,
            Self::Access => 13,
            Self::Busy => 16,
            Self::Exists => 17,
            Self::CrossDevice => 18,
            Self::NotDir => 20,
            Self::IsDir => 21,
            Self::Invalid => 22,
            Self::TooBig => 27,
            Self::NoSpace => 28,
            Self::LinkMax => 31,
            Self::Range => 34,
            Self::NameTooLong => 36,
            Self::NotEmpty => 39,
            Self::Loop => 40,
            Self::NoData => 61,
            Self::NotSupported => 95,
            Self::Stale => 116,
        }
    }

    /// The error of a Linux number, if the model knows it.
    pub fn from_errno(errno: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|e| e.errno() == errno)
    }
}
