//! The stores of one machine as state machines: any sequence of what a client does to them, against
//! references in a few lines. A failing sequence is made shorter.
//!
//! Ends of the process come where everything was made durable (the metadata), or what was not is forgotten
//! (the segments); `crash_points.rs` ends it everywhere else.

use bytes::Bytes;
use proptest::prelude::*;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};
use smallvec::SmallVec;
use std::collections::{BTreeMap, BTreeSet};
use std::marker::PhantomData;
use vellum_core::canary::Canary;
use vellum_core::id::{SegmentId, SessionId, VolumeId};
use vellum_core::port::meta_kv::{
    AtomicOp, CommitRequest, Key, KeyRange, KvError, KvReply, Mutation, Read, ReadRound, Values,
    Version,
};
use vellum_core::port::page_store::{PageError, PageReply, PageRequest, SegmentDraft};
use vellum_sim::canaries::{Planted, plant};
use vellum_sim::dice::{Dice, Stream};
use vellum_sim::disk::Ills;
use vellum_sim::local::LocalStore;

const PAGE_FILE_BYTES: u64 = 64 << 10;

fn store() -> LocalStore {
    LocalStore::with_page_files(VolumeId(5), 1 << 40, Ills::default(), PAGE_FILE_BYTES)
}

/// The process ends, perhaps the power with it, and the stores are opened again.
fn restart(store: &mut LocalStore, power: Option<u64>) {
    let mut dice = power.map(|seed| Dice::new(seed, Stream::Faults));
    store.stop(dice.as_mut());
    store.open().expect("the stores open");
    assert_eq!(store.violations(), &[] as &[String]);
}

// ---------------------------------------------------------------- metadata

type Rows = BTreeMap<u8, Bytes>;

#[derive(Clone, Debug)]
enum Change {
    Set(u8, Bytes),
    Clear(u8),
    ClearRange(u8, u8),
    Atomic(u8, AtomicOp, Vec<u8>),
}

#[derive(Clone, Debug)]
enum Transaction {
    /// At which of the last versions it read, what it relied on, and what it changes.
    Commit(usize, Vec<(u8, u8)>, Vec<Change>),
    /// At which of the last versions, which key.
    Get(usize, u8),
    /// At which of the last versions, which keys, how many, from the end.
    Range(usize, (u8, u8), u32, bool),
    Sync,
    Flush,
    /// Everything is made durable, then the process ends; with dice for the power, too.
    Restart(Option<u64>),
}

/// Every version since the last start, and what each commit wrote.
#[derive(Clone, Debug)]
struct Versions {
    rows: Vec<Rows>,
    written: Vec<Vec<(u8, u8)>>,
    /// The last commit was refused.
    refused: bool,
}

impl Versions {
    fn at(&self, back: usize) -> usize {
        (self.rows.len() - 1).saturating_sub(back)
    }

    fn conflicts(&self, read: usize, relied: &[(u8, u8)]) -> bool {
        let meet = |a: &(u8, u8), b: &(u8, u8)| a.0.max(b.0) < a.1.min(b.1);
        self.written[read..].iter().flatten().any(|w| relied.iter().any(|r| meet(w, r)))
    }

    fn commit(&mut self, changes: &[Change]) {
        let mut rows = self.rows.last().expect("a version").clone();
        let mut written = Vec::new();
        for change in changes {
            match change {
                Change::Set(key, value) => drop(rows.insert(*key, value.clone())),
                Change::Clear(key) => drop(rows.remove(key)),
                Change::ClearRange(from, to) => rows.retain(|key, _| key < from || key >= to),
                Change::Atomic(key, op, operand) => {
                    let value = op.apply(rows.get(key).map(|v| &v[..]), operand);
                    rows.insert(*key, value);
                }
            }
            written.push(match change {
                Change::Set(key, _) | Change::Clear(key) | Change::Atomic(key, ..) => {
                    (*key, *key + 1)
                }
                Change::ClearRange(from, to) => (*from, *to),
            });
        }
        self.rows.push(rows);
        self.written.push(written);
    }
}

