//! The write buffer of one file: sub-buffers ordered in time.
//!
//! Owns: bytes that were acknowledged to a writer and not committed yet. Never does: I/O, waiting, flushing;
//! the client decides when to seal, append, commit and remove.
//!
//! Invariants:
//! - A write goes to the open (newest) sub-buffer only; a sealed one never changes. What is sealed can
//!   therefore be appended and committed while writers go on.
//! - A sub-buffer has at most [`SUB_BUFFER_MAX`] visible bytes in at most [`SUB_BUFFER_EXTENTS_MAX`] extents.
//! - Memory held is at most twice the visible bytes plus a constant per extent: when more than half of what
//!   one write brought has been written over, the rest is copied into an allocation of its own. Whoever
//!   copies so much has written as much, so that copying is O(1) per byte written.
//!
//! Writes of less than [`JOIN_MAX`] bytes that continue each other are joined by copying, as a binary counter
//! does, so that a log written in small lines takes neither an allocation nor an extent per line. No other
//! payload is copied.
//!
//! Tests: `write_buffer/tests.rs`, against a naive byte array; fuzz target `write_buffer`.

use super::extent_map::{ExtentMap, Source, Spot};
use crate::limits::{SUB_BUFFER_EXTENTS_MAX, SUB_BUFFER_MAX};
use crate::time::{Instant, WallTime};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use bytes::Bytes;
use core::ops::Range;
use smallvec::SmallVec;

/// Small writes that continue each other are joined up to this length.
const JOIN_MAX: usize = 4096;

/// Memory for an extent beyond its payload: its entries in two B-trees that are about 70 % full
/// (72 and 48 bytes), and the header and allocator's share of its [`Bytes`].
const EXTENT_OVERHEAD: u64 = 224;

/// Extents that one write can add: it splits one extent into two and puts itself in between.
const EXTENTS_PER_WRITE: usize = 2;

/// Buffered writes of one file.
#[derive(Debug, Default)]
pub struct WriteBuffer {
    /// Oldest first; their ids are consecutive.
    sealed: VecDeque<SubBuffer>,
    /// The newest. Not empty.
    open: Option<SubBuffer>,
    next_id: u64,
}

/// Names a sub-buffer of one [`WriteBuffer`]; ascending in time, never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubBufferId(pub u64);

impl WriteBuffer {
    /// Without anything in it.
    pub fn new() -> WriteBuffer {
        WriteBuffer::default()
    }

    /// Takes a write. One that does not fit the open sub-buffer seals it and goes whole into a new one, so
    /// that a crash between two commits never tears a write. Only a write above [`SUB_BUFFER_MAX`], which
    /// no kernel sends, is cut. A write of no bytes does nothing.
    ///
    /// `data` is taken to own its allocation: whoever slices it off a larger buffer keeps that alive
    /// uncounted.
    ///
    /// # Panics
    /// When the write ends beyond [`crate::limits::FILE_SIZE_MAX`].
    pub fn write(&mut self, now: Instant, offset: u64, data: Bytes, mtime: WallTime) {
        let (mut offset, mut data) = (offset, data);
        while !data.is_empty() {
            if self.wants_seal() {
                self.seal();
            }
            let next_id = &mut self.next_id;
            let open = self.open.get_or_insert_with(|| {
                *next_id += 1;
                SubBuffer::new(SubBufferId(*next_id), now, mtime)
            });
            let fitting = open.fitting(offset, data.len());
            if fitting < data.len() && data.len() as u64 <= SUB_BUFFER_MAX && !open.is_empty() {
                self.seal();
                continue;
            }
            let part = data.split_to(fitting);
            let len = part.len() as u64;
            open.write(offset, part, mtime);
            offset += len;
        }
    }

    /// Closes the open sub-buffer; `None` if nothing was written since the last time.
    pub fn seal(&mut self) -> Option<SubBufferId> {
        let open = self.open.take()?;
        let id = open.id;
        if planted!(OvertakenSeal) {
            self.sealed.push_front(open);
        } else {
            self.sealed.push_back(open);
        }
        Some(id)
    }

