//! The store's state: commits, conflicts, what is logged, what the engine has.

use super::engine::{Batch, EngineError, Snapshot};
use super::layer::Layer;
use super::log::{LogFlush, Replayed, encode_commit};
use super::read::{Below, View};
use crate::limits::{KEY_MAX, TRANSACTION_MAX, VALUE_MAX};
use crate::port::meta_kv::{
    Commit, CommitRequest, Key, KeyRange, KvError, Mutation, Read, Version,
};
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// How far the versions jump at a start: above every version that was handed out since the last flush
/// and lost with a crash.
const RESTART_JUMP: u64 = 1 << 32;

/// Bounds of the memory a store takes.
#[derive(Clone, Copy, Debug)]
pub struct StoreLimits {
    /// Bytes in the active layer above which a flush is wanted.
    pub soft: usize,
    /// Bytes in the active layer above which commits wait for a flush.
    pub hard: usize,
    /// Snapshots kept for readers and conflict checks of older versions.
    pub generations: usize,
    /// Bytes of layers kept for them.
    pub history: usize,
    /// Commits behind the newest one that can be read for certain. Memory that is overwritten over and
    /// over is bounded by this, not by the number of commits.
    pub window: u64,
}

impl Default for StoreLimits {
    fn default() -> StoreLimits {
        StoreLimits {
            soft: 32 << 20,
            hard: 128 << 20,
            generations: 8,
            history: 16 << 20,
            window: 16 << 10,
        }
    }
}

/// Whether a commit may come now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It may.
    Open,
    /// It may; a flush should be started soon.
    FlushWanted,
    /// It waits until a flush has finished.
    Wait,
}

/// What a caller that wants a version durable does next.
pub enum SyncStep {
    /// Nothing: everything up to this version is durable.
    Durable(Version),
    /// Make everything the page store has taken so far durable, write this with [`super::log::write()`],
    /// call [`Store::finish_log`], and ask again. Page bytes come first, so that no durable metadata
    /// names bytes that a crash could take away.
    Log(LogFlush),
    /// Somebody else's record is under way: ask again when it has finished.
    Wait,
}

/// How a run starts: see [`Store::start`].
pub struct Start {
    /// To be applied to the engine before the store is built: what only the log held.
    pub batch: Batch,
    log_file: u32,
}

/// A flush to be performed: make everything the page store has taken so far durable, then apply the
/// batch, then call [`Store::finish_flush`].
pub struct Flush {
    /// What the engine takes.
    pub batch: Batch,
}

/// A finished flush. It owns what nobody needs any more; drop it outside of the lock.
pub struct Flushed<S> {
    /// The engine has everything up to here.
    pub version: Version,
    /// Log files below this number are not needed any more.
    pub log_first: u32,
    _retired: Vec<Generation<S>>,
}

/// An engine snapshot and the layer that leads to the next one.
struct Generation<S> {
    snapshot: S,
    version: Version,
    /// Commits above `version`, up to and including the next generation's. `None` for the newest.
    above: Option<Arc<Layer>>,
}

/// The resolver and the overlay.
pub struct Store<S> {
    limits: StoreLimits,
    active: Layer,
    /// The layer that a flush has taken or could not write yet.
    frozen: Option<Arc<Layer>>,
    flushing: bool,
    /// Oldest first; never empty.
    history: VecDeque<Generation<S>>,
    failed: Option<KvError>,
    /// The last flush found no space.
    full: bool,
    log: Log,
}

/// The log's end, and what comes next.
struct Log {
    /// Commits that no record has.
    body: Vec<u8>,
    /// The version of the last commit before those.
    taken: Version,
    /// The version up to which records are durable.
    durable: Version,
    /// A record is being written.
    writing: bool,
    /// The file that records go into, and where it ends.
    file: u32,
    end: u64,
    /// The file that records went into when the last layer was frozen.
    frozen_file: u32,
    /// How much of `body` belongs to the frozen layer, if no record took it.
    frozen_body: Option<usize>,
}

