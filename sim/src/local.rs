//! The real stores of one machine (`core::local`) over simulated disks: what an embedded mount runs on.
//!
//! Owns: the calls that the drivers make, in their order: page bytes, then the log or the engine. Never
//! does: deciding anything.

use bytes::Bytes;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::rc::Rc;
use vellum_core::id::{SegmentId, VolumeId};
use vellum_core::local::Shared;
use vellum_core::local::kv::{
    Admission, Batch, Engine, EngineError, Flush, Operand, Snapshot, Store, StoreLimits, SyncStep,
    Visit, Write, log, read,
};
use vellum_core::local::medium::MediumError;
use vellum_core::local::pages::{self, Mark, Pages, Trouble, recover};
use vellum_core::port::meta_kv::{
    Commit, CommitRequest, Key, KeyRange, KvError, KvReply, ReadRound, Value, Version,
};
use vellum_core::port::page_store::{PageError, PageReply, PageRequest, Space};

use crate::dice::Dice;
use crate::disk::{Fuse, Ills, SimDisk, SimFile};

/// Page files are small, so that many are sealed and removed.
const PAGE_FILE_BYTES: u64 = 1 << 20;
/// A layer is small, so that the engine takes many.
const LIMITS: StoreLimits =
    StoreLimits { soft: 16 << 10, hard: 64 << 10, generations: 8, history: 64 << 10, window: 24 };

/// The stores of a machine, running.
pub struct LocalStore {
    volume: VolumeId,
    fuse: Fuse,
    ills: Ills,
    engine: SimEngine,
    logs: SimDisk,
    page_files: SimDisk,
    running: Option<Running>,
    last: Commit,
    durable: Version,
    capacity: u64,
    page_file_bytes: u64,
    troubles: Vec<String>,
    rotten: bool,
}

/// What is in the memory of the process.
struct Running {
    store: Guarded<Store<Rows>>,
    pages: Guarded<Pages<SimFile>>,
    log_file: Option<(u32, SimFile)>,
}

struct Guarded<T>(RefCell<T>);

impl<T> Shared<T> for Guarded<T> {
    fn with<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&self.0.borrow())
    }
    fn with_mut<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        change(&mut self.0.borrow_mut())
    }
}

/// An engine whose batches are atomic and durable.
#[derive(Clone, Default)]
struct SimEngine {
    state: Rc<RefCell<EngineState>>,
    fuse: Fuse,
    ills: Ills,
}

#[derive(Clone, Default)]
struct EngineState {
    rows: Rows,
    version: Version,
    mark: Option<Bytes>,
}

/// An immutable state of the engine.
#[derive(Clone, Default)]
struct Rows(Rc<BTreeMap<Key, Value>>);

impl LocalStore {
    /// Empty stores, opened.
    ///
    /// # Panics
    /// If empty stores do not open.
    pub fn new(volume: VolumeId, capacity: u64, ills: Ills) -> LocalStore {
        LocalStore::with_page_files(volume, capacity, ills, PAGE_FILE_BYTES)
    }

    /// The same with page files of this size.
    ///
    /// # Panics
    /// If empty stores do not open.
    pub fn with_page_files(
        volume: VolumeId,
        capacity: u64,
        ills: Ills,
        page_file_bytes: u64,
    ) -> LocalStore {
        let fuse = Fuse::default();
        let (state, sick) = (Rc::default(), ills.clone());
        let mut local = LocalStore {
            volume,
            engine: SimEngine { state, fuse: fuse.clone(), ills: sick },
            logs: SimDisk::new(&fuse, &ills),
            page_files: SimDisk::new(&fuse, &ills),
            fuse,
            ills,
            running: None,
            last: Commit::default(),
            durable: Version(0),
            capacity,
            page_file_bytes,
            troubles: Vec::new(),
            rotten: false,
        };
        local.start();
        local
    }

    /// What went wrong that must not.
    pub fn violations(&self) -> &[String] {
        &self.troubles
    }

    /// The newest commit.
    pub fn last(&self) -> Commit {
        self.last
    }

    /// There is room again.
    pub fn grow(&mut self) {
        self.capacity = 1 << 40;
    }

    /// Performs a round of reads.
    ///
    /// # Errors
    /// As the port says.
    pub fn read(&self, round: &ReadRound) -> Result<KvReply, KvError> {
        let (version, values) = read(&self.running().store, round)?;
        Ok(KvReply::Values { version, values })
    }

    /// Applies a write set.
    ///
    /// # Errors
    /// As the port says.
    pub fn commit(&mut self, request: CommitRequest) -> Result<Commit, KvError> {
        if self.running().store.with(Store::admission) == Admission::Wait {
            self.flush()?;
        }
        let committed = self.running().store.with_mut(|store| store.commit(request));
        self.last = committed.unwrap_or(self.last);
        if self.running().store.with(Store::admission) == Admission::FlushWanted {
            // In the background: whoever committed learns nothing of it.
            self.flush().ok();
        }
        committed
    }

