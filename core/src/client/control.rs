//! Requests of the host: format, mount, sync, unmount, inspection, checking.

use super::files::settle_all;
use super::reclaim::{delete_segments, left_behind};
use super::tasks::done;
use super::{Client, Mounted, Phase};

use crate::check::{check, repair};
use crate::data::page_io::{failure, page};
use crate::error::{FsError, FsResult};
use crate::id::{Ino, RequestId};
use crate::meta::name::Names;
use crate::meta::ops::format::format;
use crate::meta::ops::inspect::inspect;
use crate::meta::ops::volume::{self, Found};
use crate::meta::record::{FORMAT, Pair, VolumeRecord};
use crate::meta::txn::{Volume, sync, transact};
use crate::port::control::{
    Answer, CheckOptions, Control, FormatOptions, Limit, Status, VolumeInfo,
};
use crate::port::kernel::Reply;
use crate::port::meta_kv::KvTraits;
use crate::port::page_store::{PageReply, PageRequest, Space};
use crate::port::{Effect, Point};
use crate::task::Cx;
use alloc::boxed::Box;
use alloc::sync::Arc;

impl Client {
    pub(super) fn control(&mut self, id: RequestId, control: Control) {
        let mounted = match &self.phase {
            Phase::Mounted(mounted) => Some(mounted.clone()),
            _ => None,
        };
        match (control, mounted) {
            (Control::Format(options), None) => self.format(id, options),
            (Control::Mount, None) => self.mount(id),
            (Control::Sync, Some(_)) => self.sync(id, Answer::Synced),
            (Control::Unmount, Some(_)) => {
                if !self.waits_for_compaction(true, id, &Control::Unmount) {
                    self.sync(id, Answer::Unmounted);
                }
            }
            (Control::Gc { now }, Some(mounted)) => self.gc(mounted, id, now),
            (Control::Scrub { rate }, Some(mounted)) => self.scrub(mounted, id, rate),
            (Control::Compact { ino }, Some(mounted)) => {
                self.compact_file(mounted.volume, id, ino);
            }
            (Control::Unmount, None) => self.answer(id, Answer::Unmounted),
            (Control::Info { ino }, Some(mounted)) => self.info(mounted, id, ino),
            (Control::Status, Some(mounted)) => self.status(mounted, id),
            (Control::Check(options), Some(mounted)) => self.check(mounted, id, options),
            (Control::Repair(options), Some(mounted)) if self.config.read_only => {
                self.repair(mounted, id, options)
            }
            (_, None) => self.answer(id, Answer::NotFormatted),
            (_, Some(_)) => self.answer(id, Answer::Failed(FsError::Invalid)),
        }
    }

    pub(super) fn answer(&mut self, request: RequestId, answer: Answer) {
        self.tasks.answered(request);
        self.effects.push_back(Effect::Answer { request, answer: Box::new(answer) });
    }

    /// A volume as it is before its record was read. What it does may be repeated, so it needs no
    /// session ledger.
    fn unknown_volume(&self) -> Arc<Volume> {
        Arc::new(Volume {
            names: Names::new([0; 16], 60),
            incarnation: 0,
            kv: KvTraits { may_be_unknown: false, ..self.config.kv },
            limit: Limit::default(),
            wants_fence: self.config.kv.may_be_unknown,
            session: self.config.session,
        })
    }

    fn volume(&self, record: &VolumeRecord, limit: Limit) -> Mounted {
        let volume = Volume {
            names: Names::new(record.hash_key, record.hash_bits),
            incarnation: record.incarnation,
            kv: self.config.kv,
            limit,
            wants_fence: false,
            session: self.config.session,
        };
        Mounted { volume: Arc::new(volume), info: info_of(record) }
    }

    fn format(&mut self, id: RequestId, options: FormatOptions) {
        let (volume, now) = (self.unknown_volume(), self.now.wall);
        self.spawn(id, move |cx| async move {
            let (result, point) = transact!(&cx, &volume, |txn| format(txn, &options, now).await);
            done(move |client| {
                client.note(point);
                let answer = match result {
                    Ok((Found::Volume(record), true)) => Answer::Formatted(info_of(&record)),
                    Ok((Found::Volume(record), false)) => {
                        Answer::AlreadyFormatted(info_of(&record))
                    }
                    Ok((Found::Future(found), _)) => Answer::FutureFormat { found, known: FORMAT },
                    Ok((Found::Nothing, _)) => Answer::NotFormatted,
                    Err(error) => Answer::Failed(error),
                };
                client.answer_durably(id, answer);
            })
        });
    }

