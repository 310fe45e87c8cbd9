//! setattr: mode, owner, size, times.
//!
//! A truncate writes little however large the file: a new size and an erase record, or a new data
//! generation when nothing remains. What it cuts off is counted, from memory or from the log. Bytes beyond
//! the size are zeros for ever, also after it grows.
//! Order on one mount: the inode's buffered writes are committed before this runs (`client`).

use super::patch::{Patch, Patched, cut_off, erase, grow, visible_beyond};
use super::privilege::Modified;
use super::xattr::{self, ACCESS_ACL};
use super::{privilege, time_value, u64_value};
use crate::error::{FsError, FsResult};
use crate::id::Ino;
use crate::limits::{FILE_SIZE_MAX, INLINE_MAX};
use crate::meta::acl::Acl;
use crate::meta::attrs::Attrs;
use crate::meta::key::{self, tag};
use crate::meta::ops::lookup::want_attrs;
use crate::meta::record::{Pair, flag};
use crate::meta::txn::{Txn, list, one, value};
use crate::port::kernel::{S_IFREG, SetAttr, SetTime};
use crate::time::WallTime;

/// Changes attributes. A change of size comes with the inode to itself and nothing buffered.
///
/// # Errors
/// Stale, IsDirectory or Invalid (size of what is no file), FileTooLarge.
/// Source: POSIX chmod, chown, truncate, utimensat.
pub async fn setattr(
    txn: &mut Txn<'_>,
    ino: Ino,
    set: &SetAttr,
    now: WallTime,
) -> FsResult<Patched> {
    let [attrs, inline] = txn
        .read([want_attrs(ino).snapshot(), one(key::inode(ino, tag::INLINE)).snapshot()])
        .await?;
    // Blind counters must not make this conflict with a flush; the core alone does.
    txn.rely_on(key::inode(ino, tag::CORE));
    let mut attrs = Attrs::from_rows(&list(attrs))?.ok_or(FsError::Stale)?;
    let (generation, mode) = (attrs.core.generation, attrs.core.mode);
    // Before mtime is set, which hides that every change of data was one of the inode.
    let changed = attrs.ctime();
    let mut patch = None;
    if let Some(size) = set.size {
        // What is cut off must be known exactly: a racing writer makes this try again.
        txn.rely_on(key::inode(ino, tag::SIZE));
        let inline_len = value(inline).map_or(0, |v| v.len() as u64);
        patch = resize(txn, ino, &mut attrs, (size, inline_len)).await?;
    }
    if set.mtime.is_some() {
        // Setting the time hides those that others stamp blindly; the change time must not lose them.
        txn.rely_on(key::inode(ino, tag::MTIME));
    }
    owner_and_mode(txn, ino, &mut attrs, set).await?;
    times(txn, ino, &mut attrs, set, now);
    stamp_changed(txn, ino, &mut attrs, changed, now);
    let cut_off = (attrs.core.generation != generation).then_some(generation);
    let mode_changed = attrs.core.mode != mode;
    Ok(Patched { attrs, patch, cut_off, mode_changed })
}

/// An access ACL follows a chmod. A change of owner or data takes set-id bits and capabilities: the
/// former of a truncate only where the kernel says so, of a chown unless it sends the mode itself.
async fn owner_and_mode(
    txn: &mut Txn<'_>,
    ino: Ino,
    attrs: &mut Attrs,
    set: &SetAttr,
) -> FsResult<()> {
    let core = &mut attrs.core;
    if let Some(mode) = set.mode {
        core.mode = core.kind() | (mode & 0o7777);
        if core.has(flag::ACCESS_ACL) && !planted!(ForgottenMask) {
            xattr::change(txn, ino, core, ACCESS_ACL, |acl| {
                let mut acl = Acl::decode(acl)?.ok_or(FsError::Damaged)?;
                acl.set_mode(mode);
                Ok(Some(acl.encode()))
            })
            .await?;
        }
    }
    let owner = set.uid.is_some() || set.gid.is_some();
    if !core.is_dir() && (owner || set.size.is_some() || set.kill_suidgid) {
        let set_id = set.kill_suidgid || (owner && set.mode.is_none());
        privilege::shed(txn, ino, core, set_id && !planted!(KeptOwnerSetId)).await?;
    }
    core.uid = set.uid.unwrap_or(core.uid);
    core.gid = set.gid.unwrap_or(core.gid);
    Ok(())
}

