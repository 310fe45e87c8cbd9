//! Compaction: logs are folded, space comes back, nothing else changes.

mod world;

use vellum_core::client::ClientConfig;
use vellum_core::data::fold::Policy;
use vellum_core::id::{Handle, Ino, SessionId};
use vellum_core::limits::REGION_SIZE;
use vellum_core::meta::key;
use vellum_core::port::control::{Answer, Compacted, Control, FileInfo};
use vellum_core::port::kernel::Operation;
use vellum_core::port::page_store::PageError;
use world::World;

type File = (Ino, Handle);

const KIB: usize = 1 << 10;
const SECOND: u64 = 1_000_000_000;

/// Folds whatever is a quarter garbage, however small.
fn eager() -> Policy {
    Policy { space_amplification_percent: 25, min_file_size: 0, ..Policy::default() }
}

fn world(compaction: Policy) -> World {
    World::with(ClientConfig { compaction, ..ClientConfig::sole(SessionId(7), 1) })
}

fn off() -> Policy {
    Policy { enabled: false, ..Policy::default() }
}

fn pattern(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|i| ((i * 31 + seed * 97) % 251) as u8).collect()
}

/// A file of 256 KiB in one segment, and what it holds.
fn file(w: &mut World, name: &str) -> (File, Vec<u8>) {
    let f = w.create(Ino::ROOT, name).expect("create");
    let bytes = pattern(1, 256 * KIB);
    w.write(f, 0, &bytes).expect("write");
    w.fsync(f).expect("fsync");
    (f, bytes)
}

/// Writes over a part, durably.
fn overwrite(w: &mut World, f: File, bytes: &mut [u8], at: usize, len: usize, seed: usize) {
    let part = pattern(seed, len);
    w.write(f, at as u64, &part).expect("write");
    w.fsync(f).expect("fsync");
    bytes[at..at + len].copy_from_slice(&part);
}

fn info(w: &mut World, ino: Ino) -> FileInfo {
    match w.control(Control::Info { ino }) {
        Answer::Info(info) => info,
        other => panic!("{other:?}"),
    }
}

fn compact(w: &mut World, ino: Ino) -> Compacted {
    match w.control(Control::Compact { ino }) {
        Answer::Compacted(done) => done,
        other => panic!("{other:?}"),
    }
}

fn compacted(w: &mut World) -> Compacted {
    match w.control(Control::Status) {
        Answer::Status(status) => status.compacted,
        other => panic!("{other:?}"),
    }
}

fn folds(w: &mut World) -> u64 {
    compacted(w).folds
}

fn content(w: &mut World, f: File, len: usize) -> Vec<u8> {
    w.read_at(f, 0, len as u32).expect("read")
}

fn sound(w: &mut World) {
    let problems = w.check().problems;
    assert!(problems.is_empty(), "{problems:?}");
}

#[test]
fn segments_that_are_written_over_are_deleted() {
    let mut w = world(eager());
    let (f, mut bytes) = file(&mut w, "f");
    for seed in 2..12 {
        overwrite(&mut w, f, &mut bytes, 0, 256 * KIB, seed);
    }
    assert!(folds(&mut w) > 0);
    w.wait(2 * SECOND);
    assert_eq!(w.pages.len(), 1, "one segment holds all that is visible");
    assert_eq!(content(&mut w, f, 256 * KIB), bytes);
    sound(&mut w);
    w.remount();
    let f = w.open(f.0).expect("open");
    assert_eq!(content(&mut w, f, 256 * KIB), bytes);
}

/// A file with 256 KiB at the begin of each of two regions, written in one flush.
fn two_regions(w: &mut World) -> File {
    let f = w.create(Ino::ROOT, "f").expect("create");
    for region in 0..2 {
        w.write(f, region * REGION_SIZE, &pattern(1, 256 * KIB)).expect("write");
    }
    w.fsync(f).expect("fsync");
    f
}

