//! link: another name for an inode.

use super::WHOLE;
use super::new_name::NewName;
use crate::error::{FsError, FsResult};
use crate::id::Ino;
use crate::limits::LINK_MAX;
use crate::meta::attrs::Attrs;
use crate::meta::key;
use crate::meta::name;
use crate::meta::record::flag;
use crate::meta::txn::Txn;
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
    let (new, core) = NewName::read(txn, ino, dir, name).await?;
    let mut core = core.ok_or(FsError::Stale)?;
    if new.is_taken() {
        return Err(FsError::Exists);
    }
    match core.nlink {
        _ if core.is_dir() => return Err(FsError::NotPermitted),
        0 if !core.has(flag::NAMEABLE) => return Err(FsError::NotFound),
        LINK_MAX.. => return Err(FsError::TooManyLinks),
        _ => {}
    }
    let cookie = new.cookie()?;

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
    new.put(txn, ino, &core, cookie, now);
    Ok((Attrs::new(core), first))
}
