//! Compaction: which regions are folded, one after the other, in the background.
//!
//! Owns: the queue, its triggers, the pace. Never does: choosing what a fold moves (`data/fold.rs`).
//!
//! A region is queued when its log is loaded or grows and has become due; when it has most garbage of a
//! file that has too much; when enough of its file was erased; when a segment that it names is mostly dead;
//! when it is untidy and nobody writes; or when somebody asks. One fold is under way at a time, holds one
//! segment's payload in memory, and gives the callers at least as much time as it takes, unless others
//! wait behind it. Where a file has more garbage yet, what is written goes out no faster than space comes
//! back.
//!
//! Nothing here is durable: what a mount forgets, the next one finds again where it loads a log.

mod run;
mod tidy;

use super::tasks::{TaskId, done};
use super::{Client, Phase};
use crate::data::fold::Due;
use crate::error::{FsError, FsResult};
use crate::id::{Ino, RequestId, SegmentId};
use crate::limits::REGION_SIZE;
use crate::meta::ops::erases::{Erased, erases};
use crate::meta::ops::fold::{Place, Reason, logged};
use crate::meta::ops::logs::{LogPage, LoggedPack, logs};
use crate::meta::ops::naming::naming;
use crate::meta::txn::{Volume, transact};
use crate::port::Severity;
use crate::port::control::{Answer, Compacted, Control};
use crate::port::meta_kv::Key;
use crate::task::{Cx, Told};
use crate::time::Instant;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;
use tidy::Untidy;

/// Longest pause between two steps of a fold.
const PAUSE_MAX: Duration = Duration::from_millis(250);
/// Erases of one file that are worth clearing.
pub(super) const ERASES_MAX: u32 = 64;
/// Erased bytes of one file that are worth giving back.
pub(super) const ERASED_MAX: u64 = 1 << 20;
/// Regions that are not tried again on this mount, because their bytes cannot be read.
const GIVEN_UP_MAX: usize = 4096;

/// Something to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Work {
    /// Fold a region.
    Fold(Place, Reason),
    /// Fold the regions of a file that lie under erases, then clear those; `true`: only clear.
    Erases(Ino, bool),
    /// Fold the regions of a file that name mostly dead segments.
    Repack(Ino),
    /// Look at the next logs of the volume.
    Everything,
}

impl Work {
    fn concerns(self, ino: Ino) -> bool {
        match self {
            Work::Fold(place, _) => place.ino == ino,
            Work::Erases(of, _) | Work::Repack(of) => of == ino,
            Work::Everything => false,
        }
    }
}

/// Compaction on one mount.
#[derive(Debug, Default)]
pub(super) struct Compaction {
    queue: VecDeque<Work>,
    queued: BTreeSet<Work>,
    /// Folds that wait or are under way, by file.
    folding: BTreeMap<Ino, u32>,
    /// What is under way, and its task.
    running: Option<(Work, Cx)>,
    /// The fold under way has made something better.
    folded_one: bool,
    /// No more of it on this mount.
    stopped: bool,
    /// Mostly dead segments, by whose log named them first.
    sparse: BTreeMap<Ino, BTreeSet<SegmentId>>,
    given_up: BTreeSet<Place>,
    untidy: Untidy,
    /// Bytes that no log names, in segments that some log does, by owner: what this mount left of them.
    unnamed: BTreeMap<Ino, i64>,
    /// Where a look at all logs goes on.
    next_log: Option<Key>,
    /// Who waits until a file is folded, and the counters when he asked.
    askers: Vec<(RequestId, Ino, Compacted)>,
    /// Who waits until nothing is under way.
    idlers: Vec<(RequestId, Control)>,
    pub(super) counters: Compacted,
    /// When the fold under way went on, and how many requests had been served.
    pace: (Instant, u64),
}

impl Compaction {
    /// Regions become due faster than they are folded.
    fn is_behind(&self) -> bool {
        let due = |work: &Work| matches!(work, Work::Fold(_, Reason::Due | Reason::Carried));
        self.queue.iter().any(due)
    }

