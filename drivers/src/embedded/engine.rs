//! redb as the ordered engine under the overlay: one table of rows, one of facts about them.

use redb::{
    Database, Durability, ReadOnlyTable, ReadableDatabase, ReadableTable, StorageError,
    TableDefinition,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use vellum_core::local::kv::{Batch, Engine, EngineError, Operand, Snapshot, Visit, Write};
use vellum_core::port::meta_kv::{KeyRange, Value, Version};

const ROWS: TableDefinition<'static, &'static [u8], &'static [u8]> = TableDefinition::new("rows");
const FACTS: TableDefinition<'static, &'static str, &'static [u8]> = TableDefinition::new("facts");
const VERSION: &str = "version";
const MARK: &str = "mark";

/// File of the engine in its directory.
const FILE: &str = "meta.redb";
/// Memory for pages of the engine.
const CACHE_BYTES: usize = 128 << 20;
/// A batch is refused unless so many bytes are free beside what it can take: an engine that runs out
/// of space in the middle of a batch must be reopened.
const RESERVE_BYTES: u64 = 32 << 20;
/// Upper estimate of the bytes of pages copied for one written row.
const ROW_AMPLIFICATION: u64 = 4096;

/// Why the engine could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum EngineOpenError {
    /// The files are damaged.
    #[error(
        "the metadata store {path} is damaged: {cause}. Nothing was changed. Restore the volume from a \
         backup, or copy it away and run `vellum fsck` on the copy"
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What the engine said.
        cause: String,
    },
    /// A call failed.
    #[error("cannot open the metadata store {path}: {cause}. Check the permissions and the disk")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        cause: String,
    },
    /// Not enough space to open it.
    #[error("no space left to open the metadata store {path}. Free at least 32 MiB on its disk")]
    NoSpace {
        /// Which file.
        path: PathBuf,
    },
}

impl EngineOpenError {
    pub(super) fn from_engine(dir: &Path, error: EngineError) -> EngineOpenError {
        let path = dir.join(FILE);
        match error {
            EngineError::NoSpace => EngineOpenError::NoSpace { path },
            EngineError::Corrupt => {
                EngineOpenError::Damaged { path, cause: "its rows cannot be read".into() }
            }
            EngineError::Io(code) => {
                let cause = std::io::Error::from_raw_os_error(code).to_string();
                EngineOpenError::Io { path, cause }
            }
        }
    }

    pub(super) fn thread(dir: &Path, error: std::io::Error) -> EngineOpenError {
        EngineOpenError::Io { path: dir.join(FILE), cause: error.to_string() }
    }

    fn redb(path: PathBuf, error: redb::Error) -> EngineOpenError {
        let cause = error.to_string();
        match error {
            redb::Error::Io(_) | redb::Error::DatabaseAlreadyOpen => {
                EngineOpenError::Io { path, cause }
            }
            _ => EngineOpenError::Damaged { path, cause },
        }
    }
}

/// Runs a call into the engine that may panic over foreign bytes; then the error says what about.
fn quietly<R>(call: impl FnOnce() -> R) -> Result<R, String> {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(call));
    std::panic::set_hook(hook);
    result.map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("it makes no sense").to_owned()
    })
}

/// The engine.
pub(super) struct RedbEngine {
    database: Database,
    dir: PathBuf,
}

impl RedbEngine {
    /// Opens or creates the engine; with it the version of its state.
    pub(super) fn open(dir: &Path) -> Result<(RedbEngine, Version), EngineOpenError> {
        let path = dir.join(FILE);
        let fail = |error: redb::Error| EngineOpenError::redb(path.clone(), error);
        let database = quietly(|| Database::builder().set_cache_size(CACHE_BYTES).create(&path))
            .map_err(|cause| EngineOpenError::Damaged { path: path.clone(), cause })?
            .map_err(|error| fail(error.into()))?;
        let engine = RedbEngine { database, dir: dir.to_path_buf() };
        engine.create_tables().map_err(fail)?;
        let version = match engine.fact(VERSION) {
            Ok(None) => Version(0),
            Ok(Some(bytes)) => match <[u8; 8]>::try_from(&bytes[..]) {
                Ok(bytes) => Version(u64::from_be_bytes(bytes)),
                Err(_) => return Err(EngineOpenError::from_engine(dir, EngineError::Corrupt)),
            },
            Err(error) => return Err(EngineOpenError::from_engine(dir, error)),
        };
        Ok((engine, version))
    }

