//! lookup and getattr: reading, nothing else.

use super::bucket::Bucket;
use super::dir_core;
use crate::error::{FsError, FsResult};
use crate::id::Ino;
use crate::meta::attrs::Attrs;
use crate::meta::key::{self, tag};
use crate::meta::name;
use crate::meta::txn::{Txn, Want, list, one, rows, value};
use crate::port::meta_kv::Value;

/// Rows an inode's attributes can have.
const ATTR_ROWS: u32 = 16;

/// The read of an inode's attributes.
pub fn want_attrs(ino: Ino) -> Want {
    rows(key::attrs(ino), ATTR_ROWS)
}

/// Finds a name. `None`: the directory is there, the name is not.
///
/// Source: FUSE_LOOKUP; "." and ".." as asked by file handles (FUSE_EXPORT_SUPPORT).
pub async fn lookup(txn: &mut Txn<'_>, dir: Ino, name: &[u8]) -> FsResult<Option<(Ino, Attrs)>> {
    match name {
        b"." => return Ok(Some((dir, getattr(txn, dir).await?))),
        b".." => {
            let parent = getattr(txn, dir).await?.parent.ok_or(FsError::NotDirectory)?;
            return Ok(Some((parent, getattr(txn, parent).await?)));
        }
        _ => name::check(name)?,
    }
    let first = txn.volume.names.bucket(name);
    let [core, bucket] = txn
        .read([one(key::inode(dir, tag::CORE)).snapshot(), Bucket::want(dir, first).snapshot()])
        .await?;
    dir_core(value(core))?;
    let bucket = Bucket::decode(first, bucket)?;
    let Some((_, dentry)) = bucket.find(name) else { return Ok(None) };
    let ino = dentry.ino;
    let [found] = txn.read([want_attrs(ino).snapshot()]).await?;
    let attrs = Attrs::from_rows(&list(found))?.ok_or(FsError::Damaged)?;
    Ok(Some((ino, attrs)))
}

/// The attributes of an inode.
///
/// # Errors
/// [`FsError::Stale`] if it is gone.
pub async fn getattr(txn: &mut Txn<'_>, ino: Ino) -> FsResult<Attrs> {
    let [found] = txn.read([want_attrs(ino).snapshot()]).await?;
    Attrs::from_rows(&list(found))?.ok_or(FsError::Stale)
}

/// The target of a symlink, and its attributes.
pub async fn readlink(txn: &mut Txn<'_>, ino: Ino) -> FsResult<(Value, Attrs)> {
    let [attrs, target] = txn
        .read([want_attrs(ino).snapshot(), one(key::inode(ino, tag::TARGET)).snapshot()])
        .await?;
    let attrs = Attrs::from_rows(&list(attrs))?.ok_or(FsError::Stale)?;
    Ok((value(target).ok_or(FsError::Invalid)?, attrs))
}
