//! One run from its seed to its verdict.
//!
//! Owns: the phases (format, work with crashes and remounts, heal, final comparison). Never does:
//! printing.

use vellum_core::error::FsError;
use vellum_core::id::{Ino, RequestId};
use vellum_core::port::control::{Answer, CheckOptions, Control};
use vellum_core::port::kernel::{Operation, Reply};

use crate::callers::Callers;
use crate::check::{Judge, Mercy, Timeline};
use crate::faults::{Fault, Store};
use crate::history::{CommitOrder, Epoch, Place};
use crate::invariants;
use crate::observe::observe;
use crate::probes;
use crate::recover::End;
use crate::replay::Mirror;
use crate::replay::Usage;
use crate::world::{Failure, Outcome, Waiter, World};

pub use crate::job::{Job, Verdict};

/// Nanoseconds after which nothing is under way any more.
const REST: u64 = 10_000_000_000;
/// Rules of the check that damage on a disk breaks.
const BY_ROT: [&str; 4] =
    ["segment-missing", "segment-unreadable", "segment-length", "frame-checksum"];
/// Explanations of one life that are tried.
const EXPLANATIONS_MAX: usize = 32;

/// A run under way.
pub(crate) struct Run {
    pub(crate) world: World,
    /// None until the volume was seen for the first time.
    judge: Option<Judge>,
    pub(crate) requests: u64,
    events: u64,
    /// The check under way.
    check: Option<RequestId>,
}

impl Run {
    pub(crate) fn new(world: World) -> Run {
        Run { world, judge: None, requests: 0, events: 0, check: None }
    }

    pub(crate) fn all(&mut self, seed: u64) -> Outcome<()> {
        self.begin(seed)?;
        Callers::begin(&mut self.world);
        self.world.armed = true;
        while !self.world.callers.finished() {
            if self.world.crashed {
                self.crash()?;
            } else if self.world.aborting {
                self.abort()?;
            } else if self.world.callers.remount && self.world.callers.idle() {
                self.remount()?;
            } else {
                self.world.step()?;
                self.check_now_and_then()?;
            }
        }
        if self.world.crashed {
            self.crash()?;
        }
        self.rest()?;
        self.leave()
    }

    /// Formats, mounts, and looks at the empty volume.
    pub(crate) fn begin(&mut self, seed: u64) -> Outcome<()> {
        let options = World::format_options(seed, &self.world.options);
        let volume = options.volume;
        match self.insist(|| Control::Format(options.clone()))? {
            Answer::Formatted(_) => {}
            // An unknown commit that did happen: nobody else can have chosen this identity.
            Answer::AlreadyFormatted(info) if info.volume == volume => {}
            other => return Err(Failure::new("format", format!("{other:?}"))),
        }
        self.mount()?;
        self.first_look()
    }

    /// Checks the volume while callers work on it: what is read at one moment keeps every rule.
    fn check_now_and_then(&mut self) -> Outcome<()> {
        self.events += 1;
        match self.check {
            Some(id) => match self.world.answer(id) {
                Some(Answer::Checked(report)) => {
                    self.check = None;
                    probes::hit(if report.exact { "live-check" } else { "live-check-moved" });
                    let rotten = self.world.stores.rotten();
                    let excused = |rule: &str| rotten && BY_ROT.contains(&rule);
                    match report.problems.iter().find(|p| !excused(p.rule)) {
                        Some(p) if report.exact => {
                            Err(Failure::new("live-check", format!("{}: {}", p.rule, p.text)))
                        }
                        _ => Ok(()),
                    }
                }
                // A store that is away fails a check like any request.
                Some(_) => {
                    self.check = None;
                    Ok(())
                }
                None => Ok(()),
            },
            None => {
                let every = self.world.options.check_every;
                if every > 0 && self.events.is_multiple_of(every) {
                    let options = CheckOptions { data: false, settled: false };
                    let id = self.world.command(Waiter::World, Control::Check(options))?;
                    self.check = Some(id);
                }
                Ok(())
            }
        }
    }