fn times(txn: &mut Txn<'_>, ino: Ino, attrs: &mut Attrs, set: &SetAttr, now: WallTime) {
    let at = |time| match time {
        SetTime::Now => now,
        SetTime::At(time) => time,
    };
    if let Some(atime) = set.atime.map(at) {
        attrs.atime = Some(atime);
        txn.set(key::inode(ino, tag::ATIME), time_value(atime));
    }
    // A truncate changes data, also when the caller does not say so.
    let implied = set
        .size
        .map(|_| if attrs.core.has(flag::MTIME_SET) { now } else { now.max(attrs.mtime()) });
    if let Some(mtime) = set.mtime.map(at).or(implied) {
        attrs.mtime = Some(mtime);
        attrs.core.put(flag::MTIME_SET, mtime > now);
        txn.set(key::inode(ino, tag::MTIME), time_value(mtime));
    }
}

/// Data changed: mtime and ctime move, set-id bits and file capabilities go, and the core is written.
pub(super) async fn stamp_modified(
    txn: &mut Txn<'_>,
    ino: Ino,
    attrs: &mut Attrs,
    Modified { now, sheds_set_id }: Modified,
) -> FsResult<()> {
    privilege::shed(txn, ino, &mut attrs.core, sheds_set_id).await?;
    let changed = attrs.ctime();
    let mtime = if attrs.core.has(flag::MTIME_SET) { now } else { now.max(attrs.mtime()) };
    attrs.mtime = Some(mtime);
    attrs.core.put(flag::MTIME_SET, mtime > now);
    txn.set(key::inode(ino, tag::MTIME), time_value(mtime));
    stamp_changed(txn, ino, attrs, changed, now);
    Ok(())
}

/// ctime moves to `now`, and the core is written; a clock that was put back must not hide a change.
fn stamp_changed(txn: &mut Txn<'_>, ino: Ino, attrs: &mut Attrs, changed: WallTime, now: WallTime) {
    attrs.core.ctime = now.max(changed);
    attrs.ctime = None;
    txn.clear(key::inode(ino, tag::CTIME));
    txn.set(key::inode(ino, tag::CORE), attrs.core.encode());
}

async fn resize(
    txn: &mut Txn<'_>,
    ino: Ino,
    attrs: &mut Attrs,
    (size, inline): (u64, u64),
) -> FsResult<Option<Patch>> {
    let generation = attrs.core.generation;
    let mut patch = None;
    match attrs.core.kind() {
        S_IFREG => {}
        _ if attrs.core.is_dir() => return Err(FsError::IsDirectory),
        _ => return Err(FsError::Invalid),
    }
    if size > FILE_SIZE_MAX {
        return Err(FsError::FileTooLarge);
    }
    if attrs.core.has(flag::INLINE) {
        if size < inline {
            cut_inline(txn, ino, attrs, size, inline).await?;
        }
    } else if size == 0 {
        cut_off(txn, ino, attrs);
    } else if size < attrs.size {
        patch = Some(cut(txn, ino, attrs, size).await?);
    } else {
        patch = Some(Patch::default());
    }
    attrs.core.trunc_epoch += 1;
    attrs.size = size;
    if planted!(SizeByMax) {
        txn.max(key::inode(ino, tag::SIZE), &size.to_le_bytes());
    } else {
        txn.set(key::inode(ino, tag::SIZE), u64_value(size));
    }
    Ok(patch.filter(|_| attrs.core.generation == generation))
}

/// Erases what a file that has extents has from `size` on.
async fn cut(txn: &mut Txn<'_>, ino: Ino, attrs: &mut Attrs, size: u64) -> FsResult<Patch> {
    if planted!(ForgottenErase) {
        return Ok(Patch::default());
    }
    let erased = visible_beyond(txn, ino, attrs, size).await?;
    erase(txn, ino, attrs, size..u64::MAX, erased)
}

async fn cut_inline(
    txn: &mut Txn<'_>,
    ino: Ino,
    attrs: &mut Attrs,
    size: u64,
    inline: u64,
) -> FsResult<()> {
    let [data] = txn.read([one(key::inode(ino, tag::INLINE))]).await?;
    let data = value(data).ok_or(FsError::Damaged)?;
    assert!(size <= INLINE_MAX && data.len() as u64 == inline, "inline data above its bound");
    match size as usize {
        0 => txn.clear(key::inode(ino, tag::INLINE)),
        n => txn.set(key::inode(ino, tag::INLINE), data.slice(..n)),
    }
    let less = size as i64 - inline as i64;
    attrs.usage.lo += less;
    grow(txn, ino, Pair { hi: 0, lo: less });
    Ok(())
}
