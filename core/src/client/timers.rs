//! When the machine wants to be woken.

use super::tasks::{TaskId, done};
use super::{Client, Phase};
use crate::error::FsResult;
use crate::meta::txn::sync;
use crate::port::Severity;
use crate::port::meta_kv::{KvReply, KvRequest, Version};
use crate::task::Told;
use crate::time::Instant;
use alloc::collections::BTreeMap;
use alloc::format;
use core::time::Duration;

/// Why to wake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timer {
    /// When a task has slept enough.
    Wake(TaskId),
    /// When buffered writes may have reached their age.
    FlushAged,
    /// When requests that wait for room look again.
    Room,
    /// When commits that nobody asked to be durable have reached their age.
    SyncAged,
    /// When files may have been quiet for long enough to be tidied up.
    Tidy,
    /// When a reclaim that met a full store is tried again.
    Reclaim,
}

/// All timers, earliest first.
#[derive(Debug, Default)]
pub(super) struct Timers {
    queue: BTreeMap<(Instant, u64), Timer>,
    armed: u64,
    flush: bool,
    sync: bool,
    room: bool,
    tidy: bool,
}

impl Timers {
    pub(super) fn next(&self) -> Option<Instant> {
        self.queue.first_key_value().map(|((at, _), _)| *at)
    }

    /// Takes the next timer that has come.
    pub(super) fn expired(&mut self, now: Instant) -> Option<Timer> {
        let first = self.queue.first_entry()?;
        if first.key().0 > now {
            return None;
        }
        let timer = first.remove();
        match timer {
            Timer::FlushAged => self.flush = false,
            Timer::SyncAged => self.sync = false,
            Timer::Room => self.room = false,
            Timer::Tidy => self.tidy = false,
            Timer::Wake(_) | Timer::Reclaim => {}
        }
        Some(timer)
    }

    fn arm(&mut self, at: Instant, timer: Timer) {
        self.armed += 1;
        self.queue.insert((at, self.armed), timer);
    }
}

impl Client {
    pub(super) fn timer(&mut self, timer: Timer) {
        match timer {
            Timer::Wake(task) => self.tasks.tell(task, Told::Done),
            Timer::FlushAged => self.flush_aged(),
            Timer::Room => self.unpark(),
            Timer::SyncAged => self.sync_aged(),
            Timer::Tidy => self.tidy_up(),
            Timer::Reclaim => self.reclaim_again(),
        }
    }

    pub(super) fn sleep_task(&mut self, task: TaskId, delay: Duration) {
        self.timers.arm(self.now.mono.after(delay), Timer::Wake(task));
    }

    /// Makes sure that buffered writes are looked at once they have their age.
    pub(super) fn arm_flush(&mut self) {
        if !core::mem::replace(&mut self.timers.flush, true) {
            self.timers.arm(self.now.mono.after(self.config.flush_after), Timer::FlushAged);
        }
    }

    /// Makes sure that requests that wait for room look again. However many there are: each of them arms
    /// it anew when it finds none.
    pub(super) fn arm_room(&mut self, after: Duration) {
        if !core::mem::replace(&mut self.timers.room, true) {
            self.timers.arm(self.now.mono.after(after), Timer::Room);
        }
    }

    /// Makes sure that commits become durable once they have their age.
    pub(super) fn arm_sync(&mut self) {
        if !core::mem::replace(&mut self.timers.sync, true) {
            self.timers.arm(self.now.mono.after(self.config.sync_after), Timer::SyncAged);
        }
    }

    /// Makes sure that untidy files are looked at again.
    pub(super) fn arm_tidy(&mut self, after: Duration) {
        if !core::mem::replace(&mut self.timers.tidy, true) {
            self.timers.arm(self.now.mono.after(after), Timer::Tidy);
        }
    }

    /// A stalled reclaim goes on later; it is stalled once at a time.
    pub(super) fn arm_reclaim(&mut self, after: Duration) {
        self.timers.arm(self.now.mono.after(after), Timer::Reclaim);
    }

    /// Makes commits durable, unless that is under way.
    pub(super) fn sync_aged(&mut self) {
        if self.log.durable >= self.log.committed || self.log.syncing {
            return;
        }
        self.log.syncing = true;
        self.spawn_own(|cx| async move {
            let synced = sync(&cx).await;
            done(move |client| {
                client.log.syncing = false;
                // A failure was reported; whoever calls fsync meanwhile is told.
                let result = client.synced(synced);
                if result.is_err() || client.log.durable < client.log.committed {
                    client.arm_sync();
                }
            })
        });
    }

    /// Everything committed so far is to become durable; the task is told when it is.
    pub(super) fn sync_for(&mut self, task: TaskId) {
        if self.log.durable >= self.log.committed {
            let durable = self.log.durable;
            return self.tasks.tell(task, Told::Kv(Ok(KvReply::Durable(durable))));
        }
        let up_to = self.log.committed;
        self.ask_kv(task, KvRequest::Sync { up_to });
    }

    /// Takes note of a finished sync, and of what may be deleted now.
    pub(super) fn synced(&mut self, synced: FsResult<Version>) -> FsResult<()> {
        self.note_durable(synced)?;
        if !matches!(self.phase, Phase::Stopped) {
            self.delete_dead_segments();
        }
        Ok(())
    }

    /// Takes note of a finished sync.
    pub(super) fn note_durable(&mut self, synced: FsResult<Version>) -> FsResult<()> {
        match synced {
            Ok(version) => {
                self.log.durable = self.log.durable.max(version);
                Ok(())
            }
            Err(error) => {
                let text = format!("commits could not be made durable: {error:?}");
                self.report(Severity::Error, text);
                Err(error)
            }
        }
    }
}