    /// The mark stored with the last batch that had one.
    pub(super) fn mark(&self) -> Result<Option<Value>, EngineError> {
        self.fact(MARK)
    }

    fn fact(&self, name: &str) -> Result<Option<Value>, EngineError> {
        let read = || -> Result<Option<Value>, redb::Error> {
            let table = self.database.begin_read()?.open_table(FACTS)?;
            Ok(table.get(name)?.map(|value| Value::copy_from_slice(value.value())))
        };
        read().map_err(engine_error)
    }

    fn create_tables(&self) -> Result<(), redb::Error> {
        let transaction = self.database.begin_write()?;
        transaction.open_table(ROWS)?;
        transaction.open_table(FACTS)?;
        transaction.commit()?;
        Ok(())
    }

    fn write(&self, batch: &Batch) -> Result<RedbSnapshot, redb::Error> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        // Batches are rare and large; with it a start after a crash need not check the whole file.
        transaction.set_quick_repair(true);
        {
            let mut rows = transaction.open_table(ROWS)?;
            for range in batch.clears() {
                rows.retain_in(&*range.begin..&*range.end, |_, _| false)?;
            }
            for (key, write) in batch.writes() {
                match write {
                    Write::Set(value) => drop(rows.insert(&**key, &**value)?),
                    Write::Clear => drop(rows.remove(&**key)?),
                    Write::Merge(operands) => {
                        let old = rows.get(&**key)?.map(|old| Value::copy_from_slice(old.value()));
                        if let Some(new) = Operand::fold(operands, old.as_deref()) {
                            rows.insert(&**key, &*new)?;
                        }
                    }
                }
            }
            let mut facts = transaction.open_table(FACTS)?;
            facts.insert(VERSION, &batch.version().0.to_be_bytes()[..])?;
            if let Some(mark) = batch.mark() {
                facts.insert(MARK, &**mark)?;
            }
        }
        transaction.commit()?;
        let rows = self.database.begin_read()?.open_table(ROWS)?;
        Ok(RedbSnapshot(Arc::new(rows)))
    }

    fn has_space_for(&self, batch: &Batch) -> Result<bool, EngineError> {
        let stat = rustix::fs::statvfs(&self.dir).map_err(|e| EngineError::Io(e.raw_os_error()))?;
        let rows = batch.writes().count() as u64;
        let needed = RESERVE_BYTES + rows * ROW_AMPLIFICATION;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize) >= needed.min(4 * RESERVE_BYTES))
    }
}

impl Engine for RedbEngine {
    type Snapshot = RedbSnapshot;

    fn apply(&self, batch: &Batch) -> Result<RedbSnapshot, EngineError> {
        if !self.has_space_for(batch)? {
            return Err(EngineError::NoSpace);
        }
        self.write(batch).map_err(engine_error)
    }
}

/// A state of the engine: the table as one read transaction sees it.
#[derive(Clone)]
pub(super) struct RedbSnapshot(Arc<ReadOnlyTable<&'static [u8], &'static [u8]>>);

impl Snapshot for RedbSnapshot {
    fn get(&self, key: &[u8]) -> Result<Option<Value>, EngineError> {
        let value = self.0.get(key).map_err(storage_error)?;
        Ok(value.map(|value| Value::copy_from_slice(value.value())))
    }

    fn scan(
        &self,
        range: &KeyRange,
        reverse: bool,
        visit: &mut Visit<'_>,
    ) -> Result<(), EngineError> {
        let mut rows = self.0.range::<&[u8]>(&*range.begin..&*range.end).map_err(storage_error)?;
        while let Some(row) = if reverse { rows.next_back() } else { rows.next() } {
            let (key, value) = row.map_err(storage_error)?;
            if visit(key.value(), value.value()).is_break() {
                break;
            }
        }
        Ok(())
    }
}

fn storage_error(error: StorageError) -> EngineError {
    engine_error(error.into())
}

fn engine_error(error: redb::Error) -> EngineError {
    match error {
        redb::Error::Io(error) => EngineError::Io(error.raw_os_error().unwrap_or(EIO)),
        redb::Error::PreviousIo => EngineError::Io(EIO),
        other => {
            tracing::error!(error = %other, "the metadata engine failed");
            EngineError::Corrupt
        }
    }
}

const EIO: i32 = rustix::io::Errno::IO.raw_os_error();
