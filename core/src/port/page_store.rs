//! The page store: immutable segments, written once, read by range, deleted whole.

use crate::id::SegmentId;
use alloc::vec::Vec;
use bytes::Bytes;

/// What is asked of the page store.
#[derive(Clone, Debug)]
pub enum PageRequest {
    /// Stores a new segment. Create-only: an id is never written twice with other bytes; a store refuses
    /// that. The same bytes again are answered like the first time.
    /// Durable after the next [`super::meta_kv::KvRequest::Sync`] of a commit that names it.
    /// Answered by [`PageReply::Appended`].
    Append(SegmentDraft),
    /// Reads and verifies payload bytes. Answered by [`PageReply::Data`] with exactly `len` bytes.
    Read {
        /// From which segment.
        segment: SegmentId,
        /// First payload byte.
        offset: u32,
        /// Number of bytes; not zero.
        len: u32,
    },
    /// Says that payload bytes will be read soon; a store may do nothing. Answered by
    /// [`PageReply::Prefetched`].
    Prefetch {
        /// Segment, first payload byte, number of bytes.
        parts: Vec<(SegmentId, u32, u32)>,
    },
    /// Verifies every frame of a segment. Answered by [`PageReply::Verified`].
    Verify {
        /// Which one.
        segment: SegmentId,
    },
    /// Frees segments; unknown ones are skipped. Answered by [`PageReply::Deleted`].
    Delete {
        /// Which ones.
        segments: Vec<SegmentId>,
    },
    /// Names stored segments in ascending order. Answered by [`PageReply::Listed`].
    List {
        /// Start after this one.
        after: Option<SegmentId>,
        /// At most so many.
        limit: u32,
    },
    /// Asks for capacity. Answered by [`PageReply::Space`].
    Space,
}

/// A segment to be: the host encodes it (header, checksums) while it performs the append.
#[derive(Clone, Debug)]
pub struct SegmentDraft {
    /// Its name.
    pub id: SegmentId,
    /// The payload is the concatenation of these.
    pub payload: Vec<Bytes>,
    /// Sum of their lengths; at most [`crate::limits::SEGMENT_PAYLOAD_MAX`].
    pub len: u32,
}

/// What the page store answers.
#[derive(Debug)]
pub enum PageReply {
    /// To [`PageRequest::Append`].
    Appended {
        /// Bytes it takes on the medium.
        physical: u64,
    },
    /// To [`PageRequest::Read`].
    Data(Bytes),
    /// To [`PageRequest::Prefetch`].
    Prefetched,
    /// To [`PageRequest::Verify`].
    Verified {
        /// Payload length found.
        len: u32,
    },
    /// To [`PageRequest::Delete`].
    Deleted,
    /// To [`PageRequest::List`].
    Listed(Vec<SegmentId>),
    /// To [`PageRequest::Space`].
    Space(Space),
}

/// Capacity of a page store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// Bytes in all.
    pub total: u64,
    /// Bytes that can still be written.
    pub free: u64,
}

/// Why the page store did not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageError {
    /// No such segment, or fewer bytes in it than were asked for.
    Missing,
    /// Bytes of the segment are not those that were written.
    Corrupt {
        /// First payload byte of the damaged frame; 0 with the header damaged.
        offset: u32,
    },
    /// The medium is full; nothing was stored.
    NoSpace,
    /// The medium failed; nothing may be assumed about it.
    Io,
    /// The store does not answer now; try again later.
    Unavailable,
}