    /// Whether nothing can be committed any more until the process starts anew.
    pub fn failed(&self) -> bool {
        self.running().store.with(Store::failure).is_some()
    }

    /// Damages a page file: a byte, a page that is written elsewhere, or one that never arrives.
    pub fn rot(&mut self, dice: &mut Dice) -> Option<u32> {
        let file = match dice.below(3) {
            0 => self.page_files.rot(dice),
            1 => self.page_files.misdirect(dice),
            _ => self.page_files.lose_page(dice),
        };
        self.rotten |= file.is_some();
        file
    }

    /// Whether bytes on a disk were damaged.
    pub fn rotten(&self) -> bool {
        self.rotten
    }

    /// The disks under the page store, for damage.
    pub fn page_files(&self) -> &SimDisk {
        &self.page_files
    }

    /// What goes wrong with single calls.
    pub fn ills(&self) -> &Ills {
        &self.ills
    }

    /// Makes commits durable.
    ///
    /// # Errors
    /// As the port says.
    pub fn sync(&mut self, up_to: Version) -> Result<Version, KvError> {
        loop {
            match self.running().store.with_mut(|store| store.sync_step(up_to))? {
                SyncStep::Durable(version) => {
                    self.durable = self.durable.max(version);
                    return Ok(version);
                }
                SyncStep::Log(flush) => {
                    let mut mark_len = 0;
                    let outcome = self.sync_pages().and_then(|mark| {
                        mark_len = mark.len();
                        let running = self.running.as_mut().expect("running");
                        log::write(&self.logs, &mut running.log_file, &flush, &mark)
                            .map_err(engine_error)
                    });
                    self.running()
                        .store
                        .with_mut(|store| store.finish_log(flush, mark_len, outcome))?;
                }
                SyncStep::Wait => unreachable!("there is one thread"),
            }
        }
    }

    /// Gives everything to the engine, as a background thread does.
    ///
    /// # Errors
    /// As the port says.
    pub fn flush(&mut self) -> Result<(), KvError> {
        let Some(Flush { mut batch }) = self.running().store.with_mut(Store::begin_flush) else {
            return Ok(());
        };
        let outcome = self.sync_pages().and_then(|mark| {
            if !mark.is_empty() {
                batch.set_mark(mark);
            }
            self.engine.apply(&batch)
        });
        drop(batch);
        let flushed = self.running().store.with_mut(|store| store.finish_flush(outcome))?;
        self.durable = self.durable.max(flushed.version);
        // An old log that stays is removed at the next start.
        log::remove_below(&self.logs, flushed.log_first).ok();
        Ok(())
    }

    /// Performs a request to the page store.
    ///
    /// # Errors
    /// As the port says.
    pub fn serve(&self, request: &PageRequest) -> Result<PageReply, PageError> {
        let (pages, disk, volume) = (&self.running().pages, &self.page_files, self.volume);
        match request {
            PageRequest::Append(draft) => {
                let physical = pages::append(pages, disk, volume, draft.clone())?;
                Ok(PageReply::Appended { physical })
            }
            PageRequest::Read { segment, offset, len } => {
                self.read_segment(*segment, *offset, *len).map(PageReply::Data)
            }
            PageRequest::Prefetch { .. } => Ok(PageReply::Prefetched),
            PageRequest::Verify { segment } => {
                let (place, _) = pages::locate(pages, *segment)?;
                self.read_segment(*segment, 0, place.payload_len)?;
                Ok(PageReply::Verified { len: place.payload_len })
            }
            PageRequest::Delete { segments } => {
                pages::delete(pages, disk, segments)?;
                Ok(PageReply::Deleted)
            }
            PageRequest::List { after, limit } => {
                Ok(PageReply::Listed(pages.with(|pages| pages.list(*after, *limit as usize))))
            }
            PageRequest::Space => {
                Ok(PageReply::Space(Space { total: self.capacity, free: self.capacity }))
            }
        }
    }

    /// The process ends, with `power` the machine, too, perhaps in the middle of a sync or flush; then the
    /// stores are opened again. Returns the last commit that was kept, and how many sectors were torn.
    pub fn crash(&mut self, power: bool, dice: &mut Dice) -> (Commit, u64) {
        if dice.coin() {
            self.fuse.light(dice.below(16));
            // What it answers is never heard.
            if dice.coin() {
                self.sync(self.last.version).err()
            } else {
                self.flush().err()
            };
            self.fuse.put_out();
        }
        let lost = self.stop(power.then_some(dice));
        let kept = self.start();
        if kept < self.promised() {
            self.troubles.push(format!(
                "commits up to {:?} were durable, and {kept:?} is the last",
                self.promised()
            ));
        }
        (self.last, lost)
    }

    /// The process ends, with dice for the power of the machine, too. Returns how many sectors were torn.
    pub fn stop(&mut self, power: Option<&mut Dice>) -> u64 {
        self.running = None;
        power.map_or(0, |dice| self.logs.cut_power(dice) + self.page_files.cut_power(dice))
    }

