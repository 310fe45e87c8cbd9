//! The contract of a page store.

use super::PageStore;
use bytes::Bytes;
use vellum_core::id::{SegmentId, SessionId};
use vellum_core::port::page_store::{PageError, SegmentDraft};

/// Runs every check against a store that holds no segment of session `u128::MAX`.
pub fn check(store: &dyn PageStore) {
    reads_back_any_range(store);
    takes_an_id_once(store);
    lists_in_order_and_by_pages(store);
    forgets_what_was_deleted(store);
    tells_its_capacity(store);
    takes_a_payload_in_any_pieces(store);
    knows_nothing_of_what_was_never_stored(store);
    deletes_what_is_not_durable_yet(store);
}

/// Runs the checks of a store that many threads may call.
pub fn check_threads(store: &(dyn PageStore + Sync)) {
    appends_of_many_threads_are_all_there(store);
}

fn id(sequence: u64) -> SegmentId {
    SegmentId { session: SessionId(u128::MAX), sequence }
}

fn draft(sequence: u64, len: usize) -> SegmentDraft {
    let bytes: Vec<u8> =
        (0..len).map(|i| (i as u64 * 31 + i as u64 / 253 + sequence) as u8).collect();
    let bytes = Bytes::from(bytes);
    let payload = vec![bytes.slice(..len / 2), Bytes::new(), bytes.slice(len / 2..)];
    SegmentDraft { id: id(sequence), payload, len: len as u32 }
}

/// Every payload length around a frame, every kind of range.
pub fn reads_back_any_range(store: &dyn PageStore) {
    for (sequence, len) in
        [1usize, 511, 4095, 4096, 4097, 12_288, 3_000_001].into_iter().enumerate()
    {
        let draft = draft(100 + sequence as u64, len);
        let whole = draft.payload.concat();
        let physical = store.append(draft.clone()).expect("an append");
        assert!(physical >= len as u64, "{physical} bytes for {len}");
        for (offset, count) in
            [(0, len), (0, 1), (len - 1, 1), (len / 2, len - len / 2), (len / 3, (len / 3).max(1))]
        {
            let read = store.read(draft.id, offset as u32, count as u32).expect("a read");
            assert_eq!(read, whole[offset..offset + count], "{offset}+{count} of {len}");
        }
        let beyond = store.read(draft.id, len as u32, 1);
        assert_eq!(beyond, Err(PageError::Missing), "a read beyond the end");
        assert_eq!(store.verify(draft.id), Ok(len as u32));
        store.sync().expect("a sync");
        assert_eq!(store.read(draft.id, 0, len as u32).expect("after the sync"), whole);
    }
}

/// Ids are create-only; a retry with the same bytes is none.
pub fn takes_an_id_once(store: &dyn PageStore) {
    let first = draft(200, 5000);
    let physical = store.append(first.clone()).expect("an append");
    assert_eq!(store.append(first.clone()), Ok(physical), "the same bytes again");
    let other = SegmentDraft { id: first.id, ..draft(201, 5000) };
    assert!(store.append(other).is_err(), "other bytes under the same id");
    assert_eq!(store.read(first.id, 0, 5000).expect("a read"), first.payload.concat());
}

/// Ascending, behind `after`, no more than `limit`.
pub fn lists_in_order_and_by_pages(store: &dyn PageStore) {
    let ids: Vec<SegmentId> = (300..310).map(id).collect();
    for sequence in [305, 300, 309, 301, 302, 308, 303, 304, 307, 306] {
        store.append(draft(sequence, 10)).expect("an append");
    }
    let mut seen = Vec::new();
    let mut after = Some(id(299));
    loop {
        let page = store.list(after, 3).expect("a list");
        assert!(page.len() <= 3);
        let Some(last) = page.last() else { break };
        after = Some(*last);
        seen.extend(page);
    }
    assert_eq!(seen, ids);
}

