//! A simulated FoundationDB: multi-version rows, optimistic conflicts, versionstamps, atomics, limits.
//!
//! Owns: the truth about what was committed. Never does: faults and latencies (that is `link.rs`),
//! randomness of its own.
//!
//! Invariants: commits are ordered by `(version, batch)`; a read at a version sees exactly the commits at
//! or below it, for ever, because no commit gets a version that was granted to a reader before.
//! Tests: `tests/kv.rs` against a naive reference.

use bytes::Bytes;
use smallvec::SmallVec;
use std::collections::{BTreeMap, VecDeque};
use vellum_core::limits::KEY_MAX;
use vellum_core::port::meta_kv::{
    Commit, CommitRequest, Key, KeyRange, KvError, Mutation, Read, ReadRound, Value, Values,
    Version,
};

use crate::invariants::transactions::too_large;

/// Versions that pass in a second.
pub const VERSIONS_PER_SECOND: u64 = 1_000_000;
/// How long a version can be read and committed against, in versions.
pub const WINDOW: u64 = 5 * VERSIONS_PER_SECOND;
/// Bytes of rows after which a range reply stops.
const REPLY_BYTES: usize = 80_000;

/// When a commit survives a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// As soon as it is applied.
    AtOnce,
    /// Once a sync covers it; a crash keeps a prefix.
    AtSync,
}

/// How a store breaks its word, for tests of the judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// Commits never conflict.
    NoConflicts,
    /// A sync is answered and nothing was made durable.
    NoSync,
    /// Reads answer what is newest, whatever version was asked for.
    NewestReads,
}

/// How ranges are cut short, to provoke `more`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paging {
    /// At most so many rows in a reply whatever was asked for; `u32::MAX` to leave it.
    pub rows_max: u32,
}

/// The store.
#[derive(Clone, Debug)]
pub struct SimKv {
    durability: Durability,
    lie: Option<Lie>,
    rows: BTreeMap<Key, Chain>,
    /// Commits of the window, oldest first, with what they wrote.
    log: VecDeque<Logged>,
    last: Commit,
    granted: Version,
    /// Added to the clock, so that a recovery can jump.
    offset: u64,
    durable: Commit,
}

/// The versions of one key, oldest first; `None` is a removal.
type Chain = SmallVec<[(Commit, Option<Value>); 2]>;

#[derive(Clone, Debug)]
struct Logged {
    commit: Commit,
    writes: Vec<KeyRange>,
    keys: Vec<Key>,
}

impl SimKv {
    /// An empty store.
    pub fn new(durability: Durability) -> SimKv {
        SimKv {
            durability,
            lie: None,
            rows: BTreeMap::new(),
            log: VecDeque::new(),
            last: Commit::default(),
            granted: Version(0),
            offset: 1_000,
            durable: Commit::default(),
        }
    }

    /// From now on it lies.
    pub fn lie(&mut self, lie: Lie) {
        self.lie = Some(lie);
    }

    /// The newest commit.
    pub fn last(&self) -> Commit {
        self.last
    }

    /// Everything up to here survives a crash.
    pub fn durable(&self) -> Commit {
        match self.durability {
            Durability::AtOnce => self.last,
            Durability::AtSync => self.durable,
        }
    }

    /// A version to read at: it has every commit applied so far.
    pub fn grant(&mut self, time_ns: u64) -> Version {
        let version = self.version_at(time_ns).max(self.last.version);
        self.granted = self.granted.max(version);
        version
    }

    /// Reads at a version.
    ///
    /// # Errors
    /// `TooOld`, `NotYet`, and `TooLarge` for keys above the limit.
    pub fn read(
        &mut self,
        time_ns: u64,
        version: Version,
        round: &ReadRound,
        paging: Paging,
    ) -> Result<Vec<Values>, KvError> {
        if version.0 + WINDOW < self.version_at(time_ns).max(self.last.version).0 {
            return Err(KvError::TooOld);
        }
        if version > self.granted.max(self.last.version) {
            return Err(KvError::NotYet);
        }
        self.granted = self.granted.max(version);
        let lies = self.lie == Some(Lie::NewestReads);
        let version = if lies { Version(u64::MAX) } else { version };
        round.reads.iter().map(|read| self.read_one(version, read, paging)).collect()
    }

