//! readdir: one page of a directory, in the order of the cookies.
//!
//! An entry that stands throughout a listing is returned exactly once, whatever is created or
//! removed meanwhile, because its cookie never changes.

use super::lookup::want_attrs;
use crate::error::{FsError, FsResult};
use crate::id::Ino;
use crate::limits::BUCKET_SLOTS;
use crate::meta::attrs::Attrs;
use crate::meta::key::{self, tag};
use crate::meta::name::{COOKIE_PARENT, COOKIE_SELF};
use crate::meta::record::{Core, Dentry};
use crate::meta::txn::{Txn, list, one, rows, value};
use crate::port::kernel::S_IFDIR;
use crate::port::meta_kv::Values;
use alloc::vec::Vec;
use bytes::Bytes;

/// One entry as listed.
#[derive(Clone, Debug)]
pub struct Listed {
    /// What it names.
    pub ino: Ino,
    /// Where to go on.
    pub cookie: u64,
    /// Type bits.
    pub kind: u32,
    /// Name.
    pub name: Bytes,
    /// Attributes, if asked for and still there.
    pub attrs: Option<Attrs>,
}

/// Lists at most `limit` entries after a cookie; none at the end.
pub async fn readdir(
    txn: &mut Txn<'_>,
    dir: Ino,
    cookie: u64,
    limit: u32,
    plus: bool,
) -> FsResult<Vec<Listed>> {
    let mut page = Vec::new();
    let bucket = if planted!(SkippedEntry) { BUCKET_SLOTS - 1 } else { 0 };
    let after = cookie.max(COOKIE_PARENT) | bucket;
    let [core, parent, entries] = txn
        .read([
            one(key::inode(dir, tag::CORE)).snapshot(),
            one(key::inode(dir, tag::PARENT)).snapshot(),
            rows(key::dentries_after(dir, after), limit).snapshot().short(),
        ])
        .await?;
    let core = Core::decode(&value(core).ok_or(FsError::Stale)?)?;
    if !core.is_dir() {
        return Err(FsError::NotDirectory);
    }
    let dots =
        [(COOKIE_SELF, &b"."[..], dir), (COOKIE_PARENT, &b".."[..], parent_of(dir, parent)?)];
    for (at, name, ino) in dots.into_iter().filter(|(at, ..)| *at > cookie) {
        let name = Bytes::from_static(name);
        page.push(Listed { ino, cookie: at, kind: S_IFDIR, name, attrs: None });
    }
    if core.nlink == 0 {
        // A removed directory has nothing left to list, not even its dots.
        return Ok(Vec::new());
    }
    for (key, value) in list(entries) {
        let (_, cookie) = key::parse_dentry(&key).ok_or(FsError::Damaged)?;
        let Dentry { ino, kind, name } = Dentry::decode(&value)?;
        page.push(Listed { ino, cookie, kind, name, attrs: None });
    }
    if plus {
        fill_attrs(txn, &mut page).await?;
    }
    Ok(page)
}

fn parent_of(dir: Ino, parent: Values) -> FsResult<Ino> {
    let Some(parent) = value(parent) else { return Ok(dir) };
    Ok(Ino(u64::from_be_bytes(parent.as_ref().try_into().map_err(|_| FsError::Damaged)?)))
}

/// Reads the attributes of all entries in one round.
async fn fill_attrs(txn: &mut Txn<'_>, page: &mut [Listed]) -> FsResult<()> {
    let named = page.iter_mut().filter(|e| e.cookie > COOKIE_PARENT);
    let named: Vec<&mut Listed> = named.collect();
    let wants = named.iter().map(|e| want_attrs(e.ino).snapshot()).collect();
    let values = txn.read_all(wants).await?;
    for (entry, rows) in named.into_iter().zip(values) {
        entry.attrs = Attrs::from_rows(&list(rows))?;
    }
    Ok(())
}
