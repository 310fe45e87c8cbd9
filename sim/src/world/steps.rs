//! What happens next: events, timers, and the machine's effects.

use std::cmp::Reverse;
use vellum_core::id::{Ino, RequestId};
use vellum_core::port::control::{Answer, Limit};
use vellum_core::port::kernel::{Operation, Reply};
use vellum_core::port::meta_kv::KvRequest;
use vellum_core::port::{Effect, Point, Severity};

use super::{
    Body, EVENTS_MAX, Event, Flight, Given, PATIENCE, Waiter, What, World, brief, clipped,
};
use crate::callers::Callers;
use crate::faults::Fault;
use crate::history::Record;
use crate::invariants::transactions::too_large;
use crate::kernel::modes::changes_attributes;
use crate::kernel::names_of;
use crate::probes;
use crate::times::Span;
use crate::world::{Failure, Outcome};

fn errno(reply: &Reply) -> Option<i32> {
    match reply {
        Reply::Error(error) => Some(error.errno()),
        _ => None,
    }
}

impl World {
    /// The next event.
    ///
    /// # Errors
    /// When nothing will ever happen although somebody waits, or everything goes round in circles.
    pub fn step(&mut self) -> Outcome<()> {
        self.events += 1;
        if self.events > EVENTS_MAX {
            return Err(Failure::new(
                "livelock",
                format!("more than {EVENTS_MAX} events\n{}", self.waiting()),
            ));
        }
        self.stores.ail(self.armed);
        if let Some(result) = self.explored_step() {
            return result;
        }
        let timer = self.client.poll_timeout().map(|at| at.0.max(self.time).max(self.paused_until));
        let next = self.queue.peek().map(|Reverse((at, ..))| *at);
        match (timer, next) {
            (Some(timer), next) if next.is_none_or(|next| timer <= next) => {
                self.fire_timer(timer)?
            }
            (_, Some(_)) => self.fire_event()?,
            (_, None) => {
                return Err(Failure::new(
                    "deadlock",
                    format!("nothing will happen\n{}", self.waiting()),
                ));
            }
        }
        let since = self.last_answer.max(self.paused_until);
        if !self.asked.is_empty() && self.time.saturating_sub(since) > PATIENCE {
            return Err(Failure::new(
                "liveness",
                format!("no answer for {} s\n{}", PATIENCE / 1_000_000_000, self.waiting()),
            ));
        }
        Ok(())
    }

    /// Lets so much time pass, in nanoseconds.
    ///
    /// # Errors
    /// As [`World::step`].
    pub fn wait(&mut self, time: u64) -> Outcome<()> {
        let until = self.time + time;
        loop {
            let timer = self.client.poll_timeout().map(|at| at.0);
            let event = self.queue.peek().map(|Reverse((at, ..))| *at);
            match timer.into_iter().chain(event).min() {
                Some(next) if next <= until => self.step()?,
                _ => break,
            }
        }
        self.time = self.time.max(until);
        Ok(())
    }

    pub(super) fn fire_timer(&mut self, at: u64) -> Outcome<()> {
        self.idle_timeouts = if at > self.time { 0 } else { self.idle_timeouts + 1 };
        if self.idle_timeouts > 10_000 {
            return Err(Failure::new(
                "livelock",
                format!("the same timeout again and again\n{}", self.waiting()),
            ));
        }
        self.time = at;
        self.client.handle_timeout(self.now());
        self.drain()
    }

    fn fire_event(&mut self) -> Outcome<()> {
        let Reverse((at, _, event)) = self.queue.pop().expect("the caller looked");
        self.time = self.time.max(at);
        if self.time < self.paused_until && matches!(event, Event::Deliver(_) | Event::Caller(_)) {
            let after = self.paused_until - self.time;
            self.push(after, event);
            return Ok(());
        }
        self.fire(event)
    }

    pub(super) fn fire(&mut self, event: Event) -> Outcome<()> {
        match event {
            Event::Arrive(flight) => self.arrive(flight),
            Event::Deliver(flight) => {
                let Some(flight) = self.flights.remove(&flight) else { return Ok(()) };
                let completion = flight.completion.expect("served before it is delivered");
                self.place += 1;
                self.trace.completion(self.time, flight.effect.0, &completion);
                self.say(|| format!("{:?} <- {}", flight.effect, clipped(&completion, 2_000)));
                self.client.handle_completion(self.now(), flight.effect, completion);
                self.drain()?;
            }
            Event::Land(flight) => {
                if let Some(Flight { body: Body::Late(commit), .. }) = self.flights.remove(&flight)
                {
                    self.apply(&commit).ok();
                }
            }
            Event::Caller(caller) => {
                if !self.crashed {
                    Callers::go_on(self, caller)?;
                }
            }
        }
        Ok(())
    }

    /// Takes the machine's effects and performs them.
    pub(super) fn drain(&mut self) -> Outcome<()> {
        while let Some(effect) = self.client.poll_effect() {
            if self.crashed {
                continue;
            }
            if self.armed && self.faults.chance(self.link_rate(Fault::Crash)) {
                self.crashed = true;
                continue;
            }
            self.trace.effect(self.time, &effect);
            self.perform(effect)?;
        }
        Ok(())
    }

