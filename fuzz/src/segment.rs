//! Segments: a head names and checks every byte of its payload, and any bytes are a head or refused.

use arbitrary::{Arbitrary, Result, Unstructured};
use bytes::Bytes;
use vellum_core::data::segment::{
    HEADER_LEN, Head, HeadError, Header, decode_head, encode_head, padding, physical_len,
};
use vellum_core::id::{SegmentId, SessionId, VolumeId};
use vellum_core::limits::{FRAME_SIZE, SEGMENT_PAYLOAD_MAX};
use vellum_core::port::page_store::SegmentDraft;
use xxhash_rust::xxh3::xxh3_64;

const VOLUME: VolumeId = VolumeId(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff);
const PIECES_MAX: usize = 6;
const FRAME: usize = FRAME_SIZE as usize;

/// Decodes `input` as a head, as it is and under a true checksum of the header; then sends a segment that it
/// spells there and back, and damages it.
pub fn fuzz_one(input: &[u8]) {
    check_decode(input);
    check_decode(&sealed(input));
    let mut input = Unstructured::new(input);
    if let Ok(Spelled { draft, damage, range }) = spell(&mut input) {
        let segment = Segment::new(&draft);
        segment.check_ranges(range);
        damage.iter().for_each(|(at, bit)| segment.check_flip(*at, *bit));
        segment.check_cut(range.0);
    }
}

/// Whole segments as inputs: a small one and one of two frames.
pub fn seeds() -> Vec<(String, Vec<u8>)> {
    let mut seeds = Vec::new();
    for (name, len) in [("empty", 0), ("small", 77), ("frame", FRAME), ("frames", FRAME + 1)] {
        let id = SegmentId { session: SessionId(3), sequence: 4 };
        let payload = vec![Bytes::from(vec![0xa5; len])];
        let head = encode_head(VOLUME, &SegmentDraft { id, payload, len: len as u32 });
        seeds.push((name.to_owned(), head[..HEADER_LEN + 16].to_vec()));
    }
    seeds
}

/// The header with a checksum that fits it.
fn sealed(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes.resize(bytes.len().max(HEADER_LEN), 0);
    bytes[0..8].copy_from_slice(b"VSEG\x01\x00\x0c\x00");
    bytes[8..24].copy_from_slice(&VOLUME.0.to_be_bytes());
    let covered = [&bytes[..52], &bytes[56..HEADER_LEN]].concat();
    bytes[52..56].copy_from_slice(&(xxh3_64(&covered) as u32).to_le_bytes());
    bytes
}

/// What decodes keeps to the limits.
fn check_decode(bytes: &[u8]) {
    let header = Header::decode(VOLUME, bytes);
    if let Ok(header) = header {
        assert!(header.payload_len <= SEGMENT_PAYLOAD_MAX);
        assert!(header.head_len().is_multiple_of(FRAME) && header.head_len() > HEADER_LEN);
        assert_eq!(header.physical_len(), physical_len(header.payload_len));
        assert_eq!(header.id.to_bytes(), bytes[24..48]);
    }
    match (decode_head(VOLUME, bytes), header) {
        (Ok(head), Ok(header)) => assert_eq!(head.id(), header.id),
        (Ok(_), Err(error)) => panic!("a head whose header is refused: {error:?}"),
        (Err(error), Ok(_)) => assert!(matches!(error, HeadError::Short | HeadError::Checksum)),
        (Err(head), Err(header)) => assert_eq!(head, header),
    }
}

struct Spelled {
    draft: SegmentDraft,
    damage: Vec<(u16, u8)>,
    range: (u32, u32),
}

