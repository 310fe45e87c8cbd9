//! What a file loses when its data or owner changes: set-id bits and file capabilities.

use super::xattr::{self, CAPABILITY};
use crate::error::{FsError, FsResult};
use crate::id::Ino;
use crate::meta::key::{self, tag};
use crate::meta::record::{Core, flag};
use crate::meta::txn::{Txn, one, value};
use crate::port::kernel::{S_ISGID, S_ISUID, S_IXGRP};
use crate::time::WallTime;

/// A mode without its set-id bits. Set-group-id without execution by the group means something else
/// (mandatory locking, once) and stays.
pub fn without_set_id(mode: u32) -> u32 {
    let group = S_ISGID | S_IXGRP;
    let mode = mode & !S_ISUID;
    if mode & group == group { mode & !S_ISGID } else { mode }
}

/// Whether there is anything to lose; `set_id`: the set-id bits count.
pub fn has_any(mode: u32, flags: u16, set_id: bool) -> bool {
    flags & flag::CAPABILITY != 0 || (set_id && without_set_id(mode) != mode)
}

/// A change of data: when, and on whose behalf.
#[derive(Clone, Copy, Debug)]
pub struct Modified {
    /// Its time.
    pub now: WallTime,
    /// The caller has no privilege to keep set-id bits. FUSE does not tell for FALLOCATE and
    /// COPY_FILE_RANGE, so that user 0 counts as privileged.
    pub sheds_set_id: bool,
}

/// Takes file capabilities, and with `set_id` the set-id bits. The caller writes the core.
pub(super) async fn shed(
    txn: &mut Txn<'_>,
    ino: Ino,
    core: &mut Core,
    set_id: bool,
) -> FsResult<()> {
    if set_id {
        core.mode = without_set_id(core.mode);
    }
    if core.has(flag::CAPABILITY) {
        xattr::change(txn, ino, core, CAPABILITY, |_| Ok(None)).await?;
    }
    Ok(())
}

/// The same as a transaction of its own, before a write. Returns the core as it is then.
///
/// # Errors
/// Stale. Source: write(2), FUSE_HANDLE_KILLPRIV_V2.
pub async fn shed_before_write(
    txn: &mut Txn<'_>,
    ino: Ino,
    set_id: bool,
    now: WallTime,
) -> FsResult<Core> {
    let [core] = txn.read([one(key::inode(ino, tag::CORE))]).await?;
    let mut core = Core::decode(&value(core).ok_or(FsError::Stale)?)?;
    if has_any(core.mode, core.flags, set_id) {
        shed(txn, ino, &mut core, set_id).await?;
        core.ctime = core.ctime.max(now);
        txn.set(key::inode(ino, tag::CORE), core.encode());
    }
    Ok(core)
}
