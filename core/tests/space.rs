//! Space of files: allocation, holes, shared extents, and what they count.

mod world;

use vellum_core::error::FsError;
use vellum_core::id::{Handle, Ino};
use vellum_core::port::control::{Answer, Control};
use vellum_core::port::kernel::{Operation, Reply, SetAttr, Whence};
use world::World;

type File = (Ino, Handle);

const KEEP: u32 = 1;
const PUNCH: u32 = 3;
const ZERO: u32 = 0x10;
const MIB: u64 = 1 << 20;

fn file(w: &mut World, name: &str, bytes: usize) -> File {
    let f = w.create(Ino::ROOT, name).expect("create");
    for at in (0..bytes).step_by(1 << 20) {
        let part = pattern(at..bytes.min(at + (1 << 20)));
        w.write(f, at as u64, &part).expect("write");
    }
    f
}

fn pattern(range: std::ops::Range<usize>) -> Vec<u8> {
    range.map(|i| (i % 251) as u8 + 1).collect()
}

fn allocate(w: &mut World, f: File, mode: u32, offset: u64, len: u64) -> Result<(), FsError> {
    let op = Operation::Fallocate { ino: f.0, handle: f.1, offset, len, mode };
    w.ask(op).map(|reply| assert!(matches!(reply, Reply::Done), "{reply:?}"))
}

fn copy(w: &mut World, from: (File, u64), to: (File, u64), len: u64) -> Result<u64, FsError> {
    let op = Operation::CopyRange {
        ino: from.0.0,
        handle: from.0.1,
        offset: from.1,
        to_ino: to.0.0,
        to_handle: to.0.1,
        to_offset: to.1,
        len,
    };
    match w.ask(op)? {
        Reply::Copied(count) => Ok(count),
        other => panic!("{other:?}"),
    }
}

fn seek(w: &mut World, f: File, whence: Whence, offset: u64) -> Result<u64, FsError> {
    match w.ask(Operation::Seek { ino: f.0, handle: f.1, offset, whence })? {
        Reply::Offset(found) => Ok(found),
        other => panic!("{other:?}"),
    }
}

fn truncate(w: &mut World, f: File, size: u64) {
    let set = SetAttr { size: Some(size), ..SetAttr::default() };
    w.ask(Operation::SetAttr { ino: f.0, handle: Some(f.1), set }).expect("truncate");
}

fn blocks(w: &mut World, f: File) -> u64 {
    w.attr(f.0).expect("attr").blocks
}

fn used(w: &mut World) -> u64 {
    match w.control(Control::Status) {
        Answer::Status(status) => status.bytes,
        other => panic!("{other:?}"),
    }
}

fn sound(w: &mut World) {
    let problems = w.check().problems;
    assert!(problems.is_empty(), "{problems:?}");
}

/// The same file under a machine that knows nothing of it.
fn again(w: &mut World, f: File, name: &str) -> File {
    w.close(f).expect("close");
    w.remount();
    let ino = w.lookup(Ino::ROOT, name).expect("lookup").expect("there").ino;
    w.open(ino).expect("open")
}

/// [S-FALLOC-1] [S-FALLOC-2]
#[test]
fn allocation_extends_unless_told_not_to_and_takes_no_space() {
    let mut w = World::new();
    let f = file(&mut w, "a", 10);
    allocate(&mut w, f, KEEP, 0, 100_000).expect("keep");
    assert_eq!(w.attr(f.0).expect("attr").size, 10);
    allocate(&mut w, f, 0, 5, 100_000).expect("extend");
    assert_eq!(w.attr(f.0).expect("attr").size, 100_005);
    allocate(&mut w, f, 0, 0, 50).expect("nothing to do");
    assert_eq!(w.attr(f.0).expect("attr").size, 100_005);
    assert_eq!(blocks(&mut w, f), 8);
    let got = w.read_at(f, 0, 100).expect("read");
    assert_eq!((&got[..10], &got[10..]), (&pattern(0..10)[..], &[0; 90][..]));
    sound(&mut w);
}

/// [S-FALLOC-1] More than the disk has is refused at once.
#[test]
fn allocation_beyond_the_disk_is_refused() {
    let mut w = World::new();
    let f = file(&mut w, "a", 10);
    assert_eq!(allocate(&mut w, f, 0, 0, 1 << 40), Err(FsError::NoSpace));
    assert_eq!(w.attr(f.0).expect("attr").size, 10);
}

