//! Single behaviours of the mount's machine, each in a world without faults.

mod world;

use vellum_core::error::FsError;
use vellum_core::id::Ino;
use vellum_core::port::kernel::{Operation, SetAttr, SetTime};
use vellum_core::time::WallTime;
use world::World;

fn pattern(n: usize, seed: u8) -> Vec<u8> {
    (0..n)
        .map(|i| (i as u8).wrapping_mul(31).wrapping_add((i >> 8) as u8).wrapping_add(seed))
        .collect()
}

#[test]
fn a_small_file_lives_inline_and_survives_a_remount() {
    let mut w = World::new();
    let f = w.create(Ino::ROOT, "a").expect("create");
    assert_eq!(w.write(f, 0, b"hello"), Ok(5));
    assert_eq!(w.read_at(f, 0, 100).expect("read"), b"hello");
    assert_eq!(w.attr(f.0).expect("attr").size, 5);
    w.close(f).expect("close");
    w.remount();
    let ino = w.lookup(Ino::ROOT, "a").expect("lookup").expect("there").ino;
    let f = w.open(ino).expect("open");
    assert_eq!(w.read_at(f, 1, 3).expect("read"), b"ell");
    assert!(w.pages.is_empty(), "no segment for five bytes");
}

#[test]
fn every_size_around_the_limits_of_storage_reads_back() {
    for size in [1usize, 4095, 4096, 4097, 16_384, 16_385, 70_000, 5 << 20] {
        let mut w = World::new();
        let f = w.create(Ino::ROOT, "a").expect("create");
        let data = pattern(size, 3);
        for (n, chunk) in data.chunks(1 << 20).enumerate() {
            w.write(f, (n << 20) as u64, chunk).expect("write");
        }
        w.fsync(f).expect("fsync");
        w.close(f).expect("close");
        w.remount();
        let ino = w.lookup(Ino::ROOT, "a").expect("lookup").expect("there").ino;
        let f = w.open(ino).expect("open");
        for (n, chunk) in data.chunks(1 << 20).enumerate() {
            let got = w.read_at(f, (n << 20) as u64, 1 << 20).expect("read");
            assert!(got == chunk, "size {size}, chunk {n}");
        }
        assert_eq!(w.attr(ino).expect("attr").size, size as u64);
    }
}

#[test]
fn an_inline_file_that_grows_keeps_its_bytes() {
    let mut w = World::new();
    let f = w.create(Ino::ROOT, "a").expect("create");
    w.write(f, 0, b"head").expect("write");
    w.fsync(f).expect("fsync");
    w.write(f, 100_000, b"tail").expect("write");
    w.fsync(f).expect("fsync");
    assert_eq!(w.read_at(f, 0, 8).expect("read"), b"head\0\0\0\0");
    assert_eq!(w.read_at(f, 99_998, 10).expect("read"), b"\0\0tail");
    w.close(f).expect("close");
    w.remount();
    let f = w.open(f.0).expect("open");
    assert_eq!(w.read_at(f, 0, 8).expect("read"), b"head\0\0\0\0");
    assert_eq!(w.read_at(f, 99_998, 10).expect("read"), b"\0\0tail");
}

#[test]
fn truncated_bytes_stay_zeros_when_the_file_grows_again() {
    for size in [3000u64, 30_000, 3_000_000] {
        let mut w = World::new();
        let f = w.create(Ino::ROOT, "a").expect("create");
        for (n, chunk) in pattern(size as usize, 9).chunks(1 << 20).enumerate() {
            w.write(f, (n << 20) as u64, chunk).expect("write");
        }
        assert_eq!(w.truncate(f.0, 1000).expect("truncate").size, 1000);
        assert_eq!(w.truncate(f.0, size).expect("truncate").size, size);
        let got = w.read_at(f, 0, 3000).expect("read");
        assert!(
            got[..1000] == pattern(1000, 9)[..] && got[1000..].iter().all(|b| *b == 0),
            "size {size}"
        );
        w.truncate(f.0, 0).expect("truncate");
        w.truncate(f.0, size).expect("truncate");
        assert!(w.read_at(f, 0, 3000).expect("read").iter().all(|b| *b == 0), "size {size}");
        w.close(f).expect("close");
        w.remount();
        let f = w.open(f.0).expect("open");
        assert!(w.read_at(f, 0, 3000).expect("read").iter().all(|b| *b == 0), "size {size}");
    }
}

