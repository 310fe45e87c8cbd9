//! The extent map against a byte array.

use arbitrary::{Arbitrary, Unstructured};
use bytes::Bytes;
use std::ops::Range;
use vellum_core::data::extent_map::{ExtentMap, Source};
use vellum_core::id::{SegmentId, SessionId};
use vellum_core::limits::FILE_SIZE_MAX;

/// Size of the window that is modelled.
const SIZE: u64 = 256;
const STEPS_MAX: usize = 64;

/// Places and lengths are taken modulo what fits.
#[derive(Arbitrary, Debug)]
enum Step {
    Bytes { at: u8, len: u8 },
    Segment { at: u8, len: u8, segment: bool, shift: bool },
    Erase { at: u8, len: u8 },
    Visit { at: u8, len: u8 },
}

/// What one byte is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Cell {
    Hole,
    Byte(u8),
    Stored { segment: u64, offset: u32 },
}

/// Runs operations that `input` spells, at the start or at the very end of the file.
pub fn fuzz_one(input: &[u8]) {
    let mut input = Unstructured::new(input);
    let base = if input.ratio(1, 4).unwrap_or(false) { FILE_SIZE_MAX - SIZE } else { 0 };
    let mut pair = Pair { base, map: ExtentMap::new(), cells: [Cell::Hole; SIZE as usize] };
    for number in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        let Ok(step) = Step::arbitrary(&mut input) else { break };
        pair.apply(&step, number as u8);
        pair.check(0..SIZE);
        pair.check_counts();
    }
    pair.check_seeks();
}

/// The map and what it should be.
struct Pair {
    base: u64,
    map: ExtentMap,
    cells: [Cell; SIZE as usize],
}

impl Pair {
    fn apply(&mut self, step: &Step, number: u8) {
        match *step {
            Step::Bytes { at, len } => {
                let range = range(at, len);
                let content: Vec<u8> =
                    range.clone().map(|i| (i as u8).wrapping_mul(7) ^ number).collect();
                for (i, byte) in range.clone().zip(&content) {
                    self.cells[i as usize] = Cell::Byte(*byte);
                }
                self.paint(range, Source::Bytes(Bytes::from(content)));
            }
            Step::Segment { at, len, segment, shift } => {
                // Offsets in the segment follow those in the file, so that extents often continue each other.
                let (range, segment, shift) =
                    (range(at, len), u64::from(segment), u32::from(shift));
                for i in range.clone() {
                    self.cells[i as usize] = Cell::Stored { segment, offset: i as u32 + shift };
                }
                let id = SegmentId { session: SessionId(1), sequence: segment };
                let offset = range.start as u32 + shift;
                self.paint(range, Source::Segment { segment: id, offset });
            }
            Step::Erase { at, len } => {
                let range = range(at, len);
                self.cells[range.start as usize..range.end as usize].fill(Cell::Hole);
                self.map.erase(self.base + range.start..self.base + range.end);
            }
            Step::Visit { at, len } => self.check(range(at, len)),
        }
    }

    fn paint(&mut self, range: Range<u64>, source: Source) {
        self.map.paint(self.base + range.start, range.end - range.start, source);
    }

    fn check(&self, range: Range<u64>) {
        let mut at = range.start;
        self.map.visit(self.base + range.start..self.base + range.end, |piece, source| {
            assert_eq!(piece.start, self.base + at, "in order and without gaps");
            assert!(piece.start < piece.end && piece.end <= self.base + range.end);
            for i in 0..piece.end - piece.start {
                let found = cell(source.as_ref(), i, piece.end - piece.start);
                assert_eq!(found, self.cells[(at + i) as usize], "at {}", at + i);
            }
            at += piece.end - piece.start;
        });
        assert_eq!(at, range.end, "the whole range is visited");
    }

    fn check_counts(&self) {
        let visible = self.cells.iter().filter(|cell| **cell != Cell::Hole).count() as u64;
        assert_eq!(self.map.bytes(), visible);
        assert_eq!(self.map.extents().map(|extent| extent.len).sum::<u64>(), visible);
        assert_eq!(self.map.extents().count(), self.map.len());
        assert_eq!(self.map.is_empty(), visible == 0);
        let last = self.cells.iter().rposition(|cell| *cell != Cell::Hole);
        assert_eq!(self.map.end(), last.map_or(0, |last| self.base + last as u64 + 1));
    }

    fn check_seeks(&self) {
        for from in 0..SIZE {
            let rest = &self.cells[from as usize..];
            let data = rest.iter().position(|cell| *cell != Cell::Hole);
            let hole = rest.iter().position(|cell| *cell == Cell::Hole).unwrap_or(rest.len());
            let from = self.base + from;
            assert_eq!(self.map.next_data(from), data.map(|n| from + n as u64));
            assert_eq!(self.map.next_hole(from), from + hole as u64);
        }
    }
}

/// A range inside the window.
fn range(at: u8, len: u8) -> Range<u64> {
    let at = u64::from(at);
    at..(at + u64::from(len)).min(SIZE)
}

/// Byte `i` of a piece.
fn cell(source: Option<&Source>, i: u64, len: u64) -> Cell {
    match source {
        None => Cell::Hole,
        Some(Source::Bytes(bytes)) => {
            assert_eq!(bytes.len() as u64, len, "bytes are cut to the piece");
            Cell::Byte(bytes[i as usize])
        }
        Some(Source::Segment { segment, offset }) => {
            Cell::Stored { segment: segment.sequence, offset: offset + i as u32 }
        }
    }
}