#[test]
fn the_region_with_most_garbage_is_folded_once_the_file_has_too_much() {
    let mut w = world(Policy { space_amplification_percent: 50, ..eager() });
    let f = two_regions(&mut w);
    let mut bytes = pattern(1, 256 * KIB);
    overwrite(&mut w, f, &mut bytes, 0, 128 * KIB, 2);
    w.write(f, REGION_SIZE, &pattern(3, 124 * KIB)).expect("write");
    w.fsync(f).expect("fsync");
    w.wait(SECOND);
    assert_eq!(folds(&mut w), 0, "half of what is visible, less 4 KiB");
    w.write(f, REGION_SIZE, &pattern(4, 20 * KIB)).expect("write");
    w.fsync(f).expect("fsync");
    w.wait(SECOND);
    let done = compacted(&mut w);
    assert_eq!((done.folds, done.trimmed), (1, 144 * KIB as u64), "of the second region only");
    assert_eq!(content(&mut w, f, 256 * KIB), bytes);
    let mut second = pattern(1, 256 * KIB);
    second[..124 * KIB].copy_from_slice(&pattern(3, 124 * KIB));
    second[..20 * KIB].copy_from_slice(&pattern(4, 20 * KIB));
    assert_eq!(w.read_at(f, REGION_SIZE, 256 * KIB as u32).expect("read"), second);
    sound(&mut w);
}

#[test]
fn regions_have_segments_of_their_own_unless_those_would_be_small() {
    let mut w = world(off());
    let f = two_regions(&mut w);
    assert_eq!(w.pages.len(), 2);
    for region in 0..2 {
        w.write(f, region * REGION_SIZE, &pattern(2, 40 * KIB)).expect("write");
    }
    w.fsync(f).expect("fsync");
    assert_eq!(w.pages.len(), 3, "40 KiB of each share one");
    sound(&mut w);
}

#[test]
fn a_flush_of_which_one_segment_fails_leaves_none() {
    let mut w = world(off());
    let f = w.create(Ino::ROOT, "f").expect("create");
    for region in 0..2 {
        w.write(f, region * REGION_SIZE, &pattern(1, 256 * KIB)).expect("write");
    }
    w.appends_left = Some(1);
    w.fsync(f).expect_err("one of two cannot be written");
    assert_eq!(w.pages.len(), 0);
    w.fsync(f).expect("fsync");
    assert_eq!(w.pages.len(), 2);
    sound(&mut w);
}

#[test]
fn nothing_is_folded_when_it_is_switched_off() {
    let mut w = world(off());
    let (f, mut bytes) = file(&mut w, "f");
    for seed in 2..12 {
        overwrite(&mut w, f, &mut bytes, 0, 256 * KIB, seed);
    }
    w.wait(2 * SECOND);
    assert_eq!((folds(&mut w), w.pages.len()), (0, 11));
    let done = compact(&mut w, f.0);
    assert_eq!((done.folds, done.moved, done.trimmed), (1, 0, 10 * 256 * KIB as u64));
    w.wait(2 * SECOND);
    assert_eq!(w.pages.len(), 1);
}

#[test]
fn scattered_writes_become_one_extent_when_somebody_asks() {
    let mut w = world(off());
    let (f, mut bytes) = file(&mut w, "f");
    for n in 0..8 {
        overwrite(&mut w, f, &mut bytes, n * 32 * KIB, 20 * KIB, 2 + n);
    }
    assert_eq!(info(&mut w, f.0).extents.len(), 16);
    let done = compact(&mut w, f.0);
    assert_eq!((done.folds, done.moved), (1, 256 * KIB as u64));
    let after = info(&mut w, f.0);
    assert_eq!((after.extents.len(), after.log_entries), (1, 1));
    assert_eq!(content(&mut w, f, 256 * KIB), bytes);
    sound(&mut w);
    assert_eq!(compact(&mut w, f.0).folds, 0, "there is nothing left to do");
}

