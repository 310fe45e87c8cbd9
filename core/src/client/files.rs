//! open, flush, release, fsync.

use super::file::FileState;
use super::tasks::done;
use super::{Client, Mounted};
use crate::error::{FsError, FsResult};
use crate::id::{Handle, Ino, RequestId};
use crate::meta::attrs::Attrs;
use crate::meta::ops::load::load_file;
use crate::meta::txn::{sync, transact};
use crate::port::kernel::{OpenFlags, Opened, Operation, Reply, Request, S_IFREG, SetAttr};
use crate::port::meta_kv::Version;
use crate::port::{Point, kernel::Caller};
use crate::task::{Ask, Cx};
use alloc::boxed::Box;
use bytes::Bytes;

impl Client {
    /// FUSE_OPEN. It counts as an open from here on, so that no reclaim slips in between.
    pub(super) fn open(
        &mut self,
        mounted: Mounted,
        id: RequestId,
        (caller, ino, flags): (Caller, Ino, OpenFlags),
    ) {
        if flags.truncates() {
            let request = Request { caller, op: Operation::Open { ino, flags } };
            return self.open_truncating(mounted, id, ino, request);
        }
        let loaded = self.inodes.file(ino).is_some_and(|f| f.committed().is_some());
        if mounted.volume.kv.sole && loaded {
            let handle = self.inodes.open(ino);
            return self.reply(id, Reply::Opened(opened(handle, flags)), Point::Step);
        }
        self.pin(ino);
        let epoch = self.inodes.file(ino).map_or(0, |f| f.epoch);
        self.spawn(id, move |cx| async move {
            let (result, point) = transact!(&cx, &mounted.volume, |txn| load_file(txn, ino).await);
            done(move |client| {
                let result = result.and_then(|(attrs, inline)| match attrs.core.kind() {
                    S_IFREG => Ok((attrs, inline)),
                    _ if attrs.core.is_dir() => Err(FsError::IsDirectory),
                    _ => Err(FsError::Invalid),
                });
                match result {
                    Ok((attrs, inline)) => {
                        client.install(ino, epoch, &attrs, inline, point);
                        let handle = client.inodes.open(ino);
                        client.reply(id, Reply::Opened(opened(handle, flags)), point);
                    }
                    Err(error) => client.reply(id, Reply::Error(error), point),
                }
                client.unpin(ino);
            })
        });
    }

    /// open(2) with O_TRUNC in one request.
    fn open_truncating(&mut self, mounted: Mounted, id: RequestId, ino: Ino, request: Request) {
        let Operation::Open { flags, .. } = request.op else { return };
        let set = emptied(flags);
        self.change_attrs(mounted, id, (ino, set), request, move |client, result, point| {
            match result {
                Ok(changed) => {
                    let reply = Reply::Opened(opened(client.inodes.open(ino), flags));
                    client.reply_told(id, (ino, changed.mode_changed), reply, point);
                }
                Err(error) => client.reply(id, Reply::Error(error), point),
            }
        });
    }

    /// Takes what a load brought, if nothing newer is known.
    pub(super) fn install(
        &mut self,
        ino: Ino,
        epoch: u64,
        attrs: &Attrs,
        inline: Bytes,
        point: Point,
    ) {
        let Point::Snapshot(version) = point else { return };
        let inode = self.inodes.enter(ino);
        if inode.changed > version {
            return;
        }
        inode.file.get_or_insert_default().loaded(epoch, attrs, inline, version);
        self.saw_attrs(ino, attrs, point);
    }

    /// A file that this mount just created needs no load.
    pub(super) fn install_created(&mut self, ino: Ino, attrs: &Attrs, point: Point) {
        if let Point::Commit(commit) = point {
            // The name was there before this answer: another request may have opened and written.
            let created = || Box::new(FileState::created(attrs, commit.version));
            self.inodes.enter(ino).file.get_or_insert_with(created);
            self.saw_attrs(ino, attrs, point);
        }
    }

    /// Loads a file's attributes and inline bytes, unless that is under way; then `parked` goes on.
    pub(super) fn load(&mut self, mounted: Mounted, ino: Ino, parked: (RequestId, Request)) {
        self.inodes.enter(ino).parked.push(parked);
        self.begin_load(mounted, ino);
    }

    /// Loads a file's attributes and inline bytes, unless that is under way.
    pub(super) fn begin_load(&mut self, mounted: Mounted, ino: Ino) {
        let inode = self.inodes.enter(ino);
        let file = inode.file.get_or_insert_default();
        if !file.begin_load() {
            return;
        }
        let epoch = file.epoch;
        // The state must still be this one when the load arrives: epochs begin anew with another.
        inode.pins += 1;
        self.spawn_own(move |cx| async move {
            let (result, point) = transact!(&cx, &mounted.volume, |txn| load_file(txn, ino).await);
            done(move |client| client.load_done(ino, epoch, result, point))
        });
    }

