//! The overlay over a naive engine, against a naive multi-version map.

extern crate std;

use super::log::ReplayError;
use super::*;
use crate::limits::{KEY_MAX, TRANSACTION_MAX, VALUE_MAX};
use crate::local::Shared;
use crate::local::medium::{File, Medium, MediumError};
use crate::port::meta_kv::{
    AtomicOp, Commit, CommitRequest, Key, KeyRange, KvError, Mutation, Read, ReadRound, Value,
    Values, Version,
};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use alloc::{format, vec};
use bytes::Bytes;
use core::cell::{Cell, RefCell};
use core::ops::ControlFlow;
use proptest::prelude::*;
use smallvec::SmallVec;
use std::rc::Rc;

type Rows = BTreeMap<Key, Value>;

/// Commits that stay readable.
const WINDOW: u64 = 3;

/// An engine that is a map.
#[derive(Default)]
struct MapEngine {
    rows: RefCell<Rc<Rows>>,
    version: Cell<Version>,
    full: Cell<bool>,
}

#[derive(Clone)]
struct MapSnapshot(Rc<Rows>);

impl Engine for MapEngine {
    type Snapshot = MapSnapshot;

    fn apply(&self, batch: &Batch) -> Result<MapSnapshot, EngineError> {
        if self.full.get() {
            return Err(EngineError::NoSpace);
        }
        let mut rows = (**self.rows.borrow()).clone();
        for range in batch.clears() {
            rows.retain(|key, _| !range.contains(key));
        }
        let mut before: Option<Key> = None;
        for (key, write) in batch.writes() {
            assert!(before.is_none_or(|before| before < *key), "one write per key, ascending");
            before = Some(key.clone());
            match write {
                Write::Set(value) => drop(rows.insert(key.clone(), value.clone())),
                Write::Clear => drop(rows.remove(key)),
                Write::Merge(operands) => {
                    let new = Operand::fold(operands, rows.get(key).map(|v| &v[..]));
                    rows.insert(key.clone(), new.expect("operands"));
                }
            }
        }
        *self.rows.borrow_mut() = Rc::new(rows);
        self.version.set(batch.version());
        Ok(MapSnapshot(self.rows.borrow().clone()))
    }
}

impl Snapshot for MapSnapshot {
    fn get(&self, key: &[u8]) -> Result<Option<Value>, EngineError> {
        Ok(self.0.get(key).cloned())
    }

    fn scan(
        &self,
        range: &KeyRange,
        reverse: bool,
        visit: &mut Visit<'_>,
    ) -> Result<(), EngineError> {
        assert!(!range.is_empty(), "the engine is asked for empty ranges");
        let mut rows = self.0.range(range.begin.clone()..range.end.clone());
        while let Some((key, value)) = if reverse { rows.next_back() } else { rows.next() } {
            if let ControlFlow::Break(()) = visit(key, value) {
                break;
            }
        }
        Ok(())
    }
}

/// Files whose content survives.
#[derive(Clone, Default)]
struct MemoryMedium(Rc<RefCell<BTreeMap<u32, MemoryFile>>>);

#[derive(Clone, Default)]
struct MemoryFile(Rc<RefCell<Vec<u8>>>);

impl Medium for MemoryMedium {
    type File = MemoryFile;

    fn list(&self) -> Result<Vec<u32>, MediumError> {
        Ok(self.0.borrow().keys().copied().collect())
    }
    fn create(&self, number: u32) -> Result<MemoryFile, MediumError> {
        let file = MemoryFile::default();
        assert!(self.0.borrow_mut().insert(number, file.clone()).is_none());
        Ok(file)
    }
    fn open(&self, number: u32) -> Result<MemoryFile, MediumError> {
        Ok(self.0.borrow()[&number].clone())
    }
    fn remove(&self, number: u32) -> Result<(), MediumError> {
        self.0.borrow_mut().remove(&number).map(drop).ok_or(MediumError::Io)
    }
    fn sync(&self) -> Result<(), MediumError> {
        Ok(())
    }
}

