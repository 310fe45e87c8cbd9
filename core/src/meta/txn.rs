//! The one transaction loop: reads, a write set, commit, retry, and what became of an unknown commit.
//!
//! Owns: every retry of the metadata store and the session's slot ledger. Never does: file semantics.
//!
//! An operation is an `async fn` over [`Txn`]: it reads in parallel rounds, decides, then writes.
//! [`transact`] runs it until it commits. Where a store may report an unknown result, each commit
//! also writes the task's slot of the session ledger and conflicts with it, so that a cancel-write
//! settles whether it happened; and it reads the session's fence, so that nothing of a dead session
//! ever commits.
//!
//! Tests: `meta/ops/tests.rs`, and the simulator.

use crate::error::{FsError, FsResult};
use crate::meta::key;
use crate::meta::name::Names;
use crate::meta::record::Pair;
use crate::port::Point;
use crate::port::control::Limit;
use crate::port::meta_kv::{
    AtomicOp, Commit, CommitRequest, Key, KeyRange, KvError, KvReply, KvRequest, KvTraits,
    Mutation, Read, ReadRound, Value, Values, Version,
};
use crate::task::{Ask, Cx, Told};
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;
use core::ops::Range;
use core::time::Duration;
use smallvec::SmallVec;

/// What every operation of a mount may know.
#[derive(Debug)]
pub struct Volume {
    /// Where names go.
    pub names: Names,
    /// Counts restores into a store whose versions start lower.
    pub incarnation: u32,
    /// What the store promises.
    pub kv: KvTraits,
    /// What the volume may hold at most.
    pub limit: Limit,
    /// The session's commits may have unknown outcomes: it has a ledger and a fence to register.
    pub wants_fence: bool,
    /// The session whose ledger and fence the transactions use.
    pub session: crate::id::SessionId,
}

/// One read of a round and whether the commit relies on it.
#[derive(Clone, Debug)]
pub struct Want {
    read: Read,
    conflict: bool,
    /// Fewer rows than asked for will do.
    short: bool,
}

/// One key, relied on.
pub fn one(key: Key) -> Want {
    Want { read: Read::Get(key), conflict: true, short: false }
}

/// The first rows of a range, relied on. All of them, also when the store answers in parts.
pub fn rows(range: KeyRange, limit: u32) -> Want {
    Want { read: Read::Range { range, limit, reverse: false }, conflict: true, short: false }
}

impl Want {
    /// The same read, but nothing relies on it staying so.
    pub fn snapshot(self) -> Want {
        Want { conflict: false, ..self }
    }

    /// The same read, but one part of it is enough: whoever asks goes on from its last row.
    pub fn short(self) -> Want {
        Want { short: true, ..self }
    }
}

/// Takes the answer to [`one`].
pub fn value(values: Values) -> Option<Value> {
    match values {
        Values::One(value) => value,
        Values::Rows { .. } => unreachable!("a range answered a get"),
    }
}

/// Takes the answer to [`rows`].
pub fn list(values: Values) -> Vec<(Key, Value)> {
    match values {
        Values::Rows { rows, .. } => rows,
        Values::One(_) => unreachable!("a get answered a range"),
    }
}

/// A transaction being made.
#[derive(Debug)]
pub struct Txn<'a> {
    cx: &'a Cx,
    /// What the operation may know of its volume.
    pub volume: &'a Volume,
    request: CommitRequest,
    fenced: bool,
    charged: Pair,
}

