//! A crash at every effect of the stores of one machine: the process ends, or the power does, at each
//! single call to the disks and the engine, and again at each call of the recovery.
//!
//! What must hold afterwards: the metadata is that of a prefix of the commits, and everything that was
//! answered as durable is in it; every segment that it names is whole; a recovery that was cut off and
//! repeated finds the same; and the stores go on.

use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use vellum_core::canary::Canary;
use vellum_core::id::{SegmentId, SessionId, VolumeId};
use vellum_core::port::meta_kv::{
    AtomicOp, CommitRequest, Key, KeyRange, KvReply, Mutation, Read, ReadRound, Values, Version,
};
use vellum_core::port::page_store::{PageReply, PageRequest, SegmentDraft};
use vellum_sim::canaries::plant;
use vellum_sim::dice::{Dice, Stream};
use vellum_sim::disk::Ills;
use vellum_sim::local::LocalStore;

/// Page files hold a few segments.
const PAGE_FILE_BYTES: u64 = 64 << 10;
/// Beyond every call of a script.
const NEVER: u64 = u64::MAX;

/// One thing that is done to the stores.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Appends the next segment, of so many bytes, and commits its name.
    Store(usize),
    /// Appends the next segment and never names it.
    Orphan(usize),
    /// Commits, with a value of so many bytes.
    Commit(usize),
    /// Commits that some names are gone, makes that durable, and deletes the segments: the oldest ones.
    Delete(usize),
    /// Makes everything durable.
    Sync,
    /// Gives everything to the engine.
    Flush,
}

/// Every path of the stores: several log files, sealed page files, dead segments, a dead page file.
const SCRIPT: &[Step] = &[
    Step::Store(5_000),
    Step::Commit(10),
    Step::Sync,
    Step::Store(20_000),
    Step::Sync,
    Step::Orphan(12_000),
    Step::Commit(9_000),
    Step::Sync,
    Step::Flush,
    Step::Store(1),
    Step::Store(24_000),
    Step::Sync,
    Step::Commit(20_000),
    Step::Delete(2),
    Step::Store(4_096),
    Step::Sync,
    Step::Store(40_000),
    Step::Delete(3),
    Step::Commit(1),
    Step::Flush,
    Step::Commit(1),
    Step::Sync,
    Step::Commit(1),
];

type Rows = BTreeMap<Key, Bytes>;

/// The stores, and what is known of them from outside.
struct Run {
    store: LocalStore,
    /// The rows after each commit that may have taken effect, the empty state first.
    states: Vec<Rows>,
    /// This many of them, the first ones, were answered as durable.
    durable: usize,
    /// The index of the state at a version that was answered.
    versions: BTreeMap<Version, usize>,
    segments: BTreeMap<SegmentId, Bytes>,
    live: Vec<SegmentId>,
    next: u64,
}

/// Something failed: the crash has come.
struct Crashed;

impl Run {
    fn new() -> Run {
        Run {
            store: LocalStore::with_page_files(
                VolumeId(5),
                1 << 40,
                Ills::default(),
                PAGE_FILE_BYTES,
            ),
            states: vec![Rows::new()],
            durable: 1,
            versions: BTreeMap::new(),
            segments: BTreeMap::new(),
            live: Vec::new(),
            next: 0,
        }
    }

    /// Does a script until the fuse is burnt. Returns whether it came to the end.
    fn perform(&mut self, script: &[Step]) -> bool {
        script.iter().all(|step| self.step(*step).is_ok())
    }

    fn step(&mut self, step: Step) -> Result<(), Crashed> {
        match step {
            Step::Store(len) => {
                let id = self.append(len)?;
                self.live.push(id);
                self.commit(vec![set(&name(id), &[1])])
            }
            Step::Orphan(len) => self.append(len).map(drop),
            Step::Commit(len) => self.commit(vec![set("value", &vec![self.next as u8; len])]),
            Step::Delete(count) => {
                let doomed: Vec<SegmentId> = self.live.iter().take(count).copied().collect();
                let clear =
                    |id: &SegmentId| Mutation::Clear { key: Key::new(name(*id).as_bytes()) };
                self.commit(doomed.iter().map(clear).collect())?;
                self.sync()?;
                self.live.retain(|id| !doomed.contains(id));
                self.serve(&PageRequest::Delete { segments: doomed }).map(drop)
            }
            Step::Sync => self.sync(),
            Step::Flush => self.store.flush().map_err(|_| Crashed),
        }
    }

    fn append(&mut self, len: usize) -> Result<SegmentId, Crashed> {
        self.next += 1;
        let id = SegmentId { session: SessionId(7), sequence: self.next };
        let byte = |n: usize| (n as u64 * 31 + n as u64 / 253 + self.next) as u8;
        let bytes: Bytes = (0..len).map(byte).collect();
        self.segments.insert(id, bytes.clone());
        self.serve(&PageRequest::Append(SegmentDraft {
            id,
            payload: vec![bytes],
            len: len as u32,
        }))?;
        Ok(id)
    }

