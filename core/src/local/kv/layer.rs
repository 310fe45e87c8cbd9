//! A layer: what consecutive commits wrote, with every version of every key.
//!
//! A chain is the whole truth of its key: a range clear adds a tombstone to each chain in its range, and a
//! chain that begins under older clears begins with a tombstone. So only keys without a chain ask the
//! clears.

use super::cut::Slot;
use super::engine::Write;
use super::ranges::{RangeVersions, bounds};
use crate::port::meta_kv::{AtomicOp, Commit, Key, KeyRange, Mutation, Value, Version};
use alloc::collections::{BTreeMap, btree_map};
use alloc::vec::Vec;
use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;

/// An atomic operation that waits for the value beneath it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operand {
    /// How.
    pub op: AtomicOp,
    /// With what.
    pub bytes: SmallVec<[u8; 16]>,
}

/// Operands in the order of their commits.
pub(super) type Operands = SmallVec<[Operand; 1]>;

impl Operand {
    /// What operands, applied in order, make of a value.
    pub fn fold(operands: &[Operand], base: Option<&[u8]>) -> Option<Value> {
        let (first, rest) = operands.split_first()?;
        let first = first.op.apply(base, &first.bytes);
        Some(rest.iter().fold(first, |value, next| next.op.apply(Some(&value), &next.bytes)))
    }
}

/// What a commit did to a key.
#[derive(Clone, Debug)]
pub(super) enum Entry {
    Value(Value),
    Tombstone,
    /// All operands of this layer since the key was last untouched.
    Operands(Operands),
}

impl Entry {
    pub(super) fn to_slot(&self) -> Slot {
        match self {
            Entry::Value(value) => Slot::Value(value.clone()),
            Entry::Tombstone => Slot::Absent,
            Entry::Operands(operands) => Slot::Operands(operands.clone()),
        }
    }

    fn len(&self) -> usize {
        match self {
            Entry::Value(value) => value.len(),
            Entry::Tombstone => 0,
            Entry::Operands(operands) => operands.iter().map(|o| 16 + o.bytes.len()).sum(),
        }
    }
}

/// Versions of one key, ascending.
pub(super) type Chain = SmallVec<[(Version, Entry); 1]>;

/// Estimate of what one key costs beyond its bytes.
const KEY_OVERHEAD: usize = 160;
/// Chains shorter than this are not worth a look at what of them is still needed.
const CHAIN_MIN: usize = if cfg!(test) { 2 } else { 8 };

/// What consecutive commits wrote.
pub(super) struct Layer {
    keys: BTreeMap<Key, Chain>,
    clears: RangeVersions,
    /// Written as far as conflicts go, and no further.
    guards: RangeVersions,
    last: Version,
    dirty: bool,
    bytes: usize,
    /// How many commits stay readable behind the newest one.
    window: u64,
    /// Versions below may lack states of keys that have changed since.
    horizon: Version,
}

impl Layer {
    /// An empty layer on top of the state at `after`, in which at least the last `window` commits can be
    /// read.
    pub(super) fn new(after: Version, window: u64) -> Layer {
        Layer {
            keys: BTreeMap::new(),
            clears: RangeVersions::default(),
            guards: RangeVersions::default(),
            last: after,
            dirty: false,
            bytes: 0,
            window,
            horizon: Version(0),
        }
    }

    /// Whether the layer still knows its keys as they were at `version`.
    pub(super) fn reaches_back_to(&self, version: Version) -> bool {
        version >= self.horizon.min(self.last)
    }

    /// The version of the newest commit in it, or of the state below if there is none.
    pub(super) fn last(&self) -> Version {
        self.last
    }

    /// Lifts the version of the layer, at a start.
    pub(super) fn lift(&mut self, version: Version) {
        self.last = self.last.max(version);
    }