    /// Answers once everything committed so far is durable.
    fn answer_durably(&mut self, id: RequestId, answer: Answer) {
        self.spawn(id, move |cx| async move {
            let synced = sync(&cx).await;
            done(move |client| match client.synced(synced) {
                Ok(()) => client.answer(id, answer),
                Err(error) => client.answer(id, Answer::Failed(error)),
            })
        });
    }

    fn mount(&mut self, id: RequestId) {
        let unknown = self.unknown_volume();
        let read_only = self.config.read_only;
        self.spawn(id, move |cx| async move {
            let (found, point) = transact!(&cx, &unknown, |txn| {
                let found = volume::find(txn).await?;
                let counted = match &found {
                    Found::Volume(_) => (volume::usage(txn).await?, volume::limit(txn).await?),
                    _ => Default::default(),
                };
                if txn.wants_fence() && matches!(found, Found::Volume(_)) {
                    volume::register(txn);
                }
                Ok((found, counted))
            });
            let left = match (&found, read_only) {
                (Ok((Found::Volume(_), _)), false) if !planted!(ForgottenGarbage) => {
                    left_behind(&cx, &unknown).await
                }
                _ => Ok(Default::default()),
            };
            done(move |client| {
                client.note(point);
                let answer = match (found, left) {
                    (Ok((Found::Volume(record), (used, limit))), Ok(left)) => {
                        client.used = used;
                        client.limit = client.config.limit.or(limit);
                        let mounted = client.volume(&record, client.limit);
                        let answer = Answer::Mounted(mounted.info);
                        client.phase = Phase::Mounted(mounted);
                        client.adopt_garbage(left);
                        answer
                    }
                    (Ok((Found::Nothing, _)), _) => Answer::NotFormatted,
                    (Ok((Found::Future(found), _)), _) => {
                        Answer::FutureFormat { found, known: FORMAT }
                    }
                    (Err(error), _) | (_, Err(error)) => Answer::Failed(error),
                };
                client.answer(id, answer);
                client.unpark();
            })
        });
    }

    /// Everything buffered is committed, and everything committed durable.
    fn sync(&mut self, id: RequestId, answer: Answer) {
        let last = matches!(answer, Answer::Unmounted);
        self.spawn(id, move |cx| async move {
            let settled = settle_all(&cx).await;
            let synced = sync(&cx).await;
            done(move |client| {
                if last {
                    client.phase = Phase::Stopped;
                }
                let result = settled.and(client.synced(synced));
                let answer = result.map_or_else(Answer::Failed, |()| answer);
                if last { client.stop(id, answer) } else { client.answer(id, answer) }
            })
        });
    }

    /// Serves nothing any more; answers when nothing is left to do.
    fn stop(&mut self, id: RequestId, answer: Answer) {
        self.refuse_parked();
        let segments = self.take_dead_segments();
        self.spawn(id, move |cx| async move {
            let deleted = delete_segments(&cx, segments).await;
            done(move |client| {
                client.deleted(deleted);
                client.answer(id, answer);
            })
        });
    }

    /// Nothing that waits will be served any more.
    fn refuse_parked(&mut self) {
        self.unpark();
        let inodes: alloc::vec::Vec<Ino> = self.inodes.iter().map(|(ino, _)| ino).collect();
        for ino in inodes {
            self.unpark_inode(ino);
        }
    }

    fn info(&mut self, mounted: Mounted, id: RequestId, ino: Ino) {
        self.spawn(id, move |cx| async move {
            let (result, _) = transact!(&cx, &mounted.volume, |txn| inspect(txn, ino).await);
            done(move |client| {
                let answer = match result {
                    Ok(mut info) => {
                        if let Some(file) = client.inodes.file(ino) {
                            info.dirty = file.buffer.bytes();
                            info.size = info.size.max(file.buffer.end());
                        }
                        Answer::Info(info)
                    }
                    Err(error) => Answer::Failed(error),
                };
                client.answer(id, answer);
            })
        });
    }

