//! The embedded metadata store: `vellum_core::local::kv` over redb.
//!
//! Reads and commits are memory-speed and never wait for the medium, except that a commit waits for
//! a flush when the memory bound is reached. [`EmbeddedKv::sync`] is group commit: whoever comes first
//! writes the log for everybody who waits. A thread in the background gives layers to the engine.
//!
//! Tests: `tests/` of this crate (conformance, crashes), `core/src/local/kv/tests.rs`.

mod engine;
mod group;
mod sync;
#[cfg(test)]
mod tests;

use crate::disk::DiskMedium;
use engine::{RedbEngine, RedbSnapshot};
use group::Group;
use std::path::Path;
use std::sync::Arc;
use vellum_core::local::kv::{Engine, EngineError, Store, StoreLimits, log, log::ReplayError};
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
    group: Group<RedbEngine, DiskMedium>,
}

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
        let store = Store::new(snapshot, &start, limits);
        let group = Group::start(engine, logs, store)
            .map_err(|error| EngineOpenError::thread(dir, error))?;
        Ok(EmbeddedKv { group })
    }

    /// The mark that the barrier gave to the last durable batch.
    pub fn open_mark(&self) -> Result<Option<bytes::Bytes>, KvError> {
        Ok(self.group.engine().mark()?)
    }

    /// From now on every flush makes this durable first.
    pub fn set_barrier(&self, barrier: Arc<dyn Barrier>) {
        self.group.set_barrier(barrier);
    }

    /// Performs a round of reads.
    pub fn read(&self, round: &ReadRound) -> Result<KvReply, KvError> {
        self.group.read(round)
    }

    /// Applies a write set. Not durable before a [`EmbeddedKv::sync`].
    pub fn commit(&self, request: CommitRequest) -> Result<Commit, KvError> {
        self.group.commit(request)
    }

    /// Makes every commit up to a version durable, and answers up to where everything is.
    /// A version that was not handed out yet counts as the newest one.
    pub fn sync(&self, up_to: Version) -> Result<Version, KvError> {
        self.group.sync(up_to)
    }

    /// The newest commit's version.
    pub fn last(&self) -> Version {
        self.group.last()
    }

    /// Makes everything durable and stops the background thread. Later calls still work.
    pub fn close(&self) -> Result<Version, KvError> {
        self.group.close()
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

fn log_error(error: MediumError) -> EngineError {
    match error {
        MediumError::NoSpace => EngineError::NoSpace,
        MediumError::Io => EngineError::Io(rustix::io::Errno::IO.raw_os_error()),
    }
}
