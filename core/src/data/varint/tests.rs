use super::{put, take, unzigzag, zigzag};
use alloc::vec::Vec;
use proptest::prelude::*;

const EDGES: [u64; 9] =
    [0, 1, 0x7f, 0x80, 0x3fff, 0x4000, (1 << 28) - 1, i64::MAX as u64, u64::MAX];

#[test]
fn numbers_round_trip_and_leave_the_rest() {
    for value in EDGES {
        let mut bytes = Vec::new();
        put(&mut bytes, value);
        bytes.push(0xaa);
        let mut input = &bytes[..];
        assert_eq!(take(&mut input), Some(value));
        assert_eq!(input, [0xaa]);
    }
}

#[test]
fn lengths_are_as_documented() {
    for (value, len) in [(0, 1), (0x7f, 1), (0x80, 2), ((1 << 28) - 1, 4), (u64::MAX, 10)] {
        let mut bytes = Vec::new();
        put(&mut bytes, value);
        assert_eq!(bytes.len(), len, "{value:#x}");
    }
}

#[test]
fn cut_padded_and_overlong_numbers_are_refused() {
    let cases: [&[u8]; 5] = [
        &[],
        &[0x80],
        &[0x81, 0x00],
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02],
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
    ];
    for case in cases {
        assert_eq!(take(&mut &case[..]), None, "{case:x?}");
    }
}

proptest! {
    #[test]
    fn what_is_taken_is_what_is_put(bytes in proptest::collection::vec(any::<u8>(), 0..12)) {
        let mut input = &bytes[..];
        if let Some(value) = take(&mut input) {
            let mut again = Vec::new();
            put(&mut again, value);
            prop_assert_eq!(&again[..], &bytes[..bytes.len() - input.len()]);
        }
    }

    #[test]
    fn zigzag_is_a_bijection(value in any::<i64>()) {
        prop_assert_eq!(unzigzag(zigzag(value)), value);
    }
}
