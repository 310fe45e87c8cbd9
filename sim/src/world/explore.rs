//! The world under a search instead of dice: at each moment the search says which of the pending events
//! happens next, and whether a fault does.
//!
//! Owns: what the options of a moment are and which of them commute. Never does: searching
//! (`exhaustive/dfs.rs`).
//!
//! Time stands still but for a tick whenever the machine is told something, so that events that commute
//! lead to the same state. A timer is an option if it is near (a retry that backs
//! off); others fire when nothing else is left.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::rc::Rc;
use vellum_core::port::meta_kv::{KvError, KvRequest};
use vellum_core::port::page_store::PageRequest;

use super::{Body, Event, Failure, Flight, Outcome, World};
use crate::exhaustive::dfs::{Choice, Search};
use crate::faults::{Fault, Store};
use crate::history::{CommitOrder, Place};
use crate::link::KvFate;

/// Timers that are due within so many nanoseconds are options.
const NEAR: u64 = 100_000_000;
/// Nanoseconds of a step.
const TICK: u64 = 1_000;
/// The rule of a schedule that is another one's.
pub const REDUNDANT: &str = "redundant";

/// What happens next.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// A pending event.
    Event(Event, Kind),
    /// A commit arrives, and its answer is another one.
    Fault(Event, KvFate),
    /// The machine's next timer.
    Timer,
    /// The process ends; these commits on their way still land, and so many of the commits that are not
    /// durable are lost.
    Kill(Vec<u64>, usize),
}

/// What an event touches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It reads the metadata store.
    Read,
    /// It changes the metadata store.
    Commit,
    /// It reads a segment.
    ReadPage,
    /// It appends a segment.
    Append,
    /// Anything else that a store does.
    Other,
    /// An answer reaches the machine.
    Deliver,
    /// A caller asks.
    Ask,
}

/// The search of one run, and the faults that it may still choose.
pub struct Explorer {
    /// The search; it outlives a run that panics.
    pub search: Rc<RefCell<Search<Next>>>,
    /// Faults that may still happen.
    pub faults: u32,
    /// One of them may be the end of the process.
    pub kills: bool,
}

impl Choice for Next {
    fn independent(&self, other: &Next) -> bool {
        use Kind::{Append, Ask, Commit, Deliver, Read, ReadPage};
        match (self, other) {
            (Next::Event(a, one), Next::Event(b, two)) => {
                a != b
                    && match (one, two) {
                        (Read | ReadPage, Read | ReadPage) | (Append, Append) => true,
                        (Read, Append) | (Append, Read) => true,
                        (ReadPage, Commit) | (Commit, ReadPage) => true,
                        // The store does not know what the machine is told, nor the machine what the store
                        // has read for it, until that is delivered.
                        (Read | ReadPage | Append, Deliver | Ask) => true,
                        (Deliver | Ask, Read | ReadPage | Append) => true,
                        // An answer that comes before a commit leaves fewer excuses than one after it: the
                        // former is tried, as deliveries are tried first. For a question it would be the
                        // other way round, and both ways cannot be tried at once.
                        (Deliver, Commit) | (Commit, Deliver) => true,
                        _ => false,
                    }
            }
            _ => false,
        }
    }
}

impl World {
    /// The next event, if a search chooses it. `None` if none does.
    pub(super) fn explored_step(&mut self) -> Option<Outcome<()>> {
        let mut explorer = self.explorer.take()?;
        let options = self.options_now(&explorer);
        let next = if options.is_empty() {
            None
        } else {
            Some(explorer.search.borrow_mut().choose(options))
        };
        let result = match next {
            // Whoever waits for a far timer waits alone.
            None => {
                self.explorer = Some(explorer);
                return None;
            }
            Some(None) => Err(Failure::new(REDUNDANT, "")),
            Some(Some(next)) => {
                self.say(|| format!("--- {next:?}"));
                if matches!(next, Next::Fault(..) | Next::Kill(..)) {
                    explorer.faults -= 1;
                }
                self.follow(next)
            }
        };
        self.explorer = Some(explorer);
        Some(result)
    }

    fn options_now(&mut self, explorer: &Explorer) -> Vec<Next> {
        self.drop_idle_events();
        let mut events: Vec<(u64, Event)> =
            self.queue.iter().map(|Reverse((_, ticket, event))| (*ticket, *event)).collect();
        events.sort_unstable();
        let mut options = Vec::new();
        for (_, event) in &events {
            let option = Next::Event(*event, self.kind(*event));
            if !options.contains(&option) {
                options.push(option);
            }
        }
        options.sort_by_key(|option| match option {
            Next::Event(_, Kind::Deliver) => 0,
            Next::Event(_, Kind::Read | Kind::ReadPage | Kind::Append) => 1,
            Next::Event(_, Kind::Ask) => 3,
            _ => 2,
        });
        let timer = self.client.poll_timeout().map(|at| at.0);
        if timer.is_some_and(|at| at <= self.time + NEAR) {
            options.push(Next::Timer);
        }
        if explorer.faults > 0 {
            let commits: Vec<Event> = options
                .iter()
                .filter_map(|o| match o {
                    Next::Event(event, Kind::Commit) => Some(*event),
                    _ => None,
                })
                .collect();
            for event in commits {
                options.extend(self.fates(event).map(|fate| Next::Fault(event, fate)));
            }
            if explorer.kills && self.options.kernel_locks {
                self.kills(&mut options);
            }
        }
        options
    }

