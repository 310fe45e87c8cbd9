//! Commits of many threads over one engine: group commit, and flushes in the background.
//!
//! Invariants: nobody sleeps for something that has happened already: who waits reads the count of what
//! has finished before it asks the store, and every finish raises the count under its lock.
//! Tests: `tests.rs`, also under shuttle (`ci/shuttle`).

use super::sync::{
    Arc, AtomicBool, Condvar, Mutex, MutexGuard, Ordering, Plant, RwLock, planted, thread,
};
use super::{Barrier, log_error};
use vellum_core::local::Shared;
use vellum_core::local::kv::{Admission, Engine, EngineError, Flush, Store, SyncStep, log, read};
use vellum_core::local::medium::Medium;
use vellum_core::port::meta_kv::{Commit, CommitRequest, KvError, KvReply, ReadRound, Version};
use vellum_core::port::page_store::PageError;

/// A store over an engine and a medium for its logs, shared by many threads.
pub(super) struct Group<E: Engine, M: Medium> {
    inner: Arc<Inner<E, M>>,
    flusher: Mutex<Option<thread::JoinHandle<()>>>,
}

struct Inner<E: Engine, M: Medium> {
    store: RwLock<Store<E::Snapshot>>,
    engine: E,
    barrier: RwLock<Option<std::sync::Arc<dyn Barrier>>>,
    logs: M,
    /// The log file that is written to. The store hands out one record at a time.
    log_file: Mutex<Option<(u32, M::File)>>,
    flushes: Mutex<Flushes>,
    /// A flush has finished.
    finished: Condvar,
    /// The background flusher has something to do.
    wake: Condvar,
    flush_wanted: AtomicBool,
}

#[derive(Default)]
struct Flushes {
    /// How many have finished, well or not.
    finished: u64,
    closing: bool,
}

const POISONED: &str = "a thread panicked while it held the store";

impl<E, M> Group<E, M>
where
    E: Engine<Snapshot: Send + Sync + 'static> + Send + Sync + 'static,
    M: Medium<File: Send> + Send + Sync + 'static,
{
    /// Starts the thread in the background.
    pub(super) fn start(
        engine: E,
        logs: M,
        store: Store<E::Snapshot>,
    ) -> std::io::Result<Group<E, M>> {
        let inner = Arc::new(Inner {
            store: RwLock::new(store),
            engine,
            barrier: RwLock::new(None),
            logs,
            log_file: Mutex::new(None),
            flushes: Mutex::new(Flushes::default()),
            finished: Condvar::new(),
            wake: Condvar::new(),
            flush_wanted: AtomicBool::new(false),
        });
        let background = Arc::clone(&inner);
        let flusher = thread::Builder::new()
            .name("vellum-kv-flush".into())
            .spawn(move || background.flush_when_wanted())?;
        Ok(Group { inner, flusher: Mutex::new(Some(flusher)) })
    }

    pub(super) fn engine(&self) -> &E {
        &self.inner.engine
    }

    pub(super) fn set_barrier(&self, barrier: std::sync::Arc<dyn Barrier>) {
        *self.inner.barrier.write().expect(POISONED) = Some(barrier);
    }

    pub(super) fn read(&self, round: &ReadRound) -> Result<KvReply, KvError> {
        let (version, values) = read(&*self.inner, round)?;
        Ok(KvReply::Values { version, values })
    }

    pub(super) fn commit(&self, request: CommitRequest) -> Result<Commit, KvError> {
        loop {
            {
                let mut store = self.inner.store.write().expect(POISONED);
                match store.admission() {
                    Admission::Wait => {}
                    admission => {
                        let committed = store.commit(request);
                        drop(store);
                        // Also when it was refused for want of space: a flush finds out whether there is some.
                        if admission == Admission::FlushWanted {
                            self.inner.want_flush();
                        }
                        return committed;
                    }
                }
            }
            self.inner.make_room()?;
        }
    }

    pub(super) fn sync(&self, up_to: Version) -> Result<Version, KvError> {
        self.inner.sync(up_to)
    }

    pub(super) fn last(&self) -> Version {
        self.inner.with(|store| store.last())
    }

    pub(super) fn close(&self) -> Result<Version, KvError> {
        let durable = self.sync(self.last()).and_then(|durable| {
            // With nothing left in the log the next start is instant.
            self.inner.flush()?;
            Ok(durable)
        });
        if !planted(Plant::UnlockedClose) {
            self.inner.flushes().closing = true;
        }
        self.inner.wake.notify_all();
        if planted(Plant::UnlockedClose) {
            self.inner.flushes().closing = true;
        }
        let flusher = self.flusher.lock().expect(POISONED).take();
        if let Some(flusher) = flusher {
            // A panic of the flusher was reported by its thread; what is durable is known above.
            let _ = flusher.join();
        }
        durable
    }
}

impl<E, M> Shared<Store<E::Snapshot>> for Inner<E, M>
where
    E: Engine<Snapshot: Send + Sync + 'static> + Send + Sync + 'static,
    M: Medium<File: Send> + Send + Sync + 'static,
{
    fn with<R>(&self, look: impl FnOnce(&Store<E::Snapshot>) -> R) -> R {
        look(&self.store.read().expect(POISONED))
    }

    fn with_mut<R>(&self, change: impl FnOnce(&mut Store<E::Snapshot>) -> R) -> R {
        change(&mut self.store.write().expect(POISONED))
    }
}

