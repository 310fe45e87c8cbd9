//! The loop that drives one machine with stores, shared by many threads.
//!
//! Owns: the mutex around the [`Client`], the waiters for its answers, the threads that perform effects.
//! Never does: hold the mutex during I/O, payload work or an answer.
//!
//! A thread that brings an input runs to completion: it locks, hands the input in, takes every effect
//! out, unlocks, performs what it can, and goes on until nothing is left for it to do. What may block
//! goes to the pool, or stays with a reader that may block; whoever finishes a job hands the completion in
//! and runs to completion in turn. So one reader of the kernel's queue never sleeps in a sync or a read.
//!
//! Invariants: a waiter is enlisted under the same lock under which its request was handed in, so no
//! answer can overtake it; an effect is performed exactly once, by the thread that drained it or by the
//! pool; time never runs backwards within the machine, since it is sampled under the lock.
//!
//! Tests: `tests.rs` here, also under shuttle (`ci/shuttle`); the mounted tests in `fuse-bin/tests`.

mod clock;
mod local;
mod machine;
mod notices;
mod pool;
mod spare;
mod stores;
mod sync;
#[cfg(test)]
mod tests;
mod timer;
mod waiter;

pub use clock::now;
pub use machine::Machine;
pub use notices::Notify;
pub use stores::{MetaStore, PageStore, Stores};
pub use waiter::Respond;

use crossbeam_channel::{Receiver, bounded};
use hashbrown::HashMap;
use pool::{Job, Pool};
use smallvec::SmallVec;
use spare::Spare;
use std::sync::Arc;
use sync::{Mutex, Plant, planted};
use timer::Timer;
use vellum_core::client::Client;
use vellum_core::id::{EffectId, RequestId};
use vellum_core::port::control::{Answer, Control};
use vellum_core::port::kernel::{Caller, Notification, Operation, Reply, Request};
use vellum_core::port::meta_kv::{KvError, KvReply, KvRequest};
use vellum_core::port::page_store::{PageError, PageReply, PageRequest};
use vellum_core::port::{Completion, Effect, Report, Severity};
use vellum_core::time::Now;
use waiter::{Label, Waiter};

/// A machine and everything that drives it. `R` answers one request of the kernel.
pub struct Host<R, M = Client> {
    inner: Mutex<Inner<R, M>>,
    stores: Stores,
    pool: Pool,
    timer: Timer,
    notices: notices::Notices,
    spare: Spare,
}

/// Whose thread performs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Thread {
    /// One that reads the kernel's queue.
    Reader,
    /// Any other.
    Other,
}

/// What the mutex protects.
struct Inner<R, M> {
    machine: M,
    waiting: HashMap<RequestId, Waiter<R>>,
    /// The id of the host's last request of its own. Odd: the kernel's are even.
    last_own: u64,
}

/// What a thread took out of the machine and performs after unlocking.
enum Work<R> {
    Reply(Waiter<R>, Reply),
    Answer(Waiter<R>, Box<Answer>),
    Kv(EffectId, KvRequest),
    Page(EffectId, PageRequest),
    Notify(EffectId, Notification),
    Report(Report),
}

/// What a thread does itself.
enum Own {
    Kv(KvRequest),
    Page(PageRequest),
}

/// Bytes that a reader moves itself.
const SHORT: usize = 128 << 10;

type Works<R> = SmallVec<[Work<R>; 4]>;
type Done = SmallVec<[(EffectId, Completion); 4]>;

impl<R: Respond, M: Machine> Host<R, M> {
    /// A host with its threads running; nothing is asked of the machine yet.
    ///
    /// # Errors
    /// When the system refuses a thread or a timer.
    pub fn start(machine: M, stores: Stores) -> std::io::Result<Arc<Host<R, M>>> {
        let (pool, pool_ends) = Pool::new();
        let (timer, timer_end) = Timer::new()?;
        let inner = Inner { machine, waiting: HashMap::new(), last_own: 1 };
        let host = Arc::new(Host {
            inner: Mutex::new(inner),
            stores,
            pool,
            timer,
            notices: notices::Notices::new(),
            spare: Spare::new(),
        });
        pool_ends.spawn(&host)?;
        timer_end.spawn(&host)?;
        Ok(host)
    }

    /// So many threads bring requests of the kernel.
    pub fn readers(&self, count: usize) {
        self.spare.readers(count);
    }

    /// Hands a request of the kernel in and performs what follows from it on this thread. Its id is even,
    /// and of no other request under way.
    pub fn request(&self, id: RequestId, request: Request, respond: R) {
        let label = Label::of(&request.op);
        self.run(Thread::Reader, |inner, now| {
            inner.machine.handle_request(now, id, request);
            Some((id, Waiter::kernel(respond, label, now)))
        });
    }