    /// Applies a write set if nothing it relied on was written meanwhile.
    ///
    /// # Errors
    /// `Conflict`, `TooOld`, `NotYet`, `TooLarge`; nothing was changed then.
    pub fn commit(
        &mut self,
        time_ns: u64,
        request: &CommitRequest,
        share_version: bool,
    ) -> Result<Commit, KvError> {
        if too_large(request).is_some() {
            return Err(KvError::TooLarge);
        }
        if let Some(read_version) = request.read_version {
            if read_version.0 + WINDOW < self.version_at(time_ns).max(self.last.version).0 {
                return Err(KvError::TooOld);
            }
            if read_version > self.granted.max(self.last.version) {
                return Err(KvError::NotYet);
            }
            if self.has_conflict(read_version, &request.read_conflicts) {
                return Err(KvError::Conflict);
            }
        } else if !request.read_conflicts.is_empty() {
            // Nothing could be checked: FoundationDB takes a fresh read version at commit here.
            return Err(KvError::Fatal(2000));
        }
        let commit = self.next_commit(time_ns, share_version);
        let mut keys = Vec::new();
        let mut writes = request.write_conflicts.clone();
        for mutation in &request.mutations {
            self.apply(commit, mutation, &mut keys, &mut writes);
        }
        self.log.push_back(Logged { commit, writes, keys });
        self.last = commit;
        self.prune(time_ns);
        Ok(commit)
    }

    /// Makes everything applied durable and says up to which version.
    pub fn sync(&mut self) -> Version {
        if self.lie != Some(Lie::NoSync) {
            self.durable = self.last;
        }
        // What was said to be durable is all that this version will ever have.
        self.granted = self.granted.max(self.last.version);
        self.last.version
    }

    /// The commits that a crash may lose, oldest first.
    pub fn unsynced(&self) -> Vec<Commit> {
        let durable = self.durable();
        self.log.iter().map(|l| l.commit).filter(|c| *c > durable).collect()
    }

    /// Power cut: every commit after `cut` is lost.
    pub fn crash(&mut self, cut: Commit) {
        assert!(cut >= self.durable(), "a durable commit cannot be lost");
        while self.log.back().is_some_and(|l| l.commit > cut) {
            let lost = self.log.pop_back().expect("just looked at");
            for key in &lost.keys {
                if let Some(chain) = self.rows.get_mut(key) {
                    chain.retain(|(at, _)| *at <= cut);
                    if chain.is_empty() {
                        self.rows.remove(key);
                    }
                }
            }
        }
        // Versions of lost commits are not used again: the next one is above all that were granted.
        self.granted = self.granted.max(self.last.version);
        self.last = cut;
        self.durable = cut;
    }

    /// A recovery of the cluster: versions jump, so that every older read version is too old.
    pub fn recover(&mut self, time_ns: u64) {
        self.offset += 100_000_000;
        self.granted = self.version_at(time_ns);
    }

    /// The newest row of every key, for checkers that read the raw store.
    pub fn rows(&self) -> impl Iterator<Item = (&Key, &Value)> {
        self.rows.iter().filter_map(|(key, chain)| {
            chain.last().and_then(|(_, value)| value.as_ref()).map(|value| (key, value))
        })
    }

    fn version_at(&self, time_ns: u64) -> Version {
        Version(self.offset + time_ns / (1_000_000_000 / VERSIONS_PER_SECOND))
    }

    fn next_commit(&self, time_ns: u64, share_version: bool) -> Commit {
        let shared = self.last.version > self.granted && self.last.batch < u16::MAX;
        if share_version && shared {
            return Commit { version: self.last.version, batch: self.last.batch + 1 };
        }
        let floor = self.last.version.max(self.granted).0 + 1;
        Commit { version: Version(floor.max(self.version_at(time_ns).0)), batch: 0 }
    }

    fn has_conflict(&self, read_version: Version, ranges: &[KeyRange]) -> bool {
        if self.lie == Some(Lie::NoConflicts) {
            return false;
        }
        let newer = self.log.iter().rev().take_while(|l| l.commit.version > read_version);
        newer
            .flat_map(|l| &l.writes)
            .any(|w| ranges.iter().any(|r| !r.is_empty() && w.begin < r.end && r.begin < w.end))
    }