    fn status(&mut self, mounted: Mounted, id: RequestId) {
        self.spawn(id, move |cx| async move {
            let used = used(&cx, &mounted.volume).await;
            let info = mounted.info;
            done(move |client| {
                let answer = match used {
                    Ok((used, space)) => {
                        Answer::Status(Box::new(client.status_of(info, used, space)))
                    }
                    Err(error) => Answer::Failed(error),
                };
                client.answer(id, answer);
            })
        });
    }

    fn status_of(&self, volume: VolumeInfo, used: Pair, space: Space) -> Status {
        Status {
            volume: Some(volume),
            inodes: used.hi.max(0) as u64,
            bytes: used.lo.max(0) as u64,
            limit: self.limit,
            space,
            inodes_known: self.inodes.len() as u64,
            handles: self.inodes.handles() as u64,
            dirty: self.dirty,
            dirty_max: self.config.dirty_max,
            requests: self.tasks.requests() as u64,
            unlinked: self.waiting_for_reclaim(),
            served: self.served,
            conflicts: self.tasks.conflicts,
            compacting: self.compaction.pending() as u64,
            compacted: self.compaction.counters,
            scrub: self.scrubbing.clone(),
            check: self.check_progress,
        }
    }

    /// FUSE_STATFS.
    pub(super) fn statfs(&mut self, id: RequestId) {
        self.spawn(id, move |cx| async move {
            let space = space(&cx).await;
            done(move |client| match space {
                Ok(space) => client.reply(id, Reply::StatFs(client.statfs_of(space)), Point::Step),
                Err(error) => client.fail(id, error),
            })
        });
    }

    /// Checks once everything buffered so far is committed.
    pub(super) fn check(&mut self, mounted: Mounted, id: RequestId, options: CheckOptions) {
        if options.settled && self.reclaim_is_busy() {
            return self.ask_after_reclaim(id, Control::Check(options));
        }
        if options.settled && self.waits_for_compaction(false, id, &Control::Check(options)) {
            return;
        }
        self.spawn(id, move |cx| async move {
            let result = match settle_all(&cx).await {
                Ok(()) => check(&cx, &mounted.volume, options.data).await,
                Err(error) => Err(error),
            };
            done(move |client| {
                client.check_progress = None;
                client.answer(id, result.map_or_else(Answer::Failed, Answer::Checked));
            })
        });
    }

    fn repair(&mut self, mounted: Mounted, id: RequestId, options: CheckOptions) {
        let now = self.now.wall;
        self.spawn(id, move |cx| async move {
            let result = repair(&cx, &mounted.volume, options.data, now).await;
            done(move |client| {
                client.check_progress = None;
                match result {
                    Ok((report, point)) => {
                        client.note(point);
                        client.answer_durably(id, Answer::Repaired(report));
                    }
                    Err(error) => client.answer(id, Answer::Failed(error)),
                }
            })
        });
    }

    /// FUSE_INTERRUPT. A request that took effect goes on; one that waits gives up.
    pub(super) fn interrupt(&mut self, target: RequestId) {
        self.tasks.interrupt(target);
        if self.tasks.leave(target) {
            return self.fail(target, FsError::Interrupted);
        }
        if let Some(at) = self.parked.iter().position(|(id, _)| *id == target) {
            self.parked.remove(at);
            return self.fail(target, FsError::Interrupted);
        }
        let holder =
            self.inodes.iter().find(|(_, inode)| inode.parked.iter().any(|(id, _)| *id == target));
        if let Some((ino, _)) = holder
            && let Some(inode) = self.inodes.get_mut(ino)
        {
            inode.parked.retain(|(id, _)| *id != target);
            self.fail(target, FsError::Interrupted);
        }
    }
}

fn info_of(record: &VolumeRecord) -> VolumeInfo {
    VolumeInfo { volume: record.volume, format: record.format, created: record.created }
}

/// Inodes and bytes in use, and what the page store has room for.
async fn used(cx: &Cx, volume: &Arc<Volume>) -> FsResult<(Pair, Space)> {
    let (used, _) = transact!(cx, volume, |txn| volume::usage(txn).await);
    Ok((used?, space(cx).await?))
}

/// What the page store has room for.
async fn space(cx: &Cx) -> FsResult<Space> {
    match page(cx, PageRequest::Space).await {
        Ok(PageReply::Space(space)) => Ok(space),
        Ok(_) => Err(FsError::Damaged),
        Err(error) => Err(failure(cx, error)),
    }
}
