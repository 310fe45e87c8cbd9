//! fold: the write log of a region is replaced by what is visible of it (compaction).
//!
//! [`survey`] reads the log and makes a plan; the caller moves what is to be moved; [`fold`] reads the same
//! log again, with conflict and byte for byte, and puts the result where its newest pack (or erase) was. Writers only
//! append, at newer places, so that neither ever conflicts with the other; what they append meanwhile
//! stays above. A truncate or a punch that comes meanwhile is a newer erase, and stays above as well.
//!
//! Content, size, times and visible bytes do not change.

use super::load::{in_order, paint_on, regions};
use super::patch::grow;
use super::segments::{self, Liveness, Named, Released, liveness, named};
use crate::data::fold::{Overlay, Plan};
use crate::data::write_log::{self, LogExtent};
use crate::error::{FsError, FsResult};
use crate::id::{Ino, SegmentId};
use crate::meta::key::{self, tag};
use crate::meta::record::{Core, Pair, flag};
use crate::meta::txn::{Txn, list, one, rows, value};
use crate::port::meta_kv::{Key, Value};
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

/// Packs that one fold replaces at most: the oldest ones.
const PACKS_MAX: u32 = 2048;

/// Why a fold is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// It may pay.
    Due,
    /// The log carries too many bytes.
    Carried,
    /// Nobody writes, and readers would have less to do.
    Untidy,
    /// Something was erased, and nothing is to lie below the erase any more.
    Erased,
    /// Somebody wants it, whatever it costs.
    Asked,
}

/// Which log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Whose.
    pub ino: Ino,
    /// Which region.
    pub region: u64,
}

/// A log and what to make of it.
#[derive(Clone, Debug)]
pub struct Survey {
    /// Of this data generation.
    generation: u64,
    /// The packs that are replaced.
    packs: Vec<(Key, Value)>,
    /// Where the result goes: the first key, and the number in it.
    target: (Key, u16),
    /// What becomes of their extents.
    pub plan: Plan,
    /// Bytes written to the region since the last fold, as far as they do not count again for the next.
    pub written: u64,
}

/// Looks at the log of a region. `None`: there is nothing that a fold would make better.
///
/// # Errors
/// Damaged when the log does not decode.
pub async fn survey(txn: &mut Txn<'_>, place: Place, reason: Reason) -> FsResult<Option<Survey>> {
    let Place { ino, region } = place;
    let Some(generation) = generation(txn, ino).await? else { return Ok(None) };
    let log = key::log_region(ino, generation, region);
    let [packs] = txn.read([rows(log, PACKS_MAX).snapshot()]).await?;
    let packs = list(packs);
    let all = packs.len() < PACKS_MAX as usize;
    let packs = if all { packs } else { whole_commits(packs) };
    let Some((newest, _)) = packs.last() else { return Ok(None) };
    let erases = txn.read_range(key::erases(ino, generation), false).await?;
    let unseen = planted!(ResurrectedErase);
    let erased = erases.last().filter(|_| all).map(|(key, _)| key);
    let target = target(newest, erased)?;
    let wanted = matches!(reason, Reason::Erased | Reason::Asked);
    let lifts = wanted && target.0 > *newest;
    let mut overlay = Overlay::default();
    let erases = if unseen { Vec::new() } else { erases };
    for paint in in_order(erases, packs.iter().cloned())? {
        paint_on(&mut overlay, region, paint)?;
    }
    let sparse = sparse(txn, &packs, &overlay).await?;
    let (plan, written) = match reason {
        Reason::Carried => (overlay.plan_carried(), 0),
        _ => (overlay.plan(&sparse, reason == Reason::Asked), overlay.log.written),
    };
    let worth_it = plan.is_worth_it() || lifts;
    Ok(worth_it.then_some(Survey { generation, packs, target, plan, written }))
}

/// The data generation of a file that has extents; what is decided relies on it.
pub(super) async fn generation(txn: &mut Txn<'_>, ino: Ino) -> FsResult<Option<u64>> {
    let want = one(key::inode(ino, tag::CORE));
    let want = if planted!(UnreliedGeneration) { want.snapshot() } else { want };
    let [core] = txn.read([want]).await?;
    let core = value(core).map(|core| Core::decode(&core)).transpose()?;
    Ok(core.filter(|core| !core.has(flag::INLINE)).map(|core| core.generation))
}

/// Above everything that was read, below everything that is written from now on. What was painted on the
/// newest erase goes above that, so that nothing needs it any more.
fn target(newest: &Key, erased: Option<&Key>) -> FsResult<(Key, u16)> {
    let order = |key: &Key| key::paint_order(key).ok_or(FsError::Damaged);
    let mut at = order(newest)?;
    if let Some(erase) = erased.map(order).transpose()?.filter(|erase| *erase > at) {
        at = erase;
        at[14..].copy_from_slice(&1u16.to_be_bytes());
    }
    // An erase of the same commit has number 0, and lies below its packs.
    let n = u16::from_be_bytes([at[14], at[15]]).min(1);
    at[14..].copy_from_slice(&n.to_be_bytes());
    let mut key = newest.clone();
    key.overwrite(newest.len() - at.len(), &at);
    Ok((key, n))
}

