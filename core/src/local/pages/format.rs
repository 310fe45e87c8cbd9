//! Bytes of a page file beside its segments: file header, dead map, footer; and the durable mark.
//! Byte by byte in `docs/formats.md`, section "Page file".

use crate::id::{SegmentId, VolumeId};
use crate::limits::FRAME_SIZE;
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

/// Every record begins at a multiple of this.
pub(super) const PAGE: u64 = FRAME_SIZE as u64;
/// Where the first record begins: behind the header page and the dead map.
pub(super) const FIRST_RECORD: u64 = 4 * PAGE;
/// Size at which a page file is sealed.
pub const DEFAULT_FILE_BYTES: u64 = 256 << 20;
/// Largest size of a page file: the dead map has a bit for each page.
pub const FILE_BYTES_MAX: u64 = 320 << 20;

const FILE_MAGIC: [u8; 4] = *b"VPGF";
const FOOTER_MAGIC: [u8; 4] = *b"VPGX";
const MARK_MAGIC: [u8; 4] = *b"VPGM";
const FORMAT: u32 = 1;
const SECTOR: usize = 512;
const SECTOR_BYTES: usize = SECTOR - 8;
const DEAD_SECTORS: usize = (FIRST_RECORD - PAGE) as usize / SECTOR;
const TRAILER: usize = 64;
const ENTRY: usize = 32;

const _: () = assert!(FILE_BYTES_MAX / PAGE <= (DEAD_SECTORS * SECTOR_BYTES * 8) as u64);

/// The header page: magic, format, file number, volume, checksum of those.
pub(super) fn encode_header(volume: VolumeId, number: u32) -> Bytes {
    let mut page = vec![0; PAGE as usize];
    page[0..4].copy_from_slice(&FILE_MAGIC);
    page[4..8].copy_from_slice(&FORMAT.to_le_bytes());
    page[8..12].copy_from_slice(&number.to_le_bytes());
    page[16..32].copy_from_slice(&volume.0.to_be_bytes());
    let sum = xxh3_64(&page[..32]);
    page[32..40].copy_from_slice(&sum.to_le_bytes());
    page.into()
}

/// Whether a header page is the one of this file.
pub(super) fn is_header(page: &[u8], volume: VolumeId, number: u32) -> bool {
    page == &encode_header(volume, number)[..]
}

/// One bit per page of the file: set when the segment that begins there is dead.
///
/// Sectors are written and checked alone. A sector that does not fit its checksum counts as empty: its
/// dead segments come back as unreferenced ones, which costs a second delete and nothing else.
#[derive(Clone)]
pub(super) struct DeadMap(Vec<u8>);

impl DeadMap {
    pub(super) fn new() -> DeadMap {
        DeadMap(vec![0; DEAD_SECTORS * SECTOR_BYTES])
    }

    pub(super) fn decode(bytes: &[u8]) -> DeadMap {
        let mut map = DeadMap::new();
        let sectors = bytes.chunks_exact(SECTOR).zip(map.0.chunks_exact_mut(SECTOR_BYTES));
        for (sector, bits) in sectors {
            let (stored, sum) = sector.split_at(SECTOR_BYTES);
            if xxh3_64(stored).to_le_bytes() == *sum {
                bits.copy_from_slice(stored);
            }
        }
        map
    }

    pub(super) fn is_dead(&self, offset: u64) -> bool {
        let bit = (offset / PAGE) as usize;
        self.0.get(bit / 8).is_some_and(|byte| byte & (1 << (bit % 8)) != 0)
    }

    /// Whether a record that began at `offset` or behind it was ever marked.
    pub(super) fn any_from(&self, offset: u64) -> bool {
        (offset / PAGE..FILE_BYTES_MAX / PAGE).any(|page| self.is_dead(page * PAGE))
    }

    /// Marks the record at `offset`; returns the sector to write and where.
    pub(super) fn set(&mut self, offset: u64) -> (u64, Bytes) {
        let bit = (offset / PAGE) as usize;
        self.0[bit / 8] |= 1 << (bit % 8);
        let sector = bit / 8 / SECTOR_BYTES;
        let bits = &self.0[sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES];
        let mut out = bits.to_vec();
        out.extend_from_slice(&xxh3_64(bits).to_le_bytes());
        (PAGE + (sector * SECTOR) as u64, out.into())
    }
}

/// Where a record lies, as a footer tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) offset: u64,
    pub(super) id: SegmentId,
    pub(super) payload_len: u32,
}

/// The footer of a sealed file: one entry per record, zeros, and a trailer in the last 64 bytes.
/// It begins at `offset` and ends the file.
pub(super) fn encode_footer(
    volume: VolumeId,
    number: u32,
    offset: u64,
    records: &[Record],
) -> Bytes {
    let len = (records.len() * ENTRY + TRAILER).next_multiple_of(PAGE as usize);
    let mut out = vec![0; len];
    for (record, entry) in records.iter().zip(out.chunks_exact_mut(ENTRY)) {
        entry[0..24].copy_from_slice(&record.id.to_bytes());
        entry[24..28].copy_from_slice(&((record.offset / PAGE) as u32).to_le_bytes());
        entry[28..32].copy_from_slice(&record.payload_len.to_le_bytes());
    }
    let trailer = len - TRAILER;
    out[trailer..trailer + 4].copy_from_slice(&FOOTER_MAGIC);
    out[trailer + 4..trailer + 8].copy_from_slice(&FORMAT.to_le_bytes());
    out[trailer + 8..trailer + 12].copy_from_slice(&number.to_le_bytes());
    out[trailer + 12..trailer + 16].copy_from_slice(&(records.len() as u32).to_le_bytes());
    out[trailer + 16..trailer + 24].copy_from_slice(&offset.to_le_bytes());
    out[trailer + 24..trailer + 40].copy_from_slice(&volume.0.to_be_bytes());
    let sum = xxh3_64(&out[..len - 8]);
    out[len - 8..].copy_from_slice(&sum.to_le_bytes());
    out.into()
}

