//! One POSIX operation per file: read in rounds, decide, write. The same code for every store.

mod bucket;
pub mod copy_range;
pub mod create;
pub mod erases;
pub mod fallocate;
pub mod flush;
pub mod fold;
pub mod format;
pub mod groups;
pub mod inspect;
pub mod link;
pub mod load;
pub mod logs;
pub mod lookup;
pub mod naming;
mod new_name;
pub mod patch;
pub mod path;
pub mod privilege;
pub mod readdir;
pub mod reclaim;
pub mod reconnect;
pub mod relocate;
pub mod remove;
pub mod rename;
pub mod segments;
pub mod setattr;
pub mod tmpfile;
pub mod volume;
pub mod weigh;
pub mod xattr;

use crate::error::{FsError, FsResult};
use crate::id::Ino;
use crate::meta::key::{self, tag};
use crate::meta::record::{Core, Pair, encode_time, flag};
use crate::meta::txn::Txn;
use crate::port::meta_kv::Value;
use crate::time::WallTime;
use bytes::Bytes;

/// Decodes the core of a directory that an operation names.
fn dir_core(value: Option<Value>) -> FsResult<Core> {
    let core = Core::decode(&value.ok_or(FsError::Stale)?)?;
    if core.is_dir() { Ok(core) } else { Err(FsError::NotDirectory) }
}

/// Decodes the core of a directory in which a name is about to appear.
fn live_dir_core(value: Option<Value>) -> FsResult<Core> {
    let core = dir_core(value)?;
    if core.nlink == 0 { Err(FsError::NotFound) } else { Ok(core) }
}

/// Decodes the core of an inode that a dentry names.
fn named_core(value: Option<Value>) -> FsResult<Core> {
    Core::decode(&value.ok_or(FsError::Damaged)?)
}

/// A directory's entries changed: its times and counters. Blind, so that two changes never conflict,
/// unless utimens left a time in the future.
fn touch_dir(txn: &mut Txn<'_>, dir: Ino, core: &mut Core, now: WallTime, change: Pair) {
    if core.has(flag::MTIME_SET) {
        core.put(flag::MTIME_SET, false);
        core.ctime = core.ctime.max(now);
        txn.set(key::inode(dir, tag::CORE), core.encode());
        txn.set(key::inode(dir, tag::MTIME), time_value(now));
    } else {
        txn.max(key::inode(dir, tag::MTIME), &encode_time(now));
    }
    if change != Pair::default() {
        txn.add(key::inode(dir, tag::CHILDREN), &change.encode());
    }
}

/// How one more (or one less) entry of a kind changes [`tag::CHILDREN`].
fn child(is_dir: bool, sign: i64) -> Pair {
    Pair { hi: if is_dir { sign } else { 0 }, lo: sign }
}

/// The last name of an inode is gone: it waits for reclaim, whole.
fn condemn(txn: &mut Txn<'_>, ino: Ino) {
    txn.set(key::garbage(ino, WHOLE), Bytes::new());
}

/// The generation that stands for the whole inode in the reclaim queue.
pub const WHOLE: u64 = u64::MAX;

fn time_value(time: WallTime) -> Value {
    Bytes::copy_from_slice(&encode_time(time))
}

fn u64_value(n: u64) -> Value {
    Bytes::copy_from_slice(&n.to_le_bytes())
}

fn ino_value(ino: Ino) -> Value {
    Bytes::copy_from_slice(&ino.0.to_be_bytes())
}

/// A data generation was cut off: it waits for reclaim. Its bytes no longer count.
fn condemn_generation(txn: &mut Txn<'_>, ino: Ino, generation: u64) {
    txn.set(key::garbage(ino, generation), Bytes::new());
}
