//! A process that writes and syncs is killed at any moment; what it was told is durable is there, and
//! everything is a prefix of what it did.

use bytes::Bytes;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;
use vellum_core::id::{SegmentId, SessionId};
use vellum_core::port::meta_kv::{
    AtomicOp, CommitRequest, Key, KeyRange, KvReply, Mutation, Read, ReadRound, Value, Values,
};
use vellum_core::port::page_store::SegmentDraft;
use vellum_drivers::{LocalVolume, OpenMode};

const ROUNDS: u32 = 12;
const CHILD: &str = "VELLUM_CRASH_CHILD";
const RUN: &str = "VELLUM_CRASH_RUN";
/// Small files, so that sealing and removing happen all the time.
const FILE_BYTES: u64 = 256 << 10;

/// The child: it never returns by itself. Without the variable it is no test.
#[test]
fn child() {
    if let (Ok(dir), Ok(run)) = (std::env::var(CHILD), std::env::var(RUN)) {
        write_for_ever(Path::new(&dir), run.parse().unwrap());
    }
}

#[test]
fn a_killed_process_loses_nothing_that_was_synced() {
    let dir = TempDir::new().unwrap();
    drop(LocalVolume::open_with(dir.path(), OpenMode::CreateIfEmpty, FILE_BYTES).unwrap());
    let mut progress = false;
    for run in 1..=ROUNDS {
        let before = check(dir.path());
        let synced = run_and_kill(dir.path(), run, before);
        let after = check(dir.path());
        assert!(after >= synced, "run {run}: {synced} was synced, {after} is there");
        assert!(after >= before, "run {run}: what was there stays");
        progress |= synced > before;
    }
    assert!(progress, "the child never got to a sync: the test shows nothing");
}

/// Returns the last step the child called durable.
fn run_and_kill(dir: &Path, run: u32, before: u64) -> u64 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["child", "--exact", "--nocapture"])
        .env(CHILD, dir)
        .env(RUN, run.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let reader = std::thread::spawn(move || {
        let synced = |line: String| line.strip_prefix("synced ")?.parse().ok();
        lines.map_while(Result::ok).filter_map(synced).last()
    });
    std::thread::sleep(Duration::from_millis(150 + u64::from(run * 37 % 11) * 30));
    child.kill().unwrap();
    child.wait().unwrap();
    reader.join().unwrap().unwrap_or(before)
}

fn counter() -> Key {
    Key::new(b"counter")
}

fn row(step: u64) -> Key {
    let mut key = Key::new(b"row/");
    key.push(&step.to_be_bytes());
    key
}

fn segment(run: u32, step: u64) -> SegmentDraft {
    let id = SegmentId { session: SessionId(u128::from(run)), sequence: step };
    let len = 1 + step * 7919 % 60_000;
    let bytes: Bytes = (0..len).map(|i| (i * 3 + step) as u8).collect::<Vec<_>>().into();
    SegmentDraft { id, len: len as u32, payload: vec![bytes] }
}

/// Steps count up over all runs: each writes a segment and a row that names it, and counts.
/// Rows of 100 steps ago go, and so do their segments once that is durable.
fn write_for_ever(dir: &Path, run: u32) {
    let volume = LocalVolume::open_with(dir, OpenMode::MustExist, FILE_BYTES).unwrap();
    let mut doomed = Vec::new();
    for step in number(get(&volume, counter())) + 1.. {
        let draft = segment(run, step);
        volume.pages.append(draft.clone()).unwrap();
        let mut value = draft.id.to_bytes().to_vec();
        value.extend_from_slice(&step.to_le_bytes());
        let mut mutations = vec![
            Mutation::Set { key: row(step), value: value.into() },
            Mutation::Atomic {
                key: counter(),
                op: AtomicOp::Add,
                operand: smallvec::SmallVec::from_slice(&1u64.to_le_bytes()),
            },
        ];
        if let Some(old) = step.checked_sub(100) {
            doomed.extend(get(&volume, row(old)).map(|value| named(&value)));
            let range = KeyRange { begin: row(0), end: row(old + 1) };
            mutations.push(Mutation::ClearRange { range });
        }
        let request = CommitRequest { mutations, ..CommitRequest::default() };
        let commit = volume.kv.commit(request).unwrap();
        if step % (1 + u64::from(run) % 7 * 3) == 0 {
            volume.kv.sync(commit.version).unwrap();
            // One write call: the line is there whole or not at all.
            std::io::stdout().write_all(format!("synced {step}\n").as_bytes()).unwrap();
            volume.pages.delete(&std::mem::take(&mut doomed)).unwrap();
        }
    }
}

fn named(value: &[u8]) -> SegmentId {
    SegmentId::from_bytes(value[..24].try_into().unwrap())
}

fn number(value: Option<Value>) -> u64 {
    value.map_or(0, |value| u64::from_le_bytes(value[..].try_into().unwrap()))
}

fn get(volume: &LocalVolume, key: Key) -> Option<Value> {
    match volume.kv.read(&ReadRound { at: None, reads: vec![Read::Get(key)] }) {
        Ok(KvReply::Values { values, .. }) => match &values[..] {
            [Values::One(value)] => value.clone(),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

/// Opens the volume, checks that it is a prefix, and returns how long that is.
fn check(dir: &Path) -> u64 {
    let volume = LocalVolume::open_with(dir, OpenMode::MustExist, FILE_BYTES).unwrap();
    assert_eq!(volume.pages.troubles(), []);
    let steps = number(get(&volume, counter()));
    let range = KeyRange { begin: row(0), end: row(u64::MAX) };
    let read = Read::Range { range, limit: 1000, reverse: false };
    let Ok(KvReply::Values { values, .. }) =
        volume.kv.read(&ReadRound { at: None, reads: vec![read] })
    else {
        panic!("a read")
    };
    let [Values::Rows { rows, more: false }] = &values[..] else { panic!("{values:?}") };
    let first = (steps + 1).saturating_sub(100).max(1);
    let expected: Vec<Key> = (first..=steps).map(row).collect();
    let found: Vec<Key> = rows.iter().map(|(key, _)| key.clone()).collect();
    assert_eq!(found, expected, "rows of a prefix of {steps} steps");
    for (step, (_, value)) in (first..=steps).zip(rows) {
        let id = named(value);
        assert_eq!(value[24..], step.to_le_bytes());
        let run = u32::try_from(id.session.0).unwrap();
        let draft = segment(run, step);
        assert_eq!(draft.id, id);
        let stored = volume.pages.read(id, 0, draft.len).expect("a segment that metadata names");
        assert_eq!(stored, draft.payload[0]);
    }
    steps
}
