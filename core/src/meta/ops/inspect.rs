//! Where the bytes of an inode are, for people who want to know.

use super::load::{load_file, load_region, regions};
use crate::data::extent_map::Source;
use crate::error::FsResult;
use crate::id::Ino;
use crate::meta::record::flag;
use crate::meta::txn::Txn;
use crate::port::control::{ExtentInfo, FileInfo, Place};

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
    for region in regions(txn, ino, generation, 0..u64::MAX).await? {
        let map = load_region(txn, ino, generation, region).await?.map;
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