impl<'a> Txn<'a> {
    fn new(cx: &'a Cx, volume: &'a Volume) -> Txn<'a> {
        Txn {
            cx,
            volume,
            request: CommitRequest::default(),
            fenced: false,
            charged: Pair::default(),
        }
    }

    /// Reads several things in one round, all rounds of a transaction at one version.
    pub async fn read<const N: usize>(&mut self, wants: [Want; N]) -> FsResult<[Values; N]> {
        let values = self.read_all(wants.into()).await?;
        values.try_into().map_err(|_| FsError::Kv(KvError::Fatal(0)))
    }

    /// [`Txn::read`] for a number of reads known at run time.
    pub async fn read_all(&mut self, wants: Vec<Want>) -> FsResult<Vec<Values>> {
        let mut reads: Vec<Read> = Vec::with_capacity(wants.len() + 1);
        let ask_fence = self.volume.kv.may_be_unknown && !self.fenced;
        reads.extend(wants.iter().map(|want| want.read.clone()));
        if ask_fence {
            reads.push(Read::Get(key::fence(self.volume.session)));
        }
        let (version, mut values) = read_round(self.cx, self.request.read_version, reads).await?;
        self.request.read_version = Some(version);
        if ask_fence {
            let fence = values.pop().and_then(value);
            self.request.read_conflicts.push(KeyRange::point(key::fence(self.volume.session)));
            self.fenced = true;
            if fence.is_none() {
                return Err(FsError::Fenced);
            }
        }
        self.complete(&wants, &mut values).await?;
        for (want, got) in wants.into_iter().zip(&values) {
            if want.conflict {
                self.request.read_conflicts.push(relied_on(want.read, got));
            }
        }
        Ok(values)
    }

    /// Reads on where the store answered with fewer rows than there are.
    async fn complete(&mut self, wants: &[Want], values: &mut [Values]) -> FsResult<()> {
        loop {
            let rest: Vec<(usize, Read)> = wants
                .iter()
                .zip(&*values)
                .enumerate()
                .filter(|(_, (want, _))| !want.short)
                .filter_map(|(n, (want, got))| Some((n, remainder(&want.read, got)?)))
                .collect();
            if rest.is_empty() || planted!(ShortRange) {
                return Ok(());
            }
            probe!("range-read-on");
            let reads = rest.iter().map(|(_, read)| read.clone()).collect();
            let (_, more) = read_round(self.cx, self.request.read_version, reads).await?;
            for ((n, _), got) in rest.into_iter().zip(more) {
                extend(&mut values[n], got);
            }
        }
    }

    /// All rows of a range, in as many rounds as it takes, each row relied on if `conflict`.
    pub async fn read_range(
        &mut self,
        range: KeyRange,
        conflict: bool,
    ) -> FsResult<Vec<(Key, Value)>> {
        let mut all = Vec::new();
        let mut rest = range;
        loop {
            let want = Want {
                read: Read::Range { range: rest.clone(), limit: RANGE_ROWS, reverse: false },
                conflict,
                short: true,
            };
            let [Values::Rows { rows, more }] = self.read([want]).await? else {
                unreachable!("a get answered a range")
            };
            let last = rows.last().map(|(key, _)| key.successor());
            all.extend(rows);
            match last {
                Some(next) if more => rest.begin = next,
                _ => return Ok(all),
            }
        }
    }

    /// Reads at this version, and not at the newest one.
    pub fn pin(&mut self, version: Version) {
        self.request.read_version = Some(version);
    }

    /// Relies on a key that was read by snapshot, or not at all.
    pub fn rely_on(&mut self, key: Key) {
        self.request.read_conflicts.push(KeyRange::point(key));
    }

    /// key := value.
    pub fn set(&mut self, key: Key, value: Value) {
        self.request.mutations.push(Mutation::Set { key, value });
    }

    /// Removes a key.
    pub fn clear(&mut self, key: Key) {
        self.request.mutations.push(Mutation::Clear { key });
    }

    /// Removes a range.
    pub fn clear_range(&mut self, range: KeyRange) {
        self.request.mutations.push(Mutation::ClearRange { range });
    }

    /// key := max(old, operand), little-endian.
    pub fn max(&mut self, key: Key, operand: &[u8]) {
        self.atomic(key, AtomicOp::Max, operand);
    }

    /// key := old + operand, little-endian.
    pub fn add(&mut self, key: Key, operand: &[u8]) {
        self.atomic(key, AtomicOp::Add, operand);
    }

    fn atomic(&mut self, key: Key, op: AtomicOp, operand: &[u8]) {
        let operand = SmallVec::from_slice(operand);
        self.request.mutations.push(Mutation::Atomic { key, op, operand });
    }

    /// Sets a key whose order is the commit's; `at` is the place of the stamp.
    pub fn set_stamped(&mut self, (key, at): (Key, usize), value: Value) {
        self.request.mutations.push(Mutation::SetStampedKey { key, stamp_at: at, value });
    }

    /// Whether the session must be registered before its transactions can commit. The transaction
    /// of an unregistered volume does not ask for the fence itself.
    pub fn wants_fence(&self) -> bool {
        self.volume.wants_fence
    }

    /// Adds to the volume's counters: inodes (hi) and bytes (lo). The machine learns of it once this is
    /// committed.
    pub fn charge(&mut self, by: Pair) {
        if by != Pair::default() {
            self.charged.hi += by.hi;
            self.charged.lo += by.lo;
            self.add(key::usage(), &by.encode());
        }
    }

    /// How many bytes of a data generation are visible in a range, if the machine has it in memory. It
    /// is what the store has for whoever has the inode to himself and nothing buffered.
    pub async fn known_visible(
        &self,
        ino: crate::id::Ino,
        generation: u64,
        range: Range<u64>,
    ) -> Option<u64> {
        match self.cx.ask(Ask::Visible { ino, generation, range }).await {
            Told::Visible(bytes) => bytes,
            _ => None,
        }
    }

    /// A service of the machine that is no transaction: see [`Cx::settle`].
    pub async fn settle(&self, ino: crate::id::Ino) -> FsResult<bool> {
        self.cx.settle(ino).await
    }

    /// Gives up this attempt; a fresh one sees what happened meanwhile.
    pub fn again<R>(&self) -> FsResult<R> {
        Err(FsError::Kv(KvError::Conflict))
    }

    /// Relies on nothing any more, as a planted bug does.
    pub(crate) fn lose_conflicts(&mut self) {
        self.request.read_conflicts.clear();
    }
}

