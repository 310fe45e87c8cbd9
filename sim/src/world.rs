//! The simulated world: one thread, virtual time, one queue of events around one machine.
//!
//! Owns: time, the order of events, the stores, the callers. Never does: judging what happened
//! (`check.rs`), choosing operations (`plan.rs`).
//! Invariants: nothing here depends on anything but the seed and the options; every event has its own
//! place in one order.

pub mod explore;
mod life;
mod steps;
mod stores;
mod story;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::Duration;
use vellum_core::client::{Client, ClientConfig};
use vellum_core::id::{EffectId, Ino, RequestId, SessionId, VolumeId};
use vellum_core::port::Completion;
use vellum_core::port::control::{Answer, Control, FormatOptions};
use vellum_core::port::kernel::{Caller, Notification, Operation, Reply, Request};
use vellum_core::port::meta_kv::{CommitRequest, KvRequest, KvTraits};
use vellum_core::port::page_store::{PageError, PageRequest};
use vellum_core::time::{Instant, Now, WallTime};

use crate::callers::Callers;
use crate::dice::{Dice, Stream};
use crate::faults::{Fault, Options, Store};
use crate::history::{CommitOrder, Epoch, Place};
use crate::invariants::damage::Damage;
use crate::link::{KvFate, Link};
use crate::store::Stores;
use crate::times::Span;
use crate::trace::Trace;

/// Nobody waits longer than this, in virtual nanoseconds.
const PATIENCE: u64 = 120_000_000_000;
/// Events of one run; more means that it goes round in circles.
const EVENTS_MAX: u64 = 3_000_000;
/// 2026-01-01 in seconds.
const EPOCH_SECS: i64 = 1_767_225_600;

/// Why a run failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Stable name of the rule that was broken.
    pub rule: &'static str,
    /// What, in words.
    pub text: String,
    /// When the answer that shows it was given, if it is one.
    pub place: Place,
    /// How much of that answer does not hold, such as entries of a listing; 0 when all answers hold by
    /// themselves, and something about times or about several of them is wrong.
    pub open: usize,
    /// An inode that the answer names and nobody can know.
    pub stranger: Option<Ino>,
}

impl Failure {
    /// A failure of a rule.
    pub fn new(rule: &'static str, text: impl Into<String>) -> Failure {
        Failure { rule, text: text.into(), place: 0, open: 1, stranger: None }
    }

    /// How far the history is explained up to here: less is earlier.
    pub fn progress(&self) -> (bool, Place, Reverse<usize>) {
        (self.open == 0, self.place, Reverse(self.open))
    }
}

/// A result of a run's part.
pub type Outcome<T> = Result<T, Failure>;

/// Who waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiter {
    /// A caller of the plan.
    Caller(usize),
    /// The world itself.
    World,
}

/// The world of one run.
pub struct World {
    /// What the run is like.
    pub options: Options,
    /// The metadata store and the page store.
    pub stores: Stores,
    /// Latencies and faults.
    pub link: Link,
    /// The callers and their kernel.
    pub callers: Callers,
    /// What happened since the last known state.
    pub epoch: Epoch,
    /// Where commits were applied.
    pub order: CommitOrder,
    /// Hash of everything that happened.
    pub trace: Trace,
    /// Reports of the machine, for the reader of a failure.
    pub reports: Vec<String>,
    /// Chance of the schedule.
    pub dice: Dice,
    /// Chance of the faults.
    pub faults: Dice,
    /// What the civil clock said at its least and at its most, if it ever jumped.
    clock_hull: Option<Span>,
    /// What the callers did, in words, if somebody wants to know.
    pub story: Option<Vec<String>>,
    /// Print every effect.
    pub verbose: bool,
    /// A kill is allowed to happen now.
    pub armed: bool,
    /// The process was killed.
    pub crashed: bool,
    /// What could not be read, and what was said of it.
    pub damage: Damage,
    /// The machine said that it leaves something to reclaim to the next mount.
    pub left_garbage: bool,
    /// The page store did not delete what it was asked to: that is left for the next life.
    undeleted: bool,
    /// The kernel dropped the connection.
    pub aborting: bool,
    /// Requests whose answers nobody hears.
    aborted: BTreeSet<RequestId>,
    /// The process stands still until then.
    paused_until: u64,
    /// Chance of the faults that came later.
    pub more_faults: Dice,
    /// How long the kernel takes to forget.
    notices: Dice,
    /// Chooses what happens next, if dice do not.
    pub explorer: Option<explore::Explorer>,
    /// The stores leave nothing to chance that a search does not choose.
    pub steady: bool,
    /// The process ends with a loss that a search chose.
    pub doom: Option<usize>,
    client: Client,
    time: u64,
    place: Place,
    wall_offset: i64,
    queue: BinaryHeap<Reverse<(u64, u64, Event)>>,
    ticket: u64,
    flights: BTreeMap<u64, Flight>,
    asked: BTreeMap<RequestId, Asked>,
    next_request: u64,
    answers: BTreeMap<RequestId, Given>,
    last_answer: u64,
    events: u64,
    idle_timeouts: u32,
}

