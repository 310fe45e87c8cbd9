//! Page files on a medium that loses, tears and rots.

extern crate std;

use super::format::{FIRST_RECORD, FileMark, PAGE, Record, decode_footer, encode_footer};
use super::state::Room;
use super::*;
use crate::data::segment::{encode_head, padding};
use crate::id::{SegmentId, SessionId, VolumeId};
use crate::local::Shared;
use crate::local::medium::{File, Medium, MediumError};
use crate::port::page_store::{PageError, SegmentDraft};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;
use core::cell::RefCell;
use proptest::prelude::*;
use std::rc::Rc;

const VOLUME: VolumeId = VolumeId(77);
const FILE_BYTES: u64 = 20 * PAGE;
const SECTOR: usize = 512;

/// What one file looks like now, and what a crash may leave of it.
#[derive(Default)]
struct Disk {
    cache: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<(u64, Bytes)>,
    named: bool,
}

#[derive(Clone, Default)]
struct FakeMedium(Rc<RefCell<Faults>>, Rc<RefCell<BTreeMap<u32, Rc<RefCell<Disk>>>>>);

#[derive(Default)]
struct Faults {
    syncs_that_fail: u32,
    full: bool,
}

#[derive(Clone)]
struct FakeFile(Rc<RefCell<Faults>>, Rc<RefCell<Disk>>);

fn put_bytes(target: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let end = offset as usize + bytes.len();
    target.resize(target.len().max(end), 0);
    target[offset as usize..end].copy_from_slice(bytes);
}

impl FakeMedium {
    /// Loses each unsynced sector or not, as `keep` says.
    fn crash(&self, mut keep: impl FnMut() -> bool) {
        let mut files = self.1.borrow_mut();
        files.retain(|_, disk| disk.borrow().named || keep());
        for disk in files.values() {
            let disk = &mut *disk.borrow_mut();
            for (offset, bytes) in core::mem::take(&mut disk.pending) {
                for (n, sector) in bytes.chunks(SECTOR).enumerate() {
                    if keep() {
                        put_bytes(&mut disk.durable, offset + (n * SECTOR) as u64, sector);
                    }
                }
            }
            disk.cache = disk.durable.clone();
            disk.named = true;
        }
    }

    fn rot(&self, file: u32, at: u64) {
        let files = self.1.borrow();
        let disk = &mut *files[&file].borrow_mut();
        disk.cache[at as usize] ^= 0x55;
        disk.durable[at as usize] ^= 0x55;
    }
}

impl Medium for FakeMedium {
    type File = FakeFile;

    fn list(&self) -> Result<Vec<u32>, MediumError> {
        Ok(self.1.borrow().keys().copied().collect())
    }
    fn create(&self, number: u32) -> Result<FakeFile, MediumError> {
        let disk: Rc<RefCell<Disk>> = Rc::default();
        let before = self.1.borrow_mut().insert(number, disk.clone());
        assert!(before.is_none(), "a file that must not exist");
        Ok(FakeFile(self.0.clone(), disk))
    }
    fn open(&self, number: u32) -> Result<FakeFile, MediumError> {
        Ok(FakeFile(self.0.clone(), self.1.borrow()[&number].clone()))
    }
    fn remove(&self, number: u32) -> Result<(), MediumError> {
        self.1.borrow_mut().remove(&number).map(drop).ok_or(MediumError::Io)
    }
    fn sync(&self) -> Result<(), MediumError> {
        self.1.borrow().values().for_each(|disk| disk.borrow_mut().named = true);
        Ok(())
    }
}

