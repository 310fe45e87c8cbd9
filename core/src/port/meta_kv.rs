//! The metadata store: FoundationDB's model as plain data, stateless from request to request.
//!
//! Ordered keys, serializable optimistic transactions. A transaction is any number of
//! [`ReadRound`]s at one version and at most one [`CommitRequest`]; the store keeps nothing between them.
//! Reads never conflict by themselves: the commit names the ranges it relied on.
//! Order of two commits: `(version, batch)`.
//!
//! Source: FoundationDB's developer guide (limits, error codes, atomic operations).

use alloc::boxed::Box;
use alloc::vec::Vec;
use bytes::Bytes;
use core::fmt;
use core::ops::Deref;
use smallvec::SmallVec;

/// An ordered key. Short ones live inline.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(SmallVec<[u8; 40]>);

impl Key {
    /// Copies bytes into a key.
    pub fn new(bytes: &[u8]) -> Key {
        Key(SmallVec::from_slice(bytes))
    }

    /// Appends bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// Overwrites bytes in place, as a versionstamp does at commit.
    ///
    /// # Panics
    /// When `at + bytes.len()` lies beyond the key.
    pub fn overwrite(&mut self, at: usize, bytes: &[u8]) {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// The smallest key above this one: the key followed by a zero byte.
    pub fn successor(&self) -> Key {
        let mut next = self.clone();
        next.push(&[0]);
        next
    }
}

impl Deref for Key {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for Key {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl core::borrow::Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl From<&[u8]> for Key {
    fn from(bytes: &[u8]) -> Key {
        Key::new(bytes)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for b in self.0.iter() {
            if b.is_ascii_graphic() {
                write!(f, "{}", *b as char)?
            } else {
                write!(f, "\\{b:02x}")?
            }
        }
        Ok(())
    }
}

/// A stored value, by handle.
pub type Value = Bytes;

/// The half-open range `begin..end`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    /// First key inside.
    pub begin: Key,
    /// First key outside.
    pub end: Key,
}

impl KeyRange {
    /// Exactly one key.
    pub fn point(key: Key) -> KeyRange {
        let end = key.successor();
        KeyRange { begin: key, end }
    }

    /// All keys that start with `prefix`. `prefix` must not be all 0xff.
    pub fn prefix(prefix: Key) -> KeyRange {
        let mut end: SmallVec<[u8; 40]> = prefix.0.clone();
        while let Some(last) = end.pop() {
            if last < 0xff {
                end.push(last + 1);
                break;
            }
        }
        KeyRange { begin: prefix, end: Key(end) }
    }

    /// Whether `key` lies inside.
    pub fn contains(&self, key: &[u8]) -> bool {
        key >= &*self.begin && key < &*self.end
    }

    /// Whether no key lies inside.
    pub fn is_empty(&self) -> bool {
        self.begin >= self.end
    }
}

/// A database version. Grows with every commit; it is no clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u64);

/// The place of a commit in the total order of commits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Commit {
    /// The version it was given.
    pub version: Version,
    /// Its order among the commits of that version.
    pub batch: u16,
}

impl Commit {
    /// The 10-byte versionstamp: version and batch, big-endian, so that stamps order like commits.
    pub fn stamp(self) -> Stamp {
        let mut stamp = [0; 10];
        stamp[..8].copy_from_slice(&self.version.0.to_be_bytes());
        stamp[8..].copy_from_slice(&self.batch.to_be_bytes());
        stamp
    }

    /// The inverse of [`Commit::stamp`].
    pub fn from_stamp(stamp: Stamp) -> Commit {
        let (version, batch) = stamp.split_at(8);
        Commit {
            version: Version(version.iter().fold(0, |acc, b| acc << 8 | u64::from(*b))),
            batch: batch.iter().fold(0, |acc, b| acc << 8 | u16::from(*b)),
        }
    }
}

/// What a commit stamps into keys and values.
pub type Stamp = [u8; 10];

/// What is asked of the store.
#[derive(Debug)]
pub enum KvRequest {
    /// Read several things at one version, in parallel. Answered by [`KvReply::Values`].
    Read(ReadRound),
    /// Apply a write set atomically. Answered by [`KvReply::Committed`].
    Commit(Box<CommitRequest>),
    /// Make every commit up to a version durable. Answered by [`KvReply::Durable`].
    Sync {
        /// Commits at or below it must survive a power cut when this is answered.
        up_to: Version,
    },
}

/// Reads that go out together.
#[derive(Clone, Debug)]
pub struct ReadRound {
    /// The version to read at. `None` asks for a fresh one, at least as new as every commit
    /// acknowledged before the request.
    pub at: Option<Version>,
    /// The reads; the reply has one answer each, in this order.
    pub reads: Vec<Read>,
}

/// One read of a round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// The value of one key. Answered by [`Values::One`].
    Get(Key),
    /// Rows of a range. Answered by [`Values::Rows`].
    Range {
        /// Where.
        range: KeyRange,
        /// At most so many rows; a store may return fewer and say `more`.
        limit: u32,
        /// From the end of the range downwards.
        reverse: bool,
    },
}

