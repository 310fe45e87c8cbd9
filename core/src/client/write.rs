//! write: bytes go into the write buffer, and the answer goes out.

use super::{Client, Mounted};
use crate::error::FsError;
use crate::id::{Ino, RequestId};
use crate::limits::{FILE_SIZE_MAX, REGION_SIZE, WRITE_BUFFER_MAX};
use crate::port::Point;
use crate::port::kernel::{Caller, Operation, Reply, Request};
use core::ops::Range;

impl Client {
    /// FUSE_WRITE.
    ///
    /// Waits only for a first load, a truncate under way, privileges that go, or memory. An append
    /// takes place at the end of the file as this machine knows it, whatever offset the kernel believes
    /// in; a write-back of mapped pages never appends.
    pub(super) fn write(&mut self, mounted: Mounted, id: RequestId, caller: Caller, op: Operation) {
        let Operation::Write { ino, handle, offset, ref data, flags } = op else { return };
        if let Err(error) = self.inodes.handle(ino, handle) {
            return self.fail(id, error);
        }
        let (len, data) = (data.len() as u64, data.clone());
        if len == 0 {
            return self.reply(id, Reply::Written(0), Point::Step);
        }
        let request = Request { caller, op };
        let inode = self.inodes.enter(ino);
        if inode.exclusive {
            return inode.parked.push((id, request));
        }
        let Some(size) = inode.file.as_deref().and_then(|f| f.size()) else {
            return self.load(mounted, ino, (id, request));
        };
        if self.must_shed(ino, flags.kill_suidgid) && !planted!(KeptSetId) {
            return self.shed(mounted, ino, flags.kill_suidgid, (id, request));
        }
        if flags.kill_suidgid && !flags.from_cache && self.is_mode_untold(ino) {
            self.inodes.enter(ino).parked.push((id, request));
            return;
        }
        let appends = flags.append && !flags.from_cache && !planted!(AppendAtOffset);
        let offset = if appends { size } else { offset };
        if offset.checked_add(len).is_none_or(|end| end > FILE_SIZE_MAX) {
            return self.fail(id, FsError::FileTooLarge);
        }
        if !self.has_room(ino, len) {
            return self.wait_for_room(ino, id, request);
        }
        let range = offset..offset + len;
        let Some(fresh) = self.fresh(&mounted, ino, &range, || (id, request.clone())) else {
            return;
        };
        if !self.fits(fresh) {
            return self.full(id, request);
        }
        self.reserve(ino, fresh);
        let now = self.now;
        let Some(inode) = self.inodes.get_mut(ino) else { return };
        inode.atime_due = true;
        let Some(file) = inode.file.as_deref_mut() else { return };
        let before = file.buffer.bytes();
        let mtime = file.write_time(now.wall);
        file.buffer.write(now.mono, offset, data, mtime);
        file.wrote();
        if file.buffer.wants_seal() {
            file.buffer.seal();
        }
        let (after, sealed) =
            (file.buffer.bytes(), file.buffer.sealed().count() > file.pipeline.len());
        self.dirty = self.dirty + after - before;
        self.inodes.mark_dirty(ino, true);
        self.reply(id, Reply::Written(len as u32), Point::Step);
        self.arm_flush();
        self.load_under(mounted, ino, range);
        if sealed {
            self.advance_flush(ino);
        }
    }

    /// The flush of what was written will need to know what it covers, and so does stat.
    fn load_under(&mut self, mounted: Mounted, ino: Ino, range: Range<u64>) {
        for region in range.start / REGION_SIZE..=(range.end - 1) / REGION_SIZE {
            let start = region * REGION_SIZE;
            let Some(file) = self.inodes.file_mut(ino) else { return };
            if let Some((region, true)) = file.missing_region(&(start..start + 1)) {
                self.load_region(mounted.clone(), ino, region);
            }
        }
    }

    /// Whether the file's buffer and the mount's quota take so many bytes more.
    fn has_room(&self, ino: Ino, len: u64) -> bool {
        let buffered = self.inodes.file(ino).map_or(0, |f| f.buffer.bytes());
        // A file that holds nothing may always write: else a quota below one request would stop it.
        (buffered == 0 || buffered + len <= WRITE_BUFFER_MAX + len.max(BUFFER_SLACK))
            && (self.dirty == 0 || self.dirty + len <= self.config.dirty_max)
    }

    fn wait_for_room(&mut self, ino: Ino, id: RequestId, request: Request) {
        probe!("write-waits-for-memory");
        if let Some(error) = self.flush_trouble {
            self.start_all_flushes();
            return self.fail(id, error);
        }
        let buffered = self.inodes.file(ino).map_or(0, |f| f.buffer.bytes());
        if buffered + request.op.payload() > WRITE_BUFFER_MAX {
            self.inodes.enter(ino).parked.push((id, request));
        } else {
            self.parked.push((id, request));
        }
        self.start_all_flushes();
    }
}

/// Bookkeeping of extents counts as held memory; it must not make the fourth sub-buffer wait.
const BUFFER_SLACK: u64 = 1 << 20;
