//! unlink and rmdir, and what they share with a rename that replaces something.

use super::bucket::Bucket;
use super::{child, condemn, dir_core, named_core, touch_dir};
use crate::error::{FsError, FsResult};
use crate::id::Ino;
use crate::meta::key::{self, tag};
use crate::meta::name;
use crate::meta::record::Core;
use crate::meta::txn::{Txn, list, one, rows, value};
use crate::time::WallTime;

/// What was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removed {
    /// Which inode lost a name.
    pub ino: Ino,
    /// Whether it was the last one.
    pub last: bool,
}

/// Removes the name of anything but a directory.
///
/// # Errors
/// NotFound, IsDirectory (Linux' choice where POSIX says EPERM). Source: POSIX unlink.
pub async fn unlink(txn: &mut Txn<'_>, dir: Ino, name: &[u8], now: WallTime) -> FsResult<Removed> {
    let (cookie, mut parent, ino, core) = named(txn, dir, name).await?;
    if core.is_dir() {
        return Err(FsError::IsDirectory);
    }
    let removed = drop_name(txn, ino, core, (dir, cookie), now).await?;
    txn.clear(key::dentry(dir, cookie));
    touch_dir(txn, dir, &mut parent, now, child(false, -1));
    Ok(removed)
}

/// Removes an empty directory.
///
/// # Errors
/// NotFound, NotDirectory, NotEmpty. Source: POSIX rmdir.
pub async fn rmdir(txn: &mut Txn<'_>, dir: Ino, name: &[u8], now: WallTime) -> FsResult<Removed> {
    let (cookie, mut parent, ino, core) = named(txn, dir, name).await?;
    if !core.is_dir() {
        return Err(FsError::NotDirectory);
    }
    drop_dir(txn, ino, core, now).await?;
    txn.clear(key::dentry(dir, cookie));
    touch_dir(txn, dir, &mut parent, now, child(true, -1));
    Ok(Removed { ino, last: true })
}

/// The directory's core, and inode and core of what a name in it names.
async fn named(txn: &mut Txn<'_>, dir: Ino, name: &[u8]) -> FsResult<(u64, Core, Ino, Core)> {
    name::check_entry(name)?;
    let first = txn.volume.names.bucket(name);
    let [parent, bucket] =
        txn.read([one(key::inode(dir, tag::CORE)), Bucket::want(dir, first)]).await?;
    let parent = dir_core(value(parent))?;
    let bucket = Bucket::decode(first, bucket)?;
    let (cookie, dentry) = bucket.find(name).ok_or(FsError::NotFound)?;
    let ino = dentry.ino;
    let [core] = txn.read([one(key::inode(ino, tag::CORE))]).await?;
    Ok((cookie, parent, ino, named_core(value(core))?))
}

/// Takes one name from an inode that is no directory; the dentry itself is the caller's.
pub(super) async fn drop_name(
    txn: &mut Txn<'_>,
    ino: Ino,
    mut core: Core,
    gone: (Ino, u64),
    now: WallTime,
) -> FsResult<Removed> {
    if core.nlink > 1 {
        forget_link(txn, ino, &mut core, gone).await?;
    }
    core.nlink = core.nlink.checked_sub(1).ok_or(FsError::Damaged)?;
    core.ctime = core.ctime.max(now);
    txn.set(key::inode(ino, tag::CORE), core.encode());
    let last = core.nlink == 0;
    if last {
        condemn(txn, ino);
    }
    Ok(Removed { ino, last })
}

/// Keeps home name and back links true when one of several names goes.
async fn forget_link(
    txn: &mut Txn<'_>,
    ino: Ino,
    core: &mut Core,
    gone: (Ino, u64),
) -> FsResult<()> {
    // Two rows suffice: with more names than two, any other may become home.
    let [links] = txn.read([rows(key::back_links(ino), 3)]).await?;
    let links = list(links);
    let others = links
        .iter()
        .map(|(key, _)| key::parse_back_link(key).ok_or(FsError::Damaged))
        .map(|link| link.map(|(_, parent, cookie)| (parent, cookie)))
        .filter(|link| *link != Ok(gone));
    let mut others = others.collect::<FsResult<alloc::vec::Vec<_>>>()?.into_iter();
    let other = others.next().ok_or(FsError::Damaged)?;
    if (core.home, core.home_cookie) == gone || core.nlink == 2 {
        (core.home, core.home_cookie) = other;
    }
    if !planted!(KeptBackLink) {
        txn.clear(key::back_link(ino, gone.0, gone.1));
    }
    if core.nlink == 2 {
        txn.clear(key::back_link(ino, other.0, other.1));
    }
    Ok(())
}

/// Condemns a directory if it is empty; the dentry itself is the caller's.
pub(super) async fn drop_dir(
    txn: &mut Txn<'_>,
    ino: Ino,
    mut core: Core,
    now: WallTime,
) -> FsResult<()> {
    let want = rows(key::dentries_after(ino, 0), 1);
    let want = if planted!(PhantomEntry) { want.snapshot() } else { want };
    let [first] = txn.read([want]).await?;
    if !list(first).is_empty() {
        return Err(FsError::NotEmpty);
    }
    core.nlink = 0;
    core.ctime = core.ctime.max(now);
    txn.set(key::inode(ino, tag::CORE), core.encode());
    condemn(txn, ino);
    Ok(())
}
