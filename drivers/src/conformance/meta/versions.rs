//! Versions, what conflicts, stamps.

use super::{MetaStore, get, get_at, key, range, read_at, rows, set, version, write};
use bytes::Bytes;
use smallvec::SmallVec;
use vellum_core::limits::{KEY_MAX, TRANSACTION_MAX, VALUE_MAX};
use vellum_core::port::meta_kv::{
    AtomicOp, Commit, CommitRequest, Key, KeyRange, KvError, Mutation, Read, Values, Version,
};

pub(super) fn check(store: &dyn MetaStore) {
    versions_only_grow(store);
    what_was_written_before_the_read_is_no_conflict(store);
    only_what_is_relied_on_conflicts(store);
    a_refused_commit_can_be_tried_again(store);
    stamped_keys_conflict_where_they_land(store);
    one_commit_has_one_stamp(store);
    transactions_have_a_limit(store);
    stamps_must_fit(store);
    old_versions_keep_every_kind_of_change(store);
}

fn relying_on(
    at: Version,
    read_conflicts: Vec<KeyRange>,
    mutations: Vec<Mutation>,
) -> CommitRequest {
    CommitRequest { read_version: Some(at), read_conflicts, mutations, ..CommitRequest::default() }
}

fn point(name: &str) -> KeyRange {
    KeyRange::point(key(name))
}

/// Commits come in an order, and a read is at least as new as what was answered before it.
fn versions_only_grow(store: &dyn MetaStore) {
    let (mut last, mut seen) = (Commit::default(), Version(0));
    for n in 0..20 {
        let commit = write(store, vec![set("grow/a", &n.to_string())]);
        assert!(commit > last, "{last:?} then {commit:?}");
        let now = version(store);
        assert!(now >= commit.version && now >= seen, "{seen:?} then {now:?} after {commit:?}");
        (last, seen) = (commit, now);
        if n % 7 == 0 {
            store.sync(commit.version).expect("a sync");
        }
    }
    assert!(version(store) >= seen, "without a commit, too");
}

/// The read saw it.
fn what_was_written_before_the_read_is_no_conflict(store: &dyn MetaStore) {
    write(store, vec![set("seen/a", "1")]);
    let at = version(store);
    let first = relying_on(at, vec![point("seen/a")], vec![set("seen/a", "2")]);
    assert!(store.commit(first.clone()).is_ok());
    assert_eq!(store.commit(first), Err(KvError::Conflict), "now it is one");
    assert_eq!(get(store, "seen/a").as_deref(), Some("2"));
}

/// A read that no conflict range names is a snapshot; writes do not conflict with writes.
fn only_what_is_relied_on_conflicts(store: &dyn MetaStore) {
    write(store, vec![set("snap/a", "1"), set("snap/b", "1")]);
    let (at, _) = read_at(store, None, vec![Read::Get(key("snap/a"))]).expect("a read");
    write(store, vec![set("snap/a", "2")]);
    let stale = relying_on(at, vec![point("snap/b")], vec![set("snap/a", "3")]);
    assert!(store.commit(stale).is_ok());
    assert_eq!(get(store, "snap/a").as_deref(), Some("3"));
    // And a write that is only relied on by nobody harms nobody.
    let nothing = relying_on(at, vec![point("snap/b")], Vec::new());
    assert!(store.commit(nothing).is_ok());
}

/// At a newer version what was a conflict is none any more.
fn a_refused_commit_can_be_tried_again(store: &dyn MetaStore) {
    write(store, vec![set("again/a", "1")]);
    let at = version(store);
    write(store, vec![set("again/a", "2")]);
    let mut request = relying_on(at, vec![point("again/a")], vec![set("again/b", "done")]);
    assert_eq!(store.commit(request.clone()), Err(KvError::Conflict));
    assert_eq!(get(store, "again/b"), None);
    request.read_version = Some(version(store));
    assert!(store.commit(request).is_ok());
    assert_eq!(get(store, "again/b").as_deref(), Some("done"));
}

/// The key that the stamp makes is the key that is written.
fn stamped_keys_conflict_where_they_land(store: &dyn MetaStore) {
    let at = version(store);
    let mut named = key("land/0123456789/end");
    named.overwrite(5, &[0; 10]);
    let stamped =
        Mutation::SetStampedKey { key: named, stamp_at: 5, value: Bytes::from_static(b"v") };
    write(store, vec![stamped]);
    let (found, _) = rows(store, range("land/", "land0"), 9, false);
    assert_eq!(found.len(), 1);
    let landed = KeyRange::point(found[0].0.clone());
    let request = relying_on(at, vec![landed], vec![set("land", "x")]);
    assert_eq!(store.commit(request), Err(KvError::Conflict));
    let request = relying_on(at, vec![range("land/", "land0")], vec![set("land", "x")]);
    assert_eq!(store.commit(request), Err(KvError::Conflict), "as a phantom, too");
}

