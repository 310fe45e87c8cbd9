//! getattr and setattr, and the merge of committed attributes with what is still buffered.

use super::file::FileState;
use super::tasks::done;
use super::{Client, Mounted};
use crate::error::FsResult;
use crate::id::{Handle, Ino, RequestId};
use crate::meta::attrs::{Attrs, blocks};
use crate::meta::ops::lookup::getattr;
use crate::meta::ops::patch::Patched;
use crate::meta::ops::setattr::setattr;
use crate::meta::txn::transact;
use crate::port::Point;
use crate::port::kernel::{Attr, Caller, Entry, Operation, Reply, Request, SetAttr};
use crate::port::meta_kv::Version;

impl Client {
    /// FUSE_GETATTR.
    pub(super) fn getattr(&mut self, mounted: Mounted, id: RequestId, ino: Ino) {
        self.spawn(id, move |cx| async move {
            let (result, point) = transact!(&cx, &mounted.volume, |txn| getattr(txn, ino).await);
            done(move |client| match result {
                Ok(attrs) => match client.merged(ino, &attrs, point) {
                    Some(attr) => {
                        client.saw_core(ino, &attrs.core, point);
                        client.reply_attr(id, attr, point);
                    }
                    None => client.getattr(mounted, id, ino),
                },
                Err(error) => client.reply(id, Reply::Error(error), point),
            })
        });
    }

    /// FUSE_SETATTR.
    pub(super) fn setattr(
        &mut self,
        mounted: Mounted,
        id: RequestId,
        (caller, ino, handle, set): (Caller, Ino, Option<Handle>, SetAttr),
    ) {
        let request = Request { caller, op: Operation::SetAttr { ino, handle, set } };
        self.change_attrs(
            mounted.clone(),
            id,
            (ino, set),
            request,
            move |client, result, point| match result {
                Ok(changed) => {
                    client.with_attr(mounted, (ino, changed.attrs), move |client, attr| {
                        client.reply_attr(id, attr, point);
                    });
                }
                Err(error) => client.reply(id, Reply::Error(error), point),
            },
        );
    }

    /// Goes on with attributes as they are now. What a change returned will not do: size, times and
    /// counters are written blindly by others, and the kernel may keep for ever what it is told.
    pub(super) fn with_attr(
        &mut self,
        mounted: Mounted,
        (ino, changed): (Ino, Attrs),
        and_then: impl FnOnce(&mut Client, Attr) + Send + 'static,
    ) {
        self.pin(ino);
        // The change took effect: a caller that gives up now gets its result all the same.
        self.spawn_own(move |cx| async move {
            let (result, point) = transact!(&cx, &mounted.volume, |txn| getattr(txn, ino).await);
            done(move |client| {
                match result.map(|attrs| client.merged(ino, &attrs, point)) {
                    Ok(Some(attr)) => and_then(client, attr),
                    Ok(None) => client.with_attr(mounted, (ino, changed), and_then),
                    // It went meanwhile: then what the change saw is the last that there was.
                    Err(_) => {
                        let last = client.merged(ino, &changed, Point::Step);
                        and_then(client, last.unwrap_or_else(|| changed.attr(ino)));
                    }
                }
                client.unpin(ino);
            })
        });
    }