    /// Asks the machine on behalf of a request of the kernel, which is answered [`Reply::Done`] or with the
    /// error.
    pub fn ask_for(&self, id: RequestId, control: Control, respond: R) {
        let label = Label::control();
        self.run(Thread::Reader, |inner, now| {
            inner.machine.handle_control(now, id, control);
            Some((id, Waiter::kernel(respond, label, now)))
        });
    }

    /// What `look` finds at a request that waits for its answer. `None` when nobody waits: it was answered,
    /// or has not been handed in yet.
    pub fn waiting<T>(&self, id: RequestId, look: impl FnOnce(&R) -> T) -> Option<T> {
        match self.inner.lock().waiting.get(&id) {
            Some(Waiter::Kernel { respond, .. }) => Some(look(respond)),
            _ => None,
        }
    }

    /// Tells the machine that the caller of a request gives up, if an answer is still waited for.
    pub fn interrupt(&self, target: RequestId) {
        self.run(Thread::Other, |inner, now| {
            if inner.waiting.contains_key(&target) {
                inner.tell(now, Operation::Interrupt { target });
            }
            None
        });
    }

    /// Hands in a request that expects no answer (forget).
    pub fn tell(&self, op: Operation) {
        self.run(Thread::Other, |inner, now| {
            inner.tell(now, op);
            None
        });
    }

    /// Asks the machine on behalf of the host; the answer arrives on the channel.
    pub fn ask(&self, control: Control) -> Receiver<Answer> {
        let (send, answer) = bounded(1);
        self.run(Thread::Other, |inner, now| {
            let id = inner.own_request();
            inner.machine.handle_control(now, id, control);
            Some((id, Waiter::Control(send)))
        });
        answer
    }

    /// Starts the threads that pass notifications on to the kernel.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn notify_through(self: &Arc<Self>, kernel: impl Notify) -> std::io::Result<()> {
        self.notices.spawn(self, kernel)
    }

    /// Ends every thread of the host and waits for them. Jobs under way are finished, queued ones dropped;
    /// queued notifications are completed.
    pub fn stop(&self) {
        self.timer.stop();
        self.notices.stop();
        self.pool.stop();
    }

    /// Hands an input in and performs what follows from it, until nothing is left that this thread can do.
    fn run(
        &self,
        thread: Thread,
        feed: impl FnOnce(&mut Inner<R, M>, Now) -> Option<(RequestId, Waiter<R>)>,
    ) {
        // One buffer for all rounds: what lies in it is large, and would be copied wherever it is passed.
        let mut work = Works::new();
        self.turn(&mut work, feed);
        while !work.is_empty() {
            let (done, undo) = self.perform(thread, &mut work);
            if done.is_empty() && undo.is_empty() {
                return;
            }
            self.turn(&mut work, |inner, now| {
                for (id, completion) in done {
                    inner.machine.handle_completion(now, id, completion);
                }
                for op in undo {
                    inner.tell(now, op);
                }
                None
            });
        }
    }

    /// One visit to the machine: feeds it and takes everything out.
    fn turn(
        &self,
        work: &mut Works<R>,
        feed: impl FnOnce(&mut Inner<R, M>, Now) -> Option<(RequestId, Waiter<R>)>,
    ) {
        let mut inner = self.inner.lock();
        let mut own = feed(&mut inner, clock::now());
        if planted(Plant::LateWaiter) {
            drop(inner);
            inner = self.inner.lock();
        }
        inner.drain(&mut own, work);
        if let Some((id, waiter)) = own {
            inner.waiting.insert(id, waiter);
        }
        let sooner = self.timer.aim(inner.machine.poll_timeout());
        drop(inner);
        if sooner {
            self.timer.program();
        }
    }

    /// Performs one batch: first what others wait for, then what this thread does itself.
    fn perform(&self, thread: Thread, work: &mut Works<R>) -> (Done, Vec<Operation>) {
        let (mut done, mut undo) = (Done::new(), Vec::new());
        let mut own: SmallVec<[(EffectId, Own); 4]> = SmallVec::new();
        for item in work.drain(..) {
            match item {
                Work::Reply(waiter, reply) => undo.extend(waiter.reply(reply)),
                Work::Answer(waiter, answer) => undo.extend(waiter.answer(*answer)),
                Work::Notify(id, notification) => {
                    if !self.notices.push(id, notification) {
                        done.push((id, Completion::Notified));
                    }
                }
                Work::Report(report) => log(&report),
                Work::Kv(id, request) => own.push((id, Own::Kv(request))),
                Work::Page(id, request) => own.push((id, Own::Page(request))),
            }
        }
        let mut left = own.len();
        for (id, request) in own {
            left -= 1;
            // What blocks first would keep what comes after waiting.
            let may_block = thread == Thread::Reader && left == 0;
            let completion = match request {
                Own::Kv(request) => self.kv(id, request, may_block).map(Completion::Kv),
                Own::Page(request) => self.page(id, request, may_block).map(Completion::Page),
            };
            done.extend(completion.map(|completion| (id, completion)));
        }
        (done, undo)
    }

    /// Performs a request to the metadata store, or passes it on when it might block.
    fn kv(
        &self,
        id: EffectId,
        request: KvRequest,
        may_block: bool,
    ) -> Option<Result<KvReply, KvError>> {
        let blocks = matches!(request, KvRequest::Sync { .. });
        let permit = if blocks && may_block { self.spare.take() } else { None };
        if blocks && permit.is_none() {
            self.pool.sync(id, request);
            return None;
        }
        Some(self.stores.kv.perform(request))
    }

    /// Performs a request to the page store, or passes it on when it might block.
    fn page(
        &self,
        id: EffectId,
        request: PageRequest,
        may_block: bool,
    ) -> Option<Result<PageReply, PageError>> {
        if self.stores.may_be_instant(&request)
            && let Some(result) = self.stores.pages.try_perform(&request)
        {
            return Some(result);
        }
        let permit = if may_block && is_short(&request) { self.spare.take() } else { None };
        if permit.is_none() {
            self.pool.submit(Job::Page(id, request));
            return None;
        }
        Some(self.stores.pages.perform(request))
    }

    /// A job of the pool is finished.
    fn complete(&self, id: EffectId, completion: Completion) {
        self.run(Thread::Other, |inner, now| {
            inner.machine.handle_completion(now, id, completion);
            None
        });
    }

    /// The time the machine named has come.
    fn expire(&self) {
        self.run(Thread::Other, |inner, now| {
            inner.machine.handle_timeout(now);
            None
        });
    }
}

