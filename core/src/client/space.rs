//! fallocate, SEEK_DATA and SEEK_HOLE, copy_file_range.

use super::file::Missing;
use super::tasks::done;
use super::{Client, Mounted};
use crate::data::page_io::{failure, page};
use crate::error::{FsError, FsResult};
use crate::id::{Handle, Ino, RequestId};
use crate::limits::COPY_MAX;
use crate::meta::ops::copy_range::{Copied, CopyRange, copy_range};
use crate::meta::ops::fallocate::{Mode, fallocate, range};
use crate::meta::ops::load::regions;
use crate::meta::ops::patch::Patched;
use crate::meta::ops::privilege::Modified;
use crate::meta::txn::transact;
use crate::port::Point;
use crate::port::kernel::{Caller, Operation, Reply, Request, Whence};
use crate::port::page_store::{PageReply, PageRequest};
use crate::task::Cx;
use core::ops::Range;

impl Client {
    /// FUSE_FALLOCATE. Like a truncate it comes after every buffered write and has the inode to itself:
    /// else a later flush would bring erased bytes back.
    pub(super) fn fallocate(
        &mut self,
        mounted: Mounted,
        id: RequestId,
        caller: Caller,
        op: Operation,
    ) {
        let Operation::Fallocate { ino, handle, offset, len, mode } = op else { return };
        let checked = self.inodes.handle(ino, handle).and_then(|_| range(offset, len));
        let (range, mode) = match checked.and_then(|range| Ok((range, Mode::of(mode)?))) {
            Ok(checked) => checked,
            Err(error) => return self.fail(id, error),
        };
        let waits = !planted!(OvertakenPunch);
        let request = Request { caller, op };
        if !mode.erases && !self.fits(self.fresh_at_most(ino, &range)) {
            return self.full(id, request);
        }
        if !self.begin_exclusive(&[ino], id, request) {
            return;
        }
        let modified = self.modifies(caller);
        self.spawn(id, move |cx| async move {
            let mut ready = if waits { cx.settle(ino).await.map(|_| ()) } else { Ok(()) };
            if ready.is_ok() && !mode.erases {
                ready = has_space(&cx, &range).await;
            }
            let (result, point) = match ready {
                Ok(()) => transact!(&cx, &mounted.volume, |txn| {
                    fallocate(txn, ino, mode, range.clone(), modified).await
                }),
                Err(error) => (Err(error), Point::Step),
            };
            done(move |client| {
                client.note(point);
                match result {
                    Ok(patched) => {
                        client.data_changed(ino, &patched, point);
                        client.reply_told(id, (ino, patched.mode_changed), Reply::Done, point);
                    }
                    Err(error) => client.reply(id, Reply::Error(error), point),
                }
                client.end_exclusive(&[ino]);
            })
        });
    }

    /// FUSE_COPY_FILE_RANGE.
    pub(super) fn copy_range(
        &mut self,
        mounted: Mounted,
        id: RequestId,
        caller: Caller,
        op: Operation,
    ) {
        let Operation::CopyRange { ino, handle, offset, to_ino, to_handle, to_offset, len } = op
        else {
            return;
        };
        let handles = self.inodes.handle(ino, handle);
        if let Err(error) = handles.and_then(|_| self.inodes.handle(to_ino, to_handle)) {
            return self.fail(id, error);
        }
        let request = Request { caller, op };
        let fresh =
            self.fresh_of_copy(&CopyRange { from: ino, offset, to: to_ino, to_offset, len });
        if !self.fits(fresh) {
            return self.full(id, request);
        }
        if !self.begin_exclusive(&[ino, to_ino], id, request) {
            return;
        }
        self.reserved += fresh;
        let copy = CopyRange { from: ino, offset, to: to_ino, to_offset, len };
        let modified = self.modifies(caller);
        self.spawn(id, move |cx| async move {
            let source = if planted!(UnsettledCopy) { Ok(false) } else { cx.settle(ino).await };
            let settled = match source {
                Ok(_) => cx.settle(to_ino).await,
                Err(error) => Err(error),
            };
            let (result, point) = match settled {
                Ok(_) => {
                    transact!(&cx, &mounted.volume, |txn| copy_range(txn, &copy, modified).await)
                }
                Err(error) => (Err(error), Point::Step),
            };
            done(move |client| {
                client.note(point);
                client.reserved -= fresh;
                match result {
                    Ok(Copied { len, target }) => {
                        if let Some(patched) = &target {
                            client.data_changed(to_ino, patched, point);
                        }
                        let mode_changed = target.is_some_and(|patched| patched.mode_changed);
                        client.reply_told(id, (to_ino, mode_changed), Reply::Copied(len), point);
                    }
                    Err(error) => client.reply(id, Reply::Error(error), point),
                }
                client.end_exclusive(&[ino, to_ino]);
            })
        });
    }

