//! One fold: look at the log, move what is to be moved, commit.

use super::{Client, GIVEN_UP_MAX, Phase, Work};
use crate::client::reclaim::delete_segments;
use crate::client::tasks::{Done, done};
use crate::data::extent_map::Source;
use crate::data::gather::{Gather, Part};
use crate::data::page_io::{page, pages};
use crate::data::write_log::LogExtent;
use crate::error::FsError;
use crate::id::{Ino, SegmentId};
use crate::limits::{LOG_BYTES_MAX, REGION_SIZE, SEGMENT_PAYLOAD_MAX};
use crate::meta::ops::fold::{Folded, Moved, Place, Reason, Survey, fold, survey};
use crate::meta::txn::{Volume, sync, transact};
use crate::port::meta_kv::Version;
use crate::port::page_store::{PageError, PageRequest, SegmentDraft};
use crate::port::{Point, Severity};
use crate::task::{Ask, Cx};
use alloc::boxed::Box;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bytes::Bytes;
use core::future::Future;

/// Bytes between two pieces that are read along.
const GAP_MAX: u32 = 64 << 10;
/// Reads under way at a time.
const READS: usize = 4;

/// What a fold left behind.
enum Freed {
    Little,
    /// A segment's worth, of which so many bytes were garbage: the next fold waits until it is deleted.
    Much(i64),
}

/// Why a fold came to nothing.
enum Failure {
    /// It is not to be, or not now.
    Quiet,
    /// Bytes that it has to move cannot be read.
    Unreadable(SegmentId, PageError),
    /// Something else.
    Failed(FsError),
}

/// What a fold came to.
enum End {
    /// There was nothing to make better.
    Nothing,
    Failed(Failure),
    Committed(Box<Survey>, Folded, Point),
}

impl Client {
    /// Starts a task of compaction.
    pub(super) fn spawn_compaction<F>(&mut self, make: impl FnOnce(Cx) -> F) -> Cx
    where
        F: Future<Output = Done> + Send + 'static,
    {
        let mut own = None;
        self.spawn_own(|cx| {
            own = Some(cx.clone());
            make(cx)
        });
        own.expect("a task is made with its context")
    }

    pub(super) fn fold(&mut self, volume: Arc<Volume>, place: Place, reason: Reason) -> Cx {
        let session = self.config.session;
        let first = self.segments + 1;
        self.segments += self.fold_segments();
        let max = self.config.compaction.segment_max.min(SEGMENT_PAYLOAD_MAX);
        self.spawn_compaction(move |cx| async move {
            let ids = (first..).map(|sequence| SegmentId { session, sequence });
            let end = fold_region(&cx, &volume, (place, reason), ids, max).await;
            done(move |client| match client.folded(place, end) {
                Freed::Much(bytes) => client.give_back((place, reason), bytes),
                Freed::Little => client.compaction_turn_over(),
            })
        })
    }

    /// The fold is over when what it left behind is deleted: the next one takes as much space again, and
    /// until then nothing has come back to the writers.
    fn give_back(&mut self, (place, reason): (Place, Reason), bytes: i64) {
        let work = Work::Fold(place, reason);
        self.compaction.note_unnamed(place.ino, bytes);
        let cx = self.spawn_compaction(move |cx| async move {
            let synced = sync(&cx).await;
            done(move |client| match client.note_durable(synced) {
                Ok(()) => client.delete_left_behind(work, (place.ino, bytes)),
                // It was reported; then the space comes back with a later sync.
                Err(_) => client.gave_back(place.ino, bytes),
            })
        });
        self.compaction.running = Some((work, cx));
    }

    fn gave_back(&mut self, ino: Ino, bytes: i64) {
        self.compaction.note_unnamed(ino, -bytes);
        self.compaction_turn_over();
    }

    fn delete_left_behind(&mut self, work: Work, (ino, bytes): (Ino, i64)) {
        probe!("fold-gave-back");
        let segments = self.take_dead_segments();
        let cx = self.spawn_compaction(move |cx| async move {
            let result = delete_segments(&cx, segments).await;
            done(move |client| {
                client.deleted(result);
                client.gave_back(ino, bytes);
            })
        });
        self.compaction.running = Some((work, cx));
    }

