//! Two designs of the embedded metadata store under the load of a filesystem:
//! the commit overlay over redb, and fjall as a plain database with a resolver on top.
//!
//! `cargo run --release -p vellum-drivers --example engines -- overlay|fjall [directory]`
//!
//! The numbers of `docs/adr/0001-embedded-store.md` come from here.

use bytes::Bytes;
use fjall::{KeyspaceCreateOptions, PersistMode, Readable};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use vellum_core::port::meta_kv::{
    AtomicOp, Commit, CommitRequest, Key, KeyRange, KvError, KvReply, Mutation, Read, ReadRound,
    Values, Version,
};
use vellum_drivers::EmbeddedKv;
use vellum_drivers::conformance::MetaStore;

/// A store that many threads call.
type Shared = dyn MetaStore + Send + Sync;

const FILES: u64 = 200_000;
const INODES: u64 = 100_000;
const DIRECTORY: u64 = 10_000;

fn main() {
    let mut args = std::env::args().skip(1);
    let engine = args.next().unwrap_or_else(|| "overlay".into());
    let dir = args.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = dir.join(format!("engines-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a directory");
    match &*engine {
        "overlay" => {
            run(&dir, |dir| Arc::new(EmbeddedKv::open(dir).expect("the overlay")) as Arc<Shared>)
        }
        "fjall" => run(&dir, |dir| Arc::new(FjallKv::open(dir)) as Arc<Shared>),
        other => panic!("unknown engine {other}"),
    }
    std::fs::remove_dir_all(&dir).expect("clean up");
}

fn run(dir: &Path, open: impl Fn(&Path) -> Arc<Shared>) {
    let store = open(dir);
    let mut next = 0;
    for (threads, every_ms) in [(1, 1000), (1, 10), (4, 1000), (4, 10)] {
        let took = with_sync_every(&*store, Duration::from_millis(every_ms), || {
            creates(&*store, threads, next, FILES, false)
        });
        next += FILES;
        report(&format!("create, {threads} threads, sync every {every_ms} ms"), FILES, took);
    }
    for (threads, count) in [(1, 5_000), (4, 20_000)] {
        let took = timed(|| creates(&*store, threads, next, count, true));
        next += count;
        report(&format!("create with sync each, {threads} threads"), count, took);
    }
    load_inodes(&*store);
    getattrs(&*store, "getattr, right after the writes");
    sync(&*store);
    std::thread::sleep(Duration::from_millis(500));
    getattrs(&*store, "getattr, written back");
    let took = timed(|| (0..20).for_each(|_| readdir(&*store)));
    println!("{:44} {:>10.0} us", "readdir of 10000 entries", took.as_secs_f64() * 1e6 / 20.0);
    let took = with_sync_every(&*store, Duration::from_secs(1), || {
        (0..FILES).for_each(|n| delete(&*store, n));
    });
    report("delete, 1 thread, sync every 1000 ms", FILES, took);
    sync(&*store);
    println!("{:44} {:>10} MiB", "resident memory", resident_kib() / 1024);
    println!("{:44} {:>10} MiB", "on disk", disk_bytes(dir) >> 20);
    drop(store);
    let took = timed(|| drop(open(dir)));
    println!(
        "{:44} {:>10.1} ms",
        "reopen and close, after a clean close",
        took.as_secs_f64() * 1e3
    );
}

fn report(what: &str, count: u64, took: Duration) {
    let each = took.as_secs_f64() / count as f64;
    println!("{what:44} {:>10.0} /s  {:>8.2} us", 1.0 / each, each * 1e6);
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn with_sync_every(store: &Shared, every: Duration, work: impl FnOnce()) -> Duration {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                std::thread::park_timeout(every);
                sync(store);
            }
        });
        let took = timed(work);
        done.store(true, Ordering::Relaxed);
        took
    })
}

fn sync(store: &Shared) {
    store.sync(Version(u64::MAX)).expect("a sync");
}

fn creates(store: &Shared, threads: u64, from: u64, count: u64, each: bool) {
    std::thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || {
                for n in (from + thread..from + count).step_by(threads as usize) {
                    let commit = create(store, n);
                    if each {
                        store.sync(commit.version).expect("a sync");
                    }
                }
            });
        }
    });
}

/// Files go into directories of [`DIRECTORY`] entries.
fn parent(n: u64) -> u64 {
    1 + n / DIRECTORY
}

fn ino(n: u64) -> u64 {
    1_000_000 + n
}

/// Spreads names over a directory, as the keyed name hash does.
fn bucket(n: u64) -> u64 {
    n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 4 << 2
}

fn key(tag: u8, a: u64, rest: &[u8]) -> Key {
    let mut key = Key::new(b"\x15v1");
    key.push(&[tag]);
    key.push(&a.to_be_bytes());
    key.push(rest);
    key
}

fn dentry(dir: u64, slot: u64) -> Key {
    key(b'N', dir, &slot.to_be_bytes())
}

