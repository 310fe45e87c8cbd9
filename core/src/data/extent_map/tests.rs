use super::{Extent, ExtentMap, Source};
use crate::id::{SegmentId, SessionId};
use crate::limits::FILE_SIZE_MAX;
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;
use core::ops::Range;
use proptest::prelude::*;

fn segment(sequence: u64) -> SegmentId {
    SegmentId { session: SessionId(7), sequence }
}

fn at(sequence: u64, offset: u32) -> Source {
    Source::Segment { segment: segment(sequence), offset }
}

fn bytes(content: &'static [u8]) -> Source {
    Source::Bytes(Bytes::from_static(content))
}

fn extents(map: &ExtentMap) -> Vec<(u64, u64, Source)> {
    map.extents().map(|Extent { offset, len, source }| (offset, len, source)).collect()
}

#[test]
fn paint_inside_an_extent_splits_it() {
    let mut map = ExtentMap::new();
    map.paint(10, 10, bytes(b"0123456789"));
    map.paint(13, 2, bytes(b"ab"));
    assert_eq!(
        extents(&map),
        [(10, 3, bytes(b"012")), (13, 2, bytes(b"ab")), (15, 5, bytes(b"56789"))]
    );
    assert_eq!((map.len(), map.bytes(), map.end()), (3, 10, 20));
}

#[test]
fn paint_over_several_extents_keeps_what_sticks_out() {
    let mut map = ExtentMap::new();
    map.paint(0, 4, at(1, 0));
    map.paint(6, 2, at(2, 0));
    map.paint(9, 4, at(3, 100));
    map.paint(2, 8, at(4, 0));
    assert_eq!(extents(&map), [(0, 2, at(1, 0)), (2, 8, at(4, 0)), (10, 3, at(3, 101))]);
}

#[test]
fn extents_that_continue_each_other_in_a_segment_become_one() {
    let mut map = ExtentMap::new();
    map.paint(0, 4, at(1, 0));
    map.paint(8, 4, at(1, 8));
    map.paint(4, 4, at(1, 4));
    assert_eq!(extents(&map), [(0, 12, at(1, 0))]);
    assert_eq!((map.len(), map.bytes()), (1, 12));
}

#[test]
fn extents_of_other_segments_or_offsets_stay_apart() {
    let mut map = ExtentMap::new();
    map.paint(0, 4, at(1, 0));
    map.paint(4, 4, at(2, 4));
    map.paint(8, 4, at(2, 9));
    map.paint(12, 4, bytes(b"abcd"));
    map.paint(16, 4, bytes(b"efgh"));
    assert_eq!(map.len(), 5);
}

#[test]
fn erase_may_reach_beyond_everything() {
    let mut map = ExtentMap::new();
    map.paint(0, 4, bytes(b"abcd"));
    map.paint(FILE_SIZE_MAX - 1, 1, bytes(b"z"));
    map.erase(2..u64::MAX);
    assert_eq!(extents(&map), [(0, 2, bytes(b"ab"))]);
    map.erase(0..0);
    assert_eq!(map.bytes(), 2);
}

#[test]
fn the_last_byte_of_the_largest_file_is_like_any_other() {
    let mut map = ExtentMap::new();
    map.paint(FILE_SIZE_MAX - 4, 4, bytes(b"abcd"));
    map.paint(FILE_SIZE_MAX - 1, 1, at(1, 0));
    assert_eq!(map.end(), FILE_SIZE_MAX);
    assert_eq!(map.next_hole(FILE_SIZE_MAX - 3), FILE_SIZE_MAX);
    let mut seen = Vec::new();
    map.visit(FILE_SIZE_MAX - 2..u64::MAX, |range, source| seen.push((range, source)));
    assert_eq!(
        seen,
        [
            (FILE_SIZE_MAX - 2..FILE_SIZE_MAX - 1, Some(bytes(b"c"))),
            (FILE_SIZE_MAX - 1..FILE_SIZE_MAX, Some(at(1, 0))),
            (FILE_SIZE_MAX..u64::MAX, None),
        ]
    );
}

#[test]
#[should_panic(expected = "extent inside the largest file")]
fn paint_beyond_the_largest_file_is_a_bug() {
    ExtentMap::new().paint(FILE_SIZE_MAX, 1, bytes(b"a"));
}

#[test]
fn visit_of_an_empty_range_calls_nobody() {
    let mut map = ExtentMap::new();
    map.paint(0, 8, at(1, 0));
    map.visit(4..4, |range, _| panic!("called with {range:?}"));
}

/// Size of the naive file.
const SIZE: u64 = 64;

