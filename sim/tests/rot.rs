//! Damage on the disk below the real page store: a byte that rots, a page that is written to the wrong
//! place. Whatever it hits, a segment is read as it was written or not at all, and the others stay.

use bytes::Bytes;
use std::collections::BTreeMap;
use vellum_core::id::{SegmentId, SessionId, VolumeId};
use vellum_core::port::meta_kv::{CommitRequest, Key, Mutation};
use vellum_core::port::page_store::{PageReply, PageRequest, SegmentDraft};
use vellum_sim::dice::{Dice, Stream};
use vellum_sim::disk::{Ills, SimDisk};
use vellum_sim::local::LocalStore;

/// Damages a disk, and says which of its files.
type Damage = fn(&SimDisk, &mut Dice) -> Option<u32>;

/// Segments with random bytes, durable, in files some of which are sealed and hold dead ones.
fn filled(dice: &mut Dice) -> (LocalStore, BTreeMap<SegmentId, Bytes>) {
    let mut store = LocalStore::new(VolumeId(5), 1 << 40, Ills::default());
    let mut stored = BTreeMap::new();
    for sequence in 0..dice.within(5, 60) {
        let id = SegmentId { session: SessionId(7), sequence };
        let len = dice.within(1, 120_000);
        let bytes: Vec<u8> = (0..len).map(|_| dice.below(256) as u8).collect();
        let bytes = Bytes::from(bytes);
        let draft = SegmentDraft { id, payload: vec![bytes.clone()], len: len as u32 };
        store.serve(&PageRequest::Append(draft)).expect("append");
        stored.insert(id, bytes);
        if dice.chance(2_000) {
            sync(&mut store);
        }
        if dice.chance(1_000) {
            let (dead, _) = stored.pop_first().expect("one was just stored");
            store.serve(&PageRequest::Delete { segments: vec![dead] }).expect("delete");
        }
    }
    sync(&mut store);
    (store, stored)
}

fn sync(store: &mut LocalStore) {
    let set = Mutation::Set { key: Key::new(b"k"), value: Bytes::from_static(b"v") };
    let request = CommitRequest { mutations: vec![set], ..CommitRequest::default() };
    let commit = store.commit(request).expect("commit");
    store.sync(commit.version).expect("sync");
}

/// How many segments cannot be read.
fn unreadable(store: &LocalStore, stored: &BTreeMap<SegmentId, Bytes>, seed: u64) -> usize {
    let mut lost = 0;
    for (segment, bytes) in stored {
        let read = PageRequest::Read { segment: *segment, offset: 0, len: bytes.len() as u32 };
        match store.serve(&read) {
            Ok(PageReply::Data(found)) => assert!(found == *bytes, "seed {seed}: other bytes"),
            Ok(other) => panic!("seed {seed}: {other:?}"),
            Err(_) => {
                lost += 1;
                let verified = store.serve(&PageRequest::Verify { segment: *segment });
                assert!(verified.is_err(), "seed {seed}: a check finds it, too");
            }
        }
    }
    lost
}

fn survive(damage: Damage, most: usize) {
    let (mut hits, mut runs) = (0, 0);
    for seed in 0..150 {
        let mut dice = Dice::new(seed, Stream::Faults);
        let (mut store, stored) = filled(&mut dice);
        store.crash(true, &mut dice);
        assert_eq!(unreadable(&store, &stored, seed), 0, "seed {seed}: nothing is damaged yet");
        if damage(store.page_files(), &mut dice).is_none() {
            continue;
        }
        runs += 1;
        let before = unreadable(&store, &stored, seed);
        // Also by a start that has to find its way through the damage.
        store.crash(false, &mut dice);
        let after = unreadable(&store, &stored, seed);
        assert!(before <= most && after <= most, "seed {seed}: {before} and {after} are lost");
        hits += usize::from(after > 0);
    }
    assert!(hits * 2 > runs, "the damage hits something: {hits} of {runs}");
}

#[test]
fn a_byte_that_rots_costs_one_segment_at_most_and_is_never_returned() {
    survive(SimDisk::rot, 1);
}

#[test]
fn a_misdirected_write_costs_two_segments_at_most_and_is_never_returned() {
    survive(SimDisk::misdirect, 2);
}

/// Small page files of every kind: sealed ones, one that takes appends, with dead segments in both.
fn small() -> (LocalStore, BTreeMap<SegmentId, Bytes>) {
    let mut store = LocalStore::with_page_files(VolumeId(5), 1 << 40, Ills::default(), 64 << 10);
    let mut stored = BTreeMap::new();
    for (sequence, len) in
        [5_000u64, 20_000, 1, 9_000, 12_288, 4_096, 30_000].into_iter().enumerate()
    {
        let sequence = sequence as u64;
        let id = SegmentId { session: SessionId(7), sequence };
        let bytes: Bytes = (0..len).map(|n| (n * 31 + n / 253 + sequence) as u8).collect();
        let draft = SegmentDraft { id, payload: vec![bytes.clone()], len: len as u32 };
        store.serve(&PageRequest::Append(draft)).expect("append");
        stored.insert(id, bytes);
    }
    sync(&mut store);
    for sequence in [0, 4] {
        let dead = SegmentId { session: SessionId(7), sequence };
        store.serve(&PageRequest::Delete { segments: vec![dead] }).expect("delete");
        stored.remove(&dead);
    }
    sync(&mut store);
    (store, stored)
}

#[test]
fn a_flipped_byte_anywhere_costs_one_segment_at_most_and_is_never_returned() {
    let (mut flips, mut losses) = (0, 0);
    // Every place within a page is met in some page.
    for at in (0..).step_by(41) {
        let (mut store, stored) = small();
        if !store.page_files().flip(at, 1 << (at % 8)) {
            break;
        }
        flips += 1;
        store.stop(None);
        store.open().unwrap_or_else(|error| panic!("byte {at}: {error}"));
        let lost = unreadable(&store, &stored, at);
        assert!(lost <= 1, "byte {at}: {lost} are lost");
        losses += usize::from(lost > 0);
    }
    assert!(flips > 2_000 && losses * 3 > flips, "{losses} of {flips} flips hit something");
}
