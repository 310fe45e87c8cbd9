//! Ranges: their borders, pages of them, and empty ones.

use super::{MetaStore, get, key, range, read_at, rows, set, version, write};
use bytes::Bytes;
use vellum_core::port::meta_kv::{Key, KeyRange, Mutation, Read, Value, Values, Version};

pub(super) fn check(store: &dyn MetaStore) {
    borders_are_half_open(store);
    an_empty_value_is_a_value(store);
    empty_ranges_are_empty(store);
    keys_order_by_bytes(store);
    pages_of_an_old_version_fit_together(store);
    a_clear_in_the_middle_of_a_commit_leaves_what_comes_after(store);
    sync_of_anything_is_answered(store);
}

/// The begin is inside, the end is not, in both directions.
fn borders_are_half_open(store: &dyn MetaStore) {
    write(store, ["b", "c", "d"].map(|n| set(&format!("half/{n}"), n)).to_vec());
    let names = |begin: &str, end: &str, reverse| -> Vec<Key> {
        let (found, more) = rows(store, range(begin, end), 9, reverse);
        assert!(!more);
        found.into_iter().map(|(key, _)| key).collect()
    };
    for (begin, end, expected) in [
        ("half/b", "half/d", vec!["half/b", "half/c"]),
        ("half/a", "half/b", vec![]),
        ("half/b\0", "half/d\0", vec!["half/c", "half/d"]),
        ("half/", "half0", vec!["half/b", "half/c", "half/d"]),
    ] {
        let mut expected: Vec<Key> = expected.into_iter().map(key).collect();
        assert_eq!(names(begin, end, false), expected, "{begin}..{end}");
        expected.reverse();
        assert_eq!(names(begin, end, true), expected, "{begin}..{end} from its end");
    }
}

/// It is there, and a range shows it.
fn an_empty_value_is_a_value(store: &dyn MetaStore) {
    write(store, vec![set("empty/a", "")]);
    assert_eq!(get(store, "empty/a").as_deref(), Some(""));
    assert_eq!(
        rows(store, range("empty/", "empty0"), 9, false).0,
        [(key("empty/a"), Bytes::new())]
    );
    store.sync(version(store)).expect("a sync");
    assert_eq!(get(store, "empty/a").as_deref(), Some(""));
}

/// Also those whose end comes before their begin: they have no rows, and clear none.
fn empty_ranges_are_empty(store: &dyn MetaStore) {
    write(store, vec![set("none/b", "1")]);
    for (begin, end) in [("none/b", "none/b"), ("none0", "none/"), ("none/c", "none/d")] {
        for reverse in [false, true] {
            assert_eq!(rows(store, range(begin, end), 9, reverse), (Vec::new(), false));
        }
        write(store, vec![Mutation::ClearRange { range: range(begin, end) }]);
        assert_eq!(get(store, "none/b").as_deref(), Some("1"), "{begin}..{end}");
    }
}

/// As unsigned bytes, a prefix first.
fn keys_order_by_bytes(store: &dyn MetaStore) {
    let tails: [&[u8]; 7] = [&[], &[0], &[0, 0], &[0, 255], &[1], &[127, 1], &[128]];
    let full = |tail: &[u8]| {
        let mut key = key("bytes/");
        key.push(tail);
        key
    };
    let put = |tail: &&[u8]| Mutation::Set { key: full(tail), value: Bytes::copy_from_slice(tail) };
    write(store, tails.iter().rev().map(put).collect());
    let expected: Vec<(Key, Value)> =
        tails.iter().map(|tail| (full(tail), Bytes::copy_from_slice(tail))).collect();
    for synced in [false, true] {
        if synced {
            store.sync(version(store)).expect("a sync");
        }
        assert_eq!(rows(store, range("bytes/", "bytes0"), 99, false).0, expected);
    }
}

/// Whoever goes on at the version of the first page gets no row twice and misses none.
fn pages_of_an_old_version_fit_together(store: &dyn MetaStore) {
    let name = |n: usize| format!("fit2/{n:02}");
    write(store, (0..20).map(|n| set(&name(n), "old")).collect());
    let then = version(store);
    let mut seen = 0;
    let mut left = range("fit2/", "fit20");
    loop {
        let rows = page_at(store, then, left.clone(), 3);
        let Some((last, _)) = rows.last() else { break };
        left.begin = last.successor();
        seen += rows.len();
        assert!(rows.iter().all(|(_, value)| &value[..] == b"old"));
        // What comes later is at later versions only, before and behind where the listing is.
        write(
            store,
            vec![
                Mutation::Clear { key: key(&name(0)) },
                set(&name(19), "new"),
                set(&format!("fit2/{:02}x", seen), "new"),
            ],
        );
    }
    assert_eq!(seen, 20);
}

fn page_at(store: &dyn MetaStore, at: Version, range: KeyRange, limit: u32) -> Vec<(Key, Value)> {
    let read = Read::Range { range, limit, reverse: false };
    match read_at(store, Some(at), vec![read]).expect("a page").1.remove(0) {
        Values::Rows { rows, .. } => rows,
        other => panic!("{other:?}"),
    }
}

/// In the order of the mutations.
fn a_clear_in_the_middle_of_a_commit_leaves_what_comes_after(store: &dyn MetaStore) {
    write(store, vec![set("mid/a", "1"), set("mid/b", "1"), set("mid/c", "1")]);
    write(
        store,
        vec![
            set("mid/b", "2"),
            Mutation::ClearRange { range: range("mid/a", "mid/c") },
            set("mid/a", "3"),
        ],
    );
    let expected = [("mid/a", "3"), ("mid/c", "1")];
    let expected = expected.map(|(name, value)| (key(name), Bytes::from(value)));
    assert_eq!(rows(store, range("mid/", "mid0"), 9, false).0, expected);
}

/// Nothing new, something old, everything twice; and it never goes back.
fn sync_of_anything_is_answered(store: &dyn MetaStore) {
    let mut before = store.sync(Version(0)).expect("a sync of nothing");
    for n in 0..5 {
        let commit = write(store, vec![set("syncs", &n.to_string())]);
        for up_to in [commit.version, Version(0), commit.version] {
            let durable = store.sync(up_to).expect("a sync");
            assert!(durable >= up_to && durable >= before, "{before:?} then {durable:?}");
            before = durable;
        }
    }
}
