//! Makes a volume out of an empty store: the volume record and the root directory.

use super::{ino_value, volume::Found};
use crate::error::FsResult;
use crate::id::Ino;
use crate::meta::key::{self, tag};
use crate::meta::record::{Core, FORMAT, Pair, VolumeRecord, encode_limit};
use crate::meta::txn::Txn;
use crate::port::control::{FormatOptions, Limit};
use crate::port::kernel::S_IFDIR;
use crate::time::WallTime;

/// Formats, unless there is a volume already; says which it found or made.
pub async fn format(
    txn: &mut Txn<'_>,
    options: &FormatOptions,
    now: WallTime,
) -> FsResult<(Found, bool)> {
    match super::volume::find(txn).await? {
        Found::Nothing => {}
        found => return Ok((found, false)),
    }
    let record = VolumeRecord {
        format: FORMAT,
        volume: options.volume,
        hash_key: options.hash_key,
        hash_bits: options.hash_bits,
        incarnation: 0,
        created: now,
    };
    txn.set(key::volume(), record.encode());
    if options.limit != Limit::default() {
        txn.set(key::limit(), encode_limit(options.limit));
    }
    put_directory(txn, Ino::ROOT, options.mode & 0o7777, (options.uid, options.gid), now);
    Ok((Found::Volume(record), true))
}

/// A directory that has no name yet: a root, or what a repair gives to entries that have lost theirs.
pub fn put_directory(
    txn: &mut Txn<'_>,
    ino: Ino,
    perm: u32,
    (uid, gid): (u32, u32),
    now: WallTime,
) {
    let core = Core {
        mode: S_IFDIR | perm,
        uid,
        gid,
        nlink: 1,
        rdev: 0,
        flags: 0,
        generation: 0,
        trunc_epoch: 0,
        btime: now,
        ctime: now,
        home: Ino::ROOT,
        home_cookie: 0,
    };
    txn.set(key::inode(ino, tag::CORE), core.encode());
    if ino == Ino::ROOT {
        txn.set(key::inode(ino, tag::PARENT), ino_value(Ino::ROOT));
    }
    txn.charge(Pair { hi: 1, lo: 0 });
}
