//! The inode table: what the kernel knows, what is open, what is buffered; and the open files.

use super::file::FileState;
use crate::data::read_ahead::ReadAhead;
use crate::error::{FsError, FsResult};
use crate::id::{Handle, Ino, RequestId};
use crate::port::kernel::Request;
use crate::port::meta_kv::Version;
use crate::time::WallTime;
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::ops::Range;

/// One inode that the kernel or a handle knows.
#[derive(Default)]
pub(super) struct Inode {
    /// Lookups handed out and not given back.
    pub(super) lookups: u64,
    /// Open handles.
    pub(super) opens: u32,
    /// Tasks that work on it and must find it again.
    pub(super) pins: u32,
    /// Its last name is gone: it is reclaimed when nothing holds it any more.
    pub(super) unlinked: bool,
    /// A truncate (or the like) is under way: reads and writes wait.
    pub(super) exclusive: bool,
    /// Data, while it is open or has buffered writes.
    pub(super) file: Option<Box<FileState>>,
    /// Requests that wait for a load, for room in the buffer, or for a truncate.
    pub(super) parked: Vec<(RequestId, Request)>,
    /// The version of the last change of this inode that went through this mount: attributes read
    /// before it are stale.
    pub(super) changed: Version,
    /// The next read is due to move its access time.
    pub(super) atime_due: bool,
    /// The access time on its way to the store: shown already, because the kernel keeps what it is told.
    pub(super) atime_coming: Option<WallTime>,
    /// What was read before this version may be older than what was forgotten of it.
    pub(super) since: Version,
    /// What of its core is known.
    pub(super) facts: Option<Facts>,
    /// Changes under way that may give it an extended attribute.
    pub(super) xattrs_coming: u32,
    /// The version at which its last name went.
    pub(super) unnamed: Version,
    /// Its set-id bits and capabilities are being taken; writes wait.
    pub(super) shedding: bool,
    /// Notifications under way that the kernel forget its mode, which lost set-id bits.
    pub(super) telling: u32,
}

/// What of an inode's core is worth knowing without a read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    /// The version at which it was true.
    pub(super) version: Version,
    /// Type and permission bits.
    pub(super) mode: u32,
    /// Bits of [`crate::meta::record::flag`].
    pub(super) flags: u16,
}

/// An open file or directory.
#[derive(Clone, Copy, Debug)]
pub(super) struct OpenFile {
    pub(super) ino: Ino,
    /// Write-back errors of the inode up to this number were reported here.
    pub(super) errors_seen: u64,
    pub(super) read_ahead: ReadAhead,
}

/// All inodes and handles of a mount.
#[derive(Default)]
pub(super) struct Inodes {
    table: BTreeMap<Ino, Inode>,
    /// The newest change of an inode that is not in the table any more, its end included.
    pub(super) forgotten: Version,
    /// Inodes with buffered writes.
    dirty: BTreeSet<Ino>,
    handles: BTreeMap<Handle, OpenFile>,
    next_handle: u64,
}

impl Inodes {
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    pub(super) fn handles(&self) -> usize {
        self.handles.len()
    }

    pub(super) fn get(&self, ino: Ino) -> Option<&Inode> {
        self.table.get(&ino)
    }

    pub(super) fn get_mut(&mut self, ino: Ino) -> Option<&mut Inode> {
        self.table.get_mut(&ino)
    }

    /// The inode's entry, made if there is none.
    pub(super) fn enter(&mut self, ino: Ino) -> &mut Inode {
        let since = self.forgotten;
        self.table.entry(ino).or_insert_with(|| Inode { changed: since, since, ..Inode::default() })
    }

    pub(super) fn file(&self, ino: Ino) -> Option<&FileState> {
        self.table.get(&ino)?.file.as_deref()
    }

    pub(super) fn file_mut(&mut self, ino: Ino) -> Option<&mut FileState> {
        self.table.get_mut(&ino)?.file.as_deref_mut()
    }