    fn commit(&mut self, mut mutations: Vec<Mutation>) -> Result<(), Crashed> {
        self.next += 1;
        // Each state is like no other, and a lost or doubled commit shows.
        mutations.push(set("number", &self.next.to_be_bytes()));
        let one = 1u64.to_le_bytes();
        let (key, op) = (Key::new(b"count"), AtomicOp::Add);
        mutations.push(Mutation::Atomic { key, op, operand: one.as_slice().into() });
        let mut rows = self.states.last().expect("the empty state").clone();
        mutations.iter().for_each(|mutation| apply(&mut rows, mutation));
        let request = CommitRequest { mutations, ..CommitRequest::default() };
        // What is refused has no effect: commits are of memory.
        let commit = self.store.commit(request).map_err(|_| Crashed)?;
        self.states.push(rows);
        self.versions.insert(commit.version, self.states.len());
        Ok(())
    }

    fn sync(&mut self) -> Result<(), Crashed> {
        let version = self.store.last().version;
        let durable = self.store.sync(version).map_err(|_| Crashed)?;
        assert!(durable >= version, "a sync covers what was asked for");
        let states = self.versions.range(..=durable).next_back().map_or(1, |(_, n)| *n);
        self.durable = self.durable.max(states);
        Ok(())
    }

    fn serve(&self, request: &PageRequest) -> Result<PageReply, Crashed> {
        self.store.serve(request).map_err(|_| Crashed)
    }

    /// The stores are open again: what is there is right. Returns how many commits were kept.
    fn check(&self) -> usize {
        let rows = self.rows();
        let kept = self.states.iter().position(|state| *state == rows);
        let kept = kept.expect("the metadata is that of a prefix of the commits") + 1;
        assert!(kept >= self.durable, "{kept} states, and {} are durable", self.durable);
        for key in rows.keys().filter(|key| key.starts_with(b"segment/")) {
            let id = self.segments.keys().find(|id| name(**id).as_bytes() == &key[..]);
            let id = *id.expect("a segment that was stored");
            let len = self.segments[&id].len() as u32;
            let read = self.serve(&PageRequest::Read { segment: id, offset: 0, len });
            let Ok(PageReply::Data(bytes)) = read else { panic!("{id:?} is named and not there") };
            assert!(bytes == self.segments[&id], "{id:?} has other bytes");
            assert!(self.serve(&PageRequest::Verify { segment: id }).is_ok());
        }
        for id in self.listed() {
            let known = self.segments.get(&id).expect("no segment out of nothing");
            let read = PageRequest::Read { segment: id, offset: 0, len: known.len() as u32 };
            if let Ok(PageReply::Data(bytes)) = self.serve(&read) {
                assert!(bytes == *known, "{id:?} has other bytes");
            }
        }
        assert_eq!(self.store.violations(), &[] as &[String]);
        kept
    }

    fn rows(&self) -> Rows {
        let range = KeyRange { begin: Key::new(b""), end: Key::new(&[255]) };
        let read = Read::Range { range, limit: 1_000, reverse: false };
        let round = ReadRound { at: None, reads: vec![read] };
        let Ok(KvReply::Values { mut values, .. }) = self.store.read(&round) else {
            panic!("the metadata cannot be read")
        };
        let Some(Values::Rows { rows, more: false }) = values.pop() else { panic!("rows") };
        rows.into_iter().collect()
    }

    fn listed(&self) -> BTreeSet<SegmentId> {
        match self.serve(&PageRequest::List { after: None, limit: 1_000 }) {
            Ok(PageReply::Listed(ids)) => ids.into_iter().collect(),
            _ => panic!("the segments cannot be listed"),
        }
    }

    /// Later commits are gone; the stores go on from what was kept.
    fn go_on(&mut self, kept: usize) {
        self.states.truncate(kept);
        self.durable = kept;
        self.versions.clear();
        self.live.clear();
        assert!(self.perform(&[Step::Store(9_000), Step::Sync, Step::Store(90_000), Step::Flush]));
        self.check();
    }
}

fn name(id: SegmentId) -> String {
    format!("segment/{:04}", id.sequence)
}

fn set(key: &str, value: &[u8]) -> Mutation {
    Mutation::Set { key: Key::new(key.as_bytes()), value: Bytes::copy_from_slice(value) }
}