impl File for FakeFile {
    fn len(&self) -> Result<u64, MediumError> {
        Ok(self.1.borrow().cache.len() as u64)
    }
    fn read(&self, offset: u64, len: usize) -> Result<Bytes, MediumError> {
        let disk = self.1.borrow();
        let begin = (offset as usize).min(disk.cache.len());
        let end = (begin + len).min(disk.cache.len());
        Ok(Bytes::copy_from_slice(&disk.cache[begin..end]))
    }
    fn write(&self, offset: u64, pieces: &[Bytes]) -> Result<(), MediumError> {
        if self.0.borrow().full {
            return Err(MediumError::NoSpace);
        }
        let disk = &mut *self.1.borrow_mut();
        let mut at = offset;
        for piece in pieces {
            put_bytes(&mut disk.cache, at, piece);
            disk.pending.push((at, piece.clone()));
            at += piece.len() as u64;
        }
        Ok(())
    }
    fn sync(&self) -> Result<(), MediumError> {
        let disk = &mut *self.1.borrow_mut();
        let pending = core::mem::take(&mut disk.pending);
        let faults = &mut *self.0.borrow_mut();
        if faults.syncs_that_fail > 0 {
            // The cache keeps the bytes and calls them clean; the disk never gets them.
            faults.syncs_that_fail -= 1;
            return Err(MediumError::Io);
        }
        pending.iter().for_each(|(at, bytes)| put_bytes(&mut disk.durable, *at, bytes));
        Ok(())
    }
    fn punch(&self, offset: u64, len: u64) -> Result<(), MediumError> {
        let disk = &mut *self.1.borrow_mut();
        let end = (offset + len) as usize;
        for bytes in [&mut disk.cache, &mut disk.durable] {
            let end = end.min(bytes.len());
            bytes.get_mut(offset as usize..end).unwrap_or_default().fill(0);
        }
        Ok(())
    }
    fn truncate(&self, len: u64) -> Result<(), MediumError> {
        let disk = &mut *self.1.borrow_mut();
        disk.cache.truncate(len as usize);
        disk.durable.truncate(len as usize);
        Ok(())
    }
}

struct Store(FakeMedium, RefCell<Pages<FakeFile>>, Vec<Trouble>);

impl Shared<Pages<FakeFile>> for Store {
    fn with<R>(&self, look: impl FnOnce(&Pages<FakeFile>) -> R) -> R {
        look(&self.1.borrow())
    }
    fn with_mut<R>(&self, change: impl FnOnce(&mut Pages<FakeFile>) -> R) -> R {
        change(&mut self.1.borrow_mut())
    }
}

impl Store {
    fn open(medium: &FakeMedium, mark: Option<&Mark>) -> Store {
        let mark = mark.map(Mark::encode);
        let recovered = recover(medium, VOLUME, FILE_BYTES, mark.as_deref()).unwrap();
        Store(medium.clone(), RefCell::new(recovered.pages), recovered.troubles)
    }
    fn append(&self, draft: &SegmentDraft) -> Result<u64, PageError> {
        append(self, &self.0, VOLUME, draft.clone())
    }
    fn sync(&self) -> Result<Mark, PageError> {
        sync(self, &self.0, VOLUME)
    }
    fn delete(&self, id: SegmentId) {
        delete(self, &self.0, &[id]).unwrap();
    }
    fn read(&self, id: SegmentId) -> Result<Bytes, PageError> {
        let (place, file) = locate(self, id)?;
        let head = read_head(VOLUME, id, place, &file)?;
        read(&head, place, &file, 0, place.payload_len)
    }
    fn ids(&self) -> Vec<SegmentId> {
        self.with(|pages| pages.list(None, usize::MAX))
    }
}

fn id(sequence: u64) -> SegmentId {
    SegmentId { session: SessionId(5), sequence }
}

fn draft(sequence: u64, len: usize) -> SegmentDraft {
    let byte = |i: usize| (i as u64 * 13 + sequence * 7 + (i / 256) as u64) as u8;
    let bytes: Bytes = (0..len).map(byte).collect::<Vec<_>>().into();
    let cut = len / 3;
    let payload = vec![bytes.slice(..cut), bytes.slice(cut..)];
    SegmentDraft { id: id(sequence), payload, len: len as u32 }
}

fn payload(draft: &SegmentDraft) -> Vec<u8> {
    draft.payload.concat()
}

