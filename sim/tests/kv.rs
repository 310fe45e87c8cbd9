//! The simulated store against a naive one: whole copies of the rows for every version.

use proptest::prelude::*;
use smallvec::SmallVec;
use std::collections::BTreeMap;
use vellum_core::port::meta_kv::{
    AtomicOp, Commit, CommitRequest, Key, KeyRange, KvError, Mutation, Read, ReadRound, Value,
    Values, Version,
};
use vellum_sim::kv::{Durability, Lie, Paging, SimKv};

const ALL: Paging = Paging { rows_max: u32::MAX };
const MILLISECOND: u64 = 1_000_000;

type Rows = BTreeMap<Vec<u8>, Value>;

/// Rows after each commit, and what it wrote.
#[derive(Default)]
struct Naive {
    rows: Rows,
    history: Vec<(Commit, Rows, Vec<KeyRange>)>,
}

impl Naive {
    fn at(&self, version: Version) -> BTreeMap<Vec<u8>, Value> {
        let seen = self.history.iter().rev().find(|(commit, ..)| commit.version <= version);
        seen.map(|(_, rows, _)| rows.clone()).unwrap_or_default()
    }

    fn conflicts(&self, since: Version, ranges: &[KeyRange]) -> bool {
        let newer = self.history.iter().filter(|(commit, ..)| commit.version > since);
        newer
            .flat_map(|(.., writes)| writes)
            .any(|w| ranges.iter().any(|r| r.begin.max_of(&w.begin) < r.end.min_of(&w.end)))
    }

    fn apply(&mut self, commit: Commit, mutations: &[Mutation]) {
        let mut writes = Vec::new();
        for mutation in mutations {
            match mutation {
                Mutation::Set { key, value } => {
                    writes.push(KeyRange::point(key.clone()));
                    self.rows.insert(key.to_vec(), value.clone());
                }
                Mutation::Clear { key } => {
                    writes.push(KeyRange::point(key.clone()));
                    self.rows.remove(&key[..]);
                }
                Mutation::ClearRange { range } => {
                    self.rows.retain(|key, _| !range.contains(key));
                    writes.push(range.clone());
                }
                Mutation::Atomic { key, op, operand } => {
                    writes.push(KeyRange::point(key.clone()));
                    let old = self.rows.get(&key[..]).map(|v| &v[..]);
                    let new = op.apply(old, operand);
                    self.rows.insert(key.to_vec(), new);
                }
                _ => unreachable!("not generated"),
            }
        }
        self.history.push((commit, self.rows.clone(), writes));
    }
}

trait Bounds {
    fn max_of(&self, other: &Key) -> Key;
    fn min_of(&self, other: &Key) -> Key;
}

impl Bounds for Key {
    fn max_of(&self, other: &Key) -> Key {
        if self > other { self.clone() } else { other.clone() }
    }
    fn min_of(&self, other: &Key) -> Key {
        if self < other { self.clone() } else { other.clone() }
    }
}

fn key(n: u8) -> Key {
    Key::new(&[b'k', n % 12])
}

fn mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        (any::<u8>(), any::<u8>())
            .prop_map(|(k, v)| Mutation::Set { key: key(k), value: vec![v].into() }),
        any::<u8>().prop_map(|k| Mutation::Clear { key: key(k) }),
        (any::<u8>(), any::<u8>()).prop_map(|(a, b)| Mutation::ClearRange { range: range(a, b) }),
        (any::<u8>(), any::<bool>(), any::<u8>()).prop_map(|(k, add, v)| Mutation::Atomic {
            key: key(k),
            op: if add { AtomicOp::Add } else { AtomicOp::Max },
            operand: SmallVec::from_slice(&[v, 0]),
        }),
    ]
}

fn range(a: u8, b: u8) -> KeyRange {
    let (a, b) = (key(a), key(b));
    if a < b { KeyRange { begin: a, end: b } } else { KeyRange { begin: b, end: a } }
}

/// A transaction: how many commits ago it read, what it relied on, what it writes.
fn transaction() -> impl Strategy<Value = (usize, Vec<KeyRange>, Vec<Mutation>)> {
    let relied = (any::<u8>(), any::<u8>()).prop_map(|(a, b)| range(a, b));
    (0..6usize, prop::collection::vec(relied, 0..3), prop::collection::vec(mutation(), 1..5))
}

