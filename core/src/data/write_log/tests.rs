use super::{DecodeError, LogExtent, Source, WRITTEN, checksum, decode, encode, entries};
use crate::id::{SegmentId, SessionId};
use crate::limits::{FILE_SIZE_MAX, LOG_BYTES_MAX, PACK_MAX, REGION_SIZE, SEGMENT_PAYLOAD_MAX};
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;
use proptest::prelude::*;

fn stored(offset: u64, len: u64, sequence: u64, payload_offset: u32) -> LogExtent {
    let segment = SegmentId { session: SessionId(0x1122_3344), sequence };
    LogExtent { offset, len, source: Source::Segment { segment, offset: payload_offset } }
}

fn embedded(offset: u64, content: Vec<u8>) -> LogExtent {
    LogExtent { offset, len: content.len() as u64, source: Source::Bytes(Bytes::from(content)) }
}

/// Decodes all packs of a flush.
fn decode_all(packs: &[(u64, Bytes)]) -> Vec<LogExtent> {
    packs
        .iter()
        .flat_map(|(region, pack)| decode(*region, pack).expect("a pack just encoded"))
        .collect()
}

/// A pack with a true checksum around any body.
fn pack(region: u64, body: &[u8]) -> Bytes {
    let mut value = body.to_vec();
    value.extend_from_slice(&checksum(region, body));
    Bytes::from(value)
}