impl<S: Snapshot> Store<S> {
    /// Begins a run over what the last one left in the log. Versions go on above every one that was
    /// handed out, also to commits that a crash took; and the batch makes sure that no later run starts
    /// at the same one.
    pub fn start(mut replayed: Replayed) -> Start {
        let first = replayed.last().0.saturating_add(RESTART_JUMP);
        replayed.layer.lift(Version(first));
        let mut batch = Batch::new(Arc::new(replayed.layer));
        if let Some(mark) = replayed.mark.filter(|mark| !mark.is_empty()) {
            batch.set_mark(mark);
        }
        Start { batch, log_file: replayed.next_file }
    }

    /// A store over the engine's state after the batch of `start`. All log files go.
    pub fn new(snapshot: S, start: &Start, limits: StoreLimits) -> Store<S> {
        let version = start.batch.version();
        let file = start.log_file;
        Store {
            limits,
            active: Layer::new(version, limits.window),
            frozen: None,
            flushing: false,
            history: VecDeque::from([Generation { snapshot, version, above: None }]),
            failed: None,
            full: false,
            log: Log {
                body: Vec::new(),
                taken: version,
                durable: version,
                writing: false,
                file,
                end: 0,
                frozen_file: file,
                frozen_body: None,
            },
        }
    }

    /// The version of the newest commit.
    pub fn last(&self) -> Version {
        self.active.last()
    }

    /// The newest version that survives a crash.
    pub fn durable(&self) -> Version {
        self.log.durable.max(self.flushed())
    }

    /// The newest version that the engine has.
    pub fn flushed(&self) -> Version {
        self.newest().version
    }

    /// Why nothing can be committed any more, if so.
    pub fn failure(&self) -> Option<KvError> {
        self.failed
    }

    /// The oldest version that can be read and committed against.
    pub fn oldest(&self) -> Version {
        self.history.front().map_or(self.last(), |oldest| oldest.version)
    }

    /// Roughly the memory that commits since the last flush take.
    pub(super) fn active_bytes(&self) -> usize {
        self.active.bytes()
    }

    /// Whether a commit may come now.
    pub fn admission(&self) -> Admission {
        match self.active_bytes() {
            bytes if bytes >= self.limits.hard && self.failed.is_none() && !self.full => {
                Admission::Wait
            }
            bytes if bytes >= self.limits.soft => Admission::FlushWanted,
            _ => Admission::Open,
        }
    }