impl File for MemoryFile {
    fn len(&self) -> Result<u64, MediumError> {
        Ok(self.0.borrow().len() as u64)
    }
    fn read(&self, offset: u64, len: usize) -> Result<Bytes, MediumError> {
        let bytes = self.0.borrow();
        let begin = (offset as usize).min(bytes.len());
        Ok(Bytes::copy_from_slice(&bytes[begin..(begin + len).min(bytes.len())]))
    }
    fn write(&self, offset: u64, pieces: &[Bytes]) -> Result<(), MediumError> {
        let mut bytes = self.0.borrow_mut();
        bytes.resize(offset as usize, 0);
        pieces.iter().for_each(|piece| bytes.extend_from_slice(piece));
        Ok(())
    }
    fn sync(&self) -> Result<(), MediumError> {
        Ok(())
    }
    fn punch(&self, _: u64, _: u64) -> Result<(), MediumError> {
        Ok(())
    }
    fn truncate(&self, len: u64) -> Result<(), MediumError> {
        self.0.borrow_mut().truncate(len as usize);
        Ok(())
    }
}

struct World {
    engine: MapEngine,
    store: RefCell<Store<MapSnapshot>>,
    flush: Option<Flush>,
    logs: MemoryMedium,
    log_file: Option<(u32, MemoryFile)>,
    log_flush: Option<log::LogFlush>,
    /// State after each version since the start, and what the commit wrote.
    states: Vec<(Rows, Vec<KeyRange>)>,
    first: Version,
}

impl Shared<Store<MapSnapshot>> for World {
    fn with<R>(&self, look: impl FnOnce(&Store<MapSnapshot>) -> R) -> R {
        look(&self.store.borrow())
    }
    fn with_mut<R>(&self, change: impl FnOnce(&mut Store<MapSnapshot>) -> R) -> R {
        change(&mut self.store.borrow_mut())
    }
}

#[derive(Clone, Debug)]
enum Op {
    Commit {
        back: Option<usize>,
        reads: Vec<KeyRange>,
        writes: Vec<KeyRange>,
        mutations: Vec<Mutation>,
    },
    BeginFlush,
    FinishFlush {
        full: bool,
    },
    BeginLog,
    FinishLog {
        full: bool,
    },
    Restart {
        torn: bool,
    },
    Get {
        back: usize,
        key: Key,
    },
    Range {
        back: usize,
        range: KeyRange,
        limit: u32,
        reverse: bool,
    },
}

impl World {
    fn new(generations: usize) -> World {
        let engine = MapEngine::default();
        let logs = MemoryMedium::default();
        let (store, first) = started(&engine, &logs, generations);
        World {
            engine,
            store: RefCell::new(store),
            flush: None,
            logs,
            log_file: None,
            log_flush: None,
            states: vec![(Rows::new(), Vec::new())],
            first,
        }
    }

    /// A crash: what is durable is there, and nothing else.
    fn restart(&mut self, torn: bool) {
        let durable = self.store.borrow().durable();
        if torn {
            // A record that was being written, and did not arrive whole.
            if let Some(flush) = self.log_flush.take() {
                log::write(&self.logs, &mut self.log_file, &flush, b"mark").unwrap();
                let (_, file) = self.log_file.take().unwrap();
                let end = flush.end(4);
                file.truncate(end - 1 - end % 3).unwrap();
            }
        }
        let (store, first) = started(&self.engine, &self.logs, 2);
        let rows = self.state(durable).clone();
        assert!(first > self.at(0), "no version returns");
        (self.flush, self.log_flush, self.log_file) = (None, None, None);
        self.states = vec![(rows, Vec::new())];
        self.first = first;
        *self.store.borrow_mut() = store;
    }

    fn begin_log(&mut self) {
        let step = self.store.borrow_mut().sync_step(Version(u64::MAX)).unwrap();
        let caught_up = self.store.borrow().durable() == self.at(0);
        match step {
            SyncStep::Durable(version) => assert!(caught_up && version == self.at(0)),
            SyncStep::Wait => assert!(self.log_flush.is_some()),
            SyncStep::Log(flush) => {
                assert!(self.log_flush.is_none(), "one at a time");
                assert_eq!(flush.last(), self.at(0));
                self.log_flush = Some(flush);
            }
        }
    }

