//! Write-back: sealed sub-buffers are appended as segments, then committed in their order.
//!
//! Appends of one inode overlap; commits do not: one in flight, oldest first, so that a file is
//! always a prefix of its writes. What fails stays in memory and is tried again.

use super::capacity::grown;
use super::file::{Missing, Stage, Step, Written};
use super::reclaim::delete_segments;
use super::tasks::{TaskId, done};
use super::{Client, Mounted, Phase};
use crate::data::extent_map::Source;
use crate::data::page_io::{page, pages};
use crate::data::parts::{Part, split};
use crate::data::write_buffer::{LogExtentPlace, SubBufferId};
use crate::data::write_log::LogExtent;
use crate::error::{FsError, FsResult};
use crate::id::{Ino, SegmentId};
use crate::limits::{DISK_RESERVE_MAX, LOG_BYTES_MAX};
use crate::meta::ops::flush::{Flush, Flushed, flush};
use crate::meta::txn::{Volume, transact};
use crate::port::meta_kv::Commit;
use crate::port::page_store::{PageReply, PageRequest, SegmentDraft};
use crate::port::{Point, Severity};
use crate::task::{Cx, Told};
use alloc::format;
use alloc::vec::Vec;
use bytes::Bytes;

impl Client {
    /// Answers a task when everything buffered of an inode so far is committed.
    pub(super) fn settle(&mut self, task: TaskId, ino: Ino) {
        match self.start_flush(ino) {
            None => self.tasks.tell(task, Told::Settled(Ok(false))),
            Some(last) => {
                if let Some(file) = self.inodes.file_mut(ino) {
                    file.settling.push((last, task));
                }
                self.advance_flush(ino);
            }
        }
    }

    /// Sends everything buffered on its way and tells which inodes that concerns.
    pub(super) fn settle_all(&mut self, task: TaskId) {
        let dirty = self.start_all_flushes();
        self.tasks.tell(task, Told::Dirty(dirty));
    }

    pub(super) fn start_all_flushes(&mut self) -> Vec<Ino> {
        let dirty = self.inodes.dirty_files().map(|(ino, _)| ino);
        let dirty: Vec<Ino> = dirty.collect();
        for ino in &dirty {
            self.start_flush(*ino);
            self.advance_flush(*ino);
        }
        dirty
    }

    /// Buffered writes that have their age go on their way.
    pub(super) fn flush_aged(&mut self) {
        let now = self.now.mono;
        let age = self.config.flush_after;
        let old =
            |oldest: Option<crate::time::Instant>| oldest.is_some_and(|t| now.since(t) >= age);
        let aged =
            self.inodes.dirty_files().filter(|(_, f)| old(f.buffer.oldest())).map(|(ino, _)| ino);
        for ino in aged.collect::<Vec<_>>() {
            self.start_flush(ino);
            self.advance_flush(ino);
        }
        if self.dirty > 0 {
            self.arm_flush();
        }
    }

    /// Seals what is open. Returns the newest sealed sub-buffer, if there is any.
    fn start_flush(&mut self, ino: Ino) -> Option<SubBufferId> {
        let file = self.inodes.file_mut(ino)?;
        file.buffer.seal();
        file.buffer.sealed().last().map(|sub| sub.id())
    }

    /// Takes every sealed sub-buffer of an inode as far as it can go now.
    pub(super) fn advance_flush(&mut self, ino: Ino) {
        let Phase::Mounted(mounted) = &self.phase else { return };
        let volume = mounted.volume.clone();
        let waits = self.compaction.is_folding(ino);
        let policy = self.config.compaction;
        let unnamed = self.compaction.unnamed(ino);
        let Some(file) = self.inodes.file_mut(ino) else { return };
        let excess = file.excess(&policy, unnamed);
        if waits && excess.is_some_and(|excess| excess > policy.garbage_slack) {
            probe!("flush-waits-for-fold");
            return self.commit_oldest(ino);
        }
        let newest = file.pipeline.back().map(|stage| stage.id);
        let fresh: Vec<_> = file
            .buffer
            .sealed()
            .filter(|sub| newest.is_none_or(|newest| sub.id() > newest))
            .map(|sub| (sub.id(), sub.payload_len()))
            .collect();
        for (id, len) in fresh {
            self.begin_stage(&volume, ino, id, len);
        }
        self.commit_oldest(ino);
    }

