//! reconnect: a name for an inode that has lost all of its own. Of a repair only.

use super::ino_value;
use super::new_name::NewName;
use crate::error::{FsError, FsResult};
use crate::id::Ino;
use crate::meta::key::{self, tag};
use crate::meta::record::flag;
use crate::meta::txn::Txn;
use crate::time::WallTime;
use alloc::format;
use bytes::Bytes;

/// Gives an inode the name `#<number>` in a directory, as its only one.
///
/// # Errors
/// Exists, NotDirectory, NoSpace when five names share a hash, Damaged without an inode.
pub async fn reconnect(txn: &mut Txn<'_>, ino: Ino, dir: Ino, now: WallTime) -> FsResult<()> {
    let name = Bytes::from(format!("#{ino}"));
    let (new, core) = NewName::read(txn, ino, dir, &name).await?;
    if new.is_taken() {
        return Err(FsError::Exists);
    }
    let mut core = core.ok_or(FsError::Damaged)?;
    let cookie = new.cookie()?;
    core.nlink = 1;
    core.put(flag::NAMEABLE, false);
    (core.home, core.home_cookie) = (dir, cookie);
    core.ctime = core.ctime.max(now);
    if core.is_dir() {
        txn.set(key::inode(ino, tag::PARENT), ino_value(dir));
    }
    new.put(txn, ino, &core, cookie, now);
    Ok(())
}