    /// What makes all calls fail from a certain one on.
    pub fn fuse(&self) -> &Fuse {
        &self.fuse
    }

    fn promised(&self) -> Version {
        self.durable
    }

    /// Opens the stores and says which commit was the last.
    fn start(&mut self) -> Version {
        self.open().unwrap_or_else(|error| panic!("the stores do not open: {error}"))
    }

    /// Opens the stores after [`LocalStore::stop`] and says which commit was the last.
    ///
    /// # Errors
    /// Why they do not open; they may be opened again.
    pub fn open(&mut self) -> Result<Version, String> {
        let durable = self.engine.state.borrow().version;
        let replayed = log::replay(&self.logs, durable).map_err(|error| format!("{error:?}"))?;
        let kept = replayed.last();
        let start = Store::<Rows>::start(replayed);
        let snapshot = self.engine.apply(&start.batch).map_err(|error| format!("{error:?}"))?;
        log::remove_below(&self.logs, u32::MAX).map_err(|error| format!("{error:?}"))?;
        let mark = self.engine.state.borrow().mark.clone();
        let mark = mark.unwrap_or_else(|| Mark::default().encode());
        let recovered = recover(&self.page_files, self.volume, self.page_file_bytes, Some(&mark))
            .map_err(|error| format!("page files: {error:?}"))?;
        let found = if self.rotten { &[][..] } else { &recovered.troubles };
        self.troubles
            .extend(found.iter().map(|trouble: &Trouble| format!("{trouble:?} and no rot")));
        self.last = Commit { version: kept, batch: u16::MAX };
        self.running = Some(Running {
            store: Guarded(RefCell::new(Store::new(snapshot, &start, LIMITS))),
            pages: Guarded(RefCell::new(recovered.pages)),
            log_file: None,
        });
        Ok(kept)
    }

    fn running(&self) -> &Running {
        self.running.as_ref().expect("the stores are open but for a moment in a crash")
    }

    fn sync_pages(&self) -> Result<Bytes, EngineError> {
        match pages::sync(&self.running().pages, &self.page_files, self.volume) {
            Ok(mark) => Ok(mark.encode()),
            Err(PageError::NoSpace) => Err(EngineError::NoSpace),
            Err(_) => Err(EngineError::Io(5)),
        }
    }

    fn read_segment(&self, segment: SegmentId, offset: u32, len: u32) -> Result<Bytes, PageError> {
        let (place, file) = pages::locate(&self.running().pages, segment)?;
        let head = pages::read_head(self.volume, segment, place, &file)?;
        pages::read(&head, place, &file, offset, len)
    }
}

impl Engine for SimEngine {
    type Snapshot = Rows;

    fn apply(&self, batch: &Batch) -> Result<Rows, EngineError> {
        // A crash before it leaves the old state, one after it the new one.
        self.fuse.burn().map_err(engine_error)?;
        if self.ills.full(0).is_some() {
            return Err(EngineError::NoSpace);
        }
        let mut state = self.state.borrow_mut();
        let mut rows = (*state.rows.0).clone();
        for range in batch.clears() {
            let doomed: Vec<Key> =
                rows.range(range.begin..range.end).map(|(key, _)| key.clone()).collect();
            for key in doomed {
                rows.remove(&key);
            }
        }
        for (key, write) in batch.writes() {
            match write {
                Write::Set(value) => {
                    rows.insert(key.clone(), value.clone());
                }
                Write::Clear => {
                    rows.remove(key);
                }
                Write::Merge(operands) => {
                    if let Some(value) = Operand::fold(operands, rows.get(key).map(|v| &v[..])) {
                        rows.insert(key.clone(), value);
                    }
                }
            }
        }
        state.rows = Rows(Rc::new(rows));
        state.version = batch.version();
        if let Some(mark) = batch.mark() {
            state.mark = Some(mark.clone());
        }
        let snapshot = state.rows.clone();
        drop(state);
        self.fuse.burn().map_err(engine_error)?;
        Ok(snapshot)
    }
}

impl Snapshot for Rows {
    fn get(&self, key: &[u8]) -> Result<Option<Value>, EngineError> {
        Ok(self.0.get(key).cloned())
    }

    fn scan(
        &self,
        range: &KeyRange,
        reverse: bool,
        visit: &mut Visit<'_>,
    ) -> Result<(), EngineError> {
        let bounds = (Bound::Included(range.begin.clone()), Bound::Excluded(range.end.clone()));
        let mut rows = self.0.range(bounds);
        while let Some((key, value)) = if reverse { rows.next_back() } else { rows.next() } {
            if visit(key, value) == ControlFlow::Break(()) {
                break;
            }
        }
        Ok(())
    }
}

fn engine_error(error: MediumError) -> EngineError {
    match error {
        MediumError::NoSpace => EngineError::NoSpace,
        MediumError::Io => EngineError::Io(5),
    }
}
