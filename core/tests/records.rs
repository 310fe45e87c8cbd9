//! Records of the metadata store: each reads back, and what nobody wrote is damage or one of them, byte for
//! byte. They carry no checksum: the log and the engine beneath them do.

use bytes::Bytes;
use proptest::prelude::*;
use vellum_core::id::{Ino, VolumeId};
use vellum_core::meta::acl::Acl;
use vellum_core::meta::record::*;
use vellum_core::port::control::Limit;
use vellum_core::port::meta_kv::AtomicOp;
use vellum_core::time::WallTime;

fn time() -> impl Strategy<Value = WallTime> {
    (prop_oneof![any::<i64>(), -2..3i64, Just(i64::MIN), Just(i64::MAX)], 0..1_000_000_000u32)
        .prop_map(|(secs, nanos)| WallTime::new(secs, nanos))
}

prop_compose! {
    fn core()(
        (mode, uid, gid, nlink) in any::<(u32, u32, u32, u32)>(),
        (rdev, flags) in any::<(u32, u16)>(),
        (generation, trunc_epoch, home, home_cookie) in any::<(u64, u64, u64, u64)>(),
        (btime, ctime) in (time(), time()),
    ) -> Core {
        let home = Ino(home);
        Core {
            mode, uid, gid, nlink, rdev, flags, generation, trunc_epoch, btime, ctime, home,
            home_cookie,
        }
    }
}

prop_compose! {
    fn volume()(
        (volume, hash_key) in any::<(u128, [u8; 16])>(),
        hash_bits in 1..=60u8,
        incarnation in any::<u32>(),
        created in time(),
    ) -> VolumeRecord {
        let volume = VolumeId(volume);
        VolumeRecord { format: FORMAT, volume, hash_key, hash_bits, incarnation, created }
    }
}

prop_compose! {
    fn dentry()(
        ino in any::<u64>(),
        kind in 0..16u32,
        name in proptest::collection::vec(any::<u8>(), 1..=255),
    ) -> Dentry {
        Dentry { ino: Ino(ino), kind: kind << 12, name: Bytes::from(name) }
    }
}

/// Bytes near a record: one byte of it is another one, or it is cut, or it is noise.
fn near(whole: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let len = whole.len();
    let cut = whole.clone();
    prop_oneof![
        (0..len, 1..=255u8).prop_map(move |(at, flip)| {
            let mut bytes = whole.clone();
            bytes[at] ^= flip;
            bytes
        }),
        (0..len).prop_map(move |to| cut[..to].to_vec()),
        proptest::collection::vec(any::<u8>(), 0..len + 2),
    ]
}

/// A record has one form.
fn canonical(decoded: &[u8], bytes: &[u8]) -> bool {
    decoded.len() == bytes.len()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn cores_read_back(core in core()) {
        prop_assert_eq!(Core::decode(&core.encode()), Ok(core));
    }

    #[test]
    fn volume_records_read_back(record in volume()) {
        let bytes = record.encode();
        prop_assert_eq!(VolumeRecord::format_of(&bytes), Ok(FORMAT));
        prop_assert_eq!(VolumeRecord::decode(&bytes), Ok(record));
    }

    #[test]
    fn dentries_read_back(dentry in dentry()) {
        prop_assert_eq!(Dentry::decode(&dentry.encode()), Ok(dentry));
    }

    #[test]
    fn damaged_records_are_refused_or_other_records(
        (core, volume, dentry) in (core(), volume(), dentry()).prop_flat_map(|(core, volume, dentry)| {
            let parts = [core.encode(), volume.encode(), dentry.encode()];
            let [core, volume, dentry] = parts.map(|bytes| near(bytes.to_vec()));
            (core, volume, dentry)
        }),
    ) {
        if let Ok(found) = Core::decode(&core) {
            prop_assert!(canonical(&found.encode(), &core));
            prop_assert_eq!(Core::decode(&found.encode()), Ok(found));
        }
        if let Ok(found) = VolumeRecord::decode(&volume) {
            prop_assert!((1..=60).contains(&found.hash_bits), "a hash that a name can have");
            prop_assert!(canonical(&found.encode(), &volume));
        }
        let dentry = Bytes::from(dentry);
        if let Ok(found) = Dentry::decode(&dentry) {
            prop_assert!((1..=255).contains(&found.name.len()));
            prop_assert_eq!(Dentry::decode(&found.encode()), Ok(found));
        }
    }

    #[test]
    fn small_values_read_back_and_bytes_of_other_lengths_do_not(
        (lo, hi) in any::<(u64, u64)>(),
        limit in any::<(Option<u64>, Option<u64>)>(),
        noise in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        prop_assert_eq!(decode_erase(&encode_erase(lo, hi)), Ok((lo, hi)));
        let some = |n: Option<u64>| n.filter(|n| *n != u64::MAX);
        let limit = Limit { bytes: some(limit.0), inodes: some(limit.1) };
        prop_assert_eq!(decode_limit(&encode_limit(limit)), Ok(limit));
        prop_assert_eq!(decode_erase(&noise).is_ok(), noise.len() == 16);
        prop_assert_eq!(decode_u64(&noise).is_ok(), noise.len() == 8);
        let nanos = noise.first_chunk().map(|nanos| u32::from_le_bytes(*nanos));
        let in_a_second = nanos.is_some_and(|nanos| nanos < 1_000_000_000);
        prop_assert_eq!(decode_time(&noise).is_ok(), noise.len() == 12 && in_a_second);
        let segment = SegmentRecord { len: lo, owner: Some(Ino(hi)).filter(|_| lo % 2 == 0) };
        prop_assert_eq!(SegmentRecord::decode(&segment.encode()), Ok(segment));
        prop_assert_eq!(SegmentRecord::decode(&noise).is_ok(), matches!(noise.len(), 8 | 16));
        prop_assert_eq!(Pair::decode(&noise).is_ok(), noise.len() == 16);
        prop_assert_eq!(decode_limit(&noise).is_ok(), noise.len() == 17 && noise[0] == 1);
        if let Ok(Some(acl)) = Acl::decode(&Bytes::from(noise)) {
            prop_assert_eq!(Acl::decode(&acl.encode()), Ok(Some(acl)));
        }
    }

    /// MAX keeps the later time, and ADD adds both halves of a pair.
    #[test]
    fn what_the_store_does_to_values_is_what_it_means(
        (a, b) in (time(), time()),
        (x, y) in any::<((i32, i32), (i32, i32))>(),
    ) {
        let kept = AtomicOp::Max.apply(Some(&encode_time(a)), &encode_time(b));
        prop_assert_eq!(decode_time(&kept), Ok(a.max(b)));
        let pair = |(hi, lo): (i32, i32)| Pair { hi: i64::from(hi), lo: i64::from(lo) };
        let sum = AtomicOp::Add.apply(Some(&pair(x).encode()), &pair(y).encode());
        let (x, y) = (pair(x), pair(y));
        prop_assert_eq!(Pair::decode(&sum), Ok(Pair { hi: x.hi + y.hi, lo: x.lo + y.lo }));
        let first = AtomicOp::Add.apply(None, &x.encode());
        prop_assert_eq!(Pair::decode(&first), Ok(x));
    }
}
