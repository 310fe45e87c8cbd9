//! The way between a machine and its stores: latencies and faults, drawn once per request.
//!
//! Owns: which request is refused, lost, or answered late. Never does: anything to the stores.

use vellum_core::port::meta_kv::{KvError, KvRequest, ReadRound};
use vellum_core::port::page_store::{PageError, PageRequest};

use crate::dice::Dice;
use crate::faults::{Fault, FaultCounts, Options, Store};

/// What becomes of a request to the metadata store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvFate {
    /// Served, and the answer arrives.
    Serve,
    /// Refused without effect.
    Refuse(KvError),
    /// Served, and the answer is lost.
    ServeUnknown,
    /// Not served, and nobody can tell.
    LoseUnknown,
    /// Nobody can tell, and it is served after this many nanoseconds, if it still can be.
    Late(u64),
}

/// How long the two halves of a request take, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct Legs {
    /// Until it is served.
    pub there: u64,
    /// Until the answer is delivered.
    pub back: u64,
}

/// The link of one run.
#[derive(Clone, Debug)]
pub struct Link {
    store: Store,
    rates: [u32; Fault::COUNT],
    outage_until: u64,
    full_until: u64,
    /// How often each fault happened.
    pub counts: FaultCounts,
}

impl Link {
    /// A link with the options of a run.
    pub fn new(options: &Options) -> Link {
        Link {
            store: options.store,
            rates: options.rates,
            outage_until: 0,
            full_until: 0,
            counts: {
                let mut counts = [0; Fault::COUNT];
                counts[Fault::ClockSkew as usize] = u64::from(options.skew != 0);
                counts
            },
        }
    }

    /// No faults from now on.
    pub fn heal(&mut self) {
        self.rates = [0; Fault::COUNT];
        self.outage_until = 0;
        self.full_until = 0;
    }

    /// No faults until [`Link::resume`], which wants what this gives.
    pub fn suspend(&mut self) -> [u32; Fault::COUNT] {
        self.outage_until = 0;
        self.full_until = 0;
        std::mem::replace(&mut self.rates, [0; Fault::COUNT])
    }

    /// Faults as before [`Link::suspend`].
    pub fn resume(&mut self, rates: [u32; Fault::COUNT]) {
        self.rates = rates;
    }

    /// Draws a fault with its own chance.
    pub fn strikes(&mut self, fault: Fault, dice: &mut Dice) -> bool {
        let strikes = dice.chance(self.rates[fault as usize]);
        self.counts[fault as usize] += u64::from(strikes);
        strikes
    }

    /// Latencies of a request to the metadata store.
    pub fn kv_legs(&mut self, request: &KvRequest, dice: &mut Dice, faults: &mut Dice) -> Legs {
        let typical = match (self.store, request) {
            (Store::Cluster, KvRequest::Read(_)) => 300_000,
            (Store::Cluster, KvRequest::Commit(_)) => 1_000_000,
            (Store::Cluster, KvRequest::Sync { .. }) => 100_000,
            (Store::Embedded | Store::Local, KvRequest::Sync { .. }) => 300_000,
            (Store::Embedded | Store::Local, _) => 2_000,
        };
        let tail = if self.strikes(Fault::KvTail, faults) { 200 } else { 1 };
        Legs { there: dice.latency(typical, 0) * tail, back: dice.latency(typical, 0) }
    }

    /// Latencies of a request to the page store.
    pub fn page_legs(&mut self, request: &PageRequest, dice: &mut Dice, faults: &mut Dice) -> Legs {
        let typical = match request {
            PageRequest::Append(draft) => 20_000 + u64::from(draft.len),
            _ => 50_000,
        };
        let tail = if self.strikes(Fault::PageTail, faults) { 1_000 } else { 1 };
        Legs { there: dice.latency(typical, 0) * tail, back: dice.latency(5_000, 0) }
    }

    /// What becomes of a request to the metadata store at `time`.
    pub fn kv_fate(&mut self, time: u64, request: &KvRequest, dice: &mut Dice) -> KvFate {
        if time < self.outage_until {
            return KvFate::Refuse(KvError::Unavailable);
        }
        if self.strikes(Fault::KvOutage, dice) {
            self.outage_until = time + dice.within(10_000_000, 8_000_000_000);
            return KvFate::Refuse(KvError::Unavailable);
        }
        if self.strikes(Fault::KvThrottled, dice) {
            return KvFate::Refuse(KvError::Throttled);
        }
        if matches!(request, KvRequest::Commit(_)) {
            if self.strikes(Fault::KvFull, dice) {
                self.full_until = time + dice.within(1_000_000, 2_000_000_000);
            }
            if time < self.full_until {
                return KvFate::Refuse(KvError::NoSpace);
            }
        }
        match request {
            KvRequest::Read(round) => self.read_fate(round, dice),
            KvRequest::Commit(commit) => self.commit_fate(commit.read_version.is_some(), dice),
            KvRequest::Sync { .. } => KvFate::Serve,
        }
    }

    /// Whether a page request is refused at `time`.
    pub fn page_fate(&mut self, request: &PageRequest, dice: &mut Dice) -> Option<PageError> {
        if self.strikes(Fault::PageAway, dice) {
            return Some(PageError::Unavailable);
        }
        if matches!(request, PageRequest::Read { .. }) && self.strikes(Fault::PageError, dice) {
            return Some(PageError::Io);
        }
        None
    }

    fn read_fate(&mut self, round: &ReadRound, dice: &mut Dice) -> KvFate {
        if round.at.is_some() && self.strikes(Fault::KvTooOld, dice) {
            return KvFate::Refuse(KvError::TooOld);
        }
        if self.strikes(Fault::KvNotYet, dice) {
            return KvFate::Refuse(KvError::NotYet);
        }
        KvFate::Serve
    }

    fn commit_fate(&mut self, has_reads: bool, dice: &mut Dice) -> KvFate {
        if has_reads && self.strikes(Fault::KvConflict, dice) {
            return KvFate::Refuse(KvError::Conflict);
        }
        if has_reads && self.strikes(Fault::KvTooOld, dice) {
            return KvFate::Refuse(KvError::TooOld);
        }
        if self.strikes(Fault::UnknownLanded, dice) {
            return KvFate::ServeUnknown;
        }
        if self.strikes(Fault::UnknownLost, dice) {
            return KvFate::LoseUnknown;
        }
        if self.strikes(Fault::UnknownLate, dice) {
            return KvFate::Late(dice.within(1_000_000, 4_900_000_000));
        }
        KvFate::Serve
    }
}