#[test]
fn a_mark_beyond_every_file_is_none() {
    let mark = |end, holes: &[(u64, u64)]| {
        let file = FileMark { number: 3, end, holes: holes.to_vec() };
        Mark { next_file: 4, files: vec![file] }
    };
    let sound = mark(FIRST_RECORD + 4 * PAGE, &[(FIRST_RECORD, PAGE), (FIRST_RECORD + PAGE, PAGE)]);
    assert_eq!(Mark::decode(&sound.encode()), Some(sound));
    for wrong in [
        mark(u64::MAX, &[]),
        mark(FIRST_RECORD, &[(u64::MAX - 1, PAGE)]),
        mark(FIRST_RECORD + PAGE, &[(FIRST_RECORD, 2 * PAGE)]),
        mark(FIRST_RECORD + PAGE, &[(FIRST_RECORD, 0)]),
    ] {
        assert_eq!(Mark::decode(&wrong.encode()), None);
    }
}

#[test]
fn an_id_is_taken_once() {
    let store = Store::open(&FakeMedium::default(), None);
    assert_eq!(store.append(&draft(1, 5000)), Ok(3 * PAGE));
    assert_eq!(store.append(&draft(1, 5000)), Ok(3 * PAGE), "the same bytes are no harm");
    let other = SegmentDraft { id: id(1), ..draft(2, 5000) };
    assert_eq!(store.append(&other), Err(PageError::Corrupt { offset: 0 }));
    assert_eq!(store.read(id(1)).unwrap(), payload(&draft(1, 5000)));
}

#[test]
fn files_are_sealed_when_full_and_removed_when_dead() {
    let medium = FakeMedium::default();
    let store = Store::open(&medium, None);
    for n in 0..12 {
        store.append(&draft(n, 9000)).unwrap();
    }
    let mark = store.sync().unwrap();
    assert_eq!(medium.list().unwrap(), [0, 1, 2]);
    assert_eq!(mark.files.len(), 1, "only the last one is not sealed");
    (0..8).for_each(|n| store.delete(id(n)));
    assert_eq!(medium.list().unwrap(), [2]);
    drop(store);
    let store = Store::open(&medium, Some(&mark));
    assert_eq!(store.2, []);
    assert_eq!(store.ids(), [id(8), id(9), id(10), id(11)]);
}

#[test]
fn a_removed_file_that_a_crash_brings_back_is_removed_again() {
    let medium = FakeMedium::default();
    let store = Store::open(&medium, None);
    for sequence in 1..=2 {
        store.append(&draft(sequence, 8 * PAGE as usize)).unwrap();
    }
    store.sync().unwrap();
    let first = medium.1.borrow()[&0].clone();
    // The first file is full, and dies before it gets a footer.
    store.append(&draft(3, 8 * PAGE as usize)).unwrap();
    store.delete(id(1));
    store.delete(id(2));
    assert!(!medium.1.borrow().contains_key(&0));
    let mark = store.sync().unwrap();
    medium.1.borrow_mut().insert(0, first);
    let store = Store::open(&medium, Some(&mark));
    assert_eq!(store.2, vec![]);
    assert_eq!(store.ids(), [id(3)]);
    assert!(!medium.1.borrow().contains_key(&0));
    // Once the directory was synced after a removal, no mark speaks of it.
    store.sync().unwrap();
    let mark = store.sync().unwrap();
    assert!(mark.files.iter().all(|file| file.number != 0));
}

#[test]
fn deleted_segments_stay_deleted_after_reopening() {
    let medium = FakeMedium::default();
    let store = Store::open(&medium, None);
    (0..6).for_each(|n| assert!(store.append(&draft(n, 9000)).is_ok()));
    store.delete(id(1));
    store.delete(id(5));
    let mark = store.sync().unwrap();
    for mark in [Some(&mark), None] {
        let store = Store::open(&medium, mark);
        assert_eq!(store.ids(), [id(0), id(2), id(3), id(4)]);
        store.append(&draft(9, 9000)).unwrap();
        assert_eq!(store.read(id(9)).unwrap(), payload(&draft(9, 9000)));
        store.delete(id(9));
    }
}