    fn begin_stage(&mut self, volume: &Volume, ino: Ino, id: SubBufferId, len: u32) {
        let carried = u64::from(len) <= LOG_BYTES_MAX.min(u64::from(volume.kv.value_bytes_max));
        let (session, min) = (self.config.session, self.config.compaction.segment_min);
        let Some(file) = self.inodes.file_mut(ino) else { return };
        if !file.pipeline.is_empty() {
            probe!("flushes-overlap");
        }
        if carried {
            return file.pipeline.push_back(Stage {
                id,
                segments: Vec::new(),
                step: Step::Appended,
            });
        }
        let Some(sub) = file.buffer.sub_buffer(id) else { return };
        let (payload, places) = sub.layout();
        let parts = split(&payload, &places, u64::from(min));
        if parts.len() > 1 {
            probe!("flush-split");
        }
        let ids = (self.segments + 1..).map(|sequence| SegmentId { session, sequence });
        let drafts = parts.into_iter().zip(ids);
        let drafts: Vec<SegmentDraft> = drafts
            .map(|(Part { payload, len, .. }, id)| SegmentDraft { id, payload, len })
            .collect();
        let segments: Vec<_> = drafts.iter().map(|draft| (draft.id, draft.len)).collect();
        let early = planted!(CommitBeforeData);
        let step = if early { Step::Appended } else { Step::Appending };
        file.pipeline.push_back(Stage { id, segments: segments.clone(), step });
        self.segments += segments.len() as u64;
        self.spawn_own(move |cx| async move {
            let result = match leaves_reserve(&cx, len).await {
                Ok(()) => append_all(&cx, drafts).await,
                Err(error) => Err(error),
            };
            done(move |client| client.appended(ino, segments, result))
        });
    }

    fn appended(&mut self, ino: Ino, segments: Vec<(SegmentId, u32)>, result: FsResult<()>) {
        let file = self.inodes.file_mut(ino);
        let mut stages = file.into_iter().flat_map(|file| &mut file.pipeline);
        let waits =
            |stage: &&mut Stage| stage.step == Step::Appending && stage.segments == segments;
        match (stages.find(waits), result) {
            (Some(stage), Ok(())) => {
                stage.step = Step::Appended;
                self.advance_flush(ino);
            }
            (Some(stage), Err(error)) => {
                let id = stage.id;
                self.append_failed(ino, id, error);
            }
            // It was given up meanwhile.
            (None, Ok(())) if !planted!(CommitBeforeData) => self.delete_appended(segments),
            (None, _) => {}
        }
    }

    fn commit_oldest(&mut self, ino: Ino) {
        let Phase::Mounted(mounted) = &self.phase else { return };
        let mounted = mounted.clone();
        let min = u64::from(self.config.compaction.segment_min);
        let Some(file) = self.inodes.file_mut(ino) else { return };
        let Some(oldest) = file.pipeline.front() else { return };
        if oldest.step != Step::Appended {
            return;
        }
        let (id, segments) = (oldest.id, oldest.segments.clone());
        let covered = match file.measure(id) {
            Ok(covered) => covered,
            Err(missing) => return self.load_missing(mounted, ino, missing),
        };
        let Some(oldest) = file.pipeline.front_mut() else { return };
        oldest.step = Step::Committing;
        let Some(sub) = file.buffer.sub_buffer(id) else { return };
        let (payload, places) = sub.layout();
        let flushing = Flush {
            ino,
            extents: extents(&payload, &places, &segments, min),
            covered,
            segments,
            end: sub.end(),
            mtime: sub.mtime(),
        };
        self.spawn_own(move |cx| async move {
            let volume = &mounted.volume;
            let (result, point) = transact!(&cx, volume, |txn| flush(txn, &flushing).await);
            let written = Written { end: flushing.end, mtime: flushing.mtime };
            done(move |client| {
                client.note(point);
                match (result, point) {
                    (Ok(flushed), Point::Commit(commit)) => {
                        client.flushed(ino, id, commit, flushed, written);
                    }
                    // The inode is gone, and what is buffered for it.
                    (Ok(_), _) => {
                        client.drop_buffered(ino);
                        client.unpark_inode(ino);
                        client.let_go(ino);
                    }
                    (Err(error), _) => client.commit_failed(ino, error),
                }
            })
        });
    }