#[test]
fn scattered_writes_become_one_extent_when_the_writer_is_done() {
    let mut w = world(Policy { untidy_min: 0, ..Policy::default() });
    let (f, mut bytes) = file(&mut w, "f");
    for n in 0..8 {
        overwrite(&mut w, f, &mut bytes, n * 32 * KIB, 20 * KIB, 2 + n);
        w.wait(SECOND);
    }
    assert_eq!((folds(&mut w), info(&mut w, f.0).extents.len()), (0, 16), "there is no pause");
    w.wait(5 * SECOND);
    assert_eq!((folds(&mut w), info(&mut w, f.0).extents.len()), (1, 1));
    assert_eq!(content(&mut w, f, 256 * KIB), bytes);
    sound(&mut w);
    overwrite(&mut w, f, &mut bytes, 0, 20 * KIB, 20);
    w.wait(5 * SECOND);
    assert_eq!(folds(&mut w), 1, "too little was written since");
}

#[test]
fn what_is_buffered_over_a_region_that_is_folded_counts_once() {
    let mut w = world(off());
    let (f, mut bytes) = file(&mut w, "f");
    overwrite(&mut w, f, &mut bytes, 0, 64 * KIB, 2);
    w.truncate(f.0, 1 << 20).expect("grow");
    w.write(f, 0, &pattern(3, 128 * KIB)).expect("write");
    let blocks = |w: &mut World| w.attr(f.0).expect("stat").blocks;
    assert_eq!(blocks(&mut w), 512);
    assert!(matches!(w.control(Control::Gc { now: true }), Answer::Collected(_)));
    assert_eq!((folds(&mut w), blocks(&mut w)), (1, 512));
}

#[test]
fn a_reader_finds_what_the_mount_before_left_untidy() {
    let mut w = world(Policy { untidy_min: 0, ..Policy::default() });
    let (f, mut bytes) = file(&mut w, "f");
    for n in 0..8 {
        overwrite(&mut w, f, &mut bytes, n * 32 * KIB, 20 * KIB, 2 + n);
    }
    w.remount();
    let f = w.open(f.0).expect("open");
    assert_eq!(content(&mut w, f, 256 * KIB), bytes);
    w.wait(5 * SECOND);
    assert_eq!((folds(&mut w), info(&mut w, f.0).extents.len()), (1, 1));
    assert_eq!(content(&mut w, f, 256 * KIB), bytes);
    sound(&mut w);
}

#[test]
fn damage_between_two_pieces_that_are_read_together_is_none_of_theirs() {
    let mut w = world(off());
    let (f, mut bytes) = file(&mut w, "f");
    let base = *w.pages.keys().next().expect("a segment");
    overwrite(&mut w, f, &mut bytes, 40 * KIB, 8 * KIB, 2);
    w.rotten.insert((base, 44 * KIB as u32));
    assert_eq!(content(&mut w, f, 256 * KIB), bytes, "nobody sees the damaged byte");
    assert_eq!(compact(&mut w, f.0).folds, 1);
    assert_eq!(content(&mut w, f, 256 * KIB), bytes);
    assert!(w.reports.is_empty(), "{:?}", w.reports);
}

#[test]
fn a_small_log_stays_in_the_log() {
    let mut w = world(off());
    let f = w.create(Ino::ROOT, "f").expect("create");
    let mut bytes = pattern(1, 8 * KIB);
    w.write(f, 0, &bytes).expect("write");
    w.fsync(f).expect("fsync");
    for n in 0..20 {
        overwrite(&mut w, f, &mut bytes, n * 100, 300, n);
    }
    assert_eq!(compact(&mut w, f.0).folds, 1);
    assert_eq!((w.pages.len(), info(&mut w, f.0).extents.len()), (0, 1));
    assert_eq!(content(&mut w, f, 8 * KIB), bytes);
    sound(&mut w);
}

