//! Ends and jolts of the world: kills, power cuts, clocks that jump, clusters that recover.

use vellum_core::client::Client;
use vellum_core::port::Completion;
use vellum_core::port::kernel::Operation;
use vellum_core::port::meta_kv::{KvError, KvReply, KvRequest};
use vellum_core::time::WallTime;

use super::{Body, EPOCH_SECS, Outcome, Waiter, What, World, config};
use crate::faults::Fault;
use crate::history::{CommitOrder, Place, Unanswered};
use crate::invariants::leftovers;
use crate::link::KvFate;
use crate::probes;
use crate::store::Crash;
use crate::times::Span;

impl World {
    /// The process ends here and now; `power` also takes what the stores had not made durable.
    /// Returns the order of all commits up to then, and the place up to which they survived.
    pub fn kill(&mut self) -> (CommitOrder, Place) {
        self.link.counts[Fault::Crash as usize] += 1;
        self.settle_flights();
        let order = self.order.clone();
        let place = self.crash_stores();
        self.end_of_client();
        (order, place)
    }

    /// The stores end like a power cut ends them. Returns the place up to which commits survived.
    pub fn crash_stores(&mut self) -> Place {
        self.stores.ail(false);
        let Crash { cut, lost } = self.stores.crash(&mut self.faults);
        self.link.counts[Fault::CrashLoss as usize] += lost;
        if lost > 0 {
            probes::hit("crash-lost-commits");
        }
        self.tell_of(|_| format!("--- the process ends; {lost} losses"));
        self.say(|| format!("*** killed; {lost} losses; kept up to {cut:?}"));
        self.order.cut(cut)
    }

    /// The machine goes and a new one comes, knowing nothing.
    pub fn end_of_client(&mut self) {
        self.epoch.ended = self.now().wall;
        for (_, asked) in std::mem::take(&mut self.asked) {
            if let What::Kernel(caller, op) = asked.what {
                let unanswered = Unanswered { caller, op, wall: asked.wall, asked: asked.place };
                self.epoch.unanswered.push(unanswered);
            }
        }
        self.queue.clear();
        self.flights.clear();
        self.answers.clear();
        self.crashed = false;
        self.aborting = false;
        self.left_garbage = false;
        self.undeleted = false;
        self.aborted.clear();
        self.paused_until = 0;
        // A commit that could still land has landed or is too old when the next process starts.
        self.time += 6_000_000_000;
        self.last_answer = self.time;
        self.client = Client::new(config(&self.options, &mut self.dice));
    }

    /// Nothing is stored of this life that nothing names, but what could not be deleted.
    ///
    /// # Errors
    /// What is.
    pub fn leftovers(&mut self) -> Outcome<()> {
        if self.undeleted {
            return Ok(());
        }
        leftovers::check(&mut self.stores, self.client.config().session, self.time)
    }

    /// The civil clock jumps.
    pub fn jump_clock(&mut self) {
        let jump = self.faults.within(0, 7_200_000_000_000) as i64 - 3_600_000_000_000;
        self.note_clock();
        self.wall_offset += jump;
        self.note_clock();
        self.tell_of(|_| format!("--- the clock jumps by {} s", jump / 1_000_000_000));
        self.link.counts[Fault::WallJump as usize] += 1;
    }

    /// The process stands still for a while; the stores go on.
    pub fn pause(&mut self) {
        let length = *self.more_faults.pick(&[10_000_000, 1_000_000_000, 60_000_000_000]);
        self.paused_until = self.time + self.more_faults.within(length / 10, length);
        self.tell_of(|world| {
            format!("--- paused for {} ms", (world.paused_until - world.time) / 1_000_000)
        });
    }

    /// The kernel forgets all requests under way; whatever becomes of them, nobody hears of it.
    pub fn abort_requests(&mut self) {
        self.tell_of(|_| "--- the kernel aborts the connection".into());
        for (id, asked) in std::mem::take(&mut self.asked) {
            self.aborted.insert(id);
            if let What::Kernel(caller, op) = asked.what {
                let unanswered = Unanswered { caller, op, wall: asked.wall, asked: asked.place };
                self.epoch.unanswered.push(unanswered);
            }
        }
        self.answers.clear();
        self.callers.stop();
    }

    /// A signal ends the request of a caller.
    pub fn interrupt_caller(&mut self, caller: usize) -> Outcome<()> {
        let mut theirs = self.asked.iter().filter(|(_, a)| a.waiter == Waiter::Caller(caller));
        match theirs.next().map(|(id, _)| *id) {
            Some(target) => self.tell(Operation::Interrupt { target }),
            None => Ok(()),
        }
    }

    /// Something on a disk changes by itself.
    pub fn rot(&mut self) {
        if let Some(file) = self.stores.rot(&mut self.more_faults) {
            self.link.counts[Fault::DiskRot as usize] += 1;
            self.tell_of(|_| format!("--- damage in page file {file}"));
        }
    }

    /// Widens the hull of what the clock said.
    fn note_clock(&mut self) {
        let wall = self.now().wall;
        let start = WallTime::new(EPOCH_SECS, 0);
        let hull = self.clock_hull.unwrap_or(Span::at(start));
        self.clock_hull = Some(Span { from: hull.from.min(wall), to: hull.to.max(wall) });
    }

    /// The hull up to now.
    pub fn clock_hull(&self) -> Option<Span> {
        let wall = self.now().wall;
        self.clock_hull.map(|hull| Span { from: hull.from.min(wall), to: hull.to.max(wall) })
    }

    /// The cluster recovers: every read version is too old, everything in flight is unknown.
    pub fn recover_store(&mut self) {
        self.link.counts[Fault::KvRecovery as usize] += 1;
        self.stores.recover(self.time);
        for flight in self.flights.values_mut() {
            if let Body::Kv(KvRequest::Commit(_)) = flight.body {
                if flight.completion.is_none() && flight.fate == KvFate::Serve {
                    flight.fate =
                        if self.faults.coin() { KvFate::ServeUnknown } else { KvFate::LoseUnknown };
                } else if matches!(
                    flight.completion,
                    Some(Completion::Kv(Ok(KvReply::Committed(_))))
                ) {
                    let unknown = KvError::CommitUnknown { may_still_land: false };
                    flight.completion = Some(Completion::Kv(Err(unknown)));
                }
            }
        }
    }
}
