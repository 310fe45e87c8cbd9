//! Inode numbers: `[39-bit group, low 8 bits reversed in front | 24-bit slot]`.
//!
//! A group belongs to one session and one directory, so that a create needs no allocation, siblings
//! are neighbours and directories spread over the key space. Numbers are never reused.

use crate::error::{FsError, FsResult};
use crate::id::Ino;
use crate::meta::key;
use crate::meta::record::decode_u64;
use crate::meta::txn::{Txn, one, value};

/// Inodes of one group.
pub const GROUP_SLOTS: u64 = 1 << 24;
/// Groups of a volume.
const GROUPS: u64 = 1 << 39;

/// Takes `count` fresh groups and returns the first.
pub async fn take(txn: &mut Txn<'_>, count: u64) -> FsResult<u64> {
    let [next] = txn.read([one(key::groups())]).await?;
    // Group 0 holds the root.
    let next = value(next).map_or(Ok(1), |v| decode_u64(&v))?;
    if next == 0 {
        return Err(FsError::Damaged);
    }
    let end = next.checked_add(count).filter(|end| *end <= GROUPS).ok_or(FsError::NoSpace)?;
    txn.set(key::groups(), super::u64_value(end));
    Ok(next)
}

/// The inode number of a slot in a group.
pub fn ino(group: u64, slot: u64) -> Ino {
    assert!(group > 0 && group < GROUPS && slot < GROUP_SLOTS);
    let spread = u64::from((group as u8).reverse_bits());
    Ino(spread << 55 | (group >> 8) << 24 | slot)
}

/// The group that an inode number is of: the inverse of [`ino`]. The root is of group 0.
pub fn group(ino: Ino) -> u64 {
    let low = u64::from(((ino.0 >> 55) as u8).reverse_bits());
    ((ino.0 & ((1 << 55) - 1)) >> 24) << 8 | low
}
