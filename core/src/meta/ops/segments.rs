//! What the logs name of segments: their records and live bytes, and which of them nobody needs any more.
//!
//! A segment's live bytes are the sum of the lengths of all extents that name it, in whatever log and
//! however much of them is visible. Who takes extents out of a log takes their bytes from the counter, and
//! the record goes in the commit that takes the last ones.

use crate::data::extent_map::Source;
use crate::data::write_log::{self, LogExtent};
use crate::error::{FsError, FsResult};
use crate::id::{Ino, SegmentId};
use crate::meta::key;
use crate::meta::record::{SegmentRecord, decode_u64};
use crate::meta::txn::{Txn, one, value};
use crate::port::meta_kv::{Key, Value};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// Bytes by segment.
pub type Named = BTreeMap<SegmentId, u64>;

/// What came of references that went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Released {
    /// Segments that no log names any more: once this commit is durable, their bytes may be deleted.
    pub dead: Vec<SegmentId>,
    /// Segments of which less than half is named now, and whose log named them first.
    pub sparse: Vec<(SegmentId, Ino)>,
    /// By how many bytes more (or fewer) that no log names segments lie in the page store, by owner.
    pub unnamed: Vec<(Ino, i64)>,
}

/// How much of a segment is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Liveness {
    /// Bytes that extents name.
    pub live: u64,
    /// Payload length.
    pub len: u64,
}

impl Liveness {
    /// Whether less than half of it is named. Whatever the counters say: damaged ones must not overflow.
    pub fn is_sparse(&self) -> bool {
        self.live < self.len.div_ceil(2)
    }
}

/// Counts the bytes that extents name.
pub fn count<'a>(named: &mut Named, extents: impl IntoIterator<Item = &'a LogExtent>) {
    for extent in extents {
        if let Source::Segment { segment, .. } = extent.source {
            *named.entry(segment).or_default() += extent.len;
        }
    }
}

/// How many bytes of each segment the extents of packs name.
pub fn named(packs: &[(Key, Value)]) -> FsResult<Named> {
    let mut named = Named::new();
    for (key, pack) in packs {
        let (_, _, rest) = key::parse_inode(key).ok_or(FsError::Damaged)?;
        let (_, region) = key::parse_log(rest).ok_or(FsError::Damaged)?;
        let extents = write_log::decode(region, pack).map_err(|_| FsError::Damaged)?;
        count(&mut named, &extents);
    }
    Ok(named)
}

/// Extents were added that name segments.
pub fn refer(txn: &mut Txn<'_>, named: &Named) {
    for (segment, bytes) in named {
        txn.add(key::live_bytes(*segment), &bytes.to_le_bytes());
    }
}

/// A segment is named for the first time.
pub fn record(txn: &mut Txn<'_>, id: SegmentId, len: u32, owner: Ino) {
    let record = SegmentRecord { len: u64::from(len), owner: Some(owner) };
    txn.set(key::segment(id), record.encode());
}

/// Takes bytes from the live bytes of segments. A segment that has none left is forgotten in the same
/// commit, so that no crash leaves its record behind.
///
/// # Errors
/// Damaged when a segment has fewer live bytes than are taken: what its counter says of other references
/// cannot be trusted, and nothing may be removed.
pub async fn release(txn: &mut Txn<'_>, freed: Named) -> FsResult<Released> {
    let mut released = Released::default();
    let mut wants: Vec<_> = freed.keys().map(|id| one(key::live_bytes(*id))).collect();
    wants.extend(freed.keys().map(|id| one(key::segment(*id)).snapshot()));
    if wants.is_empty() {
        return Ok(released);
    }
    let mut found = txn.read_all(wants).await?.into_iter().map(value);
    let live: Vec<_> = found.by_ref().take(freed.len()).collect();
    for (((id, bytes), live), record) in freed.into_iter().zip(live).zip(found) {
        let live = decode_u64(&live.ok_or(FsError::Damaged)?)?;
        let left = live.checked_sub(bytes).ok_or(FsError::Damaged)?;
        let record = record.map(|v| SegmentRecord::decode(&v)).transpose()?;
        if let Some(SegmentRecord { len, owner: Some(owner) }) = record {
            let number = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
            let before = number(len.saturating_sub(live));
            let change = if left == 0 { -before } else { number(bytes) };
            released.unnamed.push((owner, change));
        }
        if left == 0 {
            txn.clear(key::segment(id));
            txn.clear(key::live_bytes(id));
            released.dead.push(id);
            continue;
        }
        if !planted!(KeptLiveBytes) {
            txn.add(key::live_bytes(id), &bytes.wrapping_neg().to_le_bytes());
        }
        if let Some(SegmentRecord { len, owner: Some(owner) }) = record
            && (Liveness { live: left, len }).is_sparse()
        {
            released.sparse.push((id, owner));
        }
    }
    Ok(released)
}

/// How much of segments is named; those without a record are left out.
pub async fn liveness(
    txn: &mut Txn<'_>,
    ids: impl Iterator<Item = SegmentId> + Clone,
) -> FsResult<BTreeMap<SegmentId, Liveness>> {
    let mut wants: Vec<_> = ids.clone().map(|id| one(key::live_bytes(id)).snapshot()).collect();
    wants.extend(ids.clone().map(|id| one(key::segment(id)).snapshot()));
    if wants.is_empty() {
        return Ok(BTreeMap::new());
    }
    let count = wants.len() / 2;
    let mut found = txn.read_all(wants).await?.into_iter().map(value);
    let live: Vec<_> = found.by_ref().take(count).collect();
    let mut all = BTreeMap::new();
    for ((id, live), record) in ids.zip(live).zip(found) {
        if let (Some(live), Some(record)) = (live, record) {
            let liveness =
                Liveness { live: decode_u64(&live)?, len: SegmentRecord::decode(&record)?.len };
            all.insert(id, liveness);
        }
    }
    Ok(all)
}