    fn finish_log(&mut self, full: bool) {
        let Some(flush) = self.log_flush.take() else { return };
        let last = flush.last();
        if !full {
            log::write(&self.logs, &mut self.log_file, &flush, b"mark").unwrap();
        }
        let outcome = if full { Err(EngineError::NoSpace) } else { Ok(()) };
        let finished = self.store.borrow_mut().finish_log(flush, 4, outcome);
        match full {
            true => assert_eq!(finished, Err(KvError::NoSpace)),
            false => assert!(finished.unwrap() >= last),
        }
    }

    fn at(&self, back: usize) -> Version {
        Version(self.first.0 + (self.states.len() - 1).saturating_sub(back) as u64)
    }

    fn state(&self, version: Version) -> &Rows {
        &self.states[(version.0 - self.first.0) as usize].0
    }

    fn perform(&mut self, op: Op) {
        match op {
            Op::Commit { back, reads, writes, mutations } => {
                self.commit(back.map(|back| self.at(back)), reads, writes, mutations)
            }
            Op::BeginFlush => {
                if self.flush.is_none() {
                    self.flush = self.store.borrow_mut().begin_flush();
                } else {
                    assert!(self.store.borrow_mut().begin_flush().is_none(), "one at a time");
                }
            }
            Op::FinishFlush { full } => self.finish_flush(full),
            Op::BeginLog => self.begin_log(),
            Op::FinishLog { full } => self.finish_log(full),
            Op::Restart { torn } => self.restart(torn),
            Op::Get { back, key } => {
                let version = self.at(back);
                let expected = self.state(version).get(&key).cloned();
                self.check(version, Read::Get(key), |values| {
                    assert_eq!(values, &Values::One(expected))
                });
            }
            Op::Range { back, range, limit, reverse } => {
                let version = self.at(back);
                self.check_range(version, range, limit, reverse);
            }
        }
        let store = self.store.borrow();
        assert_eq!(store.last(), self.at(0));
        assert!(store.durable() <= store.last() && store.oldest() <= store.flushed());
        assert!(store.flushed() <= store.durable());
        assert_eq!(store.flushed(), self.engine.version.get());
        assert_eq!(
            **self.engine.rows.borrow(),
            *self.state(store.flushed()),
            "the engine's prefix"
        );
    }

    fn commit(
        &mut self,
        read_version: Option<Version>,
        read_conflicts: Vec<KeyRange>,
        write_conflicts: Vec<KeyRange>,
        mutations: Vec<Mutation>,
    ) {
        let expected = match read_version {
            Some(v) if v < self.store.borrow().oldest() => Err(KvError::TooOld),
            Some(v) if self.conflicts(v, &read_conflicts) => Err(KvError::Conflict),
            _ => Ok(Commit { version: Version(self.at(0).0 + 1), batch: 0 }),
        };
        let request = CommitRequest {
            read_version,
            read_conflicts,
            write_conflicts: write_conflicts.clone(),
            mutations: mutations.clone(),
        };
        assert_eq!(self.store.borrow_mut().commit(request), expected);
        if let Ok(commit) = expected {
            let mut rows = self.state(self.at(0)).clone();
            let mut written = write_conflicts;
            mutations.into_iter().for_each(|m| written.push(naive_apply(&mut rows, m, commit)));
            self.states.push((rows, written));
        }
    }

    fn conflicts(&self, version: Version, reads: &[KeyRange]) -> bool {
        let later = &self.states[(version.0 - self.first.0) as usize + 1..];
        let meets = |a: &KeyRange, b: &KeyRange| {
            !a.is_empty() && !b.is_empty() && a.begin < b.end && b.begin < a.end
        };
        later.iter().flat_map(|(_, w)| w).any(|w| reads.iter().any(|r| meets(r, w)))
    }

    fn finish_flush(&mut self, full: bool) {
        let Some(flush) = self.flush.take() else { return };
        self.engine.full.set(full);
        let outcome = self.engine.apply(&flush.batch);
        let finished = self.store.borrow_mut().finish_flush(outcome).map(|flushed| {
            log::remove_below(&self.logs, flushed.log_first).unwrap();
            flushed.version
        });
        match full {
            true => assert_eq!(finished, Err(KvError::NoSpace)),
            false => assert_eq!(finished, Ok(flush.batch.version())),
        }
    }