    /// The answer to a control request. A metadata store that is full is no good answer to one that needs
    /// room; whoever asks tries again when there is some.
    fn insist(&mut self, control: impl Fn() -> Control) -> Outcome<Answer> {
        loop {
            match self.world.control(control())? {
                Answer::Failed(FsError::NoSpace) if self.world.options.rate(Fault::KvFull) > 0 => {
                    self.world.wait(REST)?;
                }
                answer => return Ok(answer),
            }
        }
    }

    fn mount(&mut self) -> Outcome<()> {
        match self.insist(|| Control::Mount)? {
            Answer::Mounted(_) => Ok(()),
            other => Err(Failure::new("mount", format!("{other:?}"))),
        }
    }

    /// The empty volume becomes the model's first state.
    fn first_look(&mut self) -> Outcome<()> {
        let found = observe(&mut self.world, &[])?;
        if found.nodes.len() != 1 || !found.nodes[&Ino::ROOT].entries.is_empty() {
            return Err(Failure::new("format", "a new volume is not empty"));
        }
        self.judge = Some(Judge::new(&found));
        self.note_walk();
        Ok(())
    }

    pub(crate) fn crash(&mut self) -> Outcome<()> {
        self.world.armed = false;
        let (order, cut) = match self.world.doom.take() {
            Some(lost) => self.world.kill_as_chosen(lost),
            None => self.world.kill(),
        };
        self.world.callers.remount = false;
        self.next_life(order, End::Killed(cut))
    }

    /// The kernel drops the connection: nobody hears the answers to what is under way, and the process
    /// unmounts.
    fn abort(&mut self) -> Outcome<()> {
        self.world.armed = false;
        self.world.callers.remount = false;
        self.world.abort_requests();
        match self.world.control(Control::Unmount)? {
            Answer::Unmounted => {}
            Answer::Failed(FsError::NoSpace) if self.world.options.data_may_fail() => {
                return self.crash();
            }
            other => return Err(Failure::new("unmount", format!("{other:?}"))),
        }
        self.world.crash_stores();
        self.world.end_of_client();
        let order = self.world.order.clone();
        self.next_life(order, End::Killed(Place::MAX))
    }

    fn remount(&mut self) -> Outcome<()> {
        self.world.armed = false;
        self.close_everything()?;
        match self.world.control(Control::Unmount)? {
            Answer::Unmounted => {}
            // What a full store does not take is lost with the mount, and the mount said so.
            Answer::Failed(FsError::NoSpace) if self.world.options.data_may_fail() => {
                return self.crash();
            }
            other => return Err(Failure::new("unmount", format!("{other:?}"))),
        }
        self.world.link.counts[Fault::Remount as usize] += 1;
        self.world.tell_of(|_| "--- unmounted and mounted again".into());
        self.world.callers.remount = false;
        // Everything was promised to be durable, so that the power may go now.
        self.world.crash_stores();
        self.world.end_of_client();
        let order = self.world.order.clone();
        self.next_life(order, End::Clean)
    }

    /// Judges the life that ended, mounts again, and compares what is there.
    fn next_life(&mut self, order: CommitOrder, end: End) -> Outcome<()> {
        self.check = None;
        let locking = self.world.options.kernel_locks;
        self.world.callers.forget_everything(locking);
        let mut epoch = self.end_epoch();
        if !epoch.unanswered.is_empty() {
            probes::hit("killed-unanswered");
        }
        let (before, unanswered) = (self.judge.clone(), epoch.unanswered.clone());
        let (start, mut timeline) = self.judge_life(&mut epoch, &order, 0)?;
        self.mount()?;
        let judge = self.judge.as_ref().expect("set at the first look");
        let found = observe(&mut self.world, &[&start, &judge.mirror])?;
        let hull = self.world.clock_hull();
        let mut tried = 0;
        let mut first = None;
        loop {
            let judge = self.judge.as_mut().expect("set at the first look");
            match judge.recover(start.clone(), &epoch, &order, &timeline, end, &found, hull) {
                Ok(()) => break,
                Err(failure) => first.get_or_insert(failure),
            };
            // What nobody answered may have happened at another moment than the one that was taken first.
            tried += 1;
            probes::hit("explained-otherwise");
            self.judge = before.clone();
            epoch.forget_inferred(&unanswered);
            match self.judge_life(&mut epoch, &order, tried) {
                Ok((_, other)) if tried <= EXPLANATIONS_MAX => timeline = other,
                _ => return Err(first.expect("a failure brought us here")),
            }
        }
        self.note_walk();
        if found.damaged {
            // Nobody knows what is there, so that nothing can be compared later.
            self.world.callers.give_up();
        }
        self.world.armed = true;
        Callers::begin(&mut self.world);
        Ok(())
    }