#[test]
fn an_extent_over_a_border_is_cut_there() {
    let packs = encode(&[stored(REGION_SIZE - 10, 30, 1, 5)]);
    assert_eq!(
        packs.iter().map(|(region, pack)| entries(*region, pack)).collect::<Vec<_>>(),
        [Ok(1), Ok(1)]
    );
    assert_eq!(packs.iter().map(|(region, _)| *region).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(
        decode_all(&packs),
        [stored(REGION_SIZE - 10, 10, 1, 5), stored(REGION_SIZE, 20, 1, 15)]
    );
}

#[test]
fn packs_of_a_region_keep_the_order_of_paint() {
    let extents = [stored(100, 50, 2, 0), embedded(120, vec![7; 10]), stored(90, 30, 1, 4096)];
    let packs = encode(&extents);
    assert_eq!(packs.len(), 1);
    assert_eq!(decode_all(&packs), extents);
}

#[test]
fn many_extents_take_several_bounded_packs() {
    let extents: Vec<_> =
        (0..4096).map(|i| stored(i * 16384, 100 + i % 7, 1 + i % 200, i as u32 * 4099)).collect();
    let packs = encode(&extents);
    assert!(packs.len() > 4);
    assert!(packs.iter().all(|(_, pack)| pack.len() <= PACK_MAX));
    assert!(
        packs[..packs.len() - 1].iter().all(|(_, pack)| pack.len() > PACK_MAX - 64),
        "packs are filled"
    );
    assert_eq!(decode_all(&packs), extents);
}

#[test]
fn a_sequential_flush_takes_few_bytes() {
    let packs = encode(&[stored(3 * REGION_SIZE, 4 << 20, 1, 0)]);
    assert_eq!(packs.len(), 1);
    // Version, count, segment, count, then distance 0, length, index, distance 0, and the checksum.
    assert_eq!(packs[0].1.len(), 1 + 1 + 24 + 1 + (1 + 4 + 1 + 1) + 4);
}

#[test]
fn more_embedded_bytes_than_a_pack_may_have_take_several() {
    let content: Vec<u8> = (0..LOG_BYTES_MAX as usize + 100).map(|i| i as u8).collect();
    let packs = encode(&[embedded(50, content.clone())]);
    assert_eq!(packs.len(), 2);
    let mut joined = Vec::new();
    for extent in decode_all(&packs) {
        assert_eq!(extent.offset, 50 + joined.len() as u64);
        let Source::Bytes(bytes) = extent.source else { panic!("not embedded") };
        joined.extend_from_slice(&bytes);
    }
    assert_eq!(joined, content);
}

#[test]
fn embedded_bytes_are_not_copied() {
    let packs = encode(&[embedded(0, vec![9; 100])]);
    let extents = decode(0, &packs[0].1).expect("valid");
    let Source::Bytes(bytes) = &extents[0].source else { panic!("not embedded") };
    assert!(packs[0].1.as_ptr_range().contains(&bytes.as_ptr()));
}

#[test]
fn the_end_of_the_largest_file_can_be_written() {
    let extents = [stored(FILE_SIZE_MAX - 3, 3, 1, SEGMENT_PAYLOAD_MAX - 3)];
    let packs = encode(&extents);
    assert_eq!(packs[0].0, FILE_SIZE_MAX / REGION_SIZE);
    assert_eq!(decode_all(&packs), extents);
}

#[test]
fn a_pack_under_the_key_of_another_region_is_refused() {
    let packs = encode(&[stored(5, 5, 1, 0)]);
    assert_eq!(decode(1, &packs[0].1), Err(DecodeError::Checksum));
}

#[test]
fn every_flipped_byte_is_detected() {
    let mut extents: Vec<_> =
        (0..9).map(|i| stored(i * 5000, 4096, 1 + i % 3, i as u32 * 4096)).collect();
    extents.push(embedded(77, vec![0x5a; 70]));
    let region = 12;
    for extent in &mut extents {
        extent.offset += region * REGION_SIZE;
    }
    let packs = encode(&extents);
    let good = packs[0].1.to_vec();
    for at in 0..good.len() {
        for flip in 1..=255 {
            let mut bad = good.clone();
            bad[at] ^= flip;
            assert!(decode(region, &Bytes::from(bad)).is_err(), "byte {at} ^ {flip:#x}");
        }
    }
}

#[test]
fn every_prefix_is_refused() {
    let packs = encode(&[stored(5, 5, 1, 0), embedded(50, vec![1; 9])]);
    let good = &packs[0].1;
    for len in 0..good.len() {
        assert!(decode(0, &good.slice(..len)).is_err(), "{len} bytes");
    }
}

#[test]
fn wrong_fields_under_a_true_checksum_are_refused() {
    let id = stored(0, 1, 1, 0);
    let Source::Segment { segment, .. } = id.source else { unreachable!() };
    let head = |version: u8| [&[version, 1][..], &segment.to_bytes()].concat();
    let with = |extent: &[u8]| [&head(WRITTEN)[..], &[1], extent].concat();
    let last_region = FILE_SIZE_MAX / REGION_SIZE;
    let cases: [(u64, Vec<u8>, DecodeError); 14] = [
        (0, vec![], DecodeError::Cut),
        (0, [&head(0)[..], &[0]].concat(), DecodeError::Version(0)),
        (0, [&head(3)[..], &[0]].concat(), DecodeError::Version(3)),
        // A table, extents, and bytes that are announced and not there.
        (0, vec![WRITTEN, 1], DecodeError::Cut),
        (0, [&head(WRITTEN)[..], &[0xff, 0x7f]].concat(), DecodeError::Cut),
        (0, with(&[0, 5, 0, 1, 2, 3, 4]), DecodeError::Cut),
        (0, with(&[0, 2, 0, 1, 2, 3]), DecodeError::Trailing),
        // Offset -1, length 0, length beyond the region, sum beyond the largest file.
        (0, with(&[1, 1, 1, 0]), DecodeError::OutsideRegion),
        (0, with(&[0, 0, 1, 0]), DecodeError::OutsideRegion),
        (0, with(&[2, 0x80, 0x80, 0x80, 0x20, 1, 0]), DecodeError::OutsideRegion),
        (last_region, with(&[0, 0x80, 0x80, 0x80, 0x20, 1, 0]), DecodeError::OutsideRegion),
        (u64::MAX, with(&[0, 1, 1, 0]), DecodeError::OutsideRegion),
        // Row 2 of 1; payload offset -1.
        (0, with(&[0, 1, 2, 0]), DecodeError::NoSuchSegment),
        (0, with(&[0, 1, 1, 1]), DecodeError::OutsideSegment),
    ];
    for (region, body, expected) in cases {
        assert_eq!(decode(region, &pack(region, &body)), Err(expected), "{body:x?}");
    }
    assert_eq!(
        decode(0, &pack(0, &with(&[0, 1, 1, 0]))),
        Ok(vec![id]),
        "the cases differ in one field"
    );
}

#[test]
fn more_than_a_pack_can_hold_is_refused() {
    let len = LOG_BYTES_MAX as usize + 1;
    let mut body = vec![WRITTEN, 0, 1, 0];
    super::put(&mut body, len as u64);
    body.push(0);
    body.resize(body.len() + len, 0);
    assert_eq!(decode(0, &pack(0, &body)), Err(DecodeError::TooLong));
    assert_eq!(decode(0, &Bytes::from(vec![0; 100_000])), Err(DecodeError::TooLong));
}

/// Small, at a bound (plain or as a signed distance), or any.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 0..200u64,
        2 => prop::sample::select(vec![REGION_SIZE - 1, REGION_SIZE, 2 * REGION_SIZE, 2 * REGION_SIZE - 1]),
        1 => any::<u64>(),
    ]
}

