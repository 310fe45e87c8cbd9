//! Tasks: operations in flight, and which effect each one waits for.

use super::Client;
use crate::id::{EffectId, RequestId};
use crate::port::meta_kv::{KvError, KvReply, KvRequest};
use crate::port::page_store::{PageError, PageReply};
use crate::port::{Completion, Effect};
use crate::task::{Ask, Cx, Told};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};

/// What a task leaves behind: a change of the machine.
pub(super) type Done = Box<dyn FnOnce(&mut Client) + Send>;

/// Wraps the end of a task.
pub(super) fn done(change: impl FnOnce(&mut Client) + Send + 'static) -> Done {
    Box::new(change)
}

/// A task's place in the slab.
pub(super) type TaskId = u32;

struct Task {
    future: Pin<Box<dyn Future<Output = Done> + Send>>,
    cx: Cx,
    request: Option<RequestId>,
    /// It has no effect of its own, so its caller may be answered before it ends.
    waits_only: bool,
    /// Page replies still missing, and those that came.
    pages: (usize, Vec<Option<Result<PageReply, PageError>>>),
}

/// Who waits for an effect.
enum Waiter {
    Kv(TaskId),
    Page(TaskId, usize),
    Notice(TaskId),
}

/// All tasks of a machine.
pub(super) struct Tasks {
    slab: Vec<Option<Task>>,
    free: Vec<TaskId>,
    ready: VecDeque<TaskId>,
    waiting: hashbrown::HashMap<EffectId, Waiter, foldhash::fast::FixedState>,
    requests: BTreeMap<RequestId, TaskId>,
    seed: u64,
    tasks: u64,
    effects: u64,
    /// Attempts that had to be repeated.
    pub(super) conflicts: u64,
}

impl Tasks {
    pub(super) fn new(seed: u64) -> Tasks {
        Tasks {
            slab: Vec::new(),
            free: Vec::new(),
            ready: VecDeque::new(),
            waiting: hashbrown::HashMap::with_hasher(foldhash::fast::FixedState::default()),
            requests: BTreeMap::new(),
            seed,
            tasks: 0,
            effects: 0,
            conflicts: 0,
        }
    }

    /// Starts a task; `make` gets its context.
    pub(super) fn spawn<F>(
        &mut self,
        request: Option<RequestId>,
        waits_only: bool,
        make: impl FnOnce(Cx) -> F,
    ) where
        F: Future<Output = Done> + Send + 'static,
    {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slab.push(None);
            TaskId::try_from(self.slab.len() - 1).expect("fewer tasks than requests")
        });
        self.tasks += 1;
        let cx = Cx::new(slot, self.tasks, self.seed);
        let future = Box::pin(make(cx.clone()));
        self.slab[slot as usize] =
            Some(Task { future, cx, request, waits_only, pages: (0, Vec::new()) });
        if let Some(request) = request {
            self.requests.insert(request, slot);
        }
        self.ready.push_back(slot);
    }

    /// How many requests are being worked on.
    pub(super) fn requests(&self) -> usize {
        self.requests.len()
    }

    pub(super) fn answered(&mut self, request: RequestId) {
        self.requests.remove(&request);
    }

    /// The caller of a request gave up.
    pub(super) fn interrupt(&mut self, request: RequestId) {
        if let Some(task) =
            self.requests.get(&request).and_then(|t| self.slab[*t as usize].as_ref())
        {
            task.cx.interrupt();
        }
    }

    /// Takes a task from a caller that gave up, if it only waits. It goes on without one.
    pub(super) fn leave(&mut self, request: RequestId) -> bool {
        let id = self.requests.get(&request).copied();
        let task = id.and_then(|id| self.slab[id as usize].as_mut()).filter(|t| t.waits_only);
        let Some(task) = task else { return false };
        task.request = None;
        task.cx.leave();
        self.requests.remove(&request);
        true
    }

    /// An effect was performed: its task may go on.
    pub(super) fn complete(&mut self, id: EffectId, completion: Completion) {
        match (self.waiting.remove(&id), completion) {
            (Some(Waiter::Kv(task)), Completion::Kv(result)) => self.tell_kv(task, result),
            (Some(Waiter::Page(task, n)), Completion::Page(result)) => {
                self.tell_page(task, n, result)
            }
            (Some(Waiter::Notice(task)), Completion::Notified) => self.tell(task, Told::Done),
            (None, _) => {}
            (Some(_), _) => panic!("an effect was completed as something else"),
        }
    }

    fn tell_kv(&mut self, id: TaskId, result: Result<KvReply, KvError>) {
        self.tell(id, Told::Kv(result));
    }

    fn tell_page(&mut self, id: TaskId, n: usize, result: Result<PageReply, PageError>) {
        let task = self.slab[id as usize].as_mut().expect("a waiting task lives");
        task.pages.1[n] = Some(result);
        task.pages.0 -= 1;
        if task.pages.0 == 0 {
            let replies = core::mem::take(&mut task.pages.1);
            self.tell(id, Told::Pages(replies.into_iter().map(|r| r.expect("all came")).collect()));
        }
    }

    /// Answers a task and lets it run.
    pub(super) fn tell(&mut self, id: TaskId, told: Told) {
        if let Some(task) = &self.slab[id as usize] {
            task.cx.tell(told);
            self.ready.push_back(id);
        }
    }

    fn effect_id(&mut self) -> EffectId {
        self.effects += 1;
        EffectId(self.effects)
    }
}

