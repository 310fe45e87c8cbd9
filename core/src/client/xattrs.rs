//! getxattr, listxattr, setxattr, removexattr.
//!
//! The kernel asks for `security.capability` before the first write of every file and for ACLs when it
//! checks permissions: that there is none is answered from memory wherever the inode's core is known.

use super::tasks::done;
use super::{Client, Mounted};
use crate::error::{FsError, FsResult};
use crate::id::{Ino, RequestId};
use crate::meta::ops::xattr::{self, Set, is_absent};
use crate::meta::record::{Core, flag};
use crate::meta::txn::transact;
use crate::port::Point;
use crate::port::kernel::{Caller, Reply};
use alloc::vec::Vec;
use bytes::Bytes;

/// Attributes of this namespace exist for the privileged only.
const TRUSTED: &[u8] = b"trusted.";

impl Client {
    /// FUSE_GETXATTR.
    pub(super) fn getxattr(
        &mut self,
        mounted: Mounted,
        id: RequestId,
        (ino, name, room): (Ino, Bytes, u32),
    ) {
        if let Err(error) = xattr::check_name(&name) {
            return self.fail(id, error);
        }
        if mounted.volume.kv.sole && self.known_absent(ino, &name) {
            return self.fail(id, FsError::NoAttribute);
        }
        self.spawn(id, move |cx| async move {
            let (result, point) =
                transact!(&cx, &mounted.volume, |txn| xattr::get(txn, ino, &name).await);
            done(move |client| {
                let result = result.and_then(|(core, value)| {
                    client.saw_core(ino, &core, point);
                    value.ok_or(FsError::NoAttribute)
                });
                client.reply_value(id, result, room, point);
            })
        });
    }

    /// FUSE_LISTXATTR.
    pub(super) fn listxattr(
        &mut self,
        mounted: Mounted,
        id: RequestId,
        (caller, ino, room): (Caller, Ino, u32),
    ) {
        if mounted.volume.kv.sole && self.known_absent(ino, b"") {
            return self.reply_value(id, Ok(Bytes::new()), room, Point::Step);
        }
        self.spawn(id, move |cx| async move {
            let (result, point) =
                transact!(&cx, &mounted.volume, |txn| xattr::list(txn, ino).await);
            done(move |client| {
                let result = result.map(|(core, names)| {
                    client.saw_core(ino, &core, point);
                    listed(&names, caller.uid == 0)
                });
                client.reply_value(id, result, room, point);
            })
        });
    }

    /// FUSE_SETXATTR.
    pub(super) fn setxattr(&mut self, mounted: Mounted, id: RequestId, ino: Ino, set: Set) {
        self.pin(ino);
        self.inodes.enter(ino).xattrs_coming += 1;
        self.spawn(id, move |cx| async move {
            let (result, point) =
                transact!(&cx, &mounted.volume, |txn| xattr::set(txn, ino, &set).await);
            done(move |client| {
                if let Some(inode) = client.inodes.get_mut(ino) {
                    inode.xattrs_coming -= 1;
                }
                client.xattrs_changed(id, ino, result, point);
            })
        });
    }

    /// FUSE_REMOVEXATTR.
    pub(super) fn removexattr(&mut self, mounted: Mounted, id: RequestId, ino: Ino, name: Bytes) {
        let now = self.now.wall;
        self.pin(ino);
        self.spawn(id, move |cx| async move {
            let (result, point) =
                transact!(&cx, &mounted.volume, |txn| xattr::remove(txn, ino, &name, now).await);
            done(move |client| client.xattrs_changed(id, ino, result, point))
        });
    }

    fn xattrs_changed(&mut self, id: RequestId, ino: Ino, result: FsResult<Core>, point: Point) {
        self.note(point);
        if let Ok(core) = &result {
            self.core_changed(ino, core, point);
        }
        self.reply_done(id, result.map(|_| ()), point);
        self.unpin(ino);
    }

    /// Whether memory knows that there is no such attribute, or none at all for an empty name.
    fn known_absent(&self, ino: Ino, name: &[u8]) -> bool {
        let Some(inode) = self.inodes.get(ino).filter(|inode| inode.xattrs_coming == 0) else {
            return false;
        };
        inode.facts.is_some_and(|facts| match name {
            b"" => facts.flags & flag::XATTR == 0,
            name => is_absent(facts.flags, name),
        })
    }

    /// A value as it fits the caller's room; 0 asks for its length.
    fn reply_value(&mut self, id: RequestId, result: FsResult<Bytes>, room: u32, point: Point) {
        let reply = match result {
            Ok(value) if room == 0 => Reply::Room(value.len() as u32),
            Ok(value) if value.len() > room as usize => Reply::Error(FsError::Range),
            Ok(value) => Reply::Value(value),
            Err(error) => Reply::Error(error),
        };
        self.reply(id, reply, point);
    }
}

fn listed(names: &[Bytes], privileged: bool) -> Bytes {
    let shown = names.iter().filter(|name| privileged || !name.starts_with(TRUSTED));
    let mut list = Vec::new();
    for name in shown {
        list.extend_from_slice(name);
        list.push(0);
    }
    Bytes::from(list)
}
