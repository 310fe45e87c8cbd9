//! create, mkdir, mknod and symlink: a new inode under a new name.
//!
//! Reads the directory's core and the bucket of the name. Two creates in one directory conflict only
//! when their names share a hash.

use super::bucket::Bucket;
use super::volume::check_inodes;
use super::xattr::{self, ACCESS_ACL, DEFAULT_ACL};
use super::{child, ino_value, live_dir_core, touch_dir, u64_value};
use crate::error::{FsError, FsResult};
use crate::id::Ino;
use crate::meta::acl::Acl;
use crate::meta::attrs::Attrs;
use crate::meta::key::{self, tag};
use crate::meta::name;
use crate::meta::record::{Core, Dentry, Pair, flag};
use crate::meta::txn::{Txn, one, value};
use crate::port::kernel::{S_IFDIR, S_IFLNK, S_IFMT, S_IFREG, S_ISGID};
use crate::time::WallTime;
use alloc::vec::Vec;
use bytes::Bytes;

/// What to create.
#[derive(Clone, Debug)]
pub struct Create {
    /// Directory.
    pub dir: Ino,
    /// New name.
    pub name: Bytes,
    /// The number it gets; fixed before the first attempt.
    pub ino: Ino,
    /// Type and permission bits, umask not applied.
    pub mode: u32,
    /// Bits that are taken off, unless the directory has a default ACL.
    pub umask: u32,
    /// Owner.
    pub uid: u32,
    /// Group, unless the directory is set-gid.
    pub gid: u32,
    /// Device number.
    pub rdev: u32,
    /// Target of a symlink.
    pub target: Option<Bytes>,
    /// Time of all its timestamps.
    pub now: WallTime,
}

/// What came of it.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "the large variant is the common one")]
pub enum Created {
    /// A new inode.
    New(Attrs),
    /// The name was taken, by this inode. Nothing was changed.
    Found(Ino),
}

/// Creates, or finds what has the name.
///
/// # Errors
/// NotFound in a removed directory, NotDirectory, NameTooLong, NoSpace when five names share a hash.
/// Source: POSIX open, mkdir, mknod, symlink; set-gid directories as Linux' inode_init_owner, default
/// ACLs as its posix_acl_create.
pub async fn create(txn: &mut Txn<'_>, new: &Create) -> FsResult<Created> {
    name::check_entry(&new.name)
        .map_err(|e| if e == FsError::Invalid { FsError::Exists } else { e })?;
    let first = txn.volume.names.bucket(&new.name);
    let [dir, bucket] =
        txn.read([one(key::inode(new.dir, tag::CORE)), Bucket::want(new.dir, first)]).await?;
    let mut dir = live_dir_core(value(dir))?;
    let bucket = Bucket::decode(first, bucket)?;
    if let Some((_, taken)) = bucket.find(&new.name) {
        return Ok(Created::Found(taken.ino));
    }
    let cookie = bucket.vacancy(None)?;
    check_inodes(txn).await?;

    let attrs = born(txn, new, &dir, cookie).await?;
    let dentry = Dentry { ino: new.ino, kind: attrs.core.kind(), name: new.name.clone() };
    txn.set(key::dentry(new.dir, cookie), dentry.encode());
    txn.set(key::inode(new.ino, tag::CORE), attrs.core.encode());
    if attrs.core.is_dir() {
        txn.set(key::inode(new.ino, tag::PARENT), ino_value(new.dir));
    }
    if let Some(target) = &new.target {
        txn.set(key::inode(new.ino, tag::TARGET), target.clone());
        txn.set(key::inode(new.ino, tag::SIZE), u64_value(target.len() as u64));
    }
    touch_dir(txn, new.dir, &mut dir, new.now, child(attrs.core.is_dir(), 1));
    txn.charge(Pair { hi: 1, lo: 0 });
    if planted!(LostConflict) {
        txn.lose_conflicts();
    }
    Ok(Created::New(attrs))
}

/// A new inode with what it inherits of its directory. Its core is written by the caller.
pub(super) async fn born(
    txn: &mut Txn<'_>,
    new: &Create,
    dir: &Core,
    cookie: u64,
) -> FsResult<Attrs> {
    let mut attrs = fresh(new, dir, cookie);
    let core = &mut attrs.core;
    if core.kind() == S_IFLNK {
        return Ok(attrs);
    }
    if !dir.has(flag::DEFAULT_ACL) {
        core.mode &= !new.umask;
        return Ok(attrs);
    }
    let [default] = txn.read([one(key::xattr(new.dir, DEFAULT_ACL))]).await?;
    let default = value(default).ok_or(FsError::Damaged)?;
    let mut acl = Acl::decode(&default)?.ok_or(FsError::Damaged)?;
    core.mode = acl.inherit(core.mode);
    let access = (!acl.is_minimal()).then(|| (ACCESS_ACL, acl.encode()));
    let default = core.is_dir().then_some((DEFAULT_ACL, default));
    let given: Vec<_> = access.into_iter().chain(default).collect();
    xattr::give(txn, new.ino, core, &given);
    Ok(attrs)
}

fn fresh(new: &Create, dir: &Core, cookie: u64) -> Attrs {
    let kind = new.mode & S_IFMT;
    let inherits = dir.mode & S_ISGID != 0;
    let inherited = if inherits && kind == S_IFDIR { S_ISGID } else { 0 };
    let core = Core {
        mode: new.mode | inherited,
        uid: new.uid,
        gid: if inherits { dir.gid } else { new.gid },
        nlink: 1,
        rdev: new.rdev,
        flags: if kind == S_IFREG { flag::INLINE } else { 0 },
        generation: 0,
        trunc_epoch: 0,
        btime: new.now,
        ctime: new.now,
        home: new.dir,
        home_cookie: cookie,
    };
    let mut attrs = Attrs::new(core);
    attrs.size = new.target.as_ref().map_or(0, |t| t.len() as u64);
    attrs.parent = (kind == S_IFDIR).then_some(new.dir);
    attrs
}