proptest! {
    #[test]
    fn agrees_with_whole_copies_of_every_version(steps in prop::collection::vec(transaction(), 1..60)) {
        let mut kv = SimKv::new(Durability::AtOnce);
        let mut naive = Naive::default();
        let mut versions = vec![kv.grant(0)];
        for (index, (ago, relied, mutations)) in steps.into_iter().enumerate() {
            let time = index as u64 * MILLISECOND;
            let read_version = versions[versions.len().saturating_sub(1 + ago)];
            let expect_conflict = naive.conflicts(read_version, &relied);
            let request = CommitRequest {
                read_version: Some(read_version),
                read_conflicts: relied,
                write_conflicts: Vec::new(),
                mutations: mutations.clone(),
            };
            match kv.commit(time, &request, index % 3 == 0) {
                Ok(commit) => {
                    prop_assert!(!expect_conflict);
                    naive.apply(commit, &mutations);
                    versions.push(commit.version);
                }
                Err(error) => {
                    prop_assert_eq!(error, KvError::Conflict);
                    prop_assert!(expect_conflict);
                }
            }
            if index % 4 == 0 {
                versions.push(kv.grant(time));
            }
            let whole = Read::Range { range: KeyRange::prefix(Key::new(b"k")), limit: 1000, reverse: false };
            for version in versions.iter().rev().take(4) {
                let round = ReadRound { at: Some(*version), reads: vec![whole.clone()] };
                let values = kv.read(time, *version, &round, ALL).expect("inside the window");
                let Values::Rows { rows, more } = &values[0] else { panic!("a range was asked for") };
                prop_assert!(!more);
                let rows: BTreeMap<Vec<u8>, Value> = rows.iter().map(|(k, v)| (k.to_vec(), v.clone())).collect();
                prop_assert_eq!(rows, naive.at(*version));
            }
        }
    }

    #[test]
    fn a_crash_keeps_exactly_a_prefix(
        steps in prop::collection::vec(transaction(), 1..40),
        synced in 0..40usize,
        kept in 0..40usize,
    ) {
        let mut kv = SimKv::new(Durability::AtSync);
        let mut naive = Naive::default();
        for (index, (_, _, mutations)) in steps.into_iter().enumerate() {
            let request = CommitRequest { mutations: mutations.clone(), ..CommitRequest::default() };
            let commit = kv.commit(index as u64 * MILLISECOND, &request, false).expect("blind");
            naive.apply(commit, &mutations);
            if index == synced {
                kv.sync();
            }
        }
        let at_risk = kv.unsynced();
        let cut = at_risk.get(kept).copied().unwrap_or_else(|| kv.durable());
        kv.crash(cut);
        let rows: BTreeMap<Vec<u8>, Value> = kv.rows().map(|(k, v)| (k.to_vec(), v.clone())).collect();
        prop_assert_eq!(rows, naive.at(cut.version));
    }
}

#[test]
fn a_version_that_was_read_never_changes() {
    let mut kv = SimKv::new(Durability::AtOnce);
    let set = |n: u8| CommitRequest {
        mutations: vec![Mutation::Set { key: key(n), value: vec![n].into() }],
        ..CommitRequest::default()
    };
    kv.commit(0, &set(1), true).expect("blind");
    let version = kv.grant(0);
    let commit = kv.commit(0, &set(2), true).expect("blind");
    assert!(commit.version > version);
}

#[test]
fn a_version_outside_of_the_window_is_too_old() {
    let mut kv = SimKv::new(Durability::AtOnce);
    let version = kv.grant(0);
    let round = ReadRound { at: Some(version), reads: vec![Read::Get(key(1))] };
    assert!(kv.read(4_000_000_000, version, &round, ALL).is_ok());
    assert_eq!(kv.read(6_000_000_000, version, &round, ALL), Err(KvError::TooOld));
    let request = CommitRequest { read_version: Some(version), ..CommitRequest::default() };
    assert_eq!(kv.commit(6_000_000_000, &request, false), Err(KvError::TooOld));
}

#[test]
fn what_is_above_the_limits_is_refused() {
    let mut kv = SimKv::new(Durability::AtOnce);
    let value: Value = vec![0; 100_001].into();
    let request = CommitRequest {
        mutations: vec![Mutation::Set { key: key(1), value }],
        ..CommitRequest::default()
    };
    assert_eq!(kv.commit(0, &request, false), Err(KvError::TooLarge));
}

#[test]
fn stamps_order_like_commits() {
    let mut kv = SimKv::new(Durability::AtOnce);
    for n in 0..20 {
        let mut stamped = Key::new(b"log/");
        stamped.push(&[0; 10]);
        let mutation = Mutation::SetStampedKey { key: stamped, stamp_at: 4, value: vec![n].into() };
        let request = CommitRequest { mutations: vec![mutation], ..CommitRequest::default() };
        kv.commit(0, &request, true).expect("blind");
    }
    let order: Vec<u8> = kv.rows().map(|(_, v)| v[0]).collect();
    assert_eq!(order, (0..20).collect::<Vec<u8>>());
}

#[test]
fn a_store_that_lies_does_what_it_says_it_does() {
    let mut kv = SimKv::new(Durability::AtSync);
    kv.lie(Lie::NoSync);
    let mutations = vec![Mutation::Clear { key: key(1) }];
    kv.commit(0, &CommitRequest { mutations, ..CommitRequest::default() }, false).expect("blind");
    kv.sync();
    assert_eq!(kv.unsynced().len(), 1);
}
