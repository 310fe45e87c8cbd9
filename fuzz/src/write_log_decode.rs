//! Packs of the write log: anything decodes or is refused, and what is written is read back.

use arbitrary::{Arbitrary, Result, Unstructured};
use bytes::Bytes;
use vellum_core::data::extent_map::Source;
use vellum_core::data::write_log::{LogExtent, decode, encode};
use vellum_core::id::{SegmentId, SessionId};
use vellum_core::limits::{FILE_SIZE_MAX, LOG_BYTES_MAX, REGION_SIZE, SEGMENT_PAYLOAD_MAX};
use xxhash_rust::xxh3::xxh3_64_with_seed;

const EXTENTS_MAX: usize = 40;

/// Decodes `input` as it is, under a true checksum, and as a list of fields; then sends extents that it spells
/// through a pack.
pub fn fuzz_one(input: &[u8]) {
    let mut spelled = Unstructured::new(input);
    let Ok(region) = region(&mut spelled) else { return };
    let rest = spelled.peek_bytes(spelled.len()).unwrap_or(&[]);
    check_decode(region, rest);
    check_decode(region, &sealed(region, rest));
    if let Ok(body) = body(&mut Unstructured::new(rest)) {
        check_decode(region, &sealed(region, &body));
    }
    if let Ok((extents, flip)) = flush(&mut spelled) {
        check_round_trip(&extents, flip);
    }
}

/// One of the regions where arithmetic could go wrong, or any.
fn region(input: &mut Unstructured<'_>) -> Result<u64> {
    Ok(match u8::arbitrary(input)? % 8 {
        n @ 0..4 => u64::from(n),
        4 | 5 => FILE_SIZE_MAX / REGION_SIZE,
        6 => FILE_SIZE_MAX / REGION_SIZE + 1,
        _ => u64::arbitrary(input)?,
    })
}

/// Adds a true checksum.
fn sealed(region: u64, body: &[u8]) -> Vec<u8> {
    [body, &(xxh3_64_with_seed(body, region) as u32).to_le_bytes()].concat()
}

/// A pack that is well-formed but for the numbers in it.
fn body(input: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    const ROWS: u8 = 2;
    let mut body = vec![1, ROWS];
    body.resize(2 + usize::from(ROWS) * SegmentId::LEN, 0xee);
    let count = u8::arbitrary(input)? % 8;
    body.push(count);
    let mut embedded = 0u64;
    for _ in 0..count {
        put(&mut body, number(input)?);
        let len = number(input)?;
        put(&mut body, len);
        let row = u64::from(u8::arbitrary(input)? % (ROWS + 2));
        put(&mut body, row);
        if row == 0 {
            embedded = embedded.saturating_add(len);
        } else {
            put(&mut body, number(input)?);
        }
    }
    body.resize(body.len() + embedded.min(2 * LOG_BYTES_MAX) as usize, 0x55);
    Ok(body)
}

/// A small number, one at or next to a bound (plain or as a signed distance), or any.
fn number(input: &mut Unstructured<'_>) -> Result<u64> {
    let choice = u8::arbitrary(input)?;
    let near = [0, REGION_SIZE, LOG_BYTES_MAX, u64::MAX / 2][usize::from(choice >> 6)];
    Ok(match choice % 8 {
        0..3 => u64::from(u8::arbitrary(input)?),
        3 => near.wrapping_sub(1),
        4 => near,
        5 => near * 2,
        6 => near.wrapping_mul(2).wrapping_sub(1),
        _ => u64::arbitrary(input)?,
    })
}

/// Appends a LEB128 number.
fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// What decodes is inside all bounds and survives a second encoding.
fn check_decode(region: u64, value: &[u8]) {
    let value = Bytes::copy_from_slice(value);
    let Ok(extents) = decode(region, &value) else { return };
    let mut embedded = 0;
    for extent in &extents {
        let end = extent.offset.checked_add(extent.len).expect("no overflow");
        assert!(extent.len > 0 && end <= FILE_SIZE_MAX);
        assert!(extent.offset / REGION_SIZE == region && (end - 1) / REGION_SIZE == region);
        match &extent.source {
            Source::Bytes(bytes) => {
                assert_eq!(bytes.len() as u64, extent.len);
                assert!(value.as_ptr_range().contains(&bytes.as_ptr()), "a slice of the value");
                embedded += extent.len;
            }
            Source::Segment { offset, .. } => {
                assert!(u64::from(*offset) + extent.len <= u64::from(SEGMENT_PAYLOAD_MAX));
            }
        }
    }
    assert!(embedded <= LOG_BYTES_MAX);
    assert_eq!(decode_all(&encode(&extents)), extents);
}

fn decode_all(packs: &[(u64, Bytes)]) -> Vec<LogExtent> {
    packs
        .iter()
        .flat_map(|(region, pack)| decode(*region, pack).expect("a pack just encoded"))
        .collect()
}

/// Extents near each other around borders of regions, and where to damage the pack.
fn flush(input: &mut Unstructured<'_>) -> Result<(Vec<LogExtent>, u16)> {
    let flip = u16::arbitrary(input)?;
    let mut extents = Vec::new();
    while !input.is_empty() && extents.len() < EXTENTS_MAX {
        let base = [0, REGION_SIZE - 128, 2 * REGION_SIZE - 300, FILE_SIZE_MAX - 600]
            [usize::from(u8::arbitrary(input)? % 4)];
        let offset = base + u64::from(u8::arbitrary(input)?);
        let len = u64::from(u8::arbitrary(input)?) + 1;
        let source = match u8::arbitrary(input)? % 8 {
            0 => Source::Bytes(Bytes::from(vec![extents.len() as u8; len as usize])),
            n => {
                let segment =
                    SegmentId { session: SessionId(u128::from(n % 2)), sequence: u64::from(n) };
                Source::Segment {
                    segment,
                    offset: u32::arbitrary(input)? % (SEGMENT_PAYLOAD_MAX - 256),
                }
            }
        };
        extents.push(LogExtent { offset, len, source });
    }
    Ok((extents, flip))
}

/// What is read back paints what was written, and a flipped bit is found.
fn check_round_trip(extents: &[LogExtent], flip: u16) {
    let packs = encode(extents);
    let mut left = decode_all(&packs);
    let total = |extents: &[LogExtent]| extents.iter().map(|extent| extent.len).sum::<u64>();
    assert_eq!(total(&left), total(extents));
    for extent in extents {
        let mut at = extent.offset;
        while at < extent.offset + extent.len {
            let region = at / REGION_SIZE;
            let border = ((region + 1) * REGION_SIZE).min(extent.offset + extent.len);
            // The first one left of a region is the next in the order of paint.
            let next = left.iter().position(|part| part.offset / REGION_SIZE == region);
            let part = left.remove(next.expect("nothing is lost"));
            assert_eq!((part.offset, part.len), (at, border - at));
            let mut source = extent.source.skip(at - extent.offset);
            if let Source::Bytes(bytes) = &mut source {
                bytes.truncate(part.len as usize);
            }
            assert_eq!(part.source, source);
            at = border;
        }
    }
    for (region, pack) in packs {
        let mut bad = pack.to_vec();
        bad[usize::from(flip >> 3) % pack.len()] ^= 1 << (flip & 7);
        assert!(decode(region, &Bytes::from(bad)).is_err(), "a flipped bit is found");
    }
}
