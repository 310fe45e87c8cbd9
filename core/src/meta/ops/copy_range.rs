//! copy_file_range: bytes of one file become bytes of another, without being copied.
//!
//! The target's log names the same places in the same segments; their live bytes grow by what it names,
//! so that a segment stays until the last file that shares it is gone. What the source has inline or in
//! its log is short and is copied. Holes become holes.
//!
//! One transaction, bounded in size: a copy may end early, as copy_file_range(2) may, and the caller
//! goes on. The source's core and size are relied on, so that a racing change of it makes this try
//! again. Order on one mount: the buffered writes of both are committed before this runs (`client`).

use super::load::load_region;
use super::lookup::want_attrs;
use super::patch::{Patch, Patched, append, cut_off, grow, visible};
use super::privilege::Modified;
use super::segments::{self, Named};
use super::setattr::stamp_modified;
use super::u64_value;
use crate::data::extent_map::{ExtentMap, Source};
use crate::data::write_log::LogExtent;
use crate::error::{FsError, FsResult};
use crate::id::Ino;
use crate::limits::{
    COPY_BYTES_MAX, COPY_EXTENTS_MAX, COPY_MAX, FILE_SIZE_MAX, INLINE_MAX, REGION_SIZE,
};
use crate::meta::attrs::Attrs;
use crate::meta::key::{self, tag};
use crate::meta::record::{Pair, flag};
use crate::meta::txn::{Txn, list, one, value};
use crate::port::kernel::S_IFREG;
use crate::port::meta_kv::Value;
use alloc::vec::Vec;
use bytes::Bytes;
use core::ops::Range;

