//! flush: buffered writes of one inode become part of the file, in one transaction with size and mtime.
//!
//! Reads the core only, so that two writers of one file never conflict; small files live inline and
//! are rewritten. The caller keeps at most one flush of an inode in flight, oldest first.

use super::{time_value, u64_value};
use crate::data::extent_map::Source;
use crate::data::write_log::{self, LogExtent};
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
    /// In the order of paint.
    pub extents: Vec<LogExtent>,
    /// The segment they lie in, with its payload length; `None`: they carry their bytes.
    pub segment: Option<(SegmentId, u32)>,
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
    let fits = flush.end <= INLINE_MAX && flush.segment.is_none();

    let flushed = if core.has(flag::INLINE) && fits {
        let data = rewrite(txn, ino, &inline, &flush.extents)?;
        stamp_mtime(txn, flush, &mut core);
        Flushed::Inline { data, core: core.clone() }
    } else {
        let extents = promoted(txn, &mut core, flush, inline);
        append(txn, &core, flush, &extents)?;
        stamp_mtime(txn, flush, &mut core);
        Flushed::Extents { extents, core: core.clone() }
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

/// The extents to append: inline bytes that no longer fit go first, as the oldest.
fn promoted(txn: &mut Txn<'_>, core: &mut Core, flush: &Flush, inline: Value) -> Vec<LogExtent> {
    let mut extents = Vec::with_capacity(flush.extents.len() + 1);
    if core.has(flag::INLINE) {
        core.put(flag::INLINE, false);
        if !inline.is_empty() {
            txn.clear(key::inode(flush.ino, tag::INLINE));
            grow(txn, flush.ino, Pair { hi: 0, lo: -(inline.len() as i64) });
            let len = inline.len() as u64;
            extents.push(LogExtent { offset: 0, len, source: Source::Bytes(inline) });
        }
    }
    extents.extend(flush.extents.iter().cloned());
    extents
}

fn append(txn: &mut Txn<'_>, core: &Core, flush: &Flush, extents: &[LogExtent]) -> FsResult<()> {
    let packs = write_log::encode(extents);
    let bytes = extents.iter().map(|e| e.len as i64).sum();
    let mut entries = 0;
    for (n, (region, pack)) in packs.into_iter().enumerate() {
        let n = u16::try_from(n).map_err(|_| FsError::Damaged)?;
        // As the log counts them: an extent over a border of regions is two.
        entries += write_log::entries(region, &pack).map_err(|_| FsError::Damaged)? as i64;
        let at = key::log_pack(flush.ino, core.generation, region, txn.volume.incarnation, n);
        txn.set_stamped(at, pack);
    }
    grow(txn, flush.ino, Pair { hi: entries, lo: bytes });
    if let Some((segment, payload)) = flush.segment {
        let live: u64 = flush.extents.iter().map(|e| e.len).sum();
        txn.set(key::segment(segment), u64_value(u64::from(payload)));
        txn.add(key::live_bytes(segment), &live.to_le_bytes());
    }
    Ok(())
}

fn grow(txn: &mut Txn<'_>, ino: Ino, by: Pair) {
    if by != Pair::default() {
        txn.add(key::inode(ino, tag::USAGE), &by.encode());
        txn.add(key::usage(), &Pair { hi: 0, lo: by.lo }.encode());
    }
}