    /// Everything so far becomes durable.
    pub(crate) fn settle(&mut self) -> Outcome<()> {
        match self.world.control(Control::Sync)? {
            Answer::Synced => Ok(()),
            other => Err(Failure::new("sync", format!("{other:?}"))),
        }
    }

    /// Without faults everything gets done, is right, and leaves no garbage.
    pub(crate) fn rest(&mut self) -> Outcome<()> {
        self.world.armed = false;
        self.world.link.heal();
        self.world.stores.grow();
        self.close_everything()?;
        self.settle()?;
        let mut epoch = self.end_epoch();
        let order = self.world.order.clone();
        let (start, timeline) = self.judge_life(&mut epoch, &order, 0)?;
        let end = self.judge.as_ref().expect("set at the first look").mirror.usage_at_most();
        self.compare_now(&start, &epoch, &order, &timeline)?;
        if let Some(forget) = self.world.callers.kernel.forget_all() {
            self.world.tell(forget)?;
        }
        match self.world.control(Control::Status)? {
            Answer::Status(status) => {
                let (limit, judge) = (self.world.options.limit, self.judge.as_ref());
                let judge = judge.expect("set at the first look");
                let extra = end.xattrs + end.inline + judge.garbage.bytes;
                invariants::limits::check(limit, extra, self.world.options.callers, &status)?;
            }
            other => return Err(Failure::new("status", format!("{other:?}"))),
        }
        // An fsync that nobody waits for any more may still hold its inode.
        self.world.wait(REST)?;
        self.collect()?;
        self.check()?;
        self.world.leftovers()?;
        self.scrub()
    }

    /// A scrub finds nothing unless a disk was damaged.
    fn scrub(&mut self) -> Outcome<()> {
        match self.world.control(Control::Scrub { rate: 0 })? {
            Answer::Scrubbed(report) if self.world.stores.rotten() || report.damaged == 0 => Ok(()),
            other => Err(Failure::new("scrub", format!("{other:?}"))),
        }
    }

    /// Nothing is left that nobody needs, once it is collected.
    fn collect(&mut self) -> Outcome<()> {
        let after = match self.world.control(Control::Gc { now: true })? {
            Answer::Collected(collected) => collected.after,
            other => return Err(Failure::new("gc", format!("{other:?}"))),
        };
        // Of a cluster's segments others may know; that is not this mount's to judge.
        let orphans = self.world.options.store != Store::Cluster && after.orphans > 0;
        if after.removed > 0 || orphans {
            return Err(Failure::new("gc", format!("left after a collection: {after:?}")));
        }
        Ok(())
    }

    /// Unmounts and mounts again: nothing is lost and nothing is left.
    fn leave(&mut self) -> Outcome<()> {
        self.world.damage.check()?;
        self.unmount()?;
        // What crashes left behind goes with the next mount, and what this one could not remove.
        self.world.crash_stores();
        self.world.end_of_client();
        self.mount()?;
        let orphans = self.check()?;
        // Of a cluster's segments others may know; that is not this mount's to judge.
        if orphans > 0 && self.world.options.store != Store::Cluster {
            let text = format!("{orphans} stored segments that nothing names");
            return Err(Failure::new("orphans", text));
        }
        self.unmount()?;
        match self.world.stores.violations().first() {
            Some(violation) => Err(Failure::new("page-rules", violation.clone())),
            None => Ok(()),
        }
    }

