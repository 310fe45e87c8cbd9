//! The segment format, as pure functions: a head that names and checks everything, then the payload.
//!
//! ```text
//! head      64-byte header, then one 8-byte checksum per 4 KiB frame, zeros up to a multiple of 4 KiB
//! payload   4 KiB frames; the last one is filled up with zeros
//! ```
//!
//! Owns: the bytes, byte by byte as in `docs/formats.md`. Never does: I/O, copying of payload.
//!
//! Invariants: every flipped bit of head or payload is found; a frame's checksum is seeded with volume,
//! segment and frame number, so that a misdirected, swapped or stale frame is found, too.
//! Tests: `segment/tests.rs`.

use crate::id::{SegmentId, VolumeId};
use crate::limits::{FRAME_SIZE, SEGMENT_PAYLOAD_MAX};
use crate::port::page_store::SegmentDraft;
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;
use core::ops::Range;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

#[cfg(test)]
mod tests;

/// Length of the header, which tells the length of the whole head.
pub const HEADER_LEN: usize = 64;

const MAGIC: [u8; 4] = *b"VSEG";
const FORMAT: u8 = 1;
const CODEC_RAW: u8 = 0;
const FRAME: usize = FRAME_SIZE as usize;
const FRAME_SHIFT: u8 = FRAME_SIZE.trailing_zeros() as u8;
const SUM_LEN: usize = 8;

/// Encodes the head of a segment. The payload follows it as it is, padded by [`padding`].
///
/// # Panics
/// When the pieces do not add up to `draft.len`, or that is above the limit.
pub fn encode_head(volume: VolumeId, draft: &SegmentDraft) -> Bytes {
    assert!(draft.len <= SEGMENT_PAYLOAD_MAX, "a segment above the limit");
    let total: usize = draft.payload.iter().map(Bytes::len).sum();
    assert!(total == draft.len as usize, "the pieces of a segment do not add up");

    let mut head = vec![0; head_len(draft.len)];
    let seed = seed(volume, draft.id);
    let sums = head[HEADER_LEN..].chunks_exact_mut(SUM_LEN);
    each_frame(&draft.payload, |index, frame| frame_sum(seed, index, frame))
        .into_iter()
        .zip(sums)
        .for_each(|(sum, place)| place.copy_from_slice(&sum.to_le_bytes()));
    let table_sum = xxh3_64_with_seed(&head[HEADER_LEN..], seed);

    head[0..4].copy_from_slice(&MAGIC);
    head[4..8].copy_from_slice(&[FORMAT, CODEC_RAW, FRAME_SHIFT, 0]);
    head[8..24].copy_from_slice(&volume.0.to_be_bytes());
    head[24..48].copy_from_slice(&draft.id.to_bytes());
    head[48..52].copy_from_slice(&draft.len.to_le_bytes());
    head[56..64].copy_from_slice(&table_sum.to_le_bytes());
    let sum = header_sum(&head);
    head[52..56].copy_from_slice(&sum.to_le_bytes());
    head.into()
}

/// Zeros that fill up the last frame of a payload of `len` bytes.
pub fn padding(len: u32) -> Bytes {
    static ZEROS: [u8; FRAME] = [0; FRAME];
    let rest = len as usize % FRAME;
    Bytes::from_static(&ZEROS[..if rest == 0 { 0 } else { FRAME - rest }])
}

/// Bytes of the head of a segment with `payload_len` bytes.
pub fn head_len(payload_len: u32) -> usize {
    (HEADER_LEN + frames(payload_len) * SUM_LEN).next_multiple_of(FRAME)
}

/// Bytes that a segment with `payload_len` bytes takes on the medium.
pub fn physical_len(payload_len: u32) -> u64 {
    (head_len(payload_len) + frames(payload_len) * FRAME) as u64
}

/// Why bytes are not the head of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadError {
    /// Fewer bytes than a head has.
    Short,
    /// No segment begins here.
    NotASegment,
    /// A format or codec this program does not know.
    Unknown,
    /// A segment of another volume.
    OtherVolume,
    /// The checksum of the header or of the table does not fit.
    Checksum,
}

/// What the header alone says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The segment's name.
    pub id: SegmentId,
    /// Bytes of payload.
    pub payload_len: u32,
    table_sum: u64,
}

impl Header {
    /// Decodes and checks the first [`HEADER_LEN`] bytes of a segment.
    pub fn decode(volume: VolumeId, bytes: &[u8]) -> Result<Header, HeadError> {
        let bytes = bytes.get(..HEADER_LEN).ok_or(HeadError::Short)?;
        if bytes[0..4] != MAGIC {
            return Err(HeadError::NotASegment);
        }
        if header_sum(bytes) != u32::from_le_bytes(array(bytes, 52)) {
            return Err(HeadError::Checksum);
        }
        if bytes[4..8] != [FORMAT, CODEC_RAW, FRAME_SHIFT, 0] {
            return Err(HeadError::Unknown);
        }
        if u128::from_be_bytes(array(bytes, 8)) != volume.0 {
            return Err(HeadError::OtherVolume);
        }
        let payload_len = u32::from_le_bytes(array(bytes, 48));
        if payload_len > SEGMENT_PAYLOAD_MAX {
            return Err(HeadError::Unknown);
        }
        Ok(Header {
            id: SegmentId::from_bytes(array(bytes, 24)),
            payload_len,
            table_sum: u64::from_le_bytes(array(bytes, 56)),
        })
    }

