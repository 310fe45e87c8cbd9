//! Where the bytes of an inode are, for people who want to know.

use super::load::{load_file, load_region};
use crate::data::extent_map::Source;
use crate::error::{FsError, FsResult};
use crate::id::Ino;
use crate::meta::key;
use crate::meta::record::flag;
use crate::meta::txn::Txn;
use crate::port::control::{ExtentInfo, FileInfo, Place};
use alloc::vec::Vec;

/// Reads everything that is committed of an inode.
pub async fn inspect(txn: &mut Txn<'_>, ino: Ino) -> FsResult<FileInfo> {
    let (attrs, inline) = load_file(txn, ino).await?;
    let attr = attrs.attr(ino);
    let mut info = FileInfo { mode: attr.mode, size: attr.size, ..FileInfo::default() };
    if attrs.core.has(flag::INLINE) {
        info.inline = Some(inline.len() as u64);
        return Ok(info);
    }
    info.log_entries = attrs.usage.hi.max(0) as u64;
    let generation = attrs.core.generation;
    for region in regions(txn, ino, generation).await? {
        let map = load_region(txn, ino, generation, region).await?;
        info.extents.extend(map.extents().map(|extent| ExtentInfo {
            offset: extent.offset,
            len: extent.len,
            place: match extent.source {
                Source::Bytes(_) => Place::Log,
                Source::Segment { segment, offset } => Place::Segment { segment, offset },
            },
        }));
    }
    Ok(info)
}

/// The regions of a generation that have a log, found by skipping from one to the next.
pub async fn regions(txn: &mut Txn<'_>, ino: Ino, generation: u64) -> FsResult<Vec<u64>> {
    let mut regions = Vec::new();
    let mut rest = key::log_generation(ino, generation);
    loop {
        let [first] = txn.read([crate::meta::txn::rows(rest.clone(), 1).snapshot()]).await?;
        let Some((key, _)) = crate::meta::txn::list(first).pop() else { return Ok(regions) };
        let (_, _, tail) = key::parse_inode(&key).ok_or(FsError::Damaged)?;
        let (_, region) = key::parse_log(tail).ok_or(FsError::Damaged)?;
        regions.push(region);
        rest.begin = key::log_region(ino, generation, region).end;
    }
}
