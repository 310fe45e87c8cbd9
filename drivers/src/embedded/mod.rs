//! The embedded metadata store: `vellum_core::local::kv` over redb.
//!
//! Reads and commits are memory-speed and never wait for the medium, except that a commit waits for
//! a flush when the memory bound is reached. [`EmbeddedKv::sync`] is group commit: whoever comes first
//! writes the log for everybody who waits. A thread in the background gives layers to the engine.
//!
//! Tests: `tests/` of this crate (conformance, crashes), `core/src/local/kv/tests.rs`.

mod engine;

use crate::disk::{DiskFile, DiskMedium};
use engine::{RedbEngine, RedbSnapshot};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, RwLock};
use std::thread::JoinHandle;
use vellum_core::local::Shared;
use vellum_core::local::kv::{
    Admission, Engine, EngineError, Flush, Store, StoreLimits, SyncStep, log, log::ReplayError,
    read,
};
use vellum_core::local::medium::MediumError;
use vellum_core::port::meta_kv::{Commit, CommitRequest, KvError, KvReply, ReadRound, Version};
use vellum_core::port::page_store::PageError;

pub use engine::EngineOpenError;

/// What has to be durable before a batch of metadata may be.
pub trait Barrier: Send + Sync {
    /// Makes everything taken so far durable. The mark is stored with the batch and handed back at the
    /// next start by [`EmbeddedKv::open_mark`].
    fn sync_before(&self) -> Result<bytes::Bytes, PageError>;
}

/// The embedded store. Shared by many threads.
pub struct EmbeddedKv {
    inner: Arc<Inner>,
    flusher: Mutex<Option<JoinHandle<()>>>,
}

struct Inner {
    store: RwLock<Store<RedbSnapshot>>,
    engine: RedbEngine,
    barrier: RwLock<Option<Arc<dyn Barrier>>>,
    logs: DiskMedium,
    /// The log file that is written to. The store hands out one record at a time.
    log_file: Mutex<Option<(u32, DiskFile)>>,
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

impl EmbeddedKv {
    /// Opens the store in a directory, or creates it there.
    pub fn open(dir: &Path) -> Result<EmbeddedKv, EngineOpenError> {
        EmbeddedKv::open_with(dir, StoreLimits::default())
    }

    /// [`EmbeddedKv::open`] with other bounds of memory.
    pub fn open_with(dir: &Path, limits: StoreLimits) -> Result<EmbeddedKv, EngineOpenError> {
        let (engine, durable) = RedbEngine::open(dir)?;
        let fail = |error| EngineOpenError::from_engine(dir, error);
        let log_fail = |error| fail(log_error(error));
        let logs = DiskMedium::open(dir, ".log")
            .map_err(|errno| fail(EngineError::Io(errno.raw_os_error())))?;
        let replayed = log::replay(&logs, durable).map_err(|error| match error {
            ReplayError::Medium(error) => log_fail(error),
            ReplayError::Lost { file, offset } => {
                let cause = format!(
                    "byte {offset} of the log {} is damaged, and commits that were durable follow it",
                    logs.name(file)
                );
                EngineOpenError::Damaged { path: dir.to_path_buf(), cause }
            }
        })?;
        let start = Store::<RedbSnapshot>::start(replayed);
        let snapshot = engine.apply(&start.batch).map_err(fail)?;
        log::remove_below(&logs, u32::MAX).map_err(log_fail)?;
        let inner = Arc::new(Inner {
            store: RwLock::new(Store::new(snapshot, &start, limits)),
            engine,
            barrier: RwLock::new(None),
            logs,
            log_file: Mutex::new(None),
            flushes: Mutex::default(),
            finished: Condvar::new(),
            wake: Condvar::new(),
            flush_wanted: AtomicBool::new(false),
        });
        let background = Arc::clone(&inner);
        let flusher = std::thread::Builder::new()
            .name("vellum-kv-flush".into())
            .spawn(move || background.flush_when_wanted())
            .map_err(|error| EngineOpenError::thread(dir, error))?;
        Ok(EmbeddedKv { inner, flusher: Mutex::new(Some(flusher)) })
    }

    /// The mark that the barrier gave to the last durable batch.
    pub fn open_mark(&self) -> Result<Option<bytes::Bytes>, KvError> {
        Ok(self.inner.engine.mark()?)
    }

    /// From now on every flush makes this durable first.
    pub fn set_barrier(&self, barrier: Arc<dyn Barrier>) {
        *self.inner.barrier.write().expect(POISONED) = Some(barrier);
    }

    /// Performs a round of reads.
    pub fn read(&self, round: &ReadRound) -> Result<KvReply, KvError> {
        let (version, values) = read(&*self.inner, round)?;
        Ok(KvReply::Values { version, values })
    }

    /// Applies a write set. Not durable before a [`EmbeddedKv::sync`].
    pub fn commit(&self, request: CommitRequest) -> Result<Commit, KvError> {
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

    /// Makes every commit up to a version durable, and answers up to where everything is.
    /// A version that was not handed out yet counts as the newest one.
    pub fn sync(&self, up_to: Version) -> Result<Version, KvError> {
        self.inner.sync(up_to)
    }

    /// The newest commit's version.
    pub fn last(&self) -> Version {
        self.inner.with(|store| store.last())
    }

    /// Makes everything durable and stops the background thread. Later calls still work.
    pub fn close(&self) -> Result<Version, KvError> {
        let durable = self.sync(self.last()).and_then(|durable| {
            // With nothing left in the log the next start is instant.
            self.inner.flush()?;
            Ok(durable)
        });
        self.inner.flushes().closing = true;
        self.inner.wake.notify_all();
        if let Some(flusher) = self.flusher.lock().expect(POISONED).take() {
            // A panic of the flusher was reported by its thread; what is durable is known above.
            let _ = flusher.join();
        }
        durable
    }
}

impl Drop for EmbeddedKv {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::error!(
                ?error,
                "the last metadata flush failed; commits since the one before are lost"
            );
        }
    }
}

impl Shared<Store<RedbSnapshot>> for Inner {
    fn with<R>(&self, look: impl FnOnce(&Store<RedbSnapshot>) -> R) -> R {
        look(&self.store.read().expect(POISONED))
    }

    fn with_mut<R>(&self, change: impl FnOnce(&mut Store<RedbSnapshot>) -> R) -> R {
        change(&mut self.store.write().expect(POISONED))
    }
}

impl Inner {
    fn sync(&self, up_to: Version) -> Result<Version, KvError> {
        loop {
            let seen = self.flushes().finished;
            match self.with_mut(|store| store.sync_step(up_to))? {
                SyncStep::Durable(version) => return Ok(version),
                SyncStep::Log(flush) => self.write_log(flush)?,
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
        self.finished.notify_all();
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

fn log_error(error: MediumError) -> EngineError {
    match error {
        MediumError::NoSpace => EngineError::NoSpace,
        MediumError::Io => EngineError::Io(rustix::io::Errno::IO.raw_os_error()),
    }
}
