//! Life of a volume directory.

use bytes::Bytes;
use std::fs;
use tempfile::TempDir;
use vellum_core::id::{SegmentId, SessionId};
use vellum_core::port::meta_kv::{
    CommitRequest, Key, KvReply, Mutation, Read, ReadRound, Values, Version,
};
use vellum_core::port::page_store::{PageError, SegmentDraft};
use vellum_drivers::{LocalVolume, OpenMode, VolumeError};

fn set(key: &str, value: &str) -> CommitRequest {
    let (key, value) = (Key::new(key.as_bytes()), Bytes::copy_from_slice(value.as_bytes()));
    CommitRequest { mutations: vec![Mutation::Set { key, value }], ..CommitRequest::default() }
}

fn value(volume: &LocalVolume, key: &str) -> Option<Bytes> {
    let reads = vec![Read::Get(Key::new(key.as_bytes()))];
    match volume.kv.read(&ReadRound { at: None, reads }).unwrap() {
        KvReply::Values { values, .. } => match &values[..] {
            [Values::One(value)] => value.clone(),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

fn draft(sequence: u64, len: usize) -> SegmentDraft {
    let id = SegmentId { session: SessionId(9), sequence };
    let bytes: Bytes = (0..len).map(|i| (i as u64 * 7 + sequence) as u8).collect::<Vec<_>>().into();
    SegmentDraft { id, len: len as u32, payload: vec![bytes] }
}

#[test]
fn what_was_synced_is_there_after_reopening() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("v");
    let volume = LocalVolume::open(&path, OpenMode::CreateIfEmpty).unwrap();
    assert!(volume.created);
    let id = volume.id;
    let first = volume.kv.commit(set("a", "1")).unwrap();
    let segment = draft(1, 10_000);
    volume.pages.append(segment.clone()).unwrap();
    assert!(volume.kv.sync(first.version).unwrap() >= first.version);
    assert_eq!(value(&volume, "a").as_deref(), Some(&b"1"[..]));
    drop(volume);

    let volume = LocalVolume::open(&path, OpenMode::MustExist).unwrap();
    assert!(!volume.created);
    assert_eq!(volume.id, id);
    assert_eq!(value(&volume, "a").as_deref(), Some(&b"1"[..]));
    let read = volume.pages.read(segment.id, 5000, 2000).unwrap();
    assert_eq!(read, segment.payload[0].slice(5000..7000));
    let next = volume.kv.commit(set("b", "2")).unwrap();
    assert!(next.version > first.version, "versions go on");
}

#[test]
fn versions_never_return_even_if_nothing_was_committed() {
    let dir = TempDir::new().unwrap();
    let mut last = Version(0);
    for _ in 0..3 {
        let volume = LocalVolume::open(dir.path(), OpenMode::CreateIfEmpty).unwrap();
        assert!(volume.kv.last() > last);
        last = volume.kv.last();
    }
}

#[test]
fn a_second_open_is_refused_and_names_the_holder() {
    let dir = TempDir::new().unwrap();
    let _held = LocalVolume::open(dir.path(), OpenMode::CreateIfEmpty).unwrap();
    let error = LocalVolume::open(dir.path(), OpenMode::MustExist).err().unwrap();
    assert!(
        matches!(&error, VolumeError::InUse { holder, .. } if *holder == std::process::id().to_string())
    );
}

#[test]
fn directories_of_others_are_refused() {
    let dir = TempDir::new().unwrap();
    let error = LocalVolume::open(dir.path(), OpenMode::MustExist).err().unwrap();
    assert!(matches!(error, VolumeError::NotAVolume { .. }));
    fs::write(dir.path().join("thesis.tex"), "precious").unwrap();
    let error = LocalVolume::open(dir.path(), OpenMode::CreateIfEmpty).err().unwrap();
    assert!(matches!(&error, VolumeError::NotEmpty { found, .. } if found == "thesis.tex"));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing was added");
}

#[test]
fn future_and_damaged_identities_are_refused() {
    let dir = TempDir::new().unwrap();
    drop(LocalVolume::open(dir.path(), OpenMode::CreateIfEmpty).unwrap());
    let identity = dir.path().join("VELLUM");
    let good = fs::read_to_string(&identity).unwrap();
    fs::write(&identity, good.replace("format 1", "format 2")).unwrap();
    let error = LocalVolume::open(dir.path(), OpenMode::MustExist).err().unwrap();
    assert!(matches!(error, VolumeError::FutureFormat { found: 2, known: 1, .. }));
    for (text, line) in
        [("", 1), ("vellum volume\nformat x", 2), ("vellum volume\nformat 1\nid zz", 3)]
    {
        fs::write(&identity, text).unwrap();
        let error = LocalVolume::open(dir.path(), OpenMode::CreateIfEmpty).err().unwrap();
        assert!(matches!(error, VolumeError::Identity { line: l, .. } if l == line), "{error}");
    }
    fs::write(&identity, good).unwrap();
    LocalVolume::open(dir.path(), OpenMode::MustExist).unwrap();
}

#[test]
fn try_read_answers_from_the_page_cache_or_not_at_all() {
    let dir = TempDir::new().unwrap();
    let volume = LocalVolume::open(dir.path(), OpenMode::CreateIfEmpty).unwrap();
    let segment = draft(1, 100_000);
    volume.pages.append(segment.clone()).unwrap();
    for _ in 0..2 {
        // Just written: in the cache, unless the machine is short of memory.
        let read = volume.pages.try_read(segment.id, 40_000, 20_000).expect("cached").unwrap();
        assert_eq!(read, segment.payload[0].slice(40_000..60_000));
    }
    let missing = draft(2, 1).id;
    assert!(matches!(volume.pages.try_read(missing, 0, 1), Some(Err(PageError::Missing))));
    assert!(matches!(volume.pages.try_read(segment.id, 99_999, 2), Some(Err(_))));
}