#[test]
fn a_dead_segment_with_a_head_of_several_pages_is_no_damage() {
    let medium = FakeMedium::default();
    let open = |mark: Option<&Mark>| {
        let mark = mark.map(Mark::encode);
        let recovered = recover(&medium, VOLUME, 16 << 20, mark.as_deref()).unwrap();
        Store(medium.clone(), RefCell::new(recovered.pages), recovered.troubles)
    };
    let store = open(None);
    (1..4).for_each(|n| assert!(store.append(&draft(n, 3 << 20)).is_ok()));
    let mark = store.sync().unwrap();
    store.delete(id(2));
    drop(store);
    let store = open(Some(&mark));
    assert_eq!((store.2.as_slice(), store.ids()), (&[][..], vec![id(1), id(3)]));
}

#[test]
fn an_append_in_flight_at_the_sync_hides_nothing_behind_it() {
    let medium = FakeMedium::default();
    let store = Store::open(&medium, None);
    store.append(&draft(1, 100)).unwrap();
    let Ok(Room::Here { .. }) = store.with_mut(|pages| pages.reserve(&draft(2, 9000), false))
    else {
        panic!("there is room")
    };
    store.append(&draft(3, 100)).unwrap();
    let mark = store.sync().unwrap();
    medium.crash(|| false);
    let store = Store::open(&medium, Some(&mark));
    assert_eq!(store.2, []);
    assert_eq!(store.ids(), [id(1), id(3)]);
    assert_eq!(store.read(id(3)).unwrap(), payload(&draft(3, 100)));
}

#[test]
fn rot_below_the_mark_is_reported_and_drops_nothing_else() {
    let medium = FakeMedium::default();
    let store = Store::open(&medium, None);
    (0..4).for_each(|n| assert!(store.append(&draft(n, 4096)).is_ok()));
    let mark = store.sync().unwrap();
    let (second, _) = locate(&store, id(1)).unwrap();
    medium.rot(0, second.offset + 3);
    let reopened = Store::open(&medium, Some(&mark));
    assert_eq!(reopened.2, [Trouble::Record { file: 0, offset: second.offset }]);
    assert_eq!(reopened.ids(), [id(0), id(2), id(3)]);
    medium.rot(0, second.offset + 3);
    medium.rot(0, second.offset + 70);
    let reopened = Store::open(&medium, Some(&mark));
    let trouble = Trouble::Segment { id: id(1), file: 0, offset: second.offset };
    assert_eq!(reopened.2, [trouble]);
    assert_eq!(reopened.ids().len(), 4, "known, though unreadable");
    assert_eq!(reopened.read(id(1)), Err(PageError::Corrupt { offset: 0 }));
    // Above the mark the same damage ends the file.
    let reopened = Store::open(&medium, None);
    assert_eq!((reopened.2.len(), reopened.ids()), (0, vec![id(0)]));
}

#[test]
fn a_copy_inside_of_a_payload_never_shadows_the_segment() {
    let medium = FakeMedium::default();
    let store = Store::open(&medium, None);
    let stored = draft(1, 100);
    let inner =
        [encode_head(VOLUME, &stored), stored.payload.concat().into(), padding(100)].concat();
    let outer = SegmentDraft { id: id(2), len: inner.len() as u32, payload: vec![inner.into()] };
    store.append(&outer).unwrap();
    store.append(&stored).unwrap();
    let (place, _) = locate(&store, id(1)).unwrap();
    let mark = store.sync().unwrap();
    medium.rot(0, FIRST_RECORD);
    let reopened = Store::open(&medium, Some(&mark));
    assert_eq!(reopened.2, [Trouble::Record { file: 0, offset: FIRST_RECORD }]);
    assert_eq!(
        locate(&reopened, id(1)).unwrap().0.offset,
        FIRST_RECORD + PAGE,
        "salvaged in order"
    );
    assert_ne!(place.offset, FIRST_RECORD + PAGE);
    assert_eq!(reopened.read(id(1)).unwrap(), payload(&stored), "equal bytes either way");
}