/// Without the packs of a commit of which not all were read.
fn whole_commits(mut packs: Vec<(Key, Value)>) -> Vec<(Key, Value)> {
    let commit = |key: &Key| key[..key.len() - 2].to_vec();
    if let Some(cut) = packs.last().map(|(key, _)| commit(key)) {
        let kept = packs.iter().take_while(|(key, _)| commit(key) != cut).count();
        packs.truncate(kept);
    }
    packs
}

/// The segments of which less than half is left once only what is visible here is named here.
async fn sparse(
    txn: &mut Txn<'_>,
    packs: &[(Key, Value)],
    overlay: &Overlay,
) -> FsResult<BTreeSet<SegmentId>> {
    let before = named(packs)?;
    let visible = overlay.visible();
    let found = liveness(txn, before.keys().copied()).await?;
    let is_sparse = |id: &SegmentId, found: &Liveness| {
        let gone = before[id].saturating_sub(visible.get(id).copied().unwrap_or(0));
        Liveness { live: found.live.saturating_sub(gone), ..*found }.is_sparse()
    };
    let sparse = found.iter().filter(|(id, found)| is_sparse(id, found));
    Ok(sparse.map(|(id, _)| *id).collect())
}

/// What was moved, and where to.
#[derive(Clone, Debug, Default)]
pub struct Moved {
    /// In file order; they name the new segments, or carry their bytes.
    pub extents: Vec<LogExtent>,
    /// The new segments with their payload lengths.
    pub segments: Vec<(SegmentId, u32)>,
}

/// How a fold ended.
#[derive(Clone, Debug)]
pub enum Folded {
    /// The log is what was planned.
    Done(Released),
    /// The log is not what was surveyed: somebody else folded it, or its generation is gone. Nothing names
    /// what was moved.
    Overtaken,
}

/// Commits.
///
/// # Errors
/// Damaged when segments have fewer live bytes than the log names.
pub async fn fold(
    txn: &mut Txn<'_>,
    place: Place,
    survey: &Survey,
    moved: &Moved,
) -> FsResult<Folded> {
    let Place { ino, region } = place;
    if generation(txn, ino).await? != Some(survey.generation) {
        return Ok(Folded::Overtaken);
    }
    let (target, n) = &survey.target;
    let newest = survey.packs.last().map_or(target, |(key, _)| key);
    let mut replaced = key::log_region(ino, survey.generation, region);
    replaced.end = newest.max(target).successor();
    if txn.read_range(replaced, true).await? != survey.packs {
        return Ok(Folded::Overtaken);
    }
    let plan = &survey.plan;
    let (mut folded, mut written) = (plan.folded.clone(), plan.written.clone());
    let anew = if plan.moved_is_written { &mut written } else { &mut folded };
    anew.extend_from_slice(&moved.extents);
    anew.sort_by_key(|extent| extent.offset);
    let released = account(txn, ino, survey, moved).await?;
    if planted!(DroppedWrite) {
        txn.clear_range(key::log_region(ino, survey.generation, region));
    }
    for (key, _) in &survey.packs {
        txn.clear(key.clone());
    }
    let entries = put(txn, (target, *n), region, &folded, &written)?;
    if !planted!(UncountedFold) {
        grow(txn, ino, Pair { hi: entries - plan.entries as i64, lo: 0 });
    }
    Ok(Folded::Done(released))
}

/// Live bytes follow what the log names before and after.
async fn account(
    txn: &mut Txn<'_>,
    ino: Ino,
    survey: &Survey,
    moved: &Moved,
) -> FsResult<Released> {
    let mut kept = Named::new();
    segments::count(&mut kept, survey.plan.folded.iter().chain(&survey.plan.written));
    let mut freed = named(&survey.packs)?;
    for (id, bytes) in kept {
        let before = freed.get_mut(&id).ok_or(FsError::Damaged)?;
        *before = before.checked_sub(bytes).ok_or(FsError::Damaged)?;
    }
    freed.retain(|_, bytes| *bytes > 0);
    let mut added = Named::new();
    segments::count(&mut added, &moved.extents);
    for (id, len) in &moved.segments {
        segments::record(txn, *id, *len, ino);
    }
    segments::refer(txn, &added);
    if planted!(UnreleasedFold) {
        return Ok(Released::default());
    }
    segments::release(txn, freed).await
}

/// Writes packs from a key on; returns how many entries they have.
fn put(
    txn: &mut Txn<'_>,
    (target, first): (&Key, u16),
    region: u64,
    folded: &[LogExtent],
    written: &[LogExtent],
) -> FsResult<i64> {
    let packs = write_log::encode_folded(folded).into_iter().chain(write_log::encode(written));
    let mut entries = 0;
    for (n, (at, pack)) in packs.enumerate() {
        let n = u16::try_from(n).ok().and_then(|n| first.checked_add(n)).ok_or(FsError::Damaged)?;
        if at != region {
            return Err(FsError::Damaged);
        }
        entries += write_log::entries(region, &pack).map_err(|_| FsError::Damaged)? as i64;
        let mut key = target.clone();
        key.overwrite(target.len() - 2, &n.to_be_bytes());
        txn.set(key, pack);
    }
    Ok(entries)
}

/// The regions of a file that have a log.
pub async fn logged(txn: &mut Txn<'_>, ino: Ino) -> FsResult<Vec<u64>> {
    match generation(txn, ino).await? {
        Some(generation) => regions(txn, ino, generation, 0..u64::MAX).await,
        None => Ok(Vec::new()),
    }
}