/// Whether a version that was pinned cannot be read any more.
pub fn left_the_window(error: &FsError) -> bool {
    matches!(error, FsError::Kv(KvError::TooOld))
}

const RANGE_ROWS: u32 = 1024;

/// What is still to be read of a range that was cut before its limit.
fn remainder(read: &Read, got: &Values) -> Option<Read> {
    let (Read::Range { range, limit, reverse }, Values::Rows { rows, more: true }) = (read, got)
    else {
        return None;
    };
    let left = limit.checked_sub(rows.len() as u32).filter(|left| *left > 0)?;
    let (last, _) = rows.last()?;
    let mut range = range.clone();
    if *reverse {
        range.end = last.clone()
    } else {
        range.begin = last.successor()
    }
    Some(Read::Range { range, limit: left, reverse: *reverse })
}

fn extend(values: &mut Values, got: Values) {
    if let (Values::Rows { rows, more }, Values::Rows { rows: next, more: still }) = (values, got) {
        rows.extend(next);
        *more = still;
    }
}

/// The part of a read that its answer depends on.
fn relied_on(read: Read, got: &Values) -> KeyRange {
    match (read, got) {
        (Read::Get(key), _) => KeyRange::point(key),
        (Read::Range { mut range, limit, reverse }, Values::Rows { rows, more }) => {
            let cut = *more || rows.len() >= limit as usize;
            if let (true, Some((last, _))) = (cut, rows.last()) {
                if reverse { range.begin = last.clone() } else { range.end = last.successor() }
            }
            range
        }
        (Read::Range { range, .. }, Values::One(_)) => range,
    }
}

async fn read_round(
    cx: &Cx,
    at: Option<Version>,
    reads: Vec<Read>,
) -> FsResult<(Version, Vec<Values>)> {
    let expected = reads.len();
    match cx.ask(Ask::Kv(KvRequest::Read(ReadRound { at, reads }))).await {
        Told::Kv(Ok(KvReply::Values { version, values })) if values.len() == expected => {
            Ok((version, values))
        }
        Told::Kv(Err(error)) => Err(error.into()),
        _ => Err(FsError::Kv(KvError::Fatal(0))),
    }
}