#[test]
fn truncated_bytes_give_their_space_back_and_the_erase_goes() {
    let mut w = world(Policy::default());
    let f = w.create(Ino::ROOT, "f").expect("create");
    for part in 0..8 {
        w.write(f, part * (1 << 20), &pattern(part as usize, 1 << 20)).expect("write");
    }
    w.fsync(f).expect("fsync");
    let before: usize = w.pages.values().map(Vec::len).sum();
    w.truncate(f.0, 64 * KIB as u64).expect("truncate");
    w.wait(3 * SECOND);
    let after: usize = w.pages.values().map(Vec::len).sum();
    assert!(before >= 8 << 20 && after <= 64 * KIB, "{before} {after}");
    let erases = key::erases(f.0, 0);
    let left = w.kv.range(erases.begin.to_vec()..erases.end.to_vec()).count();
    assert_eq!(left, 0, "nothing lies below the erase");
    assert_eq!(content(&mut w, f, 128 * KIB), pattern(0, 64 * KIB));
    w.truncate(f.0, 128 * KIB as u64).expect("grow");
    let mut bytes = pattern(0, 64 * KIB);
    bytes.resize(128 * KIB, 0);
    assert_eq!(content(&mut w, f, 128 * KIB), bytes);
    sound(&mut w);
}

#[test]
fn what_is_left_of_a_mostly_dead_segment_is_moved() {
    let mut w = world(Policy::default());
    let (f, mut bytes) = file(&mut w, "f");
    let set = Operation::Fallocate { ino: f.0, handle: f.1, offset: 0, len: 200 * 1024, mode: 3 };
    w.ask(set).expect("punch");
    bytes[..200 * KIB].fill(0);
    assert_eq!(compact(&mut w, f.0).folds, 1);
    w.wait(3 * SECOND);
    let stored: usize = w.pages.values().map(Vec::len).sum();
    assert_eq!(stored, 56 * KIB);
    assert_eq!(content(&mut w, f, 256 * KIB), bytes);
    sound(&mut w);
}

#[test]
fn a_copy_keeps_what_a_fold_of_its_source_lets_go() {
    let mut w = world(off());
    let (f, mut bytes) = file(&mut w, "f");
    let shared = bytes.clone();
    let to = w.create(Ino::ROOT, "copy").expect("create");
    let copy = Operation::CopyRange {
        ino: f.0,
        handle: f.1,
        offset: 0,
        to_ino: to.0,
        to_handle: to.1,
        to_offset: 0,
        len: 256 * 1024,
    };
    w.ask(copy).expect("copy");
    overwrite(&mut w, f, &mut bytes, 0, 256 * KIB, 9);
    assert_eq!(compact(&mut w, f.0).folds, 1);
    w.wait(3 * SECOND);
    assert_eq!(w.pages.len(), 2);
    assert_eq!(content(&mut w, f, 256 * KIB), bytes);
    assert_eq!(content(&mut w, to, 256 * KIB), shared);
    sound(&mut w);
}

#[test]
fn a_region_that_cannot_be_read_stays_as_it_is_and_is_reported_once() {
    let mut w = world(off());
    let (f, mut bytes) = file(&mut w, "f");
    for n in 0..8 {
        overwrite(&mut w, f, &mut bytes, n * 32 * KIB, 20 * KIB, 2 + n);
    }
    let bad = *w.pages.keys().next().expect("a segment");
    w.page_errors.insert(bad, PageError::Corrupt { offset: 0 });
    let before = w.kv.clone();
    assert_eq!(compact(&mut w, f.0).folds, 0);
    assert_eq!(compact(&mut w, f.0).folds, 0);
    let reports = w.reports.iter().filter(|text| text.contains("it stays as it is")).count();
    assert_eq!((reports, w.kv == before), (1, true), "{:?}", w.reports);
}

#[test]
fn counters_that_are_damaged_are_an_error_or_harmless_and_no_end() {
    for live in [0, 1, 1 << 62, u64::MAX / 2 + 1, u64::MAX] {
        let mut w = world(off());
        let (f, mut bytes) = file(&mut w, "f");
        overwrite(&mut w, f, &mut bytes, 0, 100 * KIB, 9);
        let segment = *w.pages.keys().next().expect("a segment");
        w.kv.insert(key::live_bytes(segment).to_vec(), live.to_le_bytes().to_vec().into());
        compact(&mut w, f.0);
        assert!(matches!(w.control(Control::Gc { now: false }), Answer::Collected(_)));
        assert_eq!(content(&mut w, f, 256 * KIB), bytes, "{live}");
    }
}
