//! Damage in the middle of the commit log is refused: what follows it was promised to be durable.

use bytes::Bytes;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use vellum_core::port::meta_kv::{CommitRequest, Key, Mutation, Version};
use vellum_drivers::EmbeddedKv;
use vellum_drivers::embedded::EngineOpenError;

const RECORDS: usize = 3;
const RECORD: usize = 4096;

#[test]
fn a_rotten_record_with_others_behind_it_is_damage_and_a_torn_end_is_not() {
    let dir = TempDir::new().unwrap();
    let store = EmbeddedKv::open(dir.path()).unwrap();
    let mut durable = Vec::new();
    for n in 0..RECORDS {
        let set = Mutation::Set { key: Key::new(&[n as u8]), value: Bytes::from_static(b"value") };
        let request = CommitRequest { mutations: vec![set], ..CommitRequest::default() };
        let commit = store.commit(request).unwrap();
        durable.push(store.sync(commit.version).unwrap());
    }
    for broken in 0..RECORDS {
        // As a power cut would leave it: the files as they are now.
        let (copy, log) = copy(dir.path());
        let mut bytes = fs::read(&log).unwrap();
        assert_eq!(bytes.len(), RECORDS * RECORD);
        bytes[broken * RECORD + 50] ^= 1;
        fs::write(&log, bytes).unwrap();
        match EmbeddedKv::open(copy.path()) {
            Ok(opened) => {
                assert_eq!(broken, RECORDS - 1, "only a torn end is passed over");
                // A start goes on above every version that was handed out.
                assert!(opened.last() > durable[broken - 1]);
            }
            Err(EngineOpenError::Damaged { cause, .. }) => {
                assert!(broken < RECORDS - 1);
                let name = log.file_name().unwrap().to_str().unwrap();
                let said = cause.contains(name) && cause.contains(&(broken * RECORD).to_string());
                assert!(said, "{cause}");
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert!(store.sync(Version(u64::MAX)).is_ok());
}

fn copy(from: &Path) -> (TempDir, PathBuf) {
    let copy = TempDir::new().unwrap();
    let mut log = None;
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = copy.path().join(entry.file_name());
        fs::copy(entry.path(), &to).unwrap();
        if to.extension().is_some_and(|extension| extension == "log") {
            assert!(log.replace(to).is_none(), "one log");
        }
    }
    (copy, log.expect("a log"))
}