async fn commit(cx: &Cx, request: CommitRequest) -> Result<Commit, KvError> {
    match cx.ask(Ask::Kv(KvRequest::Commit(Box::new(request)))).await {
        Told::Kv(Ok(KvReply::Committed(commit))) => Ok(commit),
        Told::Kv(Err(error)) => Err(error),
        _ => Err(KvError::Fatal(0)),
    }
}

/// Runs an operation until it commits or fails for good: `transact!(cx, volume, |txn| operation)`.
/// Evaluates to its result and where in the order of commits it belongs.
///
/// A macro, because a closure over `&mut Txn` makes the task's future fail the compiler's proof that
/// it is `Send`. The loop's decisions are all in [`Attempts`].
///
/// # Errors
/// Whatever the operation answers; [`FsError::Interrupted`] when its caller gave up before it took
/// effect; never [`FsError::Kv`].
macro_rules! transact {
    ($cx:expr, $volume:expr, |$txn:ident| $body:expr) => {{
        let mut attempts = $crate::meta::txn::Attempts::new($cx, $volume);
        loop {
            let mut attempt = attempts.begin();
            let result = {
                let $txn = &mut attempt;
                async { $body }.await
            };
            if let Some(end) = attempts.end(attempt, result).await {
                break end;
            }
        }
    }};
}
pub(crate) use transact;

/// The attempts at one transaction.
pub struct Attempts<'a> {
    cx: &'a Cx,
    volume: &'a Volume,
    backoff: Backoff<'a>,
}

impl<'a> Attempts<'a> {
    /// None made yet.
    pub fn new(cx: &'a Cx, volume: &'a Volume) -> Attempts<'a> {
        Attempts { cx, volume, backoff: Backoff::new(cx) }
    }

    /// A fresh transaction.
    pub fn begin(&self) -> Txn<'a> {
        Txn::new(self.cx, self.volume)
    }

    /// Commits what an attempt wrote. `None`: another attempt is due.
    pub async fn end<R>(
        &mut self,
        txn: Txn<'a>,
        result: FsResult<R>,
    ) -> Option<(FsResult<R>, Point)> {
        let seen = Point::Snapshot(txn.request.read_version.unwrap_or_default());
        let error = match result {
            Ok(value) if txn.request.mutations.is_empty() => return Some((Ok(value), seen)),
            Ok(value) => {
                let charged = txn.charged;
                match commit_once(self.cx, txn).await {
                    Ok(commit) => {
                        self.cx.charge(charged);
                        return Some((Ok(value), Point::Commit(commit)));
                    }
                    Err(error) => error,
                }
            }
            Err(error) => error,
        };
        let error = match error {
            FsError::Kv(error) => self.backoff.wait(error).await.err()?,
            error => error,
        };
        Some((Err(error), seen))
    }
}

/// Commits once; an unknown result is settled before this returns.
async fn commit_once(cx: &Cx, txn: Txn<'_>) -> FsResult<Commit> {
    let volume = txn.volume;
    let mut request = txn.request;
    if !volume.kv.may_be_unknown {
        return commit(cx, request).await.map_err(FsError::from);
    }
    let mark = cx.next_mark();
    let slot = key::slot(volume.session, cx.slot());
    if !planted!(UnreliedSlot) {
        request.read_conflicts.push(KeyRange::point(slot.clone()));
    }
    request.mutations.push(stamp_slot(&slot, mark));
    match commit(cx, request).await {
        Ok(commit) => Ok(commit),
        Err(KvError::CommitUnknown { .. }) => {
            settle_unknown(cx, slot, mark).await?.ok_or(FsError::Kv(KvError::Conflict))
        }
        Err(error) => Err(error.into()),
    }
}

/// Length of a slot's value: mark and stamp.
const SLOT_LEN: usize = 18;

fn stamp_slot(slot: &Key, mark: u64) -> Mutation {
    let mut value = vec![0; SLOT_LEN];
    value[..8].copy_from_slice(&mark.to_be_bytes());
    Mutation::SetStampedValue { key: slot.clone(), value: Bytes::from(value), stamp_at: 8 }
}

