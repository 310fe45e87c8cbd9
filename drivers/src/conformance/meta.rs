//! The contract of a metadata store.

mod rows;
mod versions;

use super::MetaStore;
use bytes::Bytes;
use smallvec::SmallVec;
use vellum_core::limits::{KEY_MAX, VALUE_MAX};
use vellum_core::port::meta_kv::{
    AtomicOp, Commit, CommitRequest, Key, KeyRange, KvError, KvReply, Mutation, Read, ReadRound,
    Value, Values, Version,
};

/// Runs every check. Each uses a prefix of its own, which the store holds nothing under.
pub fn check(store: &dyn MetaStore) {
    reads_its_own_commits(store);
    applies_mutations_in_order(store);
    a_version_reads_the_same_for_ever(store);
    conflicts_on_points_ranges_and_phantoms(store);
    blind_writes_never_conflict(store);
    write_conflicts_count_as_writes(store);
    atomics_follow_foundationdb(store);
    stamps_are_unique_and_ordered(store);
    limits_are_enforced_and_leave_nothing(store);
    ranges_page_both_ways(store);
    future_versions_are_not_there_yet(store);
    sync_answers_what_is_durable(store);
    versions::check(store);
    rows::check(store);
}

/// Runs the checks of a store that many threads may call.
pub fn check_threads(store: &(dyn MetaStore + Sync)) {
    increments_of_many_threads_all_count(store);
    rounds_see_one_moment(store);
}

fn key(text: &str) -> Key {
    Key::new(text.as_bytes())
}

fn set(at: &str, value: &str) -> Mutation {
    Mutation::Set { key: key(at), value: Bytes::copy_from_slice(value.as_bytes()) }
}

fn range(begin: &str, end: &str) -> KeyRange {
    KeyRange { begin: key(begin), end: key(end) }
}

fn write(store: &dyn MetaStore, mutations: Vec<Mutation>) -> Commit {
    store.commit(CommitRequest { mutations, ..CommitRequest::default() }).expect("a blind commit")
}

fn read_at(
    store: &dyn MetaStore,
    at: Option<Version>,
    reads: Vec<Read>,
) -> Result<(Version, Vec<Values>), KvError> {
    let wanted = reads.len();
    match store.read(&ReadRound { at, reads })? {
        KvReply::Values { version, values } => {
            assert_eq!(values.len(), wanted, "one answer per read");
            assert!(at.is_none_or(|at| at == version), "the version asked for");
            Ok((version, values))
        }
        other => panic!("a read was answered with {other:?}"),
    }
}

fn get_at(store: &dyn MetaStore, at: Option<Version>, name: &str) -> Option<Value> {
    let (_, values) = read_at(store, at, vec![Read::Get(key(name))]).expect("a read");
    match &values[..] {
        [Values::One(value)] => value.clone(),
        other => panic!("a get was answered with {other:?}"),
    }
}

fn get(store: &dyn MetaStore, name: &str) -> Option<String> {
    get_at(store, None, name).map(|value| String::from_utf8_lossy(&value).into_owned())
}

fn version(store: &dyn MetaStore) -> Version {
    read_at(store, None, Vec::new()).expect("a read version").0
}

fn rows(
    store: &dyn MetaStore,
    range: KeyRange,
    limit: u32,
    reverse: bool,
) -> (Vec<(Key, Value)>, bool) {
    let read = Read::Range { range, limit, reverse };
    match read_at(store, None, vec![read]).expect("a range read").1.remove(0) {
        Values::Rows { rows, more } => {
            assert!(!more || !rows.is_empty(), "more without a row to go on from");
            (rows, more)
        }
        other => panic!("a range read was answered with {other:?}"),
    }
}

/// A fresh read sees every acknowledged commit; a round is answered in order, at one version.
pub fn reads_its_own_commits(store: &dyn MetaStore) {
    let commit = write(store, vec![set("own/a", "1"), set("own/b", "2")]);
    let all = Read::Range { range: range("own/", "own0"), limit: 9, reverse: false };
    let reads = vec![Read::Get(key("own/b")), all, Read::Get(key("own/none"))];
    let (version, values) = read_at(store, None, reads).expect("a round");
    assert!(version >= commit.version, "{version:?} is older than {commit:?}");
    let (a, b) = (Bytes::from_static(b"1"), Bytes::from_static(b"2"));
    let rows = vec![(key("own/a"), a), (key("own/b"), b.clone())];
    let expected = [Values::One(Some(b)), Values::Rows { rows, more: false }, Values::One(None)];
    assert_eq!(values, expected);
}

