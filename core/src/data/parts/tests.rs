use super::*;
use alloc::vec;
use proptest::prelude::*;

/// Places in file order with gaps between them, and a payload in pieces of other lengths.
fn layout(runs: &[(u64, u64)], piece: usize) -> (Vec<Bytes>, Vec<LogExtentPlace>) {
    let (mut offset, mut payload_offset) = (0, 0);
    let mut places = Vec::new();
    for (gap, len) in runs {
        offset += gap;
        places.push(LogExtentPlace { offset, len: *len, payload_offset });
        offset += len;
        payload_offset += *len as u32;
    }
    let bytes: Vec<u8> = (0..payload_offset).map(|n| n as u8).collect();
    (bytes.chunks(piece).map(Bytes::copy_from_slice).collect(), places)
}

#[test]
fn what_lies_in_one_region_stays_together() {
    let (payload, places) = layout(&[(0, 10), (5, 20), (1000, 7)], 4);
    let parts = split(&payload, &places, 0);
    assert_eq!(parts, [Part { payload, places, len: 37 }]);
    assert_eq!(split(&[], &[], 0), []);
}

#[test]
fn a_run_across_a_border_is_cut_there() {
    let (payload, places) = layout(&[(REGION_SIZE - 10, 30)], 16);
    let parts = split(&payload, &places, 1);
    let lens: Vec<u32> = parts.iter().map(|part| part.len).collect();
    assert_eq!(lens, [10, 20]);
    let second = LogExtentPlace { offset: REGION_SIZE, len: 20, payload_offset: 0 };
    assert_eq!(parts[1].places, [second]);
    assert_eq!(parts[1].payload.concat()[0], 10);
}

#[test]
fn regions_of_which_there_is_little_share_a_part() {
    let (payload, places) = layout(&[(0, 10), (REGION_SIZE, 50), (REGION_SIZE, 10)], 64);
    let parts = split(&payload, &places, 20);
    let lens: Vec<u32> = parts.iter().map(|part| part.len).collect();
    assert_eq!(lens, [70], "neither 10 at the front nor 10 at the end stand alone");
    let (payload, places) = layout(&[(0, 30), (REGION_SIZE, 50), (REGION_SIZE, 30)], 64);
    let lens: Vec<u32> = split(&payload, &places, 20).iter().map(|part| part.len).collect();
    assert_eq!(lens, [30, 50, 30]);
}

proptest! {
    /// Whatever the cuts: every byte is where it was, once, and no part that could be cut further is large.
    #[test]
    fn parts_are_the_whole(
        runs in prop::collection::vec((prop_oneof![1..100u64, Just(REGION_SIZE)], 1..200u64), 0..12),
        piece in 1..64usize,
        min in 0..300u64,
    ) {
        let (payload, places) = layout(&runs, piece);
        let parts = split(&payload, &places, min);
        let whole: Vec<u8> = parts.iter().flat_map(|part| part.payload.concat()).collect();
        prop_assert_eq!(&whole, &payload.concat());
        let mut bytes = vec![];
        for part in &parts {
            prop_assert_eq!(part.len as usize, part.payload.concat().len());
            prop_assert!(parts.len() == 1 || u64::from(part.len) >= min);
            let own = part.payload.concat();
            for place in &part.places {
                let range = place.payload_offset as usize..place.payload_offset as usize + place.len as usize;
                bytes.extend((place.offset..).zip(own[range].iter().copied()));
            }
        }
        let joined = payload.concat();
        let expected: Vec<(u64, u8)> = places
            .iter()
            .flat_map(|p| (0..p.len).map(|n| (p.offset + n, joined[(u64::from(p.payload_offset) + n) as usize])))
            .collect();
        prop_assert_eq!(bytes, expected);
    }
}
