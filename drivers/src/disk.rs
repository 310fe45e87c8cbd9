//! Numbered files on a local disk, for page files and logs: the system calls.

use crate::buffers::Buffer;
use bytes::Bytes;
use rustix::fd::OwnedFd;
use rustix::fs::{FallocateFlags, Mode, OFlags};
use rustix::io::{Errno, ReadWriteFlags};
use std::io::{IoSlice, IoSliceMut};
use std::path::Path;
use std::sync::Arc;
use vellum_core::local::medium::{File, Medium, MediumError};
use vellum_core::port::page_store::Space;

/// Bytes of one write: larger ones make the kernel slower.
const WRITE_MAX: usize = 1 << 20;
/// Pieces of one write (IOV_MAX).
const PIECES_MAX: usize = 1024;

/// A directory of numbered files; other names in it are left alone.
pub(crate) struct DiskMedium {
    dir: OwnedFd,
    /// What names end with, the dot included.
    suffix: &'static str,
}

impl DiskMedium {
    pub(crate) fn open(dir: &Path, suffix: &'static str) -> Result<DiskMedium, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(DiskMedium { dir: rustix::fs::open(dir, flags, Mode::empty())?, suffix })
    }

    pub(crate) fn space(&self) -> Result<Space, MediumError> {
        let stat = rustix::fs::fstatvfs(&self.dir).map_err(medium_error)?;
        Ok(Space {
            total: stat.f_blocks.saturating_mul(stat.f_frsize),
            free: stat.f_bavail.saturating_mul(stat.f_frsize),
        })
    }

    pub(crate) fn name(&self, number: u32) -> String {
        format!("{number:08x}{}", self.suffix)
    }

    fn number(&self, name: &str) -> Option<u32> {
        let digits = name.strip_suffix(self.suffix).filter(|digits| digits.len() == 8)?;
        u32::from_str_radix(digits, 16).ok()
    }

    fn open_file(&self, number: u32, flags: OFlags) -> Result<DiskFile, MediumError> {
        let flags = flags | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let mode = Mode::RUSR | Mode::WUSR;
        let file =
            rustix::fs::openat(&self.dir, self.name(number), flags, mode).map_err(medium_error)?;
        Ok(DiskFile(Arc::new(file)))
    }
}

impl Medium for DiskMedium {
    type File = DiskFile;

    fn list(&self) -> Result<Vec<u32>, MediumError> {
        let mut numbers = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.dir).map_err(medium_error)? {
            let entry = entry.map_err(medium_error)?;
            numbers.extend(entry.file_name().to_str().ok().and_then(|name| self.number(name)));
        }
        Ok(numbers)
    }

    fn create(&self, number: u32) -> Result<DiskFile, MediumError> {
        self.open_file(number, OFlags::CREATE | OFlags::EXCL)
    }

    fn open(&self, number: u32) -> Result<DiskFile, MediumError> {
        self.open_file(number, OFlags::empty())
    }

    fn remove(&self, number: u32) -> Result<(), MediumError> {
        let flags = rustix::fs::AtFlags::empty();
        rustix::fs::unlinkat(&self.dir, self.name(number), flags).map_err(medium_error)
    }

    fn sync(&self) -> Result<(), MediumError> {
        rustix::fs::fsync(&self.dir).map_err(medium_error)
    }
}

/// An open file.
#[derive(Clone)]
pub(crate) struct DiskFile(Arc<OwnedFd>);

impl DiskFile {
    /// Reads exactly `len` bytes if they are in the page cache.
    pub(crate) fn read_cached(&self, offset: u64, len: usize) -> Option<Bytes> {
        let mut buffer = Buffer::new(len);
        let mut slices = [IoSliceMut::new(buffer.as_mut())];
        let read = rustix::io::preadv2(&self.0, &mut slices, offset, ReadWriteFlags::NOWAIT);
        (read == Ok(len)).then(|| buffer.freeze())
    }
}

impl DiskFile {
    /// Starts reading into the page cache.
    pub(crate) fn will_need(&self, offset: u64, len: u64) {
        if let Some(len) = std::num::NonZeroU64::new(len) {
            // Advice that is not taken costs time and nothing else.
            let _ = rustix::fs::fadvise(&self.0, offset, Some(len), rustix::fs::Advice::WillNeed);
        }
    }
}

impl File for DiskFile {
    fn len(&self) -> Result<u64, MediumError> {
        let stat = rustix::fs::fstat(&self.0).map_err(medium_error)?;
        u64::try_from(stat.st_size).map_err(|_| MediumError::Io)
    }

    fn read(&self, offset: u64, len: usize) -> Result<Bytes, MediumError> {
        let mut buffer = Buffer::new(len);
        let mut read = 0;
        while read < len {
            match rustix::io::pread(&self.0, &mut buffer.as_mut()[read..], offset + read as u64) {
                Ok(0) => break,
                Ok(more) => read += more,
                Err(Errno::INTR) => {}
                Err(error) => return Err(medium_error(error)),
            }
        }
        buffer.truncate(read);
        Ok(buffer.freeze())
    }

    fn write(&self, offset: u64, pieces: &[Bytes]) -> Result<(), MediumError> {
        let mut at = offset;
        let mut rest: Vec<&[u8]> = pieces.iter().map(|piece| &piece[..]).collect();
        rest.retain(|piece| !piece.is_empty());
        rest.reverse();
        while !rest.is_empty() {
            let mut room = WRITE_MAX;
            let mut slices = Vec::with_capacity(rest.len().min(PIECES_MAX));
            for piece in rest.iter().rev().take(PIECES_MAX) {
                let len = piece.len().min(room);
                slices.push(IoSlice::new(&piece[..len]));
                room -= len;
                if room == 0 {
                    break;
                }
            }
            match rustix::io::pwritev(&self.0, &slices, at) {
                Ok(0) => return Err(MediumError::Io),
                Ok(written) => {
                    at += written as u64;
                    advance(&mut rest, written);
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(medium_error(error)),
            }
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), MediumError> {
        rustix::fs::fdatasync(&self.0).map_err(medium_error)
    }

    fn punch(&self, offset: u64, len: u64) -> Result<(), MediumError> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match rustix::fs::fallocate(&self.0, flags, offset, len) {
            // The file goes when all of it is dead.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            done => done.map_err(medium_error),
        }
    }

    fn truncate(&self, len: u64) -> Result<(), MediumError> {
        rustix::fs::ftruncate(&self.0, len).map_err(medium_error)
    }
}

/// Drops `written` bytes from the pieces, the first of which is the last of the list.
fn advance(rest: &mut Vec<&[u8]>, mut written: usize) {
    while let Some(piece) = rest.last_mut() {
        if written < piece.len() {
            *piece = &piece[written..];
            return;
        }
        written -= piece.len();
        rest.pop();
    }
}

fn medium_error(error: Errno) -> MediumError {
    match error {
        Errno::NOSPC | Errno::DQUOT => MediumError::NoSpace,
        error => {
            tracing::error!(%error, "a call on a file of the volume failed");
            MediumError::Io
        }
    }
}
