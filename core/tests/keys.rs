//! Keys of the metadata store: each reads back, and they order as their parts do.

use proptest::prelude::*;
use vellum_core::id::{Ino, SegmentId, SessionId};
use vellum_core::limits::BUCKET_SLOTS;
use vellum_core::meta::key::{self, tag};
use vellum_core::port::meta_kv::{Commit, Key, KeyRange, Version};

/// Numbers whose bytes carry, wrap and collide.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0u64),
        Just(1),
        Just(254),
        Just(255),
        Just(256),
        Just(u64::from(u32::MAX)),
        Just(1 << 62),
        Just(u64::MAX - 1),
        Just(u64::MAX),
        any::<u64>(),
        0..5u64,
    ]
}

fn ino() -> impl Strategy<Value = Ino> {
    number().prop_map(Ino)
}

fn segment() -> impl Strategy<Value = SegmentId> {
    (any::<u128>(), number())
        .prop_map(|(session, sequence)| SegmentId { session: SessionId(session), sequence })
}

/// The name of an attribute as the filesystem takes them: no NUL.
fn name() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(1..=255u8, 1..20)
}

fn stamp() -> impl Strategy<Value = Commit> {
    (number(), any::<u16>()).prop_map(|(v, batch)| Commit { version: Version(v), batch })
}

/// A log key as the store makes it.
fn stamped((mut key, at): (Key, usize), commit: Commit) -> Key {
    key.overwrite(at, &commit.stamp());
    key
}

/// Two keys made of parts order as the parts do.
fn order<T: Ord + core::fmt::Debug>(a: T, b: T, make: impl Fn(&T) -> Key) {
    assert_eq!(a.cmp(&b), make(&a).cmp(&make(&b)), "{a:?} and {b:?}");
}