    /// Bytes of the head.
    pub fn head_len(&self) -> usize {
        head_len(self.payload_len)
    }

    /// Bytes of the segment on the medium.
    pub fn physical_len(&self) -> u64 {
        physical_len(self.payload_len)
    }
}

/// A decoded head: enough to read and verify any frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    header: Header,
    seed: u64,
    sums: Box<[u64]>,
}

/// Frames that cover a range of the payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frames {
    /// Number of the first one.
    pub first: u32,
    /// Where they are, counted from the begin of the segment's head; whole frames.
    pub bytes: Range<u64>,
    /// Where the asked bytes begin within those.
    pub skip: usize,
}

/// A frame whose bytes are not those that were written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadFrame {
    /// Its number.
    pub frame: u32,
}

impl BadFrame {
    /// Offset of its first byte in the payload.
    pub fn offset(self) -> u32 {
        self.frame.saturating_mul(FRAME_SIZE)
    }
}

/// Decodes and checks a whole head; [`Header::decode`] tells how many bytes that is.
pub fn decode_head(volume: VolumeId, bytes: &[u8]) -> Result<Head, HeadError> {
    let header = Header::decode(volume, bytes)?;
    let table = bytes.get(HEADER_LEN..header.head_len()).ok_or(HeadError::Short)?;
    let seed = seed(volume, header.id);
    if xxh3_64_with_seed(table, seed) != header.table_sum {
        return Err(HeadError::Checksum);
    }
    let sums = table.chunks_exact(SUM_LEN).take(frames(header.payload_len));
    let sums = sums.map(|sum| u64::from_le_bytes(array(sum, 0))).collect();
    Ok(Head { header, seed, sums })
}

impl Head {
    /// The segment's name.
    pub fn id(&self) -> SegmentId {
        self.header.id
    }

    /// Bytes of payload.
    pub fn payload_len(&self) -> u32 {
        self.header.payload_len
    }

    /// Bytes of the segment on the medium.
    pub fn physical_len(&self) -> u64 {
        self.header.physical_len()
    }

    /// Bytes of memory it takes.
    pub fn weight(&self) -> usize {
        size_of::<Head>() + self.sums.len() * SUM_LEN
    }

    /// The frames that cover `len` payload bytes from `offset`; `None` if they are not all there.
    pub fn frame_range(&self, offset: u32, len: u32) -> Option<Frames> {
        let end = offset.checked_add(len).filter(|end| *end <= self.payload_len())?;
        let first = offset / FRAME_SIZE;
        let base = self.header.head_len() as u64;
        let begin = base + u64::from(first) * FRAME as u64;
        let end = base + u64::from(end.div_ceil(FRAME_SIZE)) * FRAME as u64;
        Some(Frames { first, bytes: begin..end.max(begin), skip: (offset % FRAME_SIZE) as usize })
    }

    /// Checks whole frames, the first of which has the number `first`.
    pub fn verify(&self, first: u32, bytes: &[u8]) -> Result<(), BadFrame> {
        for (frame, bytes) in (first..).zip(bytes.chunks(FRAME)) {
            let expected = self.sums.get(frame as usize);
            if bytes.len() != FRAME || expected != Some(&frame_sum(self.seed, frame, bytes)) {
                return Err(BadFrame { frame });
            }
        }
        Ok(())
    }
}

/// Checksums of all frames. A frame inside of one piece is hashed where it lies.
fn each_frame(pieces: &[Bytes], mut sum: impl FnMut(u32, &[u8]) -> u64) -> Vec<u64> {
    let mut sums = Vec::new();
    let mut joint = Vec::new();
    for piece in pieces {
        let mut piece = &piece[..];
        if !joint.is_empty() {
            let (begin, rest) = piece.split_at(piece.len().min(FRAME - joint.len()));
            joint.extend_from_slice(begin);
            piece = rest;
            if joint.len() == FRAME {
                sums.push(sum(sums.len() as u32, &joint));
                joint.clear();
            }
        }
        let whole = piece.chunks_exact(FRAME);
        joint.extend_from_slice(whole.remainder());
        whole.for_each(|frame| sums.push(sum(sums.len() as u32, frame)));
    }
    if !joint.is_empty() {
        joint.resize(FRAME, 0);
        sums.push(sum(sums.len() as u32, &joint));
    }
    sums
}

fn frames(payload_len: u32) -> usize {
    payload_len.div_ceil(FRAME_SIZE) as usize
}

fn seed(volume: VolumeId, id: SegmentId) -> u64 {
    let mut name = [0; 16 + SegmentId::LEN];
    name[..16].copy_from_slice(&volume.0.to_be_bytes());
    name[16..].copy_from_slice(&id.to_bytes());
    xxh3_64(&name)
}

/// The odd factor (2^64 divided by the golden ratio) spreads frame numbers over the seeds.
fn frame_sum(seed: u64, frame: u32, bytes: &[u8]) -> u64 {
    let seed = seed.wrapping_add((u64::from(frame) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    xxh3_64_with_seed(bytes, seed)
}

/// Over the whole header except itself.
fn header_sum(header: &[u8]) -> u32 {
    let mut covered = [0; HEADER_LEN - 4];
    covered[..52].copy_from_slice(&header[..52]);
    covered[52..].copy_from_slice(&header[56..HEADER_LEN]);
    xxh3_64(&covered) as u32
}

/// The `N` bytes at `at`, which are there.
fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}