    fn load_done(&mut self, ino: Ino, epoch: u64, result: FsResult<(Attrs, Bytes)>, point: Point) {
        match (result, point) {
            (Ok((attrs, inline)), Point::Snapshot(version)) => {
                if let Some(file) = self.inodes.file_mut(ino) {
                    file.loaded(epoch, &attrs, inline, version);
                }
                self.saw_attrs(ino, &attrs, point);
                self.advance_flush(ino);
            }
            (Err(error), _) => {
                if let Some(file) = self.inodes.file_mut(ino) {
                    file.load_failed(epoch);
                }
                self.fail_parked(ino, error);
                self.measure_failed(ino, error);
            }
            (Ok(_), _) => unreachable!("a load commits nothing"),
        }
        self.unpark_inode(ino);
        self.unpin(ino);
    }

    /// What waited for an inode fails with this error.
    pub(super) fn fail_parked(&mut self, ino: Ino, error: FsError) {
        let Some(inode) = self.inodes.get_mut(ino) else { return };
        for (id, _) in core::mem::take(&mut inode.parked) {
            self.fail(id, error);
        }
    }

    /// FUSE_FLUSH: a descriptor was closed. Its writes are committed, in order, though not yet durable.
    pub(super) fn flush(&mut self, id: RequestId, ino: Ino, handle: Handle) {
        if let Err(error) = self.inodes.handle(ino, handle) {
            return self.fail(id, error);
        }
        if self.inodes.file(ino).is_none_or(|f| f.is_clean()) {
            let result = self.inodes.take_error(handle);
            return self.reply_done(id, result, Point::Step);
        }
        self.pin(ino);
        self.spawn_waiting(id, move |cx| async move {
            let settled = cx.settle(ino).await;
            done(move |client| {
                if !cx.left() {
                    let result = client.inodes.take_error(handle).and(settled.map(|_| ()));
                    client.reply_done(id, result, Point::Step);
                }
                client.unpin(ino);
            })
        });
    }

    /// FUSE_RELEASE: the last descriptor was closed.
    pub(super) fn release(&mut self, id: RequestId, ino: Ino, handle: Handle) {
        if let Err(error) = self.inodes.handle(ino, handle).and_then(|_| self.inodes.close(handle))
        {
            return self.fail(id, error);
        }
        self.reply(id, Reply::Done, Point::Step);
        self.let_go(ino);
    }

    /// FUSE_FSYNC: replies once data and metadata are durable.
    pub(super) fn fsync(&mut self, id: RequestId, ino: Ino, handle: Handle) {
        if let Err(error) = self.inodes.handle(ino, handle) {
            return self.fail(id, error);
        }
        self.pin(ino);
        self.spawn_waiting(id, move |cx| async move {
            let settled = cx.settle(ino).await;
            let hollow = planted!(HollowFsync);
            let synced = if hollow { Ok(Version(0)) } else { sync(&cx).await };
            done(move |client| {
                let synced = client.synced(synced);
                if !cx.left() {
                    let seen = client.inodes.take_error(handle);
                    client.reply_done(id, settled.map(|_| ()).and(synced).and(seen), Point::Step);
                }
                client.unpin(ino);
            })
        });
    }

    pub(super) fn reply_done(&mut self, id: RequestId, result: FsResult<()>, point: Point) {
        match result {
            Ok(()) => self.reply(id, Reply::Done, point),
            Err(error) => self.reply(id, Reply::Error(error), point),
        }
    }

    /// Keeps an inode's entry while a task needs it.
    pub(super) fn pin(&mut self, ino: Ino) {
        self.inodes.enter(ino).pins += 1;
    }

    pub(super) fn unpin(&mut self, ino: Ino) {
        if let Some(inode) = self.inodes.get_mut(ino) {
            inode.pins -= 1;
        }
        self.let_go(ino);
    }

    /// Drops what nothing holds any more; a removed inode without holder is reclaimed.
    pub(super) fn let_go(&mut self, ino: Ino) {
        let Some(inode) = self.inodes.get_mut(ino) else { return };
        let changed = inode.changed;
        if inode.unlinked && inode.opens > 0 {
            probe!("removed-stays-open");
        }
        if inode.opens == 0
            && inode.lookups == 0
            && inode.unlinked
            && let Some(file) = inode.file.as_deref()
            && !file.buffer.is_empty()
            && !file.is_committing()
        {
            self.drop_buffered(ino);
        }
        if let Some(unlinked) = self.inodes.release_unheld(ino) {
            self.inodes.forgotten = self.inodes.forgotten.max(changed);
            if unlinked {
                self.reclaim_inode(ino);
            }
        }
    }
}

/// What O_TRUNC changes.
pub(super) fn emptied(flags: OpenFlags) -> SetAttr {
    SetAttr { size: Some(0), kill_suidgid: flags.kills_suidgid(), ..SetAttr::default() }
}

/// On a volume that only this mount uses, the kernel's cached pages are always true.
pub(super) fn opened(handle: Handle, flags: OpenFlags) -> Opened {
    let no_flush = !flags.writes();
    Opened { handle, keep_cache: true, direct_io: false, cache_dir: false, no_flush }
}

/// A context in which nothing is asked twice.
pub(super) async fn settle_all(cx: &Cx) -> FsResult<()> {
    let mut result = Ok(());
    if let crate::task::Told::Dirty(dirty) = cx.ask(Ask::SettleAll).await {
        for ino in dirty {
            result = result.and(cx.settle(ino).await.map(|_| ()));
        }
    }
    result
}