/// [S-FALLOC-3]
#[test]
fn what_is_punched_or_zeroed_reads_as_zeros_and_is_a_hole() {
    for (mode, remounts) in [(PUNCH, false), (PUNCH, true), (ZERO, false), (ZERO | KEEP, true)] {
        let mut w = World::new();
        let mut f = file(&mut w, "a", 3 << 20);
        if remounts {
            f = again(&mut w, f, "a");
        }
        allocate(&mut w, f, mode, MIB - 7, MIB).expect("punch");
        if remounts {
            f = again(&mut w, f, "a");
        }
        let got = w.read_at(f, MIB - 10, 20).expect("read");
        let at = (MIB - 10) as usize;
        assert_eq!((&got[..3], &got[3..]), (&pattern(at..at + 3)[..], &[0; 17][..]));
        assert_eq!(seek(&mut w, f, Whence::Hole, 0), Ok(MIB - 7));
        assert_eq!(seek(&mut w, f, Whence::Data, MIB - 7), Ok(2 * MIB - 7));
        assert_eq!(seek(&mut w, f, Whence::Hole, 2 * MIB), Ok(3 * MIB));
        assert_eq!(blocks(&mut w, f), 2 * MIB / 512);
        sound(&mut w);
    }
}

/// [S-FALLOC-3] A range beyond the end, an inline file, and a write before and after.
#[test]
fn punches_keep_their_place_among_writes() {
    let mut w = World::new();
    let f = file(&mut w, "a", 100);
    allocate(&mut w, f, PUNCH, 20, 30).expect("middle of an inline file");
    allocate(&mut w, f, PUNCH, 90, 1000).expect("its end");
    allocate(&mut w, f, PUNCH, 5000, 1000).expect("beyond it");
    assert_eq!(w.attr(f.0).expect("attr").size, 100);
    let got = w.read_at(f, 0, 100).expect("read");
    let mut want = pattern(0..100);
    want[20..50].fill(0);
    want[90..].fill(0);
    assert_eq!(got, want);
    for at in [0, 1000, 50_000] {
        w.write(f, at, &[9; 70_000]).expect("write");
        allocate(&mut w, f, PUNCH, 1000, 60_000).expect("punch");
        w.write(f, 2000, b"later").expect("write");
        let got = w.read_at(f, 1000, 60_000).expect("read");
        assert!(got[1000..1005] == *b"later" && got[..1000].iter().all(|b| *b == 0));
        w.fsync(f).expect("fsync");
    }
    let f = again(&mut w, f, "a");
    assert_eq!(w.read_at(f, 2000, 7).expect("read"), b"later\0\0");
    sound(&mut w);
}

/// [S-FALLOC-4]
#[test]
fn what_cannot_be_done_is_refused() {
    let mut w = World::new();
    let f = file(&mut w, "a", 10);
    for mode in [2, 4, 8, 0x20, 0x40, 3 | ZERO] {
        assert_eq!(allocate(&mut w, f, mode, 0, 10), Err(FsError::NotSupported), "{mode:#x}");
    }
    assert_eq!(allocate(&mut w, f, 0, 0, 0), Err(FsError::Invalid));
    assert_eq!(allocate(&mut w, f, 0, i64::MAX as u64, 1), Err(FsError::FileTooLarge));
    let other = (f.0, Handle(99));
    assert_eq!(allocate(&mut w, other, 0, 0, 1), Err(FsError::BadHandle));
}

/// [S-SPACE-2] A file that is punched from end to end holds on to no segment.
#[test]
fn the_space_of_a_wholly_erased_file_comes_back() {
    for erase in [PUNCH, ZERO] {
        let mut w = World::new();
        let f = file(&mut w, "a", 3 << 20);
        w.fsync(f).expect("fsync");
        assert!(!w.pages.is_empty());
        allocate(&mut w, f, erase, 0, 3 * MIB).expect("erase");
        assert_eq!((blocks(&mut w, f), used(&mut w)), (0, 0));
        assert_eq!(w.attr(f.0).expect("attr").size, 3 * MIB);
        w.fsync(f).expect("fsync");
        w.wait(3_000_000_000);
        assert!(w.pages.is_empty(), "its segments are gone");
        assert_eq!(seek(&mut w, f, Whence::Data, 0), Err(FsError::NoSuchAddress));
        sound(&mut w);
    }
}

