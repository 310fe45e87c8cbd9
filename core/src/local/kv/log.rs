//! The commit log: what makes a commit durable until the engine has it.
//!
//! A sync appends one record with every commit since the record before and syncs one file, however
//! many keys those touched; the engine takes whole layers later. Byte by byte in `docs/formats.md`,
//! section "Commit log".
//!
//! Owns: the bytes of records, replay. Never does: decisions about when to write ([`super::Store`]).
//!
//! Invariants: commits in a log follow each other without a gap, over all files in the order of their
//! numbers; one record at a time is written, so only the last one can be torn by a crash. A record that
//! cannot be read with another one behind it was durable once: that is damage, and never passed over.

use super::layer::Layer;
use crate::local::medium::{File, Medium, MediumError};
use crate::port::meta_kv::{AtomicOp, Commit, Key, KeyRange, Mutation, Version};
use alloc::vec::Vec;
use bytes::Bytes;
use smallvec::SmallVec;
use xxhash_rust::xxh3::xxh3_64_with_seed;

const MAGIC: [u8; 4] = *b"VLOG";
const HEADER: usize = 40;
/// Records begin at multiples of this: a write that is torn by a power cut may ruin every sector it
/// touches, so no two records share one.
const ALIGN: u64 = 4096;
const ZEROS: [u8; ALIGN as usize] = [0; ALIGN as usize];
/// Above every record: a store refuses commits long before.
const RECORD_MAX: u64 = 1 << 30;

const SET: u8 = 1;
const CLEAR: u8 = 2;
const CLEAR_RANGE: u8 = 3;
const ADD: u8 = 4;
const MAX: u8 = 5;
const SET_STAMPED_KEY: u8 = 6;
const SET_STAMPED_VALUE: u8 = 7;

/// A record to be written: see [`write()`].
pub struct LogFlush {
    /// Number of the file.
    pub(super) file: u32,
    /// Where in the file.
    pub(super) offset: u64,
    /// Versions of its first and last commit.
    pub(super) first: Version,
    pub(super) last: Version,
    /// The commits.
    pub(super) body: Bytes,
}

impl LogFlush {
    /// The version of its last commit.
    pub fn last(&self) -> Version {
        self.last
    }

    /// Where the record ends if it has a mark of `mark_len` bytes.
    pub(super) fn end(&self, mark_len: usize) -> u64 {
        self.offset + (HEADER + mark_len + self.body.len()) as u64
    }

    /// Where the next record begins.
    pub(super) fn next(&self, mark_len: usize) -> u64 {
        self.end(mark_len).next_multiple_of(ALIGN)
    }

    /// The record: header, mark of the page store, commits, padding.
    fn encode(&self, mark: &[u8]) -> [Bytes; 3] {
        let mut head = Vec::with_capacity(HEADER + mark.len());
        head.extend_from_slice(&MAGIC);
        head.extend_from_slice(&(mark.len() as u32).to_le_bytes());
        head.extend_from_slice(&(self.body.len() as u64).to_le_bytes());
        head.extend_from_slice(&self.first.0.to_le_bytes());
        head.extend_from_slice(&self.last.0.to_le_bytes());
        let body_sum = xxh3_64_with_seed(&self.body, seed(self.file, self.offset));
        let sum = xxh3_64_with_seed(&[&head, mark].concat(), body_sum);
        head.extend_from_slice(&sum.to_le_bytes());
        head.extend_from_slice(mark);
        // The file never ends within a sector that the next record's write would touch.
        let padding = self.next(mark.len()) - self.end(mark.len());
        [head.into(), self.body.clone(), Bytes::from_static(&ZEROS[..padding as usize])]
    }
}

/// Writes a record and makes it durable. `open` keeps the file between calls; one call at a time.
/// Page bytes that the commits name are durable already; `mark` is what the page store said of them.
pub fn write<M: Medium>(
    medium: &M,
    open: &mut Option<(u32, M::File)>,
    flush: &LogFlush,
    mark: &[u8],
) -> Result<(), MediumError> {
    let pieces = flush.encode(mark);
    match open {
        Some((number, file)) if *number == flush.file => {
            file.write(flush.offset, &pieces)?;
            file.sync()
        }
        _ => {
            *open = None;
            let file = match medium.list()?.contains(&flush.file) {
                true => medium.open(flush.file)?,
                false => medium.create(flush.file)?,
            };
            file.write(flush.offset, &pieces)?;
            file.sync()?;
            if !planted!(UnsyncedLog) {
                medium.sync()?;
            }
            *open = Some((flush.file, file));
            Ok(())
        }
    }
}