/// Something that is to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Event {
    /// A request reaches its store, a notification the kernel.
    Arrive(u64),
    /// An answer reaches the machine.
    Deliver(u64),
    /// A commit whose answer was lost takes effect.
    Land(u64),
    /// A caller may go on.
    Caller(usize),
}

/// A request on its way.
struct Flight {
    effect: EffectId,
    body: Body,
    back: u64,
    fate: KvFate,
    refused: Option<PageError>,
    completion: Option<Completion>,
}

enum Body {
    Kv(KvRequest),
    Page(PageRequest),
    Notice(Notification),
    Late(Box<CommitRequest>),
}

struct Asked {
    waiter: Waiter,
    what: What,
    wall: WallTime,
    place: Place,
    interrupted: bool,
}

enum What {
    Kernel(Caller, Operation),
    Control,
}

/// An answer that the world itself waited for.
enum Given {
    Reply,
    Answer(Box<Answer>),
}

impl World {
    /// A world with empty stores and a machine that was told nothing yet.
    pub fn new(seed: u64, options: Options, callers: Callers) -> World {
        let volume = World::format_options(seed, &options).volume;
        let mut dice = Dice::new(seed, Stream::Schedule);
        let client = Client::new(config(&options, &mut dice));
        World {
            stores: Stores::new(&options, volume, Dice::new(seed, Stream::Ills)),
            link: Link::new(&options),
            callers,
            epoch: Epoch::default(),
            order: CommitOrder::default(),
            trace: Trace::default(),
            reports: Vec::new(),
            dice,
            faults: Dice::new(seed, Stream::Faults),
            clock_hull: None,
            story: None,
            verbose: false,
            armed: false,
            crashed: false,
            damage: Damage::default(),
            left_garbage: false,
            undeleted: false,
            aborting: false,
            aborted: BTreeSet::new(),
            paused_until: 0,
            more_faults: Dice::new(seed, Stream::MoreFaults),
            notices: Dice::new(seed, Stream::Notices),
            explorer: None,
            steady: false,
            doom: None,
            client,
            time: 0,
            place: 0,
            wall_offset: 0,
            queue: BinaryHeap::new(),
            ticket: 0,
            flights: BTreeMap::new(),
            asked: BTreeMap::new(),
            next_request: 1,
            answers: BTreeMap::new(),
            last_answer: 0,
            events: 0,
            idle_timeouts: 0,
            options,
        }
    }

    /// Virtual nanoseconds since the start.
    pub fn time(&self) -> u64 {
        self.time
    }

    /// The place of the last event.
    pub fn place(&self) -> Place {
        self.place
    }

    /// What both clocks say.
    pub fn now(&self) -> Now {
        let skew = (i128::from(self.time) * i128::from(self.options.skew) / 1_000_000) as i64;
        let nanos = self.time as i64 + skew + self.wall_offset;
        let secs = EPOCH_SECS + nanos.div_euclid(1_000_000_000);
        let wall = WallTime::new(secs, nanos.rem_euclid(1_000_000_000) as u32);
        Now { mono: Instant(self.time), wall }
    }

    /// Kernel requests that wait for an answer.
    pub fn under_way(&self) -> Vec<RequestId> {
        let kernel = self.asked.iter().filter(|(_, a)| matches!(a.what, What::Kernel(..)));
        kernel.map(|(id, _)| *id).collect()
    }

    /// What a volume of this run is like.
    pub fn format_options(seed: u64, options: &Options) -> FormatOptions {
        let volume = VolumeId(u128::from(seed) << 64 | 0x5e11);
        FormatOptions {
            volume,
            hash_key: *b"0123456789abcdef",
            hash_bits: options.hash_bits,
            uid: 0,
            gid: 0,
            mode: 0o755,
            limit: options.limit,
        }
    }

    /// Hands a kernel request in.
    pub fn ask(&mut self, waiter: Waiter, caller: Caller, op: Operation) -> Outcome<RequestId> {
        let id = self.new_request(waiter, What::Kernel(caller, op.clone()));
        self.say(|| format!("{id:?} {waiter:?} asks {}", brief(&op)));
        self.tell_of(|world| format!("{}: {}", story::who(waiter), world.words(&op)));
        self.client.handle_request(self.now(), id, Request { caller, op });
        self.drain()?;
        Ok(id)
    }