impl<R: Respond, M: Machine> Inner<R, M> {
    fn own_request(&mut self) -> RequestId {
        self.last_own += 2;
        RequestId(self.last_own)
    }

    /// Hands in an operation whose answer, if it has one, nobody waits for.
    fn tell(&mut self, now: Now, op: Operation) {
        let id = self.own_request();
        self.machine.handle_request(now, id, Request { caller: Caller::default(), op });
    }

    /// Takes every effect out and pairs answers with their waiters.
    fn drain(&mut self, own: &mut Option<(RequestId, Waiter<R>)>, work: &mut Works<R>) {
        while let Some(effect) = self.machine.poll_effect() {
            match effect {
                Effect::Reply { request, reply, point: _ } => {
                    if let Some(waiter) = self.waiter(own, request) {
                        work.push(Work::Reply(waiter, reply));
                    }
                }
                Effect::Answer { request, answer } => {
                    if let Some(waiter) = self.waiter(own, request) {
                        work.push(Work::Answer(waiter, answer));
                    }
                }
                Effect::Kv { id, request } => work.push(Work::Kv(id, request)),
                Effect::Page { id, request } => work.push(Work::Page(id, request)),
                Effect::Notify { id, notification } => work.push(Work::Notify(id, notification)),
                Effect::Report(report) => work.push(Work::Report(report)),
            }
        }
    }

    /// Who waits for `id`: the request just handed in, one enlisted earlier, or nobody.
    fn waiter(
        &mut self,
        own: &mut Option<(RequestId, Waiter<R>)>,
        id: RequestId,
    ) -> Option<Waiter<R>> {
        match own.take() {
            Some((own_id, waiter)) if own_id == id => Some(waiter),
            other => {
                *own = other;
                self.waiting.remove(&id)
            }
        }
    }
}

/// Whether a request keeps the disk busy for a moment only.
fn is_short(request: &PageRequest) -> bool {
    match request {
        PageRequest::Append(draft) => draft.len as usize <= SHORT,
        PageRequest::Read { len, .. } => *len as usize <= SHORT,
        _ => false,
    }
}

fn log(report: &Report) {
    match report.severity {
        Severity::Info => tracing::info!(target: "vellum::machine", "{}", report.text),
        Severity::Warning => tracing::warn!(target: "vellum::machine", "{}", report.text),
        Severity::Error => tracing::error!(target: "vellum::machine", "{}", report.text),
    }
}
