//! What is visible of a file: extents in file order, where later paint covers earlier.
//!
//! Owns: the overlay. Never does: I/O, copying of payload (extents hold shared handles).
//!
//! Invariants: extents are not empty, do not overlap, and end at or before [`FILE_SIZE_MAX`]; so no sum of
//! an extent's offset and length overflows. An extent of bytes holds exactly as many bytes as it is long.
//! Two extents that touch never continue each other in one segment.
//!
//! A paint removes extents that earlier paints put in and adds at most two, so that it costs O(log n)
//! amortised. Tests: `extent_map/tests.rs`, against a naive byte array; fuzz target `extent_map`.

use crate::id::SegmentId;
use crate::limits::FILE_SIZE_MAX;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use bytes::Bytes;
use core::ops::Range;

/// Where the bytes of an extent are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Here.
    Bytes(Bytes),
    /// In a segment of the page store.
    Segment {
        /// Which one.
        segment: SegmentId,
        /// First payload byte.
        offset: u32,
    },
}

impl Source {
    /// The source of the bytes from `n` on.
    ///
    /// # Panics
    /// When `n` lies beyond the bytes, or a segment offset beyond 2^32 would result.
    pub fn skip(&self, n: u64) -> Source {
        match self {
            Source::Bytes(bytes) => Source::Bytes(bytes.slice(index(n)..)),
            Source::Segment { segment, offset } => {
                let offset =
                    u32::try_from(u64::from(*offset) + n).expect("offset inside a segment");
                Source::Segment { segment: *segment, offset }
            }
        }
    }

    /// The source of `len` bytes from `skip` on.
    fn part(&self, skip: u64, len: u64) -> Source {
        match self {
            Source::Bytes(bytes) => Source::Bytes(bytes.slice(index(skip)..index(skip + len))),
            Source::Segment { .. } => self.skip(skip),
        }
    }

    /// Whether `next` is the rest of the segment that `len` bytes of this one began.
    fn goes_on(&self, len: u64, next: &Source) -> bool {
        match (self, next) {
            (
                Source::Segment { segment: a, offset },
                Source::Segment { segment: b, offset: next },
            ) => a == b && u64::from(*offset) + len == u64::from(*next),
            _ => false,
        }
    }
}

/// A run of a file and where its bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extent {
    /// First byte in the file.
    pub offset: u64,
    /// Number of bytes; not zero.
    pub len: u64,
    /// Where they are.
    pub source: Source,
}

impl Extent {
    /// The offset after the last byte.
    pub fn end(&self) -> u64 {
        self.offset + self.len
    }
}

/// What is visible of a file or a part of it: later paint covers earlier.
#[derive(Clone, Debug, Default)]
pub struct ExtentMap {
    /// By file offset.
    pieces: BTreeMap<u64, Piece>,
    /// Sum of all lengths.
    bytes: u64,
}

/// An extent without its offset.
#[derive(Clone, Debug)]
struct Piece {
    len: u64,
    source: Source,
    /// Whose bytes these are, for the owner of the map; follows the piece when it is cut.
    owner: u64,
}

/// What lies at an offset.
pub(super) enum Spot<'a> {
    /// An extent.
    Extent { range: Range<u64>, source: &'a Source },
    /// A hole; `end` is where the next extent begins, `u64::MAX` without one.
    Hole { end: u64 },
}

impl ExtentMap {
    /// All hole.
    pub fn new() -> ExtentMap {
        ExtentMap::default()
    }

    /// Makes `len` bytes from `offset` on come from `source`, whatever was there before.
    ///
    /// # Panics
    /// When the extent ends beyond [`FILE_SIZE_MAX`], or `source` has fewer than `len` bytes.
    pub fn paint(&mut self, offset: u64, len: u64, source: Source) {
        self.paint_owned(offset, len, source, 0, |_, _| ());
    }

    /// [`ExtentMap::paint`] for bytes of `owner`; tells for each extent that lost bytes whose they were
    /// and how many.
    pub(crate) fn paint_owned(
        &mut self,
        offset: u64,
        len: u64,
        source: Source,
        owner: u64,
        covered: impl FnMut(u64, u64),
    ) {
        if len == 0 {
            return;
        }
        let end = offset.checked_add(len).filter(|end| *end <= FILE_SIZE_MAX);
        let end = end.expect("extent inside the largest file");
        let source = match source {
            Source::Bytes(bytes) => Source::Bytes(bytes.slice(..index(len))),
            Source::Segment { offset, .. } => {
                assert!(u64::from(offset) + len <= u64::from(u32::MAX), "extent inside a segment");
                source
            }
        };
        self.carve(offset..end, covered);
        self.bytes += len;
        self.join(offset, Piece { len, source, owner });
    }

    /// Makes a range a hole. It may reach beyond the largest file.
    pub fn erase(&mut self, range: Range<u64>) {
        self.carve(range, |_, _| ());
    }

    /// Calls back with the extents and holes of `range`, in order, each byte exactly once. Sources begin at
    /// the piece's start and, when they are bytes, are as long as the piece.
    pub fn visit(&self, range: Range<u64>, mut f: impl FnMut(Range<u64>, Option<Source>)) {
        let mut at = range.start;
        for (start, piece) in self.overlapping(range.clone()) {
            let from = start.max(range.start);
            let to = (start + piece.len).min(range.end);
            if at < from {
                f(at..from, None);
            }
            f(from..to, Some(piece.source.part(from - start, to - from)));
            at = to;
        }
        if at < range.end {
            f(at..range.end, None);
        }
    }