fn create(store: &Shared, n: u64) -> Commit {
    let (dir, slot) = (parent(n), bucket(n));
    let bucket = KeyRange { begin: dentry(dir, slot), end: dentry(dir, slot + 4) };
    let core = key(b'I', dir, b"a");
    let reads = vec![
        Read::Range { range: bucket.clone(), limit: 4, reverse: false },
        Read::Get(core.clone()),
    ];
    loop {
        let Ok(KvReply::Values { version, .. }) =
            store.read(&ReadRound { at: None, reads: reads.clone() })
        else {
            panic!("a read round")
        };
        let atomic = |key, op, operand: &[u8]| Mutation::Atomic {
            key,
            op,
            operand: smallvec::SmallVec::from_slice(operand),
        };
        let name = format!("some-file-name-{n:08}.txt and what a dentry says of it");
        let mutations = vec![
            Mutation::Set { key: dentry(dir, slot), value: name.into() },
            Mutation::Set { key: key(b'I', ino(n), b"a"), value: Bytes::from(vec![n as u8; 96]) },
            Mutation::Set { key: key(b'I', ino(n), b"s"), value: Bytes::from(vec![0; 8]) },
            atomic(key(b'I', dir, b"t"), AtomicOp::Max, &[n as u8; 12]),
            atomic(key(b'I', dir, b"n"), AtomicOp::Add, &1u128.to_le_bytes()),
            atomic(key(b'Z', n % 16, b"use"), AtomicOp::Add, &(1u128 << 64).to_le_bytes()),
        ];
        let request = CommitRequest {
            read_version: Some(version),
            read_conflicts: vec![bucket.clone(), KeyRange::point(core.clone())],
            mutations,
            ..CommitRequest::default()
        };
        match store.commit(request) {
            Ok(commit) => return commit,
            Err(KvError::Conflict | KvError::TooOld) => {}
            Err(other) => panic!("{other:?}"),
        }
    }
}

fn delete(store: &Shared, n: u64) {
    let inode = KeyRange { begin: key(b'I', ino(n), b""), end: key(b'I', ino(n) + 1, b"") };
    let core = key(b'I', ino(n), b"a");
    let reads = vec![Read::Get(dentry(parent(n), bucket(n))), Read::Get(core.clone())];
    let Ok(KvReply::Values { version, values }) = store.read(&ReadRound { at: None, reads }) else {
        panic!("a read round")
    };
    assert!(matches!(&values[..], [Values::One(Some(_)), Values::One(Some(_))]), "{n} is there");
    let gone = (-1i128).to_le_bytes();
    let operand = smallvec::SmallVec::from_slice(&gone);
    let request = CommitRequest {
        read_version: Some(version),
        read_conflicts: vec![KeyRange::point(core)],
        mutations: vec![
            Mutation::Clear { key: dentry(parent(n), bucket(n)) },
            Mutation::ClearRange { range: inode },
            Mutation::Atomic { key: key(b'I', parent(n), b"n"), op: AtomicOp::Add, operand },
        ],
        ..CommitRequest::default()
    };
    store.commit(request).expect("nobody else deletes");
}

/// Inodes with the six rows that stat reads.
fn load_inodes(store: &Shared) {
    for n in 0..INODES {
        let row = |tag: &[u8], len| Mutation::Set {
            key: key(b'J', n, tag),
            value: Bytes::from(vec![1; len]),
        };
        let mutations = vec![
            row(b"a", 96),
            row(b"b", 16),
            row(b"k", 12),
            row(b"s", 8),
            row(b"t", 12),
            row(b"u", 12),
            row(b"x", 100),
        ];
        store.commit(CommitRequest { mutations, ..CommitRequest::default() }).expect("a load");
    }
}

fn getattrs(store: &Shared, what: &str) {
    const COUNT: u64 = 200_000;
    let took = timed(|| {
        for n in 0..COUNT {
            let ino = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % INODES;
            let range = KeyRange { begin: key(b'J', ino, b"a"), end: key(b'J', ino, b"v") };
            let reads = vec![Read::Range { range, limit: 8, reverse: false }];
            match store.read(&ReadRound { at: None, reads }) {
                Ok(KvReply::Values { values, .. }) => match &values[..] {
                    [Values::Rows { rows, .. }] => assert_eq!(rows.len(), 6),
                    other => panic!("{other:?}"),
                },
                other => panic!("{other:?}"),
            }
        }
    });
    report(what, COUNT, took);
}

