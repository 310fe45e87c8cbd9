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
