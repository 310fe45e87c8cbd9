//! Values and keys of the metadata store: anything decodes or is refused, and each record has one form.

use arbitrary::{Result, Unstructured};
use bytes::Bytes;
use vellum_core::error::{FsError, FsResult};
use vellum_core::id::{Ino, SegmentId, SessionId, VolumeId};
use vellum_core::limits::{BUCKET_SLOTS, NAME_MAX};
use vellum_core::meta::acl::Acl;
use vellum_core::meta::key;
use vellum_core::meta::name::{self, Names};
use vellum_core::meta::record::*;
use vellum_core::port::control::Limit;
use vellum_core::time::WallTime;

/// Decodes `input` as everything that it could be, then sends a record that it spells there and back.
pub fn fuzz_one(input: &[u8]) {
    let value = Bytes::copy_from_slice(input);
    check_values(&value);
    check_acl(input);
    check_key(input);
    let mut spelled = Unstructured::new(input);
    let _ = check_records(&mut spelled);
    let mut spelled = Unstructured::new(input);
    let _ = check_order(&mut spelled);
    check_name(input);
}

/// A record and a key of each kind.
pub fn seeds() -> Vec<(String, Vec<u8>)> {
    let time = WallTime::new(-1, 999_999_999);
    let core = Core {
        mode: 0o100_644,
        uid: 1000,
        gid: 100,
        nlink: 2,
        rdev: 0x0801,
        flags: flag::ALL,
        generation: 3,
        trunc_epoch: 4,
        btime: time,
        ctime: time,
        home: Ino(0x0102_0304),
        home_cookie: 0x1122_3344,
    };
    let volume = VolumeRecord {
        format: FORMAT,
        volume: VolumeId(0x77),
        hash_key: *b"0123456789abcdef",
        hash_bits: 60,
        incarnation: 7,
        created: time,
    };
    let dentry = Dentry { ino: Ino(258), kind: 0o040_000, name: Bytes::from_static(b"name") };
    let limit = Limit { bytes: Some(1 << 30), inodes: None };
    let id = SegmentId { session: SessionId(1), sequence: 2 };
    let acl: &[(u16, u16, u32)] =
        &[(1, 7, !0), (2, 5, 1000), (4, 4, !0), (8, 1, 50), (16, 7, !0), (32, 0, !0)];
    let mut acl_value = vec![2, 0, 0, 0];
    for (kind, perm, id) in acl {
        acl_value.extend([kind.to_le_bytes(), perm.to_le_bytes()].concat());
        acl_value.extend(id.to_le_bytes());
    }
    let values = [
        ("core", core.encode().to_vec()),
        ("volume", volume.encode().to_vec()),
        ("dentry", dentry.encode().to_vec()),
        ("erase", encode_erase(1, u64::MAX).to_vec()),
        ("limit", encode_limit(limit).to_vec()),
        ("time", encode_time(time).to_vec()),
        ("pair", Pair { hi: 2, lo: -3 }.encode().to_vec()),
        ("acl", acl_value),
        ("key_dentry", key::dentry(Ino(1), 4).to_vec()),
        ("key_log", key::log_pack(Ino(1), 2, 3, 4, 5).0.to_vec()),
        ("key_erase", key::erase(Ino(1), 2, 3, 4).0.to_vec()),
        ("key_xattr", key::xattr(Ino(1), b"user.a").to_vec()),
        ("key_link", key::back_link(Ino(1), Ino(2), 4).to_vec()),
        ("key_garbage", key::garbage(Ino(1), u64::MAX).to_vec()),
        ("key_segment", key::segment(id).to_vec()),
        ("key_fence", key::fence(SessionId(9)).to_vec()),
        ("key_slot", key::slot(SessionId(9), 3).to_vec()),
    ];
    values.into_iter().map(|(name, bytes)| (name.to_owned(), bytes)).collect()
}