    /// Hands a request in that is not answered: FORGET or INTERRUPT.
    pub fn tell(&mut self, op: Operation) -> Outcome<()> {
        if let Operation::Interrupt { target } = &op
            && let Some(asked) = self.asked.get_mut(target)
        {
            asked.interrupted = true;
            self.link.counts[Fault::Interrupt as usize] += 1;
        }
        self.place += 1;
        let id = RequestId(self.next_request);
        self.next_request += 1;
        self.say(|| format!("{id:?} tell {}", brief(&op)));
        self.client.handle_request(self.now(), id, Request { caller: Caller::default(), op });
        self.drain()
    }

    /// Hands a control request in.
    pub fn command(&mut self, waiter: Waiter, control: Control) -> Outcome<RequestId> {
        let id = self.new_request(waiter, What::Control);
        self.say(|| format!("{id:?} {waiter:?} commands {control:?}"));
        self.tell_of(|_| format!("{}: {control:?}", story::who(waiter)));
        self.client.handle_control(self.now(), id, control);
        self.drain()?;
        Ok(id)
    }

    /// A kernel request of the world's own, and its answer. It is in the history, too.
    pub fn call(&mut self, op: Operation) -> Outcome<&Reply> {
        let id = self.ask(Waiter::World, Caller::default(), op)?;
        while self.answers.remove(&id).is_none() {
            self.step()?;
        }
        let record = self.epoch.records.iter().rev().find(|r| r.id == id);
        Ok(&record.expect("an answered request is in the history").reply)
    }

    /// A control request of the world's own, and its answer.
    pub fn control(&mut self, control: Control) -> Outcome<Answer> {
        let id = self.command(Waiter::World, control)?;
        loop {
            match self.answers.remove(&id) {
                Some(Given::Answer(answer)) => return Ok(*answer),
                Some(Given::Reply) => {
                    return Err(Failure::new("reply-kind", "a control request got a kernel reply"));
                }
                None => self.step()?,
            }
        }
    }

    /// The answer to a control request, once it is there.
    pub fn answer(&mut self, id: RequestId) -> Option<Answer> {
        match self.answers.remove(&id)? {
            Given::Answer(answer) => Some(*answer),
            Given::Reply => None,
        }
    }

    /// A caller goes on after a pause.
    pub fn wake_caller(&mut self, caller: usize, after: u64) {
        self.push(after, Event::Caller(caller));
    }

    fn new_request(&mut self, waiter: Waiter, what: What) -> RequestId {
        let id = RequestId(self.next_request);
        self.next_request += 1;
        self.place += 1;
        if self.asked.is_empty() {
            self.last_answer = self.time;
        }
        let wall = self.now().wall;
        self.asked.insert(id, Asked { waiter, what, wall, place: self.place, interrupted: false });
        id
    }

    pub(super) fn push(&mut self, after: u64, event: Event) {
        self.ticket += 1;
        self.queue.push(Reverse((self.time + after, self.ticket, event)));
    }

    fn waiting(&self) -> String {
        let mut text = format!("at {} ns; waiting:", self.time);
        for (id, asked) in &self.asked {
            match &asked.what {
                What::Kernel(_, op) => text.push_str(&format!("\n  {id:?} {}", brief(op))),
                What::Control => text.push_str(&format!("\n  {id:?} a control request")),
            }
        }
        text
    }

    fn say(&self, line: impl FnOnce() -> String) {
        if self.verbose {
            println!("{:>14} {:>6} {}", self.time, self.place, line());
        }
    }
}

/// Debug output without the bytes of files.
pub fn brief(thing: &impl std::fmt::Debug) -> String {
    clipped(thing, 400)
}

fn clipped(thing: &impl std::fmt::Debug, len: usize) -> String {
    let mut text = format!("{thing:?}");
    if text.len() > len {
        let end = (0..=len).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
        text.truncate(end);
        text.push_str("...");
    }
    text
}

fn config(options: &Options, dice: &mut Dice) -> ClientConfig {
    let session = SessionId(u128::from(dice.word()) << 64 | u128::from(dice.word()));
    let cluster = options.store == Store::Cluster;
    let mut config = ClientConfig::sole(session, dice.word());
    config.kv = KvTraits {
        may_be_unknown: cluster,
        sole: !cluster,
        value_bytes_max: if cluster { 8 << 10 } else { 16 << 10 },
    };
    config.noatime = options.noatime;
    config.dirty_max = options.dirty_max;
    config.flush_after = Duration::from_millis(options.flush_after_ms);
    config.compaction = options.compaction;
    config
}
