//! Loading what is committed of a file: attributes, inline bytes, the extents of a region.

use super::lookup::want_attrs;
use crate::data::extent_map::ExtentMap;
use crate::data::fold::{Overlay, RegionLog};
use crate::data::write_log;
use crate::error::{FsError, FsResult};
use crate::id::Ino;
use crate::limits::REGION_SIZE;
use crate::meta::attrs::Attrs;
use crate::meta::key::{self, tag};
use crate::meta::record::decode_erase;
use crate::meta::txn::{Txn, list, one, rows, value};
use crate::port::meta_kv::{Key, Value};
use alloc::vec::Vec;
use bytes::Bytes;
use core::ops::Range;

/// Reads the attributes and, of an inline file, the bytes.
pub async fn load_file(txn: &mut Txn<'_>, ino: Ino) -> FsResult<(Attrs, Bytes)> {
    let [attrs, inline] = txn
        .read([want_attrs(ino).snapshot(), one(key::inode(ino, tag::INLINE)).snapshot()])
        .await?;
    let attrs = Attrs::from_rows(&list(attrs))?.ok_or(FsError::Stale)?;
    Ok((attrs, value(inline).unwrap_or_default()))
}

/// The regions of a generation that have a log and share a byte with `range`, found by skipping from one
/// to the next.
pub async fn regions(
    txn: &mut Txn<'_>,
    ino: Ino,
    generation: u64,
    range: Range<u64>,
) -> FsResult<Vec<u64>> {
    let mut regions = Vec::new();
    let mut rest = key::log_generation(ino, generation);
    rest.begin = key::log_region(ino, generation, range.start / REGION_SIZE).begin;
    loop {
        let [first] = txn.read([rows(rest.clone(), 1).snapshot()]).await?;
        let Some((key, _)) = list(first).pop() else { return Ok(regions) };
        let (_, _, tail) = key::parse_inode(&key).ok_or(FsError::Damaged)?;
        let (_, region) = key::parse_log(tail).ok_or(FsError::Damaged)?;
        if region.checked_mul(REGION_SIZE).is_none_or(|start| start >= range.end) {
            return Ok(regions);
        }
        regions.push(region);
        rest.begin = key::log_region(ino, generation, region).end;
    }
}

/// What one key of the data section does to the extent map.
pub(super) enum Paint {
    Erase(Value),
    Pack(Value),
}

/// A region as the store has it.
#[derive(Debug, Default)]
pub struct LoadedRegion {
    /// What is visible.
    pub map: ExtentMap,
    /// What its log is like.
    pub log: RegionLog,
}

/// Reads one region of a data generation: the log and the erases over it, in the order of paint.
pub async fn load_region(
    txn: &mut Txn<'_>,
    ino: Ino,
    generation: u64,
    region: u64,
) -> FsResult<LoadedRegion> {
    let erases = txn.read_range(key::erases(ino, generation), false).await?;
    let packs = txn.read_range(key::log_region(ino, generation, region), false).await?;
    let mut overlay = Overlay::default();
    for paint in in_order(erases, packs)? {
        paint_on(&mut overlay, region, paint)?;
    }
    Ok(LoadedRegion { map: overlay.map, log: overlay.log })
}

/// The rows of a region in the order of paint.
pub(super) fn in_order(
    erases: impl IntoIterator<Item = (Key, Value)>,
    packs: impl IntoIterator<Item = (Key, Value)>,
) -> FsResult<Vec<Paint>> {
    let erases = erases.into_iter().map(|(key, value)| (key, Paint::Erase(value)));
    let packs = packs.into_iter().map(|(key, value)| (key, Paint::Pack(value)));
    let mut paint = Vec::new();
    for (key, row) in erases.chain(packs) {
        paint.push((key::paint_order(&key).ok_or(FsError::Damaged)?, row));
    }
    paint.sort_by_key(|(order, _)| *order);
    if paint.len() > 8 {
        probe!("overlay-deep");
    }
    Ok(paint.into_iter().map(|(_, row)| row).collect())
}

/// Paints one row of a region.
pub(super) fn paint_on(overlay: &mut Overlay, region: u64, paint: Paint) -> FsResult<()> {
    match paint {
        Paint::Erase(value) => {
            let (lo, hi) = decode_erase(&value)?;
            if overlay.map.bytes() > 0 {
                probe!("erase-over-pack");
            }
            overlay.erase(lo..hi);
        }
        Paint::Pack(value) => {
            let extents = write_log::decode(region, &value).map_err(|_| FsError::Damaged)?;
            overlay.paint(extents, write_log::is_folded(&value));
        }
    }
    Ok(())
}
