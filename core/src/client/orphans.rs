//! Orphans: stored segments that the metadata does not know. A crash between an append and its commit
//! leaves them, or one between a reclaim's commit and the deletion after it.
//!
//! Once per mount, in the background, the page store is listed page by page; what other sessions wrote and
//! no record names is deleted. Only on a volume that this mount has to itself, never read-only, and only
//! where no commit of an earlier mount can still be under way (a store without unknown outcomes).
//!
//! Invariants:
//! - A segment with a record is never touched, nor one of this session: its record may be on its way.
//! - What was read is durable before anything is deleted. A page of the sweep takes a turn of the
//!   reclaim queue, and nothing but reclaim removes records: none is on its way meanwhile.
//! - Any failure ends the sweep until the next mount.
//!
//! Tests: the simulator requires that no orphan is left at the end of a run.

use super::reclaim::delete_segments;
use super::tasks::done;
use super::{Client, Mounted};
use crate::data::page_io::page;
use crate::error::{FsError, FsResult};
use crate::id::SegmentId;
use crate::meta::key;
use crate::meta::txn::{Volume, one, sync, transact, value};
use crate::port::Severity;
use crate::port::meta_kv::Version;
use crate::port::page_store::{PageReply, PageRequest};
use crate::task::Cx;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Segments looked at in one turn.
const PAGE: u32 = 256;

/// How far the sweep of this mount is.
#[derive(Debug, Default)]
pub(super) enum Sweep {
    /// Over, or not allowed.
    #[default]
    Over,
    /// To go on behind this segment.
    After(Option<SegmentId>),
}

/// What one turn came to.
#[derive(Default)]
struct Swept {
    /// The last segment listed; `None` at the end of the list.
    last: Option<SegmentId>,
    deleted: usize,
    durable: Option<Version>,
}

impl Client {
    /// Allows the sweep if this mount may do it.
    pub(super) fn begin_sweep(&mut self) {
        let kv = self.config.kv;
        if kv.sole && !kv.may_be_unknown && !self.config.read_only {
            self.reclaim.sweep = Sweep::After(None);
        }
    }

    /// Takes a turn, if one is due; says whether.
    pub(super) fn sweep_orphans(&mut self, mounted: &Mounted) -> bool {
        let Sweep::After(after) = core::mem::take(&mut self.reclaim.sweep) else { return false };
        let volume = mounted.volume.clone();
        self.spawn_own(move |cx| async move {
            let mut swept = Swept::default();
            let result = sweep_page(&cx, &volume, after, &mut swept).await;
            done(move |client| client.swept(result, swept))
        });
        true
    }

    fn swept(&mut self, result: FsResult<()>, swept: Swept) {
        if let Some(version) = swept.durable {
            // Known to be fine: an error has ended the turn before.
            let _ = self.synced(Ok(version));
        }
        match (result, swept.last) {
            (Ok(()), Some(last)) => self.reclaim.sweep = Sweep::After(Some(last)),
            (Ok(()), None) => {}
            (Err(error), _) => self.report(
                Severity::Warning,
                format!(
                    "looking for orphaned segments failed: {error:?}; the next mount tries again"
                ),
            ),
        }
        if swept.deleted > 0 {
            probe!("orphans-deleted");
            let text = format!("deleted {} segments that a crash had orphaned", swept.deleted);
            self.report(Severity::Info, text);
        }
        self.reclaim_turn_over();
    }
}

async fn sweep_page(
    cx: &Cx,
    volume: &Arc<Volume>,
    after: Option<SegmentId>,
    swept: &mut Swept,
) -> FsResult<()> {
    let listed = match page(cx, PageRequest::List { after, limit: PAGE }).await? {
        PageReply::Listed(listed) => listed,
        _ => return Err(FsError::Damaged),
    };
    let last = listed.last().copied();
    if last.is_some() && last <= after {
        // A store that lists in circles is not one to delete from.
        return Err(FsError::Damaged);
    }
    let foreign = listed.into_iter().filter(|id| id.session != volume.session).collect();
    let orphans = without_record(cx, volume, foreign).await?;
    if !orphans.is_empty() {
        swept.durable = Some(sync(cx).await?);
        swept.deleted = orphans.len();
        delete_segments(cx, orphans).await?;
    }
    swept.last = last;
    Ok(())
}

/// Those of the segments that no record names.
async fn without_record(
    cx: &Cx,
    volume: &Arc<Volume>,
    segments: Vec<SegmentId>,
) -> FsResult<Vec<SegmentId>> {
    if segments.is_empty() {
        return Ok(segments);
    }
    let (values, _) = transact!(cx, volume, |txn| {
        let wants = segments.iter().map(|id| one(key::segment(*id)).snapshot());
        txn.read_all(wants.collect()).await
    });
    let records = values?.into_iter().map(value);
    Ok(segments.into_iter().zip(records).filter(|(_, r)| r.is_none()).map(|(id, _)| id).collect())
}
