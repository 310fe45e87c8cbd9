//! The bytes of the write log: packs of extents, as values of the metadata store.
//!
//! Owns: encoding and decoding of a pack; `docs/formats.md`, "Write-log pack", gives each byte.
//! Never does: keys, order between packs (the caller's keys give it).
//!
//! Invariants: what is decoded lies inside its region and inside the largest file and segment, and carries no
//! more bytes than a pack may. A pack under the key of another region does not decode. Later versions decode
//! earlier ones for ever.
//!
//! Tests: `write_log/tests.rs`, golden packs in `tests/golden_write_log.rs`; fuzz target `write_log_decode`.

use super::extent_map::Source;
use super::varint::{put, take, unzigzag, zigzag};
use crate::id::SegmentId;
use crate::limits::{FILE_SIZE_MAX, LOG_BYTES_MAX, PACK_MAX, REGION_SIZE, SEGMENT_PAYLOAD_MAX};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use bytes::Bytes;
use core::fmt;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// A pack of extents as they were written.
const WRITTEN: u8 = 1;
/// A pack of extents that a fold has put in order. The same bytes behind the version.
const FOLDED: u8 = 2;
/// Bytes of the checksum at the end.
const CHECKSUM_LEN: usize = 4;
/// Longest encoding of an extent: offset, length and payload offset have at most 4 bytes each (27 bits and
/// a sign), the index at most 2.
const EXTENT_LEN_MAX: usize = 14;
/// Longest encodings of the version, both counts (2 bytes each) and the checksum.
const FRAME_LEN_MAX: usize = 1 + 2 + 2 + CHECKSUM_LEN;
/// Longest pack: extents as in any other, and embedded bytes. The limits behind it are part of the format:
/// they may grow, but a lower one would refuse packs that exist.
const VALUE_LEN_MAX: usize = PACK_MAX + LOG_BYTES_MAX as usize;

const _: () = {
    assert!(REGION_SIZE * 2 <= 1 << 28);
    assert!(SEGMENT_PAYLOAD_MAX as u64 * 2 <= 1 << 28);
    assert!(PACK_MAX < 1 << 14);
    assert!(VALUE_LEN_MAX <= crate::limits::VALUE_MAX);
};

/// A run of a file and where its bytes are, as the write log records it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogExtent {
    /// First byte in the file.
    pub offset: u64,
    /// Number of bytes; not zero when decoded.
    pub len: u64,
    /// Where they are. Bytes are as many as `len`.
    pub source: Source,
}

/// Encodes extents as packs, each with the region it belongs to.
///
/// Extents are cut at the borders of regions. Packs are ordered by region; those of one region are in the order
/// of paint, and so are the extents in a pack. A pack takes at most [`PACK_MAX`] bytes apart from embedded
/// bytes, of which it has at most [`LOG_BYTES_MAX`]; more are put into further packs. Empty extents are left
/// out.
///
/// # Panics
/// When an extent ends beyond [`FILE_SIZE_MAX`] or its segment's largest payload, or has fewer bytes than
/// its length says.
pub fn encode(extents: &[LogExtent]) -> Vec<(u64, Bytes)> {
    encode_as(WRITTEN, extents)
}

/// [`encode`] for what a fold leaves behind, which no later fold counts as written.
///
/// # Panics
/// As [`encode`].
pub fn encode_folded(extents: &[LogExtent]) -> Vec<(u64, Bytes)> {
    encode_as(FOLDED, extents)
}

fn encode_as(version: u8, extents: &[LogExtent]) -> Vec<(u64, Bytes)> {
    let mut regions: BTreeMap<u64, RegionWriter> = BTreeMap::new();
    for extent in extents {
        let end = extent.offset.checked_add(extent.len).filter(|end| *end <= FILE_SIZE_MAX);
        let end = end.expect("extent inside the largest file");
        let mut at = extent.offset;
        while at < end {
            let region = at / REGION_SIZE;
            let writer =
                regions.entry(region).or_insert_with(|| RegionWriter::new(version, region));
            let border = ((region + 1) * REGION_SIZE).min(end);
            writer.extent(at % REGION_SIZE, border - at, extent.source.skip(at - extent.offset));
            at = border;
        }
    }
    regions.into_values().flat_map(RegionWriter::finish).collect()
}

