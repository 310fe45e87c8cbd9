//! The values of the metadata store as they were first written. A change that breaks one of these
//! needs a new version byte and a reader for the old bytes; the old lines stay.

use bytes::Bytes;
use vellum_core::error::FsError;
use vellum_core::id::{Ino, SegmentId, SessionId, VolumeId};
use vellum_core::meta::key;
use vellum_core::meta::name::Names;
use vellum_core::meta::record::*;
use vellum_core::time::WallTime;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn core() -> Core {
    Core {
        mode: 0o100_644,
        uid: 1000,
        gid: 100,
        nlink: 2,
        rdev: 0x0801,
        flags: flag::INLINE | flag::MTIME_SET,
        generation: 3,
        trunc_epoch: 4,
        btime: WallTime::new(1_700_000_000, 5),
        ctime: WallTime::new(-1, 999_999_999),
        home: Ino(0x0102_0304_0506_0708),
        home_cookie: 0x1122_3344,
    }
}

fn volume() -> VolumeRecord {
    VolumeRecord {
        format: 1,
        volume: VolumeId(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff),
        hash_key: *b"0123456789abcdef",
        hash_bits: 60,
        incarnation: 7,
        created: WallTime::new(1_700_000_000, 1),
    }
}

#[test]
fn records_keep_their_bytes() {
    let dentry = Dentry { ino: Ino(258), kind: 0o040_000, name: Bytes::from_static(b"name") };
    let golden = [
        (
            volume().encode(),
            "01000000ffeeddccbbaa99887766554433221100303132333435363738396162636465663c07000000\
             0100000000f1536500000080",
        ),
        (
            core().encode(),
            "01a4810000e803000064000000020000000108000003000300000000000000040000000000000005000000\
             00f1536500000080ffc99a3bffffffffffffff7f08070605040302014433221100000000",
        ),
        (dentry.encode(), "010201000000000000046e616d65"),
        (encode_erase(1, u64::MAX), "0100000000000000ffffffffffffffff"),
        (SegmentRecord { len: 258, owner: None }.encode(), "0201000000000000"),
        (
            SegmentRecord { len: 258, owner: Some(Ino(772)) }.encode(),
            "02010000000000000403000000000000",
        ),
    ];
    for (bytes, expected) in golden {
        assert_eq!(hex(&bytes), expected.replace([' ', '\n'], ""));
    }
    assert_eq!(hex(&encode_time(WallTime::new(-1, 7))), "07000000ffffffffffffff7f");
    assert_eq!(hex(&Pair { hi: 2, lo: -3 }.encode()), "fdffffffffffffff0100000000000000");
}

#[test]
fn records_read_back() {
    assert_eq!(Core::decode(&core().encode()), Ok(core()));
    assert_eq!(VolumeRecord::decode(&volume().encode()), Ok(volume()));
    let dentry = Dentry { ino: Ino(9), kind: 0o100_000, name: Bytes::from_static(b"x") };
    assert_eq!(Dentry::decode(&dentry.encode()), Ok(dentry));
    for pair in
        [Pair { hi: 5, lo: -1 }, Pair { hi: -1, lo: 1 }, Pair { hi: i64::MAX, lo: i64::MIN }]
    {
        assert_eq!(Pair::decode(&pair.encode()), Ok(pair));
    }
    let mut largest = [0xff; 16];
    largest[15] = 0x7f;
    let pair = Pair::decode(&largest).expect("any 16 bytes are a pair");
    assert_eq!(pair.encode(), largest);
    assert_eq!(decode_erase(&encode_erase(5, 9)), Ok((5, 9)));
}

#[test]
fn cut_or_padded_records_are_damaged() {
    for whole in [core().encode(), volume().encode(), encode_erase(1, 2)] {
        let longer: Vec<u8> = whole.iter().copied().chain([0]).collect();
        for bytes in (0..whole.len()).map(|n| &whole[..n]).chain([&longer[..]]) {
            let decoded = match whole.len() {
                16 => decode_erase(bytes).map(|_| ()),
                57 => VolumeRecord::decode(bytes).map(|_| ()),
                _ => Core::decode(bytes).map(|_| ()),
            };
            assert_eq!(decoded, Err(FsError::Damaged), "{} of {} bytes", bytes.len(), whole.len());
        }
    }
}

#[test]
fn a_time_with_more_nanoseconds_than_a_second_has_is_damaged() {
    let mut bytes = encode_time(WallTime::new(7, 999_999_999));
    assert_eq!(decode_time(&bytes), Ok(WallTime::new(7, 999_999_999)));
    bytes[..4].copy_from_slice(&1_000_000_000u32.to_le_bytes());
    assert_eq!(decode_time(&bytes), Err(FsError::Damaged));
}

#[test]
fn times_order_as_their_bytes_do_little_endian() {
    let times = [
        WallTime::new(i64::MIN, 0),
        WallTime::new(-1, 999_999_999),
        WallTime::new(0, 0),
        WallTime::new(0, 1),
        WallTime::new(1, 0),
        WallTime::new(i64::MAX, 999_999_999),
    ];
    for pair in times.windows(2) {
        let [a, b] =
            [pair[0], pair[1]].map(|t| encode_time(t).into_iter().rev().collect::<Vec<_>>());
        assert!(a < b, "{pair:?}");
        assert_eq!(decode_time(&encode_time(pair[0])), Ok(pair[0]));
    }
}

#[test]
fn keys_keep_their_bytes() {
    let segment = SegmentId { session: SessionId(1), sequence: 2 };
    let (log, at) = key::log_pack(Ino(1), 2, 3, 4, 5);
    let golden = [
        (hex(&key::volume()), "5a76"),
        (hex(&key::usage()), "5a75"),
        (hex(&key::groups()), "41"),
        (hex(&key::dentry(Ino(1), 4)), "4e00000000000000010000000000000004"),
        (hex(&key::inode(Ino(1), key::tag::CORE)), "49000000000000000110"),
        (
            hex(&log),
            "490000000000000001500000000000000002000000000000000300000004000000000000000000000005",
        ),
        (
            hex(&key::back_link(Ino(1), Ino(2), 4)),
            "50000000000000000100000000000000020000000000000004",
        ),
        (hex(&key::xattr(Ino(1), b"user.a")), "49000000000000000130757365722e61"),
        (hex(&key::inode(Ino(1), key::tag::XATTRS)), "49000000000000000122"),
        (hex(&key::garbage(Ino(1), 0)), "4700000000000000010000000000000000"),
        (hex(&key::segment(segment)), "55000000000000000000000000000000010000000000000002"),
    ];
    for (key, expected) in golden {
        assert_eq!(key, expected);
    }
    assert_eq!(at, 30, "the stamp lies behind the incarnation");
}

#[test]
fn a_name_keeps_its_place() {
    let names = Names::new(*b"0123456789abcdef", 60);
    assert_eq!(names.bucket(b"file.txt"), GOLDEN_BUCKET);
    assert_eq!(names.bucket(b"file.txt") % 4, 0);
    let narrow = Names::new(*b"0123456789abcdef", 3);
    assert!((0..100u8).all(|n| (4..=28).contains(&narrow.bucket(&[n]))));
}

const GOLDEN_BUCKET: u64 = 3_826_527_110_692_312_792;