    fn folded(&mut self, place: Place, end: End) -> Freed {
        match end {
            End::Committed(survey, folded, point) => {
                return self.moved(place, *survey, folded, point);
            }
            End::Failed(Failure::Quiet) => {}
            End::Nothing => {
                if let Some(file) = self.inodes.file_mut(place.ino) {
                    file.settle_region(place.region);
                }
            }
            End::Failed(Failure::Failed(error)) => self.compaction_failed(place.ino, error),
            End::Failed(Failure::Unreadable(segment, error)) => self.give_up(place, segment, error),
        }
        Freed::Little
    }

    fn moved(&mut self, place: Place, survey: Survey, folded: Folded, point: Point) -> Freed {
        self.note(point);
        let (Folded::Done(released), Point::Commit(commit)) = (folded, point) else {
            return Freed::Little;
        };
        let counters = &mut self.compaction.counters;
        counters.folds += 1;
        counters.moved += survey.plan.moved_bytes();
        counters.written += survey.written;
        counters.trimmed += survey.plan.trimmed;
        self.compaction.folded_one = true;
        let dead = !released.dead.is_empty();
        let early = planted!(EarlyFoldDelete);
        self.released(if early { Version(0) } else { commit.version }, released);
        if early {
            self.delete_dead_segments();
        }
        self.look_afresh(place);
        if !dead {
            return Freed::Little;
        }
        let bytes = survey.plan.moved_bytes() + survey.plan.trimmed;
        if bytes >= u64::from(self.config.compaction.segment_max) {
            return Freed::Much(i64::try_from(survey.plan.trimmed).unwrap_or(i64::MAX));
        }
        // The space comes back once this is durable, and writers may wait for it.
        self.sync_aged();
        Freed::Little
    }

    /// Where a region's bytes are is another place now. What is buffered over it counts by what it covers:
    /// then that is loaded at once.
    fn look_afresh(&mut self, place: Place) {
        let Phase::Mounted(mounted) = &self.phase else { return };
        let mounted = mounted.clone();
        let Some(file) = self.inodes.file_mut(place.ino) else { return };
        file.forget_region(place.region);
        let begin = place.region * REGION_SIZE;
        if !file.buffer.is_empty() && file.missing_region(&(begin..begin + 1)).is_some_and(|m| m.1)
        {
            self.load_region(mounted, place.ino, place.region);
        }
    }

    fn give_up(&mut self, place: Place, segment: SegmentId, error: PageError) {
        if self.compaction.given_up.len() < GIVEN_UP_MAX && self.compaction.given_up.insert(place) {
            let text = format!(
                "compacting inode {}, region {}: segment {segment}: {error:?}; it stays as it is",
                place.ino, place.region
            );
            self.report(Severity::Error, text);
        }
    }
}

async fn fold_region(
    cx: &Cx,
    volume: &Arc<Volume>,
    (place, reason): (Place, Reason),
    ids: impl Iterator<Item = SegmentId>,
    max: u32,
) -> End {
    let (surveyed, _) = transact!(cx, volume, |txn| survey(txn, place, reason).await);
    let survey = match surveyed {
        Ok(Some(survey)) => survey,
        Ok(None) => return End::Nothing,
        Err(error) => return End::Failed(Failure::Failed(error)),
    };
    let mut moved = Moved::default();
    let result = move_all(cx, volume, &survey, ids, max, &mut moved).await;
    let segments: Vec<SegmentId> = moved.segments.iter().map(|(id, _)| *id).collect();
    if let Err(failure) = result {
        // Nothing names them; what cannot be deleted now is found by the next mount.
        let _ = delete_segments(cx, segments).await;
        return End::Failed(failure);
    }
    let (result, point) = transact!(cx, volume, |txn| fold(txn, place, &survey, &moved).await);
    let in_vain = match &result {
        Ok(Folded::Done(_)) => false,
        Ok(Folded::Overtaken) => {
            probe!("fold-overtaken");
            true
        }
        // What became of the commit nobody knows.
        Err(FsError::Damaged) => false,
        Err(_) => true,
    };
    if in_vain && !planted!(KeptFold) {
        let _ = delete_segments(cx, segments).await;
    }
    match result {
        Ok(folded) => End::Committed(Box::new(survey), folded, point),
        Err(error) => End::Failed(Failure::Failed(error)),
    }
}