    /// Applies a write set, or says why not. Nothing is durable before a flush.
    pub fn commit(&mut self, request: CommitRequest) -> Result<Commit, KvError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        if self.full && self.active.bytes() >= self.limits.hard {
            return Err(KvError::NoSpace);
        }
        check_limits(&request)?;
        if let Some(read_version) = request.read_version {
            self.check_conflicts(read_version, &request.read_conflicts)?;
        }
        let commit = Commit { version: Version(self.active.last().0 + 1), batch: 0 };
        encode_commit(&mut self.log.body, &request.mutations);
        self.active.apply(commit, request.mutations, &request.write_conflicts);
        Ok(commit)
    }

    /// What is needed under the lock to read at a version.
    pub(super) fn view(&self, at: Option<Version>, reads: &[Read]) -> Result<View<S>, KvError> {
        let version = at.unwrap_or(self.last());
        if version > self.last() {
            return Err(KvError::NotYet);
        }
        let generation = self.history.iter().rev().find(|g| g.version <= version);
        let generation = generation.ok_or(KvError::TooOld)?;
        let newest = generation.above.is_none();
        let layer = if newest { &self.frozen } else { &generation.above };
        let active_from = self.frozen.as_ref().map_or(self.flushed(), |frozen| frozen.last());
        let below = Below { snapshot: generation.snapshot.clone(), layer: layer.clone(), version };
        let active = (newest && version > active_from).then_some(&self.active);
        let layers = below.layer.as_deref().into_iter().chain(active);
        if !layers.into_iter().all(|layer| layer.reaches_back_to(version)) {
            return Err(KvError::TooOld);
        }
        Ok(View::new(below, active, reads))
    }

    /// What to do so that `up_to` becomes durable.
    pub fn sync_step(&mut self, up_to: Version) -> Result<SyncStep, KvError> {
        if self.durable() >= up_to.min(self.last()) {
            return Ok(SyncStep::Durable(self.durable()));
        }
        if let Some(error) = self.failed {
            return Err(error);
        }
        Ok(self.begin_log().map_or(SyncStep::Wait, SyncStep::Log))
    }

    /// Takes the commits that no record has. `None` while another record is being written.
    fn begin_log(&mut self) -> Option<LogFlush> {
        if self.log.writing {
            return None;
        }
        let log = &mut self.log;
        log.writing = true;
        log.frozen_body = None;
        let first = Version(log.taken.0 + 1);
        log.taken = self.active.last();
        Some(LogFlush {
            file: log.file,
            offset: log.end,
            first,
            last: log.taken,
            body: core::mem::take(&mut log.body).into(),
        })
    }

    /// Takes the outcome of the record that [`SyncStep::Log`] handed out; `mark_len` is the length of the
    /// mark written with it. Without space the next sync tries it again, together with what came since.
    /// Every other failure is final: what the log holds is unknown.
    pub fn finish_log(
        &mut self,
        flush: LogFlush,
        mark_len: usize,
        outcome: Result<(), EngineError>,
    ) -> Result<Version, KvError> {
        assert!(self.log.writing, "a record that was not begun");
        let log = &mut self.log;
        log.writing = false;
        match outcome {
            Ok(()) => {
                log.durable = flush.last;
                if log.file == flush.file {
                    log.end = flush.next(mark_len);
                }
                Ok(self.durable())
            }
            Err(error) => {
                log.taken = Version(flush.first.0 - 1);
                let mut body = Vec::from(flush.body);
                body.append(&mut log.body);
                log.body = body;
                if error != EngineError::NoSpace {
                    self.failed = Some(error.into());
                }
                Err(error.into())
            }
        }
    }

    /// Freezes what was committed so far. `None` while another flush is under way, when there is nothing
    /// to write, or after a failure for good.
    pub fn begin_flush(&mut self) -> Option<Flush> {
        if self.flushing || self.failed.is_some() {
            return None;
        }
        if self.frozen.is_none() {
            if !self.active.is_dirty() {
                return None;
            }
            let next = Layer::new(self.active.last(), self.limits.window);
            self.frozen = Some(Arc::new(core::mem::replace(&mut self.active, next)));
            // Later records go into a new file, so that this layer's can go with it.
            self.log.frozen_file = self.log.file;
            self.log.file += 1;
            self.log.end = 0;
            self.log.frozen_body = Some(self.log.body.len()).filter(|_| !self.log.writing);
        }
        let layer = self.frozen.clone()?;
        self.flushing = true;
        Some(Flush { batch: Batch::new(layer) })
    }

    /// Takes the outcome of the flush that was begun last: the snapshot with its batch, or why not.
    ///
    /// Without space the batch stays readable and the next flush tries it again. Every other failure is
    /// final: what the medium holds is unknown, so nothing is committed on top of it.
    pub fn finish_flush(&mut self, outcome: Result<S, EngineError>) -> Result<Flushed<S>, KvError> {
        assert!(self.flushing, "a flush that was not begun");
        self.flushing = false;
        match outcome {
            Ok(snapshot) => {
                self.full = false;
                let layer = self.frozen.take();
                let version = layer.as_ref().map_or(self.flushed(), |layer| layer.last());
                if let Some(newest) = self.history.back_mut() {
                    newest.above = layer;
                }
                self.history.push_back(Generation { snapshot, version, above: None });
                if let Some(len) = self.log.frozen_body.take() {
                    // The engine has these: no record is needed.
                    self.log.body.drain(..len);
                    self.log.taken = version;
                }
                let log_first = self.log.frozen_file + 1;
                Ok(Flushed { version, log_first, _retired: self.forget_history() })
            }
            Err(EngineError::NoSpace) => {
                self.full = true;
                Err(KvError::NoSpace)
            }
            Err(error) => {
                self.failed = Some(error.into());
                Err(error.into())
            }
        }
    }

    /// Lets go of the oldest generations; at least one older than the newest stays.
    fn forget_history(&mut self) -> Vec<Generation<S>> {
        let mut bytes = 0;
        let mut keep = 1;
        for generation in self.history.iter().rev().skip(1) {
            bytes += generation.above.as_ref().map_or(0, |layer| layer.bytes());
            if keep >= 2 && (bytes > self.limits.history || keep > self.limits.generations) {
                break;
            }
            keep += 1;
        }
        self.history.drain(..self.history.len() - keep).collect()
    }

    fn check_conflicts(&self, read: Version, ranges: &[KeyRange]) -> Result<(), KvError> {
        if read > self.last() {
            return Err(KvError::NotYet);
        }
        if self.history.front().is_none_or(|oldest| read < oldest.version) {
            return Err(KvError::TooOld);
        }
        if read == self.last() {
            return Ok(());
        }
        let older = self.history.iter().rev().filter_map(|g| g.above.as_deref());
        let layers = core::iter::once(&self.active).chain(self.frozen.as_deref()).chain(older);
        let checked = if planted!(UncheckedGeneration) { 1 } else { usize::MAX };
        for layer in layers.take(checked).take_while(|layer| layer.last() > read) {
            if ranges.iter().any(|range| layer.written_after(range, read)) {
                return Err(KvError::Conflict);
            }
        }
        Ok(())
    }

    fn newest(&self) -> &Generation<S> {
        self.history.back().expect("history is never empty")
    }
}

