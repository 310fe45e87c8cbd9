//! The commit log of the metadata store: what a replay finds is a prefix of what was committed, or it says
//! that something is lost; never anything else, whatever the bytes.

use crate::disk::{Damage, Disk, Guarded, PAGE};
use arbitrary::{Arbitrary, Result, Unstructured};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::rc::Rc;
use vellum_core::local::Shared;
use vellum_core::local::kv::{
    Batch, EngineError, Flush, Operand, Snapshot, Store, StoreLimits, SyncStep, Visit, Write, log,
    read,
};
use vellum_core::port::meta_kv::{
    AtomicOp, Commit, CommitRequest, Key, KeyRange, Mutation, Read, ReadRound, Value, Values,
    Version,
};
use xxhash_rust::xxh3::xxh3_64_with_seed;

const STEPS_MAX: usize = 48;
const HEADER: usize = 40;

/// What happens to a store. Keys are few, so that changes meet.
#[derive(Debug)]
enum Step {
    Set {
        key: u8,
        len: u16,
    },
    Clear {
        key: u8,
    },
    ClearRange {
        from: u8,
        to: u8,
    },
    Atomic {
        key: u8,
        max: bool,
        by: u8,
    },
    StampKey {
        key: u8,
    },
    StampValue {
        key: u8,
    },
    Commit,
    Sync {
        mark: u8,
    },
    /// The engine begins to take everything; later records go into a new file.
    Freeze,
    /// The engine takes everything, and the log of it goes.
    Flush,
}

impl Step {
    fn spell(input: &mut Unstructured<'_>) -> Result<Step> {
        Ok(match u8::arbitrary(input)? % 11 {
            0 | 1 => Step::Set { key: input.arbitrary()?, len: input.arbitrary()? },
            2 => Step::Clear { key: input.arbitrary()? },
            3 => Step::ClearRange { from: input.arbitrary()?, to: input.arbitrary()? },
            4 => Step::Atomic {
                key: input.arbitrary()?,
                max: input.arbitrary()?,
                by: input.arbitrary()?,
            },
            5 => Step::StampKey { key: input.arbitrary()? },
            6 => Step::StampValue { key: input.arbitrary()? },
            7 => Step::Commit,
            8 => Step::Sync { mark: input.arbitrary()? },
            9 => Step::Freeze,
            _ => Step::Flush,
        })
    }
}

/// Runs steps that `input` spells, damages the log, and replays it; then replays `input` itself.
pub fn fuzz_one(input: &[u8]) {
    let mut spelled = Unstructured::new(input);
    if let Ok(run) = Run::spell(&mut spelled) {
        let mut damages = Vec::new();
        while damages.len() < 4 && !spelled.is_empty() {
            let Ok(damage) = Damage::arbitrary(&mut spelled) else { break };
            damages.push(damage);
        }
        run.check(&damages);
    }
    check_any(input);
}

/// Logs as inputs that [`check_any`] replays.
pub fn seeds() -> Vec<(String, Vec<u8>)> {
    let mut run = Run::new();
    let steps = [
        Step::Set { key: 1, len: 9 },
        Step::StampKey { key: 2 },
        Step::Commit,
        Step::StampValue { key: 3 },
        Step::Atomic { key: 4, max: true, by: 9 },
        Step::ClearRange { from: 1, to: 3 },
        Step::Commit,
        Step::Clear { key: 1 },
        Step::Commit,
        Step::Sync { mark: 3 },
    ];
    steps.iter().for_each(|step| run.apply(step));
    let (_, bytes) = run.disk.contents().remove(0);
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    // How many steps, then each: two records in two files; a record, a flush and a damaged record.
    let files = [7, 0, 1, 9, 0, 7, 8, 3, 9, 0, 2, 9, 0, 7, 8, 4];
    let damaged = [8, 0, 1, 9, 0, 7, 8, 3, 10, 4, 1, 1, 5, 7, 5, 2, 8, 6, 0, 0, 0, 0, 0, 4, 3];
    vec![
        ("record".to_owned(), bytes[..end].to_vec()),
        ("two_files".to_owned(), files.to_vec()),
        ("damaged".to_owned(), damaged.to_vec()),
    ]
}

/// An immutable state of the engine.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
struct Rows(Rc<BTreeMap<Key, Value>>);

/// A store with a log, and what it should hold.
struct Run {
    disk: Disk,
    store: Guarded<Store<Rows>>,
    open: Option<(u32, crate::disk::DiskFile)>,
    /// What the engine holds, and its version.
    engine: (Version, Rows),
    /// The state after each commit since the engine's.
    states: BTreeMap<Version, BTreeMap<Key, Value>>,
    pending: Vec<Mutation>,
    /// What the engine has begun to take.
    flush: Option<Flush>,
    durable: Version,
    /// Where each record of the log ends in which file, and its last commit.
    records: Vec<(u32, Version)>,
    mark: Option<Bytes>,
}