    fn check(&self, version: Version, what: Read, check: impl FnOnce(&Values)) {
        let round = ReadRound { at: Some(version), reads: vec![what] };
        match read(self, &round) {
            Err(KvError::TooOld) => {
                let behind = self.at(0).0 - version.0;
                assert!(version < self.store.borrow().oldest() || behind > WINDOW);
            }
            Ok((v, values)) => {
                assert!(version >= self.store.borrow().oldest());
                assert_eq!((v, values.len()), (version, 1));
                check(&values[0]);
            }
            Err(other) => panic!("{other:?}"),
        }
    }

    /// Pages through a range and compares every page.
    fn check_range(&self, version: Version, mut range: KeyRange, limit: u32, reverse: bool) {
        let inside = |(key, _): &(&Key, &Value)| range.contains(key);
        let mut expected: Vec<(Key, Value)> = self
            .state(version)
            .iter()
            .filter(inside)
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        if reverse {
            expected.reverse();
        }
        let mut rest = &expected[..];
        let mut go_on = true;
        while core::mem::take(&mut go_on) {
            let what = Read::Range { range: range.clone(), limit, reverse };
            self.check(version, what, |values| {
                let Values::Rows { rows, more } = values else { panic!("{values:?}") };
                assert!(rows.len() <= limit as usize);
                assert_eq!(rows[..], rest[..rows.len()], "{range:?} {reverse}");
                rest = &rest[rows.len()..];
                match rows.last() {
                    Some((last, _)) if *more && reverse => range.end = last.clone(),
                    Some((last, _)) if *more => range.begin = last.successor(),
                    _ => assert!(!more && (rest.is_empty() || limit == 0), "rows are missing"),
                }
                go_on = *more;
            });
        }
    }
}

/// Returns the range written.
fn naive_apply(rows: &mut Rows, mutation: Mutation, commit: Commit) -> KeyRange {
    let key = match mutation {
        Mutation::Set { key, value } => {
            rows.insert(key.clone(), value);
            key
        }
        Mutation::Clear { key } => {
            rows.remove(&key);
            key
        }
        Mutation::ClearRange { range } => {
            rows.retain(|key, _| !range.contains(key));
            return range;
        }
        Mutation::Atomic { key, op, operand } => {
            let new = op.apply(rows.get(&key).map(|v| &v[..]), &operand);
            rows.insert(key.clone(), new);
            key
        }
        Mutation::SetStampedKey { mut key, stamp_at, value } => {
            key.overwrite(stamp_at, &commit.stamp());
            rows.insert(key.clone(), value);
            key
        }
        Mutation::SetStampedValue { key, value, stamp_at } => {
            let mut bytes = value.to_vec();
            bytes[stamp_at..stamp_at + 10].copy_from_slice(&commit.stamp());
            rows.insert(key.clone(), bytes.into());
            key
        }
    };
    KeyRange::point(key)
}

fn any_key() -> impl Strategy<Value = Key> {
    prop_oneof![
        3 => "[a-h]".prop_map(|s| Key::new(s.as_bytes())),
        1 => "[a-h][a-c]".prop_map(|s| Key::new(s.as_bytes())),
    ]
}

fn any_range() -> impl Strategy<Value = KeyRange> {
    prop_oneof![
        3 => (any_key(), any_key()).prop_map(|(begin, end)| KeyRange { begin, end }),
        1 => any_key().prop_map(KeyRange::point),
        1 => Just(KeyRange { begin: Key::default(), end: Key::new(b"\xff") }),
    ]
}

fn any_mutation() -> impl Strategy<Value = Mutation> {
    let value = proptest::collection::vec(any::<u8>(), 0..12);
    prop_oneof![
        5 => (any_key(), value.clone()).prop_map(|(key, v)| Mutation::Set { key, value: v.into() }),
        2 => any_key().prop_map(|key| Mutation::Clear { key }),
        2 => any_range().prop_map(|range| Mutation::ClearRange { range }),
        4 => (any_key(), any::<bool>(), proptest::collection::vec(any::<u8>(), 0..5)).prop_map(
            |(key, add, operand)| Mutation::Atomic {
                key,
                op: if add { AtomicOp::Add } else { AtomicOp::Max },
                operand: SmallVec::from_vec(operand),
            }
        ),
        1 => any_key().prop_map(|mut key| {
            let stamp_at = key.len();
            key.push(&[0; 12]);
            Mutation::SetStampedKey { key, stamp_at, value: Bytes::from_static(b"s") }
        }),
        1 => (any_key(), 0usize..3).prop_map(|(key, stamp_at)| Mutation::SetStampedValue {
            key,
            value: Bytes::from_static(&[7; 13]),
            stamp_at,
        }),
    ]
}