    /// A fold of one of the file's regions is on its way.
    pub(super) fn is_folding(&self, ino: Ino) -> bool {
        !self.stopped && self.folding.contains_key(&ino)
    }

    /// Bytes of a file's segments that come back once the rest of them is folded, or the fold under way is
    /// over.
    pub(super) fn unnamed(&self, ino: Ino) -> u64 {
        self.unnamed.get(&ino).map_or(0, |bytes| (*bytes).max(0) as u64)
    }

    /// References to a file's segments went.
    pub(super) fn note_unnamed(&mut self, owner: Ino, change: i64) {
        let bytes = self.unnamed.entry(owner).or_default();
        *bytes = bytes.saturating_add(change);
        if *bytes <= 0 {
            self.unnamed.remove(&owner);
        }
    }

    fn count_fold(&mut self, work: Work) {
        if let Work::Fold(place, _) = work {
            *self.folding.entry(place.ino).or_default() += 1;
        }
    }

    fn fold_is_over(&mut self, ino: Ino) {
        if let Some(count) = self.folding.get_mut(&ino) {
            *count -= 1;
            if *count == 0 {
                self.folding.remove(&ino);
            }
        }
    }

    /// How much waits or is under way.
    pub(super) fn pending(&self) -> usize {
        self.queue.len() + usize::from(self.running.is_some()) + self.untidy.len()
    }

    fn concerns(&self, ino: Ino) -> bool {
        self.running.as_ref().is_some_and(|(work, _)| work.concerns(ino))
            || self.queue.iter().any(|work| work.concerns(ino))
    }
}

impl Client {
    /// Queues the regions of a file whose log in memory says so.
    pub(super) fn fold_what_is_due(&mut self, ino: Ino) {
        if !self.config.compaction.enabled || self.config.read_only {
            return;
        }
        let Some(file) = self.inodes.file_mut(ino) else { return };
        let (due, untidy) = file.due(&self.config.compaction);
        let erased = file.wants_sweep();
        if erased {
            file.swept();
        }
        for (region, why) in due {
            let reason = match why {
                Due::Long => Reason::Due,
                Due::Carried => Reason::Carried,
            };
            self.compact(Work::Fold(Place { ino, region }, reason));
        }
        self.fold_worst(ino);
        if erased {
            self.compact(Work::Erases(ino, false));
        }
        self.tidy_later(ino, untidy);
    }

    /// Folds the region with most garbage, where the file has more than it may. One at a time: until that is
    /// over, another may have become the worst.
    fn fold_worst(&mut self, ino: Ino) {
        let (policy, unnamed) = (self.config.compaction, self.compaction.unnamed(ino));
        let Some(file) = self.inodes.file(ino) else { return };
        if self.compaction.is_folding(ino) || file.excess(&policy, unnamed).is_none() {
            return;
        }
        let given_up = &self.compaction.given_up;
        let wanted = |region| !given_up.contains(&Place { ino, region });
        if let Some(region) = file.worst_region(wanted) {
            self.compact(Work::Fold(Place { ino, region }, Reason::Due));
        }
    }

    /// A segment is mostly dead: what is left of it is moved.
    pub(super) fn repack(&mut self, owner: Ino, segment: SegmentId) {
        if self.config.compaction.enabled {
            self.compaction.sparse.entry(owner).or_default().insert(segment);
            self.compact(Work::Repack(owner));
        }
    }

    fn compact(&mut self, work: Work) {
        if let Work::Fold(place, reason) = work
            && reason != Reason::Asked
            && self.compaction.given_up.contains(&place)
        {
            return;
        }
        if let Work::Fold(_, Reason::Due | Reason::Carried) = work
            && self.compaction.running.as_ref().is_some_and(|(running, _)| *running == work)
        {
            // What was written meanwhile is not worth another fold at once.
            return;
        }
        if !self.config.read_only && self.compaction.queued.insert(work) {
            self.compaction.queue.push_back(work);
            self.compaction.count_fold(work);
            self.compact_next();
        }
    }

