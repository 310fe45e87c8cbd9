//! Reclaim: what removed files and truncated generations leave behind goes, page by page.
//!
//! Each step is a transaction of bounded size that may be repeated; the queue entry goes last.
//! The caller vouches that nobody holds the inode open.

use super::WHOLE;
use super::segments::{Released, named, release};
use super::xattr::decode_counted;
use crate::error::{FsError, FsResult};
use crate::id::Ino;
use crate::meta::key::{self, tag};
use crate::meta::record::{Core, Pair};
use crate::meta::txn::{Txn, list, one, rows, value};
use alloc::vec::Vec;

/// An inode with fewer keys is removed key by key.
const SMALL_ROWS: u32 = 32;
/// Rows of a log that one step removes.
const STEP_ROWS: u32 = 256;

/// What one step did.
#[derive(Clone, Debug, Default)]
pub struct Step {
    /// Nothing of the entry is left, the queue entry included.
    pub finished: bool,
    /// What the log named.
    pub released: Released,
}

/// The oldest entries of the queue after one.
pub async fn queue(
    txn: &mut Txn<'_>,
    after: Option<(Ino, u64)>,
    limit: u32,
) -> FsResult<Vec<(Ino, u64)>> {
    let mut range = key::all_garbage();
    if let Some((ino, generation)) = after {
        range.begin = key::garbage(ino, generation).successor();
    }
    let [found] = txn.read([rows(range, limit).snapshot()]).await?;
    list(found).iter().map(|(key, _)| key::parse_garbage(key).ok_or(FsError::Damaged)).collect()
}

/// Takes one step on an entry of the queue.
pub async fn reclaim(txn: &mut Txn<'_>, ino: Ino, generation: u64) -> FsResult<Step> {
    if generation == WHOLE
        && let Some(step) = reclaim_small(txn, ino).await?
    {
        return Ok(step);
    }
    let log =
        if generation == WHOLE { key::log_all(ino) } else { key::log_generation(ino, generation) };
    let [entry, core, usage, xattrs, packs] = txn
        .read([
            one(key::garbage(ino, generation)),
            one(key::inode(ino, tag::CORE)),
            one(key::inode(ino, tag::USAGE)),
            one(key::inode(ino, tag::XATTRS)),
            rows(log, STEP_ROWS),
        ])
        .await?;
    if value(entry).is_none() {
        return Ok(Step { finished: true, ..Step::default() });
    }
    let core = value(core).map(|v| Core::decode(&v)).transpose()?;
    if generation == WHOLE {
        assert!(core.as_ref().is_none_or(|c| c.nlink == 0), "reclaim of an inode that has a name");
    }
    let packs = list(packs);
    let full = packs.len() >= STEP_ROWS as usize;
    let released = release(txn, named(&packs)?).await?;
    for (key, _) in packs {
        txn.clear(key);
    }
    if !full {
        let usage = value(usage).map_or(Ok(Pair::default()), |v| Pair::decode(&v))?;
        let xattrs = decode_counted(value(xattrs))?;
        let bytes = usage.lo + xattrs.hi + xattrs.lo;
        finish(txn, ino, generation, Pair { hi: i64::from(core.is_some()), lo: bytes });
    }
    Ok(Step { finished: !full, released })
}

/// Removes an inode of few keys, which most are, in one round and key by key: clears of ranges would stay
/// in the way of every later read. `None` when it has more.
async fn reclaim_small(txn: &mut Txn<'_>, ino: Ino) -> FsResult<Option<Step>> {
    let [entry, found, older] = txn
        .read([
            one(key::garbage(ino, WHOLE)),
            rows(key::whole_inode(ino), SMALL_ROWS),
            rows(key::older_garbage(ino), 1),
        ])
        .await?;
    if value(entry).is_none() {
        return Ok(Some(Step { finished: true, ..Step::default() }));
    }
    let found = list(found);
    if found.len() >= SMALL_ROWS as usize || !list(older).is_empty() {
        return Ok(None);
    }
    let (mut counted, mut packs) = (Pair::default(), Vec::new());
    for (key, value) in &found {
        match key::parse_inode(key).ok_or(FsError::Damaged)?.1 {
            tag::CORE => {
                let core = Core::decode(value)?;
                assert!(core.nlink == 0, "reclaim of an inode that has a name");
                counted.hi = 1;
            }
            tag::USAGE => counted.lo += Pair::decode(value)?.lo,
            tag::XATTRS => {
                let xattrs = decode_counted(Some(value.clone()))?;
                counted.lo += xattrs.hi + xattrs.lo;
            }
            tag::LOG => packs.push((key.clone(), value.clone())),
            _ => {}
        }
    }
    let released = release(txn, named(&packs)?).await?;
    for (key, _) in found {
        if !(planted!(KeptXattrs) && key::xattrs(ino).contains(&key)) {
            txn.clear(key);
        }
    }
    txn.charge(Pair { hi: -counted.hi, lo: -counted.lo });
    txn.clear(key::garbage(ino, WHOLE));
    Ok(Some(Step { finished: true, released }))
}

/// `counted`: the inode and the bytes that the volume's counters still hold for it.
fn finish(txn: &mut Txn<'_>, ino: Ino, generation: u64, counted: Pair) {
    if generation == WHOLE {
        txn.clear_range(key::whole_inode(ino));
        txn.charge(Pair { hi: -counted.hi, lo: -counted.lo });
        // Generations that were cut off earlier went with the rest.
        txn.clear_range(key::older_garbage(ino));
    } else {
        txn.clear_range(key::erases(ino, generation));
    }
    txn.clear(key::garbage(ino, generation));
}