/// Later mutations of a commit see the earlier ones.
pub fn applies_mutations_in_order(store: &dyn MetaStore) {
    write(store, vec![set("ord/a", "old"), set("ord/b", "old"), set("ord/c", "old")]);
    let add = Mutation::Atomic {
        key: key("ord/c"),
        op: AtomicOp::Add,
        operand: SmallVec::from_slice(&[5]),
    };
    write(
        store,
        vec![
            set("ord/b", "gone"),
            Mutation::ClearRange { range: range("ord/", "ord0") },
            set("ord/a", "new"),
            add,
            set("ord/d", "gone"),
            Mutation::Clear { key: key("ord/d") },
        ],
    );
    let (found, _) = rows(store, range("ord/", "ord0"), 9, false);
    let new = (key("ord/a"), Bytes::from_static(b"new"));
    assert_eq!(found, [new, (key("ord/c"), Bytes::from_static(&[5]))]);
}

/// Commits after a version change nothing at it, until it is too old.
pub fn a_version_reads_the_same_for_ever(store: &dyn MetaStore) {
    write(store, vec![set("old/a", "1"), set("old/b", "1")]);
    let then = version(store);
    write(store, vec![set("old/a", "2"), Mutation::Clear { key: key("old/b") }, set("old/c", "2")]);
    let all = || Read::Range { range: range("old/", "old0"), limit: 9, reverse: false };
    let (_, values) = read_at(store, Some(then), vec![all()]).expect("a read of a moment ago");
    let one = |name: &str| (key(name), Bytes::from_static(b"1"));
    assert_eq!(values, [Values::Rows { rows: vec![one("old/a"), one("old/b")], more: false }]);
    // Durable or not makes no difference.
    store.sync(version(store)).expect("a sync");
    match read_at(store, Some(then), vec![all()]) {
        Ok((_, after)) => assert_eq!(after, values),
        Err(error) => assert_eq!(error, KvError::TooOld),
    }
}

/// A commit fails exactly if something in its read ranges was written since.
pub fn conflicts_on_points_ranges_and_phantoms(store: &dyn MetaStore) {
    write(store, vec![set("con/a", "1"), set("con/m", "1")]);
    let attempt = |relied_on: KeyRange, meanwhile: Vec<Mutation>| {
        let read_version = Some(version(store));
        write(store, meanwhile);
        let read_conflicts = vec![range("con/zz", "con/zzz"), relied_on];
        let mutations = vec![set("con/done", "x")];
        store.commit(CommitRequest {
            read_version,
            read_conflicts,
            mutations,
            ..Default::default()
        })
    };
    let point = |name: &str| KeyRange::point(key(name));
    let add = |name: &str| Mutation::Atomic {
        key: key(name),
        op: AtomicOp::Add,
        operand: SmallVec::from_slice(&[1]),
    };
    let clear = |name: &str| Mutation::Clear { key: key(name) };
    let wipe = |begin: &str, end: &str| Mutation::ClearRange { range: range(begin, end) };
    for (relied_on, meanwhile) in [
        (point("con/a"), set("con/a", "1")),
        (point("con/a"), clear("con/a")),
        (point("con/a"), add("con/a")),
        (point("con/none"), clear("con/none")),
        (point("con/a"), wipe("con/", "con/b")),
        (range("con/e", "con/k"), set("con/f", "phantom")),
        (range("con/e", "con/k"), wipe("con/j", "con/l")),
        (range("con/e", "con/k"), wipe("con/g", "con/h")),
    ] {
        let outcome = attempt(relied_on.clone(), vec![meanwhile.clone()]);
        assert_eq!(outcome, Err(KvError::Conflict), "{relied_on:?} against {meanwhile:?}");
    }
    assert_eq!(get(store, "con/done"), None, "a commit that conflicts leaves nothing");
    for (relied_on, meanwhile) in [
        (point("con/a"), set("con/b", "1")),
        (point("con/a"), set("con/a\0", "1")),
        (range("con/e", "con/k"), set("con/k", "1")),
        (range("con/e", "con/k"), wipe("con/k", "con/l")),
        (range("con/k", "con/e"), set("con/f", "an empty range relies on nothing")),
    ] {
        let outcome = attempt(relied_on.clone(), vec![meanwhile.clone()]);
        assert!(outcome.is_ok(), "{relied_on:?} against {meanwhile:?}: {outcome:?}");
    }
}

