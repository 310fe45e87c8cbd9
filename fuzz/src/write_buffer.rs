//! The write buffer against a plain list of writes, with writes large enough to reach its limits.

use arbitrary::{Arbitrary, Unstructured};
use bytes::Bytes;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::LazyLock;
use vellum_core::data::write_buffer::{SubBuffer, SubBufferId, WriteBuffer};
use vellum_core::limits::{SUB_BUFFER_EXTENTS_MAX, SUB_BUFFER_MAX};
use vellum_core::time::{Instant, WallTime};

const STEPS_MAX: usize = 48;
/// Lengths at and around the bounds.
const LARGE: [usize; 8] = [127, 2048, 4095, 4096, 4097, 1 << 20, (4 << 20) - 1, 4 << 20];

/// What is written: slices of this, each write from a place of its own.
static PATTERN: LazyLock<Bytes> = LazyLock::new(|| {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(5 << 20).collect()
});

#[derive(Arbitrary, Debug)]
enum Step {
    /// Near the start of the file.
    Small {
        at: u8,
        len: u8,
    },
    /// From a multiple of 64 KiB on.
    Large {
        at: u8,
        len: u8,
    },
    /// Where the last write ended.
    Append {
        len: u8,
    },
    Seal,
    Complete,
    Discard,
}

/// Runs operations that `input` spells.
pub fn fuzz_one(input: &[u8]) {
    let mut input = Unstructured::new(input);
    let mut pair = Pair::default();
    for number in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        let Ok(step) = Step::arbitrary(&mut input) else { break };
        pair.apply(&step, number);
        pair.check();
    }
}

/// One write, or the part of one that went into a sub-buffer.
#[derive(Clone, Debug)]
struct Write {
    file: Range<u64>,
    /// Where in the pattern its first byte is.
    from: usize,
    number: usize,
}

/// The buffer and what it should be.
#[derive(Default)]
struct Pair {
    buffer: WriteBuffer,
    sealed: VecDeque<(SubBufferId, Vec<Write>)>,
    open: Vec<Write>,
    /// End of the last write.
    end: u64,
}

impl Pair {
    fn apply(&mut self, step: &Step, number: usize) {
        match *step {
            Step::Small { at, len } => self.write(number, u64::from(at), usize::from(len)),
            Step::Large { at, len } => {
                self.write(number, u64::from(at) << 16, LARGE[usize::from(len) % LARGE.len()]);
            }
            Step::Append { len } => self.write(number, self.end, usize::from(len)),
            Step::Seal => {
                let id = self.buffer.seal();
                assert_eq!(id.is_none(), self.open.is_empty());
                self.sealed.extend(id.map(|id| (id, std::mem::take(&mut self.open))));
            }
            Step::Complete => {
                if let Some((id, writes)) = self.sealed.pop_front() {
                    check_layout(&self.buffer.complete(id).expect("still there"), &writes);
                }
            }
            Step::Discard => {
                self.buffer.discard_all();
                self.sealed.clear();
                self.open.clear();
            }
        }
    }

    /// Writes, and expects it to go whole into the open sub-buffer or into a new one.
    fn write(&mut self, number: usize, at: u64, len: usize) {
        let from = number * 4099;
        let data = PATTERN.slice(from..from + len);
        self.end = at + len as u64;
        self.buffer.write(Instant(number as u64), at, data, WallTime::new(number as i64, 0));
        let known = self.sealed.back().map(|(id, _)| *id);
        let mut new = self
            .buffer
            .sealed()
            .map(SubBuffer::id)
            .filter(|id| known.is_none_or(|known| *id > known));
        if len > 0 && !self.fits(at, len) {
            let id =
                new.next().expect("a sub-buffer without room is sealed by the write that needs it");
            self.sealed.push_back((id, std::mem::take(&mut self.open)));
        }
        assert!(new.next().is_none(), "only a sub-buffer without room is sealed");
        if len > 0 {
            self.open.push(Write { file: at..at + len as u64, from, number });
        }
    }

    /// Whether the open sub-buffer takes a write and stays within its bound.
    fn fits(&self, at: u64, len: usize) -> bool {
        let new = Write { file: at..at + len as u64, from: 0, number: 0 };
        visible_len(&self.open) < SUB_BUFFER_MAX
            && visible_len(&[&self.open[..], &[new]].concat()) <= SUB_BUFFER_MAX
    }

