//! Loading what is committed of a file: attributes, inline bytes, the extents of a region.

use super::lookup::want_attrs;
use crate::data::extent_map::ExtentMap;
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
enum Paint {
    Erase(Value),
    Pack(Value),
}

/// Reads one region of a data generation: the log and the erases over it, in the order of paint.
pub async fn load_region(
    txn: &mut Txn<'_>,
    ino: Ino,
    generation: u64,
    region: u64,
) -> FsResult<ExtentMap> {
    let erases = txn.read_range(key::erases(ino, generation), false).await?;
    let packs = txn.read_range(key::log_region(ino, generation, region), false).await?;
    let order = |key: &Key| key::paint_order(key).ok_or(FsError::Damaged);
    let mut paint = Vec::with_capacity(erases.len() + packs.len());
    for (key, value) in erases {
        paint.push((order(&key)?, Paint::Erase(value)));
    }
    for (key, value) in packs {
        paint.push((order(&key)?, Paint::Pack(value)));
    }
    paint.sort_by_key(|(order, _)| *order);
    if paint.len() > 8 {
        probe!("overlay-deep");
    }
    let mut map = ExtentMap::new();
    for (_, paint) in paint {
        match paint {
            Paint::Erase(value) => {
                let (lo, hi) = decode_erase(&value)?;
                if map.bytes() > 0 {
                    probe!("erase-over-pack");
                }
                map.erase(lo..hi);
            }
            Paint::Pack(value) => {
                for extent in write_log::decode(region, &value).map_err(|_| FsError::Damaged)? {
                    map.paint(extent.offset, extent.len, extent.source);
                }
            }
        }
    }
    Ok(map)
}
