//! The format's promises.

use super::*;
use crate::id::SessionId;
use proptest::prelude::*;

const VOLUME: VolumeId = VolumeId(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff);

fn id(sequence: u64) -> SegmentId {
    SegmentId { session: SessionId(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10), sequence }
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + i / 251) as u8).collect()
}

fn draft(sequence: u64, payload: &[u8], cuts: &[usize]) -> SegmentDraft {
    let mut pieces = Vec::new();
    let mut at = 0;
    for cut in cuts.iter().copied().chain([payload.len()]) {
        let cut = cut.clamp(at, payload.len());
        pieces.push(Bytes::copy_from_slice(&payload[at..cut]));
        at = cut;
    }
    SegmentDraft { id: id(sequence), payload: pieces, len: payload.len() as u32 }
}

fn encode(draft: &SegmentDraft) -> Vec<u8> {
    let mut out = encode_head(VOLUME, draft).to_vec();
    draft.payload.iter().for_each(|piece| out.extend_from_slice(piece));
    out.extend_from_slice(&padding(draft.len));
    out
}

/// Decodes and verifies everything.
fn check(stored: &[u8]) -> Result<Head, ()> {
    let head = decode_head(VOLUME, stored).map_err(drop)?;
    let frames = head.frame_range(0, head.payload_len()).ok_or(())?;
    let payload = stored.get(frames.bytes.start as usize..frames.bytes.end as usize).ok_or(())?;
    head.verify(0, payload).map_err(drop)?;
    Ok(head)
}

#[test]
fn lengths_are_multiples_of_a_frame() {
    for (len, head, physical) in [
        (0, 4096, 4096),
        (1, 4096, 8192),
        (4096, 4096, 8192),
        (4097, 4096, 12288),
        (504 * 4096, 4096, 505 * 4096),
        (504 * 4096 + 1, 8192, 507 * 4096),
    ] {
        assert_eq!((head_len(len), physical_len(len)), (head, physical), "{len}");
        assert_eq!(encode(&draft(1, &bytes(len as usize), &[])).len() as u64, physical);
    }
}

#[test]
fn every_flipped_bit_is_found() {
    let good = encode(&draft(7, &bytes(4096 * 2 + 100), &[]));
    assert!(check(&good).is_ok());
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        assert!(check(&bad).is_err(), "byte {at}");
    }
}

#[test]
fn every_truncation_is_found() {
    let good = encode(&draft(7, &bytes(5000), &[]));
    for len in 0..good.len() {
        assert!(check(&good[..len]).is_err(), "{len} bytes");
    }
}

#[test]
fn sums_tell_places_apart() {
    let head = |sequence, payload: &[u8]| check(&encode(&draft(sequence, payload, &[]))).unwrap();
    let twice = [bytes(4096), bytes(4096)].concat();
    let one = head(1, &twice);
    assert_ne!(one.sums[0], one.sums[1], "equal frames of one segment");
    assert_ne!(one.sums[0], head(2, &twice).sums[0], "equal frames of two segments");
    let moved = Head { seed: head(2, &twice).seed, ..one.clone() };
    assert_eq!(one.verify(0, &twice[..4096]), Ok(()));
    assert_eq!(moved.verify(0, &twice[..4096]), Err(BadFrame { frame: 0 }));
    assert_eq!(one.verify(2, &twice[..4096]), Err(BadFrame { frame: 2 }), "beyond the end");
    assert_eq!(one.verify(0, &twice[..4095]), Err(BadFrame { frame: 0 }), "not whole");
}

#[test]
fn heads_of_others_are_told_apart() {
    let stored = encode(&draft(1, &bytes(10), &[]));
    assert_eq!(decode_head(VolumeId(1), &stored), Err(HeadError::OtherVolume));
    assert_eq!(decode_head(VOLUME, &[0; 4096]), Err(HeadError::NotASegment));
    assert_eq!(decode_head(VOLUME, &stored[..63]), Err(HeadError::Short));
    assert_eq!(decode_head(VOLUME, &stored[..100]), Err(HeadError::Short));
}

#[test]
fn frame_ranges_cover_what_was_asked() {
    let head = check(&encode(&draft(1, &bytes(10_000), &[]))).unwrap();
    let frames = |first, bytes, skip| Some(Frames { first, bytes, skip });
    assert_eq!(head.frame_range(0, 1), frames(0, 4096..8192, 0));
    assert_eq!(head.frame_range(4095, 2), frames(0, 4096..12288, 4095));
    assert_eq!(head.frame_range(8192, 1808), frames(2, 12288..16384, 0));
    assert_eq!(head.frame_range(9999, 2), None);
    assert_eq!(head.frame_range(u32::MAX, 2), None);
}

/// The bytes of format 1, as written by the first release. They may never change.
#[test]
fn golden_head_is_byte_for_byte_the_same() {
    let head = encode_head(VOLUME, &draft(3, &bytes(5000), &[]));
    let golden = include_bytes!("golden-v1.head");
    assert_eq!(&head[..80], &golden[..], "the segment format changed");
    assert!(head[80..].iter().all(|b| *b == 0));
}

proptest! {
    #[test]
    fn cutting_the_payload_changes_nothing(
        len in 0usize..20_000,
        cuts in proptest::collection::vec(0usize..20_000, 0..12),
    ) {
        let mut cuts = cuts;
        cuts.sort();
        let payload = bytes(len);
        let whole = encode(&draft(1, &payload, &[]));
        let cut = encode(&draft(1, &payload, &cuts));
        prop_assert!(whole == cut);
        prop_assert!(check(&cut).is_ok());
    }

    /// What is read of any range is what was written, and damage in its frames is found.
    #[test]
    fn any_range_reads_back_or_not_at_all(
        len in 1usize..20_000,
        (from, to) in any::<(prop::sample::Index, prop::sample::Index)>(),
        (at, flip) in (any::<prop::sample::Index>(), 1..=255u8),
    ) {
        let payload = bytes(len);
        let mut stored = encode(&draft(1, &payload, &[]));
        let head = check(&stored).expect("a segment");
        let (from, to) = (from.index(len).min(to.index(len)), from.index(len).max(to.index(len)) + 1);
        let frames = head.frame_range(from as u32, (to - from) as u32).expect("inside");
        let whole = frames.bytes.start as usize..frames.bytes.end as usize;
        prop_assert_eq!(head.verify(frames.first, &stored[whole.clone()]), Ok(()));
        let begin = whole.start + frames.skip;
        prop_assert!(stored[begin..begin + to - from] == payload[from..to]);
        let at = at.index(stored.len());
        stored[at] ^= flip;
        let damaged = head.verify(frames.first, &stored[whole.clone()]).is_err();
        prop_assert_eq!(damaged, whole.contains(&at), "byte {} of {:?}", at, whole);
    }

    #[test]
    fn garbage_never_panics(garbage in proptest::collection::vec(any::<u8>(), 0..300), at in 0usize..200) {
        let mut stored = encode(&draft(1, &bytes(100), &[]));
        let at = at.min(stored.len());
        let end = (at + garbage.len()).min(stored.len());
        stored[at..end].copy_from_slice(&garbage[..end - at]);
        let _ = check(&stored);
        let _ = check(&garbage);
    }
}
