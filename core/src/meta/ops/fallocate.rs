//! fallocate: space ahead of writes, zeros, and holes.
//!
//! A log-structured store writes every byte to a new place, so that nothing can be set aside for a
//! range: allocation checks and extends, no more (`docs/semantics.md`, S-FALLOC-1). Punching and zeroing
//! are one erase record however long the range.
//! Order on one mount: the inode's buffered writes are committed before this runs (`client`).

use super::lookup::want_attrs;
use super::patch::{Patch, Patched, erase, grow, visible};
use super::privilege::Modified;
use super::setattr::stamp_modified;
use super::u64_value;
use crate::error::{FsError, FsResult};
use crate::id::Ino;
use crate::limits::FILE_SIZE_MAX;
use crate::meta::attrs::Attrs;
use crate::meta::key::{self, tag};
use crate::meta::record::{Pair, flag};
use crate::meta::txn::{Txn, list, one, value};
use crate::port::kernel::S_IFREG;
use crate::port::meta_kv::Value;
use alloc::vec::Vec;
use bytes::Bytes;
use core::ops::Range;

/// What to do with a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode {
    /// What is there becomes zeros.
    pub erases: bool,
    /// The file grows to the end of the range.
    pub extends: bool,
}

/// FALLOC_FL_* of linux/falloc.h.
const KEEP_SIZE: u32 = 0x01;
const PUNCH_HOLE: u32 = 0x02;
const ZERO_RANGE: u32 = 0x10;

impl Mode {
    /// The meaning of FALLOC_FL_* bits.
    ///
    /// # Errors
    /// NotSupported for anything but allocation, PUNCH_HOLE with KEEP_SIZE, and ZERO_RANGE.
    pub fn of(bits: u32) -> FsResult<Mode> {
        match (bits & !KEEP_SIZE, bits & KEEP_SIZE != 0) {
            (0, keep) => Ok(Mode { erases: false, extends: !keep }),
            (PUNCH_HOLE, true) => Ok(Mode { erases: true, extends: false }),
            (ZERO_RANGE, keep) => Ok(Mode { erases: true, extends: !keep }),
            _ => Err(FsError::NotSupported),
        }
    }
}

/// The range of an offset and a length.
///
/// # Errors
/// Invalid when it is empty, FileTooLarge when it ends beyond the largest file.
pub fn range(offset: u64, len: u64) -> FsResult<Range<u64>> {
    if len == 0 {
        return Err(FsError::Invalid);
    }
    let end = offset.checked_add(len).filter(|end| *end <= FILE_SIZE_MAX);
    Ok(offset..end.ok_or(FsError::FileTooLarge)?)
}

/// Allocates, zeroes or punches. Moves mtime and ctime, and takes set-id bits and capabilities.
///
/// # Errors
/// Stale, NotSupported for what is no file.
/// Source: fallocate(2).
pub async fn fallocate(
    txn: &mut Txn<'_>,
    ino: Ino,
    mode: Mode,
    range: Range<u64>,
    modified: Modified,
) -> FsResult<Patched> {
    let [attrs, inline] = txn
        .read([want_attrs(ino).snapshot(), one(key::inode(ino, tag::INLINE)).snapshot()])
        .await?;
    // As for a truncate: a racing writer makes this try again.
    txn.rely_on(key::inode(ino, tag::CORE));
    txn.rely_on(key::inode(ino, tag::SIZE));
    let mut attrs = Attrs::from_rows(&list(attrs))?.ok_or(FsError::Stale)?;
    if attrs.core.kind() != S_IFREG {
        return Err(FsError::NotSupported);
    }
    let (generation, mode_before) = (attrs.core.generation, attrs.core.mode);
    let was_inline = attrs.core.has(flag::INLINE);
    let mut patch = Patch::default();
    if mode.erases && was_inline {
        let inline = value(inline).unwrap_or_default();
        erase_inline(txn, ino, &mut attrs, &inline, &range);
    } else if mode.erases {
        // Beyond the end there is nothing.
        let range = range.start..range.end.min(attrs.size);
        if !range.is_empty() {
            let erased = visible(txn, ino, generation, range.clone()).await?;
            patch = erase(txn, ino, &mut attrs, range, erased)?;
        }
    }
    if mode.extends && range.end > attrs.size {
        attrs.size = range.end;
        txn.set(key::inode(ino, tag::SIZE), u64_value(range.end));
    }
    stamp_modified(txn, ino, &mut attrs, modified).await?;
    let cut_off = (attrs.core.generation != generation).then_some(generation);
    let patch = (!was_inline && cut_off.is_none()).then_some(patch);
    let mode_changed = attrs.core.mode != mode_before;
    Ok(Patched { attrs, patch, cut_off, mode_changed })
}

/// Zeroes a range of inline bytes; what lies at their end goes.
fn erase_inline(
    txn: &mut Txn<'_>,
    ino: Ino,
    attrs: &mut Attrs,
    inline: &Value,
    range: &Range<u64>,
) {
    let len = inline.len() as u64;
    if range.start >= len {
        return;
    }
    let kept = if range.end >= len { range.start } else { len };
    let mut data = Vec::from(&inline[..kept as usize]);
    let end = range.end.min(kept).max(range.start) as usize;
    data[range.start as usize..end].fill(0);
    match kept {
        0 => txn.clear(key::inode(ino, tag::INLINE)),
        _ => txn.set(key::inode(ino, tag::INLINE), Bytes::from(data)),
    }
    let less = kept as i64 - len as i64;
    attrs.usage.lo += less;
    grow(txn, ino, Pair { hi: 0, lo: less });
}
