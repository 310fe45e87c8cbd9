//! The bytes of page files: golden ones, damaged ones, and round trips.

use super::*;
use crate::id::SessionId;
use alloc::format;
use alloc::string::String;
use proptest::prelude::*;

const VOLUME: VolumeId = VolumeId(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff);
const NUMBER: u32 = 0x0102_0304;

fn id(sequence: u64) -> SegmentId {
    SegmentId { session: SessionId(0x1020_3040_5060_7080_90a0_b0c0_d0e0_f000), sequence }
}

fn records() -> [Record; 2] {
    [
        Record { offset: FIRST_RECORD, id: id(7), payload_len: 4097 },
        Record { offset: 9 * PAGE, id: id(8), payload_len: 1 },
    ]
}

fn mark() -> Mark {
    let holes = alloc::vec![(FIRST_RECORD + 2 * PAGE, PAGE), (0x0a_0000, 0x0b_0000)];
    Mark {
        next_file: 9,
        files: alloc::vec![FileMark { number: 5, end: 0x16_0000, holes }, FileMark::removed(6),],
    }
}

/// Hexadecimal digits, without the zeros at the end.
fn hex(bytes: &[u8]) -> String {
    let len = bytes.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
    bytes[..len].iter().map(|b| format!("{b:02x}")).collect()
}

/// Golden: these bytes were written once, and are read for ever.
#[test]
fn page_files_keep_their_bytes() {
    let mut dead = DeadMap::new();
    dead.set(FIRST_RECORD);
    let (at, sector) = dead.set(6 * PAGE);
    assert_eq!((at, sector.len()), (PAGE, SECTOR));
    let footer = encode_footer(VOLUME, NUMBER, 20 * PAGE, &records());
    assert_eq!(footer.len() as u64, PAGE);
    let written = [
        ("header", hex(&encode_header(VOLUME, NUMBER))),
        ("dead bits", hex(&sector[..SECTOR_BYTES])),
        ("dead checksum", hex(&sector[SECTOR_BYTES..])),
        ("entries", hex(&footer[..footer.len() - TRAILER])),
        ("trailer", hex(&footer[footer.len() - TRAILER..])),
        ("mark", hex(&mark().encode())),
    ];
    let golden = include_str!("../../../../tests/golden/page_file_v1.hex");
    let lines = golden.lines().filter(|line| !line.starts_with('#'));
    let lines: Vec<(&str, &str)> = lines.filter_map(|line| line.split_once(": ")).collect();
    let written: Vec<(&str, &str)> = written.iter().map(|(name, hex)| (*name, &hex[..])).collect();
    assert_eq!(written, lines, "the format changed");
    assert_eq!(Mark::decode(&mark().encode()), Some(mark()));
    let found = decode_footer(VOLUME, NUMBER, 20 * PAGE, &footer);
    assert_eq!(found.as_deref(), Some(&records()[..]));
    assert_eq!(footer_offset(&footer, 21 * PAGE), Some(20 * PAGE));
}

#[test]
fn every_flipped_byte_of_a_header_is_found() {
    let good = encode_header(VOLUME, NUMBER);
    assert!(is_header(&good, VOLUME, NUMBER));
    for at in 0..good.len() {
        let mut bad = good.to_vec();
        bad[at] ^= 1 << (at % 8);
        assert!(!is_header(&bad, VOLUME, NUMBER), "byte {at}");
        assert!(!is_header(&good[..at], VOLUME, NUMBER), "{at} bytes");
    }
    assert!(!is_header(&good, VOLUME, NUMBER + 1), "of another file");
    assert!(!is_header(&good, VolumeId(1), NUMBER), "of another volume");
}

/// A damaged sector forgets its own bits, and no damage makes a segment dead that is not.
#[test]
fn every_flipped_byte_of_a_dead_map_kills_nothing() {
    let mut map = DeadMap::new();
    let pages_of_a_sector = (SECTOR_BYTES * 8) as u64;
    let dead = [FIRST_RECORD, 77 * PAGE, (pages_of_a_sector + 3) * PAGE, FILE_BYTES_MAX - PAGE];
    let mut bytes = vec![0; (FIRST_RECORD - PAGE) as usize];
    for offset in dead {
        let (at, sector) = map.set(offset);
        let at = (at - PAGE) as usize;
        bytes[at..at + SECTOR].copy_from_slice(&sector);
    }
    let of = |map: &DeadMap| -> Vec<u64> {
        (0..FILE_BYTES_MAX / PAGE).map(|page| page * PAGE).filter(|at| map.is_dead(*at)).collect()
    };
    assert_eq!(of(&DeadMap::decode(&bytes)), dead);
    for at in (0..bytes.len()).filter(|at| at % 7 == 0 || at % SECTOR >= SECTOR_BYTES) {
        let mut bad = bytes.clone();
        bad[at] ^= 1 << (at % 8);
        let lost = |offset: &u64| (offset / PAGE / pages_of_a_sector) as usize == at / SECTOR;
        let expected: Vec<u64> = dead.iter().copied().filter(|offset| !lost(offset)).collect();
        assert_eq!(of(&DeadMap::decode(&bad)), expected, "byte {at}");
    }
}

prop_compose! {
    fn any_record()(
        page in 4..FILE_BYTES_MAX / PAGE,
        (session, sequence, payload_len) in any::<(u128, u64, u32)>(),
    ) -> Record {
        let id = SegmentId { session: SessionId(session), sequence };
        Record { offset: page * PAGE, id, payload_len }
    }
}

prop_compose! {
    fn any_file_mark()(
        (number, end) in (any::<u32>(), 0..=2 * FILE_BYTES_MAX),
        holes in proptest::collection::vec(any::<(u64, u64)>(), 0..5),
    ) -> FileMark {
        // A hole has bytes, and lies before the end.
        let hole = |(at, len): (u64, u64)| (at % end, 1 + len % (end - at % end));
        let holes = if end == 0 { Vec::new() } else { holes.into_iter().map(hole).collect() };
        FileMark { number, end, holes }
    }
}

proptest! {
    #[test]
    fn footers_read_back(records in proptest::collection::vec(any_record(), 0..300), number in any::<u32>()) {
        let footer = encode_footer(VOLUME, number, 8 * PAGE, &records);
        prop_assert!((footer.len() as u64).is_multiple_of(PAGE));
        prop_assert_eq!(decode_footer(VOLUME, number, 8 * PAGE, &footer), Some(records));
        prop_assert_eq!(decode_footer(VOLUME, number, 9 * PAGE, &footer), None, "elsewhere");
        prop_assert_eq!(decode_footer(VolumeId(1), number, 8 * PAGE, &footer), None);
    }

    #[test]
    fn marks_read_back(next_file in any::<u32>(), files in proptest::collection::vec(any_file_mark(), 0..6)) {
        let mark = Mark { next_file, files };
        prop_assert_eq!(Mark::decode(&mark.encode()), Some(mark));
    }

    #[test]
    fn noise_is_neither_a_mark_nor_a_footer(noise in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert_eq!(Mark::decode(&noise), None);
        prop_assert_eq!(decode_footer(VOLUME, NUMBER, PAGE, &noise), None);
        let _ = footer_offset(&noise, u64::MAX);
        prop_assert!(!is_header(&noise, VOLUME, NUMBER));
    }
}