fn apply(rows: &mut Rows, mutation: &Mutation) {
    match mutation {
        Mutation::Set { key, value } => drop(rows.insert(key.clone(), value.clone())),
        Mutation::Clear { key } => drop(rows.remove(key)),
        Mutation::Atomic { key, .. } => {
            let old = rows.get(key).map_or(0, |v| u64::from_le_bytes(v[..].try_into().unwrap()));
            rows.insert(key.clone(), Bytes::copy_from_slice(&(old + 1).to_le_bytes()));
        }
        other => panic!("{other:?} is not in the script"),
    }
}

/// Performs a script until its call number `at`, and ends process or power there. False: it has fewer
/// calls.
fn crashed(script: &[Step], at: u64, power: bool, dice: &mut Dice) -> Option<Run> {
    let mut run = Run::new();
    run.store.fuse().light(at);
    let finished = run.perform(script);
    run.store.fuse().put_out();
    run.store.stop(power.then_some(dice));
    (!finished).then_some(run)
}

/// Every call number of a script, from 0 on, while `crash` says that there is such a call.
fn at_each(crash: impl Fn(u64) -> bool) -> u64 {
    (0..).find(|at| !crash(*at)).expect("a script ends")
}

/// A crash at a call of a script, a whole recovery, and work after it.
fn survives(script: &[Step], at: u64, power: bool, seed: u64) -> bool {
    let dice = &mut Dice::new(seed, Stream::Faults);
    let Some(mut run) = crashed(script, at, power, dice) else { return false };
    run.store
        .open()
        .unwrap_or_else(|error| panic!("call {at}, power {power}, seed {seed}: {error}"));
    let kept = run.check();
    // What a start found is not at risk any more.
    run.store.stop(Some(dice));
    run.store.open().expect("a second start");
    assert_eq!(run.check(), kept, "call {at}, power {power}, seed {seed}");
    run.go_on(kept);
    true
}

/// A crash at a call of a script, and one at each call of the recovery.
fn survives_twice(script: &[Step], at: u64, power: bool, seed: u64) -> bool {
    let whole = {
        let dice = &mut Dice::new(seed, Stream::Faults);
        let Some(mut run) = crashed(script, at, power, dice) else { return false };
        run.store.open().expect("a start");
        run.check()
    };
    let cut_at = |again: u64| {
        let dice = &mut Dice::new(seed, Stream::Faults);
        let mut run = crashed(script, at, power, dice).expect("as before");
        run.store.fuse().light(again);
        let opened = run.store.open();
        run.store.fuse().put_out();
        if opened.is_ok() {
            return false;
        }
        run.store.stop(power.then_some(dice));
        run.store.open().unwrap_or_else(|error| panic!("{at}, then {again}: {error}"));
        assert_eq!(run.check(), whole, "call {at}, power {power}, seed {seed}, then call {again}");
        true
    };
    at_each(cut_at);
    true
}

fn random_script(seed: u64) -> Vec<Step> {
    let dice = &mut Dice::new(seed, Stream::Plan);
    (0..dice.within(5, 25))
        .map(|_| match dice.below(12) {
            0..=3 => Step::Store(dice.within(1, 30_000) as usize),
            4 => Step::Orphan(dice.within(1, 30_000) as usize),
            5..=6 => Step::Commit(dice.within(0, 9_000) as usize),
            7 => Step::Delete(dice.within(1, 3) as usize),
            8..=10 => Step::Sync,
            _ => Step::Flush,
        })
        .collect()
}

#[test]
fn a_crash_at_every_call_leaves_a_prefix_with_everything_durable() {
    let whole = crashed(SCRIPT, NEVER, false, &mut Dice::new(0, Stream::Faults));
    assert!(whole.is_none(), "the script comes to its end without a crash");
    for (power, seeds) in [(false, 1), (true, 8)] {
        for seed in 0..seeds {
            let calls = at_each(|at| survives(SCRIPT, at, power, seed));
            assert!(calls > 80, "only {calls} calls");
        }
    }
}

#[test]
fn a_crash_at_every_call_of_a_recovery_changes_nothing() {
    for (power, seed) in [(false, 0), (true, 1)] {
        at_each(|at| survives_twice(SCRIPT, at, power, seed));
    }
}

#[test]
fn random_scripts_survive_a_crash_at_every_call() {
    for seed in 0..12 {
        let script = random_script(seed);
        at_each(|at| survives(&script, at, true, seed));
    }
}

#[test]
fn planted_bugs_of_the_stores_do_not_survive() {
    for bug in [
        Canary::UnsyncedLog,
        Canary::UnsyncedDirectory,
        Canary::ForgottenMark,
        Canary::BelievedRecord,
    ] {
        let _planted = plant(Some(bug));
        let fails = |seed| {
            let run = AssertUnwindSafe(|| at_each(|at| survives(SCRIPT, at, true, seed)));
            catch_unwind(run).is_err()
        };
        assert!((0..8).any(fails), "{bug:?} is not found");
    }
}
