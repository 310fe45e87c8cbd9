//! Extended attributes: get, list, set, remove. One key per attribute; the core's flags say which ones
//! there are that others must know of, and a pair counts the bytes of all.
//!
//! ACLs are attributes that change the mode, and that a chmod changes (`setattr`).

use crate::error::{FsError, FsResult};
use crate::id::Ino;
use crate::limits::{XATTR_BYTES_MAX, XATTR_LIST_MAX, XATTR_NAME_MAX, XATTR_SIZE_MAX};
use crate::meta::acl::Acl;
use crate::meta::key::{self, tag};
use crate::meta::record::{Core, Pair, flag};
use crate::meta::txn::{Txn, one, value};
use crate::port::kernel::{S_IFLNK, S_ISGID};
use crate::port::meta_kv::Value;
use crate::time::WallTime;
use alloc::vec::Vec;
use bytes::Bytes;

/// The attributes that mean something to the filesystem.
pub const CAPABILITY: &[u8] = b"security.capability";
/// See [`CAPABILITY`].
pub const ACCESS_ACL: &[u8] = b"system.posix_acl_access";
/// See [`CAPABILITY`].
pub const DEFAULT_ACL: &[u8] = b"system.posix_acl_default";

const CREATE: u32 = 1;
const REPLACE: u32 = 2;

/// What to set.
#[derive(Clone, Debug)]
pub struct Set {
    /// Full name.
    pub name: Bytes,
    /// New value.
    pub value: Bytes,
    /// XATTR_CREATE and XATTR_REPLACE.
    pub flags: u32,
    /// Clear the set-group-id bit with an access ACL.
    pub kill_sgid: bool,
    /// Time of the change.
    pub now: WallTime,
}

/// The bit of the core that tells of an attribute, if there is one.
pub fn flag_of(name: &[u8]) -> Option<u16> {
    match name {
        CAPABILITY => Some(flag::CAPABILITY),
        ACCESS_ACL => Some(flag::ACCESS_ACL),
        DEFAULT_ACL => Some(flag::DEFAULT_ACL),
        _ => None,
    }
}

/// Whether a core's flags alone say that there is no such attribute.
pub fn is_absent(flags: u16, name: &[u8]) -> bool {
    flags & flag_of(name).unwrap_or(flag::XATTR) == 0
}

/// A name of a known namespace.
///
/// # Errors
/// Range for a name that is too long, Invalid for a bare namespace, NotSupported for any other.
pub fn check_name(name: &[u8]) -> FsResult<()> {
    if name.is_empty() || name.len() > XATTR_NAME_MAX {
        return Err(FsError::Range);
    }
    let spaces = [&b"user."[..], b"trusted.", b"security."];
    match spaces.into_iter().find(|space| name.starts_with(space)) {
        Some(space) if name.len() > space.len() => Ok(()),
        Some(_) => Err(FsError::Invalid),
        None if matches!(name, ACCESS_ACL | DEFAULT_ACL) => Ok(()),
        None => Err(FsError::NotSupported),
    }
}

/// The value of an attribute, and the core.
///
/// # Errors
/// Stale; of the name: see [`check_name`]. Source: getxattr(2).
pub async fn get(txn: &mut Txn<'_>, ino: Ino, name: &[u8]) -> FsResult<(Core, Option<Value>)> {
    check_name(name)?;
    let wants = [key::inode(ino, tag::CORE), key::xattr(ino, name)];
    let [core, found] = txn.read(wants.map(|key| one(key).snapshot())).await?;
    Ok((Core::decode(&value(core).ok_or(FsError::Stale)?)?, value(found)))
}

