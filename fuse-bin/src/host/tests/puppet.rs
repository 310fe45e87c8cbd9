//! A machine that does what its strings say, and stores that take their time.

use super::Board;
use crate::host::sync::thread;
use crate::host::{Machine, MetaStore, PageStore};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use vellum_core::error::FsError;
use vellum_core::id::{EffectId, Ino, RequestId, SegmentId, SessionId};
use vellum_core::port::control::Control;
use vellum_core::port::kernel::{Notification, Operation, Reply, Request};
use vellum_core::port::meta_kv::{KvError, KvReply, KvRequest, Version};
use vellum_core::port::page_store::{PageError, PageReply, PageRequest};
use vellum_core::port::{Completion, Effect, Point};
use vellum_core::time::{Instant, Now};

/// How long a request takes that waits for its time.
const PATIENCE: Duration = Duration::from_micros(300);

/// Each operation stands for a way of being answered.
#[derive(Default)]
pub(super) struct Puppet {
    effects: VecDeque<Effect>,
    /// Requests that wait for a store, by the effect.
    stored: BTreeMap<EffectId, RequestId>,
    /// Requests that wait for their time.
    timed: Vec<(Instant, RequestId)>,
    last: u64,
    now: Instant,
}

impl Puppet {
    fn reply(&mut self, request: RequestId, reply: Reply) {
        self.effects.push_back(Effect::Reply { request, reply, point: Point::Step });
    }

    fn ask(&mut self, request: RequestId, effect: impl FnOnce(EffectId) -> Effect) {
        self.last += 1;
        let id = EffectId(self.last);
        self.stored.insert(id, request);
        self.effects.push_back(effect(id));
    }

    fn give_up(&mut self, target: RequestId) {
        let before = self.stored.len() + self.timed.len();
        self.stored.retain(|_, request| *request != target);
        self.timed.retain(|(_, request)| *request != target);
        if self.stored.len() + self.timed.len() < before {
            self.reply(target, Reply::Error(FsError::Interrupted));
        }
    }

    fn sample(&mut self, now: Now) {
        assert!(now.mono >= self.now, "time runs backwards");
        self.now = now.mono;
    }
}

impl Machine for Puppet {
    fn handle_request(&mut self, now: Now, id: RequestId, request: Request) {
        self.sample(now);
        match request.op {
            Operation::GetAttr { ino, .. } => {
                self.last += 1;
                let notice = EffectId(self.last);
                let notification = attributes(ino);
                self.effects.push_back(Effect::Notify { id: notice, notification });
                self.reply(id, Reply::Done);
            }
            Operation::StatFs { ino } => {
                self.ask(id, |id| Effect::Notify { id, notification: attributes(ino) })
            }
            Operation::OpenDir { ino } => self.ask(id, |id| Effect::Notify {
                id,
                notification: Notification::Inode { ino, offset: 0, len: 0 },
            }),
            Operation::Flush { .. } => self.timed.push((now.mono.after(PATIENCE), id)),
            Operation::Fsync { .. } => {
                self.ask(id, |id| Effect::Kv { id, request: KvRequest::Sync { up_to: Version(1) } })
            }
            Operation::Read { offset, .. } => self.ask(id, |id| Effect::Page {
                id,
                request: PageRequest::Read {
                    segment: SegmentId { session: SessionId(1), sequence: 1 },
                    offset: offset as u32,
                    len: 1,
                },
            }),
            Operation::Interrupt { target } => self.give_up(target),
            other => unreachable!("nobody asks for {other:?}"),
        }
    }

    fn handle_control(&mut self, _: Now, _: RequestId, _: Control) {
        unreachable!("nobody asks");
    }

    fn handle_completion(&mut self, now: Now, id: EffectId, _: Completion) {
        self.sample(now);
        assert!(id.0 <= self.last, "a completion of nothing");
        if let Some(request) = self.stored.remove(&id) {
            self.reply(request, Reply::Done);
        }
    }

    fn handle_timeout(&mut self, now: Now) {
        self.sample(now);
        let due = self.timed.extract_if(.., |(at, _)| *at <= now.mono);
        let due: Vec<RequestId> = due.map(|(_, request)| request).collect();
        due.into_iter().for_each(|request| self.reply(request, Reply::Done));
    }

    fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.timed.iter().map(|(at, _)| *at).min()
    }
}

fn attributes(ino: Ino) -> Notification {
    Notification::Inode { ino, offset: -1, len: 0 }
}

/// Both stores.
pub(super) struct SlowStore {
    pub(super) board: Arc<Board>,
    /// The request that must be answered before a sync ends.
    pub(super) sync_after: Option<u64>,
}

impl MetaStore for SlowStore {
    fn perform(&self, _: KvRequest) -> Result<KvReply, KvError> {
        match self.sync_after {
            Some(id) => self.board.wait_until(|seen| seen.answers.contains_key(&id)),
            None => thread::yield_now(),
        }
        Ok(KvReply::Durable(Version(1)))
    }
}

impl PageStore for SlowStore {
    fn perform(&self, _: PageRequest) -> Result<PageReply, PageError> {
        thread::yield_now();
        Ok(PageReply::Data(Bytes::from_static(b"x")))
    }

    /// What lies at an even offset is in memory.
    fn try_perform(&self, request: &PageRequest) -> Option<Result<PageReply, PageError>> {
        let PageRequest::Read { offset, .. } = request else { return None };
        (offset % 2 == 0).then(|| Ok(PageReply::Data(Bytes::from_static(b"x"))))
    }
}
