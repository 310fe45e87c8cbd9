use super::{EXTENT_OVERHEAD, JOIN_MAX, SubBuffer, SubBufferId, WriteBuffer, payload};
use crate::limits::{IO_SIZE_MAX, SUB_BUFFER_EXTENTS_MAX, SUB_BUFFER_MAX};
use crate::time::{Instant, WallTime};
use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;
use core::ops::Range;
use proptest::prelude::*;

/// Writes `len` bytes of value `fill` at second `at`.
fn write(buffer: &mut WriteBuffer, at: u64, offset: u64, len: usize, fill: u8) {
    buffer.write(Instant(at), offset, Bytes::from(vec![fill; len]), WallTime::new(at as i64, 0));
}

fn pieces(buffer: &WriteBuffer, range: Range<u64>) -> Vec<(Range<u64>, Option<Vec<u8>>)> {
    let mut seen = Vec::new();
    buffer.visit(range, |range, bytes| seen.push((range, bytes.map(|b| b.to_vec()))));
    seen
}

#[test]
fn newer_sub_buffers_cover_older_ones() {
    let mut buffer = WriteBuffer::new();
    write(&mut buffer, 1, 0, 6, b'a');
    buffer.seal();
    write(&mut buffer, 2, 2, 2, b'b');
    buffer.seal();
    write(&mut buffer, 3, 8, 2, b'c');
    assert_eq!(
        pieces(&buffer, 1..12),
        [
            (1..2, Some(b"a".to_vec())),
            (2..4, Some(b"bb".to_vec())),
            (4..6, Some(b"aa".to_vec())),
            (6..8, None),
            (8..10, Some(b"cc".to_vec())),
            (10..12, None),
        ]
    );
}

#[test]
fn a_sealed_sub_buffer_is_not_written_to() {
    let mut buffer = WriteBuffer::new();
    write(&mut buffer, 1, 0, 4, b'a');
    let id = buffer.seal().expect("not empty");
    write(&mut buffer, 2, 0, 4, b'b');
    let (payload, places) = buffer.sub_buffer(id).expect("still there").layout();
    assert_eq!(payload, [Bytes::from_static(b"aaaa")]);
    assert_eq!(places.len(), 1);
    assert_eq!(buffer.sub_buffers(), 2);
}

#[test]
fn completing_uncovers_nothing_newer() {
    let mut buffer = WriteBuffer::new();
    write(&mut buffer, 1, 0, 4, b'a');
    let first = buffer.seal().expect("not empty");
    write(&mut buffer, 2, 0, 2, b'b');
    let second = buffer.seal().expect("not empty");
    assert_eq!(buffer.complete(first).expect("there").id(), first);
    assert_eq!(pieces(&buffer, 0..4), [(0..2, Some(b"bb".to_vec())), (2..4, None)]);
    assert_eq!((buffer.oldest(), buffer.end()), (Some(Instant(2)), 2));
    assert!(buffer.complete(first).is_none(), "gone already");
    assert!(buffer.complete(second).is_some());
    assert!(buffer.is_empty());
    assert_eq!((buffer.bytes(), buffer.mtime(), buffer.oldest()), (0, None, None));
}

#[test]
#[should_panic(expected = "sub-buffers are completed in order")]
fn completing_out_of_order_is_a_bug() {
    let mut buffer = WriteBuffer::new();
    write(&mut buffer, 1, 0, 4, b'a');
    buffer.seal();
    write(&mut buffer, 2, 0, 2, b'b');
    let second = buffer.seal().expect("not empty");
    buffer.complete(second);
}

#[test]
#[should_panic(expected = "is still open")]
fn completing_the_open_one_is_a_bug() {
    let mut buffer = WriteBuffer::new();
    write(&mut buffer, 1, 0, 4, b'a');
    let id = buffer.oldest_first().next().expect("open").id();
    buffer.complete(id);
}

#[test]
fn ids_are_not_used_again_after_a_discard() {
    let mut buffer = WriteBuffer::new();
    write(&mut buffer, 1, 0, 4, b'a');
    let discarded = buffer.seal().expect("not empty");
    write(&mut buffer, 2, 0, 4, b'b');
    buffer.discard_all();
    assert!(buffer.is_empty());
    write(&mut buffer, 3, 0, 4, b'c');
    assert!(buffer.complete(discarded).is_none());
    assert!(buffer.seal().expect("not empty") > discarded);
}