#[test]
fn an_unlinked_open_file_stays_readable_and_is_reclaimed_at_its_last_close() {
    let mut w = World::new();
    let f = w.create(Ino::ROOT, "a").expect("create");
    let data = pattern(100_000, 1);
    w.write(f, 0, &data).expect("write");
    w.fsync(f).expect("fsync");
    w.unlink(Ino::ROOT, "a").expect("unlink");
    assert!(w.read_at(f, 0, 100_000).expect("read") == data);
    assert_eq!(w.attr(f.0).expect("attr").nlink, 0);
    w.close(f).expect("close");
    assert_eq!(w.attr(f.0).expect("the kernel still knows it").nlink, 0);
    w.forget(f.0);
    assert_eq!(w.attr(f.0), Err(FsError::Stale));
    w.wait(3_000_000_000);
    assert!(w.pages.is_empty(), "its segment is deleted once that is durable");
    let root = |k: &&Vec<u8>| k.starts_with(b"I") && k[1..9] == 1u64.to_be_bytes();
    let others = w.kv.keys().filter(|k| !k.starts_with(b"Z") && !k.starts_with(b"A") && !root(k));
    assert_eq!(
        others.count(),
        0,
        "nothing but the root remains: {:?}",
        w.kv.keys().collect::<Vec<_>>()
    );
}

#[test]
fn what_a_dead_mount_left_unlinked_is_reclaimed_by_the_next() {
    let mut w = World::new();
    let f = w.create(Ino::ROOT, "a").expect("create");
    w.write(f, 0, &pattern(100_000, 1)).expect("write");
    w.fsync(f).expect("fsync");
    w.unlink(Ino::ROOT, "a").expect("unlink");
    w.remount();
    w.wait(3_000_000_000);
    assert_eq!(w.attr(f.0), Err(FsError::Stale));
    assert!(w.pages.is_empty());
}

#[test]
fn rename_replaces_and_moves_and_refuses() {
    let mut w = World::new();
    let a = w.mkdir(Ino::ROOT, "a").expect("mkdir");
    let b = w.mkdir(a, "b").expect("mkdir");
    let f = w.create(a, "f").expect("create");
    w.create(b, "g").expect("create");
    assert_eq!(w.rename((Ino::ROOT, "a"), (b, "x"), 0), Err(FsError::Invalid));
    assert_eq!(w.rename((a, "f"), (Ino::ROOT, "a"), 0), Err(FsError::IsDirectory));
    assert_eq!(w.rename((a, "b"), (a, "f"), 0), Err(FsError::NotDirectory));
    assert_eq!(w.rename((a, "f"), (b, "g"), 1), Err(FsError::Exists));
    assert_eq!(w.rename((a, "f"), (b, "nothing"), 2), Err(FsError::NotFound));
    w.rename((a, "f"), (b, "g"), 0).expect("replace");
    assert_eq!(w.lookup(b, "g").expect("lookup").expect("there").ino, f.0);
    assert_eq!(w.lookup(a, "f"), Ok(None));
    w.rename((a, "b"), (Ino::ROOT, "c"), 0).expect("move");
    assert_eq!(w.attr(a).expect("attr").nlink, 2);
    assert_eq!(w.attr(Ino::ROOT).expect("attr").nlink, 4);
    w.rename((Ino::ROOT, "a"), (Ino::ROOT, "c"), 2).expect("exchange");
    assert_eq!(w.lookup(Ino::ROOT, "a").expect("lookup").expect("there").ino, b);
}

#[test]
fn hard_links_count_and_survive_the_home_name() {
    let mut w = World::new();
    let d = w.mkdir(Ino::ROOT, "d").expect("mkdir");
    let f = w.create(Ino::ROOT, "a").expect("create");
    for name in ["b", "c"] {
        let op = Operation::Link { ino: f.0, new_parent: d, new_name: name.into() };
        w.entry(op).expect("link");
    }
    assert_eq!(w.attr(f.0).expect("attr").nlink, 3);
    w.unlink(Ino::ROOT, "a").expect("unlink");
    w.rename((d, "b"), (Ino::ROOT, "z"), 0).expect("rename");
    w.unlink(d, "c").expect("unlink");
    assert_eq!(w.attr(f.0).expect("attr").nlink, 1);
    w.unlink(Ino::ROOT, "z").expect("unlink");
    assert_eq!(w.attr(f.0).expect("attr").nlink, 0);
    assert!(!w.kv.keys().any(|k| k.starts_with(b"P")), "back links go with the names");
}

#[test]
fn a_listing_returns_every_entry_once_whatever_the_page() {
    let mut w = World::new();
    for n in 0..300 {
        w.create(Ino::ROOT, &format!("file-{n}")).expect("create");
    }
    for room in [64, 200, 4096, 1 << 20] {
        let mut names: Vec<_> =
            w.list(Ino::ROOT, room).expect("list").into_iter().map(|e| e.0).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 302, "room {room}");
    }
}