    /// Loads what a flush must know of the committed bytes that it covers; then it goes on.
    fn load_missing(&mut self, mounted: Mounted, ino: Ino, missing: Missing) {
        match missing {
            Missing::Region(region, true) => self.load_region(mounted, ino, region),
            Missing::Attrs => self.begin_load(mounted, ino),
            Missing::Region(_, false) | Missing::Regions => {}
        }
    }

    /// What a flush must know could not be loaded: it cannot go on either.
    pub(super) fn measure_failed(&mut self, ino: Ino, error: FsError) {
        let front = self.inodes.file(ino).and_then(|f| f.pipeline.front());
        let waits = front.is_some_and(|stage| stage.step == Step::Appended);
        match error {
            _ if !waits => {}
            // The inode is gone.
            FsError::Stale => self.drop_buffered(ino),
            error => self.write_back_failed(ino, error),
        }
    }

    /// Nobody can read these bytes any more: they go, with what was appended of them.
    pub(super) fn drop_buffered(&mut self, ino: Ino) {
        let Some(file) = self.inodes.file_mut(ino) else { return };
        let freed = file.buffer.bytes();
        file.buffer.discard_all();
        let appended = file.drop_stages(0);
        let settling = core::mem::take(&mut file.settling);
        self.dirty -= freed;
        self.unreserve(ino, 0);
        self.inodes.mark_dirty(ino, false);
        for (_, task) in settling {
            self.tasks.tell(task, Told::Settled(Ok(true)));
        }
        self.delete_appended(appended);
        self.unpark();
    }

    fn flushed(
        &mut self,
        ino: Ino,
        id: SubBufferId,
        commit: Commit,
        flushed: Flushed,
        written: Written,
    ) {
        let Some(inode) = self.inodes.get_mut(ino) else { return };
        let Some(file) = inode.file.as_deref_mut() else { return };
        let before = file.buffer.bytes();
        let grown = grown(&flushed);
        file.buffer.complete(id);
        let stage = file.pipeline.pop_front();
        assert!(stage.is_some_and(|s| s.id == id), "sub-buffers commit in their order");
        if !planted!(StaleAttributes) {
            inode.changed = commit.version;
        }
        file.apply(commit, flushed, written);
        let freed = before - file.buffer.bytes();
        let empty = file.buffer.is_empty();
        let (ready, waiting) =
            core::mem::take(&mut file.settling).into_iter().partition(|w| empty || w.0 <= id);
        file.settling = waiting;
        let ready: Vec<(SubBufferId, TaskId)> = ready;
        self.dirty -= freed;
        self.unreserve(ino, grown);
        self.inodes.mark_dirty(ino, !empty);
        for (_, task) in ready {
            self.tasks.tell(task, Told::Settled(Ok(true)));
        }
        self.flush_trouble = None;
        self.fold_what_is_due(ino);
        self.advance_flush(ino);
        self.unpark_inode(ino);
        self.unpark();
        self.let_go(ino);
    }

    /// An append failed: this sub-buffer and the later ones start over at the next attempt.
    fn append_failed(&mut self, ino: Ino, id: SubBufferId, error: FsError) {
        let Some(file) = self.inodes.file_mut(ino) else { return };
        let first = file.pipeline.partition_point(|stage| stage.id < id);
        let appended = file.drop_stages(first);
        self.delete_appended(appended);
        self.write_back_failed(ino, error);
    }

    fn delete_appended(&mut self, segments: Vec<(SegmentId, u32)>) {
        if segments.is_empty() || planted!(KeptAppend) {
            return;
        }
        probe!("append-in-vain");
        self.delete(segments.into_iter().map(|(segment, _)| segment).collect());
    }