const KEYS: u8 = 12;

fn any_range() -> impl Strategy<Value = (u8, u8)> {
    (0..KEYS, 0..=KEYS)
}

fn any_change() -> impl Strategy<Value = Change> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..40);
    prop_oneof![
        4 => (0..KEYS, bytes()).prop_map(|(key, value)| Change::Set(key, value.into())),
        2 => (0..KEYS).prop_map(Change::Clear),
        1 => any_range().prop_map(|(from, to)| Change::ClearRange(from, to.max(from))),
        3 => (0..KEYS, any::<bool>(), proptest::collection::vec(any::<u8>(), 0..5)).prop_map(
            |(key, add, operand)| {
                Change::Atomic(key, if add { AtomicOp::Add } else { AtomicOp::Max }, operand)
            }
        ),
    ]
}

impl ReferenceStateMachine for Versions {
    type State = Versions;
    type Transition = Transaction;

    fn init_state() -> BoxedStrategy<Versions> {
        Just(Versions { rows: vec![Rows::new()], written: Vec::new(), refused: false }).boxed()
    }

    fn transitions(_: &Versions) -> BoxedStrategy<Transaction> {
        let relied = proptest::collection::vec(any_range(), 0..3);
        let changes = proptest::collection::vec(any_change(), 1..5);
        prop_oneof![
            8 => (0..6usize, relied, changes)
                .prop_map(|(back, relied, changes)| Transaction::Commit(back, relied, changes)),
            3 => (0..6usize, 0..KEYS).prop_map(|(back, key)| Transaction::Get(back, key)),
            4 => (0..6usize, any_range(), 1..20u32, any::<bool>())
                .prop_map(|(back, keys, limit, reverse)| Transaction::Range(back, keys, limit, reverse)),
            2 => Just(Transaction::Sync),
            2 => Just(Transaction::Flush),
            1 => any::<Option<u64>>().prop_map(Transaction::Restart),
        ]
        .boxed()
    }

    fn apply(mut state: Versions, transaction: &Transaction) -> Versions {
        match transaction {
            Transaction::Commit(back, relied, changes) => {
                state.refused = state.conflicts(state.at(*back), relied);
                if !state.refused {
                    state.commit(changes);
                }
            }
            Transaction::Restart(_) => {
                state.rows.drain(..state.rows.len() - 1);
                state.written.clear();
            }
            _ => {}
        }
        state
    }
}

/// The store, and the version of each state since the last start.
struct Metadata {
    store: LocalStore,
    versions: Vec<Version>,
}

fn key(n: u8) -> Key {
    Key::new(&[b'k', n])
}

fn range((from, to): (u8, u8)) -> KeyRange {
    KeyRange { begin: key(from), end: key(to) }
}

fn mutation(change: &Change) -> Mutation {
    match change {
        Change::Set(at, value) => Mutation::Set { key: key(*at), value: value.clone() },
        Change::Clear(at) => Mutation::Clear { key: key(*at) },
        Change::ClearRange(from, to) => Mutation::ClearRange { range: range((*from, *to)) },
        Change::Atomic(at, op, operand) => {
            let operand = SmallVec::from_slice(operand);
            Mutation::Atomic { key: key(*at), op: *op, operand }
        }
    }
}

impl Metadata {
    fn read(&self, at: Option<Version>, read: Read) -> (Version, Values) {
        match self.store.read(&ReadRound { at, reads: vec![read] }) {
            Ok(KvReply::Values { version, mut values }) => (version, values.remove(0)),
            other => panic!("{other:?}"),
        }
    }