    /// Whether the open sub-buffer has reached a bound. If it is not sealed now, the next write seals it;
    /// and a write that reaches the bound half-way has already done so, so look at
    /// [`WriteBuffer::sealed`] too.
    pub fn wants_seal(&self) -> bool {
        self.open.as_ref().is_some_and(SubBuffer::is_full)
    }

    /// The sealed sub-buffers that are not yet removed, oldest first.
    pub fn sealed(&self) -> impl Iterator<Item = &SubBuffer> {
        self.sealed.iter()
    }

    /// A sub-buffer, sealed or open.
    pub fn sub_buffer(&self, id: SubBufferId) -> Option<&SubBuffer> {
        self.oldest_first().find(|sub| sub.id == id)
    }

    /// Takes the oldest sub-buffer out: it was committed, or given up. `None` if [`WriteBuffer::discard_all`]
    /// removed it before.
    ///
    /// # Panics
    /// When `id` names the open sub-buffer, or a sealed one that is not the oldest: committing it first
    /// would let older bytes cover newer ones.
    pub fn complete(&mut self, id: SubBufferId) -> Option<SubBuffer> {
        let oldest = self.oldest_first().next()?.id;
        if id < oldest {
            return None;
        }
        assert!(id == oldest, "sub-buffers are completed in order: {id:?} before {oldest:?}");
        assert!(!self.sealed.is_empty(), "{id:?} is still open");
        self.sealed.pop_front()
    }

    /// Forgets everything, sealed and open.
    pub fn discard_all(&mut self) {
        self.sealed.clear();
        self.open = None;
    }

    /// Whether nothing is buffered.
    pub fn is_empty(&self) -> bool {
        self.sealed.is_empty() && self.open.is_none()
    }

    /// Memory held, for the quota: the sum of [`SubBuffer::bytes`].
    pub fn bytes(&self) -> u64 {
        self.oldest_first().map(SubBuffer::bytes).sum()
    }

    /// Number of sub-buffers, the open one included.
    pub fn sub_buffers(&self) -> usize {
        self.sealed.len() + usize::from(self.open.is_some())
    }

    /// The largest end of any buffered write, 0 without one.
    pub fn end(&self) -> u64 {
        self.oldest_first().map(SubBuffer::end).max().unwrap_or(0)
    }

    /// The newest modification time of any buffered write.
    pub fn mtime(&self) -> Option<WallTime> {
        self.oldest_first().map(SubBuffer::mtime).max()
    }

    /// When the oldest buffered write arrived.
    pub fn oldest(&self) -> Option<Instant> {
        self.oldest_first().next().map(SubBuffer::oldest)
    }

    /// The first offset at or after `from` that is buffered.
    pub fn next_data(&self, from: u64) -> Option<u64> {
        self.oldest_first().filter_map(|sub| sub.map.next_data(from)).min()
    }

    /// The first offset at or after `from` that is not buffered.
    pub fn next_hole(&self, from: u64) -> u64 {
        let mut at = from;
        loop {
            let next = self.oldest_first().fold(at, |at, sub| sub.map.next_hole(at));
            if next == at {
                return at;
            }
            at = next;
        }
    }

    /// Calls back with buffered bytes and gaps of `range`, in order, each byte exactly once; where
    /// sub-buffers overlap, with the newest.
    pub fn visit(&self, range: Range<u64>, mut f: impl FnMut(Range<u64>, Option<Bytes>)) {
        let mut at = range.start;
        while at < range.end {
            let (end, bytes) = self.newest_at(at, range.end);
            f(at..end, bytes);
            at = end;
        }
    }

    /// What is visible at `at`, and up to where, at most up to `limit`.
    fn newest_at(&self, at: u64, limit: u64) -> (u64, Option<Bytes>) {
        let mut end = limit;
        for sub in self.open.iter().chain(self.sealed.iter().rev()) {
            match sub.map.spot(at) {
                Spot::Hole { end: hole_end } => end = end.min(hole_end),
                Spot::Extent { range, source } => {
                    end = end.min(range.end);
                    let from = (at - range.start) as usize;
                    return (end, Some(payload(source).slice(from..from + (end - at) as usize)));
                }
            }
        }
        (end, None)
    }

