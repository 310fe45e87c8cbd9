//! A new name for an inode that is there: what `link` and `reconnect` have in common.

use super::bucket::Bucket;
use super::{child, live_dir_core, touch_dir};
use crate::error::FsResult;
use crate::id::Ino;
use crate::meta::key::{self, tag};
use crate::meta::record::{Core, Dentry};
use crate::meta::txn::{Txn, one, value};
use crate::time::WallTime;
use bytes::Bytes;

/// A name that an inode is about to get, and what was read for it.
pub(super) struct NewName {
    dir: Ino,
    name: Bytes,
    dir_core: Core,
    bucket: Bucket,
}

impl NewName {
    /// Reads the directory, the bucket of the name and the inode, in one round. The inode's core may be
    /// missing.
    ///
    /// # Errors
    /// Of the directory: Stale, NotDirectory, NotFound when it was removed.
    pub(super) async fn read(
        txn: &mut Txn<'_>,
        ino: Ino,
        dir: Ino,
        name: &Bytes,
    ) -> FsResult<(NewName, Option<Core>)> {
        let first = txn.volume.names.bucket(name);
        let core = one(key::inode(ino, tag::CORE));
        let core = if planted!(LostLink) { core.snapshot() } else { core };
        let wants = [one(key::inode(dir, tag::CORE)), Bucket::want(dir, first), core];
        let [dir_value, bucket, core] = txn.read(wants).await?;
        let dir_core = live_dir_core(value(dir_value))?;
        let bucket = Bucket::decode(first, bucket)?;
        let core = value(core).map(|core| Core::decode(&core)).transpose()?;
        Ok((NewName { dir, name: name.clone(), dir_core, bucket }, core))
    }

    /// Whether something has it.
    pub(super) fn is_taken(&self) -> bool {
        self.bucket.find(&self.name).is_some()
    }

    /// Its cookie.
    ///
    /// # Errors
    /// NoSpace when five names share a hash.
    pub(super) fn cookie(&self) -> FsResult<u64> {
        self.bucket.vacancy(None)
    }

    /// Writes the dentry, the inode's core, and what changes of the directory.
    pub(super) fn put(
        mut self,
        txn: &mut Txn<'_>,
        ino: Ino,
        core: &Core,
        cookie: u64,
        now: WallTime,
    ) {
        txn.set(key::inode(ino, tag::CORE), core.encode());
        let dentry = Dentry { ino, kind: core.kind(), name: self.name };
        txn.set(key::dentry(self.dir, cookie), dentry.encode());
        touch_dir(txn, self.dir, &mut self.dir_core, now, child(core.is_dir(), 1));
    }
}