/// Makes everything that was committed so far durable, however often the store has to be asked.
/// Returns the version up to which everything is.
pub async fn sync(cx: &Cx) -> FsResult<Version> {
    let mut backoff = Backoff::patient(cx);
    loop {
        match cx.ask(Ask::Sync).await {
            Told::Kv(Ok(KvReply::Durable(version))) => return Ok(version),
            Told::Kv(Err(error)) => backoff.wait(error).await?,
            _ => return Err(FsError::Damaged),
        }
    }
}

/// Finds out whether the commit with this mark happened. `None`: it did not, and never will, because
/// a cancel-write that it conflicts with was committed.
async fn settle_unknown(cx: &Cx, slot: Key, mark: u64) -> FsResult<Option<Commit>> {
    let cancel = cx.next_mark();
    let mut backoff = Backoff::patient(cx);
    if planted!(LateInterrupt) && cx.interrupted() {
        return Err(FsError::Interrupted);
    }
    loop {
        let error = match read_round(cx, None, vec![Read::Get(slot.clone())]).await {
            Ok((version, mut values)) => {
                let seen = values.pop().and_then(value).and_then(|v| parse_slot(&v));
                match seen {
                    Some((found, _)) if found == mark && planted!(DoubleApplied) => {
                        return Ok(None);
                    }
                    Some((found, commit)) if found == mark => {
                        probe!("unknown-happened");
                        return Ok(Some(commit));
                    }
                    Some((found, _)) if found == cancel => return Ok(None),
                    _ if planted!(NoCancelWrite) => return Ok(None),
                    _ => {}
                }
                let request = CommitRequest {
                    read_version: Some(version),
                    read_conflicts: vec![KeyRange::point(slot.clone())],
                    write_conflicts: Vec::new(),
                    mutations: vec![stamp_slot(&slot, cancel)],
                };
                match commit(cx, request).await {
                    Ok(_) => {
                        probe!("unknown-cancelled");
                        return Ok(None);
                    }
                    // The commit in question may land once there is room: no refusal says that it did not.
                    Err(KvError::NoSpace) => KvError::Throttled,
                    Err(error) => error,
                }
            }
            Err(FsError::Kv(error)) => error,
            Err(error) => return Err(error),
        };
        backoff.wait(error).await?;
    }
}

fn parse_slot(value: &[u8]) -> Option<(u64, Commit)> {
    let (mark, stamp) = value.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*mark), Commit::from_stamp(stamp.try_into().ok()?)))
}

/// Waits between attempts; decides which errors deserve another one.
struct Backoff<'a> {
    cx: &'a Cx,
    attempts: u32,
    interruptible: bool,
}

impl<'a> Backoff<'a> {
    fn new(cx: &'a Cx) -> Backoff<'a> {
        Backoff { cx, attempts: 0, interruptible: true }
    }

    /// One that goes on although the caller gave up, because the outcome must be known.
    fn patient(cx: &'a Cx) -> Backoff<'a> {
        Backoff { interruptible: false, ..Backoff::new(cx) }
    }

    async fn wait(&mut self, error: KvError) -> FsResult<()> {
        self.attempts += 1;
        let at_once = match error {
            KvError::Conflict | KvError::TooOld
                if planted!(ImpatientRetry) && self.attempts > 2 =>
            {
                return Err(FsError::Damaged);
            }
            KvError::Conflict | KvError::TooOld => {
                self.cx.count_conflict();
                probe!("conflict-retried");
                if error == KvError::TooOld {
                    probe!("too-old-retried");
                }
                self.attempts <= 3
            }
            KvError::CommitUnknown { .. } => true,
            KvError::NotYet | KvError::Throttled | KvError::Unavailable => false,
            KvError::NoSpace => return Err(FsError::NoSpace),
            KvError::TooLarge | KvError::Corrupt | KvError::Fatal(_) => {
                return Err(FsError::Damaged);
            }
        };
        if self.interruptible && self.cx.interrupted() {
            probe!("interrupt-honored");
            return Err(FsError::Interrupted);
        }
        if !at_once {
            probe!("retry-backs-off");
            let ceiling = 1u64 << self.attempts.min(9);
            self.cx.sleep(Duration::from_micros(500 * (1 + self.cx.jitter(ceiling)))).await;
        }
        Ok(())
    }
}