    fn read_one(&self, version: Version, read: &Read, paging: Paging) -> Result<Values, KvError> {
        match read {
            Read::Get(key) if key.len() > KEY_MAX => Err(KvError::TooLarge),
            Read::Get(key) => {
                Ok(Values::One(self.rows.get(key).and_then(|c| seen(c, version)).cloned()))
            }
            Read::Range { range, limit, reverse } => {
                if range.is_empty() {
                    return Ok(Values::Rows { rows: Vec::new(), more: false });
                }
                let rows = self.rows.range(range.begin.clone()..range.end.clone());
                let visible = |(key, chain): (&Key, &Chain)| {
                    seen(chain, version).map(|v| (key.clone(), v.clone()))
                };
                let limit = (*limit).min(paging.rows_max) as usize;
                Ok(if *reverse {
                    page(rows.rev().filter_map(visible), limit)
                } else {
                    page(rows.filter_map(visible), limit)
                })
            }
        }
    }

    fn apply(
        &mut self,
        commit: Commit,
        mutation: &Mutation,
        keys: &mut Vec<Key>,
        writes: &mut Vec<KeyRange>,
    ) {
        let mut put = |store: &mut SimKv, key: Key, value: Option<Value>| {
            writes.push(KeyRange::point(key.clone()));
            keys.push(key.clone());
            store.put(commit, key, value);
        };
        match mutation {
            Mutation::Set { key, value } => put(self, key.clone(), Some(value.clone())),
            Mutation::Clear { key } => put(self, key.clone(), None),
            Mutation::ClearRange { range } => {
                if range.is_empty() {
                    return;
                }
                let rows = self.rows.range(range.begin.clone()..range.end.clone());
                let live: Vec<Key> =
                    rows.filter(|(_, c)| newest(c).is_some()).map(|(k, _)| k.clone()).collect();
                for key in live {
                    keys.push(key.clone());
                    self.put(commit, key, None);
                }
                writes.push(range.clone());
            }
            Mutation::Atomic { key, op, operand } => {
                let old = self.rows.get(key).and_then(newest);
                let value = op.apply(old.map(|v| &v[..]), operand);
                put(self, key.clone(), Some(value));
            }
            Mutation::SetStampedKey { key, stamp_at, value } => {
                let mut key = key.clone();
                key.overwrite(*stamp_at, &commit.stamp());
                put(self, key, Some(value.clone()));
            }
            Mutation::SetStampedValue { key, value, stamp_at } => {
                let mut stamped = value.to_vec();
                stamped[*stamp_at..*stamp_at + 10].copy_from_slice(&commit.stamp());
                put(self, key.clone(), Some(Bytes::from(stamped)));
            }
        }
    }

    fn put(&mut self, commit: Commit, key: Key, value: Option<Value>) {
        let chain = self.rows.entry(key).or_default();
        match chain.last_mut() {
            Some((at, newest)) if *at == commit => *newest = value,
            _ => chain.push((commit, value)),
        }
    }

    /// Drops versions that nobody can read any more, and never what a crash could go back to.
    fn prune(&mut self, time_ns: u64) {
        let newest = self.version_at(time_ns).max(self.last.version).0;
        let horizon = Version(newest.saturating_sub(WINDOW)).min(self.durable().version);
        while self.log.front().is_some_and(|l| l.commit.version < horizon) {
            let old = self.log.pop_front().expect("just looked at");
            for key in &old.keys {
                let Some(chain) = self.rows.get_mut(key) else { continue };
                let keep = chain.iter().rposition(|(at, _)| at.version <= horizon).unwrap_or(0);
                chain.drain(..keep);
                if chain.len() == 1 && chain[0].1.is_none() {
                    self.rows.remove(key);
                }
            }
        }
    }
}

fn newest(chain: &Chain) -> Option<&Value> {
    chain.last().and_then(|(_, value)| value.as_ref())
}

fn seen(chain: &Chain, version: Version) -> Option<&Value> {
    chain.iter().rev().find(|(at, _)| at.version <= version).and_then(|(_, value)| value.as_ref())
}

fn page(rows: impl Iterator<Item = (Key, Value)>, limit: usize) -> Values {
    let mut out = Vec::new();
    let mut bytes = 0;
    let mut more = false;
    for (key, value) in rows {
        if out.len() >= limit.max(1) || bytes >= REPLY_BYTES {
            more = true;
            break;
        }
        bytes += key.len() + value.len();
        out.push((key, value));
    }
    Values::Rows { rows: out, more }
}