    /// Changes attributes, then goes on with `and_then`.
    ///
    /// A change of size or times comes after every buffered write and has the inode to itself: else a
    /// later flush would bring truncated bytes back, or raise the time that was just set.
    pub(super) fn change_attrs(
        &mut self,
        mounted: Mounted,
        id: RequestId,
        (ino, set): (Ino, SetAttr),
        request: Request,
        and_then: impl FnOnce(&mut Client, FsResult<Patched>, Point) + Send + 'static,
    ) {
        let now = self.now.wall;
        // Writes that arrive meanwhile wait: one that was committed after would undo the change.
        let exclusive = set.size.is_some() || set.mtime.is_some() || set.atime.is_some();
        let data = set.size.is_some() || set.mtime.is_some();
        let inode = self.inodes.enter(ino);
        if exclusive && inode.exclusive {
            probe!("exclusive-waits");
            return inode.parked.push((id, request));
        }
        inode.exclusive |= exclusive;
        inode.pins += 1;
        self.spawn(id, move |cx| async move {
            let settles = exclusive && !planted!(OvertakenTruncate);
            let settled = if settles { cx.settle(ino).await } else { Ok(false) };
            let (result, point) = match settled {
                Ok(_) => transact!(&cx, &mounted.volume, |txn| setattr(txn, ino, &set, now).await),
                Err(error) => (Err(error), Point::Step),
            };
            done(move |client| {
                client.note(point);
                if let Ok(patched) = &result {
                    client.attrs_changed(ino, data.then_some(patched), point);
                    client.saw_attrs(ino, &patched.attrs, point);
                    if let Some(generation) = patched.cut_off {
                        client.reclaim_generation(ino, generation);
                    }
                    client.fold_what_is_due(ino);
                }
                if exclusive && let Some(inode) = client.inodes.get_mut(ino) {
                    inode.exclusive = false;
                }
                and_then(client, result, point);
                client.unpark_inode(ino);
                client.unpin(ino);
            })
        });
    }

    /// `patched`: what became of size, times and data, if any of them changed.
    pub(super) fn attrs_changed(&mut self, ino: Ino, patched: Option<&Patched>, point: Point) {
        let (Some(inode), Point::Commit(commit)) = (self.inodes.get_mut(ino), point) else {
            return;
        };
        inode.changed = inode.changed.max(commit.version);
        if let (Some(patched), Some(file)) = (patched, inode.file.as_deref_mut()) {
            file.patched(commit, patched);
        }
    }

    /// Committed attributes with what is buffered. `None` if they were read before a change that this
    /// mount has made since, or something is being loaded: they must be read again.
    pub(super) fn merged(&self, ino: Ino, attrs: &Attrs, point: Point) -> Option<Attr> {
        let mut attr = attrs.attr(ino);
        let Some(inode) = self.inodes.get(ino) else {
            // It may have been changed, or reclaimed, and forgotten since.
            return (self.inodes.forgotten <= seen(point)).then_some(attr);
        };
        if inode.changed > seen(point) {
            return None;
        }
        if let Some(coming) = inode.atime_coming
            && attrs.core.ctime < coming
        {
            attr.atime = attr.atime.max(coming);
        }
        if let Some(file) = inode.file.as_deref()
            && !file.buffer.is_empty()
        {
            merge(&mut attr, file, attrs)?;
        }
        Some(attr)
    }

    pub(super) fn reply_attr(&mut self, id: RequestId, attr: Attr, point: Point) {
        self.reply(id, Reply::Attr { attr, valid: self.config.attr_valid }, point);
    }

    /// An entry for the kernel; it counts a lookup.
    pub(super) fn entry(&mut self, attr: Attr) -> Entry {
        self.inodes.enter(attr.ino).lookups += 1;
        Entry {
            attr: Some(attr),
            entry_valid: self.config.entry_valid,
            attr_valid: self.config.attr_valid,
        }
    }
}

fn seen(point: Point) -> Version {
    version_of(point).unwrap_or(Version(u64::MAX))
}

/// The version at which what was read or written was true.
pub(super) fn version_of(point: Point) -> Option<Version> {
    match point {
        Point::Commit(commit) => Some(commit.version),
        Point::Snapshot(version) => Some(version),
        Point::Step => None,
    }
}

/// `None`: what is on its way must be awaited.
fn merge(attr: &mut Attr, file: &FileState, attrs: &Attrs) -> Option<()> {
    attr.size = attr.size.max(file.buffer.end());
    if let Some(mtime) = file.buffer.mtime() {
        attr.mtime = mtime;
        attr.ctime = attr.ctime.max(mtime);
    }
    // What is being committed may be counted in these attributes and be in the buffer still.
    attr.blocks = blocks(file.bytes(attrs.usage.lo)? as i64, attr.size);
    Some(())
}
