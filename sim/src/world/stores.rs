//! Requests to the stores, and notifications of the kernel: on their way, served, lost, or late.

use vellum_core::id::EffectId;
use vellum_core::port::Completion;
use vellum_core::port::kernel::Notification;
use vellum_core::port::meta_kv::{Commit, CommitRequest, KvError, KvReply, KvRequest};
use vellum_core::port::page_store::{PageError, PageReply, PageRequest};

use super::{Body, Event, Flight, World, clipped};
use crate::faults::Fault;
use crate::kv::Paging;
use crate::link::KvFate;

impl World {
    pub(super) fn send_kv(&mut self, effect: EffectId, request: KvRequest) {
        self.say(|| format!("{effect:?} -> {}", clipped(&request, 6_000)));
        let legs = self.link.kv_legs(&request, &mut self.dice, &mut self.faults);
        let fate = self.link.kv_fate(self.time, &request, &mut self.faults);
        let flight = Flight {
            effect,
            body: Body::Kv(request),
            back: legs.back,
            fate,
            refused: None,
            completion: None,
        };
        self.launch(flight, legs.there);
    }

    pub(super) fn send_page(&mut self, effect: EffectId, request: PageRequest) {
        self.say(|| format!("{effect:?} -> {}", clipped(&request, 6_000)));
        let legs = self.link.page_legs(&request, &mut self.dice, &mut self.faults);
        let refused = self.link.page_fate(&request, &mut self.faults);
        let flight = Flight {
            effect,
            body: Body::Page(request),
            back: legs.back,
            fate: KvFate::Serve,
            refused,
            completion: None,
        };
        self.launch(flight, legs.there);
    }

    /// The kernel works on it for a while, and now and then for long.
    pub(super) fn send_notice(&mut self, effect: EffectId, notification: Notification) {
        self.say(|| format!("{effect:?} -> {notification:?}"));
        let (there, back) = (self.notices.latency(5_000, 500), self.notices.latency(2_000, 0));
        let flight = Flight {
            effect,
            body: Body::Notice(notification),
            back,
            fate: KvFate::Serve,
            refused: None,
            completion: None,
        };
        self.launch(flight, there);
    }

    fn launch(&mut self, flight: Flight, there: u64) {
        let number = self.ticket;
        self.flights.insert(number, flight);
        self.push(there, Event::Arrive(number));
    }

    pub(super) fn arrive(&mut self, number: u64) {
        let Some(mut flight) = self.flights.remove(&number) else { return };
        flight.completion = Some(match &flight.body {
            Body::Kv(_) => Completion::Kv(self.serve_kv(&mut flight)),
            Body::Page(request) => Completion::Page(match flight.refused {
                Some(error) => Err(error),
                None => self.serve_page(request),
            }),
            Body::Notice(notification) => {
                self.place += 1;
                self.callers.kernel.modes.forget(notification, self.place);
                Completion::Notified
            }
            Body::Late(_) => unreachable!("late commits land, they do not arrive"),
        });
        let deletes = matches!(&flight.body, Body::Page(PageRequest::Delete { .. }));
        if deletes && matches!(&flight.completion, Some(Completion::Page(Err(_)))) {
            self.undeleted = true;
        }
        if self.armed && self.stores.failed() {
            // Nothing can be done but to start anew. Nobody hears the answer.
            self.crashed = true;
        }
        let back = flight.back;
        self.flights.insert(number, flight);
        self.push(back, Event::Deliver(number));
    }

    fn serve_page(&mut self, request: &PageRequest) -> Result<PageReply, PageError> {
        let result = self.stores.page(request);
        if matches!(result, Err(PageError::NoSpace)) {
            self.link.counts[Fault::NoSpace as usize] += 1;
        }
        result
    }

    fn serve_kv(&mut self, flight: &mut Flight) -> Result<KvReply, KvError> {
        let Body::Kv(request) = &mut flight.body else { unreachable!("the caller matched") };
        match flight.fate {
            KvFate::Refuse(error) => return Err(error),
            KvFate::LoseUnknown => return Err(KvError::CommitUnknown { may_still_land: false }),
            KvFate::Late(after) => {
                if let KvRequest::Commit(commit) = request {
                    let commit = std::mem::take(commit);
                    self.land_later(flight.effect, commit, after);
                }
                return Err(KvError::CommitUnknown { may_still_land: true });
            }
            KvFate::Serve | KvFate::ServeUnknown => {}
        }
        match request {
            KvRequest::Read(round) => {
                let split = self.link.strikes(Fault::KvSplit, &mut self.faults);
                let rows_max = if split { 1 + self.dice.below(8) as u32 } else { u32::MAX };
                self.stores.read(self.time, round, Paging { rows_max })
            }
            KvRequest::Commit(commit) => {
                let commit = std::mem::take(commit);
                let committed = self.apply(&commit)?;
                if flight.fate == KvFate::ServeUnknown {
                    return Err(KvError::CommitUnknown { may_still_land: false });
                }
                Ok(KvReply::Committed(committed))
            }
            KvRequest::Sync { up_to } => Ok(KvReply::Durable(self.stores.sync(*up_to)?)),
        }
    }

    pub(super) fn apply(&mut self, request: &CommitRequest) -> Result<Commit, KvError> {
        let share = !self.steady && self.dice.coin();
        let commit = self.stores.commit(self.time, request, share)?;
        self.place += 1;
        self.order.push(commit, self.place);
        self.say(|| format!("commit {commit:?} applied at place {}", self.place));
        Ok(commit)
    }

    fn land_later(&mut self, effect: EffectId, commit: Box<CommitRequest>, after: u64) {
        let number = self.ticket;
        let flight = Flight {
            effect,
            body: Body::Late(commit),
            back: 0,
            fate: KvFate::Serve,
            refused: None,
            completion: None,
        };
        self.flights.insert(number, flight);
        self.push(after, Event::Land(number));
    }

    /// A commit on its way takes effect, and nobody hears of it.
    pub(super) fn land(&mut self, number: u64) {
        if let Some(mut flight) = self.flights.remove(&number) {
            flight.fate = KvFate::Serve;
            self.serve_kv(&mut flight).ok();
        }
    }

    /// What was on its way when the process ended may have happened or not.
    pub(super) fn settle_flights(&mut self) {
        for (_, mut flight) in std::mem::take(&mut self.flights) {
            if flight.completion.is_some() || self.faults.coin() {
                continue;
            }
            match &flight.body {
                Body::Kv(KvRequest::Commit(_)) if !matches!(flight.fate, KvFate::Refuse(_)) => {
                    flight.fate = KvFate::Serve;
                    self.serve_kv(&mut flight).ok();
                }
                Body::Late(commit) => {
                    self.apply(commit).ok();
                }
                Body::Page(request) => {
                    self.serve_page(request).ok();
                }
                Body::Kv(_) | Body::Notice(_) => {}
            }
        }
    }
}