/// Whether a range holds a key, and nothing but keys for which `inside` holds.
fn holds(range: &KeyRange, key: &Key, inside: bool) {
    assert_eq!(range.contains(key), inside, "{key:?} and {range:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn dentries_read_back_and_order_by_cookie(
        a in (ino(), number()), b in (ino(), number()), after in 0..u64::MAX - BUCKET_SLOTS,
    ) {
        let make = |(dir, cookie): &(Ino, u64)| key::dentry(*dir, *cookie);
        prop_assert_eq!(key::parse_dentry(&make(&a)), Some(a));
        order(a, b, make);
        // The end of a listing is a cookie that no name has.
        if b.1 < u64::MAX {
            holds(&key::dentries_after(a.0, after), &make(&b), a.0 == b.0 && b.1 > after);
        }
        let bucket = after..after + BUCKET_SLOTS;
        holds(&key::bucket(a.0, after), &make(&b), a.0 == b.0 && bucket.contains(&b.1));
        holds(&key::all_dentries(), &make(&b), true);
    }

    #[test]
    fn keys_of_an_inode_stay_together_with_the_attributes_first(
        a in (ino(), 0..=254u8), b in (ino(), 0..=254u8),
    ) {
        let make = |(ino, tag): &(Ino, u8)| key::inode(*ino, *tag);
        let first = make(&a);
        prop_assert_eq!(key::parse_inode(&first), Some((a.0, a.1, &[][..])));
        order(a, b, make);
        holds(&key::whole_inode(a.0), &make(&b), a.0 == b.0);
        holds(&key::attrs(a.0), &make(&b), a.0 == b.0 && b.1 < tag::ATTR_END);
        holds(&key::all_inodes(), &make(&b), true);
    }

    #[test]
    fn attributes_order_by_name(a in (ino(), name()), b in (ino(), name()), any_tag in 0..=254u8) {
        let make = |(ino, name): &(Ino, Vec<u8>)| key::xattr(*ino, name);
        let first = make(&a);
        prop_assert_eq!(key::parse_inode(&first), Some((a.0, tag::XATTR, &a.1[..])));
        holds(&key::xattrs(a.0), &make(&b), a.0 == b.0);
        holds(&key::xattrs(a.0), &key::inode(b.0, any_tag), a.0 == b.0 && any_tag == tag::XATTR);
        holds(&key::whole_inode(a.0), &make(&b), a.0 == b.0);
        order(a, b, make);
    }

    /// Region by region; within one, as it is painted.
    #[test]
    fn logs_order_by_paint(
        a in (ino(), number(), number(), any::<u32>(), stamp(), any::<u16>()),
        b in (ino(), number(), number(), any::<u32>(), stamp(), any::<u16>()),
    ) {
        let make = |k: &(Ino, u64, u64, u32, Commit, u16)| {
            stamped(key::log_pack(k.0, k.1, k.2, k.3, k.5), k.4)
        };
        let (first, second) = (make(&a), make(&b));
        let (of, at, rest) = key::parse_inode(&first).expect("a key of an inode");
        prop_assert_eq!((of, at, key::parse_log(rest)), (a.0, tag::LOG, Some((a.1, a.2))));
        let paint = |k: &(Ino, u64, u64, u32, Commit, u16)| (k.3, k.4, k.5);
        let orders = [&first, &second].map(|key| key::paint_order(key));
        prop_assert_eq!(paint(&a).cmp(&paint(&b)), orders[0].cmp(&orders[1]));
        holds(&key::log_region(a.0, a.1, a.2), &second, (a.0, a.1, a.2) == (b.0, b.1, b.2));
        holds(&key::log_generation(a.0, a.1), &second, (a.0, a.1) == (b.0, b.1));
        holds(&key::log_all(a.0), &second, a.0 == b.0);
        holds(&key::erases(a.0, a.1), &second, false);
        order(a, b, make);
    }

    /// Erases and packs of one transaction share one order.
    #[test]
    fn erases_order_by_paint(
        a in (ino(), number(), any::<u32>(), stamp(), any::<u16>()),
        b in (ino(), number(), any::<u32>(), stamp(), any::<u16>()),
        region in number(),
    ) {
        let make = |k: &(Ino, u64, u32, Commit, u16)| stamped(key::erase(k.0, k.1, k.2, k.4), k.3);
        let (first, second) = (make(&a), make(&b));
        let (of, at, rest) = key::parse_inode(&first).expect("a key of an inode");
        prop_assert_eq!((of, at, key::parse_erase(rest)), (a.0, tag::ERASE, Some(a.1)));
        let pack = stamped(key::log_pack(b.0, b.1, region, b.2, b.4), b.3);
        prop_assert_eq!(key::paint_order(&second), key::paint_order(&pack));
        holds(&key::erases(a.0, a.1), &second, (a.0, a.1) == (b.0, b.1));
        holds(&key::log_generation(a.0, a.1), &second, false);
        let ranges = key::generation_keys(a.0, a.1);
        let held = ranges.iter().any(|range| range.contains(&second));
        prop_assert_eq!(held, (a.0, a.1) == (b.0, b.1));
        order(a, b, make);
    }

    #[test]
    fn back_links_and_garbage_read_back(
        a in (ino(), ino(), number()), b in (ino(), ino(), number()),
    ) {
        let link = |(ino, parent, cookie): &(Ino, Ino, u64)| key::back_link(*ino, *parent, *cookie);
        prop_assert_eq!(key::parse_back_link(&link(&a)), Some(a));
        holds(&key::back_links(a.0), &link(&b), a.0 == b.0);
        order(a, b, link);
        let waiting = |(ino, _, generation): &(Ino, Ino, u64)| key::garbage(*ino, *generation);
        prop_assert_eq!(key::parse_garbage(&waiting(&a)), Some((a.0, a.2)));
        holds(&key::older_garbage(a.0), &waiting(&b), a.0 == b.0 && b.2 < u64::MAX);
        holds(&key::all_garbage(), &waiting(&b), true);
        order((a.0, a.0, a.2), (b.0, b.0, b.2), waiting);
    }

    #[test]
    fn segments_read_back(a in segment(), b in segment()) {
        prop_assert_eq!(SegmentId::from_bytes(a.to_bytes()), a);
        for make in [key::segment, key::live_bytes] {
            prop_assert_eq!(key::parse_segment(&make(a)), Some(a));
            order(a, b, |id| make(*id));
        }
        holds(&key::all_segments(), &key::segment(a), true);
        holds(&key::all_live_bytes(), &key::live_bytes(a), true);
        holds(&key::all_segments(), &key::live_bytes(a), false);
    }

    /// No key is of two families, and no other key of an inode is taken for one of its parts.
    #[test]
    fn families_are_disjoint(ino in ino(), other in ino(), n in number(), id in segment()) {
        let (log, _) = key::log_pack(ino, n, n, 0, 0);
        let keys = [
            key::volume(), key::usage(), key::limit(), key::groups(), key::dentry(ino, n),
            key::inode(ino, tag::CORE), key::xattr(ino, b"user.a"), log,
            key::back_link(ino, other, n), key::garbage(ino, n), key::segment(id),
            key::live_bytes(id), key::fence(id.session), key::slot(id.session, n as u32),
        ];
        let families = [
            key::all_dentries(), key::all_inodes(), key::all_back_links(), key::all_garbage(),
            key::all_segments(), key::all_live_bytes(),
        ];
        for key in &keys {
            let of = families.iter().filter(|family| family.contains(key)).count();
            let session = usize::from(key::is_session(key));
            let single = usize::from(key.len() <= 2);
            prop_assert_eq!(of + session + single, 1, "{:?}", key);
        }
    }

    /// What nobody wrote is no key, and nothing panics over it.
    #[test]
    fn other_bytes_are_no_keys(
        first in prop::sample::select(b"NIPGUVSZA".to_vec()),
        rest in prop::collection::vec(any::<u8>(), 0..50),
    ) {
        let bytes = [&[first][..], &rest].concat();
        let whole = |parsed: Option<Key>| parsed.is_none_or(|key| key[..] == bytes[..]);
        prop_assert!(whole(key::parse_dentry(&bytes).map(|(d, c)| key::dentry(d, c))));
        prop_assert!(whole(key::parse_back_link(&bytes).map(|(i, p, c)| key::back_link(i, p, c))));
        prop_assert!(whole(key::parse_garbage(&bytes).map(|(i, g)| key::garbage(i, g))));
        if let Some((ino, tag, rest)) = key::parse_inode(&bytes) {
            let mut key = key::inode(ino, tag);
            key.push(rest);
            prop_assert_eq!(&key[..], &bytes[..]);
            let _ = (key::parse_log(rest), key::parse_erase(rest), key::paint_order(&bytes));
        }
        let _ = (key::parse_segment(&bytes), key::is_session(&bytes));
    }
}