/// Moves what the plan moves: into new segments, or into the log itself when it is little and not what the
/// log is to be rid of.
async fn move_all(
    cx: &Cx,
    volume: &Volume,
    survey: &Survey,
    mut ids: impl Iterator<Item = SegmentId>,
    max: u32,
    moved: &mut Moved,
) -> Result<(), Failure> {
    let carried = LOG_BYTES_MAX.min(u64::from(volume.kv.value_bytes_max));
    if survey.plan.moved_bytes() <= carried && !survey.plan.moved_is_written {
        let payload = fetch(cx, &survey.plan.moved).await?;
        if !payload.is_empty() {
            probe!("fold-carried");
        }
        moved.extents = carry(&survey.plan.moved, payload);
        return Ok(());
    }
    if survey.plan.moved_is_written {
        probe!("log-emptied");
    }
    for part in survey.plan.parts(max) {
        let payload = fetch(cx, &part).await?;
        let len: u64 = part.iter().map(|extent| extent.len).sum();
        let len = u32::try_from(len).map_err(|_| Failure::Failed(FsError::Damaged))?;
        let id = ids.next().ok_or(Failure::Failed(FsError::Damaged))?;
        leaves_reserve(cx, len).await?;
        moved.segments.push((id, len));
        let draft = SegmentDraft { id, payload, len };
        page(cx, PageRequest::Append(draft)).await.map_err(|error| match error {
            PageError::NoSpace => Failure::Quiet,
            error => Failure::Failed(error.into()),
        })?;
        place_in(&mut moved.extents, id, &part);
        probe!("fold-moved");
        cx.ask(Ask::Pace).await;
        if cx.interrupted() {
            return Err(Failure::Quiet);
        }
    }
    Ok(())
}

async fn leaves_reserve(cx: &Cx, len: u32) -> Result<(), Failure> {
    crate::client::flush::leaves_reserve(cx, len).await.map_err(|_| Failure::Quiet)
}

/// Names a segment that holds extents one behind the other.
fn place_in(extents: &mut Vec<LogExtent>, segment: SegmentId, part: &[LogExtent]) {
    let mut at = 0;
    let first = extents.len();
    for extent in part {
        match extents[first..].last_mut() {
            Some(last) if last.offset + last.len == extent.offset => last.len += extent.len,
            _ => {
                let source = Source::Segment { segment, offset: at };
                extents.push(LogExtent { offset: extent.offset, len: extent.len, source });
            }
        }
        at += extent.len as u32;
    }
}

/// The same bytes as the log carries them: each run in one piece.
fn carry(extents: &[LogExtent], payload: Vec<Bytes>) -> Vec<LogExtent> {
    let mut runs: Vec<(u64, Vec<u8>)> = Vec::new();
    for (extent, bytes) in extents.iter().zip(payload) {
        match runs.last_mut() {
            Some((offset, run)) if *offset + run.len() as u64 == extent.offset => {
                run.extend_from_slice(&bytes);
            }
            _ => runs.push((extent.offset, bytes.to_vec())),
        }
    }
    let carried = runs.into_iter().map(|(offset, run)| LogExtent {
        offset,
        len: run.len() as u64,
        source: Source::Bytes(Bytes::from(run)),
    });
    carried.collect()
}

/// The bytes of extents, one handle for each.
async fn fetch(cx: &Cx, extents: &[LogExtent]) -> Result<Vec<Bytes>, Failure> {
    let gather = Gather::new(extents.iter().filter_map(part).collect(), GAP_MAX);
    let mut replies = Vec::new();
    for batch in gather.reads().chunks(READS) {
        replies.extend(pages(cx, batch.iter().map(Part::request).collect()).await);
        cx.ask(Ask::Pace).await;
        if cx.interrupted() {
            return Err(Failure::Quiet);
        }
    }
    let mut read = gather.cut(cx, &replies).await.into_iter();
    let bytes = extents.iter().map(|extent| match &extent.source {
        Source::Bytes(bytes) => Ok(bytes.slice(..extent.len as usize)),
        Source::Segment { segment, .. } => match read.next() {
            Some(Ok(bytes)) => Ok(bytes),
            // It was removed, or folded by somebody else.
            Some(Err(PageError::Missing | PageError::Unavailable)) => Err(Failure::Quiet),
            Some(Err(error)) => Err(Failure::Unreadable(*segment, error)),
            None => Err(Failure::Failed(FsError::Damaged)),
        },
    });
    bytes.collect()
}

fn part(extent: &LogExtent) -> Option<Part> {
    match extent.source {
        Source::Segment { segment, offset } => {
            Some(Part { segment, offset, len: extent.len as u32 })
        }
        Source::Bytes(_) => None,
    }
}