/// Decodes a pack that was found under the key of `region`. Embedded bytes are slices of `value`.
///
/// # Errors
/// When `value` is not exactly what [`encode`] makes for this region.
pub fn decode(region: u64, value: &Bytes) -> Result<Vec<LogExtent>, DecodeError> {
    let body = verify(region, value)?;
    let mut reader = Reader::begin(region, body)?;
    let count = reader.count(3)?;
    let mut extents = Vec::with_capacity(count);
    let mut embedded = Vec::new();
    for i in 0..count {
        let extent = reader.extent()?;
        if matches!(extent.source, Source::Bytes(_)) {
            embedded.push(i);
        }
        extents.push(extent);
    }
    let payload_len = reader.input.len();
    if payload_len > LOG_BYTES_MAX as usize || value.len() - payload_len > PACK_MAX {
        return Err(DecodeError::TooLong);
    }
    let mut at = body.len() - payload_len;
    for i in embedded {
        let extent: &mut LogExtent = &mut extents[i];
        let len = usize::try_from(extent.len).map_err(|_| DecodeError::Cut)?;
        let end = at.checked_add(len).filter(|end| *end <= body.len()).ok_or(DecodeError::Cut)?;
        extent.source = Source::Bytes(value.slice(at..end));
        at = end;
    }
    if at != body.len() {
        return Err(DecodeError::Trailing);
    }
    Ok(extents)
}

/// Whether a fold left this pack behind.
pub fn is_folded(value: &[u8]) -> bool {
    value.first() == Some(&FOLDED)
}

/// How many extents a pack has, from its head alone: cuts at borders of regions and packs included.
///
/// # Errors
/// When `value` does not begin as a pack of this region does.
pub fn entries(region: u64, value: &[u8]) -> Result<usize, DecodeError> {
    Reader::begin(region, value)?.count(3)
}

/// Why a pack was not decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// Longer than any pack.
    TooLong,
    /// The bytes are not those that were written under this region's key.
    Checksum,
    /// Written by a later version of Vellum.
    Version(u8),
    /// It ends before what it announces.
    Cut,
    /// It goes on after its end.
    Trailing,
    /// An extent reaches beyond its region or the largest file, or is empty.
    OutsideRegion,
    /// An extent reaches beyond the largest segment.
    OutsideSegment,
    /// An extent names a segment that the pack's table does not have.
    NoSuchSegment,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecodeError::TooLong => write!(f, "longer than a write-log pack can be"),
            DecodeError::Checksum => write!(f, "checksum of a write-log pack does not match"),
            DecodeError::Version(found) => {
                write!(f, "write-log pack of version {found}; this build knows up to {FOLDED}")
            }
            DecodeError::Cut => write!(f, "write-log pack is cut short"),
            DecodeError::Trailing => write!(f, "write-log pack has bytes after its end"),
            DecodeError::OutsideRegion => write!(f, "extent outside its region"),
            DecodeError::OutsideSegment => write!(f, "extent outside the largest segment"),
            DecodeError::NoSuchSegment => {
                write!(f, "extent of a segment that the pack does not name")
            }
        }
    }
}

impl core::error::Error for DecodeError {}

/// Packs of one region.
struct RegionWriter {
    version: u8,
    region: u64,
    done: Vec<Bytes>,
    pack: PackWriter,
}

impl RegionWriter {
    fn new(version: u8, region: u64) -> RegionWriter {
        RegionWriter { version, region, done: Vec::new(), pack: PackWriter::default() }
    }

    /// Adds an extent; `offset` is relative to the region.
    fn extent(&mut self, offset: u64, len: u64, source: Source) {
        let Source::Bytes(mut bytes) = source else {
            self.make_room(0);
            self.pack.extent(offset, len, source);
            return;
        };
        assert!(bytes.len() as u64 >= len, "extent of {len} bytes has {}", bytes.len());
        bytes.truncate(len as usize);
        let mut at = offset;
        while !bytes.is_empty() {
            self.make_room(1);
            let room = LOG_BYTES_MAX as usize - self.pack.embedded_len;
            let part = bytes.split_to(bytes.len().min(room));
            let len = part.len() as u64;
            self.pack.extent(at, len, Source::Bytes(part));
            at += len;
        }
    }