fn readdir(store: &Shared) {
    let mut range = KeyRange { begin: dentry(2, 0), end: dentry(3, 0) };
    let mut count = 0;
    loop {
        let reads = vec![Read::Range { range: range.clone(), limit: 1024, reverse: false }];
        let Ok(KvReply::Values { values, .. }) = store.read(&ReadRound { at: None, reads }) else {
            panic!("a read")
        };
        let [Values::Rows { rows, more }] = &values[..] else { panic!("rows") };
        count += rows.len() as u64;
        match rows.last() {
            Some((last, _)) if *more => range.begin = last.successor(),
            _ => break,
        }
    }
    assert_eq!(count, DIRECTORY);
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("procfs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

fn disk_bytes(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = std::fs::read_dir(dir).expect("a directory").map(|e| e.expect("an entry"));
    entries
        .map(|entry| {
            let meta = entry.metadata().expect("metadata");
            if meta.is_dir() { disk_bytes(&entry.path()) } else { meta.blocks() * 512 }
        })
        .sum()
}

/// fjall with the thinnest resolver that could be right: the last version of each written key.
struct FjallKv {
    database: fjall::Database,
    rows: fjall::Keyspace,
    resolver: Mutex<Resolver>,
    visible: AtomicU64,
}

#[derive(Default)]
struct Resolver {
    written: BTreeMap<Key, Version>,
    cleared: Vec<(KeyRange, Version)>,
    last: Version,
}

/// Writes remembered before the window moves.
const WINDOW: usize = 100_000;

impl FjallKv {
    fn open(dir: &Path) -> FjallKv {
        let database = fjall::Database::builder(dir).open().expect("fjall");
        let rows = database.keyspace("rows", KeyspaceCreateOptions::default).expect("a keyspace");
        FjallKv { database, rows, resolver: Mutex::default(), visible: AtomicU64::new(0) }
    }
}

impl Resolver {
    fn conflicts(&self, range: &KeyRange, read: Version) -> bool {
        let bounds = (Bound::Included(&*range.begin), Bound::Excluded(&*range.end));
        self.written.range::<[u8], _>(bounds).any(|(_, v)| *v > read)
            || self
                .cleared
                .iter()
                .rev()
                .take_while(|(_, v)| *v > read)
                .any(|(cleared, _)| cleared.begin < range.end && range.begin < cleared.end)
    }
}

impl MetaStore for FjallKv {
    fn read(&self, round: &ReadRound) -> Result<KvReply, KvError> {
        let version = Version(self.visible.load(Ordering::Acquire));
        let snapshot = self.database.snapshot();
        let values = round.reads.iter().map(|read| match read {
            Read::Get(key) => {
                let value = snapshot.get(&self.rows, &**key).expect("a get");
                Values::One(value.map(|value| Bytes::copy_from_slice(&value)))
            }
            Read::Range { range, limit, .. } => {
                let bounds = &*range.begin..&*range.end;
                let mut found = snapshot.range::<&[u8], _>(&self.rows, bounds);
                let rows = found.by_ref().take(*limit as usize).map(|row| {
                    let (key, value) = row.into_inner().expect("a row");
                    (Key::new(&key), Bytes::copy_from_slice(&value))
                });
                let rows: Vec<_> = rows.collect();
                Values::Rows { more: rows.len() == *limit as usize, rows }
            }
        });
        Ok(KvReply::Values { version, values: values.collect() })
    }

    fn commit(&self, request: CommitRequest) -> Result<Commit, KvError> {
        let mut resolver = self.resolver.lock().expect("the resolver");
        let read = request.read_version.unwrap_or(resolver.last);
        if request.read_conflicts.iter().any(|range| resolver.conflicts(range, read)) {
            return Err(KvError::Conflict);
        }
        let version = Version(resolver.last.0 + 1);
        let mut batch = self.database.batch();
        for mutation in request.mutations {
            match mutation {
                Mutation::Set { key, value } => {
                    batch.insert(&self.rows, &*key, &*value);
                    resolver.written.insert(key, version);
                }
                Mutation::Clear { key } => {
                    batch.remove(&self.rows, &*key);
                    resolver.written.insert(key, version);
                }
                Mutation::ClearRange { range } => {
                    for row in self.rows.range(&*range.begin..&*range.end) {
                        batch.remove(&self.rows, row.key().expect("a key"));
                    }
                    resolver.cleared.push((range, version));
                }
                Mutation::Atomic { key, op, operand } => {
                    let old = self.rows.get(&*key).expect("a get");
                    let new = op.apply(old.as_deref(), &operand);
                    batch.insert(&self.rows, &*key, &*new);
                    resolver.written.insert(key, version);
                }
                _ => unreachable!("the load has no stamps"),
            }
        }
        batch.commit().expect("a batch");
        resolver.last = version;
        if resolver.written.len() > WINDOW {
            resolver.written.clear();
            resolver.cleared.clear();
        }
        self.visible.store(version.0, Ordering::Release);
        Ok(Commit { version, batch: 0 })
    }

    fn sync(&self, _: Version) -> Result<Version, KvError> {
        let version = Version(self.visible.load(Ordering::Acquire));
        self.database.persist(PersistMode::SyncData).expect("a sync");
        Ok(version)
    }
}