/// Whatever decodes is encoded to the very same bytes.
fn check_values(value: &Bytes) {
    fn same<T>(value: &[u8], decoded: FsResult<T>, encode: impl Fn(T) -> Vec<u8>) {
        match decoded {
            Ok(record) => assert_eq!(encode(record), value, "one form for each record"),
            Err(error) => assert_eq!(error, FsError::Damaged),
        }
    }
    same(value, Core::decode(value), |core| {
        assert_eq!(core.is_dir(), core.kind() == 0o040_000);
        core.encode().to_vec()
    });
    same(value, VolumeRecord::decode(value), |volume| {
        assert!((1..=60).contains(&volume.hash_bits));
        volume.encode().to_vec()
    });
    same(value, Dentry::decode(value), |dentry| {
        assert!((1..=NAME_MAX).contains(&dentry.name.len()));
        dentry.encode().to_vec()
    });
    same(value, decode_time(value), |time| encode_time(time).to_vec());
    same(value, Pair::decode(value), |pair| pair.encode().to_vec());
    same(value, decode_u64(value), |number| number.to_le_bytes().to_vec());
    same(value, decode_limit(value), |limit| encode_limit(limit).to_vec());
    same(value, decode_erase(value), |(lo, hi)| encode_erase(lo, hi).to_vec());
    let format = VolumeRecord::format_of(value);
    assert_eq!(format.is_ok(), value.len() >= 4);
}

/// An ACL keeps its meaning on the way there and back, and agrees with the mode that it is given.
fn check_acl(value: &[u8]) {
    let mut acl = match Acl::decode(value) {
        Ok(Some(acl)) => acl,
        Ok(None) => return assert_eq!(value, [2, 0, 0, 0]),
        Err(error) => return assert!(matches!(error, FsError::Invalid | FsError::NotSupported)),
    };
    let encoded = acl.encode();
    assert_eq!(encoded.len(), value.len());
    assert_eq!(Acl::decode(&encoded), Ok(Some(acl.clone())));
    assert!(acl.mode() <= 0o777);
    let wanted = u32::from(value[value.len() / 2]) << 1 & 0o777;
    let mut inherited = acl.clone();
    let mode = inherited.inherit(0o104_000 | wanted);
    assert_eq!(mode, 0o104_000 | (wanted & acl.mode()), "no more than both allow");
    assert_eq!(inherited.mode(), mode & 0o777);
    acl.set_mode(wanted);
    assert_eq!(acl.mode(), wanted);
    assert_eq!(acl.is_minimal(), acl.encode().len() == 4 + 3 * 8);
    assert_eq!(Acl::decode(&acl.encode()), Ok(Some(acl)));
}

/// A key that can be taken apart can be put together again.
fn check_key(bytes: &[u8]) {
    if let Some((dir, cookie)) = key::parse_dentry(bytes) {
        assert_eq!(key::dentry(dir, cookie)[..], *bytes);
    }
    if let Some((ino, tag, rest)) = key::parse_inode(bytes) {
        assert_eq!([&key::inode(ino, tag)[..], rest].concat(), bytes);
        check_inode_rest(ino, tag, rest, bytes);
    }
    if let Some((ino, parent, cookie)) = key::parse_back_link(bytes) {
        assert_eq!(key::back_link(ino, parent, cookie)[..], *bytes);
    }
    if let Some((ino, generation)) = key::parse_garbage(bytes) {
        assert_eq!(key::garbage(ino, generation)[..], *bytes);
    }
    if let Some(id) = key::parse_segment(bytes) {
        assert_eq!(key::segment(id)[1..], bytes[1..]);
        assert_eq!(key::live_bytes(id)[1..], bytes[1..]);
    }
    if key::is_session(bytes) {
        let session = SessionId(u128::from_be_bytes(bytes[1..17].try_into().expect("16 bytes")));
        let slot = bytes.get(18..22).map_or(0, |s| u32::from_be_bytes(s.try_into().expect("4")));
        let known = [key::fence(session), key::slot(session, slot)];
        assert!(known.iter().any(|known| known[..] == *bytes));
    }
}