/// The limits that every store of this port shares.
fn check_limits(request: &CommitRequest) -> Result<(), KvError> {
    let ranges: &[&Vec<KeyRange>] = &[&request.read_conflicts, &request.write_conflicts];
    let mut total = 0usize;
    for range in ranges.iter().flat_map(|ranges| ranges.iter()) {
        total += check_range(range)?;
    }
    for mutation in &request.mutations {
        total += check_mutation(mutation)?;
    }
    if total > TRANSACTION_MAX { Err(KvError::TooLarge) } else { Ok(()) }
}

fn check_mutation(mutation: &Mutation) -> Result<usize, KvError> {
    let (key, value) = match mutation {
        Mutation::Set { key, value } => (key, value.len()),
        Mutation::Clear { key } => (key, 0),
        Mutation::ClearRange { range } => return check_range(range),
        Mutation::Atomic { key, operand, .. } => (key, operand.len()),
        Mutation::SetStampedKey { key, stamp_at, value } => {
            check_stamp(*stamp_at, key.len())?;
            (key, value.len())
        }
        Mutation::SetStampedValue { key, value, stamp_at } => {
            check_stamp(*stamp_at, value.len())?;
            (key, value.len())
        }
    };
    if value > VALUE_MAX { Err(KvError::TooLarge) } else { Ok(check_key(key, 0)? + value) }
}

fn check_range(range: &KeyRange) -> Result<usize, KvError> {
    // The end of a point range is one byte longer than its key.
    Ok(check_key(&range.begin, 1)? + check_key(&range.end, 1)?)
}

fn check_key(key: &Key, extra: usize) -> Result<usize, KvError> {
    if key.len() > KEY_MAX + extra { Err(KvError::TooLarge) } else { Ok(key.len()) }
}

fn check_stamp(stamp_at: usize, len: usize) -> Result<(), KvError> {
    if stamp_at.checked_add(10).is_some_and(|end| end <= len) {
        Ok(())
    } else {
        Err(KvError::TooLarge)
    }
}