    /// Reads all of a range, page by page, at one version.
    fn rows(&self, at: Version, keys: (u8, u8), limit: u32, reverse: bool) -> Vec<(u8, Bytes)> {
        let (mut left, mut found) = (range(keys), Vec::new());
        loop {
            let read = Read::Range { range: left.clone(), limit, reverse };
            let (_, Values::Rows { rows, more }) = self.read(Some(at), read) else {
                panic!("rows")
            };
            assert!(rows.len() <= limit as usize);
            if let Some((last, _)) = rows.last() {
                if reverse { left.end = last.clone() } else { left.begin = last.successor() }
            }
            found.extend(rows.into_iter().map(|(key, value)| (key[1], value)));
            if !more {
                return found;
            }
        }
    }

    fn newest(&self) -> Version {
        self.read(None, Read::Get(key(0))).0
    }
}

struct MetadataTest;

impl StateMachineTest for MetadataTest {
    type SystemUnderTest = Metadata;
    type Reference = Versions;

    fn init_test(_: &Versions) -> Metadata {
        let mut metadata = Metadata { store: store(), versions: Vec::new() };
        metadata.versions.push(metadata.newest());
        metadata
    }

    fn apply(mut sut: Metadata, after: &Versions, transaction: Transaction) -> Metadata {
        let at = |back: usize| (sut.versions.len() - 1).saturating_sub(back);
        match transaction {
            Transaction::Commit(back, relied, changes) => {
                let request = CommitRequest {
                    read_version: Some(sut.versions[at(back)]),
                    read_conflicts: relied.into_iter().map(range).collect(),
                    mutations: changes.iter().map(mutation).collect(),
                    ..CommitRequest::default()
                };
                match sut.store.commit(request) {
                    Ok(commit) => {
                        assert!(!after.refused, "a conflict was not seen");
                        sut.versions.push(commit.version);
                    }
                    Err(error) => assert!(after.refused && error == KvError::Conflict, "{error:?}"),
                }
            }
            Transaction::Get(back, n) => {
                let found = sut.read(Some(sut.versions[at(back)]), Read::Get(key(n))).1;
                assert_eq!(found, Values::One(after.rows[at(back)].get(&n).cloned()));
            }
            Transaction::Range(back, keys, limit, reverse) => {
                let mut found = sut.rows(sut.versions[at(back)], keys, limit, reverse);
                if reverse {
                    found.reverse();
                }
                let rows = &after.rows[at(back)];
                let inside = rows.iter().filter(|(key, _)| (keys.0..keys.1).contains(*key));
                let expected: Vec<(u8, Bytes)> = inside.map(|(k, v)| (*k, v.clone())).collect();
                assert_eq!(found, expected);
            }
            Transaction::Sync => drop(sut.store.sync(sut.newest()).expect("a sync")),
            Transaction::Flush => sut.store.flush().expect("a flush"),
            Transaction::Restart(power) => {
                sut.store.sync(sut.newest()).expect("a sync");
                restart(&mut sut.store, power);
                sut.versions = vec![sut.newest()];
            }
        }
        sut
    }

    fn check_invariants(sut: &Metadata, after: &Versions) {
        assert_eq!(sut.versions.len(), after.rows.len());
        let rows = sut.rows(sut.newest(), (0, KEYS), 100, false);
        assert_eq!(rows.into_iter().collect::<Rows>(), *after.rows.last().expect("a version"));
    }
}

// ---------------------------------------------------------------- segments

#[derive(Clone, Debug)]
enum Action {
    /// A segment of so many bytes.
    Append(usize),
    /// One that is there, with the same bytes, or with others.
    Again(usize, bool),
    /// Which one, from where, how many bytes.
    Read(usize, usize, usize),
    Delete(usize),
    Sync,
    /// The process ends; with dice for the power, too.
    Kill(Option<u64>),
}

/// What must be there, what must not, and what would survive the end of the process.
#[derive(Clone, Debug, Default)]
struct Segments {
    live: BTreeMap<u64, usize>,
    durable: BTreeSet<u64>,
    gone: BTreeSet<u64>,
    next: u64,
}

