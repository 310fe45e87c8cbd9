//! Access times, as Linux' relatime keeps them: a read moves one that is older than the last change,
//! or older than a day.
//!
//! The kernel leaves access times of a FUSE filesystem to the daemon and sends no READ for what its
//! page cache holds, so they follow the requests that arrive.

use super::tasks::done;
use super::{Client, Phase};
use crate::error::FsResult;
use crate::id::Ino;
use crate::meta::attrs::Attrs;
use crate::meta::key::{self, tag};
use crate::meta::record::{Core, encode_time};
use crate::meta::txn::{Txn, one, transact, value};
use crate::port::Point;
use crate::time::WallTime;

const DAY: i64 = 24 * 3600;

impl Client {
    /// Attributes were read: whether the next read of the data moves the access time follows.
    pub(super) fn saw_attrs(&mut self, ino: Ino, attrs: &Attrs, point: Point) {
        self.saw_core(ino, &attrs.core, point);
        let due = is_due(attrs, self.now.wall);
        if let Some(inode) = self.inodes.get_mut(ino) {
            inode.atime_due = due;
        }
    }

    /// Data was read. Nobody waits for the commit that this may cause.
    pub(super) fn touch_atime(&mut self, ino: Ino) {
        let Phase::Mounted(mounted) = &self.phase else { return };
        if self.config.noatime || self.config.read_only {
            return;
        }
        let Some(inode) = self.inodes.get_mut(ino) else { return };
        if !core::mem::take(&mut inode.atime_due) {
            return;
        }
        let (volume, now) = (mounted.volume.clone(), self.now.wall);
        inode.atime_coming = Some(now);
        self.spawn_own(move |cx| async move {
            let (result, point) = transact!(&cx, &volume, |txn| touch(txn, ino, now).await);
            done(move |client| {
                if let Some(inode) = client.inodes.get_mut(ino)
                    && inode.atime_coming == Some(now)
                {
                    inode.atime_coming = None;
                }
                // One that is lost is moved by a later read.
                if result.is_ok() {
                    client.note(point);
                }
            })
        });
    }
}

pub(super) fn is_due(attrs: &Attrs, now: WallTime) -> bool {
    let atime = attrs.atime();
    atime <= attrs.mtime() || atime <= attrs.ctime() || now.secs.saturating_sub(atime.secs) >= DAY
}

async fn touch(txn: &mut Txn<'_>, ino: Ino, now: WallTime) -> FsResult<()> {
    let [core] = txn.read([one(key::inode(ino, tag::CORE))]).await?;
    let Some(core) = value(core) else { return Ok(()) };
    // What changed the inode after the read, a utimens above all, has the last word.
    if Core::decode(&core)?.ctime < now {
        txn.max(key::inode(ino, tag::ATIME), &encode_time(now));
    }
    Ok(())
}