/// Without read conflicts there is nothing to conflict with, however old the version.
pub fn blind_writes_never_conflict(store: &dyn MetaStore) {
    let read_version = Some(version(store));
    write(store, vec![set("blind/a", "1")]);
    let mutations = vec![set("blind/a", "2")];
    let request = CommitRequest { read_version, mutations, ..CommitRequest::default() };
    assert!(store.commit(request).is_ok());
    assert_eq!(get(store, "blind/a").as_deref(), Some("2"));
}

/// An explicit write conflict stops readers and changes nothing.
pub fn write_conflicts_count_as_writes(store: &dyn MetaStore) {
    write(store, vec![set("wc/a", "1")]);
    let read_version = Some(version(store));
    let write_conflicts = vec![range("wc/", "wc0")];
    let mutations = vec![set("wx/a", "1")];
    let request = CommitRequest { write_conflicts, mutations, ..CommitRequest::default() };
    store.commit(request).expect("a commit with a write conflict");
    let read_conflicts = vec![KeyRange::point(key("wc/a"))];
    let request = CommitRequest { read_version, read_conflicts, ..CommitRequest::default() };
    assert_eq!(store.commit(request), Err(KvError::Conflict));
    assert_eq!(get(store, "wc/a").as_deref(), Some("1"));
}

/// Wrapping addition and unsigned maximum, little-endian, cut or extended to the operand.
pub fn atomics_follow_foundationdb(store: &dyn MetaStore) {
    let atomic = |op, operand: &[u8]| Mutation::Atomic {
        key: key("atom"),
        op,
        operand: SmallVec::from_slice(operand),
    };
    let (add, max) = (AtomicOp::Add, AtomicOp::Max);
    type Case<'a> = (Option<&'a [u8]>, AtomicOp, &'a [u8], &'a [u8]);
    let cases: [Case<'_>; 9] = [
        (None, add, &[1, 2], &[1, 2]),
        (Some(&[255, 0]), add, &[1, 0], &[0, 1]),
        (Some(&[255, 255]), add, &[1, 0], &[0, 0]),
        (Some(&[1, 2, 3]), add, &[1, 0], &[2, 2]),
        (Some(&[1]), add, &[1, 0, 7], &[2, 0, 7]),
        (None, max, &[0, 0], &[0, 0]),
        (Some(&[9, 1]), max, &[0, 2], &[0, 2]),
        (Some(&[9, 2]), max, &[10, 1], &[9, 2]),
        (Some(&[9, 2, 200]), max, &[10, 1], &[9, 2]),
    ];
    for (before, op, operand, after) in cases {
        let base = match before {
            Some(value) => Mutation::Set { key: key("atom"), value: Bytes::copy_from_slice(value) },
            None => Mutation::Clear { key: key("atom") },
        };
        for synced in [false, true] {
            let last = write(store, vec![base.clone()]);
            if synced {
                store.sync(last.version).expect("a sync");
            }
            write(store, vec![atomic(op, operand)]);
            let found = get_at(store, None, "atom");
            assert_eq!(found.as_deref(), Some(after), "{before:?} {op:?} {operand:?}");
        }
    }
    let last = write(store, vec![Mutation::Clear { key: key("atom") }]);
    store.sync(last.version).expect("a sync");
    for operand in [[3u8, 0], [4, 0]] {
        write(store, vec![atomic(add, &operand)]);
        store.sync(version(store)).expect("a sync");
    }
    assert_eq!(get_at(store, None, "atom").as_deref(), Some(&[7u8, 0][..]));
}