fn spell(input: &mut Unstructured<'_>) -> Result<Spelled> {
    let id =
        SegmentId { session: SessionId(u128::arbitrary(input)?), sequence: input.arbitrary()? };
    let mut payload = Vec::new();
    for _ in 0..input.int_in_range(0..=PIECES_MAX)? {
        // Around the borders of frames, so that pieces share some.
        let len = match u8::arbitrary(input)? {
            n @ 0..128 => usize::from(n),
            n => FRAME * usize::from(n % 3) + usize::from(n / 3) - 43,
        };
        let first = u8::arbitrary(input)?;
        payload.push((0..len).map(|i| first.wrapping_add((i / 7) as u8)).collect::<Bytes>());
    }
    let len = payload.iter().map(Bytes::len).sum::<usize>() as u32;
    let range = (u32::arbitrary(input)? % (len + 2), u32::arbitrary(input)? % (len + 2));
    let mut damage = Vec::new();
    while damage.len() < 4 && !input.is_empty() {
        damage.push(input.arbitrary()?);
    }
    Ok(Spelled { draft: SegmentDraft { id, payload, len }, damage, range })
}

/// A segment as it lies on the medium.
struct Segment {
    head_len: usize,
    bytes: Vec<u8>,
    payload: Vec<u8>,
    head: Head,
}

impl Segment {
    fn new(draft: &SegmentDraft) -> Segment {
        let encoded = encode_head(VOLUME, draft);
        let payload = draft.payload.concat();
        let bytes = [&encoded[..], &payload, &padding(draft.len)].concat();
        assert_eq!(bytes.len() as u64, physical_len(draft.len));
        let head = decode_head(VOLUME, &bytes).expect("a head just encoded");
        assert_eq!((head.id(), head.payload_len()), (draft.id, draft.len));
        assert_eq!(head.physical_len(), bytes.len() as u64);
        assert_eq!(head.verify(0, &bytes[encoded.len()..]), Ok(()));
        Segment { head_len: encoded.len(), bytes, payload, head }
    }

    /// Frames cover exactly what was asked for.
    fn check_ranges(&self, (offset, len): (u32, u32)) {
        let Some(frames) = self.head.frame_range(offset, len) else {
            assert!(offset as usize + len as usize > self.payload.len());
            return;
        };
        let bytes = &self.bytes[frames.bytes.start as usize..frames.bytes.end as usize];
        assert!(bytes.len().is_multiple_of(FRAME) && bytes.len() < len as usize + 2 * FRAME);
        assert_eq!(self.head.verify(frames.first, bytes), Ok(()));
        let wanted = &self.payload[offset as usize..(offset + len) as usize];
        if len > 0 {
            assert_eq!(&bytes[frames.skip..frames.skip + len as usize], wanted);
        }
        if !bytes.is_empty() {
            let (from, to) =
                (frames.bytes.start as usize + FRAME, frames.bytes.end as usize + FRAME);
            let same = self.bytes.get(from..to) == Some(bytes);
            let elsewhere = self.head.verify(frames.first + 1, bytes);
            assert_eq!(elsewhere.is_ok(), same, "frames have places");
        }
    }

    /// A flipped bit is found, and where it is.
    fn check_flip(&self, at: u16, bit: u8) {
        let at = usize::from(at) * 7 % self.bytes.len();
        let mut bytes = self.bytes.clone();
        bytes[at] ^= 1 << (bit % 8);
        match at.checked_sub(self.head_len) {
            None => assert!(decode_head(VOLUME, &bytes).is_err(), "byte {at} of the head"),
            Some(at) => {
                let bad = self.head.verify(0, &bytes[self.head_len..]).expect_err("a bad frame");
                assert_eq!(bad.frame as usize, at / FRAME);
                assert_eq!(bad.offset() as usize, at / FRAME * FRAME);
            }
        }
    }

    /// A segment that ends early is none.
    fn check_cut(&self, at: u32) {
        let at = at as usize % self.bytes.len();
        let head = decode_head(VOLUME, &self.bytes[..at]);
        assert_eq!(head.is_ok(), at >= self.head_len);
        if head.is_ok() && !(at - self.head_len).is_multiple_of(FRAME) {
            assert!(self.head.verify(0, &self.bytes[self.head_len..at]).is_err());
        }
    }
}