/// The names of all attributes, and the core.
///
/// # Errors
/// Stale. Source: listxattr(2).
pub async fn list(txn: &mut Txn<'_>, ino: Ino) -> FsResult<(Core, Vec<Bytes>)> {
    let [core] = txn.read([one(key::inode(ino, tag::CORE)).snapshot()]).await?;
    let core = Core::decode(&value(core).ok_or(FsError::Stale)?)?;
    if !core.has(flag::XATTR) {
        return Ok((core, Vec::new()));
    }
    let rows = txn.read_range(key::xattrs(ino), false).await?;
    let name = |key: &[u8]| key::parse_inode(key).map(|(.., name)| Bytes::copy_from_slice(name));
    let names = rows.iter().map(|(key, _)| name(key).ok_or(FsError::Damaged));
    Ok((core, names.collect::<FsResult<_>>()?))
}

/// Sets an attribute. Returns the core as it is then.
///
/// # Errors
/// Exists and NoAttribute by the flags, TooBig, NoSpace above the bounds of one inode; of an ACL:
/// Invalid, NotSupported on a symlink, Denied for a default ACL of what is no directory.
/// Source: setxattr(2), Linux posix_acl_update_mode.
pub async fn set(txn: &mut Txn<'_>, ino: Ino, set: &Set) -> FsResult<Core> {
    check_name(&set.name)?;
    if set.value.len() > XATTR_SIZE_MAX {
        return Err(FsError::TooBig);
    }
    let mut slot = Slot::load(txn, ino, &set.name).await?;
    let new = match &set.name[..] {
        ACCESS_ACL | DEFAULT_ACL if slot.core.kind() == S_IFLNK => {
            return Err(FsError::NotSupported);
        }
        ACCESS_ACL | DEFAULT_ACL => match Acl::decode(&set.value)? {
            Some(acl) if set.name == ACCESS_ACL => access_acl(&mut slot.core, &acl, set),
            Some(_) if !slot.core.is_dir() => return Err(FsError::Denied),
            Some(acl) => Some(acl.encode()),
            // An ACL of nobody is none.
            None if slot.old.is_none() => return Ok(slot.core),
            None => None,
        },
        _ => {
            let there = slot.old.is_some();
            match set.flags {
                flags if flags & !(CREATE | REPLACE) != 0 => return Err(FsError::Invalid),
                flags if flags & CREATE != 0 && there => return Err(FsError::Exists),
                flags if flags & REPLACE != 0 && !there => return Err(FsError::NoAttribute),
                _ => Some(set.value.clone()),
            }
        }
    };
    slot.put(txn, new)?;
    Ok(slot.finish(txn, set.now))
}

/// Removes an attribute. Returns the core as it is then.
///
/// # Errors
/// NoAttribute. Source: removexattr(2).
pub async fn remove(txn: &mut Txn<'_>, ino: Ino, name: &[u8], now: WallTime) -> FsResult<Core> {
    check_name(name)?;
    let mut slot = Slot::load(txn, ino, name).await?;
    if slot.old.is_none() {
        return Err(FsError::NoAttribute);
    }
    slot.put(txn, None)?;
    Ok(slot.finish(txn, now))
}

/// The permission bits become those of the ACL; one that says no more than they do is not kept.
fn access_acl(core: &mut Core, acl: &Acl, set: &Set) -> Option<Value> {
    core.mode = core.mode & !0o777 | acl.mode();
    if set.kill_sgid {
        core.mode &= !S_ISGID;
    }
    (!acl.is_minimal()).then(|| acl.encode())
}

/// One attribute of an inode about to be changed.
struct Slot<'a> {
    ino: Ino,
    name: &'a [u8],
    core: Core,
    counted: Pair,
    old: Option<Value>,
}

