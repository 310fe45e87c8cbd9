//! Removed inodes and truncated generations are reclaimed one after the other in the background.

use super::orphans::Sweep;
use super::tasks::done;
use super::{Client, Mounted, Phase};
use crate::data::page_io::page;
use crate::error::{FsError, FsResult};
use crate::id::{Ino, RequestId, SegmentId};
use crate::meta::ops::WHOLE;
use crate::meta::ops::reclaim::{queue, reclaim};
use crate::meta::ops::segments::Released;
use crate::meta::txn::{Volume, transact};
use crate::port::control::Control;
use crate::port::meta_kv::Version;
use crate::port::page_store::{PageError, PageRequest};
use crate::port::{Point, Severity};
use crate::task::Cx;
use alloc::collections::{BTreeSet, VecDeque};
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

/// How long a reclaim that met a full store waits.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What waits for reclaim on this mount.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: VecDeque<(Ino, u64)>,
    /// Inodes on their way out: a lookup that still saw them looks again.
    leaving: BTreeSet<Ino>,
    /// A reclaim is under way, or a turn of the sweep.
    busy: bool,
    /// The store had no room for the last reclaim: the next one waits a moment.
    stalled: bool,
    /// That was said, and none has succeeded since.
    full: bool,
    /// When nothing waits: stored segments that an earlier mount orphaned.
    pub(super) sweep: Sweep,
    /// Segments without a reference, deleted once the commit that says so is durable.
    dead: Vec<(Version, SegmentId)>,
    /// Deletions under way.
    deleting: u32,
    /// Requests that are asked again when nothing is reclaimed any more.
    idlers: Vec<(RequestId, Control)>,
}

impl Queue {
    /// Whether an inode is on its way out.
    pub(super) fn contains(&self, ino: Ino) -> bool {
        self.leaving.contains(&ino)
    }

    /// How much waits.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }
}

/// What a reclaim of one entry came to.
struct Reclaimed {
    result: FsResult<()>,
    last: Point,
    released: Vec<(Version, Released)>,
}

impl Client {
    /// Nobody holds this removed inode any more.
    pub(super) fn reclaim_inode(&mut self, ino: Ino) {
        self.reclaim.leaving.insert(ino);
        self.reclaim.waiting.push_back((ino, WHOLE));
        self.reclaim_next();
    }

    /// A truncate cut off this generation.
    pub(super) fn reclaim_generation(&mut self, ino: Ino, generation: u64) {
        self.reclaim.waiting.push_back((ino, generation));
        self.reclaim_next();
    }

    pub(super) fn reclaim_next(&mut self) {
        let Phase::Mounted(mounted) = &self.phase else { return };
        if self.reclaim.busy || self.reclaim.stalled {
            return;
        }
        let mounted = mounted.clone();
        let Some((ino, generation)) = self.reclaim.waiting.pop_front() else {
            self.reclaim.busy = self.sweep_orphans(&mounted);
            return;
        };
        self.reclaim.busy = true;
        if generation == WHOLE {
            self.reclaim.leaving.insert(ino);
        }
        let Mounted { volume, .. } = mounted;
        self.spawn_own(move |cx| async move {
            let reclaimed = reclaim_entry(&cx, &volume, ino, generation).await;
            done(move |client| client.reclaimed((ino, generation), reclaimed))
        });
    }

    /// Whether something is being reclaimed.
    pub(super) fn reclaim_is_busy(&self) -> bool {
        self.reclaim.busy
    }

    /// Asks again when nothing is reclaimed any more.
    pub(super) fn ask_after_reclaim(&mut self, id: RequestId, control: Control) {
        self.reclaim.idlers.push((id, control));
    }

    /// Removed inodes that are not reclaimed yet, those that are still open among them.
    pub(super) fn waiting_for_reclaim(&self) -> u64 {
        (self.inodes.unlinked() + self.reclaim.len()) as u64
    }

    fn reclaimed(&mut self, entry: (Ino, u64), reclaimed: Reclaimed) {
        let (ino, _) = entry;
        self.note(reclaimed.last);
        if let Point::Commit(commit) = reclaimed.last {
            self.inodes.forgotten = self.inodes.forgotten.max(commit.version);
        }
        self.reclaim.leaving.remove(&ino);
        for (version, released) in reclaimed.released {
            self.released(version, released);
        }
        if planted!(EarlyDelete) {
            self.delete_dead_segments();
        }
        match reclaimed.result {
            Ok(()) => self.reclaim.full = false,
            Err(FsError::NoSpace) => self.reclaim_later(entry),
            Err(error) => {
                let text =
                    format!("reclaiming inode {ino} failed: {error:?}; the next mount tries again");
                self.report(Severity::Warning, text);
            }
        }
        self.reclaim_turn_over();
    }