#[derive(Clone, Debug)]
enum Step {
    PaintBytes(u64, u64),
    PaintSegment { offset: u64, len: u64, segment: u64, at: u32 },
    Erase(Range<u64>),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let range = || (0..SIZE, 0..SIZE).prop_map(|(a, b)| a.min(b)..a.max(b));
    let step = prop_oneof![
        3 => range().prop_map(|r| Step::PaintBytes(r.start, r.end - r.start)),
        // Segment offsets near the file offset, so that extents often continue each other.
        3 => (range(), 0..3u64, 0..2u32).prop_map(|(r, segment, shift)| Step::PaintSegment {
            offset: r.start,
            len: r.end - r.start,
            segment,
            at: r.start as u32 + shift,
        }),
        1 => range().prop_map(Step::Erase),
    ];
    proptest::collection::vec(step, 0..40)
}

/// What one byte of the naive file is: hole, a byte, or a byte of a segment.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Cell {
    Hole,
    Byte(u8),
    Stored(u64, u32),
}

fn cells(source: &Source, len: u64) -> Vec<Cell> {
    match source {
        Source::Bytes(bytes) => {
            assert_eq!(bytes.len() as u64, len, "bytes are cut to the piece");
            bytes.iter().map(|b| Cell::Byte(*b)).collect()
        }
        Source::Segment { segment, offset } => {
            (0..len as u32).map(|i| Cell::Stored(segment.sequence, offset + i)).collect()
        }
    }
}

/// Applies a step to both.
fn apply(step: &Step, number: u8, map: &mut ExtentMap, naive: &mut [Cell]) {
    match step.clone() {
        Step::PaintBytes(offset, len) => {
            let content: Vec<u8> = (0..len as u8).map(|i| i ^ number.wrapping_mul(31)).collect();
            for (i, b) in content.iter().enumerate() {
                naive[offset as usize + i] = Cell::Byte(*b);
            }
            map.paint(offset, len, Source::Bytes(Bytes::from(content)));
        }
        Step::PaintSegment { offset, len, segment, at: first } => {
            for i in 0..len as u32 {
                naive[offset as usize + i as usize] = Cell::Stored(segment, first + i);
            }
            map.paint(offset, len, at(segment, first));
        }
        Step::Erase(range) => {
            naive[range.start as usize..range.end as usize].fill(Cell::Hole);
            map.erase(range);
        }
    }
}

fn check(map: &ExtentMap, naive: &[Cell], range: Range<u64>) {
    let mut seen = Vec::new();
    map.visit(range.clone(), |piece, source| {
        assert_eq!(
            piece.start,
            range.start + seen.len() as u64,
            "pieces are in order and without gaps"
        );
        assert!(!piece.is_empty());
        let len = piece.end - piece.start;
        seen.extend(source.map_or(vec![Cell::Hole; len as usize], |source| cells(&source, len)));
    });
    assert_eq!(seen, naive[range.start as usize..range.end as usize], "{range:?} of {map:?}");
}

fn check_invariants(map: &ExtentMap) {
    let all: Vec<Extent> = map.extents().collect();
    assert_eq!(all.len(), map.len());
    assert_eq!(all.iter().map(|e| e.len).sum::<u64>(), map.bytes());
    assert_eq!(all.last().map_or(0, Extent::end), map.end());
    assert_eq!(all.is_empty(), map.is_empty());
    for pair in all.windows(2) {
        assert!(pair[0].end() <= pair[1].offset, "{pair:?}");
        let touch = pair[0].end() == pair[1].offset;
        assert!(
            !(touch && pair[0].source.goes_on(pair[0].len, &pair[1].source)),
            "not merged: {pair:?}"
        );
    }
}

proptest! {
    #[test]
    fn map_is_a_byte_array(steps in steps(), a in 0..=SIZE, b in 0..=SIZE) {
        let mut map = ExtentMap::new();
        let mut naive = vec![Cell::Hole; SIZE as usize];
        for (number, step) in steps.iter().enumerate() {
            apply(step, number as u8, &mut map, &mut naive);
            check(&map, &naive, 0..SIZE);
            check_invariants(&map);
        }
        check(&map, &naive, a.min(b)..a.max(b));
        for from in 0..=SIZE {
            let rest = &naive[from as usize..];
            let data = rest.iter().position(|c| *c != Cell::Hole).map(|n| from + n as u64);
            let hole = rest.iter().position(|c| *c == Cell::Hole).map_or(SIZE, |n| from + n as u64);
            prop_assert_eq!(map.next_data(from), data, "from {}", from);
            prop_assert_eq!(map.next_hole(from), hole, "from {}", from);
        }
    }
}
