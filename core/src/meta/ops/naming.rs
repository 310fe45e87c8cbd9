//! Which regions of a file name some segments: where to go when those are mostly dead.

use super::fold::generation;
use super::segments::named;
use crate::error::{FsError, FsResult};
use crate::id::{Ino, SegmentId};
use crate::meta::key;
use crate::meta::txn::{Txn, list, rows};
use crate::port::meta_kv::{Key, Value};
use alloc::vec::Vec;

/// Packs that one look at a log takes.
const PACKS_MAX: u32 = 512;

/// The regions of a file whose log names one of some segments; at most as many as one transaction looks at,
/// from one region on. Returns where to go on, if anywhere.
pub async fn naming(
    txn: &mut Txn<'_>,
    ino: Ino,
    from: u64,
    wanted: &[SegmentId],
) -> FsResult<(Vec<u64>, Option<u64>)> {
    let mut regions = Vec::new();
    let Some(generation) = generation(txn, ino).await? else { return Ok((regions, None)) };
    let mut range = key::log_generation(ino, generation);
    range.begin = key::log_region(ino, generation, from).begin;
    let [packs] = txn.read([rows(range, PACKS_MAX).snapshot()]).await?;
    let packs: Vec<(Key, Value)> = list(packs);
    let mut last = None;
    for pack in &packs {
        let place = key::parse_inode(&pack.0).and_then(|(_, _, tail)| key::parse_log(tail));
        let (_, region) = place.ok_or(FsError::Damaged)?;
        last = Some(region);
        let named = named(core::slice::from_ref(pack))?;
        if regions.last() != Some(&region) && wanted.iter().any(|id| named.contains_key(id)) {
            regions.push(region);
        }
    }
    // The last region may go on, but one of its packs is enough to have looked at.
    let more = packs.len() >= PACKS_MAX as usize;
    Ok((regions, last.filter(|_| more).map(|region| region + 1)))
}