fn any_op() -> impl Strategy<Value = Op> {
    let ranges = || proptest::collection::vec(any_range(), 0..3);
    let mutations = proptest::collection::vec(any_mutation(), 0..5);
    prop_oneof![
        8 => (proptest::option::of(0usize..6), ranges(), ranges(), mutations).prop_map(
            |(back, reads, writes, mutations)| Op::Commit {
                reads: if back.is_some() { reads } else { Vec::new() },
                back,
                writes: writes.into_iter().take(1).collect(),
                mutations,
            }
        ),
        2 => Just(Op::BeginFlush),
        2 => (0u8..4).prop_map(|n| Op::FinishFlush { full: n == 0 }),
        3 => Just(Op::BeginLog),
        3 => (0u8..4).prop_map(|n| Op::FinishLog { full: n == 0 }),
        1 => any::<bool>().prop_map(|torn| Op::Restart { torn }),
        4 => (0usize..12, any_key()).prop_map(|(back, key)| Op::Get { back, key }),
        6 => (0usize..12, any_range(), 0u32..8, any::<bool>()).prop_map(
            |(back, range, limit, reverse)| Op::Range { back, range, limit, reverse }
        ),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 1500 }))]

    #[test]
    fn behaves_like_a_map_per_version(
        generations in 1usize..4,
        ops in proptest::collection::vec(any_op(), 1..80),
    ) {
        let mut world = World::new(generations);
        ops.into_iter().for_each(|op| world.perform(op));
    }
}

fn started(
    engine: &MapEngine,
    logs: &MemoryMedium,
    generations: usize,
) -> (Store<MapSnapshot>, Version) {
    let replayed = log::replay(logs, engine.version.get()).unwrap();
    let start = Store::<MapSnapshot>::start(replayed);
    engine.full.set(false);
    let snapshot = engine.apply(&start.batch).unwrap();
    log::remove_below(logs, u32::MAX).unwrap();
    let limits = StoreLimits { generations, window: WINDOW, ..StoreLimits::default() };
    (Store::new(snapshot, &start, limits), start.batch.version())
}

fn set(key: &str) -> CommitRequest {
    let set = Mutation::Set { key: Key::new(key.as_bytes()), value: Bytes::from_static(b"v") };
    CommitRequest { mutations: vec![set], ..CommitRequest::default() }
}

#[test]
fn versions_above_the_newest_are_not_there_yet() {
    let world = World::new(1);
    let above = Version(world.first.0 + 1);
    let round = ReadRound { at: Some(above), reads: vec![Read::Get(Key::new(b"a"))] };
    assert_eq!(read(&world, &round).err(), Some(KvError::NotYet));
    let request = CommitRequest { read_version: Some(above), ..set("a") };
    assert_eq!(world.store.borrow_mut().commit(request), Err(KvError::NotYet));
}

#[test]
fn nothing_is_committed_after_a_failure_for_good() {
    let world = World::new(1);
    let mut store = world.store.borrow_mut();
    let commit = store.commit(set("a")).unwrap();
    assert!(store.begin_flush().is_some());
    assert_eq!(store.finish_flush(Err(EngineError::Io(5))).err(), Some(KvError::Fatal(5)));
    assert_eq!(store.commit(set("b")), Err(KvError::Fatal(5)));
    assert!(store.begin_flush().is_none());
    assert_eq!(store.sync_step(commit.version).err(), Some(KvError::Fatal(5)));
    drop(store);
    let round = ReadRound { at: None, reads: vec![Read::Get(Key::new(b"a"))] };
    let (_, values) = read(&world, &round).unwrap();
    assert_eq!(values, [Values::One(Some(Bytes::from_static(b"v")))], "still readable");
}