impl Run {
    fn new() -> Run {
        let disk = Disk::default();
        let replayed = log::replay(&disk, Version(0)).expect("an empty log");
        let start = Store::<Rows>::start(replayed);
        let rows = apply(&Rows::default(), &start.batch);
        let version = start.batch.version();
        let store = Store::new(rows.clone(), &start, StoreLimits::default());
        Run {
            disk,
            store: Guarded::new(store),
            open: None,
            engine: (version, rows),
            states: BTreeMap::from([(version, BTreeMap::new())]),
            pending: Vec::new(),
            flush: None,
            durable: version,
            records: Vec::new(),
            mark: None,
        }
    }

    fn spell(input: &mut Unstructured<'_>) -> Result<Run> {
        let mut run = Run::new();
        for _ in 0..input.int_in_range(0..=STEPS_MAX)? {
            run.apply(&Step::spell(input)?);
        }
        Ok(run)
    }

    fn apply(&mut self, step: &Step) {
        let key = |n: &u8| Key::new(&[b'k', n % 16]);
        match step {
            Step::Set { key: k, len } => {
                let value = Bytes::from(vec![*k; usize::from(len % 6000)]);
                self.pending.push(Mutation::Set { key: key(k), value });
            }
            Step::Clear { key: k } => self.pending.push(Mutation::Clear { key: key(k) }),
            Step::ClearRange { from, to } => {
                let range = KeyRange { begin: key(from), end: key(to) };
                self.pending.push(Mutation::ClearRange { range });
            }
            Step::Atomic { key: k, max, by } => {
                let op = if *max { AtomicOp::Max } else { AtomicOp::Add };
                let operand = vec![*by; 1 + usize::from(by % 9)].into();
                self.pending.push(Mutation::Atomic { key: key(k), op, operand });
            }
            Step::StampKey { key: k } => {
                let mut key = key(k);
                key.push(&[0; 12]);
                let value = Bytes::from_static(b"stamped");
                self.pending.push(Mutation::SetStampedKey { key, stamp_at: 2, value });
            }
            Step::StampValue { key: k } => {
                let (value, stamp_at) = (Bytes::from_static(&[9; 14]), usize::from(k % 5));
                self.pending.push(Mutation::SetStampedValue { key: key(k), value, stamp_at });
            }
            Step::Commit => self.commit(),
            Step::Sync { mark } => self.sync(*mark),
            Step::Freeze => self.freeze(),
            Step::Flush => self.flush(),
        }
    }

    fn commit(&mut self) {
        let mutations = std::mem::take(&mut self.pending);
        let mut state = self.newest().clone();
        let request = CommitRequest { mutations: mutations.clone(), ..CommitRequest::default() };
        let commit = self.store.with_mut(|store| store.commit(request)).expect("a small commit");
        mutations.into_iter().for_each(|mutation| naive(&mut state, mutation, commit));
        self.states.insert(commit.version, state);
    }

    fn newest(&self) -> &BTreeMap<Key, Value> {
        self.states.last_key_value().expect("never empty").1
    }

    fn sync(&mut self, mark: u8) {
        let mark = Bytes::from(vec![mark; usize::from(mark % 70)]);
        let last = self.store.with(Store::last);
        while let SyncStep::Log(flush) =
            self.store.with_mut(|store| store.sync_step(last)).expect("no failure")
        {
            log::write(&self.disk, &mut self.open, &flush, &mark).expect("a sound disk");
            let file = self.open.as_ref().expect("just written").0;
            self.records.push((file, flush.last()));
            let done = self.store.with_mut(|store| store.finish_log(flush, mark.len(), Ok(())));
            self.durable = done.expect("written");
            self.mark = Some(mark.clone());
        }
    }

    fn freeze(&mut self) {
        if self.flush.is_none() {
            self.flush = self.store.with_mut(Store::begin_flush);
        }
    }

    fn flush(&mut self) {
        self.freeze();
        let Some(flush) = self.flush.take() else { return };
        let rows = apply(&self.engine.1, &flush.batch);
        self.engine = (flush.batch.version(), rows.clone());
        let flushed =
            self.store.with_mut(|store| store.finish_flush(Ok(rows))).expect("the engine took it");
        log::remove_below(&self.disk, flushed.log_first).expect("a sound disk");
        self.records.retain(|(file, _)| *file >= flushed.log_first);
        self.durable = self.durable.max(flushed.version);
        self.states = self.states.split_off(&flushed.version);
        if self.records.is_empty() {
            self.mark = None;
        }
    }

    /// Replays the log as it is, and after each damage.
    fn check(&self, damages: &[Damage]) {
        self.check_reads();
        let kept = self.replay(&self.disk).expect("an undamaged log is replayed");
        assert_eq!(kept, self.durable, "all that was durable and nothing else");
        let disk = self.disk.copy();
        for damage in damages {
            if disk.damage(damage).is_some() {
                // A prefix, or an error.
                self.replay(&disk);
            }
        }
    }

    /// The running store shows the newest state.
    fn check_reads(&self) {
        let range = KeyRange { begin: Key::new(b""), end: Key::new(b"z") };
        let reads = vec![Read::Range { range, limit: u32::MAX, reverse: false }];
        let round = ReadRound { at: None, reads };
        let (_, values) = read(&self.store, &round).expect("the newest version");
        let [Values::Rows { rows, more: false }] = &values[..] else { panic!("{values:?}") };
        let naive: Vec<_> = self.newest().iter().map(|(k, v)| (k.clone(), v.clone())).collect();
        assert_eq!(*rows, naive);
    }