#[test]
fn a_damaged_footer_is_replaced() {
    let medium = FakeMedium::default();
    let store = Store::open(&medium, None);
    (0..9).for_each(|n| assert!(store.append(&draft(n, 9000)).is_ok()));
    let mark = store.sync().unwrap();
    let last = medium.open(0).unwrap().len().unwrap() - 1;
    medium.rot(0, last);
    let store = Store::open(&medium, Some(&mark));
    assert_eq!(store.2[0], Trouble::Footer { file: 0 });
    assert_eq!(store.ids().len(), 9);
    let mark = store.sync().unwrap();
    let store = Store::open(&medium, Some(&mark));
    assert_eq!((&store.2[..], store.ids().len()), (&[][..], 9));
}

#[test]
fn what_a_failed_sync_lost_is_written_again_before_it_answers() {
    let medium = FakeMedium::default();
    let store = Store::open(&medium, None);
    store.append(&draft(1, 5000)).unwrap();
    store.sync().unwrap();
    store.append(&draft(2, 5000)).unwrap();
    medium.0.borrow_mut().syncs_that_fail = 1;
    let mark = store.sync().unwrap();
    assert_eq!(locate(&store, id(2)).unwrap().0.file, 1, "never again into the failed file");
    medium.crash(|| false);
    let store = Store::open(&medium, Some(&mark));
    assert_eq!(store.2, []);
    for n in [1, 2] {
        assert_eq!(store.read(id(n)).unwrap(), payload(&draft(n, 5000)), "{n}");
    }
}

// The bytes of a failed sync stay in the page cache, also for the next process.
#[test]
fn a_copy_that_a_failed_sync_left_behind_is_never_taken_for_durable() {
    let medium = FakeMedium::default();
    let store = Store::open(&medium, None);
    store.append(&draft(1, 100)).unwrap();
    store.sync().unwrap();
    store.append(&draft(2, 9000)).unwrap();
    medium.0.borrow_mut().syncs_that_fail = 1;
    let mark = store.sync().unwrap();
    // The process is killed, and the next one makes everything durable that it finds.
    let store = Store::open(&medium, Some(&mark));
    assert_eq!(store.read(id(2)).unwrap()[..], payload(&draft(2, 9000))[..]);
    let mark = store.sync().unwrap();
    // Now the power goes.
    medium.crash(|| true);
    let store = Store::open(&medium, Some(&mark));
    assert_eq!(store.2, []);
    for (sequence, len) in [(1, 100), (2, 9000)] {
        let expected = payload(&draft(sequence, len));
        assert_eq!(store.read(id(sequence)).unwrap()[..], expected[..], "segment {sequence}");
    }
}

#[test]
fn a_footer_ends_its_file_also_behind_an_append_that_was_cut_short() {
    let medium = FakeMedium::default();
    let store = Store::open(&medium, None);
    store.append(&draft(1, 100)).unwrap();
    let (place, file) = locate(&store, id(1)).unwrap();
    let junk = Bytes::from(vec![0xaa; 3 * PAGE as usize + 5]);
    file.write(place.offset + place.physical_len(), &[junk]).unwrap();
    // Too large for the same file, which is sealed therefore.
    store.append(&draft(2, 14 * PAGE as usize)).unwrap();
    let mark = store.sync().unwrap();
    let store = Store::open(&medium, Some(&mark));
    assert_eq!((&store.2[..], store.ids()), (&[][..], vec![id(1), id(2)]));
}

#[test]
fn a_dead_disk_is_never_acknowledged() {
    let medium = FakeMedium::default();
    let store = Store::open(&medium, None);
    store.append(&draft(1, 5000)).unwrap();
    medium.0.borrow_mut().syncs_that_fail = 100;
    assert_eq!(store.sync(), Err(PageError::Io));
    assert_eq!(store.sync(), Err(PageError::Io), "not forgotten either");
    medium.0.borrow_mut().syncs_that_fail = 1;
    medium.0.borrow_mut().full = true;
    assert_eq!(store.sync(), Err(PageError::NoSpace));
    medium.0.borrow_mut().full = false;
    let mark = store.sync().unwrap();
    medium.crash(|| false);
    let store = Store::open(&medium, Some(&mark));
    assert_eq!(store.read(id(1)).unwrap(), payload(&draft(1, 5000)));
}