/// Removes the files below `first`, whose commits the engine has.
pub fn remove_below<M: Medium>(medium: &M, first: u32) -> Result<(), MediumError> {
    for number in medium.list()?.into_iter().filter(|number| *number < first) {
        medium.remove(number)?;
    }
    Ok(())
}

/// What a log holds beyond the engine.
pub struct Replayed {
    pub(super) layer: Layer,
    pub(super) next_file: u32,
    /// The page store's mark of the last record.
    pub mark: Option<Bytes>,
}

impl Replayed {
    /// The version of the last commit.
    pub fn last(&self) -> Version {
        self.layer.last()
    }
}

/// Why a log cannot be replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplayError {
    /// A call failed.
    Medium(MediumError),
    /// What should be at this place is damaged or missing, and commits that were durable follow it.
    Lost {
        /// Number of the file.
        file: u32,
        /// Byte in the file.
        offset: u64,
    },
}

impl From<MediumError> for ReplayError {
    fn from(error: MediumError) -> ReplayError {
        ReplayError::Medium(error)
    }
}

/// Reads every commit above `durable`, which the engine holds.
///
/// # Errors
/// [`ReplayError::Lost`] when commits in the middle are gone: those before them would be a state that
/// was promised to be over.
pub fn replay<M: Medium>(medium: &M, durable: Version) -> Result<Replayed, ReplayError> {
    let mut numbers = medium.list()?;
    numbers.sort_unstable();
    let next_file = numbers.last().map_or(0, |last| last + 1);
    if planted!(UnreadLog) {
        numbers = numbers.pop().into_iter().collect();
    }
    let mut replayed = Replayed { layer: Layer::new(durable, 0), next_file, mark: None };
    for number in numbers {
        let file = medium.open(number)?;
        let len = file.len()?;
        let mut offset = 0;
        while let Some(record) = read_record(&file, number, offset, len)? {
            if !replayed.take(&record) {
                return Err(ReplayError::Lost { file: number, offset });
            }
            let end = offset + (HEADER + record.mark.len() + record.body.len()) as u64;
            offset = end.next_multiple_of(ALIGN);
        }
        if offset < len {
            probe!("log-tail-cut");
        }
        if goes_on(&file, number, offset, len, replayed.last())? {
            return Err(ReplayError::Lost { file: number, offset });
        }
    }
    Ok(replayed)
}

/// Whether a record with commits above `last` lies behind one that cannot be read.
fn goes_on<F: File>(
    file: &F,
    number: u32,
    bad: u64,
    len: u64,
    last: Version,
) -> Result<bool, MediumError> {
    let mut offset = bad + ALIGN;
    while offset < len {
        if read_record(file, number, offset, len)?.is_some_and(|record| record.last > last) {
            return Ok(true);
        }
        offset += ALIGN;
    }
    Ok(false)
}

struct Record {
    first: Version,
    last: Version,
    mark: Bytes,
    body: Bytes,
}

impl Replayed {
    /// Applies what is new in a record; false if it does not follow or makes no sense.
    fn take(&mut self, record: &Record) -> bool {
        if record.first.0 > self.layer.last().0 + 1 {
            return false;
        }
        let mut input = &record.body[..];
        for version in record.first.0..=record.last.0 {
            let Some(mutations) = decode_commit(&mut input) else { return false };
            if version > self.layer.last().0 {
                let commit = Commit { version: Version(version), batch: 0 };
                self.layer.apply(commit, mutations, &[]);
            }
        }
        if record.last >= self.layer.last() {
            self.mark = Some(record.mark.clone());
        }
        true
    }
}