#[test]
fn a_write_of_nothing_does_nothing() {
    let mut buffer = WriteBuffer::new();
    write(&mut buffer, 1, 100, 0, 0);
    assert!(buffer.is_empty());
    assert_eq!((buffer.end(), buffer.mtime(), buffer.seal()), (0, None, None));
}

#[test]
fn a_write_beyond_the_room_is_cut_at_the_limit() {
    let mut buffer = WriteBuffer::new();
    let len = SUB_BUFFER_MAX as usize + 5;
    let content: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
    write(&mut buffer, 1, 0, 10, 0);
    buffer.write(Instant(2), 10, Bytes::from(content.clone()), WallTime::new(2, 0));
    assert_eq!(buffer.sub_buffers(), 2);
    let sealed: Vec<_> = buffer.sealed().map(SubBuffer::payload_len).collect();
    assert_eq!(sealed, [SUB_BUFFER_MAX as u32]);
    assert!(!buffer.wants_seal());
    let mut read = Vec::new();
    buffer.visit(10..10 + len as u64, |_, bytes| read.extend_from_slice(&bytes.expect("no gap")));
    assert!(read == content);
}

#[test]
fn a_write_that_does_not_fit_goes_whole_into_the_next_sub_buffer() {
    let mut buffer = WriteBuffer::new();
    write(&mut buffer, 1, 0, SUB_BUFFER_MAX as usize - 10, 1);
    write(&mut buffer, 2, SUB_BUFFER_MAX - 10, 100, 2);
    let sealed: Vec<_> = buffer.sealed().map(SubBuffer::payload_len).collect();
    assert_eq!(sealed, [SUB_BUFFER_MAX as u32 - 10]);
    buffer.seal();
    assert_eq!(buffer.sealed().last().map(SubBuffer::payload_len), Some(100));
}

#[test]
fn bytes_that_cover_others_take_no_room() {
    let mut buffer = WriteBuffer::new();
    let nearly_full = SUB_BUFFER_MAX as usize - 10;
    write(&mut buffer, 1, 0, nearly_full, 1);
    write(&mut buffer, 2, 100, IO_SIZE_MAX as usize, 2);
    assert_eq!(buffer.sub_buffers(), 1);
    // Most of it covers, 10 bytes fill; the next one has no room left.
    write(&mut buffer, 3, nearly_full as u64 - 190, 200, 3);
    write(&mut buffer, 4, nearly_full as u64 + 10, 90, 4);
    let payloads: Vec<_> = buffer.oldest_first().map(SubBuffer::payload_len).collect();
    assert_eq!(payloads, [SUB_BUFFER_MAX as u32, 90]);
    assert_eq!(buffer.oldest_first().map(|sub| sub.map().len()).max(), Some(4));
}

#[test]
fn a_full_sub_buffer_wants_a_seal_and_gets_it_from_the_next_write() {
    let mut buffer = WriteBuffer::new();
    for i in 0..SUB_BUFFER_MAX / u64::from(IO_SIZE_MAX) {
        assert!(!buffer.wants_seal());
        write(&mut buffer, i, i * u64::from(IO_SIZE_MAX), IO_SIZE_MAX as usize, 1);
    }
    assert!(buffer.wants_seal());
    assert_eq!(buffer.sealed().count(), 0);
    write(&mut buffer, 9, 0, 1, 2);
    assert_eq!(buffer.sealed().count(), 1);
    assert!(!buffer.wants_seal());
}

#[test]
fn scattered_writes_never_exceed_the_bound_on_extents() {
    let mut buffer = WriteBuffer::new();
    write(&mut buffer, 0, 0, 100_000, 1);
    for i in 0..3 * SUB_BUFFER_EXTENTS_MAX as u64 {
        write(&mut buffer, i, 1 + i * 3 % 99_999, 1, 2);
        assert!(buffer.oldest_first().all(|sub| sub.map().len() <= SUB_BUFFER_EXTENTS_MAX));
    }
    assert!(buffer.sealed().count() > 1);
}