    /// Replays; returns the last commit that was found, having compared the state with it.
    fn replay(&self, disk: &Disk) -> Option<Version> {
        let replayed = log::replay(disk, self.engine.0).ok()?;
        let last = replayed.last();
        let mark = replayed.mark.clone();
        let state = self.states.get(&last).unwrap_or_else(|| panic!("{last:?} was no commit"));
        let start = Store::<Rows>::start(replayed);
        assert_eq!(*apply(&self.engine.1, &start.batch).0, *state, "the state after {last:?}");
        assert!(start.batch.version() > last);
        // What the engine has came with a mark of its own.
        if last == self.durable && last > self.engine.0 {
            assert_eq!(mark, self.mark, "the mark of the last record");
        }
        Some(last)
    }
}

/// What a batch makes of the engine's rows.
fn apply(rows: &Rows, batch: &Batch) -> Rows {
    let mut rows = (*rows.0).clone();
    for range in batch.clears() {
        rows.retain(|key, _| !range.contains(key));
    }
    for (key, write) in batch.writes() {
        match write {
            Write::Set(value) => drop(rows.insert(key.clone(), value.clone())),
            Write::Clear => drop(rows.remove(key)),
            Write::Merge(operands) => {
                let new = Operand::fold(operands, rows.get(key).map(|v| &v[..]));
                rows.insert(key.clone(), new.expect("operands"));
            }
        }
    }
    Rows(Rc::new(rows))
}

/// What a mutation does.
fn naive(state: &mut BTreeMap<Key, Value>, mutation: Mutation, commit: Commit) {
    match mutation {
        Mutation::Set { key, value } => drop(state.insert(key, value)),
        Mutation::Clear { key } => drop(state.remove(&key)),
        Mutation::ClearRange { range } => state.retain(|key, _| !range.contains(key)),
        Mutation::Atomic { key, op, operand } => {
            let new = op.apply(state.get(&key).map(|v| &v[..]), &operand);
            state.insert(key, new);
        }
        Mutation::SetStampedKey { mut key, stamp_at, value } => {
            key.overwrite(stamp_at, &commit.stamp());
            state.insert(key, value);
        }
        Mutation::SetStampedValue { key, value, stamp_at } => {
            let mut value = value.to_vec();
            value[stamp_at..stamp_at + 10].copy_from_slice(&commit.stamp());
            state.insert(key, value.into());
        }
    }
}

impl Snapshot for Rows {
    fn get(&self, key: &[u8]) -> std::result::Result<Option<Value>, EngineError> {
        Ok(self.0.get(key).cloned())
    }

    fn scan(
        &self,
        range: &KeyRange,
        reverse: bool,
        visit: &mut Visit<'_>,
    ) -> std::result::Result<(), EngineError> {
        let bounds = (Bound::Included(range.begin.clone()), Bound::Excluded(range.end.clone()));
        let mut rows = self.0.range(bounds);
        while let Some((key, value)) = if reverse { rows.next_back() } else { rows.next() } {
            if visit(key, value) == ControlFlow::Break(()) {
                break;
            }
        }
        Ok(())
    }
}

/// Any bytes are replayed, refused or passed over; under a true checksum too.
fn check_any(input: &[u8]) {
    let as_files = |bytes: &[u8]| {
        let disk = Disk::default();
        bytes.chunks(2 * PAGE).zip(0..).for_each(|(part, n)| disk.put(n, part.to_vec()));
        disk
    };
    for disk in [as_files(input), as_files(&sealed(input))] {
        if let Ok(replayed) = log::replay(&disk, Version(0)) {
            let last = replayed.last();
            let start = Store::<Rows>::start(replayed);
            apply(&Rows::default(), &start.batch);
            assert!(start.batch.version() >= last);
        }
    }
}

/// The bytes as one record of file 0: with its magic, lengths and checksum.
fn sealed(input: &[u8]) -> Vec<u8> {
    let mut bytes = input.to_vec();
    bytes.resize(bytes.len().max(HEADER), 0);
    bytes[0..4].copy_from_slice(b"VLOG");
    let rest = bytes.len() - HEADER;
    let mark_len = usize::from(bytes[4]) % 64 % (rest + 1);
    bytes[4..8].copy_from_slice(&(mark_len as u32).to_le_bytes());
    bytes[8..16].copy_from_slice(&((rest - mark_len) as u64).to_le_bytes());
    let body_sum = xxh3_64_with_seed(&bytes[HEADER + mark_len..], 0x9e37_79b9_7f4a_7c15);
    let covered = [&bytes[..HEADER - 8], &bytes[HEADER..HEADER + mark_len]].concat();
    let sum = xxh3_64_with_seed(&covered, body_sum);
    bytes[HEADER - 8..HEADER].copy_from_slice(&sum.to_le_bytes());
    bytes
}