#[test]
fn sync_takes_the_next_flush_if_one_is_under_way() {
    let world = World::new(1);
    let mut store = world.store.borrow_mut();
    let first = store.commit(set("a")).unwrap().version;
    let Ok(SyncStep::Log(flush)) = store.sync_step(first) else { panic!() };
    let second = store.commit(set("b")).unwrap().version;
    assert!(matches!(store.sync_step(first), Ok(SyncStep::Wait)));
    assert_eq!(store.finish_log(flush, 0, Ok(())), Ok(first));
    assert!(matches!(store.sync_step(first), Ok(SyncStep::Durable(v)) if v == first));
    let Ok(SyncStep::Log(flush)) = store.sync_step(Version(u64::MAX)) else { panic!() };
    assert_eq!(flush.last(), second, "a version not handed out yet is the newest");
}

#[test]
fn memory_bounds_are_announced_and_space_is_waited_for() {
    let engine = MapEngine::default();
    let replayed = log::replay(&MemoryMedium::default(), Version(9)).unwrap();
    let start = Store::<MapSnapshot>::start(replayed);
    let snapshot = engine.apply(&start.batch).unwrap();
    let limits = StoreLimits { soft: 1000, hard: 3000, ..StoreLimits::default() };
    let mut store = Store::new(snapshot, &start, limits);
    let mut seen = vec![store.admission()];
    let mut n = 0;
    while store.admission() != Admission::Wait {
        n += 1;
        store.commit(set(&format!("key {n}"))).unwrap();
        seen.push(store.admission());
    }
    seen.dedup();
    assert_eq!(seen, [Admission::Open, Admission::FlushWanted, Admission::Wait]);
    let flush = store.begin_flush().unwrap();
    assert_eq!(store.admission(), Admission::Open, "the frozen layer does not count");
    assert_eq!(store.finish_flush(Err(EngineError::NoSpace)).err(), Some(KvError::NoSpace));
    for n in 0.. {
        if let Err(error) = store.commit(set(&format!("key {n}"))) {
            assert_eq!(error, KvError::NoSpace, "a full disk is said, not waited for");
            break;
        }
        assert!(n < 1000);
    }
    let again = store.begin_flush().unwrap();
    assert_eq!(again.batch.version(), flush.batch.version(), "the same batch is tried again");
    let snapshot = engine.apply(&again.batch).unwrap();
    store.finish_flush(Ok(snapshot)).unwrap();
    assert_eq!(store.admission(), Admission::Wait);
}

#[test]
fn limits_are_the_ports() {
    let world = World::new(1);
    let mut store = world.store.borrow_mut();
    let mut commit = |mutation| {
        store.commit(CommitRequest { mutations: vec![mutation], ..CommitRequest::default() })
    };
    let key = |len: usize| Key::new(&vec![b'k'; len]);
    let value = |len: usize| Bytes::from(vec![0; len]);
    assert!(commit(Mutation::Set { key: key(KEY_MAX), value: value(VALUE_MAX) }).is_ok());
    for bad in [
        Mutation::Set { key: key(KEY_MAX + 1), value: value(0) },
        Mutation::Set { key: key(1), value: value(VALUE_MAX + 1) },
        Mutation::Clear { key: key(KEY_MAX + 1) },
        Mutation::ClearRange { range: KeyRange { begin: key(1), end: key(KEY_MAX + 2) } },
        Mutation::SetStampedKey { key: key(12), stamp_at: 3, value: value(0) },
        Mutation::SetStampedValue { key: key(1), stamp_at: usize::MAX, value: value(20) },
    ] {
        assert_eq!(commit(bad), Err(KvError::TooLarge));
    }
    let whole = TRANSACTION_MAX / VALUE_MAX + 1;
    let set = |n: usize| Mutation::Set { key: key(n + 1), value: value(VALUE_MAX) };
    let request = CommitRequest { mutations: (0..whole).map(set).collect(), ..Default::default() };
    assert_eq!(store.commit(request), Err(KvError::TooLarge));
}