    /// A commit failed: its segment is in place, only the transaction is tried again.
    fn commit_failed(&mut self, ino: Ino, error: FsError) {
        if let Some(stage) = self.inodes.file_mut(ino).and_then(|f| f.pipeline.front_mut()) {
            stage.step = Step::Appended;
        }
        self.write_back_failed(ino, error);
    }

    /// The bytes stay in memory; whoever waits learns of it.
    fn write_back_failed(&mut self, ino: Ino, error: FsError) {
        self.report(
            Severity::Error,
            format!("writing back inode {ino} failed: {error:?}; its bytes stay buffered and are tried again"),
        );
        self.flush_trouble = Some(error);
        let Some(file) = self.inodes.file_mut(ino) else { return };
        file.errors.count += 1;
        file.errors.last = Some(error);
        for (_, task) in core::mem::take(&mut file.settling) {
            self.tasks.tell(task, Told::Settled(Err(error)));
        }
        self.arm_flush();
        self.unpark_inode(ino);
        self.unpark();
        self.let_go(ino);
    }
}

/// Whether a segment leaves the last of the disk to metadata. Without it a full disk would stay full: what
/// is removed gives its space back once the removal is durable, and that takes space.
pub(super) async fn leaves_reserve(cx: &Cx, len: u32) -> FsResult<()> {
    match page(cx, PageRequest::Space).await {
        Ok(PageReply::Space(space)) => {
            let reserve = DISK_RESERVE_MAX.min(space.total / 8);
            let left = space.free.checked_sub(u64::from(len));
            if left.is_some_and(|left| left >= reserve) { Ok(()) } else { Err(FsError::NoSpace) }
        }
        Ok(_) => Err(FsError::Damaged),
        Err(error) => Err(error.into()),
    }
}

/// Appends segments at once. When one of them fails, nothing will name the others.
async fn append_all(cx: &Cx, drafts: Vec<SegmentDraft>) -> FsResult<()> {
    let ids: Vec<SegmentId> = drafts.iter().map(|draft| draft.id).collect();
    let replies = pages(cx, drafts.into_iter().map(PageRequest::Append).collect()).await;
    let Some(error) = replies.iter().find_map(|reply| reply.as_ref().err().copied()) else {
        return Ok(());
    };
    let appended = ids.into_iter().zip(&replies).filter(|(_, reply)| reply.is_ok());
    // What cannot be deleted now is found by the next mount.
    let _ = delete_segments(cx, appended.map(|(id, _)| id).collect()).await;
    Err(error.into())
}

/// The extents as the log names them: in segments that hold them in parts of at least `min` bytes, or
/// carrying their bytes.
fn extents(
    payload: &[Bytes],
    places: &[LogExtentPlace],
    segments: &[(SegmentId, u32)],
    min: u64,
) -> Vec<LogExtent> {
    let mut carried = Carried(payload);
    if segments.is_empty() {
        let carrying = places.iter().map(|LogExtentPlace { offset, len, .. }| LogExtent {
            offset: *offset,
            len: *len,
            source: Source::Bytes(carried.take(*len as usize)),
        });
        return carrying.collect();
    }
    let parts = split(payload, places, min).into_iter().zip(segments);
    let named = parts.flat_map(|(part, (segment, _))| {
        part.places.into_iter().map(|place| LogExtent {
            offset: place.offset,
            len: place.len,
            source: Source::Segment { segment: *segment, offset: place.payload_offset },
        })
    });
    named.collect()
}

/// Takes runs from a payload; a run of several pieces is joined (at most [`LOG_BYTES_MAX`] bytes).
struct Carried<'a>(&'a [Bytes]);

impl Carried<'_> {
    fn take(&mut self, len: usize) -> Bytes {
        let mut joined = Vec::new();
        while let Some((first, rest)) = self.0.split_first() {
            self.0 = rest;
            if joined.is_empty() && first.len() == len {
                return first.clone();
            }
            joined.extend_from_slice(first);
            if joined.len() >= len {
                break;
            }
        }
        Bytes::from(joined)
    }
}
