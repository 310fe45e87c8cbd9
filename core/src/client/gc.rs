//! gc: what nobody needs any more, counted, and given back at once if that is asked for.
//!
//! Everything here happens by itself sooner or later: removed files are reclaimed when nobody has them open,
//! orphans are looked for once per mount, logs are folded where they are loaded. This does it now.

use super::tasks::done;
use super::{Client, Mounted};
use crate::data::page_io::page;
use crate::error::{FsError, FsResult};
use crate::id::{RequestId, SegmentId};
use crate::meta::ops::weigh::{Weighed, weigh};
use crate::meta::txn::{Volume, sync, transact};
use crate::port::control::{Answer, Collected, Control, Garbage};
use crate::port::page_store::{PageReply, PageRequest};
use crate::task::Cx;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Segments weighed or listed at a time.
const PAGE: u32 = 1024;

/// What was found out about the segments.
struct Weight {
    garbage: Garbage,
    sparse: Vec<Weighed>,
}

impl Client {
    /// Counts garbage; with `now`, collects it and counts again.
    pub(super) fn gc(&mut self, mounted: Mounted, id: RequestId, now: bool) {
        if now && self.config.read_only {
            return self.answer(id, Answer::Failed(FsError::ReadOnly));
        }
        match self.collecting.get(&id).copied() {
            None => self.gc_begin(mounted, id, now),
            Some((_, true)) if self.is_deleting() => {
                self.ask_after_reclaim(id, Control::Gc { now })
            }
            Some((before, true)) => self.gc_end(mounted, id, before),
            Some(_) if self.reclaim_is_busy() => self.ask_after_reclaim(id, Control::Gc { now }),
            Some(_) if self.waits_for_compaction(false, id, &Control::Gc { now }) => {}
            Some((before, false)) => self.gc_sync(mounted, id, before),
        }
    }

    fn gc_begin(&mut self, mounted: Mounted, id: RequestId, now: bool) {
        self.spawn(id, move |cx| async move {
            let weight = weigh_all(&cx, &mounted.volume).await;
            done(move |client| {
                let mut weight = match weight {
                    Ok(weight) => weight,
                    Err(error) => return client.answer(id, Answer::Failed(error)),
                };
                weight.garbage.removed = client.waiting_for_reclaim();
                if !now {
                    let garbage = weight.garbage;
                    return client.answer(
                        id,
                        Answer::Collected(Collected { before: garbage, after: garbage }),
                    );
                }
                client.collecting.insert(id, (weight.garbage, false));
                for Weighed { segment, owner, .. } in weight.sparse {
                    if let Some(owner) = owner {
                        client.repack(owner, segment);
                    }
                }
                client.fold_everything();
                client.begin_sweep();
                client.reclaim_next();
                client.gc(mounted, id, now);
            })
        });
    }

    /// What nothing names any more is deleted once that is durable.
    fn gc_sync(&mut self, mounted: Mounted, id: RequestId, before: Garbage) {
        self.spawn(id, move |cx| async move {
            let synced = sync(&cx).await;
            done(move |client| match client.synced(synced) {
                Ok(()) => {
                    client.collecting.insert(id, (before, true));
                    client.gc(mounted, id, true);
                }
                Err(error) => {
                    client.collecting.remove(&id);
                    client.answer(id, Answer::Failed(error));
                }
            })
        });
    }

    fn gc_end(&mut self, mounted: Mounted, id: RequestId, before: Garbage) {
        self.collecting.remove(&id);
        self.spawn(id, move |cx| async move {
            let weight = weigh_all(&cx, &mounted.volume).await;
            done(move |client| {
                let answer = match weight {
                    Ok(Weight { mut garbage, .. }) => {
                        garbage.removed = client.waiting_for_reclaim();
                        Answer::Collected(Collected { before, after: garbage })
                    }
                    Err(error) => Answer::Failed(error),
                };
                client.answer(id, answer);
            })
        });
    }
}

/// Weighs every segment, and finds those that no record names.
async fn weigh_all(cx: &Cx, volume: &Arc<Volume>) -> FsResult<Weight> {
    let mut weight = Weight { garbage: Garbage::default(), sparse: Vec::new() };
    // Listed first: a record that comes later must not make its segment look like an orphan.
    let stored = stored(cx, volume).await?;
    let mut known = Vec::new();
    let mut after = None;
    loop {
        let (found, _) = transact!(cx, volume, |txn| weigh(txn, after, PAGE).await);
        let found = found?;
        after = found.last().map(|found| found.segment);
        for one in &found {
            weight.garbage.segments += 1;
            let unnamed = one.liveness.len.saturating_sub(one.liveness.live);
            weight.garbage.stored = weight.garbage.stored.saturating_add(one.liveness.len);
            weight.garbage.unnamed = weight.garbage.unnamed.saturating_add(unnamed);
            if one.liveness.is_sparse() {
                weight.sparse.push(*one);
            }
            known.push(one.segment);
        }
        if found.len() < PAGE as usize {
            break;
        }
    }
    weight.garbage.sparse = weight.sparse.len() as u64;
    let orphans = stored.into_iter().filter(|id| known.binary_search(id).is_err());
    weight.garbage.orphans = orphans.count() as u64;
    Ok(weight)
}

/// The stored segments of other sessions: one of this session may have its record on its way.
async fn stored(cx: &Cx, volume: &Arc<Volume>) -> FsResult<Vec<SegmentId>> {
    let mut all = Vec::new();
    let mut after = None;
    loop {
        let listed = match page(cx, PageRequest::List { after, limit: PAGE }).await? {
            PageReply::Listed(listed) => listed,
            _ => return Err(FsError::Damaged),
        };
        let Some(last) = listed.last().copied().filter(|last| Some(*last) > after) else {
            return Ok(all);
        };
        after = Some(last);
        all.extend(listed.into_iter().filter(|id| id.session != volume.session));
    }
}
