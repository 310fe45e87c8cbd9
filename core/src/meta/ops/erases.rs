//! Erases: which regions still have something below one, and which erases cover nothing any more.
//!
//! An erase hides what was written before it. Once every region that it touches was folded after it, no
//! pack lies below it, and it goes.

use super::fold::generation;
use crate::error::{FsError, FsResult};
use crate::id::Ino;
use crate::limits::REGION_SIZE;
use crate::meta::key;
use crate::meta::record::decode_erase;
use crate::meta::txn::{Txn, list, rows};
use alloc::vec::Vec;
use core::ops::Range;

/// Regions of one file that are looked at in one transaction. The erases of a file with a log in more of
/// them stay until it has fewer.
const REGIONS_MAX: usize = 1024;

/// Regions with something below an erase.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Erased {
    /// In file order.
    pub regions: Vec<u64>,
    /// Erases that went, because nothing lies below them.
    pub cleared: usize,
}

/// Clears the erases that cover nothing, and names the regions that keep the others.
pub async fn erases(txn: &mut Txn<'_>, ino: Ino) -> FsResult<Erased> {
    let mut erased = Erased::default();
    let Some(generation) = generation(txn, ino).await? else { return Ok(erased) };
    let found = txn.read_range(key::erases(ino, generation), false).await?;
    if found.is_empty() {
        return Ok(erased);
    }
    let logs = oldest(txn, ino, generation).await?;
    let all = logs.len() < REGIONS_MAX;
    for (key, value) in found {
        let order = key::paint_order(&key).ok_or(FsError::Damaged)?;
        let (lo, hi) = decode_erase(&value)?;
        let below = logs.iter().filter(|log| log.oldest < order && log.touches(&(lo..hi)));
        let mut kept = false;
        for log in below {
            kept = true;
            erased.regions.push(log.region);
        }
        if (!kept || planted!(EarlyErase)) && all {
            // Whoever else clears it, or finds something below it, must not be overlooked.
            txn.rely_on(key.clone());
            txn.clear(key);
            erased.cleared += 1;
        }
    }
    erased.regions.sort_unstable();
    erased.regions.dedup();
    Ok(erased)
}

/// The log of a region, by its oldest pack.
struct Log {
    region: u64,
    oldest: [u8; 16],
}

impl Log {
    fn touches(&self, range: &Range<u64>) -> bool {
        let start = self.region * REGION_SIZE;
        start < range.end && range.start < start.saturating_add(REGION_SIZE)
    }
}

/// The oldest pack of each region, relied on, the gaps between them included: nothing older appears.
async fn oldest(txn: &mut Txn<'_>, ino: Ino, generation: u64) -> FsResult<Vec<Log>> {
    let mut logs = Vec::new();
    let mut rest = key::log_generation(ino, generation);
    while logs.len() < REGIONS_MAX {
        let [first] = txn.read([rows(rest.clone(), 1)]).await?;
        let Some((key, _)) = list(first).pop() else { break };
        let place = key::parse_inode(&key).and_then(|(_, _, tail)| key::parse_log(tail));
        let (_, region) = place.ok_or(FsError::Damaged)?;
        logs.push(Log { region, oldest: key::paint_order(&key).ok_or(FsError::Damaged)? });
        rest.begin = key::log_region(ino, generation, region).end;
    }
    Ok(logs)
}
