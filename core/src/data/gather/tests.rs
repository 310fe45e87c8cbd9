use super::*;
use crate::id::SessionId;
use proptest::prelude::*;

const KIB: u32 = 1 << 10;

fn part(sequence: u64, offset: u32, len: u32) -> Part {
    Part { segment: SegmentId { session: SessionId(1), sequence }, offset, len }
}

#[test]
fn two_segments_that_alternate_are_two_reads() {
    let parts = (0..8).map(|n| part(n % 2 + 1, n as u32 * 4 * KIB, 4 * KIB)).collect();
    let gather = Gather::new(parts, 16 * KIB);
    assert_eq!(gather.reads(), [part(1, 0, 28 * KIB), part(2, 4 * KIB, 28 * KIB)]);
}

#[test]
fn what_lies_too_far_apart_is_read_apart() {
    let parts = vec![part(1, 0, KIB), part(1, 17 * KIB + 1, KIB), part(1, 34 * KIB + 1, KIB)];
    let gather = Gather::new(parts, 16 * KIB);
    assert_eq!(gather.reads(), [part(1, 0, KIB), part(1, 17 * KIB + 1, 18 * KIB)]);
}

#[test]
fn no_read_is_longer_than_a_request_but_for_a_part_that_is() {
    let parts = (0..40).map(|n| part(1, n * 64 * KIB, 60 * KIB)).collect();
    assert!(Gather::new(parts, 16 * KIB).reads().iter().all(|read| read.len <= IO_SIZE_MAX));
    let long = part(1, 0, 3 * IO_SIZE_MAX);
    assert_eq!(Gather::new(vec![long], 0).reads(), [long]);
    let end = u32::MAX;
    let parts = vec![part(1, end - 10, 10), part(1, 0, 10), part(1, end - 30, 10)];
    let reads = [part(1, 0, 10), part(1, end - 30, 30)];
    assert_eq!(Gather::new(parts, u32::MAX / 2).reads(), reads);
}

proptest! {
    #[test]
    fn every_part_lies_in_its_read(
        parts in prop::collection::vec((1u64..4, 0u32..4 << 20, 1u32..200 << 10), 1..60),
        gap in 0u32..128 << 10,
    ) {
        let parts: Vec<Part> = parts.into_iter().map(|(s, at, len)| part(s, at, len)).collect();
        let gather = Gather::new(parts.clone(), gap);
        // What is at each place of a segment is known by the place.
        let byte = |at: u32| (at ^ at >> 8 ^ at >> 16) as u8;
        let replies: Vec<_> = gather
            .reads()
            .iter()
            .map(|read| Ok(PageReply::Data((read.offset..read.offset + read.len).map(byte).collect())))
            .collect();
        for (n, part) in parts.iter().enumerate() {
            let bytes = gather.part(n, &replies).expect("it was read");
            prop_assert!(bytes.iter().copied().eq((part.offset..part.offset + part.len).map(byte)));
        }
        let mut reads = gather.reads().to_vec();
        reads.sort();
        prop_assert_eq!(&reads, gather.reads());
        prop_assert!(reads.windows(2).all(|two| !joins(&two[0], &two[1], gap)));
    }
}