fn extent() -> impl Strategy<Value = LogExtent> {
    // Around the borders of the first regions, and at the very end.
    let offset = prop_oneof![
        8 => (0..4u64, 0..200u64).prop_map(|(region, n)| (region * REGION_SIZE + n).saturating_sub(100)),
        1 => 0..4 * REGION_SIZE,
        1 => FILE_SIZE_MAX - 300..FILE_SIZE_MAX - 150,
    ];
    prop_oneof![
        3 => (offset.clone(), 1..150u64, 0..5u64, 0..SEGMENT_PAYLOAD_MAX - 150)
            .prop_map(|(offset, len, sequence, at)| stored(offset, len, sequence, at)),
        1 => (offset, proptest::collection::vec(any::<u8>(), 1..150))
            .prop_map(|(offset, content)| embedded(offset, content)),
    ]
}

/// Cuts at borders and orders by region, keeping the order within each: what a flush must come back as.
fn expected(extents: &[LogExtent]) -> Vec<LogExtent> {
    let mut parts = Vec::new();
    for extent in extents {
        let border = (extent.offset / REGION_SIZE + 1) * REGION_SIZE;
        let first = extent.len.min(border - extent.offset);
        let rest = extent.len - first;
        if rest > 0 {
            let source = extent.source.skip(first);
            parts.push(LogExtent { offset: border, len: rest, source });
        }
        let source = match &extent.source {
            Source::Bytes(bytes) => Source::Bytes(bytes.slice(..first as usize)),
            other => other.clone(),
        };
        parts.push(LogExtent { offset: extent.offset, len: first, source });
    }
    parts.sort_by_key(|part| part.offset / REGION_SIZE);
    parts
}

proptest! {
    #[test]
    fn packs_round_trip(extents in proptest::collection::vec(extent(), 0..60)) {
        let packs = encode(&extents);
        prop_assert_eq!(decode_all(&packs), expected(&extents));
        for (region, pack) in packs {
            let again = decode(region, &pack).expect("valid");
            prop_assert_eq!(encode(&again), vec![(region, pack)], "one encoding");
        }
    }

    #[test]
    fn any_numbers_under_a_true_checksum_decode_inside_their_region_or_not_at_all(
        region in prop_oneof![0..4u64, Just(FILE_SIZE_MAX / REGION_SIZE), any::<u64>()],
        rows in 0..3u8,
        extents in proptest::collection::vec((number(), number(), 0..4u64, number()), 0..4),
    ) {
        let mut body = vec![WRITTEN, rows];
        body.resize(2 + usize::from(rows) * SegmentId::LEN, 0xee);
        body.push(extents.len() as u8);
        let mut embedded = 0u64;
        for (distance, len, row, payload) in extents {
            super::put(&mut body, distance);
            super::put(&mut body, len);
            super::put(&mut body, row);
            if row > 0 {
                super::put(&mut body, payload);
            } else {
                embedded = embedded.saturating_add(len);
            }
        }
        body.resize(body.len() + embedded.min(2 * LOG_BYTES_MAX) as usize, 0x55);
        if let Ok(extents) = decode(region, &pack(region, &body)) {
            for extent in extents {
                prop_assert_eq!(extent.offset / REGION_SIZE, region);
                prop_assert!(extent.len > 0);
                let end = extent.offset.checked_add(extent.len).expect("no overflow");
                prop_assert!(end <= FILE_SIZE_MAX && (end - 1) / REGION_SIZE == region);
                match extent.source {
                    Source::Bytes(bytes) => prop_assert_eq!(bytes.len() as u64, extent.len),
                    Source::Segment { offset, .. } => {
                        prop_assert!(u64::from(offset) + extent.len <= u64::from(SEGMENT_PAYLOAD_MAX));
                    }
                }
            }
        }
    }

    #[test]
    fn random_bytes_never_decode(region in any::<u64>(), value in proptest::collection::vec(any::<u8>(), 0..300)) {
        // One in four billion would; the generator's seeds are not that lucky.
        prop_assert!(decode(region, &Bytes::from(value)).is_err());
    }
}