    /// Whether it holds a commit.
    pub(super) fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// Roughly the memory it takes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn keys(&self) -> &BTreeMap<Key, Chain> {
        &self.keys
    }

    pub(super) fn clears(&self) -> &RangeVersions {
        &self.clears
    }

    /// Applies a commit. Its version is above all before, and its mutations are within the limits.
    pub(super) fn apply(
        &mut self,
        commit: Commit,
        mutations: Vec<Mutation>,
        write_conflicts: &[KeyRange],
    ) {
        debug_assert!(commit.version > self.last);
        self.last = commit.version;
        self.dirty = true;
        for range in write_conflicts {
            self.bytes += self.guards.add(range, commit.version);
        }
        for mutation in mutations {
            let (key, entry) = match mutation {
                Mutation::ClearRange { range } => {
                    self.clear_range(commit.version, &range);
                    continue;
                }
                Mutation::Set { key, value } => (key, Entry::Value(value)),
                Mutation::Clear { key } => (key, Entry::Tombstone),
                Mutation::Atomic { key, op, operand } => {
                    let entry = self.merged(&key, Operand { op, bytes: operand });
                    (key, entry)
                }
                Mutation::SetStampedKey { mut key, stamp_at, value } => {
                    key.overwrite(stamp_at, &commit.stamp());
                    (key, Entry::Value(value))
                }
                Mutation::SetStampedValue { key, value, stamp_at } => {
                    (key, Entry::Value(stamped(&value, stamp_at, commit)))
                }
            };
            self.put(key, commit.version, entry);
        }
    }

    /// What the layer says about a key as of a version.
    pub(super) fn lookup(&self, key: &[u8], at: Version) -> Slot {
        match self.keys.get(key) {
            Some(chain) => slot(chain, at),
            None if self.clears.newest(key, at).is_some() => Slot::Absent,
            None => Slot::Untouched,
        }
    }

    /// Whether a commit above `version` wrote into a range.
    pub(super) fn written_after(&self, range: &KeyRange, version: Version) -> bool {
        if self.last <= version || range.is_empty() {
            return false;
        }
        let newer = |chain: &Chain| chain.last().is_some_and(|(v, _)| *v > version);
        self.keys.range::<[u8], _>(bounds(range)).any(|(_, chain)| newer(chain))
            || self.clears.written_after(range, version)
            || self.guards.written_after(range, version)
    }

    /// The newest state of each key that has one of its own, ascending.
    pub(super) fn writes(&self) -> impl Iterator<Item = (&Key, Write<'_>)> + '_ {
        self.keys.iter().filter_map(|(key, chain)| {
            let write = match &chain.last()?.1 {
                Entry::Value(value) => Write::Set(value),
                // The range clears come first and take these along.
                Entry::Tombstone if self.clears.newest(key, self.last).is_some() => return None,
                Entry::Tombstone => Write::Clear,
                Entry::Operands(operands) => Write::Merge(operands),
            };
            Some((key, write))
        })
    }

    fn put(&mut self, key: Key, version: Version, entry: Entry) {
        let len = entry.len();
        let mut chain = match self.keys.entry(key) {
            btree_map::Entry::Occupied(chain) => chain,
            btree_map::Entry::Vacant(place) => {
                self.bytes += KEY_OVERHEAD + place.key().len() + len;
                let cleared = self.clears.first(place.key()).filter(|cleared| *cleared < version);
                let mut chain = Chain::new();
                if let Some(cleared) = cleared {
                    self.bytes += size_of::<(Version, Entry)>();
                    chain.push((cleared, Entry::Tombstone));
                }
                chain.push((version, entry));
                place.insert(chain);
                return;
            }
        };
        let chain = chain.get_mut();
        match chain.last_mut() {
            Some((last, old)) if *last == version => {
                self.bytes = self.bytes.saturating_sub(old.len());
                *old = entry;
            }
            _ => {
                let oldest = Version(version.0.saturating_sub(self.window));
                let dropped = prune(chain, oldest);
                if dropped > 0 {
                    self.horizon = oldest;
                    self.bytes = self.bytes.saturating_sub(dropped);
                }
                chain.push((version, entry));
                self.bytes += size_of::<(Version, Entry)>();
            }
        }
        self.bytes += len;
    }

    fn clear_range(&mut self, version: Version, range: &KeyRange) {
        if range.is_empty() {
            return;
        }
        for (_, chain) in self.keys.range_mut::<[u8], _>(bounds(range)) {
            match chain.last_mut() {
                Some((last, entry)) if *last == version => {
                    self.bytes = self.bytes.saturating_sub(entry.len());
                    *entry = Entry::Tombstone;
                }
                Some((_, Entry::Tombstone)) => {}
                _ => {
                    chain.push((version, Entry::Tombstone));
                    self.bytes += size_of::<(Version, Entry)>();
                }
            }
        }
        self.bytes += self.clears.add(range, version);
    }

    /// The entry that an atomic operation makes of the newest state of a key.
    fn merged(&self, key: &Key, operand: Operand) -> Entry {
        match self.lookup(key, self.last) {
            Slot::Value(value) => Entry::Value(operand.op.apply(Some(&value), &operand.bytes)),
            Slot::Absent => Entry::Value(operand.op.apply(None, &operand.bytes)),
            Slot::Untouched => Entry::Operands(SmallVec::from_iter([operand])),
            Slot::Operands(mut operands) => {
                append(&mut operands, operand);
                Entry::Operands(operands)
            }
        }
    }
}

/// What a chain says as of a version. Most reads want the newest state, and the chains of hot keys are
/// long.
pub(super) fn slot(chain: &Chain, at: Version) -> Slot {
    let newest = chain.last().filter(|(version, _)| *version <= at);
    let entry = newest.or_else(|| {
        let n = chain.partition_point(|(version, _)| *version <= at);
        n.checked_sub(1).map(|i| &chain[i])
    });
    entry.map_or(Slot::Untouched, |(_, entry)| entry.to_slot())
}

/// Drops what nobody who reads at `oldest` or later can see, once that is half of a chain. Returns how
/// many bytes that was.
fn prune(chain: &mut Chain, oldest: Version) -> usize {
    if chain.len() < CHAIN_MIN || chain[chain.len() / 2].0 > oldest {
        return 0;
    }
    let dead = chain.partition_point(|(version, _)| *version <= oldest) - 1;
    chain.drain(..dead).map(|(_, entry)| size_of::<(Version, Entry)>() + entry.len()).sum()
}

/// Adds an operand after others; two of the same kind and length become one.
pub(super) fn append(operands: &mut Operands, operand: Operand) {
    match operands.last_mut() {
        Some(last) if last.op == operand.op && last.bytes.len() == operand.bytes.len() => {
            let both = operand.op.apply(Some(&last.bytes), &operand.bytes);
            last.bytes = SmallVec::from_slice(&both);
        }
        _ => operands.push(operand),
    }
}

fn stamped(value: &[u8], stamp_at: usize, commit: Commit) -> Bytes {
    let mut out = BytesMut::from(value);
    out[stamp_at..stamp_at + 10].copy_from_slice(&commit.stamp());
    out.freeze()
}