impl<E, M> Inner<E, M>
where
    E: Engine<Snapshot: Send + Sync + 'static> + Send + Sync + 'static,
    M: Medium<File: Send> + Send + Sync + 'static,
{
    fn sync(&self, up_to: Version) -> Result<Version, KvError> {
        loop {
            let seen = self.flushes().finished;
            match self.with_mut(|store| store.sync_step(up_to))? {
                SyncStep::Durable(version) => return Ok(version),
                SyncStep::Log(flush) => self.write_log(flush)?,
                SyncStep::Wait if planted(Plant::LateCount) => {
                    let late = self.flushes().finished;
                    self.await_another(late);
                }
                SyncStep::Wait => self.await_another(seen),
            }
        }
    }

    /// Page bytes, then the log, then everybody who waits.
    fn write_log(&self, flush: log::LogFlush) -> Result<(), KvError> {
        let mut mark_len = 0;
        let outcome = self.sync_pages().and_then(|mark| {
            mark_len = mark.len();
            let mut file = self.log_file.lock().expect(POISONED);
            log::write(&self.logs, &mut file, &flush, &mark).map_err(log_error)
        });
        let logged = self.with_mut(|store| store.finish_log(flush, mark_len, outcome));
        self.finished();
        logged.map(drop)
    }

    /// Gives everything committed so far to the engine.
    fn flush(&self) -> Result<(), KvError> {
        loop {
            let seen = self.flushes().finished;
            let (flush, rest, failure) = self.with_mut(|store| {
                let flush = store.begin_flush();
                (flush, store.last() > store.flushed(), store.failure())
            });
            match (flush, failure) {
                (_, Some(error)) => return Err(error),
                (Some(flush), None) => self.perform(flush)?,
                (None, None) if rest => self.await_another(seen),
                (None, None) => return Ok(()),
            }
        }
    }

    /// Waits for a flush, or performs it.
    fn make_room(&self) -> Result<(), KvError> {
        let seen = self.flushes().finished;
        let (flush, failure) = self.with_mut(|store| (store.begin_flush(), store.failure()));
        match (flush, failure) {
            (_, Some(error)) => return Err(error),
            (Some(flush), None) => self.perform(flush)?,
            (None, None) => self.await_another(seen),
        }
        Ok(())
    }

    /// Waits until somebody finishes something after the count was `seen`.
    fn await_another(&self, seen: u64) {
        let same = |flushes: &mut Flushes| flushes.finished == seen;
        drop(self.finished.wait_while(self.flushes(), same).expect(POISONED));
    }

    fn finished(&self) {
        self.flushes().finished += 1;
        match planted(Plant::OneWoken) {
            true => self.finished.notify_one(),
            false => self.finished.notify_all(),
        }
    }

    /// Page bytes, then the engine, then everybody who waits; the log of the layer goes.
    fn perform(&self, mut flush: Flush) -> Result<(), KvError> {
        let outcome = self.sync_pages().and_then(|mark| {
            if !mark.is_empty() {
                flush.batch.set_mark(mark);
            }
            self.engine.apply(&flush.batch)
        });
        drop(flush);
        let flushed = self.with_mut(|store| store.finish_flush(outcome));
        self.finished();
        let flushed = flushed?;
        if let Err(error) = log::remove_below(&self.logs, flushed.log_first) {
            tracing::warn!(?error, "an old log stays; the next start removes it");
        }
        Ok(())
    }

    /// Makes page bytes durable; answers with the mark of the page store, empty without one.
    fn sync_pages(&self) -> Result<bytes::Bytes, EngineError> {
        let barrier = self.barrier.read().expect(POISONED).clone();
        let Some(barrier) = barrier else { return Ok(bytes::Bytes::new()) };
        match barrier.sync_before() {
            Ok(mark) => Ok(mark),
            Err(PageError::NoSpace) => Err(EngineError::NoSpace),
            Err(PageError::Corrupt { .. }) => Err(EngineError::Corrupt),
            Err(PageError::Io | PageError::Missing | PageError::Unavailable) => {
                Err(EngineError::Io(rustix::io::Errno::IO.raw_os_error()))
            }
        }
    }

    fn want_flush(&self) {
        if !self.flush_wanted.swap(true, Ordering::AcqRel) {
            drop(self.flushes());
            self.wake.notify_one();
        }
    }

    /// The background thread.
    fn flush_when_wanted(&self) {
        loop {
            let flushes = self.flushes();
            let idle = |flushes: &mut Flushes| {
                !flushes.closing && !self.flush_wanted.swap(false, Ordering::AcqRel)
            };
            let flushes = self.wake.wait_while(flushes, idle).expect(POISONED);
            if flushes.closing {
                return;
            }
            drop(flushes);
            if let Some(flush) = self.with_mut(Store::begin_flush)
                && let Err(error) = self.perform(flush)
            {
                tracing::warn!(?error, "a metadata flush in the background failed");
            }
        }
    }

    fn flushes(&self) -> MutexGuard<'_, Flushes> {
        self.flushes.lock().expect(POISONED)
    }
}
