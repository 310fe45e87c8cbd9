//! What page files and logs ask of a medium: a directory of numbered files.

use alloc::vec::Vec;
use bytes::Bytes;

/// A directory of numbered files.
pub trait Medium {
    /// An open file. Clones share it.
    type File: File;

    /// Numbers of the files there are, in any order.
    fn list(&self) -> Result<Vec<u32>, MediumError>;
    /// Creates a file that must not exist. It survives a crash after [`Medium::sync`].
    fn create(&self, number: u32) -> Result<Self::File, MediumError>;
    /// Opens a file.
    fn open(&self, number: u32) -> Result<Self::File, MediumError>;
    /// Removes a file. Open ones stay readable.
    fn remove(&self, number: u32) -> Result<(), MediumError>;
    /// Makes created files survive a crash, as names; their content needs [`File::sync`].
    fn sync(&self) -> Result<(), MediumError>;
}

/// An open file. Several threads may read and write disjoint ranges at once.
pub trait File: Clone {
    /// Its length.
    fn len(&self) -> Result<u64, MediumError>;
    /// Exactly `len` bytes at `offset`, or fewer at the end of the file.
    fn read(&self, offset: u64, len: usize) -> Result<Bytes, MediumError>;
    /// Writes all pieces one behind the other, from `offset`.
    fn write(&self, offset: u64, pieces: &[Bytes]) -> Result<(), MediumError>;
    /// Makes everything written before durable. After a failure nothing is known about what was written
    /// since the last success.
    fn sync(&self) -> Result<(), MediumError>;
    /// Frees the blocks of a range; it reads as zeros afterwards. May do nothing.
    fn punch(&self, offset: u64, len: u64) -> Result<(), MediumError>;
    /// Cuts the file.
    fn truncate(&self, len: u64) -> Result<(), MediumError>;

    /// Whether it has no bytes.
    fn is_empty(&self) -> Result<bool, MediumError> {
        Ok(self.len()? == 0)
    }
}

/// Why the medium did not do what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediumError {
    /// It is full.
    NoSpace,
    /// It failed.
    Io,
}
