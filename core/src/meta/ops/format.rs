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
    let root = Core {
        mode: S_IFDIR | (options.mode & 0o7777),
        uid: options.uid,
        gid: options.gid,
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
    txn.set(key::volume(), record.encode());
    if options.limit != Limit::default() {
        txn.set(key::limit(), encode_limit(options.limit));
    }
    txn.set(key::inode(Ino::ROOT, tag::CORE), root.encode());
    txn.set(key::inode(Ino::ROOT, tag::PARENT), ino_value(Ino::ROOT));
    txn.charge(Pair { hi: 1, lo: 0 });
    Ok((Found::Volume(record), true))
}