    fn compact_next(&mut self) {
        let Phase::Mounted(mounted) = &self.phase else { return };
        if self.compaction.stopped || self.compaction.running.is_some() {
            return;
        }
        let volume = mounted.volume.clone();
        let Some(work) = self.compaction.queue.pop_front() else { return };
        self.compaction.queued.remove(&work);
        self.compaction.pace = (self.now.mono, self.served);
        let cx = match work {
            Work::Fold(place, reason) => self.fold(volume, place, reason),
            Work::Erases(ino, last) => self.sweep_erases(volume, ino, last),
            Work::Repack(ino) => self.find_sparse(volume, ino, 0),
            Work::Everything => self.look_at_logs(volume),
        };
        self.compaction.running = Some((work, cx));
    }

    /// What was under way is over: the next one, and whoever waited for it.
    pub(super) fn compaction_turn_over(&mut self) {
        let over = self.compaction.running.take();
        if let Some((Work::Fold(place, _), _)) = over {
            self.compaction.fold_is_over(place.ino);
            if core::mem::take(&mut self.compaction.folded_one) && !self.compaction.stopped {
                self.fold_worst(place.ino);
            }
        }
        let askers = core::mem::take(&mut self.compaction.askers);
        for (id, ino, before) in askers {
            if self.compaction.concerns(ino) && !self.compaction.stopped {
                self.compaction.askers.push((id, ino, before));
            } else {
                let done = self.compaction.counters.since(&before);
                self.answer(id, Answer::Compacted(done));
            }
        }
        self.compact_next();
        if let Some((Work::Fold(place, _), _)) = over {
            self.advance_flush(place.ino);
        }
        if self.compaction.running.is_none() {
            for (id, control) in core::mem::take(&mut self.compaction.idlers) {
                self.control(id, control);
            }
        }
    }

    fn sweep_erases(&mut self, volume: Arc<Volume>, ino: Ino, last: bool) -> Cx {
        self.spawn_compaction(move |cx| async move {
            let (result, point) = transact!(&cx, &volume, |txn| erases(txn, ino).await);
            done(move |client| {
                client.note(point);
                match result {
                    Ok(Erased { cleared: 1.., .. }) if last => probe!("erases-cleared"),
                    Ok(Erased { regions, .. }) if !last && !regions.is_empty() => {
                        for region in regions {
                            client.compact(Work::Fold(Place { ino, region }, Reason::Erased));
                        }
                        client.compact(Work::Erases(ino, true));
                    }
                    Ok(_) => {}
                    Err(error) => client.compaction_failed(ino, error),
                }
                client.compaction_turn_over();
            })
        })
    }

    fn find_sparse(&mut self, volume: Arc<Volume>, ino: Ino, from: u64) -> Cx {
        let sparse = self.compaction.sparse.get(&ino);
        let wanted: Vec<SegmentId> = sparse.into_iter().flatten().copied().collect();
        self.spawn_compaction(move |cx| async move {
            let (result, _) = transact!(&cx, &volume, |txn| naming(txn, ino, from, &wanted).await);
            done(move |client| {
                match result {
                    Ok((regions, next)) => {
                        for region in regions {
                            probe!("sparse-repacked");
                            client.compact(Work::Fold(Place { ino, region }, Reason::Due));
                        }
                        if let Some(next) = next.filter(|_| !client.compaction.stopped) {
                            let cx = client.find_sparse(volume, ino, next);
                            client.compaction.running = Some((Work::Repack(ino), cx));
                            return;
                        }
                    }
                    Err(error) => client.compaction_failed(ino, error),
                }
                client.compaction.sparse.remove(&ino);
                client.compaction_turn_over();
            })
        })
    }

    /// Every log of the volume is looked at, and folded where that gives space back.
    pub(super) fn fold_everything(&mut self) {
        self.compaction.next_log = None;
        self.compact(Work::Everything);
    }

