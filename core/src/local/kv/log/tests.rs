//! The bytes of the commit log: golden ones, damaged ones, and round trips. What a start makes of whole logs
//! is tested next door.

use super::*;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use proptest::prelude::*;

/// A file that is there to be read.
#[derive(Clone)]
struct Fixed(Bytes);

impl File for Fixed {
    fn len(&self) -> Result<u64, MediumError> {
        Ok(self.0.len() as u64)
    }
    fn read(&self, offset: u64, len: usize) -> Result<Bytes, MediumError> {
        let begin = usize::try_from(offset).unwrap_or(usize::MAX).min(self.0.len());
        Ok(self.0.slice(begin..begin.saturating_add(len).min(self.0.len())))
    }
    fn write(&self, _: u64, _: &[Bytes]) -> Result<(), MediumError> {
        Err(MediumError::Io)
    }
    fn sync(&self) -> Result<(), MediumError> {
        Err(MediumError::Io)
    }
    fn punch(&self, _: u64, _: u64) -> Result<(), MediumError> {
        Err(MediumError::Io)
    }
    fn truncate(&self, _: u64) -> Result<(), MediumError> {
        Err(MediumError::Io)
    }
}

fn every_kind() -> Vec<Mutation> {
    let key = |name: &str| Key::new(name.as_bytes());
    let operand = |bytes: &[u8]| SmallVec::from_slice(bytes);
    vec![
        Mutation::Set { key: key("a"), value: Bytes::from_static(b"value") },
        Mutation::Clear { key: key("bb") },
        Mutation::ClearRange { range: KeyRange { begin: key("c"), end: key("dd") } },
        Mutation::Atomic { key: key("e"), op: AtomicOp::Add, operand: operand(&[1, 2, 3]) },
        Mutation::Atomic { key: key("f"), op: AtomicOp::Max, operand: operand(&[255]) },
        Mutation::SetStampedKey {
            key: key("g0123456789"),
            stamp_at: 1,
            value: Bytes::from_static(b"v"),
        },
        Mutation::SetStampedValue {
            key: key("h"),
            value: Bytes::from_static(b"0123456789ab"),
            stamp_at: 2,
        },
    ]
}

fn record(commits: &[Vec<Mutation>]) -> LogFlush {
    let mut body = Vec::new();
    commits.iter().for_each(|mutations| encode_commit(&mut body, mutations));
    let first = Version(0x0102_0304_0506_0708);
    let last = Version(first.0 + commits.len() as u64 - 1);
    LogFlush { file: 3, offset: 2 * ALIGN, first, last, body: body.into() }
}

/// The file with the record at its place.
fn file(record: &LogFlush, mark: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; record.offset as usize];
    record.encode(mark).iter().for_each(|piece| bytes.extend_from_slice(piece));
    bytes
}

fn read_at(bytes: Vec<u8>, number: u32, offset: u64) -> Option<Record> {
    let len = bytes.len() as u64;
    read_record(&Fixed(bytes.into()), number, offset, len).expect("the file can be read")
}

/// Golden: these bytes were written once, and are read for ever.
#[test]
fn a_record_keeps_its_bytes() {
    let record = record(&[every_kind(), vec![]]);
    let bytes = file(&record, b"mark");
    let hex: String = bytes[record.offset as usize..record.end(4) as usize]
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    let golden = include_str!("../../../../tests/golden/commit_log_v1.hex");
    let lines: Vec<&str> = golden.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!([&hex[..]], lines[..], "the format changed");
    assert_eq!(bytes.len() as u64, record.next(4), "filled up to where the next one begins");
    let found = read_at(bytes, record.file, record.offset).expect("the record");
    assert_eq!((found.first, found.last), (record.first, record.last));
    assert_eq!((&found.mark[..], &found.body), (&b"mark"[..], &record.body));
    let mut input = &found.body[..];
    assert_eq!(decode_commit(&mut input), Some(every_kind()));
    assert_eq!((decode_commit(&mut input), input.len()), (Some(vec![]), 0));
}