    fn link_rate(&self, fault: Fault) -> u32 {
        self.options.rate(fault)
    }

    fn perform(&mut self, effect: Effect) -> Outcome<()> {
        match effect {
            Effect::Reply { request, reply, point } => self.replied(request, reply, point),
            Effect::Answer { request, answer } => self.answered(request, answer),
            Effect::Kv { id, request } => {
                if let KvRequest::Commit(commit) = &request
                    && let Some(text) = too_large(commit)
                {
                    return Err(Failure::new("transaction-size", text));
                }
                self.send_kv(id, request);
                Ok(())
            }
            Effect::Page { id, request } => {
                self.send_page(id, request);
                Ok(())
            }
            Effect::Notify { id, notification } => {
                self.send_notice(id, notification);
                Ok(())
            }
            Effect::Report(report) => {
                self.say(|| format!("report: {}", report.text));
                self.damage.report(&report.text);
                self.left_garbage |= report.text.contains("the next mount tries again");
                if report.severity >= Severity::Warning && self.reports.len() < 50 {
                    self.reports.push(format!("{:?}: {}", report.severity, report.text));
                }
                Ok(())
            }
        }
    }

    fn replied(&mut self, id: RequestId, reply: Reply, point: Point) -> Outcome<()> {
        if self.aborted.remove(&id) {
            return Ok(());
        }
        let Some(asked) = self.asked.remove(&id) else {
            return Err(Failure::new(
                "reply-once",
                format!("{id:?} was answered twice or never asked"),
            ));
        };
        let What::Kernel(caller, op) = asked.what else {
            return Err(Failure::new(
                "reply-kind",
                format!("{id:?} is a control request and got a kernel reply"),
            ));
        };
        self.place += 1;
        self.last_answer = self.time;
        self.say(|| format!("{id:?} = {} at {point:?}", brief(&reply)));
        self.probe(&op, &reply);
        if let (Operation::Read { ino, .. }, Some(5)) = (&op, errno(&reply)) {
            self.damage.refuse(*ino);
        }
        if self.options.limit != Limit::default() && errno(&reply) == Some(28) {
            self.link.counts[Fault::VolumeFull as usize] += 1;
        }
        if let Reply::Error(error) = &reply {
            self.tell_of(|world| format!("    errno {} for: {}", error.errno(), world.words(&op)));
        }
        let answered = self.place;
        let record = Record {
            id,
            caller,
            op,
            wall: asked.wall,
            asked: asked.place,
            answered,
            span: Span::new(asked.wall, self.now().wall),
            reply,
            point,
            interrupted: asked.interrupted,
            inferred: false,
        };
        self.callers.kernel.modes.learn(&record);
        self.callers.kernel.modes.check(&record, |ino| self.is_change_under_way(ino))?;
        self.epoch.records.push(record);
        match asked.waiter {
            Waiter::World => {
                self.answers.insert(id, Given::Reply);
            }
            Waiter::Caller(caller) => Callers::replied(self, caller),
        }
        Ok(())
    }

    fn is_change_under_way(&self, ino: Ino) -> bool {
        self.asked.values().any(|asked| match &asked.what {
            What::Kernel(_, op) => changes_attributes(op, ino),
            What::Control => false,
        })
    }

    /// Notes rare situations that are seen from outside.
    fn probe(&self, op: &Operation, reply: &Reply) {
        let others = self.asked.values().filter_map(|asked| match &asked.what {
            What::Kernel(_, op) => Some(op),
            What::Control => None,
        });
        match (op, reply) {
            (Operation::Write { ino, .. }, Reply::Written(_)) => {
                let syncs =
                    |op: &Operation| matches!(op, Operation::Fsync { ino: of, .. } if of == ino);
                if others.into_iter().any(syncs) {
                    probes::hit("write-during-fsync");
                }
            }
            (Operation::Read { ino, .. }, Reply::Data(_))
                if !self.callers.kernel.has_name(*ino) =>
            {
                probes::hit("removed-file-read");
            }
            (Operation::ReadDir { ino, cookie, .. }, Reply::Entries(entries)) => {
                let changes =
                    |op: &Operation| names_of(op).into_iter().flatten().any(|(dir, _)| dir == *ino);
                if *cookie > 0 && !entries.is_empty() && others.into_iter().any(changes) {
                    probes::hit("changed-while-listed");
                }
            }
            _ => {}
        }
    }

    fn answered(&mut self, id: RequestId, answer: Box<Answer>) -> Outcome<()> {
        if self.aborted.remove(&id) {
            return Ok(());
        }
        let Some(asked) = self.asked.remove(&id) else {
            return Err(Failure::new(
                "reply-once",
                format!("{id:?} was answered twice or never asked"),
            ));
        };
        self.place += 1;
        self.last_answer = self.time;
        self.say(|| format!("{id:?} = {answer:?}"));
        if matches!(*answer, Answer::Synced | Answer::Unmounted) {
            self.epoch.synced.push(asked.place);
        }
        match asked.waiter {
            Waiter::World => {
                self.answers.insert(id, Given::Answer(answer));
            }
            Waiter::Caller(caller) => Callers::answered(self, caller, &answer)?,
        }
        Ok(())
    }
}
