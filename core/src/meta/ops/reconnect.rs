//! reconnect: a name for an inode that has lost all of its own. Of a repair only.

use super::bucket::Bucket;
use super::{child, ino_value, live_dir_core, touch_dir};
use crate::error::{FsError, FsResult};
use crate::id::Ino;
use crate::meta::key::{self, tag};
use crate::meta::record::{Core, Dentry, flag};
use crate::meta::txn::{Txn, one, value};
use crate::time::WallTime;
use alloc::format;
use bytes::Bytes;

/// Gives an inode the name `#<number>` in a directory, as its only one.
///
/// # Errors
/// Exists, NotDirectory, NoSpace when five names share a hash, Damaged without an inode.
pub async fn reconnect(txn: &mut Txn<'_>, ino: Ino, dir: Ino, now: WallTime) -> FsResult<()> {
    let name = Bytes::from(format!("#{ino}"));
    let first = txn.volume.names.bucket(&name);
    let [dir_value, bucket, core] = txn
        .read([
            one(key::inode(dir, tag::CORE)),
            Bucket::want(dir, first),
            one(key::inode(ino, tag::CORE)),
        ])
        .await?;
    let mut dir_core = live_dir_core(value(dir_value))?;
    let bucket = Bucket::decode(first, bucket)?;
    if bucket.find(&name).is_some() {
        return Err(FsError::Exists);
    }
    let mut core = Core::decode(&value(core).ok_or(FsError::Damaged)?)?;
    let cookie = bucket.vacancy(None)?;
    core.nlink = 1;
    core.put(flag::NAMEABLE, false);
    (core.home, core.home_cookie) = (dir, cookie);
    core.ctime = core.ctime.max(now);
    txn.set(key::inode(ino, tag::CORE), core.encode());
    if core.is_dir() {
        txn.set(key::inode(ino, tag::PARENT), ino_value(dir));
    }
    let dentry = Dentry { ino, kind: core.kind(), name };
    txn.set(key::dentry(dir, cookie), dentry.encode());
    touch_dir(txn, dir, &mut dir_core, now, child(core.is_dir(), 1));
    Ok(())
}