#[test]
fn every_flipped_byte_of_a_record_is_found() {
    let record = record(&[every_kind()]);
    let good = file(&record, b"mark");
    for at in record.offset..record.end(4) {
        let mut bad = good.clone();
        bad[at as usize] ^= 1 << (at % 8);
        assert!(read_at(bad, record.file, record.offset).is_none(), "byte {at}");
        let cut = good[..at as usize].to_vec();
        assert!(read_at(cut, record.file, record.offset).is_none(), "{at} bytes");
    }
}

/// What was written to another place is no record here, however whole it is.
#[test]
fn a_record_is_one_in_its_place_only() {
    let record = record(&[every_kind()]);
    let good = file(&record, b"");
    assert!(read_at(good.clone(), record.file, record.offset).is_some());
    assert!(read_at(good.clone(), record.file + 1, record.offset).is_none(), "another file");
    let moved = good[ALIGN as usize..].to_vec();
    assert!(read_at(moved, record.file, record.offset - ALIGN).is_none(), "another offset");
    assert!(read_at(good, record.file, 0).is_none(), "zeros");
}

fn any_key() -> impl Strategy<Value = Key> {
    proptest::collection::vec(any::<u8>(), 0..60).prop_map(|bytes| Key::new(&bytes))
}

fn any_mutation() -> impl Strategy<Value = Mutation> {
    let value = || proptest::collection::vec(any::<u8>(), 0..100).prop_map(Bytes::from);
    let wide = || proptest::collection::vec(any::<u8>(), 10..60);
    prop_oneof![
        (any_key(), value()).prop_map(|(key, value)| Mutation::Set { key, value }),
        any_key().prop_map(|key| Mutation::Clear { key }),
        (any_key(), any_key())
            .prop_map(|(begin, end)| Mutation::ClearRange { range: KeyRange { begin, end } }),
        (any_key(), any::<bool>(), value()).prop_map(|(key, add, operand)| Mutation::Atomic {
            key,
            op: if add { AtomicOp::Add } else { AtomicOp::Max },
            operand: SmallVec::from_slice(&operand),
        }),
        (wide(), any::<prop::sample::Index>(), value()).prop_map(|(key, at, value)| {
            let stamp_at = at.index(key.len() - 9);
            Mutation::SetStampedKey { key: Key::new(&key), stamp_at, value }
        }),
        (any_key(), any::<prop::sample::Index>(), wide()).prop_map(|(key, at, value)| {
            let stamp_at = at.index(value.len() - 9);
            Mutation::SetStampedValue { key, value: value.into(), stamp_at }
        }),
    ]
}

proptest! {
    #[test]
    fn commits_read_back(commits in proptest::collection::vec(proptest::collection::vec(any_mutation(), 0..8), 1..6)) {
        let record = record(&commits);
        let mut input = &record.body[..];
        for commit in commits {
            prop_assert_eq!(decode_commit(&mut input), Some(commit));
        }
        prop_assert!(input.is_empty());
    }

    /// What is cut is refused, and what is noise is refused or a commit like any other.
    #[test]
    fn other_bytes_never_panic(
        mutations in proptest::collection::vec(any_mutation(), 1..5),
        cut in any::<prop::sample::Index>(),
        noise in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut body = Vec::new();
        encode_commit(&mut body, &mutations);
        prop_assert_eq!(decode_commit(&mut &body[..cut.index(body.len())]), None);
        if let Some(found) = decode_commit(&mut &noise[..]) {
            let mut again = Vec::new();
            encode_commit(&mut again, &found);
            prop_assert!(noise.starts_with(&again));
        }
        let mut bytes = noise.clone();
        bytes.resize(4 * ALIGN as usize, 0);
        prop_assert!(read_at(bytes, 0, 0).is_none());
    }
}
