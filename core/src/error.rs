//! Errors of the filesystem, and the one place that knows errno.

use crate::port::meta_kv::KvError;
use crate::port::page_store::PageError;

/// Why an operation failed. The caller sees [`FsError::errno`]; only [`FsError::Kv`] may be retried,
/// and only by `meta::txn`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FsError {
    /// No such name.
    NotFound,
    /// The name is taken.
    Exists,
    /// A directory was needed.
    NotDirectory,
    /// Not possible with a directory.
    IsDirectory,
    /// The directory has entries.
    NotEmpty,
    /// Arguments that make no sense, or a directory moved into itself.
    Invalid,
    /// A name above NAME_MAX or a target above PATH_MAX.
    NameTooLong,
    /// More names than LINK_MAX.
    TooManyLinks,
    /// Beyond the largest file size.
    FileTooLarge,
    /// The inode behind a number is gone; the kernel looks the name up again.
    Stale,
    /// A handle that is not open.
    BadHandle,
    /// Not permitted to anybody.
    NotPermitted,
    /// The mount is read-only.
    ReadOnly,
    /// The volume or its disk is full.
    NoSpace,
    /// Not supported for this object.
    NotSupported,
    /// No such operation here.
    NoSystemCall,
    /// No such device or address (SEEK_DATA beyond the end).
    NoSuchAddress,
    /// No such extended attribute.
    NoAttribute,
    /// The result does not fit the caller's buffer.
    Range,
    /// A value above the largest one.
    TooBig,
    /// Not for this object, whoever asks (a default ACL of what is no directory).
    Denied,
    /// A signal arrived before the operation took effect.
    Interrupted,
    /// It is being done already.
    Busy,
    /// The mount is going away.
    ShuttingDown,
    /// Bytes on disk are damaged or unreadable; a report names file and range.
    Damaged,
    /// A write-back failed earlier; reported once per handle.
    WriteBack,
    /// The session was declared dead; nothing of it commits any more.
    Fenced,
    /// The metadata store failed in a way that a new attempt may mend. Never leaves `meta::txn`.
    Kv(KvError),
}

impl FsError {
    /// The Linux errno the caller sees, as a positive number.
    pub fn errno(self) -> i32 {
        match self {
            FsError::NotPermitted => 1,
            FsError::NotFound => 2,
            FsError::Interrupted => 4,
            FsError::Busy => 16,
            FsError::Damaged | FsError::WriteBack | FsError::Fenced | FsError::Kv(_) => 5,
            FsError::NoSuchAddress => 6,
            FsError::TooBig => 7,
            FsError::BadHandle => 9,
            FsError::Denied => 13,
            FsError::Exists => 17,
            FsError::NotDirectory => 20,
            FsError::IsDirectory => 21,
            FsError::Invalid => 22,
            FsError::FileTooLarge => 27,
            FsError::NoSpace => 28,
            FsError::ReadOnly => 30,
            FsError::TooManyLinks => 31,
            FsError::Range => 34,
            FsError::NameTooLong => 36,
            FsError::NoSystemCall => 38,
            FsError::NotEmpty => 39,
            FsError::NoAttribute => 61,
            FsError::NotSupported => 95,
            FsError::ShuttingDown => 107,
            FsError::Stale => 116,
        }
    }
}

impl From<KvError> for FsError {
    fn from(error: KvError) -> FsError {
        match error {
            KvError::NoSpace => FsError::NoSpace,
            KvError::Corrupt => FsError::Damaged,
            other => FsError::Kv(other),
        }
    }
}

impl From<PageError> for FsError {
    fn from(error: PageError) -> FsError {
        match error {
            PageError::NoSpace => FsError::NoSpace,
            PageError::Missing
            | PageError::Corrupt { .. }
            | PageError::Io
            | PageError::Unavailable => FsError::Damaged,
        }
    }
}

/// The result of an operation.
pub type FsResult<T> = Result<T, FsError>;