/// [S-BLOCKS-1]
#[test]
fn blocks_count_what_is_visible_and_nothing_twice() {
    let mut w = World::new();
    let mut f = file(&mut w, "a", 2 << 20);
    for round in 0..10 {
        w.write(f, 4096, &vec![round; 100_000]).expect("write");
        assert_eq!(blocks(&mut w, f), 2 * MIB / 512, "buffered");
        w.fsync(f).expect("fsync");
        assert_eq!(blocks(&mut w, f), 2 * MIB / 512, "committed");
        if round == 5 {
            f = again(&mut w, f, "a");
        }
    }
    assert_eq!(used(&mut w), 2 * MIB);
    truncate(&mut w, f, MIB);
    assert_eq!((blocks(&mut w, f), used(&mut w)), (MIB / 512, MIB));
    truncate(&mut w, f, 10 * MIB);
    assert_eq!((blocks(&mut w, f), used(&mut w)), (MIB / 512, MIB));
    let f = again(&mut w, f, "a");
    truncate(&mut w, f, 3);
    assert_eq!((blocks(&mut w, f), used(&mut w)), (8, 3));
    sound(&mut w);
}

/// [S-SEEK-1] [S-SEEK-2] Over borders of regions, buffered or committed, known or not.
#[test]
fn holes_are_found_across_regions() {
    let places = [0, 100 << 20, (128 << 20) - 5, 10 << 30, 1 << 50];
    for (synced, remounts) in [(false, false), (true, false), (true, true)] {
        let mut w = World::new();
        let mut f = w.create(Ino::ROOT, "a").expect("create");
        for at in places {
            w.write(f, at, &[7; 10]).expect("write");
        }
        if synced {
            w.fsync(f).expect("fsync");
        }
        if remounts {
            f = again(&mut w, f, "a");
        }
        let mut at = 0;
        for place in places {
            assert_eq!(seek(&mut w, f, Whence::Data, at), Ok(place));
            at = seek(&mut w, f, Whence::Hole, place).expect("a hole");
            assert_eq!(at, place + 10);
        }
        assert_eq!(seek(&mut w, f, Whence::Data, at - 1), Ok(at - 1));
        assert_eq!(seek(&mut w, f, Whence::Data, at), Err(FsError::NoSuchAddress));
        assert_eq!(seek(&mut w, f, Whence::Hole, at), Err(FsError::NoSuchAddress));
        assert_eq!(blocks(&mut w, f), 8);
    }
}

/// [S-COPY-1] [S-COPY-2]
#[test]
fn a_copy_shares_the_segments_of_its_source() {
    let mut w = World::new();
    let from = file(&mut w, "from", 6 << 20);
    allocate(&mut w, from, PUNCH, MIB, MIB).expect("punch");
    let to = w.create(Ino::ROOT, "to").expect("create");
    w.fsync(from).expect("fsync");
    let segments = w.pages.len();
    assert_eq!(copy(&mut w, (from, 100), (to, 50), 100 * MIB), Ok(6 * MIB - 100));
    assert_eq!(w.pages.len(), segments, "no byte was written");
    assert_eq!(w.attr(to.0).expect("attr").size, 6 * MIB - 50);
    assert_eq!(blocks(&mut w, to), 5 * MIB / 512);
    assert_eq!(used(&mut w), 10 * MIB - 100);
    let (a, b) = (w.read_at(from, 3 * MIB, 5000), w.read_at(to, 3 * MIB - 50, 5000));
    assert_eq!(a.expect("read"), b.expect("read"));
    assert_eq!(seek(&mut w, to, Whence::Hole, 60), Ok(MIB - 50));
    assert_eq!(seek(&mut w, to, Whence::Data, MIB), Ok(2 * MIB - 50));
    assert_eq!(copy(&mut w, (from, 6 * MIB), (to, 0), 10), Ok(0), "the end of the source");
    assert_eq!(copy(&mut w, (to, 0), (to, 5), 10), Err(FsError::Invalid), "overlapping");
    sound(&mut w);
}

