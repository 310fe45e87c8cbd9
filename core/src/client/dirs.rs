//! opendir, readdir, releasedir, fsyncdir.

use super::tasks::done;
use super::{Client, Mounted};
use crate::error::FsError;
use crate::id::{Handle, Ino, RequestId};
use crate::meta::name::COOKIE_PARENT;
use crate::meta::ops::lookup::getattr;
use crate::meta::ops::readdir::{Listed, readdir};
use crate::meta::txn::{sync, transact};
use crate::port::Point;
use crate::port::kernel::{DirEntry, Opened, Reply};
use alloc::vec::Vec;

impl Client {
    /// FUSE_OPENDIR.
    pub(super) fn opendir(&mut self, mounted: Mounted, id: RequestId, ino: Ino) {
        self.pin(ino);
        self.spawn(id, move |cx| async move {
            let (result, point) = transact!(&cx, &mounted.volume, |txn| getattr(txn, ino).await);
            done(move |client| {
                match result {
                    Ok(attrs) if attrs.core.is_dir() => {
                        let handle = client.inodes.open(ino);
                        client.saw_attrs(ino, &attrs, point);
                        let opened = Opened {
                            handle,
                            keep_cache: true,
                            direct_io: false,
                            cache_dir: true,
                            no_flush: true,
                        };
                        client.reply(id, Reply::Opened(opened), point);
                    }
                    Ok(_) => client.reply(id, Reply::Error(FsError::NotDirectory), point),
                    Err(error) => client.reply(id, Reply::Error(error), point),
                }
                client.unpin(ino);
            })
        });
    }

    /// FUSE_READDIR and FUSE_READDIRPLUS.
    pub(super) fn readdir(
        &mut self,
        mounted: Mounted,
        id: RequestId,
        (ino, handle, cookie, room, plus): (Ino, Handle, u64, u32, bool),
    ) {
        if let Err(error) = self.inodes.handle(ino, handle) {
            return self.fail(id, error);
        }
        let limit = (room / wire_size(AVERAGE_NAME, plus)).clamp(1, ENTRIES_MAX);
        self.spawn(id, move |cx| async move {
            let (result, point) =
                transact!(&cx, &mounted.volume, |txn| readdir(txn, ino, cookie, limit, plus).await);
            done(move |client| match result {
                Ok(page) => {
                    client.touch_atime(ino);
                    let entries = client.dir_entries(page, (room, plus), point);
                    client.reply(id, Reply::Entries(entries), point);
                }
                Err(error) => client.reply(id, Reply::Error(error), point),
            })
        });
    }

    /// As many entries as the kernel has room for. Those with attributes count a lookup each.
    fn dir_entries(
        &mut self,
        page: Vec<Listed>,
        (room, plus): (u32, bool),
        point: Point,
    ) -> Vec<DirEntry> {
        let mut left = room;
        let mut entries = Vec::with_capacity(page.len());
        for listed in page {
            let size = wire_size(listed.name.len() as u32, plus);
            let Some(rest) = left.checked_sub(size) else { break };
            left = rest;
            // Attributes that are stale already, or of an inode on its way out, are left to a lookup.
            let attr = listed
                .attrs
                .as_ref()
                .filter(|_| listed.cookie > COOKIE_PARENT && !self.reclaim.contains(listed.ino))
                .and_then(|attrs| self.merged(listed.ino, attrs, point));
            let entry = attr.map(|attr| self.entry(attr));
            if let (Some(_), Some(attrs)) = (&entry, &listed.attrs) {
                self.saw_core(listed.ino, &attrs.core, point);
            }
            let Listed { ino, cookie, kind, name, .. } = listed;
            entries.push(DirEntry { ino, cookie, kind, name, entry });
        }
        entries
    }

    /// FUSE_RELEASEDIR.
    pub(super) fn releasedir(&mut self, id: RequestId, handle: Handle) {
        match self.inodes.close(handle) {
            Ok(ino) => {
                self.reply(id, Reply::Done, Point::Step);
                self.let_go(ino);
            }
            Err(error) => self.fail(id, error),
        }
    }

    /// FUSE_FSYNCDIR: every change of names acknowledged before is durable.
    pub(super) fn fsyncdir(&mut self, id: RequestId, handle: Handle) {
        if let Err(error) = self.inodes.any_handle(handle) {
            return self.fail(id, error);
        }
        self.spawn_waiting(id, move |cx| async move {
            let synced = sync(&cx).await;
            done(move |client| {
                let result = client.synced(synced);
                if !cx.left() {
                    client.reply_done(id, result, Point::Step);
                }
            })
        });
    }
}

/// Most entries of one page.
const ENTRIES_MAX: u32 = 4096;
/// What a name is taken to be before it is known.
const AVERAGE_NAME: u32 = 8;

/// Bytes of an entry in the kernel's buffer: fuse_dirent or fuse_direntplus with its name, padded.
fn wire_size(name: u32, plus: bool) -> u32 {
    let head = if plus { 128 + 24 } else { 24 };
    (head + name).next_multiple_of(8)
}