/// A deleted segment is missing; its neighbours are not; unknown ids are skipped.
pub fn forgets_what_was_deleted(store: &dyn PageStore) {
    (400..404).for_each(|n| assert!(store.append(draft(n, 9000)).is_ok()));
    store.delete(&[id(401), id(499), id(403)]).expect("a delete");
    for (sequence, len) in [(400, Ok(9000)), (401, Err(PageError::Missing)), (402, Ok(9000))] {
        assert_eq!(store.verify(id(sequence)), len, "{sequence}");
    }
    assert_eq!(store.read(id(403), 0, 1), Err(PageError::Missing));
    assert_eq!(store.list(Some(id(399)), 10), Ok(vec![id(400), id(402)]));
    store.sync().expect("a sync after a delete");
}

/// Free is part of total.
pub fn tells_its_capacity(store: &dyn PageStore) {
    let space = store.space().expect("the capacity");
    assert!(space.total > 0 && space.free <= space.total, "{space:?}");
}

/// The payload is the concatenation of its pieces, however many and however short.
pub fn takes_a_payload_in_any_pieces(store: &dyn PageStore) {
    let bytes: Bytes = (0..9_001u32).map(|n| (n * 7 + n / 256) as u8).collect();
    for (n, cut) in [1, 2, 7, 4_095, 4_096, 4_097, 9_001].into_iter().enumerate() {
        let mut payload: Vec<Bytes> = vec![Bytes::new()];
        let mut rest = bytes.clone();
        while !rest.is_empty() {
            payload.push(rest.split_to(cut.min(rest.len())));
            payload.push(Bytes::new());
        }
        let id = id(500 + n as u64);
        store.append(SegmentDraft { id, payload, len: 9_001 }).expect("an append");
        assert_eq!(store.read(id, 0, 9_001).expect("a read"), bytes, "pieces of {cut}");
        assert_eq!(store.read(id, 4_090, 12).expect("a read"), bytes[4_090..4_102]);
    }
}

/// Neither to read nor to verify; to delete it is no error.
pub fn knows_nothing_of_what_was_never_stored(store: &dyn PageStore) {
    let unknown = id(599);
    assert_eq!(store.read(unknown, 0, 1), Err(PageError::Missing));
    assert_eq!(store.verify(unknown), Err(PageError::Missing));
    assert_eq!(store.delete(&[unknown, unknown]), Ok(()));
    assert_eq!(store.delete(&[]), Ok(()));
    assert_eq!(store.list(Some(id(u64::MAX)), 10), Ok(Vec::new()), "nothing behind the last");
    store.append(draft(598, 10)).expect("an append");
    for (offset, len) in [(10, 1), (9, 2), (0, 11), (u32::MAX, 1), (1, u32::MAX)] {
        let beyond = store.read(id(598), offset, len);
        assert_eq!(beyond, Err(PageError::Missing), "{offset}+{len} of 10");
    }
}

/// Whether a sync came in between makes no difference.
pub fn deletes_what_is_not_durable_yet(store: &dyn PageStore) {
    for (n, synced) in [(600, false), (601, true)] {
        store.append(draft(n, 5_000)).expect("an append");
        if synced {
            store.sync().expect("a sync");
        }
        store.delete(&[id(n)]).expect("a delete");
        assert_eq!(store.read(id(n), 0, 1), Err(PageError::Missing));
        store.sync().expect("a sync after the delete");
        assert_eq!(store.verify(id(n)), Err(PageError::Missing));
    }
}

/// Appends, reads, deletes and syncs at once.
pub fn appends_of_many_threads_are_all_there(store: &(dyn PageStore + Sync)) {
    const EACH: u64 = 30;
    std::thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || {
                for n in 0..EACH {
                    let sequence = 1_000 + thread * EACH + n;
                    let len = 1 + (n as usize * 977) % 20_000;
                    let draft = draft(sequence, len);
                    store.append(draft.clone()).expect("an append");
                    let read = store.read(draft.id, 0, len as u32).expect("a read");
                    assert_eq!(read, draft.payload.concat());
                    match n % 5 {
                        0 => store.sync().expect("a sync"),
                        1 => store.delete(&[draft.id]).expect("a delete"),
                        _ => {}
                    }
                }
            });
        }
    });
    for sequence in 1_000..1_000 + 4 * EACH {
        let n = (sequence - 1_000) % EACH;
        let expected = 1 + (n as u32 * 977) % 20_000;
        let found = store.verify(id(sequence));
        assert_eq!(found, if n % 5 == 1 { Err(PageError::Missing) } else { Ok(expected) });
    }
}