    /// What is removed gives its space back only once the metadata store has room to say so.
    fn reclaim_later(&mut self, entry: (Ino, u64)) {
        probe!("reclaim-stalled");
        self.reclaim.waiting.push_front(entry);
        self.reclaim.stalled = true;
        self.arm_reclaim(RETRY_AFTER);
        if !core::mem::replace(&mut self.reclaim.full, true) {
            let text = format!(
                "reclaiming inode {} failed: the disk is full; it is tried again until there is room",
                entry.0
            );
            self.report(Severity::Warning, text);
        }
    }

    /// Reclaims again after it had met a full store.
    pub(super) fn reclaim_again(&mut self) {
        self.reclaim.stalled = false;
        self.reclaim_next();
    }

    /// What had the queue to itself is done: the next one, or the checks that wait for the last.
    pub(super) fn reclaim_turn_over(&mut self) {
        self.reclaim.busy = false;
        self.reclaim_next();
        // After that: who finds no room yet hopes for what is being reclaimed now.
        if !self.waits.is_empty() {
            self.unpark();
        }
        self.ask_idlers();
    }

    /// References to segments went with a commit.
    pub(super) fn released(&mut self, version: Version, released: Released) {
        self.reclaim.dead.extend(released.dead.into_iter().map(|segment| (version, segment)));
        for (owner, bytes) in released.unnamed {
            self.compaction.note_unnamed(owner, bytes);
        }
        for (segment, owner) in released.sparse {
            self.repack(owner, segment);
        }
    }

    /// Segments whose last reference is durably gone are deleted.
    pub(super) fn delete_dead_segments(&mut self) {
        let segments = self.take_dead_segments();
        self.delete(segments);
    }

    /// Segments that nothing names, and nothing will, are deleted.
    pub(super) fn delete(&mut self, segments: Vec<SegmentId>) {
        if segments.is_empty() {
            return;
        }
        self.reclaim.deleting += 1;
        self.spawn_own(move |cx| async move {
            let result = delete_segments(&cx, segments).await;
            done(move |client| {
                client.reclaim.deleting -= 1;
                client.deleted(result);
                client.ask_idlers();
            })
        });
    }

    /// Whether segments are being deleted.
    pub(super) fn is_deleting(&self) -> bool {
        self.reclaim.deleting > 0
    }

    /// Whoever waited until nothing is under way asks again.
    fn ask_idlers(&mut self) {
        if !self.reclaim.busy && self.reclaim.deleting == 0 {
            for (id, control) in core::mem::take(&mut self.reclaim.idlers) {
                self.control(id, control);
            }
        }
    }

    /// The segments that nothing durable refers to any more.
    pub(super) fn take_dead_segments(&mut self) -> Vec<SegmentId> {
        let durable = self.log.durable;
        let dead = self
            .reclaim
            .dead
            .extract_if(.., |(version, _)| *version <= durable || planted!(EarlyDelete));
        dead.map(|(_, segment)| segment).collect()
    }

    /// Segments that could not be deleted take room, and nothing else.
    pub(super) fn deleted(&mut self, result: Result<(), PageError>) {
        if let Err(error) = result {
            self.report(Severity::Warning, format!("deleting dead segments failed: {error:?}"));
        }
    }
}

pub(super) async fn delete_segments(cx: &Cx, segments: Vec<SegmentId>) -> Result<(), PageError> {
    if segments.is_empty() {
        return Ok(());
    }
    page(cx, PageRequest::Delete { segments }).await.map(|_| ())
}

async fn reclaim_entry(cx: &Cx, volume: &Arc<Volume>, ino: Ino, generation: u64) -> Reclaimed {
    let mut out = Reclaimed { result: Ok(()), last: Point::Step, released: Vec::new() };
    loop {
        let (step, point) = transact!(cx, volume, |txn| reclaim(txn, ino, generation).await);
        out.last = point;
        let step = match step {
            Ok(step) => step,
            Err(error) => {
                out.result = Err(error);
                return out;
            }
        };
        if let Point::Commit(commit) = point {
            out.released.push((commit.version, step.released));
        }
        if step.finished {
            return out;
        }
    }
}

/// Everything that waits in the volume's queue: what an earlier mount left behind.
pub(super) async fn left_behind(cx: &Cx, volume: &Arc<Volume>) -> FsResult<VecDeque<(Ino, u64)>> {
    let mut all = VecDeque::new();
    loop {
        let after = all.back().copied();
        let (page, _) = transact!(cx, volume, |txn| queue(txn, after, PAGE).await);
        let page = page?;
        let last = page.len() < PAGE as usize;
        all.extend(page);
        if last {
            return Ok(all);
        }
    }
}

const PAGE: u32 = 1000;

impl Client {
    /// Takes over what an earlier mount left behind.
    pub(super) fn adopt_garbage(&mut self, left: VecDeque<(Ino, u64)>) {
        if !left.is_empty() {
            probe!("garbage-adopted");
        }
        let whole = left.iter().filter(|(_, generation)| *generation == WHOLE).map(|(ino, _)| *ino);
        self.reclaim.leaving.extend(whole);
        self.reclaim.waiting.extend(left);
        self.begin_sweep();
        self.reclaim_next();
    }
}
