//! rename: one transaction over both directories, both names and both inodes.
//!
//! A directory that changes parent also reads the parent pointers of all ancestors of its new place,
//! relied on: two concurrent renames can never make a cycle.

use super::bucket::Bucket;
use super::remove::{Removed, drop_dir, drop_name};
use super::{child, dir_core, ino_value, live_dir_core, named_core, touch_dir};
use crate::error::{FsError, FsResult};
use crate::id::Ino;
use crate::meta::key::{self, tag};
use crate::meta::name;
use crate::meta::record::{Core, Dentry, Pair};
use crate::meta::txn::{Txn, one, value};
use crate::time::WallTime;
use bytes::Bytes;

/// RENAME_NOREPLACE.
pub const NOREPLACE: u32 = 1;
/// RENAME_EXCHANGE.
pub const EXCHANGE: u32 = 2;

/// What to rename.
#[derive(Clone, Debug)]
pub struct Rename {
    /// Old directory.
    pub dir: Ino,
    /// Old name.
    pub name: Bytes,
    /// New directory.
    pub new_dir: Ino,
    /// New name.
    pub new_name: Bytes,
    /// RENAME_* bits.
    pub flags: u32,
    /// Time of all timestamps.
    pub now: WallTime,
}

/// What it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Renamed {
    /// The inode that has the new name.
    pub ino: Ino,
    /// The inode that lost the new name.
    pub replaced: Option<Removed>,
}

/// One end of a rename: a directory, a cookie in it, and what is there.
struct End {
    dir: Ino,
    cookie: u64,
    ino: Ino,
    core: Core,
}

/// Renames.
///
/// # Errors
/// NotFound, Exists (NOREPLACE), Invalid (a directory into itself, unknown flags), NotEmpty,
/// NotDirectory, IsDirectory. Source: POSIX rename, Linux renameat2.
pub async fn rename(txn: &mut Txn<'_>, r: &Rename) -> FsResult<Renamed> {
    if r.flags & !(NOREPLACE | EXCHANGE) != 0 || r.flags == NOREPLACE | EXCHANGE {
        return Err(FsError::Invalid);
    }
    name::check_entry(&r.name)?;
    name::check_entry(&r.new_name)?;
    let (from, to) = (txn.volume.names.bucket(&r.name), txn.volume.names.bucket(&r.new_name));
    let [old_dir, new_dir, from_bucket, to_bucket] = txn
        .read([
            one(key::inode(r.dir, tag::CORE)),
            one(key::inode(r.new_dir, tag::CORE)),
            Bucket::want(r.dir, from),
            Bucket::want(r.new_dir, to),
        ])
        .await?;
    let mut old_dir = dir_core(value(old_dir))?;
    let mut new_dir = live_dir_core(value(new_dir))?;
    let (from_bucket, to_bucket) =
        (Bucket::decode(from, from_bucket)?, Bucket::decode(to, to_bucket)?);
    let source = found(&from_bucket, r.dir, &r.name).ok_or(FsError::NotFound)?;
    let target = found(&to_bucket, r.new_dir, &r.new_name);
    let (source, target) = cores(txn, source, target).await?;

    match &target {
        None if r.flags & EXCHANGE != 0 => return Err(FsError::NotFound),
        Some(_) if r.flags & NOREPLACE != 0 => return Err(FsError::Exists),
        Some(target) if target.ino == source.ino => {
            return Ok(Renamed { ino: source.ino, replaced: None });
        }
        _ => {}
    }
    check_cycle(txn, &source, target.as_ref(), r).await?;
    if r.flags & EXCHANGE != 0 {
        let target = target.ok_or(FsError::NotFound)?;
        return Ok(exchange(txn, r, (&mut old_dir, &mut new_dir), source, target));
    }
    // Its buffered writes go first: a crash must not leave the new name empty.
    if !planted!(UnsettledRename) && txn.settle(source.ino).await? {
        return txn.again();
    }
    let replaced = match target {
        Some(target) => Some(replace(txn, &source, target, r.now).await?),
        None => None,
    };
    let leaving = (r.dir == r.new_dir && from == to).then_some(source.cookie);
    let cookie = match &replaced {
        Some((cookie, _, _)) => *cookie,
        None => to_bucket.vacancy(leaving)?,
    };
    place(txn, r, source, cookie, replaced, (&mut old_dir, &mut new_dir))
}

fn found(bucket: &Bucket, dir: Ino, name: &[u8]) -> Option<(Ino, u64, Ino)> {
    bucket.find(name).map(|(cookie, dentry)| (dir, cookie, dentry.ino))
}

/// Reads the cores of both ends in one round.
async fn cores(
    txn: &mut Txn<'_>,
    source: (Ino, u64, Ino),
    target: Option<(Ino, u64, Ino)>,
) -> FsResult<(End, Option<End>)> {
    let wants =
        [Some(source), target].into_iter().flatten().map(|end| one(key::inode(end.2, tag::CORE)));
    let mut values = txn.read_all(wants.collect()).await?.into_iter();
    let mut end = |(dir, cookie, ino)| {
        let core = named_core(values.next().and_then(value))?;
        FsResult::Ok(End { dir, cookie, ino, core })
    };
    Ok((end(source)?, target.map(end).transpose()?))
}

