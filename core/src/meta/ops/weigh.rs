//! Segments, and how much of each is named: page by page.

use super::segments::Liveness;
use crate::error::{FsError, FsResult};
use crate::id::{Ino, SegmentId};
use crate::meta::key;
use crate::meta::record::{SegmentRecord, decode_u64};
use crate::meta::txn::{Txn, list, one, rows, value};
use alloc::vec::Vec;

/// A segment that has a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weighed {
    /// Which one.
    pub segment: SegmentId,
    /// Whose log named it first, if that is known.
    pub owner: Option<Ino>,
    /// How much of it is named.
    pub liveness: Liveness,
}

/// The segments after one.
///
/// # Errors
/// Damaged when a record or counter does not decode.
pub async fn weigh(
    txn: &mut Txn<'_>,
    after: Option<SegmentId>,
    limit: u32,
) -> FsResult<Vec<Weighed>> {
    let mut range = key::all_segments();
    if let Some(after) = after {
        range.begin = key::segment(after).successor();
    }
    let [records] = txn.read([rows(range, limit).snapshot()]).await?;
    let mut found = Vec::new();
    for (key, record) in list(records) {
        let segment = key::parse_segment(&key).ok_or(FsError::Damaged)?;
        found.push((segment, SegmentRecord::decode(&record)?));
    }
    if found.is_empty() {
        return Ok(Vec::new());
    }
    let wants = found.iter().map(|(id, _)| one(key::live_bytes(*id)).snapshot());
    let live = txn.read_all(wants.collect()).await?.into_iter().map(value);
    let weighed = found.into_iter().zip(live).map(|((segment, record), live)| {
        let live = live.map_or(Ok(0), |live| decode_u64(&live))?;
        let liveness = Liveness { live, len: record.len };
        Ok(Weighed { segment, owner: record.owner, liveness })
    });
    weighed.collect()
}