impl Segments {
    fn pick(&self, n: usize) -> Option<u64> {
        self.live.keys().nth(n % self.live.len().max(1)).copied()
    }
}

impl ReferenceStateMachine for Segments {
    type State = Segments;
    type Transition = Action;

    fn init_state() -> BoxedStrategy<Segments> {
        Just(Segments::default()).boxed()
    }

    fn transitions(_: &Segments) -> BoxedStrategy<Action> {
        prop_oneof![
            8 => (1..50_000usize).prop_map(Action::Append),
            1 => (any::<usize>(), any::<bool>()).prop_map(|(n, same)| Action::Again(n, same)),
            4 => any::<(usize, usize, usize)>()
                .prop_map(|(n, from, len)| Action::Read(n, from, len)),
            4 => any::<usize>().prop_map(Action::Delete),
            3 => Just(Action::Sync),
            1 => any::<Option<u64>>().prop_map(Action::Kill),
        ]
        .boxed()
    }

    fn preconditions(state: &Segments, action: &Action) -> bool {
        !matches!(action, Action::Again(..) | Action::Read(..) | Action::Delete(_))
            || !state.live.is_empty()
    }

    fn apply(mut state: Segments, action: &Action) -> Segments {
        match action {
            Action::Append(len) => {
                state.next += 1;
                state.live.insert(state.next, *len);
            }
            Action::Delete(n) => {
                if let Some(id) = state.pick(*n) {
                    state.live.remove(&id);
                    state.durable.remove(&id);
                    state.gone.insert(id);
                }
            }
            Action::Sync => state.durable = state.live.keys().copied().collect(),
            Action::Kill(_) => {
                // Of what was not durable nobody can tell, nor whether a deleted one comes back.
                state.live.retain(|id, _| state.durable.contains(id));
                state.gone.clear();
            }
            Action::Again(..) | Action::Read(..) => {}
        }
        state
    }
}

fn id(sequence: u64) -> SegmentId {
    SegmentId { session: SessionId(7), sequence }
}

fn payload(sequence: u64, len: usize) -> Bytes {
    (0..len as u64).map(|n| (n * 31 + n / 253 + sequence) as u8).collect()
}

fn draft(sequence: u64, bytes: Bytes) -> SegmentDraft {
    let len = bytes.len() as u32;
    let half = bytes.len() / 2;
    SegmentDraft { id: id(sequence), payload: vec![bytes.slice(..half), bytes.slice(half..)], len }
}

/// The store, and what it knew before the action.
struct Pages {
    store: LocalStore,
    before: Segments,
}

struct PagesTest;

impl StateMachineTest for PagesTest {
    type SystemUnderTest = Pages;
    type Reference = Segments;

    fn init_test(start: &Segments) -> Pages {
        Pages { store: store(), before: start.clone() }
    }

    fn apply(mut sut: Pages, after: &Segments, action: Action) -> Pages {
        match action {
            Action::Append(len) => {
                let draft = draft(after.next, payload(after.next, len));
                let reply = sut.store.serve(&PageRequest::Append(draft));
                let Ok(PageReply::Appended { physical }) = reply else { panic!("{reply:?}") };
                assert!(physical >= len as u64);
            }
            Action::Again(n, same) => {
                let sequence = after.pick(n).expect("a precondition");
                let bytes = payload(sequence + u64::from(!same), after.live[&sequence]);
                let reply = sut.store.serve(&PageRequest::Append(draft(sequence, bytes)));
                assert_eq!(reply.is_ok(), same, "{reply:?}");
            }
            Action::Read(n, from, len) => {
                let sequence = after.pick(n).expect("a precondition");
                let whole = payload(sequence, after.live[&sequence]);
                let from = from % whole.len();
                let len = 1 + len % (whole.len() - from);
                let (segment, offset) = (id(sequence), from as u32);
                let read = PageRequest::Read { segment, offset, len: len as u32 };
                let reply = sut.store.serve(&read);
                let Ok(PageReply::Data(bytes)) = reply else { panic!("{reply:?}") };
                assert!(bytes == whole[from..from + len], "other bytes at {from}+{len}");
            }
            Action::Delete(n) => {
                let sequence = sut.before.pick(n).expect("a precondition");
                let request = PageRequest::Delete { segments: vec![id(sequence)] };
                assert!(matches!(sut.store.serve(&request), Ok(PageReply::Deleted)));
            }
            Action::Sync => {
                // Segments become durable with a commit.
                let commit = sut.store.commit(CommitRequest::default()).expect("a commit");
                sut.store.sync(commit.version).expect("a sync");
            }
            Action::Kill(power) => restart(&mut sut.store, power),
        }
        sut.before = after.clone();
        sut
    }