/// Neither end may become its own ancestor.
async fn check_cycle(
    txn: &mut Txn<'_>,
    source: &End,
    target: Option<&End>,
    r: &Rename,
) -> FsResult<()> {
    if r.dir == r.new_dir || planted!(NoAncestorCheck) {
        return Ok(());
    }
    if source.core.is_dir() && is_ancestor(txn, source.ino, r.new_dir).await? {
        probe!("rename-below-itself");
        return Err(FsError::Invalid);
    }
    if let Some(target) = target.filter(|t| t.core.is_dir()) {
        let exchange = r.flags & EXCHANGE != 0;
        // A plain rename onto an ancestor of the source fails anyway, because it is not empty.
        if (exchange || source.core.is_dir()) && is_ancestor(txn, target.ino, r.dir).await? {
            return Err(if exchange { FsError::Invalid } else { FsError::NotEmpty });
        }
    }
    Ok(())
}

/// Whether `ino` is `dir` or above it. Every parent pointer on the way is relied on.
async fn is_ancestor(txn: &mut Txn<'_>, ino: Ino, dir: Ino) -> FsResult<bool> {
    let mut at = dir;
    while at != Ino::ROOT {
        if at == ino {
            return Ok(true);
        }
        let want = one(key::inode(at, tag::PARENT));
        let want = if planted!(UnreliedAncestors) { want.snapshot() } else { want };
        let [parent] = txn.read([want]).await?;
        let parent = value(parent).ok_or(FsError::Damaged)?;
        at = Ino(u64::from_be_bytes(parent.as_ref().try_into().map_err(|_| FsError::Damaged)?));
    }
    Ok(ino == Ino::ROOT)
}

/// What had the new name goes. Returns its cookie, what became of it, and whether it was a directory.
async fn replace(
    txn: &mut Txn<'_>,
    source: &End,
    target: End,
    now: WallTime,
) -> FsResult<(u64, Removed, bool)> {
    let cookie = target.cookie;
    match (source.core.is_dir(), target.core.is_dir()) {
        (true, false) => Err(FsError::NotDirectory),
        (false, true) => Err(FsError::IsDirectory),
        (true, true) => {
            drop_dir(txn, target.ino, target.core, now).await?;
            Ok((cookie, Removed { ino: target.ino, last: true }, true))
        }
        (false, false) => {
            let removed =
                drop_name(txn, target.ino, target.core, (target.dir, cookie), now).await?;
            Ok((cookie, removed, false))
        }
    }
}

/// Moves the source to its new place.
fn place(
    txn: &mut Txn<'_>,
    r: &Rename,
    source: End,
    cookie: u64,
    replaced: Option<(u64, Removed, bool)>,
    (old_dir, new_dir): (&mut Core, &mut Core),
) -> FsResult<Renamed> {
    let (ino, is_dir) = (source.ino, source.core.is_dir());
    txn.clear(key::dentry(source.dir, source.cookie));
    put_name(txn, source, (r.new_dir, cookie, &r.new_name), r.now);
    let lost = replaced.as_ref().map_or(Pair::default(), |(_, _, dir)| child(*dir, -1));
    if r.dir == r.new_dir {
        if lost != Pair::default() || !planted!(KeptDirTime) {
            touch_dir(txn, r.dir, old_dir, r.now, lost);
        }
    } else {
        touch_dir(txn, r.dir, old_dir, r.now, child(is_dir, -1));
        let gained = child(is_dir, 1);
        touch_dir(
            txn,
            r.new_dir,
            new_dir,
            r.now,
            Pair { hi: gained.hi + lost.hi, lo: gained.lo + lost.lo },
        );
    }
    Ok(Renamed { ino, replaced: replaced.map(|(_, removed, _)| removed) })
}

fn exchange(
    txn: &mut Txn<'_>,
    r: &Rename,
    (old_dir, new_dir): (&mut Core, &mut Core),
    source: End,
    target: End,
) -> Renamed {
    let moved = i64::from(target.core.is_dir()) - i64::from(source.core.is_dir());
    let (from, to) = ((source.dir, source.cookie), (target.dir, target.cookie));
    let ino = source.ino;
    put_name(txn, source, (to.0, to.1, &r.new_name), r.now);
    put_name(txn, target, (from.0, from.1, &r.name), r.now);
    if r.dir == r.new_dir || planted!(KeptSubdirs) {
        touch_dir(txn, r.dir, old_dir, r.now, Pair::default());
    } else {
        touch_dir(txn, r.dir, old_dir, r.now, Pair { hi: moved, lo: 0 });
        touch_dir(txn, r.new_dir, new_dir, r.now, Pair { hi: -moved, lo: 0 });
    }
    Renamed { ino, replaced: None }
}

/// Writes the dentry, and keeps home name, back links and parent pointer of what it names true.
fn put_name(txn: &mut Txn<'_>, end: End, (dir, cookie, name): (Ino, u64, &Bytes), now: WallTime) {
    let End { dir: old_dir, cookie: old_cookie, ino, mut core } = end;
    txn.set(
        key::dentry(dir, cookie),
        Dentry { ino, kind: core.kind(), name: name.clone() }.encode(),
    );
    if core.is_dir() && dir != old_dir && !planted!(KeptParent) {
        txn.set(key::inode(ino, tag::PARENT), ino_value(dir));
    }
    if core.nlink > 1 {
        txn.clear(key::back_link(ino, old_dir, old_cookie));
        txn.set(key::back_link(ino, dir, cookie), Bytes::new());
    }
    if (core.home, core.home_cookie) == (old_dir, old_cookie) {
        (core.home, core.home_cookie) = (dir, cookie);
    }
    core.ctime = core.ctime.max(now);
    txn.set(key::inode(ino, tag::CORE), core.encode());
}