    /// All writes that are still buffered, oldest first.
    fn writes(&self) -> Vec<Write> {
        self.sealed.iter().flat_map(|(_, writes)| writes).chain(&self.open).cloned().collect()
    }

    fn check(&self) {
        let (buffer, writes) = (&self.buffer, self.writes());
        let end = writes.iter().map(|write| write.file.end).max().unwrap_or(0);
        assert_eq!(buffer.end(), end);
        assert_eq!(buffer.is_empty(), writes.is_empty());
        assert_eq!(buffer.sub_buffers(), self.sealed.len() + usize::from(!self.open.is_empty()));
        assert_eq!(buffer.oldest(), writes.first().map(|write| Instant(write.number as u64)));
        assert_eq!(
            buffer.mtime(),
            writes.last().map(|write| WallTime::new(write.number as i64, 0))
        );
        assert_eq!(buffer.wants_seal(), visible_len(&self.open) == SUB_BUFFER_MAX);
        let visible: u64 = buffer.sealed().map(|sub| u64::from(sub.payload_len())).sum::<u64>()
            + visible_len(&self.open);
        assert!(buffer.bytes() >= visible);
        assert!(buffer.bytes() <= 2 * visible + (4 * STEPS_MAX as u64) * 256, "memory is bounded");
        self.check_visible(&writes, end + 10);
    }

    fn check_visible(&self, writes: &[Write], end: u64) {
        let mut at = 0;
        self.buffer.visit(0..end, |piece, bytes| {
            assert_eq!(piece.start, at, "in order and without gaps");
            at = piece.end;
            check_piece(piece, bytes, writes);
        });
        assert_eq!(at, end, "the whole range is visited");
    }
}

/// A piece holds what the newest writes put there.
fn check_piece(piece: Range<u64>, bytes: Option<Bytes>, writes: &[Write]) {
    let mut borders: Vec<u64> =
        writes.iter().flat_map(|write| [write.file.start, write.file.end]).collect();
    borders.extend([piece.start, piece.end]);
    borders.retain(|border| (piece.start..=piece.end).contains(border));
    borders.sort_unstable();
    borders.dedup();
    for pair in borders.windows(2) {
        let newest = writes.iter().rev().find(|write| write.file.contains(&pair[0]));
        assert_eq!(bytes.is_some(), newest.is_some(), "{pair:?} is buffered or not");
        let (Some(bytes), Some(newest)) = (&bytes, newest) else { continue };
        let from = newest.from + (pair[0] - newest.file.start) as usize;
        let expected = &PATTERN[from..from + (pair[1] - pair[0]) as usize];
        let found = &bytes[(pair[0] - piece.start) as usize..(pair[1] - piece.start) as usize];
        // Most pieces are slices of the pattern itself.
        assert!(std::ptr::eq(found, expected) || found == expected, "content of {pair:?}");
    }
}

/// The payload, put where its places say, is what the writes left.
fn check_layout(sub: &SubBuffer, writes: &[Write]) {
    assert!(sub.map().len() <= SUB_BUFFER_EXTENTS_MAX);
    let (pieces, places) = sub.layout();
    let payload = Bytes::from(pieces.concat());
    assert_eq!(payload.len() as u64, visible_len(writes));
    assert_eq!(payload.len(), sub.payload_len() as usize);
    for place in &places {
        let from = place.payload_offset as usize;
        let bytes = payload.slice(from..from + place.len as usize);
        check_piece(place.offset..place.offset + place.len, Some(bytes), writes);
    }
    let touch = |pair: &[_]| -> bool {
        let [a, b]: &[vellum_core::data::write_buffer::LogExtentPlace; 2] =
            pair.try_into().expect("two");
        a.offset + a.len >= b.offset
    };
    assert!(!places.windows(2).any(touch), "places are in order and do not touch");
}

/// Bytes of the file that some write covers.
fn visible_len(writes: &[Write]) -> u64 {
    let mut ranges: Vec<_> =
        writes.iter().map(|write| (write.file.start, write.file.end)).collect();
    ranges.sort_unstable();
    let (mut len, mut at) = (0, 0);
    for (start, end) in ranges {
        len += end.saturating_sub(start.max(at));
        at = at.max(end);
    }
    len
}