#[test]
fn times_follow_the_rules() {
    let mut w = World::new();
    let f = w.create(Ino::ROOT, "a").expect("create");
    let born = w.attr(f.0).expect("attr");
    assert!(born.mtime == born.ctime && born.atime == born.btime && born.mtime == born.btime);
    let past = WallTime::new(-5, 7);
    let set = SetAttr { mtime: Some(SetTime::At(past)), ..SetAttr::default() };
    w.ask(Operation::SetAttr { ino: f.0, handle: None, set }).expect("utimens");
    let attr = w.attr(f.0).expect("attr");
    assert!(attr.mtime == past && attr.ctime > born.ctime && attr.atime == born.atime);
    let future = WallTime::new(9_000_000_000, 1);
    let set = SetAttr { mtime: Some(SetTime::At(future)), ..SetAttr::default() };
    w.ask(Operation::SetAttr { ino: f.0, handle: None, set }).expect("utimens");
    let attr = w.attr(f.0).expect("attr");
    assert!(attr.mtime == future && attr.ctime < future);
    w.write(f, 0, b"x").expect("write");
    assert!(w.attr(f.0).expect("attr").mtime < future, "a write sets the time of now");
    w.fsync(f).expect("fsync");
    let attr = w.attr(f.0).expect("attr");
    assert!(attr.mtime < future && attr.ctime >= attr.mtime);
}

#[test]
fn appends_take_place_at_the_end_whatever_the_offset() {
    let mut w = World::new();
    let (ino, handle) = w.create(Ino::ROOT, "a").expect("create");
    for n in 0..10u8 {
        let flags = vellum_core::port::kernel::WriteFlags { append: true, ..Default::default() };
        let data = bytes::Bytes::from(vec![n; 3]);
        w.ask(Operation::Write { ino, handle, offset: 0, data, flags }).expect("append");
    }
    let got = w.read_at((ino, handle), 0, 100).expect("read");
    assert_eq!(got, (0..10u8).flat_map(|n| [n; 3]).collect::<Vec<_>>());
}

#[test]
fn whoever_waits_for_the_disk_is_let_go_when_he_gives_up_and_what_he_waited_for_goes_on() {
    let mut w = World::new();
    let f = w.create(Ino::ROOT, "a").expect("create");
    let data = pattern(1 << 20, 5);
    w.write(f, 0, &data).expect("write");
    let (ino, handle) = f;
    for op in [Operation::Flush { ino, handle }, Operation::Fsync { ino, handle, datasync: false }]
    {
        w.write(f, 0, &data).expect("write");
        assert_eq!(w.ask_and_give_up(op).expect_err("given up"), FsError::Interrupted);
    }
    assert_eq!(w.durable, w.version, "the sync went on");
    w.fsync(f).expect("the next one is answered");
    w.close(f).expect("close");
    w.remount();
    let (ino, handle) = w.open(ino).expect("open");
    assert_eq!(w.read_at((ino, handle), 0, 1).expect("read"), data[..1], "its extents are loaded");
    let read = Operation::Read { ino, handle, offset: 0, len: 1 << 20 };
    assert_eq!(w.ask_and_give_up(read).expect_err("given up"), FsError::Interrupted);
    assert!(w.read_at((ino, handle), 0, 1 << 20).expect("read") == data);
    w.close((ino, handle)).expect("nothing holds it");
}

#[test]
fn what_takes_effect_is_not_given_up() {
    let mut w = World::new();
    let op = Operation::MkDir { parent: Ino::ROOT, name: "d".into(), mode: 0o755, umask: 0 };
    match w.ask_and_give_up(op) {
        Ok(_) => assert!(w.lookup(Ino::ROOT, "d").expect("lookup").is_some()),
        Err(error) => {
            assert_eq!(error, FsError::Interrupted);
            assert!(w.lookup(Ino::ROOT, "d").expect("lookup").is_none());
        }
    }
}

#[test]
fn a_stream_of_reads_is_fetched_ahead_wherever_its_bytes_lie_and_random_reads_are_not() {
    let mut w = World::new();
    let f = w.create(Ino::ROOT, "a").expect("create");
    // Written from back to front, each piece synced: many segments, in an order that is no help.
    const PIECE: u64 = 64 << 10;
    for n in (0..64u64).rev() {
        w.write(f, n * PIECE, &pattern(PIECE as usize, n as u8)).expect("write");
        w.fsync(f).expect("fsync");
    }
    assert_eq!(w.pages.len(), 64);
    for n in [50u64, 3, 41, 17, 29, 8] {
        w.read_at(f, n * PIECE, 4096).expect("read");
    }
    assert!(w.prefetched.is_empty(), "random reads");
    for n in 0..3 {
        w.read_at(f, n * PIECE, PIECE as u32).expect("read");
    }
    let ahead: u32 = w.prefetched.iter().map(|(_, _, len)| len).sum();
    assert_eq!((w.prefetched.len(), ahead), (16, 1 << 20), "one MiB behind the third read");
    for n in 3..64 {
        w.read_at(f, n * PIECE, PIECE as u32).expect("read");
    }
    let mut fetched = w.prefetched.clone();
    fetched.sort_unstable();
    fetched.dedup();
    assert_eq!(fetched.len(), w.prefetched.len(), "nothing twice");
    assert_eq!(fetched.len(), 61, "everything behind the third read, and nothing behind the end");
}