#[test]
fn a_full_disk_takes_nothing_and_recovers() {
    let medium = FakeMedium::default();
    let store = Store::open(&medium, None);
    store.append(&draft(1, 100)).unwrap();
    medium.0.borrow_mut().full = true;
    assert_eq!(store.append(&draft(2, 100)), Err(PageError::NoSpace));
    assert_eq!(store.read(id(2)), Err(PageError::Missing));
    medium.0.borrow_mut().full = false;
    store.append(&draft(2, 100)).unwrap();
    let mark = store.sync().unwrap();
    assert_eq!(mark.files[0].holes, [], "the room was given back");
}

#[test]
fn marks_and_footers_are_checked() {
    let medium = FakeMedium::default();
    let store = Store::open(&medium, None);
    store.append(&draft(1, 100)).unwrap();
    drop(store.with_mut(|pages| pages.reserve(&draft(2, 9000), false)));
    let mark = store.sync().unwrap();
    let bytes = mark.encode();
    assert_eq!(Mark::decode(&bytes), Some(mark));
    let records = [Record { offset: 5 * PAGE, id: id(9), payload_len: 77 }];
    let footer = encode_footer(VOLUME, 3, 9 * PAGE, &records);
    assert_eq!(decode_footer(VOLUME, 3, 9 * PAGE, &footer).as_deref(), Some(&records[..]));
    assert_eq!(decode_footer(VOLUME, 4, 9 * PAGE, &footer), None);
    for at in 0..bytes.len().max(footer.len()) {
        if let Some(mut bad) = Some(bytes.to_vec()).filter(|bytes| at < bytes.len()) {
            bad[at] ^= 1;
            assert_eq!(Mark::decode(&bad), None);
            assert_eq!(Mark::decode(&bytes[..at]), None);
        }
        let mut bad = footer.to_vec();
        bad[at] ^= 1;
        assert_eq!(decode_footer(VOLUME, 3, 9 * PAGE, &bad), None);
    }
}

#[test]
fn a_file_under_creation_at_the_sync_promises_nothing() {
    let medium = FakeMedium::default();
    let store = Store::open(&medium, Some(&Mark::default()));
    let Ok(Room::NewFile(number)) = store.with_mut(|pages| pages.reserve(&draft(1, 100), false))
    else {
        panic!("there is no file yet")
    };
    let mark = store.sync().unwrap();
    let file = medium.create(number).unwrap();
    file.write(0, &[super::format::encode_header(VOLUME, number)]).unwrap();
    store.with_mut(|pages| pages.created(number, Some(file)));
    store.append(&draft(1, 100)).unwrap();
    store.append(&draft(2, 9000)).unwrap();
    let (place, file) = locate(&store, id(2)).unwrap();
    medium.crash(|| true);
    file.truncate(place.offset + 100).unwrap();
    let store = Store::open(&medium, Some(&mark));
    assert_eq!((&store.2[..], store.ids()), (&[][..], vec![]), "not promised, so no rot");
}

#[test]
fn an_append_that_ends_in_a_failed_file_is_moved() {
    let medium = FakeMedium::default();
    let store = Store::open(&medium, None);
    store.append(&draft(1, 100)).unwrap();
    let late = draft(2, 100);
    let Ok(Room::Here { file, place }) = store.with_mut(|pages| pages.reserve(&late, false)) else {
        panic!("there is room")
    };
    medium.0.borrow_mut().syncs_that_fail = 1;
    store.sync().unwrap();
    let mut pieces = vec![encode_head(VOLUME, &late)];
    pieces.extend(late.payload.iter().cloned());
    pieces.push(padding(late.len));
    file.write(place.offset, &pieces).unwrap();
    store.with_mut(|pages| pages.appended(late, place, true, false));
    assert_eq!(store.read(id(2)).unwrap(), payload(&draft(2, 100)), "readable where it is");
    let mark = store.sync().unwrap();
    assert_ne!(locate(&store, id(2)).unwrap().0.file, place.file, "a later success proves nothing");
    medium.crash(|| false);
    let store = Store::open(&medium, Some(&mark));
    assert_eq!((&store.2[..], store.ids()), (&[][..], vec![id(1), id(2)]));
}