/// What to copy.
#[derive(Clone, Copy, Debug)]
pub struct CopyRange {
    /// Source.
    pub from: Ino,
    /// First byte in the source.
    pub offset: u64,
    /// Target; may be the source.
    pub to: Ino,
    /// First byte in the target.
    pub to_offset: u64,
    /// Bytes wanted.
    pub len: u64,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Copied {
    /// Bytes copied; 0 at the end of the source.
    pub len: u64,
    /// The target afterwards; `None` when nothing was copied.
    pub target: Option<Patched>,
}

/// A file as it is before the copy.
struct File {
    attrs: Attrs,
    inline: Value,
}

/// Copies what one transaction may hold. Moves mtime and ctime of the target, and takes its set-id bits
/// and capabilities.
///
/// # Errors
/// Stale, Invalid for what is no file and for ranges of one file that overlap, FileTooLarge.
/// Source: copy_file_range(2).
pub async fn copy_range(
    txn: &mut Txn<'_>,
    copy: &CopyRange,
    modified: Modified,
) -> FsResult<Copied> {
    let source = read(txn, copy.from).await?;
    let mut target = read(txn, copy.to).await?;
    let len = copy.len.min(source.attrs.size.saturating_sub(copy.offset));
    let room = FILE_SIZE_MAX.saturating_sub(copy.to_offset);
    if len > 0 && room == 0 {
        return Err(FsError::FileTooLarge);
    }
    let len = len.min(room);
    if copy.from == copy.to && copy.offset.abs_diff(copy.to_offset) < len {
        return Err(FsError::Invalid);
    }
    if len == 0 {
        return Ok(Copied { len, target: None });
    }
    let wanted = copy.offset..copy.offset + len.min(COPY_MAX);
    let (len, pieces) = pieces(txn, copy.from, &source, wanted).await?;
    let moved: Vec<LogExtent> = pieces
        .into_iter()
        .map(|p| LogExtent { offset: p.offset - copy.offset + copy.to_offset, ..p })
        .collect();
    let range = copy.to_offset..copy.to_offset + len;
    let target = paint(txn, copy.to, &mut target, range, moved, modified).await?;
    Ok(Copied { len, target: Some(target) })
}

async fn read(txn: &mut Txn<'_>, ino: Ino) -> FsResult<File> {
    let [attrs, inline] = txn
        .read([want_attrs(ino).snapshot(), one(key::inode(ino, tag::INLINE)).snapshot()])
        .await?;
    txn.rely_on(key::inode(ino, tag::CORE));
    txn.rely_on(key::inode(ino, tag::SIZE));
    let attrs = Attrs::from_rows(&list(attrs))?.ok_or(FsError::Stale)?;
    match attrs.core.kind() {
        S_IFREG => Ok(File { attrs, inline: value(inline).unwrap_or_default() }),
        _ => Err(FsError::Invalid),
    }
}

/// What the source has in a range that is not a hole, and how many bytes of the range that covers: all,
/// unless there is more than one transaction may hold.
async fn pieces(
    txn: &mut Txn<'_>,
    ino: Ino,
    source: &File,
    range: Range<u64>,
) -> FsResult<(u64, Vec<LogExtent>)> {
    let mut map = ExtentMap::new();
    if source.attrs.core.has(flag::INLINE) && !source.inline.is_empty() {
        map.paint(0, source.inline.len() as u64, Source::Bytes(source.inline.clone()));
    }
    let mut taken = Vec::new();
    let mut carried = 0;
    let regions = range.start / REGION_SIZE..=(range.end - 1) / REGION_SIZE;
    for region in regions {
        if !source.attrs.core.has(flag::INLINE) {
            map = load_region(txn, ino, source.attrs.core.generation, region).await?.map;
        }
        let part = range.start.max(region * REGION_SIZE)..range.end.min((region + 1) * REGION_SIZE);
        for (piece, found) in map.pieces(part) {
            let Some(found) = found else { continue };
            if let Source::Bytes(bytes) = &found {
                carried += bytes.len() as u64;
            }
            let full = taken.len() == COPY_EXTENTS_MAX || carried > COPY_BYTES_MAX;
            if full && !taken.is_empty() {
                return Ok((piece.start - range.start, taken));
            }
            let len = piece.end - piece.start;
            taken.push(LogExtent { offset: piece.start, len, source: found });
        }
    }
    Ok((range.end - range.start, taken))
}

/// Puts extents in the place of whatever a range of the target has.
async fn paint(
    txn: &mut Txn<'_>,
    ino: Ino,
    target: &mut File,
    range: Range<u64>,
    extents: Vec<LogExtent>,
    modified: Modified,
) -> FsResult<Patched> {
    let attrs = &mut target.attrs;
    let (generation, mode) = (attrs.core.generation, attrs.core.mode);
    let mut patch = None;
    let carried = extents.iter().all(|e| matches!(e.source, Source::Bytes(_)));
    if attrs.core.has(flag::INLINE) && carried && range.end <= INLINE_MAX {
        rewrite(txn, ino, attrs, &target.inline, &range, &extents)?;
    } else if attrs.core.has(flag::INLINE) {
        promote(txn, ino, attrs, &target.inline, &range, extents)?;
    } else {
        patch = Some(cover(txn, ino, attrs, &range, extents).await?);
    }
    if range.end > attrs.size {
        attrs.size = range.end;
        txn.set(key::inode(ino, tag::SIZE), u64_value(range.end));
    }
    stamp_modified(txn, ino, attrs, modified).await?;
    let cut_off = (attrs.core.generation != generation).then_some(generation);
    let patch = patch.filter(|_| cut_off.is_none());
    Ok(Patched { attrs: attrs.clone(), patch, cut_off, mode_changed: attrs.core.mode != mode })
}

/// Over the extents of a target that has some.
async fn cover(
    txn: &mut Txn<'_>,
    ino: Ino,
    attrs: &mut Attrs,
    range: &Range<u64>,
    extents: Vec<LogExtent>,
) -> FsResult<Patch> {
    let covered = visible(txn, ino, attrs.core.generation, range.clone()).await? as i64;
    let painted: u64 = extents.iter().map(|e| e.len).sum();
    let holes = painted < range.end - range.start;
    let mut patch = Patch { erase: None, extents };
    if covered > 0 && covered == attrs.usage.lo {
        // Nothing of the old data remains: its space comes back.
        cut_off(txn, ino, attrs);
        attrs.core.put(flag::INLINE, patch.extents.is_empty());
        add(txn, ino, attrs, &patch, painted as i64)?;
    } else {
        patch.erase = (holes && covered > 0).then(|| range.clone());
        add(txn, ino, attrs, &patch, painted as i64 - covered)?;
    }
    Ok(patch)
}

/// Appends and counts, live bytes included.
fn add(txn: &mut Txn<'_>, ino: Ino, attrs: &mut Attrs, patch: &Patch, grown: i64) -> FsResult<()> {
    attrs.usage.hi += append(txn, ino, attrs.core.generation, patch, grown)?;
    attrs.usage.lo += grown;
    let mut named = Named::new();
    segments::count(&mut named, &patch.extents);
    for segment in named.keys() {
        // A fold may take the source's reference at the same moment, and the segment with it.
        txn.rely_on(key::segment(*segment));
    }
    if !planted!(UnsharedCopy) {
        segments::refer(txn, &named);
    }
    Ok(())
}

/// An inline target gets extents: its bytes outside of the range, and the new ones.
fn promote(
    txn: &mut Txn<'_>,
    ino: Ino,
    attrs: &mut Attrs,
    inline: &Value,
    range: &Range<u64>,
    extents: Vec<LogExtent>,
) -> FsResult<()> {
    let len = inline.len() as u64;
    let outside = [0..len.min(range.start), range.end.min(len)..len];
    let kept = outside.into_iter().filter(|part| !part.is_empty()).map(|part| {
        let bytes = inline.slice(part.start as usize..part.end as usize);
        LogExtent { offset: part.start, len: part.end - part.start, source: Source::Bytes(bytes) }
    });
    let extents: Vec<LogExtent> = kept.chain(extents).collect();
    if !inline.is_empty() {
        txn.clear(key::inode(ino, tag::INLINE));
    }
    // A file without a byte stays inline: it has no log.
    attrs.core.put(flag::INLINE, extents.is_empty());
    let bytes: u64 = extents.iter().map(|e| e.len).sum();
    add(txn, ino, attrs, &Patch { erase: None, extents }, bytes as i64 - len as i64)
}

/// An inline target stays inline.
fn rewrite(
    txn: &mut Txn<'_>,
    ino: Ino,
    attrs: &mut Attrs,
    inline: &Value,
    range: &Range<u64>,
    extents: &[LogExtent],
) -> FsResult<()> {
    let mut data = inline.to_vec();
    let end = extents.last().map_or(0, |e| (e.offset + e.len) as usize);
    if range.end >= data.len() as u64 {
        // What the range had at the end of the bytes goes: holes there take no space.
        data.truncate(range.start as usize);
    }
    data.resize(data.len().max(end), 0);
    let (from, to) = (data.len().min(range.start as usize), data.len().min(range.end as usize));
    data[from..to].fill(0);
    for extent in extents {
        let Source::Bytes(bytes) = &extent.source else { return Err(FsError::Damaged) };
        let at = extent.offset as usize;
        data[at..at + extent.len as usize].copy_from_slice(&bytes[..extent.len as usize]);
    }
    let less = data.len() as i64 - inline.len() as i64;
    match data.is_empty() {
        true => txn.clear(key::inode(ino, tag::INLINE)),
        false => txn.set(key::inode(ino, tag::INLINE), Bytes::from(data)),
    }
    attrs.usage.lo += less;
    grow(txn, ino, Pair { hi: 0, lo: less });
    Ok(())
}