    /// Notes whether an inode has buffered writes.
    pub(super) fn mark_dirty(&mut self, ino: Ino, dirty: bool) {
        if dirty {
            self.dirty.insert(ino);
        } else {
            self.dirty.remove(&ino);
        }
    }

    /// Files with buffered writes.
    pub(super) fn dirty_files(&self) -> impl Iterator<Item = (Ino, &FileState)> {
        self.dirty.iter().filter_map(|ino| Some((*ino, self.file(*ino)?)))
    }

    /// Removed inodes that something still holds.
    pub(super) fn unlinked(&self) -> usize {
        self.table.values().filter(|inode| inode.unlinked).count()
    }

    /// Whether a removed inode is only known to the kernel still, which is about to forget it.
    pub(super) fn any_leaving(&self) -> bool {
        self.table.values().any(|inode| inode.unlinked && inode.opens == 0)
    }

    /// Every entry with its number.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Ino, &Inode)> {
        self.table.iter().map(|(ino, inode)| (*ino, inode))
    }

    /// Removes the entry if nothing holds it; says whether the inode waits for reclaim.
    pub(super) fn release_unheld(&mut self, ino: Ino) -> Option<bool> {
        let inode = self.table.get_mut(&ino)?;
        if inode.opens == 0
            && inode.pins == 0
            && let Some(file) = &inode.file
            && (file.is_clean() || (inode.unlinked && inode.lookups == 0))
            && !file.is_committing()
        {
            inode.file = None;
        }
        let held = inode.lookups > 0
            || (inode.opens > 0 && !planted!(ReclaimedOpen))
            || inode.pins > 0
            || inode.file.is_some()
            || inode.exclusive
            || !inode.parked.is_empty();
        if held {
            return None;
        }
        self.table.remove(&ino).map(|inode| inode.unlinked)
    }

    /// Opens a handle.
    pub(super) fn open(&mut self, ino: Ino) -> Handle {
        self.next_handle += 1;
        let handle = Handle(self.next_handle);
        let inode = self.enter(ino);
        inode.opens += 1;
        let errors_seen = inode.file.as_ref().map_or(0, |f| f.errors.count);
        let read_ahead = ReadAhead::default();
        self.handles.insert(handle, OpenFile { ino, errors_seen, read_ahead });
        handle
    }

    /// Closes a handle.
    pub(super) fn close(&mut self, handle: Handle) -> FsResult<Ino> {
        let open = self.handles.remove(&handle).ok_or(FsError::BadHandle)?;
        if let Some(inode) = self.table.get_mut(&open.ino) {
            inode.opens -= 1;
        }
        Ok(open.ino)
    }

    /// An open handle, if it is one of this inode.
    pub(super) fn handle(&self, ino: Ino, handle: Handle) -> FsResult<OpenFile> {
        self.handles.get(&handle).filter(|h| h.ino == ino).copied().ok_or(FsError::BadHandle)
    }

    /// An open handle of whatever inode.
    pub(super) fn any_handle(&self, handle: Handle) -> FsResult<OpenFile> {
        self.handles.get(&handle).copied().ok_or(FsError::BadHandle)
    }

    /// A read arrived through a handle. Returns what is worth fetching ahead.
    pub(super) fn read_ahead(&mut self, handle: Handle, range: &Range<u64>) -> Option<Range<u64>> {
        self.handles.get_mut(&handle)?.read_ahead.read(range)
    }

    /// The write-back error that this handle has not reported yet, once.
    pub(super) fn take_error(&mut self, handle: Handle) -> FsResult<()> {
        let Some(open) = self.handles.get_mut(&handle) else { return Err(FsError::BadHandle) };
        let Some(file) = self.table.get(&open.ino).and_then(|i| i.file.as_deref()) else {
            return Ok(());
        };
        if file.errors.count > open.errors_seen {
            open.errors_seen = file.errors.count;
            return Err(file.errors.last.unwrap_or(FsError::WriteBack));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