/// Every commit gets a larger stamp, and writes it where it was asked to.
pub fn stamps_are_unique_and_ordered(store: &dyn MetaStore) {
    let mut before: Option<Commit> = None;
    for _ in 0..5 {
        let mut stamped = key("stamp/");
        stamped.push(&[0; 10]);
        let template = Bytes::from_static(b"<__________>");
        let commit = write(
            store,
            vec![
                Mutation::SetStampedKey { key: stamped.clone(), stamp_at: 6, value: Bytes::new() },
                Mutation::SetStampedValue { key: key("stamped"), value: template, stamp_at: 1 },
            ],
        );
        assert!(before.is_none_or(|before| before < commit), "{before:?} then {commit:?}");
        before = Some(commit);
        let value = get_at(store, None, "stamped").expect("the stamped value");
        assert_eq!((value[0], &value[1..11], value[11]), (b'<', &commit.stamp()[..], b'>'));
        stamped.overwrite(6, &commit.stamp());
        let (found, _) = rows(store, range("stamp/", "stamp0"), 1, true);
        assert_eq!(found[0].0, stamped, "the newest stamp orders last");
    }
    assert_eq!(rows(store, range("stamp/", "stamp0"), 99, false).0.len(), 5);
}

/// At the limit works; above it is refused whole.
pub fn limits_are_enforced_and_leave_nothing(store: &dyn MetaStore) {
    let mut long = key("lim/");
    long.push(&vec![b'x'; KEY_MAX - long.len()]);
    let fits = Mutation::Set { key: long.clone(), value: Bytes::from(vec![7; VALUE_MAX]) };
    write(store, vec![fits]);
    let (found, _) = rows(store, range("lim/", "lim0"), 9, false);
    assert_eq!((found.len(), found[0].1.len()), (1, VALUE_MAX));
    let longer = long.successor();
    for bad in [
        Mutation::Set { key: longer.clone(), value: Bytes::new() },
        Mutation::Clear { key: longer },
        Mutation::Set { key: key("lim/v"), value: Bytes::from(vec![0; VALUE_MAX + 1]) },
        Mutation::SetStampedValue {
            key: key("lim/s"),
            value: Bytes::from_static(b"short"),
            stamp_at: 0,
        },
    ] {
        let mutations = vec![set("lim/a", "1"), bad];
        let outcome = store.commit(CommitRequest { mutations, ..CommitRequest::default() });
        assert_eq!(outcome, Err(KvError::TooLarge));
        assert_eq!(get(store, "lim/a"), None, "a refused commit leaves nothing");
    }
}

/// Limits, `more`, both directions, over rows that are partly durable, partly not, partly deleted.
pub fn ranges_page_both_ways(store: &dyn MetaStore) {
    let name = |n: usize| format!("page/{n:04}");
    write(store, (0..300).map(|n| set(&name(n), "old")).collect());
    store.sync(version(store)).expect("a sync");
    write(store, (0..300).filter(|n| n % 3 == 0).map(|n| set(&name(n), "new")).collect());
    write(
        store,
        (0..300).filter(|n| n % 5 == 0).map(|n| Mutation::Clear { key: key(&name(n)) }).collect(),
    );
    write(store, vec![Mutation::ClearRange { range: range(&name(100), &name(200)) }]);
    write(store, vec![set(&name(150), "island")]);
    let expected: Vec<(Key, String)> = (0..300)
        .filter(|n| n % 5 != 0 && !(100..200).contains(n) || *n == 150)
        .map(|n| {
            let value = if n == 150 {
                "island"
            } else if n % 3 == 0 {
                "new"
            } else {
                "old"
            };
            (key(&name(n)), value.to_owned())
        })
        .collect();
    for reverse in [false, true] {
        for limit in [1, 7, 160, 161, 1000] {
            let mut left = range("page/", "page0");
            let mut seen = Vec::new();
            loop {
                let (page, more) = rows(store, left.clone(), limit, reverse);
                assert!(page.len() <= limit as usize);
                if let Some((last, _)) = page.last() {
                    if reverse { left.end = last.clone() } else { left.begin = last.successor() }
                }
                seen.extend(
                    page.into_iter().map(|(k, v)| (k, String::from_utf8_lossy(&v).into_owned())),
                );
                if !more {
                    break;
                }
            }
            if reverse {
                seen.reverse();
            }
            assert_eq!(seen, expected, "limit {limit}, reverse {reverse}");
        }
    }
    let big = Bytes::from(vec![1; 50_000]);
    let large = |n: usize| Mutation::Set { key: key(&format!("large/{n}")), value: big.clone() };
    write(store, (0..9).map(large).collect());
    let (page, more) = rows(store, range("large/", "large0"), 9, false);
    assert!(more || page.len() == 9, "a reply may be short, and then says so");
    assert_eq!(rows(store, range("large0", "large/"), 9, false), (Vec::new(), false), "inverted");
}