    /// FUSE_LSEEK with SEEK_DATA or SEEK_HOLE: from memory, once that has what is needed.
    pub(super) fn seek(
        &mut self,
        mounted: Mounted,
        id: RequestId,
        (caller, ino, handle, offset, whence): (Caller, Ino, Handle, u64, Whence),
    ) {
        if let Err(error) = self.inodes.handle(ino, handle) {
            return self.fail(id, error);
        }
        let request = Request { caller, op: Operation::Seek { ino, handle, offset, whence } };
        let inode = self.inodes.enter(ino);
        if inode.exclusive {
            return inode.parked.push((id, request));
        }
        let file = inode.file.get_or_insert_default();
        let Some(size) = file.size() else { return self.load(mounted, ino, (id, request)) };
        if offset >= size {
            return self.fail(id, FsError::NoSuchAddress);
        }
        match file.seek(offset, whence) {
            Ok(Some(found)) => self.reply(id, Reply::Offset(found), Point::Step),
            Ok(None) => self.fail(id, FsError::NoSuchAddress),
            Err(Missing::Attrs) => self.load(mounted, ino, (id, request)),
            Err(Missing::Regions) => {
                inode.parked.push((id, request));
                self.list_regions(mounted, ino);
            }
            Err(Missing::Region(region, begin)) => {
                inode.parked.push((id, request));
                if begin {
                    self.load_region(mounted, ino, region);
                }
            }
        }
    }

    /// Finds out which regions of a file have data at all, unless that is under way.
    fn list_regions(&mut self, mounted: Mounted, ino: Ino) {
        let Some(file) = self.inodes.file_mut(ino) else { return };
        let Some(generation) = file.committed().map(|c| c.generation) else { return };
        if !file.begin_listing() {
            return;
        }
        let epoch = file.epoch;
        self.pin(ino);
        self.spawn_own(move |cx| async move {
            let (result, _) = transact!(&cx, &mounted.volume, |txn| {
                regions(txn, ino, generation, 0..u64::MAX).await
            });
            done(move |client| {
                let (found, error) = match result {
                    Ok(found) => (Some(found), None),
                    Err(error) => (None, Some(error)),
                };
                if let Some(file) = client.inodes.file_mut(ino) {
                    file.listed(epoch, found);
                }
                if let Some(error) = error {
                    client.fail_parked(ino, error);
                }
                client.unpark_inode(ino);
                client.unpin(ino);
            })
        });
    }

    /// What the machine has in memory of a data generation's visible bytes.
    pub(super) fn known_visible(
        &self,
        ino: Ino,
        generation: u64,
        range: Range<u64>,
    ) -> Option<u64> {
        // Where others write, too, memory may be behind.
        let file = self.inodes.file(ino).filter(|_| self.config.kv.sole)?;
        file.visible(generation, range)
    }

    /// How many bytes of a range may become visible: what is not known to be there already.
    fn fresh_at_most(&self, ino: Ino, range: &Range<u64>) -> u64 {
        let known = self.inodes.file(ino).and_then(|file| {
            let generation = file.committed()?.generation;
            self.known_visible(ino, generation, range.clone())
        });
        range.end - range.start - known.unwrap_or(0)
    }

    fn fresh_of_copy(&self, copy: &CopyRange) -> u64 {
        let size = self.inodes.file(copy.from).and_then(|file| file.size()).unwrap_or(u64::MAX);
        let len = copy.len.min(COPY_MAX).min(size.saturating_sub(copy.offset));
        match copy.to_offset.checked_add(len) {
            Some(end) if self.limit.bytes.is_some() => {
                self.fresh_at_most(copy.to, &(copy.to_offset..end))
            }
            _ => 0,
        }
    }

    /// Takes inodes for a change that reads and writes must not overlap. False: the request waits for
    /// whoever has one of them.
    fn begin_exclusive(&mut self, inos: &[Ino], id: RequestId, request: Request) -> bool {
        let taken = inos.iter().find(|ino| self.inodes.get(**ino).is_some_and(|i| i.exclusive));
        if let Some(taken) = taken {
            self.inodes.enter(*taken).parked.push((id, request));
            return false;
        }
        for ino in inos {
            let inode = self.inodes.enter(*ino);
            inode.exclusive = true;
            inode.pins += 1;
        }
        true
    }

    /// The inverse of [`Client::begin_exclusive`].
    fn end_exclusive(&mut self, inos: &[Ino]) {
        for ino in inos {
            if let Some(inode) = self.inodes.get_mut(*ino) {
                inode.exclusive = false;
            }
        }
        for ino in inos {
            if !planted!(LostWakeup) {
                self.unpark_inode(*ino);
            }
            self.unpin(*ino);
        }
    }

    /// A change of data by a caller.
    fn modifies(&self, caller: Caller) -> Modified {
        Modified { now: self.now.wall, sheds_set_id: caller.uid != 0 }
    }

    /// Takes in what a change of data came to.
    fn data_changed(&mut self, ino: Ino, patched: &Patched, point: Point) {
        self.attrs_changed(ino, Some(patched), point);
        self.saw_attrs(ino, &patched.attrs, point);
        if let Some(generation) = patched.cut_off {
            self.reclaim_generation(ino, generation);
        }
        self.fold_what_is_due(ino);
    }
}

/// Whether the disk could hold a range.
async fn has_space(cx: &Cx, range: &Range<u64>) -> FsResult<()> {
    match page(cx, PageRequest::Space).await {
        Ok(PageReply::Space(space)) if space.free < range.end - range.start => {
            Err(FsError::NoSpace)
        }
        Ok(PageReply::Space(_)) => Ok(()),
        Ok(_) => Err(FsError::Damaged),
        Err(error) => Err(failure(cx, error)),
    }
}
