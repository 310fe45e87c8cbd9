//! flush: buffered writes of one inode become part of the file, in one transaction with size and mtime.
//!
//! Reads the core only, so that two writers of one file never conflict; small files live inline and
//! are rewritten. The caller keeps at most one flush of an inode in flight, oldest first.

use super::patch::{Patch, append, grow};
use super::segments::{self, Named};
use super::time_value;
use crate::data::extent_map::Source;
use crate::data::write_log::LogExtent;
use crate::error::{FsError, FsResult};
use crate::id::{Ino, SegmentId};
use crate::limits::INLINE_MAX;
use crate::meta::key::{self, tag};
use crate::meta::record::{Core, Pair, encode_time, flag};
use crate::meta::txn::{Txn, one, value};
use crate::port::meta_kv::Value;
use crate::time::WallTime;
use alloc::vec::Vec;
use bytes::Bytes;

/// What to commit.
#[derive(Clone, Debug)]
pub struct Flush {
    /// Whose.
    pub ino: Ino,
    /// They do not overlap.
    pub extents: Vec<LogExtent>,
    /// How many bytes of the extents are visible already, if the file has extents.
    pub covered: u64,
    /// The segments they lie in, with their payload lengths; without any they carry their bytes.
    pub segments: Vec<(SegmentId, u32)>,
    /// End of the last written byte.
    pub end: u64,
    /// Time of the newest write.
    pub mtime: WallTime,
}

/// What the file looks like afterwards.
#[derive(Clone, Debug)]
pub enum Flushed {
    /// It is (still) inline with these bytes.
    Inline {
        /// All of them.
        data: Bytes,
        /// Whether utimens' mark was cleared.
        core: Core,
    },
    /// These extents were painted onto it, in order.
    Extents {
        /// As committed.
        extents: Vec<LogExtent>,
        /// Bytes that became visible.
        grown: i64,
        /// The core, with its flags as they are now.
        core: Core,
    },
    /// The inode is gone; the bytes are dropped.
    Gone,
}

/// Commits.
pub async fn flush(txn: &mut Txn<'_>, flush: &Flush) -> FsResult<Flushed> {
    let ino = flush.ino;
    let [core, inline] =
        txn.read([one(key::inode(ino, tag::CORE)), one(key::inode(ino, tag::INLINE))]).await?;
    let Some(core) = value(core) else { return Ok(Flushed::Gone) };
    let mut core = Core::decode(&core)?;
    let before = core.flags;
    let inline = value(inline).unwrap_or_default();
    let fits = flush.end <= INLINE_MAX && flush.segments.is_empty();

    let flushed = if core.has(flag::INLINE) && fits {
        let data = rewrite(txn, ino, &inline, &flush.extents)?;
        stamp_mtime(txn, flush, &mut core);
        Flushed::Inline { data, core: core.clone() }
    } else {
        let base = core.has(flag::INLINE).then_some(inline);
        let (extents, grown) = promoted(txn, &mut core, flush, base);
        let patch = Patch { erase: None, extents };
        append(txn, ino, core.generation, &patch, grown)?;
        for (segment, payload) in &flush.segments {
            segments::record(txn, *segment, *payload, ino);
        }
        let mut named = Named::new();
        segments::count(&mut named, &flush.extents);
        segments::refer(txn, &named);
        stamp_mtime(txn, flush, &mut core);
        Flushed::Extents { extents: patch.extents, grown, core: core.clone() }
    };
    txn.max(key::inode(ino, tag::SIZE), &flush.end.to_le_bytes());
    if core.flags != before {
        txn.set(key::inode(ino, tag::CORE), core.encode());
    }
    Ok(flushed)
}

fn stamp_mtime(txn: &mut Txn<'_>, flush: &Flush, core: &mut Core) {
    if core.has(flag::MTIME_SET) {
        core.put(flag::MTIME_SET, false);
        core.ctime = core.ctime.max(flush.mtime);
        txn.set(key::inode(flush.ino, tag::MTIME), time_value(flush.mtime));
    } else {
        txn.max(key::inode(flush.ino, tag::MTIME), &encode_time(flush.mtime));
    }
}

/// The inline bytes with the extents painted over them.
fn rewrite(txn: &mut Txn<'_>, ino: Ino, old: &Value, extents: &[LogExtent]) -> FsResult<Bytes> {
    let mut data = old.to_vec();
    for extent in extents {
        let Source::Bytes(bytes) = &extent.source else { return Err(FsError::Damaged) };
        let (from, to) = (extent.offset as usize, (extent.offset + extent.len) as usize);
        if data.len() < to {
            data.resize(to, 0);
        }
        data[from..to].copy_from_slice(&bytes[..extent.len as usize]);
    }
    let data = Bytes::from(data);
    txn.set(key::inode(ino, tag::INLINE), data.clone());
    grow(txn, ino, Pair { hi: 0, lo: data.len() as i64 - old.len() as i64 });
    Ok(data)
}

/// The extents to append, and how many bytes become visible with them. Inline bytes that no longer fit
/// (`base`, of a file that is inline still) go first, as the oldest.
fn promoted(
    txn: &mut Txn<'_>,
    core: &mut Core,
    flush: &Flush,
    base: Option<Value>,
) -> (Vec<LogExtent>, i64) {
    let written: u64 = flush.extents.iter().map(|e| e.len).sum();
    let Some(inline) = base else {
        return (flush.extents.clone(), written as i64 - flush.covered as i64);
    };
    core.put(flag::INLINE, false);
    let len = inline.len() as u64;
    if len == 0 {
        return (flush.extents.clone(), written as i64);
    }
    probe!("inline-promoted");
    txn.clear(key::inode(flush.ino, tag::INLINE));
    let under = |e: &LogExtent| (e.offset + e.len).min(len).saturating_sub(e.offset);
    let covered: u64 = flush.extents.iter().map(under).sum();
    let mut extents = Vec::with_capacity(flush.extents.len() + 1);
    extents.push(LogExtent { offset: 0, len, source: Source::Bytes(inline) });
    extents.extend(flush.extents.iter().cloned());
    (extents, written as i64 - covered as i64)
}