    /// Begins a new pack unless one more extent with `embedded` bytes fits the current one.
    fn make_room(&mut self, embedded: usize) {
        let extents_fit = self.pack.len_max() + EXTENT_LEN_MAX + SegmentId::LEN <= PACK_MAX;
        let bytes_fit = self.pack.embedded_len + embedded <= LOG_BYTES_MAX as usize;
        if !(extents_fit && bytes_fit) {
            self.close();
        }
    }

    fn close(&mut self) {
        if self.pack.count > 0 {
            let pack = core::mem::take(&mut self.pack);
            self.done.push(pack.finish(self.version, self.region));
        }
    }

    fn finish(mut self) -> impl Iterator<Item = (u64, Bytes)> {
        self.close();
        let region = self.region;
        self.done.into_iter().map(move |pack| (region, pack))
    }
}

/// A pack while extents are added to it.
#[derive(Default)]
struct PackWriter {
    table: Vec<SegmentEntry>,
    /// Encoded extents.
    extents: Vec<u8>,
    count: usize,
    /// Where the last extent ended, relative to the region.
    end: u64,
    embedded: Vec<Bytes>,
    embedded_len: usize,
}

/// A row of a pack's segment table.
struct SegmentEntry {
    id: SegmentId,
    /// Where the last extent of this segment ended in the payload.
    end: u64,
}

impl PackWriter {
    /// The most bytes it takes so far, embedded ones apart.
    fn len_max(&self) -> usize {
        FRAME_LEN_MAX + self.table.len() * SegmentId::LEN + self.extents.len()
    }

    fn extent(&mut self, offset: u64, len: u64, source: Source) {
        put(&mut self.extents, zigzag(offset as i64 - self.end as i64));
        put(&mut self.extents, len);
        self.end = offset + len;
        self.count += 1;
        match source {
            Source::Bytes(bytes) => {
                put(&mut self.extents, 0);
                self.embedded_len += bytes.len();
                self.embedded.push(bytes);
            }
            Source::Segment { segment, offset } => {
                let end = u64::from(offset) + len;
                assert!(end <= u64::from(SEGMENT_PAYLOAD_MAX), "extent inside its segment");
                let index = self.index(segment);
                put(&mut self.extents, index as u64 + 1);
                let entry = &mut self.table[index];
                put(&mut self.extents, zigzag(i64::from(offset) - entry.end as i64));
                entry.end = end;
            }
        }
    }

    /// The row of a segment, a new one if need be. The last rows are the likely ones.
    fn index(&mut self, id: SegmentId) -> usize {
        let known = self.table.iter().rposition(|entry| entry.id == id);
        known.unwrap_or_else(|| {
            self.table.push(SegmentEntry { id, end: 0 });
            self.table.len() - 1
        })
    }

    fn finish(self, version: u8, region: u64) -> Bytes {
        let mut out = Vec::with_capacity(self.len_max() + self.embedded_len);
        out.push(version);
        put(&mut out, self.table.len() as u64);
        for entry in &self.table {
            out.extend_from_slice(&entry.id.to_bytes());
        }
        put(&mut out, self.count as u64);
        out.extend_from_slice(&self.extents);
        assert!(out.len() + CHECKSUM_LEN <= PACK_MAX, "the bound on an extent's encoding holds");
        for bytes in &self.embedded {
            out.extend_from_slice(bytes);
        }
        let checksum = checksum(region, &out);
        out.extend_from_slice(&checksum);
        Bytes::from(out)
    }
}

/// Checks length and checksum; returns what the checksum covers.
fn verify(region: u64, value: &[u8]) -> Result<&[u8], DecodeError> {
    if value.len() > VALUE_LEN_MAX {
        return Err(DecodeError::TooLong);
    }
    let body_len = value.len().checked_sub(CHECKSUM_LEN).ok_or(DecodeError::Cut)?;
    let (body, found) = value.split_at(body_len);
    if found != checksum(region, body) {
        return Err(DecodeError::Checksum);
    }
    Ok(body)
}