#[test]
fn a_durable_segment_wins_over_a_copy_behind_rot() {
    let medium = FakeMedium::default();
    let store = Store::open(&medium, None);
    let stored = draft(1, 100);
    let inner =
        [encode_head(VOLUME, &stored), stored.payload.concat().into(), padding(100)].concat();
    let outer = SegmentDraft { id: id(2), len: inner.len() as u32, payload: vec![inner.into()] };
    store.append(&outer).unwrap();
    store.append(&draft(3, 40_000)).unwrap();
    store.append(&draft(4, 40_000)).unwrap();
    store.append(&stored).unwrap();
    let (place, _) = locate(&store, id(1)).unwrap();
    assert_ne!(place.file, 0);
    let mark = store.sync().unwrap();
    medium.rot(0, FIRST_RECORD);
    let last = medium.open(0).unwrap().len().unwrap() - 1;
    medium.rot(0, last);
    let reopened = Store::open(&medium, Some(&mark));
    assert_eq!(locate(&reopened, id(1)).unwrap().0, place);
}

#[derive(Clone, Debug)]
enum Op {
    Append(usize),
    Delete(usize),
    Sync { failures: u32 },
    Full(bool),
    Crash(u64),
    Reopen,
}

fn any_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        10 => (0usize..20_000).prop_map(Op::Append),
        4 => any::<usize>().prop_map(Op::Delete),
        3 => Just(Op::Sync { failures: 0 }),
        1 => (1u32..3).prop_map(|failures| Op::Sync { failures }),
        1 => any::<bool>().prop_map(Op::Full),
        2 => any::<u64>().prop_map(Op::Crash),
        1 => Just(Op::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn what_was_acknowledged_survives_every_crash(ops in proptest::collection::vec(any_op(), 1..60)) {
        let medium = FakeMedium::default();
        let mut mark = Mark::default();
        let mut store = Store::open(&medium, Some(&mark));
        // Every segment that was appended and not deleted; and those of them that a mark promised.
        let mut live: BTreeMap<SegmentId, SegmentDraft> = BTreeMap::new();
        let mut promised: BTreeSet<SegmentId> = BTreeSet::new();
        for (n, op) in ops.into_iter().enumerate() {
            match op {
                Op::Append(len) => {
                    let draft = draft(n as u64, len);
                    match store.append(&draft) {
                        Ok(_) => drop(live.insert(draft.id, draft)),
                        Err(error) => prop_assert_eq!(error, PageError::NoSpace),
                    }
                }
                Op::Delete(which) if !live.is_empty() => {
                    let id = *live.keys().nth(which % live.len()).unwrap();
                    store.delete(id);
                    live.remove(&id);
                    promised.remove(&id);
                }
                Op::Delete(_) => {}
                Op::Sync { failures } => {
                    medium.0.borrow_mut().syncs_that_fail = failures;
                    if let Ok(synced) = store.sync() {
                        mark = synced;
                        promised = live.keys().copied().collect();
                    } else {
                        prop_assert!(failures > 0 || medium.0.borrow().full);
                    }
                    medium.0.borrow_mut().syncs_that_fail = 0;
                }
                Op::Full(full) => medium.0.borrow_mut().full = full,
                Op::Crash(seed) => {
                    let mut state = seed;
                    medium.crash(|| {
                        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                        state >> 63 == 1
                    });
                    store = Store::open(&medium, Some(&mark));
                    live.retain(|id, _| promised.contains(id));
                }
                Op::Reopen => {
                    medium.crash(|| true);
                    store = Store::open(&medium, Some(&mark));
                    live.retain(|id, _| promised.contains(id));
                }
            }
            prop_assert_eq!(&store.2[..], &[][..], "no rot was planted");
            for draft in live.values() {
                prop_assert_eq!(store.read(draft.id).map(|b| b == payload(draft)), Ok(true), "{}", draft.id);
            }
        }
    }
}