/// In keys and in values, and it is the stamp of the commit that was answered.
fn one_commit_has_one_stamp(store: &dyn MetaStore) {
    let mut stamped = key("one/");
    stamped.push(&[0; 12]);
    let value = Bytes::from(vec![0; 10]);
    let commit = write(
        store,
        vec![
            Mutation::SetStampedKey { key: stamped.clone(), stamp_at: 4, value: Bytes::new() },
            Mutation::SetStampedValue { key: key("one/v"), value: value.clone(), stamp_at: 0 },
            Mutation::SetStampedValue { key: key("one/w"), value, stamp_at: 0 },
        ],
    );
    stamped.overwrite(4, &commit.stamp());
    for synced in [false, true] {
        if synced {
            store.sync(commit.version).expect("a sync");
        }
        let (found, _) = rows(store, range("one/", "one0"), 9, false);
        let stamp = Bytes::copy_from_slice(&commit.stamp());
        let expected =
            [(stamped.clone(), Bytes::new()), (key("one/v"), stamp.clone()), (key("one/w"), stamp)];
        assert_eq!(found, expected, "after a sync: {synced}");
    }
    assert_eq!(Commit::from_stamp(commit.stamp()), commit);
}

/// Keys, values and conflict ranges count together.
fn transactions_have_a_limit(store: &dyn MetaStore) {
    let value = Bytes::from(vec![1; VALUE_MAX]);
    let fill = |count: usize| -> Vec<Mutation> {
        let name = |n: usize| key(&format!("huge/{n:03}"));
        (0..count).map(|n| Mutation::Set { key: name(n), value: value.clone() }).collect()
    };
    let most = TRANSACTION_MAX / (VALUE_MAX + 8);
    let fits = CommitRequest { mutations: fill(most), ..CommitRequest::default() };
    assert!(store.commit(fits).is_ok());
    let above = CommitRequest { mutations: fill(most + 1), ..CommitRequest::default() };
    assert_eq!(store.commit(above), Err(KvError::TooLarge));
    assert_eq!(get(store, &format!("huge/{most:03}")), None);
    let long = Key::new(&vec![b'h'; KEY_MAX]);
    let ranges = vec![KeyRange::point(long.clone()); TRANSACTION_MAX / (2 * KEY_MAX) + 1];
    let at = version(store);
    let above = relying_on(at, ranges, vec![set("huge/more", "1")]);
    assert_eq!(store.commit(above), Err(KvError::TooLarge), "conflict ranges count");
    let fits = relying_on(at, vec![KeyRange::point(long)], vec![set("huge/more", "1")]);
    assert!(store.commit(fits).is_ok(), "a point of the longest key");
    write(store, vec![Mutation::ClearRange { range: range("huge/", "huge0") }]);
}

/// A stamp that reaches beyond its key or value is refused, whatever the arithmetic.
fn stamps_must_fit(store: &dyn MetaStore) {
    for stamp_at in [1, 10, usize::MAX - 4, usize::MAX] {
        for mutation in [
            Mutation::SetStampedKey { key: key("fit/123456"), stamp_at, value: Bytes::new() },
            Mutation::SetStampedValue {
                key: key("fit"),
                value: Bytes::from_static(b"0123456789"),
                stamp_at,
            },
        ] {
            let request = CommitRequest { mutations: vec![mutation], ..CommitRequest::default() };
            assert_eq!(store.commit(request), Err(KvError::TooLarge), "at {stamp_at}");
        }
    }
    assert_eq!(rows(store, range("fit", "fit0"), 9, false).0, []);
}

/// Sets, clears of points and ranges, and atomics: each version shows what it had.
fn old_versions_keep_every_kind_of_change(store: &dyn MetaStore) {
    let add = |n: u8| Mutation::Atomic {
        key: key("kind/n"),
        op: AtomicOp::Add,
        operand: SmallVec::from_slice(&[n, 0]),
    };
    type Expected<'a> = &'a [(&'a str, &'a [u8])];
    let states: [(Vec<Mutation>, Expected<'_>); 5] = [
        (vec![set("kind/a", "1"), set("kind/z", "1")], &[("kind/a", b"1"), ("kind/z", b"1")]),
        (vec![add(3)], &[("kind/a", b"1"), ("kind/n", &[3, 0]), ("kind/z", b"1")]),
        (
            vec![Mutation::ClearRange { range: range("kind/a", "kind/m") }, add(4)],
            &[("kind/n", &[7, 0]), ("kind/z", b"1")],
        ),
        (
            vec![Mutation::Clear { key: key("kind/n") }, set("kind/b", "")],
            &[("kind/b", b""), ("kind/z", b"1")],
        ),
        (vec![add(1)], &[("kind/b", b""), ("kind/n", &[1, 0]), ("kind/z", b"1")]),
    ];
    let mut then = Vec::new();
    for (mutations, expected) in states {
        write(store, mutations);
        then.push((version(store), expected));
        for (at, expected) in &then {
            let all = Read::Range { range: range("kind/", "kind0"), limit: 9, reverse: false };
            let read = read_at(store, Some(*at), vec![all]);
            let (_, values) = read.expect("a version of a moment ago");
            let row = |(name, value): &(&str, &[u8])| (key(name), Bytes::copy_from_slice(value));
            let expected: Vec<_> = expected.iter().map(row).collect();
            assert_eq!(values, [Values::Rows { rows: expected, more: false }]);
            for (name, value) in then.last().expect("just pushed").1 {
                let newest = get_at(store, None, name);
                assert_eq!(newest.as_deref(), Some(*value), "an old read changes nothing");
            }
        }
    }
}