#[test]
fn small_appends_fill_a_sub_buffer_to_its_limit() {
    let mut buffer = WriteBuffer::new();
    let line = 128;
    for i in 0..SUB_BUFFER_MAX / line {
        write(&mut buffer, i, i * line, line as usize, i as u8);
    }
    assert_eq!(buffer.sub_buffers(), 1);
    assert!(buffer.wants_seal(), "by bytes");
    assert_eq!(
        buffer.oldest_first().next().expect("open").map().len(),
        SUB_BUFFER_MAX as usize / JOIN_MAX
    );
    let mut at = 0;
    buffer.visit(0..SUB_BUFFER_MAX, |_, bytes| {
        for b in bytes.expect("no gap") {
            assert_eq!(b, (at / line) as u8);
            at += 1;
        }
    });
}

#[test]
fn large_writes_are_not_copied() {
    let mut buffer = WriteBuffer::new();
    let data = [Bytes::from(vec![1; JOIN_MAX]), Bytes::from(vec![2; JOIN_MAX])];
    for (i, data) in data.iter().enumerate() {
        buffer.write(Instant(0), (i * JOIN_MAX) as u64, data.clone(), WallTime::default());
    }
    let id = buffer.seal().expect("not empty");
    let (payload, places) = buffer.sub_buffer(id).expect("there").layout();
    assert_eq!(payload.iter().map(|b| b.as_ptr()).collect::<Vec<_>>(), data.map(|b| b.as_ptr()));
    assert_eq!(places.len(), 1, "runs that touch are one extent");
}

#[test]
fn covered_payload_does_not_pile_up() {
    let mut buffer = WriteBuffer::new();
    // Each write covers all of the last one but 4 KiB, which would keep 1 MiB alive.
    for i in 0..256 {
        write(&mut buffer, i, i * 4096, IO_SIZE_MAX as usize, i as u8);
        let visible = (i * 4096) + u64::from(IO_SIZE_MAX);
        assert!(buffer.bytes() <= 2 * visible + (i + 1) * EXTENT_OVERHEAD);
    }
    assert_eq!(buffer.sub_buffers(), 1);
}

#[test]
fn rewriting_in_place_holds_one_copy() {
    let mut buffer = WriteBuffer::new();
    for i in 0..10_000 {
        write(&mut buffer, i, 8192, 4096, i as u8);
    }
    assert_eq!(buffer.bytes(), 4096 + EXTENT_OVERHEAD);
}

/// Size of the naive file.
const SIZE: usize = 200;

#[derive(Clone, Debug)]
enum Step {
    Write(usize, usize),
    /// At the end of the last write.
    Append(usize),
    Seal,
    Complete,
    Discard,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0..SIZE, 0..80usize).prop_map(|(offset, len)| Step::Write(offset, len.min(SIZE - offset))),
        8 => (0..20usize).prop_map(Step::Append),
        2 => Just(Step::Seal),
        2 => Just(Step::Complete),
        1 => Just(Step::Discard),
    ];
    proptest::collection::vec(step, 0..60)
}

type Cells = [Option<u8>; SIZE];

/// A sub-buffer as a byte array, with the numbers of its first and last write.
struct NaiveSub {
    cells: Cells,
    first: u64,
    last: u64,
}

/// The buffer under test and what it should be.
#[derive(Default)]
struct Pair {
    buffer: WriteBuffer,
    sealed: VecDeque<(SubBufferId, NaiveSub)>,
    open: Option<NaiveSub>,
    /// End of the last write.
    end: usize,
}

impl Pair {
    fn apply(&mut self, step: &Step, number: u64) {
        match step {
            Step::Write(offset, len) => self.write(number, *offset, *len),
            Step::Append(len) => self.write(number, self.end, (*len).min(SIZE - self.end)),
            Step::Seal => {
                let id = self.buffer.seal();
                assert_eq!(id.is_some(), self.open.is_some());
                self.sealed.extend(id.zip(self.open.take()));
            }
            Step::Complete => {
                if let Some((id, naive)) = self.sealed.pop_front() {
                    check_layout(&self.buffer.complete(id).expect("still there"), &naive.cells);
                }
            }
            Step::Discard => {
                self.buffer.discard_all();
                self.sealed.clear();
                self.open = None;
            }
        }
    }

    fn write(&mut self, number: u64, offset: usize, len: usize) {
        let data: Vec<u8> = (0..len as u8).map(|i| i ^ (number as u8).wrapping_mul(37)).collect();
        self.end = offset + len;
        if len > 0 {
            let new = || NaiveSub { cells: [None; SIZE], first: number, last: number };
            let open = self.open.get_or_insert_with(new);
            open.last = number;
            for (cell, b) in open.cells[offset..].iter_mut().zip(&data) {
                *cell = Some(*b);
            }
        }
        let mtime = WallTime::new(number as i64, 0);
        self.buffer.write(Instant(number), offset as u64, Bytes::from(data), mtime);
    }