    /// Callers who are woken for nothing.
    fn drop_idle_events(&mut self) {
        let callers = &self.callers;
        self.queue.retain(|Reverse((_, _, event))| match event {
            Event::Caller(caller) => callers.has_something_to_do(*caller),
            _ => true,
        });
    }

    fn kind(&self, event: Event) -> Kind {
        match event {
            Event::Deliver(_) => Kind::Deliver,
            Event::Caller(_) => Kind::Ask,
            Event::Land(_) => Kind::Commit,
            Event::Arrive(flight) => match self.flights.get(&flight).map(|f| &f.body) {
                Some(Body::Kv(KvRequest::Read(_))) => Kind::Read,
                Some(Body::Kv(KvRequest::Commit(_)) | Body::Late(_)) => Kind::Commit,
                Some(Body::Page(PageRequest::Read { .. })) => Kind::ReadPage,
                Some(Body::Page(PageRequest::Append(_))) => Kind::Append,
                _ => Kind::Other,
            },
        }
    }

    fn fates(&self, event: Event) -> impl Iterator<Item = KvFate> + use<> {
        let relies = match event {
            Event::Arrive(flight) => match self.flights.get(&flight).map(|f| &f.body) {
                Some(Body::Kv(KvRequest::Commit(commit))) => commit.read_version.is_some(),
                _ => false,
            },
            _ => false,
        };
        let cluster = self.options.store == Store::Cluster;
        let conflict = relies.then_some(KvFate::Refuse(KvError::Conflict));
        let unknown = [KvFate::ServeUnknown, KvFate::LoseUnknown];
        conflict.into_iter().chain(unknown.into_iter().filter(move |_| cluster))
    }

    /// All ends: each order of each choice of the commits on their way may land, or a part of what was not
    /// durable is lost.
    fn kills(&self, options: &mut Vec<Next>) {
        let under_way =
            |f: &Flight| f.completion.is_none() && matches!(f.body, Body::Kv(KvRequest::Commit(_)));
        let commits: Vec<u64> =
            self.flights.iter().filter(|(_, f)| under_way(f)).map(|(n, _)| *n).collect();
        let mut landings: Vec<Vec<u64>> = vec![Vec::new()];
        let mut from = 0;
        while from < landings.len() {
            let longer: Vec<Vec<u64>> = commits
                .iter()
                .filter(|n| !landings[from].contains(n))
                .map(|n| landings[from].iter().copied().chain([*n]).collect())
                .collect();
            landings.extend(longer);
            from += 1;
        }
        options.extend(landings.into_iter().map(|landed| Next::Kill(landed, 0)));
        let at_risk = self.stores.at_risk();
        options.extend((1..=at_risk).map(|lost| Next::Kill(Vec::new(), lost)));
    }

    fn follow(&mut self, next: Next) -> Outcome<()> {
        match next {
            Next::Event(event, kind) => {
                if matches!(kind, Kind::Deliver | Kind::Ask) {
                    self.time += TICK;
                }
                self.happen(event)
            }
            Next::Fault(event, fate) => {
                if let Event::Arrive(flight) = event
                    && let Some(flight) = self.flights.get_mut(&flight)
                {
                    flight.fate = fate;
                }
                self.time += TICK;
                self.happen(event)
            }
            Next::Timer => {
                let at = self.client.poll_timeout().map_or(self.time, |at| at.0.max(self.time));
                self.fire_timer(at)
            }
            Next::Kill(landed, lost) => {
                self.link.counts[Fault::Crash as usize] += 1;
                for number in landed {
                    self.land(number);
                }
                self.doom = Some(lost);
                self.crashed = true;
                Ok(())
            }
        }
    }

    fn happen(&mut self, event: Event) -> Outcome<()> {
        let mut found = false;
        // Only the first of several that are the same.
        let mut events: Vec<_> = std::mem::take(&mut self.queue).into_vec();
        events.sort_unstable_by_key(|Reverse((_, ticket, _))| *ticket);
        events.retain(|Reverse((_, _, pending))| {
            let this = !found && *pending == event;
            found |= this;
            !this
        });
        self.queue = events.into();
        self.fire(event)
    }

    /// The process ends as a search said. Returns what [`World::kill`] returns.
    pub fn kill_as_chosen(&mut self, lost: usize) -> (CommitOrder, Place) {
        self.flights.clear();
        let order = self.order.clone();
        let cut = self.stores.crash_exactly(lost, &mut self.faults);
        let place = self.order.cut(cut);
        self.end_of_client();
        (order, place)
    }
}