    /// What [`ExtentMap::visit`] calls back with.
    pub fn pieces(&self, range: Range<u64>) -> Vec<(Range<u64>, Option<Source>)> {
        let mut pieces = Vec::new();
        self.visit(range, |piece, source| pieces.push((piece, source)));
        pieces
    }

    /// All extents in file order.
    pub fn extents(&self) -> impl Iterator<Item = Extent> {
        self.pieces.iter().map(|(&offset, piece)| Extent {
            offset,
            len: piece.len,
            source: piece.source.clone(),
        })
    }

    /// All extents in file order, with the owner that painted them.
    pub(crate) fn owned(&self) -> impl Iterator<Item = (Extent, u64)> {
        self.pieces.iter().map(|(&offset, piece)| {
            let source = piece.source.clone();
            (Extent { offset, len: piece.len, source }, piece.owner)
        })
    }

    /// Number of extents.
    pub fn len(&self) -> usize {
        self.pieces.len()
    }

    /// Whether it is all hole.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Sum of the lengths of all extents.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// End of the last extent, 0 without one.
    pub fn end(&self) -> u64 {
        self.pieces.last_key_value().map_or(0, |(at, piece)| at + piece.len)
    }

    /// How many bytes of a range are no hole.
    pub fn covered(&self, range: Range<u64>) -> u64 {
        let parts = self.overlapping(range.clone());
        parts
            .map(|(start, piece)| {
                (start + piece.len).min(range.end).saturating_sub(start.max(range.start))
            })
            .sum()
    }

    /// The first offset at or after `from` that is no hole.
    pub fn next_data(&self, from: u64) -> Option<u64> {
        self.overlapping(from..u64::MAX).next().map(|(start, _)| start.max(from))
    }

    /// The first offset at or after `from` that is a hole.
    pub fn next_hole(&self, from: u64) -> u64 {
        let mut at = from;
        for (start, piece) in self.overlapping(from..u64::MAX) {
            if start > at {
                break;
            }
            at = start + piece.len;
        }
        at
    }

    /// What lies at `at`.
    pub(super) fn spot(&self, at: u64) -> Spot<'_> {
        if let Some((&start, piece)) = self.pieces.range(..=at).next_back()
            && start + piece.len > at
        {
            let range = start..start + piece.len;
            return Spot::Extent { range, source: &piece.source };
        }
        let next = self.pieces.range(at..).next();
        Spot::Hole { end: next.map_or(u64::MAX, |(start, _)| *start) }
    }

    /// The bytes of `owner` that are visible in `range`, in file order.
    pub(super) fn bytes_of(
        &self,
        owner: u64,
        range: Range<u64>,
    ) -> impl Iterator<Item = (u64, &Bytes)> {
        self.overlapping(range).filter_map(move |(start, piece)| match &piece.source {
            Source::Bytes(bytes) if piece.owner == owner => Some((start, bytes)),
            _ => None,
        })
    }

    /// Extents that share a byte with `range`, in order.
    fn overlapping(&self, range: Range<u64>) -> impl Iterator<Item = (u64, &Piece)> {
        let before = self.pieces.range(..range.start).next_back();
        let before =
            before.filter(|(start, piece)| *start + piece.len > range.start && !range.is_empty());
        let inside = self.pieces.range(range.start..range.end.max(range.start));
        before.into_iter().chain(inside).map(|(start, piece)| (*start, piece))
    }

    /// Removes everything inside `range`; tells whose bytes went and how many.
    fn carve(&mut self, range: Range<u64>, mut covered: impl FnMut(u64, u64)) {
        if range.is_empty() {
            return;
        }
        if let Some((&start, piece)) = self.pieces.range_mut(..range.start).next_back()
            && start + piece.len > range.start
        {
            let end = start + piece.len;
            let lost = end.min(range.end) - range.start;
            let least = range.end + u64::from(planted!(CutShort));
            let tail = (end > least).then(|| piece.part(range.end - start, end - range.end));
            *piece = piece.part(0, range.start - start);
            self.bytes -= lost;
            covered(piece.owner, lost);
            if let Some(tail) = tail {
                self.pieces.insert(range.end, tail);
                return;
            }
        }
        while let Some((&start, piece)) = self.pieces.range(range.clone()).next() {
            let lost = piece.len.min(range.end - start);
            let tail = (piece.len > lost).then(|| piece.part(lost, piece.len - lost));
            self.bytes -= lost;
            covered(piece.owner, lost);
            self.pieces.remove(&start);
            if let Some(tail) = tail {
                self.pieces.insert(range.end, tail);
            }
        }
    }

    /// Puts a piece where a hole is, together with neighbours that continue it.
    fn join(&mut self, offset: u64, mut piece: Piece) {
        let end = offset + piece.len;
        if let Some(right) = self.pieces.get(&end)
            && piece.source.goes_on(piece.len, &right.source)
        {
            piece.len += right.len;
            self.pieces.remove(&end);
        }
        if let Some((start, left)) = self.pieces.range_mut(..offset).next_back()
            && start + left.len == offset
            && left.source.goes_on(left.len, &piece.source)
        {
            left.len += piece.len;
        } else {
            self.pieces.insert(offset, piece);
        }
    }
}

impl Piece {
    /// `len` bytes of it from `skip` on.
    fn part(&self, skip: u64, len: u64) -> Piece {
        Piece { len, source: self.source.part(skip, len), owner: self.owner }
    }
}

/// A count of bytes in memory as an index. One that does not fit lies beyond every buffer.
fn index(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