/// A version that no commit has reached is refused, not waited for.
pub fn future_versions_are_not_there_yet(store: &dyn MetaStore) {
    let far = Version(version(store).0 + (1 << 40));
    assert_eq!(read_at(store, Some(far), vec![Read::Get(key("a"))]).err(), Some(KvError::NotYet));
}

/// A sync covers at least what was asked for; of nothing new it is none.
pub fn sync_answers_what_is_durable(store: &dyn MetaStore) {
    let commit = write(store, vec![set("sync", "1")]);
    let durable = store.sync(commit.version).expect("a sync");
    assert!(durable >= commit.version);
    assert!(store.sync(commit.version).expect("another sync") >= durable);
}

/// Read, add one, commit, again on a conflict: no increment is lost.
pub fn increments_of_many_threads_all_count(store: &(dyn MetaStore + Sync)) {
    const THREADS: u64 = 4;
    const EACH: u64 = 200;
    let number = |value: Option<Value>| {
        value.map_or(0, |v| u64::from_le_bytes(v[..].try_into().expect("eight bytes")))
    };
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || {
                for n in 0..EACH {
                    loop {
                        let (at, values) =
                            read_at(store, None, vec![Read::Get(key("count"))]).expect("a read");
                        let [Values::One(value)] = &values[..] else { panic!("{values:?}") };
                        let next = number(value.clone()) + 1;
                        let value = Bytes::copy_from_slice(&next.to_le_bytes());
                        let request = CommitRequest {
                            read_version: Some(at),
                            read_conflicts: vec![KeyRange::point(key("count"))],
                            mutations: vec![Mutation::Set { key: key("count"), value }],
                            ..CommitRequest::default()
                        };
                        match store.commit(request) {
                            Ok(commit) => {
                                if (n + thread) % 16 == 0 {
                                    store.sync(commit.version).expect("a sync");
                                }
                                break;
                            }
                            Err(KvError::Conflict | KvError::TooOld) => {}
                            Err(other) => panic!("{other:?}"),
                        }
                    }
                }
            });
        }
    });
    assert_eq!(number(get_at(store, None, "count")), THREADS * EACH);
}

/// Two keys that are always written together are always read as equal.
pub fn rounds_see_one_moment(store: &(dyn MetaStore + Sync)) {
    const ROUNDS: u64 = 300;
    write(store, vec![set("pair/a", "0"), set("pair/b", "0")]);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for n in 1..=ROUNDS {
                let value = n.to_string();
                let commit = write(store, vec![set("pair/a", &value), set("pair/b", &value)]);
                if n % 32 == 0 {
                    store.sync(commit.version).expect("a sync");
                }
            }
        });
        for _ in 0..2 {
            scope.spawn(move || {
                for _ in 0..ROUNDS {
                    let all =
                        Read::Range { range: range("pair/", "pair0"), limit: 9, reverse: true };
                    let reads = vec![Read::Get(key("pair/a")), all];
                    let (_, values) = read_at(store, None, reads).expect("a round");
                    let [Values::One(Some(a)), Values::Rows { rows, .. }] = &values[..] else {
                        panic!("{values:?}")
                    };
                    assert!(rows.iter().all(|(_, value)| value == a), "{a:?} and {rows:?}");
                }
            });
        }
    });
}
