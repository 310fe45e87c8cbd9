//! Reading the volume record and the volume's counters.

use crate::error::{FsError, FsResult};
use crate::meta::key;
use crate::meta::record::{FORMAT, Pair, VolumeRecord, decode_limit};
use crate::meta::txn::{Txn, one, value};
use crate::port::control::Limit;
use bytes::Bytes;

/// What a store holds.
#[derive(Debug)]
pub enum Found {
    /// No volume.
    Nothing,
    /// A volume this program can serve.
    Volume(VolumeRecord),
    /// A volume of a format from the future.
    Future(u32),
}

/// Reads the volume record.
pub async fn find(txn: &mut Txn<'_>) -> FsResult<Found> {
    let [record] = txn.read([one(key::volume())]).await?;
    let Some(record) = value(record) else { return Ok(Found::Nothing) };
    match VolumeRecord::format_of(&record)? {
        FORMAT => Ok(Found::Volume(VolumeRecord::decode(&record)?)),
        newer if newer > FORMAT => Ok(Found::Future(newer)),
        _ => Err(FsError::Damaged),
    }
}

/// Registers the session: its fence exists until somebody declares it dead.
pub fn register(txn: &mut Txn<'_>) {
    txn.set(key::fence(txn.volume.session), Bytes::from_static(b"1"));
}

/// What the volume may hold at most.
pub async fn limit(txn: &mut Txn<'_>) -> FsResult<Limit> {
    let [limit] = txn.read([one(key::limit()).snapshot()]).await?;
    value(limit).map_or(Ok(Limit::default()), |v| decode_limit(&v))
}

/// Whether there may be one more inode. What others make at the same moment is not seen.
pub async fn check_inodes(txn: &mut Txn<'_>) -> FsResult<()> {
    let Some(most) = txn.volume.limit.inodes else { return Ok(()) };
    let used = usage(txn).await?.hi.max(0) as u64;
    if used < most { Ok(()) } else { Err(FsError::NoSpace) }
}

/// Inodes (hi) and bytes (lo) in use.
pub async fn usage(txn: &mut Txn<'_>) -> FsResult<Pair> {
    let [usage] = txn.read([one(key::usage()).snapshot()]).await?;
    value(usage).map_or(Ok(Pair::default()), |v| Pair::decode(&v))
}
