//! relocate: a directory entry that stands where a lookup does not find it. Of a repair only.

use super::bucket::Bucket;
use crate::error::{FsError, FsResult};
use crate::id::Ino;
use crate::limits::NAME_MAX;
use crate::meta::key::{self, tag};
use crate::meta::record::{Core, Dentry};
use crate::meta::txn::{Txn, one, value};
use alloc::format;
use alloc::vec::Vec;
use bytes::Bytes;

/// Names that are tried.
const TRIES: u32 = 9;

/// Puts an entry into the bucket of its name; with `rename`, under a name that is free.
///
/// # Errors
/// Exists when the name is taken, NoSpace when five names share a hash, Damaged.
pub async fn relocate(txn: &mut Txn<'_>, dir: Ino, cookie: u64, rename: bool) -> FsResult<()> {
    let from = key::dentry(dir, cookie);
    let [dentry] = txn.read([one(from.clone())]).await?;
    let dentry = Dentry::decode(&value(dentry).ok_or(FsError::Damaged)?)?;
    let (name, to) = free(txn, dir, &dentry.name, rename).await?;
    let link = key::back_link(dentry.ino, dir, cookie);
    let [core, linked] =
        txn.read([one(key::inode(dentry.ino, tag::CORE)), one(link.clone())]).await?;
    if let Some(mut core) = value(core).map(|core| Core::decode(&core)).transpose()?
        && (core.home, core.home_cookie) == (dir, cookie)
    {
        core.home_cookie = to;
        txn.set(key::inode(dentry.ino, tag::CORE), core.encode());
    }
    if value(linked).is_some() {
        txn.clear(link);
        txn.set(key::back_link(dentry.ino, dir, to), Bytes::new());
    }
    txn.clear(from);
    txn.set(key::dentry(dir, to), Dentry { name, ..dentry }.encode());
    Ok(())
}

/// A name that is free in the directory, and its cookie.
async fn free(txn: &mut Txn<'_>, dir: Ino, name: &Bytes, rename: bool) -> FsResult<(Bytes, u64)> {
    let others = (1..=TRIES).filter(|_| rename).map(|n| {
        let suffix = format!("~{n}");
        let kept = name.len().min(NAME_MAX - suffix.len());
        Bytes::from([&name[..kept], suffix.as_bytes()].concat())
    });
    let names: Vec<Bytes> = if rename { others.collect() } else { [name.clone()].into() };
    for name in names {
        let first = txn.volume.names.bucket(&name);
        let [bucket] = txn.read([Bucket::want(dir, first)]).await?;
        let bucket = Bucket::decode(first, bucket)?;
        if bucket.find(&name).is_none() {
            let cookie = bucket.vacancy(None)?;
            return Ok((name, cookie));
        }
    }
    Err(FsError::Exists)
}