/// The region is the seed, so that a pack under a wrong key is found out.
fn checksum(region: u64, body: &[u8]) -> [u8; CHECKSUM_LEN] {
    (xxh3_64_with_seed(body, region) as u32).to_le_bytes()
}

/// A pack while extents are taken off its front.
struct Reader<'a> {
    /// What is not read yet.
    input: &'a [u8],
    /// First byte of the region in the file.
    base: u64,
    /// Bytes the region has.
    size: u64,
    table: Vec<SegmentEntry>,
    /// Where the last extent ended, relative to the region.
    end: u64,
}

impl<'a> Reader<'a> {
    /// Reads version and segment table.
    fn begin(region: u64, body: &'a [u8]) -> Result<Reader<'a>, DecodeError> {
        let (&version, input) = body.split_first().ok_or(DecodeError::Cut)?;
        if !matches!(version, WRITTEN | FOLDED) {
            return Err(DecodeError::Version(version));
        }
        let base = region.checked_mul(REGION_SIZE).filter(|base| *base < FILE_SIZE_MAX);
        let base = base.ok_or(DecodeError::OutsideRegion)?;
        let size = REGION_SIZE.min(FILE_SIZE_MAX - base);
        let mut reader = Reader { input, base, size, table: Vec::new(), end: 0 };
        let rows = reader.count(SegmentId::LEN)?;
        reader.table.reserve_exact(rows);
        for _ in 0..rows {
            let (id, rest) = reader.input.split_first_chunk().ok_or(DecodeError::Cut)?;
            reader.table.push(SegmentEntry { id: SegmentId::from_bytes(*id), end: 0 });
            reader.input = rest;
        }
        Ok(reader)
    }

    /// Reads a number of things of at least `len_min` bytes each; not more than can follow.
    fn count(&mut self, len_min: usize) -> Result<usize, DecodeError> {
        let count = usize::try_from(self.number()?).map_err(|_| DecodeError::Cut)?;
        if count > self.input.len() / len_min {
            return Err(DecodeError::Cut);
        }
        Ok(count)
    }

    /// Reads an extent. Embedded bytes are left for later.
    fn extent(&mut self) -> Result<LogExtent, DecodeError> {
        let offset = self.relative(self.end)?.ok_or(DecodeError::OutsideRegion)?;
        let len = self.number()?;
        let end = offset.checked_add(len).filter(|end| *end <= self.size && len > 0);
        self.end = end.ok_or(DecodeError::OutsideRegion)?;
        let source = match self.number()? {
            0 => Source::Bytes(Bytes::new()),
            index => self.segment(index - 1, len)?,
        };
        Ok(LogExtent { offset: self.base + offset, len, source })
    }

    /// Reads where in a segment `len` bytes are.
    fn segment(&mut self, index: u64, len: u64) -> Result<Source, DecodeError> {
        let index = usize::try_from(index).map_err(|_| DecodeError::NoSuchSegment)?;
        let expected = self.table.get(index).ok_or(DecodeError::NoSuchSegment)?.end;
        let offset = self.relative(expected)?.ok_or(DecodeError::OutsideSegment)?;
        let end = offset.checked_add(len).filter(|end| *end <= u64::from(SEGMENT_PAYLOAD_MAX));
        let end = end.ok_or(DecodeError::OutsideSegment)?;
        let offset = u32::try_from(offset).map_err(|_| DecodeError::OutsideSegment)?;
        let entry = &mut self.table[index];
        entry.end = end;
        Ok(Source::Segment { segment: entry.id, offset })
    }

    /// Reads a signed distance from `origin`; `None` when it leads out of all bounds.
    fn relative(&mut self, origin: u64) -> Result<Option<u64>, DecodeError> {
        let distance = unzigzag(self.number()?);
        Ok(origin.checked_add_signed(distance))
    }

    fn number(&mut self) -> Result<u64, DecodeError> {
        take(&mut self.input).ok_or(DecodeError::Cut)
    }
}

#[cfg(test)]
mod tests;