/// The record at an offset; `None` if there is none, or a torn one.
fn read_record<F: File>(
    file: &F,
    number: u32,
    offset: u64,
    len: u64,
) -> Result<Option<Record>, MediumError> {
    if offset >= len {
        return Ok(None);
    }
    let head = file.read(offset, HEADER)?;
    if head.len() < HEADER || head[0..4] != MAGIC {
        return Ok(None);
    }
    let mark_len = u64::from(u32::from_le_bytes(array(&head, 4)));
    let body_len = u64::from_le_bytes(array(&head, 8));
    let whole = body_len.saturating_add(mark_len).saturating_add(HEADER as u64);
    if body_len > RECORD_MAX || whole > len - offset {
        return Ok(None);
    }
    let mark = file.read(offset + HEADER as u64, mark_len as usize)?;
    let body = file.read(offset + HEADER as u64 + mark_len, body_len as usize)?;
    let body_sum = xxh3_64_with_seed(&body, seed(number, offset));
    let sum = xxh3_64_with_seed(&[&head[..HEADER - 8], &mark].concat(), body_sum);
    if sum != u64::from_le_bytes(array(&head, HEADER - 8)) && !planted!(BelievedRecord) {
        return Ok(None);
    }
    let first = Version(u64::from_le_bytes(array(&head, 16)));
    let last = Version(u64::from_le_bytes(array(&head, 24)));
    Ok(Some(Record { first, last, mark, body }))
}

/// A record fits its place only, so that nothing stale is taken for new.
fn seed(file: u32, offset: u64) -> u64 {
    (u64::from(file) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ offset
}

/// Appends a commit to the body of the next record.
pub(super) fn encode_commit(out: &mut Vec<u8>, mutations: &[Mutation]) {
    put_len(out, mutations.len());
    for mutation in mutations {
        match mutation {
            Mutation::Set { key, value } => put(out, SET, key, value),
            Mutation::Clear { key } => put(out, CLEAR, key, &[]),
            Mutation::ClearRange { range } => put(out, CLEAR_RANGE, &range.begin, &range.end),
            Mutation::Atomic { key, op: AtomicOp::Add, operand } => put(out, ADD, key, operand),
            Mutation::Atomic { key, op: AtomicOp::Max, operand } => put(out, MAX, key, operand),
            Mutation::SetStampedKey { key, stamp_at, value } => {
                put(out, SET_STAMPED_KEY, key, value);
                put_len(out, *stamp_at);
            }
            Mutation::SetStampedValue { key, value, stamp_at } => {
                put(out, SET_STAMPED_VALUE, key, value);
                put_len(out, *stamp_at);
            }
        }
    }
}

fn put(out: &mut Vec<u8>, tag: u8, key: &[u8], value: &[u8]) {
    out.push(tag);
    put_len(out, key.len());
    put_len(out, value.len());
    out.extend_from_slice(key);
    out.extend_from_slice(value);
}

fn put_len(out: &mut Vec<u8>, len: usize) {
    out.extend_from_slice(&(len as u32).to_le_bytes());
}

fn decode_commit(input: &mut &[u8]) -> Option<Vec<Mutation>> {
    let count = take_len(input)?;
    let mut mutations = Vec::new();
    for _ in 0..count {
        mutations.push(decode_mutation(input)?);
    }
    Some(mutations)
}

fn decode_mutation(input: &mut &[u8]) -> Option<Mutation> {
    let tag = take(input, 1)?[0];
    let (key_len, value_len) = (take_len(input)?, take_len(input)?);
    let key = Key::new(take(input, key_len)?);
    let value = take(input, value_len)?;
    let bytes = || Bytes::copy_from_slice(value);
    let atomic = |key, op| Mutation::Atomic { key, op, operand: SmallVec::from_slice(value) };
    Some(match tag {
        SET => Mutation::Set { key, value: bytes() },
        CLEAR => Mutation::Clear { key },
        CLEAR_RANGE => {
            Mutation::ClearRange { range: KeyRange { begin: key, end: Key::new(value) } }
        }
        ADD => atomic(key, AtomicOp::Add),
        MAX => atomic(key, AtomicOp::Max),
        SET_STAMPED_KEY => {
            let stamp_at = take_len(input).filter(|at| at + 10 <= key.len())?;
            Mutation::SetStampedKey { key, stamp_at, value: bytes() }
        }
        SET_STAMPED_VALUE => {
            let stamp_at = take_len(input).filter(|at| at + 10 <= value.len())?;
            Mutation::SetStampedValue { key, value: bytes(), stamp_at }
        }
        _ => return None,
    })
}

fn take_len(input: &mut &[u8]) -> Option<usize> {
    let (len, rest) = input.split_first_chunk()?;
    *input = rest;
    usize::try_from(u32::from_le_bytes(*len)).ok()
}

fn take<'a>(input: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, rest) = input.split_at_checked(len)?;
    *input = rest;
    Some(taken)
}

/// The `N` bytes at `at`, which are there.
fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

#[cfg(test)]
mod tests;