/// Every torn end of a log gives the commits of the whole records before it.
#[test]
fn every_prefix_of_a_log_replays_to_a_prefix_of_the_commits() {
    let mut world = World::new(2);
    let mut ends = vec![(0, world.first)];
    for n in 0..4 {
        (0..=n).for_each(|m| {
            assert!(world.store.borrow_mut().commit(set(&format!("{n}{m}"))).is_ok())
        });
        let step = world.store.borrow_mut().sync_step(Version(u64::MAX));
        let Ok(SyncStep::Log(flush)) = step else { panic!() };
        log::write(&world.logs, &mut world.log_file, &flush, b"mark").unwrap();
        ends.push((flush.end(4), flush.last()));
        world.store.borrow_mut().finish_log(flush, 4, Ok(())).unwrap();
    }
    let (first_file, file) = world.log_file.clone().unwrap();
    let whole = file.read(0, usize::MAX / 2).unwrap();
    for len in 0..=whole.len() {
        file.write(0, &[whole.slice(..len)]).unwrap();
        let replayed = log::replay(&world.logs, world.first).unwrap();
        let expected = ends.iter().rev().find(|(end, _)| *end <= len as u64).unwrap().1;
        assert_eq!(replayed.last(), expected, "{len} bytes");
        assert_eq!(replayed.mark.is_some(), expected > world.first);
        let gap = |end: u64| (end..end.next_multiple_of(4096)).contains(&(len as u64));
        if len < whole.len() && !ends.iter().any(|(end, _)| gap(*end)) {
            let mut bad = whole.to_vec();
            bad[len] ^= 0x10;
            file.write(0, &[bad.into()]).unwrap();
            let hit = ends.iter().position(|(end, _)| *end > len as u64).unwrap();
            match log::replay(&world.logs, world.first) {
                Ok(replayed) => assert_eq!((hit, replayed.last()), (4, ends[3].1), "a torn end"),
                Err(error) => {
                    let offset = ends[hit - 1].0.next_multiple_of(4096);
                    assert!(hit < 4, "only with something behind it");
                    assert_eq!(error, ReplayError::Lost { file: first_file, offset });
                }
            }
        }
    }
}

#[test]
fn a_log_with_a_missing_file_is_damage() {
    let world = World::new(2);
    let mut log_file = None;
    let mut write = || {
        let mut store = world.store.borrow_mut();
        let commit = store.commit(set("a")).unwrap();
        let Ok(SyncStep::Log(flush)) = store.sync_step(commit.version) else { panic!() };
        log::write(&world.logs, &mut log_file, &flush, b"").unwrap();
        store.finish_log(flush, 0, Ok(())).unwrap()
    };
    let first = write();
    assert!(world.store.borrow_mut().begin_flush().is_some());
    let second = write();
    assert_eq!(log::replay(&world.logs, world.first).unwrap().last(), second);
    let first_file = world.logs.list().unwrap()[0];
    world.logs.remove(first_file).unwrap();
    let lost = log::replay(&world.logs, world.first).err();
    assert_eq!(lost, Some(ReplayError::Lost { file: first_file + 1, offset: 0 }));
    assert_eq!(log::replay(&world.logs, first).unwrap().last(), second, "the engine has the rest");
}

/// A hot key must not cost memory for each commit, nor lose what a reader of the window can ask for.
#[test]
fn versions_that_nobody_can_read_are_dropped() {
    let world = World::new(1);
    let mut bytes = Vec::new();
    for n in 0..200u64 {
        let value = Bytes::copy_from_slice(&n.to_le_bytes());
        let set = Mutation::Set { key: Key::new(b"hot"), value };
        let request = CommitRequest { mutations: vec![set], ..CommitRequest::default() };
        world.store.borrow_mut().commit(request).unwrap();
        bytes.push(world.store.borrow().active_bytes());
    }
    assert!(bytes[199] <= bytes[2 * WINDOW as usize + 2], "{bytes:?}");
    let last = world.store.borrow().last();
    let at = |behind: u64| {
        let at = Some(Version(last.0 - behind));
        read(&world, &ReadRound { at, reads: vec![Read::Get(Key::new(b"hot"))] })
    };
    for behind in 0..=WINDOW {
        let (_, values) = at(behind).unwrap();
        let expected = Bytes::copy_from_slice(&(199 - behind).to_le_bytes());
        assert_eq!(values, [Values::One(Some(expected))]);
    }
    assert_eq!(at(100).err(), Some(KvError::TooOld));
}