/// The part of an inode's key behind the tag.
fn check_inode_rest(ino: Ino, tag: u8, rest: &[u8], whole: &[u8]) {
    assert_eq!(key::whole_inode(ino).contains(whole), tag < 0xff);
    assert_eq!(key::attrs(ino).contains(whole), tag < key::tag::ATTR_END);
    if let Some((generation, region)) = key::parse_log(rest) {
        let mut whole = key::inode(ino, key::tag::LOG);
        whole.push(rest);
        assert!(key::log_region(ino, generation, region).contains(&whole));
        assert!(key::log_generation(ino, generation).contains(&whole));
        assert!(key::log_all(ino).contains(&whole));
        assert_eq!(key::paint_order(&whole).expect("an order")[..], rest[16..]);
    }
    if let Some(generation) = key::parse_erase(rest) {
        let mut whole = key::inode(ino, key::tag::ERASE);
        whole.push(rest);
        assert!(key::erases(ino, generation).contains(&whole));
    }
}

/// Records with any fields are read back.
fn check_records(input: &mut Unstructured<'_>) -> Result<()> {
    fn time(input: &mut Unstructured<'_>) -> Result<WallTime> {
        Ok(WallTime::new(input.arbitrary()?, input.arbitrary()?))
    }
    let core = Core {
        mode: input.arbitrary()?,
        uid: input.arbitrary()?,
        gid: input.arbitrary()?,
        nlink: input.arbitrary()?,
        rdev: input.arbitrary()?,
        flags: input.arbitrary()?,
        generation: input.arbitrary()?,
        trunc_epoch: input.arbitrary()?,
        btime: time(input)?,
        ctime: time(input)?,
        home: Ino(input.arbitrary()?),
        home_cookie: input.arbitrary()?,
    };
    assert_eq!(Core::decode(&core.encode()), Ok(core));
    let pair = Pair { hi: input.arbitrary()?, lo: input.arbitrary()? };
    // The upper half borrows from the lower one: at the very end there is nothing to borrow.
    if pair.hi > i64::MIN || pair.lo >= 0 {
        assert_eq!(Pair::decode(&pair.encode()), Ok(pair));
    }
    let limit = Limit { bytes: input.arbitrary()?, inodes: input.arbitrary()? };
    let none_at_max = |n: Option<u64>| n.filter(|n| *n != u64::MAX);
    let meant = Limit { bytes: none_at_max(limit.bytes), inodes: none_at_max(limit.inodes) };
    assert_eq!(decode_limit(&encode_limit(limit)), Ok(meant));
    Ok(())
}

/// Keys order as their parts do, times as their bytes do from the last to the first.
fn check_order(input: &mut Unstructured<'_>) -> Result<()> {
    let (a, b): ((u64, u64), (u64, u64)) = (input.arbitrary()?, input.arbitrary()?);
    let dentry = |(dir, cookie)| key::dentry(Ino(dir), cookie);
    assert_eq!(dentry(a).cmp(&dentry(b)), a.cmp(&b));
    let log = |(generation, region)| key::log_pack(Ino(7), generation, region, 1, 2).0;
    assert_eq!(log(a).cmp(&log(b)), a.cmp(&b));
    let segment = |(session, sequence)| {
        key::segment(SegmentId { session: SessionId(u128::from(session)), sequence })
    };
    assert_eq!(segment(a).cmp(&segment(b)), a.cmp(&b));
    let time = |(secs, nanos): (u64, u64)| WallTime::new(secs as i64, nanos as u32);
    let bytes = |t| encode_time(time(t)).into_iter().rev().collect::<Vec<_>>();
    assert_eq!(bytes(a).cmp(&bytes(b)), time(a).cmp(&time(b)));
    Ok(())
}

/// A name that passes the check has a place of its own.
fn check_name(bytes: &[u8]) {
    let sound = !bytes.is_empty() && bytes.len() <= NAME_MAX && !bytes.contains(&0);
    let sound = sound && !bytes.contains(&b'/');
    assert_eq!(name::check(bytes).is_ok(), sound);
    assert_eq!(name::check_entry(bytes).is_ok(), sound && !matches!(bytes, b"." | b".."));
    let bits = bytes.first().copied().unwrap_or(60);
    let place = Names::new(*b"0123456789abcdef", bits).bucket(bytes);
    assert!((BUCKET_SLOTS..1 << 62).contains(&place) && place.is_multiple_of(BUCKET_SLOTS));
}