/// The answer to one [`Read`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Values {
    /// Of [`Read::Get`].
    One(Option<Value>),
    /// Of [`Read::Range`].
    Rows {
        /// Rows in the order asked for.
        rows: Vec<(Key, Value)>,
        /// Whether rows beyond the last one may exist in the range. Never set with zero rows.
        more: bool,
    },
}

/// A write set and what it relied on.
#[derive(Clone, Debug, Default)]
pub struct CommitRequest {
    /// The version its reads saw; `None` for a blind write set without read conflicts.
    pub read_version: Option<Version>,
    /// A write to one of these after `read_version` makes the commit fail with [`KvError::Conflict`].
    pub read_conflicts: Vec<KeyRange>,
    /// Counted as written for the conflict checks of others, beyond the keys of `mutations`.
    pub write_conflicts: Vec<KeyRange>,
    /// Applied in order.
    pub mutations: Vec<Mutation>,
}

/// One change of a write set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// key := value.
    Set {
        /// Where.
        key: Key,
        /// What.
        value: Value,
    },
    /// Removes a key.
    Clear {
        /// Which.
        key: Key,
    },
    /// Removes every key of a range.
    ClearRange {
        /// Which.
        range: KeyRange,
    },
    /// key := op(old, operand); never conflicts by itself.
    Atomic {
        /// Where.
        key: Key,
        /// How.
        op: AtomicOp,
        /// With what; little-endian.
        operand: SmallVec<[u8; 16]>,
    },
    /// Sets a key of which the 10 bytes at `stamp_at` are replaced by the commit's stamp.
    SetStampedKey {
        /// The key with room for the stamp.
        key: Key,
        /// Offset of the stamp in the key.
        stamp_at: usize,
        /// The value.
        value: Value,
    },
    /// Sets a value of which the 10 bytes at `stamp_at` are replaced by the commit's stamp.
    SetStampedValue {
        /// The key.
        key: Key,
        /// The value with room for the stamp.
        value: Value,
        /// Offset of the stamp in the value.
        stamp_at: usize,
    },
}

/// Atomic read-modify-write operations, as FoundationDB defines them.
///
/// The old value is cut or zero-extended to the operand's length; an absent one counts as zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AtomicOp {
    /// Little-endian addition, wrapping.
    Add,
    /// The larger of two little-endian unsigned integers.
    Max,
}

impl AtomicOp {
    /// The new value.
    pub fn apply(self, old: Option<&[u8]>, operand: &[u8]) -> Value {
        let mut out: SmallVec<[u8; 16]> = SmallVec::from_elem(0, operand.len());
        if let Some(old) = old {
            let n = old.len().min(operand.len());
            out[..n].copy_from_slice(&old[..n]);
        }
        match self {
            AtomicOp::Add => {
                let mut carry = 0u16;
                for (o, a) in out.iter_mut().zip(operand) {
                    let sum = u16::from(*o) + u16::from(*a) + carry;
                    *o = sum as u8;
                    carry = sum >> 8;
                }
            }
            AtomicOp::Max => {
                if old.is_none() || out.iter().rev().lt(operand.iter().rev()) {
                    out.copy_from_slice(operand);
                }
            }
        }
        Bytes::copy_from_slice(&out)
    }
}

/// What the store answers.
#[derive(Debug)]
pub enum KvReply {
    /// To [`KvRequest::Read`].
    Values {
        /// The version read at.
        version: Version,
        /// One answer per read.
        values: Vec<Values>,
    },
    /// To [`KvRequest::Commit`].
    Committed(Commit),
    /// To [`KvRequest::Sync`]: everything up to this version is durable.
    Durable(Version),
}

/// Why the store did not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvError {
    /// Something the commit relied on was written meanwhile. Not committed; try again. (1020)
    Conflict,
    /// The commit may have happened. It is no longer in flight, unless `may_still_land`. (1021; 1031, 1039)
    CommitUnknown {
        /// The commit could still take effect later.
        may_still_land: bool,
    },
    /// The read version left the store's window. Try again at a new one. (1007)
    TooOld,
    /// The read version is ahead of the store. Try again. (1009, 1037)
    NotYet,
    /// The store asks to slow down. Try again later. (1042, 1051, 1213)
    Throttled,
    /// The store does not answer now. Try again later; not committed.
    Unavailable,
    /// A key, value or transaction above the limits. A bug of the caller. (2101-2103)
    TooLarge,
    /// The store's disk is full; not committed.
    NoSpace,
    /// The store's own bytes are damaged.
    Corrupt,
    /// The store failed for good with this code of its own.
    Fatal(i32),
}

/// What a store promises beyond the common ground.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvTraits {
    /// A commit's outcome may be unknown, so mutations carry the session's slot ledger.
    pub may_be_unknown: bool,
    /// No other mount can reach the store while this one has it.
    pub sole: bool,
    /// The most bytes of log data worth putting into one value.
    pub value_bytes_max: u32,
}