/// Where the footer begins, if the last page of a file of `file_len` bytes has a trailer.
pub(super) fn footer_offset(last_page: &[u8], file_len: u64) -> Option<u64> {
    let trailer = last_page.get(last_page.len().checked_sub(TRAILER)?..)?;
    let offset = u64::from_le_bytes(trailer[16..24].try_into().ok()?);
    let plausible = offset >= FIRST_RECORD && offset < file_len && offset.is_multiple_of(PAGE);
    (trailer[0..4] == FOOTER_MAGIC && plausible).then_some(offset)
}

/// The records of a footer, if it is whole and belongs to this file and place.
pub(super) fn decode_footer(
    volume: VolumeId,
    number: u32,
    offset: u64,
    bytes: &[u8],
) -> Option<Vec<Record>> {
    let trailer = bytes.len().checked_sub(TRAILER)?;
    let count = u32::from_le_bytes(bytes[trailer + 12..trailer + 16].try_into().ok()?) as usize;
    let entries = bytes[..trailer].get(..count.checked_mul(ENTRY)?)?;
    let decode = |entry: &[u8]| {
        Some(Record {
            id: SegmentId::from_bytes(entry[0..24].try_into().ok()?),
            offset: u64::from(u32::from_le_bytes(entry[24..28].try_into().ok()?)) * PAGE,
            payload_len: u32::from_le_bytes(entry[28..32].try_into().ok()?),
        })
    };
    let records: Vec<Record> = entries.chunks_exact(ENTRY).map(decode).collect::<Option<_>>()?;
    (encode_footer(volume, number, offset, &records) == bytes).then_some(records)
}

/// What of the page files is durable, as a sync left it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// Files from this number on did not exist yet.
    pub(super) next_file: u32,
    /// The unsealed ones, and those whose removal is not durable. Every other file below `next_file` is sealed or gone.
    pub(super) files: Vec<FileMark>,
}

/// What of one unsealed file is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileMark {
    pub(super) number: u32,
    /// Everything below it except for the holes. 0: nothing in it is alive, it is to be removed.
    pub(super) end: u64,
    /// Offset and length of what no append had finished; ascending.
    pub(super) holes: Vec<(u64, u64)>,
}

impl FileMark {
    /// The mark of a file that is removed.
    pub(super) fn removed(number: u32) -> FileMark {
        FileMark { number, end: 0, holes: Vec::new() }
    }

    /// Whether a file can be so: a start walks up to its end, page by page. A damaged footer counts into the
    /// length, so the bound is not that of a sound file.
    fn is_plausible(&self) -> bool {
        let fits = |(offset, len): &(u64, u64)| {
            offset.checked_add(*len).is_some_and(|end| *len > 0 && end <= self.end)
        };
        self.end <= 2 * FILE_BYTES_MAX && self.holes.iter().all(fits)
    }

    /// Whether the file was removed; a crash may have brought it back.
    pub(super) fn is_removed(&self) -> bool {
        self.end == 0
    }
}

impl Mark {
    /// As bytes, with a checksum.
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::new();
        out.extend_from_slice(&MARK_MAGIC);
        out.extend_from_slice(&FORMAT.to_le_bytes());
        out.extend_from_slice(&self.next_file.to_le_bytes());
        out.extend_from_slice(&(self.files.len() as u32).to_le_bytes());
        for file in &self.files {
            out.extend_from_slice(&file.number.to_le_bytes());
            out.extend_from_slice(&file.end.to_le_bytes());
            out.extend_from_slice(&(file.holes.len() as u32).to_le_bytes());
            for (offset, len) in &file.holes {
                out.extend_from_slice(&offset.to_le_bytes());
                out.extend_from_slice(&len.to_le_bytes());
            }
        }
        let sum = xxh3_64(&out);
        out.extend_from_slice(&sum.to_le_bytes());
        out.into()
    }

    /// The inverse of [`Mark::encode`]; `None` for anything else, also for what no page files can be.
    pub fn decode(bytes: &[u8]) -> Option<Mark> {
        let (body, sum) = bytes.split_at_checked(bytes.len().checked_sub(8)?)?;
        if xxh3_64(body).to_le_bytes() != *sum {
            return None;
        }
        let mut input = body.strip_prefix(&MARK_MAGIC)?;
        if take_u32(&mut input)? != FORMAT {
            return None;
        }
        let mut mark = Mark { next_file: take_u32(&mut input)?, files: Vec::new() };
        for _ in 0..take_u32(&mut input)? {
            let (number, end) = (take_u32(&mut input)?, take_u64(&mut input)?);
            let mut file = FileMark { number, end, holes: Vec::new() };
            for _ in 0..take_u32(&mut input)? {
                file.holes.push((take_u64(&mut input)?, take_u64(&mut input)?));
            }
            if !file.is_plausible() {
                return None;
            }
            mark.files.push(file);
        }
        input.is_empty().then_some(mark)
    }
}

fn take_u32(input: &mut &[u8]) -> Option<u32> {
    let (head, rest) = input.split_first_chunk()?;
    *input = rest;
    Some(u32::from_le_bytes(*head))
}

fn take_u64(input: &mut &[u8]) -> Option<u64> {
    let (head, rest) = input.split_first_chunk()?;
    *input = rest;
    Some(u64::from_le_bytes(*head))
}

#[cfg(test)]
mod tests;