/// [S-COPY-3]
#[test]
fn the_bytes_of_a_copy_outlive_its_source_and_the_other_way_round() {
    for victim in ["from", "to"] {
        let mut w = World::new();
        let from = file(&mut w, "from", 2 << 20);
        let to = file(&mut w, "to", 10);
        assert_eq!(copy(&mut w, (from, 0), (to, 0), 2 * MIB), Ok(2 * MIB));
        w.close(from).expect("close");
        w.close(to).expect("close");
        w.unlink(Ino::ROOT, victim).expect("unlink");
        let known = if victim == "from" { from.0 } else { to.0 };
        w.send(Operation::Forget { nodes: vec![(known, 1)] });
        w.wait(3_000_000_000);
        sound(&mut w);
        w.remount();
        let left = if victim == "from" { "to" } else { "from" };
        let ino = w.lookup(Ino::ROOT, left).expect("lookup").expect("there").ino;
        let f = w.open(ino).expect("open");
        let got = w.read_at(f, MIB, 5000).expect("read");
        assert!(got == pattern(1 << 20..(1 << 20) + 5000), "the rest of the pair is whole");
        sound(&mut w);
    }
}

/// [S-COPY-1] Small sources and targets, buffered writes of both, over what was there.
#[test]
fn copies_of_small_and_buffered_files_are_exact() {
    let sizes = [1usize, 100, 4096, 5000, 20_000, 200_000];
    for source in sizes {
        for target in sizes {
            for synced in [false, true] {
                let mut w = World::new();
                let from = file(&mut w, "from", source);
                let to = w.create(Ino::ROOT, "to").expect("create");
                w.write(to, 0, &vec![200; target]).expect("write");
                if synced {
                    w.fsync(from).expect("fsync");
                    w.fsync(to).expect("fsync");
                }
                let (offset, at, len) = (source as u64 / 3, target as u64 / 2, source as u64);
                let count = copy(&mut w, (from, offset), (to, at), len).expect("copy");
                assert_eq!(count, source as u64 - offset);
                let mut want = vec![200; target];
                want.resize(target.max((at + count) as usize), 0);
                let bytes = pattern(offset as usize..source);
                want[at as usize..(at + count) as usize].copy_from_slice(&bytes);
                let to = again(&mut w, to, "to");
                let got = w.read_at(to, 0, 1 << 20).expect("read");
                assert!(got == want, "{source} into {target}, synced {synced}");
                sound(&mut w);
            }
        }
    }
}

/// [S-COPY-4] Very many extents: a copy ends early, and the caller goes on.
#[test]
fn a_copy_of_many_extents_ends_early() {
    let mut w = World::new();
    let from = w.create(Ino::ROOT, "from").expect("create");
    for n in 0..10_000u64 {
        w.write(from, n * 20, &[1; 10]).expect("write");
    }
    let to = w.create(Ino::ROOT, "to").expect("create");
    let size = 9_999 * 20 + 10;
    let mut done = 0;
    let mut calls = 0;
    while done < size {
        let count = copy(&mut w, (from, done), (to, done), size).expect("copy");
        assert!(count > 0);
        done += count;
        calls += 1;
    }
    assert!(calls > 1);
    let (a, b) = (w.read_at(from, 0, 1 << 20), w.read_at(to, 0, 1 << 20));
    assert!(a.expect("read") == b.expect("read"));
    sound(&mut w);
}

#[test]
fn what_a_full_store_could_not_reclaim_goes_once_there_is_room() {
    let mut w = World::new();
    let f = file(&mut w, "f", 2 << 20);
    w.fsync(f).expect("fsync");
    w.unlink(Ino::ROOT, "f").expect("unlink");
    w.kv_full = true;
    w.close(f).expect("close");
    w.forget(f.0);
    w.wait(10_000_000_000);
    assert!(!w.pages.is_empty(), "nobody could say that it is garbage");
    let said = w.reports.iter().filter(|text| text.contains("tried again until there is room"));
    assert_eq!(said.count(), 1, "{:?}", w.reports);
    w.kv_full = false;
    w.wait(5_000_000_000);
    assert!(w.pages.is_empty(), "{:?}", w.pages.keys());
    assert!(w.check().problems.is_empty());
}
