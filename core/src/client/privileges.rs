//! What memory knows of inodes' cores, and set-id bits and file capabilities that go before a write.
//!
//! A write asks memory whether there is anything to take, which is nearly never so. If there is, it is
//! taken in a transaction of its own, and the write waits for it: a crash may then leave a file without
//! the bits that was not written to, but never the other way round.
//!
//! The kernel runs programs by the mode that it keeps. Answers about attributes renew it; a write, an
//! allocation, a copy and an open that truncates have answers without attributes. Those are given when
//! the kernel has forgotten the mode. A create that truncates what it finds waits for that, too, because
//! one of the others may be answered before it is.
//!
//! A write from the kernel's page cache waits for a transaction at most, never for a notification. To
//! forget, the kernel looks for the inode; one that it is about to drop it finds only when that is gone,
//! and it is gone when its pages are written. So only callers that have the file open and may not keep the
//! bits wait, and nothing is held meanwhile: neither the inode nor buffer memory.

use super::inodes::Facts;
use super::tasks::done;
use super::{Client, Mounted};
use crate::error::FsResult;
use crate::id::{Ino, RequestId};
use crate::meta::ops::privilege::{has_any, shed_before_write};
use crate::meta::record::Core;
use crate::meta::txn::transact;
use crate::port::Point;
use crate::port::kernel::{Notification, Reply, Request};
use crate::task::Ask;

impl Client {
    /// A core was read or written. Only the newest counts.
    pub(super) fn saw_core(&mut self, ino: Ino, core: &Core, point: Point) {
        let Some(version) = super::attrs::version_of(point) else { return };
        let Some(inode) = self.inodes.get_mut(ino) else { return };
        let newest = inode.facts.map_or(inode.since, |facts| facts.version);
        if newest <= version {
            inode.facts = Some(Facts { version, mode: core.mode, flags: core.flags });
        }
    }

    /// Whether a change of data must take something first; `set_id`: the set-id bits, too.
    pub(super) fn must_shed(&self, ino: Ino, set_id: bool) -> bool {
        let facts = self.inodes.get(ino).and_then(|inode| inode.facts);
        facts.is_none_or(|facts| has_any(facts.mode, facts.flags, set_id))
    }

    /// Whether set-id bits may be gone and the kernel not know it yet.
    pub(super) fn is_mode_untold(&self, ino: Ino) -> bool {
        self.inodes.get(ino).is_some_and(|inode| inode.shedding || inode.telling > 0)
    }

    /// Takes set-id bits and capabilities; then `parked` goes on.
    pub(super) fn shed(
        &mut self,
        mounted: Mounted,
        ino: Ino,
        set_id: bool,
        parked: (RequestId, Request),
    ) {
        let inode = self.inodes.enter(ino);
        inode.parked.push(parked);
        probe!("set-id-shed");
        if core::mem::replace(&mut inode.shedding, true) {
            return;
        }
        inode.pins += 1;
        let now = self.now.wall;
        self.spawn_own(move |cx| async move {
            let (result, point) = transact!(&cx, &mounted.volume, |txn| {
                shed_before_write(txn, ino, set_id, now).await
            });
            done(move |client| client.shed_done(ino, set_id, (result, point)))
        });
    }

    fn shed_done(&mut self, ino: Ino, set_id: bool, (result, point): (FsResult<Core>, Point)) {
        self.note(point);
        if let Some(inode) = self.inodes.get_mut(ino) {
            inode.shedding = false;
        }
        match result {
            Ok(core) => {
                self.core_changed(ino, &core, point);
                // Whoever may have taken them instead may not have told yet.
                if set_id {
                    self.forget_mode(ino, |_| {});
                }
            }
            Err(error) => self.fail_parked(ino, error),
        }
        self.unpark_inode(ino);
        self.unpin(ino);
    }

    /// A change of the core committed: attributes that were read before it are stale.
    pub(super) fn core_changed(&mut self, ino: Ino, core: &Core, point: Point) {
        self.saw_core(ino, core, point);
        if let (Some(inode), Point::Commit(commit)) = (self.inodes.get_mut(ino), point) {
            inode.changed = inode.changed.max(commit.version);
        }
    }

    /// A reply without attributes to what changed data and maybe took set-id bits with it, when the
    /// kernel knows. What took effect is answered so, though the caller gives up now.
    pub(super) fn reply_told(
        &mut self,
        id: RequestId,
        changed: (Ino, bool),
        reply: Reply,
        point: Point,
    ) {
        self.when_told(changed, move |client| client.reply(id, reply, point));
    }

    /// Goes on when the kernel believes in no set-id bits of an inode that are gone; the flag: its mode
    /// has just changed. Until then nobody else who changed its data is answered either.
    pub(super) fn when_told(
        &mut self,
        (ino, mode_changed): (Ino, bool),
        and_then: impl FnOnce(&mut Client) + Send + 'static,
    ) {
        if mode_changed || self.is_mode_untold(ino) {
            self.forget_mode(ino, and_then);
        } else {
            and_then(self);
        }
    }

    /// Goes on when the kernel has forgotten the mode of an inode.
    fn forget_mode(&mut self, ino: Ino, and_then: impl FnOnce(&mut Client) + Send + 'static) {
        let notification = Notification::Inode { ino, offset: -1, len: 0 };
        if planted!(UntoldMode) {
            self.spawn_own(move |cx| async move {
                cx.ask(Ask::Notify(notification)).await;
                done(|_| {})
            });
            return and_then(self);
        }
        let inode = self.inodes.enter(ino);
        inode.telling += 1;
        inode.pins += 1;
        self.spawn_own(move |cx| async move {
            cx.ask(Ask::Notify(notification)).await;
            done(move |client| {
                if let Some(inode) = client.inodes.get_mut(ino) {
                    inode.telling -= 1;
                }
                and_then(client);
                client.unpark_inode(ino);
                client.unpin(ino);
            })
        });
    }
}
