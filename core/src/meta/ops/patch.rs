//! Painting on the data of a file: what flush, truncate, fallocate and copies have in common.
//!
//! Owns: the order of paint within one transaction, and the counters that go with it: entries of the
//! log and visible bytes of the inode, bytes of the volume, live bytes of segments.
//!
//! A byte counts once for its file however often it was written, and not at all once it was erased. Who
//! covers or erases bytes must know how many of them were visible: from memory where the machine has
//! the extents, else from the log.

use super::condemn_generation;
use super::load::{load_region, regions};
use crate::data::write_log::{self, LogExtent};
use crate::error::{FsError, FsResult};
use crate::id::Ino;
use crate::meta::attrs::Attrs;
use crate::meta::key::{self, tag};
use crate::meta::record::{Pair, encode_erase, flag};
use crate::meta::txn::Txn;
use alloc::vec::Vec;
use core::ops::Range;

/// What one transaction paints on a file that has extents: the erase, and the extents over it.
#[derive(Clone, Debug, Default)]
pub struct Patch {
    /// Becomes a hole.
    pub erase: Option<Range<u64>>,
    /// In the order of paint.
    pub extents: Vec<LogExtent>,
}

/// What a change of size or data came to.
#[derive(Clone, Debug)]
pub struct Patched {
    /// The attributes afterwards.
    pub attrs: Attrs,
    /// What was painted, if the file had extents before and has the same data generation still.
    pub patch: Option<Patch>,
    /// The data generation that was cut off.
    pub cut_off: Option<u64>,
    /// The mode was another one before.
    pub mode_changed: bool,
}

/// Appends a patch to the log of a data generation; `grown`: visible bytes that come (or go) with it.
pub fn append(
    txn: &mut Txn<'_>,
    ino: Ino,
    generation: u64,
    patch: &Patch,
    grown: i64,
) -> FsResult<i64> {
    let incarnation = txn.volume.incarnation;
    let mut entries = 0;
    let mut n = 0u16;
    if let Some(range) = &patch.erase {
        let at = key::erase(ino, generation, incarnation, n);
        txn.set_stamped(at, encode_erase(range.start, range.end));
        n += 1;
    }
    for (region, pack) in write_log::encode(&patch.extents) {
        // As the log counts them: an extent over a border of regions is two.
        entries += write_log::entries(region, &pack).map_err(|_| FsError::Damaged)? as i64;
        let at = key::log_pack(ino, generation, region, incarnation, n);
        txn.set_stamped(at, pack);
        n = n.checked_add(1).ok_or(FsError::Damaged)?;
    }
    grow(txn, ino, Pair { hi: entries, lo: grown });
    Ok(entries)
}

/// Counts entries of the log and visible bytes.
pub fn grow(txn: &mut Txn<'_>, ino: Ino, by: Pair) {
    if by != Pair::default() {
        txn.add(key::inode(ino, tag::USAGE), &by.encode());
        txn.charge(Pair { hi: 0, lo: by.lo });
    }
}

/// How many bytes are visible in a range of a file that has extents. Nothing of it may be buffered.
pub async fn visible(
    txn: &mut Txn<'_>,
    ino: Ino,
    generation: u64,
    range: Range<u64>,
) -> FsResult<u64> {
    if let Some(known) = txn.known_visible(ino, generation, range.clone()).await {
        return Ok(known);
    }
    let found = regions(txn, ino, generation, range.clone()).await?;
    visible_in(txn, ino, generation, &found, range).await
}

/// [`visible`] for everything from `size` on: counted on the side that has fewer regions.
pub async fn visible_beyond(
    txn: &mut Txn<'_>,
    ino: Ino,
    attrs: &Attrs,
    size: u64,
) -> FsResult<u64> {
    let generation = attrs.core.generation;
    if let Some(known) = txn.known_visible(ino, generation, size..u64::MAX).await {
        return Ok(known);
    }
    let beyond = regions(txn, ino, generation, size..u64::MAX).await?;
    let below = regions(txn, ino, generation, 0..size).await?;
    if beyond.len() <= below.len() {
        return visible_in(txn, ino, generation, &beyond, size..u64::MAX).await;
    }
    let kept = visible_in(txn, ino, generation, &below, 0..size).await?;
    (attrs.usage.lo.max(0) as u64).checked_sub(kept).ok_or(FsError::Damaged)
}

async fn visible_in(
    txn: &mut Txn<'_>,
    ino: Ino,
    generation: u64,
    regions: &[u64],
    range: Range<u64>,
) -> FsResult<u64> {
    let mut sum = 0;
    for region in regions {
        sum += load_region(txn, ino, generation, *region).await?.map.covered(range.clone());
    }
    Ok(sum)
}

/// Makes a range of a file that has extents a hole, of which `erased` bytes were visible. Where nothing
/// else of the file is, a new and empty data generation begins instead, so that its space comes back.
pub fn erase(
    txn: &mut Txn<'_>,
    ino: Ino,
    attrs: &mut Attrs,
    range: Range<u64>,
    erased: u64,
) -> FsResult<Patch> {
    let (erased, all) = (erased as i64, attrs.usage.lo);
    if erased == 0 {
        return Ok(Patch::default());
    }
    if erased == all {
        cut_off(txn, ino, attrs);
        return Ok(Patch::default());
    }
    if erased > all {
        return Err(FsError::Damaged);
    }
    let patch = Patch { erase: Some(range), extents: Vec::new() };
    append(txn, ino, attrs.core.generation, &patch, -erased)?;
    attrs.usage.lo -= erased;
    Ok(patch)
}

/// Begins a new data generation without a byte; the old one waits for reclaim.
pub fn cut_off(txn: &mut Txn<'_>, ino: Ino, attrs: &mut Attrs) {
    txn.rely_on(key::inode(ino, tag::USAGE));
    if !planted!(DriftingUsage) {
        txn.charge(Pair { hi: 0, lo: -attrs.usage.lo });
    }
    condemn_generation(txn, ino, attrs.core.generation);
    attrs.core.generation += 1;
    attrs.core.put(flag::INLINE, true);
    attrs.usage = Pair::default();
    txn.clear(key::inode(ino, tag::USAGE));
}
