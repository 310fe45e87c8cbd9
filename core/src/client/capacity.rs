//! How much the volume may hold: what is used, what is promised to buffered writes, and what there is to
//! do when nothing more fits.
//!
//! A byte that a write makes visible is reserved when the write is accepted, and becomes used when its
//! flush commits; a byte that exists already costs nothing. So what was accepted always fits the limit.
//! The disk is another matter: it is asked when bytes are written out.

use super::file::Missing;
use super::{Client, Mounted};
use crate::error::FsError;
use crate::id::{Ino, RequestId};
use crate::meta::ops::flush::Flushed;
use crate::port::control::Limit;
use crate::port::kernel::{Request, StatFs};
use crate::port::page_store::Space;
use crate::time::Instant;
use core::ops::Range;
use core::time::Duration;

/// How long a request waits for the space of files that were removed.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// How often it looks.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// As much of the time since a request looked last counts. If it was more, the process stood still or the
/// store was away, and nothing was reclaimed either.
const LOOK_MAX: Duration = Duration::from_millis(100);

/// A request that waits for room.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wait {
    /// For how long, as far as that counts.
    waited: Duration,
    /// When it looked last.
    looked: Instant,
}

impl Client {
    /// How many bytes of a range a write would make visible; 0 without a limit. `None`: the request waits
    /// until that can be told.
    pub(super) fn fresh(
        &mut self,
        mounted: &Mounted,
        ino: Ino,
        range: &Range<u64>,
        parked: impl FnOnce() -> (RequestId, Request),
    ) -> Option<u64> {
        if self.limit.bytes.is_none() {
            return Some(0);
        }
        let inode = self.inodes.enter(ino);
        let missing = match inode.file.get_or_insert_default().fresh(range) {
            Ok(fresh) => return Some(fresh),
            Err(missing) => missing,
        };
        inode.parked.push(parked());
        match missing {
            Missing::Region(region, true) => self.load_region(mounted.clone(), ino, region),
            Missing::Attrs => self.begin_load(mounted.clone(), ino),
            Missing::Region(_, false) | Missing::Regions => {}
        }
        None
    }

    /// Whether the volume may hold so many bytes more.
    pub(super) fn fits(&self, fresh: u64) -> bool {
        let taken = self.taken().saturating_add(fresh);
        fresh == 0 || self.limit.bytes.is_none_or(|most| taken <= most)
    }

    /// Bytes in use and those that are promised.
    fn taken(&self) -> u64 {
        (self.used.lo.max(0) as u64).saturating_add(self.reserved)
    }

    /// Promises bytes to a file's buffered writes.
    pub(super) fn reserve(&mut self, ino: Ino, fresh: u64) {
        if let Some(file) = self.inodes.file_mut(ino) {
            file.reserved += fresh;
            self.reserved += fresh;
        }
    }

    /// Bytes of a file are used now, or nothing of it is buffered any more.
    pub(super) fn unreserve(&mut self, ino: Ino, bytes: u64) {
        let Some(file) = self.inodes.file_mut(ino) else { return };
        let all = file.buffer.is_empty();
        let released = if all { file.reserved } else { file.reserved.min(bytes) };
        file.reserved -= released;
        self.reserved -= released;
    }

    /// There is no room: the request fails, unless removed files are about to give some back.
    pub(super) fn full(&mut self, id: RequestId, request: Request) {
        let hope = self.reclaim_is_busy() || self.inodes.any_leaving();
        let looked = self.now.mono;
        let new = Wait { waited: Duration::ZERO, looked };
        let wait = self.waits.entry(id).or_insert(new);
        wait.waited += looked.since(wait.looked).min(LOOK_MAX);
        wait.looked = looked;
        if hope && wait.waited < WAIT_MAX {
            probe!("full-waits-for-reclaim");
            self.parked.push((id, request));
            return self.arm_room(LOOK_AGAIN);
        }
        probe!("volume-full");
        self.fail(id, FsError::NoSpace);
    }

    /// statfs(2) of the volume: its limits where it has some, else those of its disk.
    pub(super) fn statfs_of(&self, disk: Space) -> StatFs {
        let inodes = self.used.hi.max(0) as u64;
        let Limit { bytes, inodes: inodes_max } = self.limit;
        let total = bytes.unwrap_or(disk.total);
        let left = bytes.map_or(disk.free, |most| most.saturating_sub(self.taken()));
        let free = left.min(disk.free) / BLOCK;
        // Inodes cost nothing but space in the metadata store.
        let files_free = inodes_max.map_or(free, |most| most.saturating_sub(inodes));
        StatFs {
            block_size: BLOCK as u32,
            blocks: total / BLOCK,
            blocks_free: free,
            files: inodes + files_free,
            files_free,
            name_max: crate::limits::NAME_MAX as u32,
        }
    }
}

const BLOCK: u64 = 4096;

/// Bytes that a flush made visible.
pub(super) fn grown(flushed: &Flushed) -> u64 {
    match flushed {
        Flushed::Extents { grown, .. } => (*grown).max(0) as u64,
        Flushed::Inline { .. } | Flushed::Gone => 0,
    }
}