    fn look_at_logs(&mut self, volume: Arc<Volume>) -> Cx {
        let from = self.compaction.next_log.take();
        self.spawn_compaction(move |cx| async move {
            let (found, _) = transact!(&cx, &volume, |txn| logs(txn, from.clone()).await);
            done(move |client| {
                match found {
                    Ok(LogPage { packs, next }) => client.fold_logs(&packs, next),
                    Err(error) => client.compaction_failed(Ino(0), error),
                }
                client.compaction_turn_over();
            })
        })
    }

    fn fold_logs(&mut self, packs: &[LoggedPack], next: Option<Key>) {
        let mut inos: Vec<Ino> = packs.iter().map(|pack| pack.ino).collect();
        let mut places: Vec<Place> =
            packs.iter().map(|pack| Place { ino: pack.ino, region: pack.region }).collect();
        inos.dedup();
        places.dedup();
        for place in places {
            self.compact(Work::Fold(place, Reason::Erased));
        }
        for ino in inos {
            self.compact(Work::Erases(ino, true));
        }
        if next.is_some() && !self.compaction.stopped {
            self.compaction.next_log = next;
            self.compact(Work::Everything);
        }
    }

    /// What compaction leaves undone is wanted space, and nothing else.
    fn compaction_failed(&mut self, ino: Ino, error: FsError) {
        if !matches!(error, FsError::Interrupted | FsError::Stale | FsError::NoSpace) {
            let text = format!("compacting inode {ino} failed: {error:?}; it stays as it is");
            self.report(Severity::Warning, text);
        }
    }

    /// The regions of a file, or one of them, are folded whatever it costs.
    pub(super) fn compact_file(&mut self, volume: Arc<Volume>, id: RequestId, ino: Ino) {
        let before = self.compaction.counters;
        self.spawn(id, move |cx| async move {
            let found = match cx.settle(ino).await {
                Ok(_) => transact!(&cx, &volume, |txn| logged(txn, ino).await).0,
                Err(error) => Err(error),
            };
            done(move |client| client.compact_regions(id, ino, found, before))
        });
    }

    fn compact_regions(
        &mut self,
        id: RequestId,
        ino: Ino,
        found: FsResult<Vec<u64>>,
        before: Compacted,
    ) {
        let regions = match found {
            Ok(_) if self.config.read_only => {
                return self.answer(id, Answer::Failed(FsError::ReadOnly));
            }
            Ok(regions) => regions,
            Err(error) => return self.answer(id, Answer::Failed(error)),
        };
        for region in regions {
            self.compact(Work::Fold(Place { ino, region }, Reason::Asked));
        }
        self.compact(Work::Erases(ino, true));
        self.compaction.askers.push((id, ino, before));
        if self.compaction.running.is_none() {
            self.compaction_turn_over();
        }
    }

    /// Whether a request must wait for what is under way; then it is asked again. `last`: nothing more
    /// is begun, and what is under way ends early.
    pub(super) fn waits_for_compaction(
        &mut self,
        last: bool,
        id: RequestId,
        control: &Control,
    ) -> bool {
        if last && !core::mem::replace(&mut self.compaction.stopped, true) {
            self.compaction.queue.clear();
            self.compaction.queued.clear();
            self.compaction.folding.clear();
        }
        if let Some((_, cx)) = &self.compaction.running {
            if last {
                cx.interrupt();
            }
            self.compaction.idlers.push((id, control.clone()));
            return true;
        }
        false
    }

    /// A fold has done a step: it goes on at once, or when the callers had their share.
    pub(super) fn pace(&mut self, task: TaskId) {
        let (began, served) = self.compaction.pace;
        let now = self.now.mono;
        let idle = self.served == served || self.compaction.is_behind();
        let pause = if idle || self.compaction.stopped {
            Duration::ZERO
        } else {
            now.since(began).min(PAUSE_MAX)
        };
        self.compaction.pace = (now.after(pause), self.served);
        if pause.is_zero() {
            self.tasks.tell(task, Told::Done);
        } else {
            self.sleep_task(task, pause);
        }
    }

    /// Most segments that a fold can write.
    fn fold_segments(&self) -> u64 {
        REGION_SIZE / u64::from(self.config.compaction.segment_max) + 1
    }
}