    fn check_invariants(sut: &Pages, after: &Segments) {
        let list = PageRequest::List { after: None, limit: 10_000 };
        let Ok(PageReply::Listed(listed)) = sut.store.serve(&list) else { panic!("a list") };
        assert!(listed.is_sorted());
        for (sequence, len) in &after.live {
            assert!(listed.binary_search(&id(*sequence)).is_ok(), "{sequence} is not listed");
            let reply = sut.store.serve(&PageRequest::Verify { segment: id(*sequence) });
            let Ok(PageReply::Verified { len: found }) = reply else { panic!("{reply:?}") };
            assert_eq!(found as usize, *len);
        }
        for sequence in &after.gone {
            let reply = sut.store.serve(&PageRequest::Verify { segment: id(*sequence) });
            assert!(matches!(reply, Err(PageError::Missing)), "{sequence}: {reply:?}");
        }
    }
}

prop_state_machine! {
    #![proptest_config(ProptestConfig { cases: 1_500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn metadata_is_a_map_per_version(sequential 1..60 => MetadataTest);
}

prop_state_machine! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn segments_are_a_map_of_bytes(sequential 1..40 => PagesTest);
}

// ---------------------------------------------------------------- tests of the tests

/// A known bug, by its type.
trait Bug {
    const CANARY: Canary;
}

struct UncheckedGeneration;

impl Bug for UncheckedGeneration {
    const CANARY: Canary = Canary::UncheckedGeneration;
}

struct ForgottenMark;

impl Bug for ForgottenMark {
    const CANARY: Canary = Canary::ForgottenMark;
}

/// A test while a bug is planted.
struct With<B, T>(PhantomData<(B, T)>);

impl<B: Bug, T: StateMachineTest> StateMachineTest for With<B, T> {
    type SystemUnderTest = (Planted, T::SystemUnderTest);
    type Reference = T::Reference;

    fn init_test(start: &<T::Reference as ReferenceStateMachine>::State) -> Self::SystemUnderTest {
        (plant(Some(B::CANARY)), T::init_test(start))
    }

    fn apply(
        (planted, sut): Self::SystemUnderTest,
        after: &<T::Reference as ReferenceStateMachine>::State,
        transition: <T::Reference as ReferenceStateMachine>::Transition,
    ) -> Self::SystemUnderTest {
        (planted, T::apply(sut, after, transition))
    }

    fn check_invariants(
        (_, sut): &Self::SystemUnderTest,
        after: &<T::Reference as ReferenceStateMachine>::State,
    ) {
        T::check_invariants(sut, after);
    }
}

prop_state_machine! {
    #![proptest_config(ProptestConfig {
        cases: 2_000, failure_persistence: None, max_shrink_iters: 200, ..ProptestConfig::default()
    })]

    #[test]
    #[should_panic(expected = "a conflict was not seen")]
    fn a_forgotten_conflict_is_found(sequential 1..60 => With<UncheckedGeneration, MetadataTest>);

    #[test]
    #[should_panic(expected = "is not listed")]
    fn a_forgotten_mark_is_found(sequential 1..60 => With<ForgottenMark, PagesTest>);
}