/// What polling a task brought.
enum Polled {
    Done(Done),
    Asks(Ask),
}

impl Client {
    /// Starts a task on behalf of a request.
    pub(super) fn spawn<F>(&mut self, request: RequestId, make: impl FnOnce(Cx) -> F)
    where
        F: Future<Output = Done> + Send + 'static,
    {
        self.tasks.spawn(Some(request), false, make);
    }

    /// Starts a task on behalf of a request that only waits. Before it answers or takes anything that
    /// was meant for the caller, it looks whether that has [`Cx::left`].
    pub(super) fn spawn_waiting<F>(&mut self, request: RequestId, make: impl FnOnce(Cx) -> F)
    where
        F: Future<Output = Done> + Send + 'static,
    {
        self.tasks.spawn(Some(request), true, make);
    }

    /// Starts a task of the machine's own.
    pub(super) fn spawn_own<F>(&mut self, make: impl FnOnce(Cx) -> F)
    where
        F: Future<Output = Done> + Send + 'static,
    {
        self.tasks.spawn(None, false, make);
    }

    /// Runs tasks until each one waits.
    pub(super) fn run(&mut self) {
        while let Some(id) = self.tasks.ready.pop_front() {
            match self.poll_task(id) {
                Some(Polled::Done(change)) => change(self),
                Some(Polled::Asks(ask)) => self.ask(id, ask),
                None => {}
            }
        }
    }

    fn poll_task(&mut self, id: TaskId) -> Option<Polled> {
        let task = self.tasks.slab[id as usize].as_mut()?;
        match task.future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(change) => {
                let task = self.tasks.slab[id as usize].take()?;
                self.tasks.free.push(id);
                self.tasks.conflicts += task.cx.take_conflicts();
                let charged = task.cx.take_charged();
                self.used.hi += charged.hi;
                self.used.lo += charged.lo;
                if let Some(request) = task.request {
                    self.tasks.requests.remove(&request);
                }
                Some(Polled::Done(change))
            }
            Poll::Pending => {
                Some(Polled::Asks(task.cx.take_ask().expect("a task waits for what it asked")))
            }
        }
    }

    fn ask(&mut self, task: TaskId, ask: Ask) {
        match ask {
            Ask::Kv(request) => self.ask_kv(task, request),
            Ask::Pages(requests) => {
                let count = requests.len();
                assert!(count > 0, "nothing asked of the page store");
                if let Some(task) = &mut self.tasks.slab[task as usize] {
                    task.pages = (count, (0..count).map(|_| None).collect());
                }
                for (n, request) in requests.into_iter().enumerate() {
                    let id = self.tasks.effect_id();
                    self.tasks.waiting.insert(id, Waiter::Page(task, n));
                    self.effects.push_back(Effect::Page { id, request });
                }
            }
            Ask::Notify(notification) => {
                let id = self.tasks.effect_id();
                self.tasks.waiting.insert(id, Waiter::Notice(task));
                self.effects.push_back(Effect::Notify { id, notification });
            }
            Ask::Sleep(delay) => self.sleep_task(task, delay),
            Ask::Settle(ino) => self.settle(task, ino),
            Ask::SettleAll => self.settle_all(task),
            Ask::Sync => self.sync_for(task),
            Ask::Pace => self.pace(task),
            Ask::Scrubbed(report) => {
                self.scrubbing = Some(report);
                self.tasks.tell(task, Told::Done);
            }
            Ask::Progress(progress) => {
                self.check_progress = Some(progress);
                self.tasks.tell(task, Told::Done);
            }
            Ask::Visible { ino, generation, range } => {
                let bytes = self.known_visible(ino, generation, range);
                self.tasks.tell(task, Told::Visible(bytes));
            }
        }
    }

    /// Asks the metadata store on behalf of a task.
    pub(super) fn ask_kv(&mut self, task: TaskId, request: KvRequest) {
        let id = self.tasks.effect_id();
        self.tasks.waiting.insert(id, Waiter::Kv(task));
        self.effects.push_back(Effect::Kv { id, request });
    }
}