    fn oldest_first(&self) -> impl Iterator<Item = &NaiveSub> {
        self.sealed.iter().map(|(_, naive)| naive).chain(&self.open)
    }

    fn visible(&self) -> Cells {
        let mut out = [None; SIZE];
        for naive in self.oldest_first() {
            for (out, cell) in out.iter_mut().zip(&naive.cells) {
                *out = cell.or(*out);
            }
        }
        out
    }

    fn check_whole(&self) {
        let visible = self.visible();
        let end = visible.iter().rposition(Option::is_some).map_or(0, |last| last as u64 + 1);
        let buffer = &self.buffer;
        assert_eq!(buffer.end(), end);
        assert_eq!(buffer.is_empty(), end == 0);
        assert_eq!(buffer.sub_buffers(), self.oldest_first().count());
        assert_eq!(buffer.oldest(), self.oldest_first().next().map(|sub| Instant(sub.first)));
        let mtime = self.oldest_first().last().map(|sub| WallTime::new(sub.last as i64, 0));
        assert_eq!(buffer.mtime(), mtime);
        assert!(buffer.sealed().map(SubBuffer::id).eq(self.sealed.iter().map(|(id, _)| *id)));
        check_accounting(buffer);
    }

    fn check_range(&self, range: Range<usize>) {
        let mut seen: Vec<Option<u8>> = Vec::new();
        let mut gap_end = None;
        self.buffer.visit(range.start as u64..range.end as u64, |piece, bytes| {
            assert_eq!(piece.start, (range.start + seen.len()) as u64, "in order and without gaps");
            assert!(!piece.is_empty());
            match bytes {
                Some(bytes) => {
                    assert_eq!(bytes.len() as u64, piece.end - piece.start);
                    seen.extend(bytes.iter().map(|b| Some(*b)));
                }
                None => {
                    assert_ne!(gap_end, Some(piece.start), "gaps are whole");
                    gap_end = Some(piece.end);
                    seen.resize(seen.len() + (piece.end - piece.start) as usize, None);
                }
            }
        });
        assert_eq!(seen, self.visible()[range]);
    }
}

/// A sub-buffer's payload, put where its places say, is what was written.
fn check_layout(sub: &SubBuffer, cells: &Cells) {
    let (pieces, places) = sub.layout();
    let joined: Vec<u8> = pieces.concat();
    assert_eq!(joined.len(), sub.payload_len() as usize);
    let mut found = [None; SIZE];
    let mut end = 0;
    for place in &places {
        assert!(place.offset > end || end == 0, "places are in order and do not touch: {places:?}");
        end = place.offset + place.len;
        for i in 0..place.len as usize {
            found[place.offset as usize + i] = Some(joined[place.payload_offset as usize + i]);
        }
    }
    assert_eq!(found, *cells);
}

/// What is counted is what is there: the allocations behind the extents.
fn check_accounting(buffer: &WriteBuffer) {
    for sub in buffer.oldest_first() {
        let visible: u64 = sub.map().extents().map(|e| payload(&e.source).len() as u64).sum();
        assert_eq!(visible, sub.brought.values().map(|b| b.visible).sum::<u64>());
        assert_eq!(sub.held, sub.brought.values().map(|b| b.len).sum::<u64>());
        assert!(sub.held <= 2 * visible, "{} held for {visible} visible", sub.held);
        assert_eq!(sub.bytes(), sub.held + sub.map().len() as u64 * EXTENT_OVERHEAD);
    }
    assert_eq!(buffer.bytes(), buffer.oldest_first().map(SubBuffer::bytes).sum::<u64>());
}

proptest! {
    #[test]
    fn buffer_is_a_stack_of_byte_arrays(steps in steps(), a in 0..=SIZE, b in 0..=SIZE) {
        let mut pair = Pair::default();
        for (number, step) in steps.iter().enumerate() {
            pair.apply(step, number as u64);
            pair.check_whole();
            pair.check_range(0..SIZE);
            pair.check_range(a.min(b)..a.max(b));
        }
        for (id, naive) in &pair.sealed {
            check_layout(pair.buffer.sub_buffer(*id).expect("still there"), &naive.cells);
        }
    }
}
