//! What memory knows of inodes' cores, and set-id bits and file capabilities that go before a write.
//!
//! A write asks memory whether there is anything to take, which is nearly never so. If there is, it is
//! taken in a transaction of its own, and the write waits for it: a crash may then leave a file without
//! the bits that was not written to, but never the other way round.

use super::inodes::Facts;
use super::tasks::done;
use super::{Client, Mounted};
use crate::error::FsResult;
use crate::id::{Ino, RequestId};
use crate::meta::ops::privilege::{has_any, shed_before_write};
use crate::meta::record::Core;
use crate::meta::txn::transact;
use crate::port::kernel::{Notification, Request};
use crate::port::{Effect, Point};

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
            done(move |client| client.shed_done(ino, result, point))
        });
    }

    fn shed_done(&mut self, ino: Ino, result: FsResult<Core>, point: Point) {
        self.note(point);
        if let Some(inode) = self.inodes.get_mut(ino) {
            inode.shedding = false;
        }
        match result {
            Ok(core) => {
                self.core_changed(ino, &core, point);
                if matches!(point, Point::Commit(_)) {
                    self.forget_attrs(ino);
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

    /// The kernel keeps the mode of an inode that a write changed: it must ask again.
    pub(super) fn forget_attrs(&mut self, ino: Ino) {
        let notification = Notification::Inode { ino, offset: -1, len: 0 };
        self.effects.push_back(Effect::Notify(notification));
    }
}
