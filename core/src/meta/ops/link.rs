//! link: another name for an inode.

use super::bucket::Bucket;
use super::{WHOLE, child, live_dir_core, touch_dir};
use crate::error::{FsError, FsResult};
use crate::id::Ino;
use crate::limits::LINK_MAX;
use crate::meta::attrs::Attrs;
use crate::meta::key::{self, tag};
use crate::meta::name;
use crate::meta::record::{Core, Dentry, flag};
use crate::meta::txn::{Txn, one, value};
use crate::time::WallTime;
use bytes::Bytes;

/// Adds a name. Returns what it knows of the inode, which is its core, and whether it is its first name.
///
/// The first name of a file of O_TMPFILE takes it out of the reclaim queue; what was written to it goes
/// first, so that a crash leaves no empty file under the name.
///
/// # Errors
/// Exists, NotFound for an inode without a name, NotPermitted for a directory, TooManyLinks.
/// Source: POSIX link, Linux linkat.
pub async fn link(
    txn: &mut Txn<'_>,
    ino: Ino,
    dir: Ino,
    name: &Bytes,
    now: WallTime,
) -> FsResult<(Attrs, bool)> {
    name::check_entry(name).map_err(|e| if e == FsError::Invalid { FsError::Exists } else { e })?;
    let first = txn.volume.names.bucket(name);
    let want_core = one(key::inode(ino, tag::CORE));
    let [dir_value, bucket, core] = txn
        .read([
            one(key::inode(dir, tag::CORE)),
            Bucket::want(dir, first),
            if planted!(LostLink) { want_core.snapshot() } else { want_core },
        ])
        .await?;
    let mut dir_core = live_dir_core(value(dir_value))?;
    let bucket = Bucket::decode(first, bucket)?;
    let mut core = Core::decode(&value(core).ok_or(FsError::Stale)?)?;
    if bucket.find(name).is_some() {
        return Err(FsError::Exists);
    }
    match core.nlink {
        _ if core.is_dir() => return Err(FsError::NotPermitted),
        0 if !core.has(flag::NAMEABLE) => return Err(FsError::NotFound),
        LINK_MAX.. => return Err(FsError::TooManyLinks),
        _ => {}
    }
    let cookie = bucket.vacancy(None)?;

    let first = core.nlink == 0;
    if first {
        if txn.settle(ino).await? {
            return txn.again();
        }
        if !planted!(KeptGarbage) {
            txn.clear(key::garbage(ino, WHOLE));
        }
        core.put(flag::NAMEABLE, false);
        (core.home, core.home_cookie) = (dir, cookie);
    } else {
        if core.nlink == 1 {
            txn.set(key::back_link(ino, core.home, core.home_cookie), Bytes::new());
        }
        txn.set(key::back_link(ino, dir, cookie), Bytes::new());
    }
    core.nlink += 1;
    if !planted!(KeptChangeTime) {
        core.ctime = core.ctime.max(now);
    }
    txn.set(key::inode(ino, tag::CORE), core.encode());
    let dentry = Dentry { ino, kind: core.kind(), name: name.clone() };
    txn.set(key::dentry(dir, cookie), dentry.encode());
    touch_dir(txn, dir, &mut dir_core, now, child(false, 1));
    Ok((Attrs::new(core), first))
}