    fn oldest_first(&self) -> impl Iterator<Item = &SubBuffer> {
        self.sealed.iter().chain(&self.open)
    }
}

/// Writes that are appended as one segment.
#[derive(Debug)]
pub struct SubBuffer {
    id: SubBufferId,
    map: ExtentMap,
    /// What the writes brought, as far as any of it is still visible; by owner in `map`.
    brought: BTreeMap<u64, Brought>,
    next_owner: u64,
    /// Sum of the allocations of `brought`.
    held: u64,
    mtime: WallTime,
    oldest: Instant,
}

/// The payload of one write, or what was copied together from several.
#[derive(Debug)]
struct Brought {
    /// Where in the file its extents can be.
    span: Range<u64>,
    /// Bytes of its allocation.
    len: u64,
    /// Bytes of it that are visible; not zero.
    visible: u64,
}

impl Brought {
    fn is_sparse(&self) -> bool {
        self.visible * 2 < self.len
    }
}

/// A run of a file and where it lies in a sub-buffer's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogExtentPlace {
    /// First byte in the file.
    pub offset: u64,
    /// Number of bytes; not zero.
    pub len: u64,
    /// First byte in the payload.
    pub payload_offset: u32,
}

impl SubBuffer {
    fn new(id: SubBufferId, oldest: Instant, mtime: WallTime) -> SubBuffer {
        SubBuffer {
            id,
            map: ExtentMap::new(),
            brought: BTreeMap::new(),
            next_owner: 0,
            held: 0,
            mtime,
            oldest,
        }
    }

    /// Its name.
    pub fn id(&self) -> SubBufferId {
        self.id
    }

    /// What is visible in it. All sources are [`Source::Bytes`].
    pub fn map(&self) -> &ExtentMap {
        &self.map
    }

    /// The largest end of any write.
    pub fn end(&self) -> u64 {
        self.map.end()
    }

    /// The newest modification time of any write.
    pub fn mtime(&self) -> WallTime {
        self.mtime
    }

    /// When the first write arrived.
    pub fn oldest(&self) -> Instant {
        self.oldest
    }

    /// Memory held: the whole allocation of every write of which a byte is visible, and a constant per
    /// extent. A write that was cut between two sub-buffers counts with its part in each.
    pub fn bytes(&self) -> u64 {
        self.held + self.map.len() as u64 * EXTENT_OVERHEAD
    }

    /// Visible bytes: the length of the payload of [`SubBuffer::layout`], at most [`SUB_BUFFER_MAX`].
    pub fn payload_len(&self) -> u32 {
        u32::try_from(self.map.bytes()).expect("at most SUB_BUFFER_MAX")
    }

    /// The payload in file order, and where each run of the file lies in it. Runs that touch are one.
    pub fn layout(&self) -> (Vec<Bytes>, Vec<LogExtentPlace>) {
        let mut pieces = Vec::with_capacity(self.map.len());
        let mut places: Vec<LogExtentPlace> = Vec::new();
        let mut payload_offset = 0;
        for extent in self.map.extents() {
            match places.last_mut() {
                Some(last) if last.offset + last.len == extent.offset => last.len += extent.len,
                _ => places.push(LogExtentPlace {
                    offset: extent.offset,
                    len: extent.len,
                    payload_offset,
                }),
            }
            payload_offset += extent.len as u32;
            pieces.push(payload(&extent.source).clone());
        }
        (pieces, places)
    }

    fn is_full(&self) -> bool {
        self.map.bytes() >= SUB_BUFFER_MAX
            || self.map.len() + EXTENTS_PER_WRITE > SUB_BUFFER_EXTENTS_MAX
    }

    /// How many of `len` bytes at `offset` fit: bytes that cover others take no room. Not zero unless it is
    /// full; when it is less than `len`, they fill it.
    fn fitting(&self, offset: u64, len: usize) -> usize {
        let mut room = SUB_BUFFER_MAX - self.map.bytes();
        if len as u64 <= room {
            return len;
        }
        let mut end = offset;
        self.map.visit(offset..offset + len as u64, |piece, source| {
            let needed = if source.is_some() { 0 } else { piece.end - piece.start };
            if end == piece.start && needed <= room {
                room -= needed;
                end = piece.end;
            } else if end == piece.start {
                // The cut is inside this hole: no later piece begins at `end`.
                end += room;
                room = 0;
            }
        });
        (end - offset) as usize
    }

    fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    fn write(&mut self, offset: u64, data: Bytes, mtime: WallTime) {
        self.mtime = self.mtime.max(mtime);
        let (offset, data) = self.join(offset, data);
        let len = data.len() as u64;
        let owner = self.bring(offset..offset + len, len);
        let mut sparse = self.paint(offset, data, owner);
        sparse.sort_unstable();
        sparse.dedup();
        for owner in sparse {
            self.copy_out(owner);
        }
    }

    /// Joins a small write with small extents that end where it begins. An extent is taken in only if it is
    /// no longer than what it is joined to, so that each byte is copied at most log2([`JOIN_MAX`]) times.
    fn join(&self, offset: u64, data: Bytes) -> (u64, Bytes) {
        let mut before: SmallVec<[&Bytes; 12]> = SmallVec::new();
        let (mut start, mut len) = (offset, data.len());
        while start > 0
            && let Spot::Extent { range, source } = self.map.spot(start - 1)
            && range.end == start
            && let bytes = payload(source)
            && bytes.len() <= len
            && bytes.len() + len <= JOIN_MAX
        {
            before.push(bytes);
            start = range.start;
            len += bytes.len();
        }
        if before.is_empty() {
            return (offset, data);
        }
        let mut joined = Vec::with_capacity(len);
        for bytes in before.iter().rev() {
            joined.extend_from_slice(bytes);
        }
        joined.extend_from_slice(&data);
        (start, Bytes::from(joined))
    }

    /// Counts a new allocation of `len` bytes, all of them visible.
    fn bring(&mut self, span: Range<u64>, len: u64) -> u64 {
        let owner = self.next_owner;
        self.next_owner += 1;
        self.held += len;
        self.brought.insert(owner, Brought { span, len, visible: len });
        owner
    }

    /// Paints, and returns the owners of which less than half has remained.
    fn paint(&mut self, offset: u64, data: Bytes, owner: u64) -> SmallVec<[u64; 2]> {
        let mut sparse = SmallVec::new();
        let (brought, held) = (&mut self.brought, &mut self.held);
        let len = data.len() as u64;
        self.map.paint_owned(offset, len, Source::Bytes(data), owner, |owner, lost| {
            let old = brought.get_mut(&owner).expect("every extent has an owner");
            old.visible -= lost;
            if old.visible == 0 {
                *held -= old.len;
                brought.remove(&owner);
            } else if old.is_sparse() {
                sparse.push(owner);
            }
        });
        sparse
    }

    /// Copies what is visible of an owner into an allocation of its own, so that the large one is freed.
    fn copy_out(&mut self, owner: u64) {
        let Some(old) = self.brought.get(&owner) else { return };
        let (span, len) = (old.span.clone(), old.visible);
        let mut copy = Vec::with_capacity(len as usize);
        let mut places: SmallVec<[Range<u64>; 4]> = SmallVec::new();
        for (offset, bytes) in self.map.bytes_of(owner, span) {
            copy.extend_from_slice(bytes);
            places.push(offset..offset + bytes.len() as u64);
        }
        assert_eq!(copy.len() as u64, len, "visible bytes are counted right");
        let (Some(first), Some(last)) = (places.first(), places.last()) else { return };
        let new_owner = self.bring(first.start..last.end, len);
        let mut copy = Bytes::from(copy);
        for place in places {
            let part = copy.split_to((place.end - place.start) as usize);
            self.paint(place.start, part, new_owner);
        }
    }
}

/// The bytes of an extent of a sub-buffer, which has no others.
fn payload(source: &Source) -> &Bytes {
    match source {
        Source::Bytes(bytes) => bytes,
        Source::Segment { .. } => unreachable!("a sub-buffer is painted with bytes only"),
    }
}

#[cfg(test)]
mod tests;