    /// The volume keeps all its rules, and nothing waits for reclaim while nothing is open. Returns how
    /// many stored segments nothing names.
    fn check(&mut self) -> Outcome<u64> {
        match self.world.control(Control::Check(CheckOptions { data: true, settled: true }))? {
            Answer::Checked(report) if self.world.stores.rotten() => {
                // What the damage hit is found, and nothing else.
                match report.problems.iter().find(|p| !BY_ROT.contains(&p.rule)) {
                    None => Ok(0),
                    Some(p) => Err(Failure::new("check", format!("{}: {}", p.rule, p.text))),
                }
            }
            // What a full store would not let go goes with the next mount.
            Answer::Checked(report)
                if report.problems.is_empty() && report.waiting > 0 && self.world.left_garbage =>
            {
                Ok(report.orphan_segments)
            }
            Answer::Checked(report) if report.problems.is_empty() && report.waiting > 0 => {
                let text =
                    format!("{} entries wait for reclaim, and nothing is open", report.waiting);
                Err(Failure::new("garbage", text))
            }
            Answer::Checked(report) if report.problems.is_empty() => Ok(report.orphan_segments),
            Answer::Checked(report) => {
                let lines: Vec<String> =
                    report.problems.iter().map(|p| format!("{}: {}", p.rule, p.text)).collect();
                Err(Failure::new("check", lines.join("\n  ")))
            }
            other => Err(Failure::new("check", format!("{other:?}"))),
        }
    }

    fn unmount(&mut self) -> Outcome<()> {
        match self.world.control(Control::Unmount)? {
            Answer::Unmounted => Ok(()),
            other => Err(Failure::new("unmount", format!("{other:?}"))),
        }
    }

    fn compare_now(
        &mut self,
        start: &Mirror,
        epoch: &Epoch,
        order: &CommitOrder,
        timeline: &Timeline,
    ) -> Outcome<()> {
        let judge = self.judge.as_mut().expect("set at the first look");
        let found = observe(&mut self.world, &[&judge.mirror])?;
        let hull = self.world.clock_hull();
        judge.recover(start.clone(), epoch, order, timeline, End::Clean, &found, hull)?;
        self.end_epoch();
        Ok(())
    }

    /// Replays a life; gives the state before it.
    fn judge_life(
        &mut self,
        epoch: &mut Epoch,
        order: &CommitOrder,
        left_out: usize,
    ) -> Outcome<(Mirror, Timeline)> {
        let mercy = Mercy {
            kernel_locks: self.world.options.kernel_locks,
            tiny_hash: self.world.options.hash_bits < 60,
            data_may_fail: self.world.options.data_may_fail(),
            clock_hull: self.world.clock_hull(),
            limit: self.world.options.limit,
            garbage: self.judge.as_ref().map_or(Usage::default(), |judge| judge.garbage),
        };
        let judge = self.judge.as_mut().expect("set at the first look");
        let start = judge.mirror.clone();
        let timeline = judge.judge_life(epoch, order, mercy, left_out)?;
        Ok((start, timeline))
    }

    fn close_everything(&mut self) -> Outcome<()> {
        for (handle, ino, dir) in self.world.callers.kernel.open_handles() {
            let ops = if dir {
                vec![Operation::ReleaseDir { ino, handle }]
            } else {
                vec![Operation::Flush { ino, handle }, Operation::Release { ino, handle }]
            };
            for op in ops {
                let reply = self.world.call(op.clone())?;
                if !matches!(reply, Reply::Done | Reply::Error(_)) {
                    return Err(Failure::new("reply-shape", format!("{op:?} = {reply:?}")));
                }
                self.world.callers.kernel.note(&op, &Reply::Done);
            }
        }
        Ok(())
    }

    /// What the walk asked belongs to no life: nothing changed but access times.
    fn note_walk(&mut self) {
        let walk = self.end_epoch();
        let judge = self.judge.as_mut().expect("set at the first look");
        for record in &walk.records {
            if let Operation::Read { ino, .. }
            | Operation::ReadDir { ino, .. }
            | Operation::ReadLink { ino } = record.op
                && let Some(times) = judge.times.get_mut(&ino)
            {
                times.touch(record.asked, record.answered, record.span);
            }
        }
    }

    fn end_epoch(&mut self) -> Epoch {
        let epoch = std::mem::take(&mut self.world.epoch);
        self.requests += epoch.records.len() as u64;
        epoch
    }
}