impl<'a> Slot<'a> {
    async fn load(txn: &mut Txn<'_>, ino: Ino, name: &'a [u8]) -> FsResult<Slot<'a>> {
        let wants =
            [key::inode(ino, tag::CORE), key::inode(ino, tag::XATTRS), key::xattr(ino, name)];
        let [core, counted, old] = txn.read(wants.map(one)).await?;
        let core = Core::decode(&value(core).ok_or(FsError::Stale)?)?;
        Ok(Slot { ino, name, core, counted: decode_counted(value(counted))?, old: value(old) })
    }

    /// Writes the attribute with its counters and flags; the core is left to the caller.
    fn put(&mut self, txn: &mut Txn<'_>, new: Option<Value>) -> FsResult<()> {
        let (before, after) = (room(self.name, self.old.as_ref()), room(self.name, new.as_ref()));
        let grown = Pair { hi: after.hi - before.hi, lo: after.lo - before.lo };
        let total = Pair { hi: self.counted.hi + grown.hi, lo: self.counted.lo + grown.lo };
        if (grown.hi > 0 && total.hi > XATTR_LIST_MAX)
            || (grown.lo > 0 && total.lo > XATTR_BYTES_MAX)
        {
            return Err(FsError::NoSpace);
        }
        if let Some(bit) = flag_of(self.name) {
            self.core.put(bit, new.is_some());
        }
        match &new {
            Some(new) => txn.set(key::xattr(self.ino, self.name), new.clone()),
            None if self.old.is_some() => txn.clear(key::xattr(self.ino, self.name)),
            None => {}
        }
        (self.counted, self.old) = (total, new);
        count(txn, self.ino, &mut self.core, total, grown);
        Ok(())
    }

    fn finish(mut self, txn: &mut Txn<'_>, now: WallTime) -> Core {
        self.core.ctime = self.core.ctime.max(now);
        txn.set(key::inode(self.ino, tag::CORE), self.core.encode());
        self.core
    }
}

/// The counters of an inode's attributes became `total`, `grown` more than they were.
fn count(txn: &mut Txn<'_>, ino: Ino, core: &mut Core, total: Pair, grown: Pair) {
    let counter = key::inode(ino, tag::XATTRS);
    core.put(flag::XATTR, total != Pair::default());
    if grown == Pair::default() {
        return;
    }
    match total == Pair::default() {
        true => txn.clear(counter),
        false => txn.set(counter, Bytes::copy_from_slice(&total.encode())),
    }
    txn.charge(Pair { hi: 0, lo: grown.hi + grown.lo });
}

/// Bytes of a name as it is listed, and of its value.
fn room(name: &[u8], value: Option<&Value>) -> Pair {
    value.map_or(Pair::default(), |v| Pair { hi: name.len() as i64 + 1, lo: v.len() as i64 })
}

/// The counters of an inode's attributes.
pub(super) fn decode_counted(value: Option<Value>) -> FsResult<Pair> {
    value.map_or(Ok(Pair::default()), |v| Pair::decode(&v))
}

/// Changes one attribute of an inode whose core the caller holds and writes: `None` removes it.
pub(super) async fn change(
    txn: &mut Txn<'_>,
    ino: Ino,
    core: &mut Core,
    name: &[u8],
    change: impl FnOnce(&Value) -> FsResult<Option<Value>>,
) -> FsResult<()> {
    let wants = [key::inode(ino, tag::XATTRS), key::xattr(ino, name)];
    let [counted, old] = txn.read(wants.map(one)).await?;
    let old = value(old).ok_or(FsError::Damaged)?;
    let new = change(&old)?;
    let counted = decode_counted(value(counted))?;
    let mut slot = Slot { ino, name, core: core.clone(), counted, old: Some(old) };
    slot.put(txn, new)?;
    *core = slot.core;
    Ok(())
}

/// Gives an inode that is being made its first attributes.
pub(super) fn give(txn: &mut Txn<'_>, ino: Ino, core: &mut Core, given: &[(&[u8], Value)]) {
    let mut total = Pair::default();
    for (name, value) in given {
        let size = room(name, Some(value));
        total = Pair { hi: total.hi + size.hi, lo: total.lo + size.lo };
        core.put(flag_of(name).unwrap_or(flag::XATTR), true);
        txn.set(key::xattr(ino, name), value.clone());
    }
    count(txn, ino, core, total, total);
}
