//! The callers: each takes the next step of the plan, sends its requests one after the other, and pauses.
//!
//! Owns: the tasks under way and the kernel's tables. Never does: judging answers.

use std::collections::VecDeque;
use vellum_core::id::{Handle, Ino};
use vellum_core::port::control::{Answer, Control};
use vellum_core::port::kernel::{Caller, Operation, Reply};

use crate::faults::Fault;
use crate::kernel::{Concrete, Kernel};
use crate::plan::Step;
use crate::world::{Failure, Outcome, Waiter, World};

/// Lookups of one operation before it goes on without a name in the cache.
const LOOKUPS_MAX: u32 = 4;

/// All callers of a run.
pub struct Callers {
    /// The kernel under the callers.
    pub kernel: Kernel,
    /// No new steps are taken; what was begun is finished.
    pub resting: bool,
    plan: Vec<Step>,
    next: usize,
    tasks: Vec<Option<Task>>,
    pause: u64,
    /// A step asked for a remount, which the runner does once all rest.
    pub remount: bool,
    /// Steps that were done, and steps that found nothing to work with.
    pub done: u64,
    /// See [`Callers::done`].
    pub skipped: u64,
}

/// What a caller is at.
#[derive(Debug)]
struct Task {
    ops: VecDeque<Operation>,
    /// What it asks instead of those.
    command: Option<Control>,
    listing: Option<(Ino, u32, bool)>,
    lookups: u32,
    /// The lookup under way that is not one of `ops`.
    looking: bool,
    locks: Vec<Ino>,
    waiting: bool,
    /// A request of it waits for its answer.
    sent: bool,
    /// Its caller was killed: nothing follows but what the kernel does for it.
    dying: bool,
}

/// What one caller does in a run of a few operations.
#[derive(Clone, Debug)]
pub enum Part {
    /// These requests, one after the other.
    Requests(Vec<Operation>),
    /// A listing with attributes.
    List(Ino),
    /// Something that the host asks.
    Command(Control),
}

impl Task {
    fn new(ops: VecDeque<Operation>) -> Task {
        let locks = Vec::new();
        Task {
            ops,
            command: None,
            listing: None,
            lookups: 0,
            looking: false,
            locks,
            waiting: false,
            sent: false,
            dying: false,
        }
    }
}

impl Callers {
    /// `count` callers with a plan.
    pub fn new(count: usize, plan: Vec<Step>, kernel: Kernel, pause: u64) -> Callers {
        let tasks = (0..count).map(|_| None).collect();
        Callers {
            kernel,
            resting: false,
            plan,
            next: 0,
            tasks,
            pause,
            remount: false,
            done: 0,
            skipped: 0,
        }
    }

    /// Whether nobody is at anything.
    pub fn idle(&self) -> bool {
        self.tasks.iter().all(Option::is_none)
    }

    /// What is left of the plan is not done.
    pub fn give_up(&mut self) {
        self.next = self.plan.len();
    }

    /// Whether the plan is used up.
    pub fn finished(&self) -> bool {
        self.next >= self.plan.len() && self.idle()
    }

    /// Begins or goes on after a mount: every caller gets up.
    pub fn begin(world: &mut World) {
        world.callers.resting = false;
        for caller in 0..world.callers.tasks.len() {
            world.callers.tasks[caller] = None;
            let pause = world.dice.below(1_000);
            world.wake_caller(caller, pause);
        }
    }

    /// Each caller does its part of a script and nothing else.
    pub fn perform(world: &mut World, parts: Vec<Part>) {
        for (caller, part) in parts.into_iter().enumerate() {
            let mut command = None;
            let (ops, listing) = match part {
                Part::Requests(ops) => (ops.into(), None),
                Part::Command(control) => {
                    command = Some(control);
                    (VecDeque::new(), None)
                }
                Part::List(ino) => {
                    (VecDeque::from([Operation::OpenDir { ino }]), Some((ino, 4096, true)))
                }
            };
            for op in &ops {
                world.callers.kernel.pin(op);
            }
            world.callers.tasks[caller] = Some(Task { command, listing, ..Task::new(ops) });
            world.wake_caller(caller, 0);
        }
    }

    /// Nobody does anything any more until [`Callers::begin`].
    pub fn stop(&mut self) {
        self.resting = true;
        self.tasks.iter_mut().for_each(|task| *task = None);
    }

    /// Whether a caller that is woken does anything.
    pub fn has_something_to_do(&self, caller: usize) -> bool {
        match &self.tasks[caller] {
            Some(task) => !task.sent && (!task.ops.is_empty() || task.command.is_some()),
            None => !self.resting && self.next < self.plan.len(),
        }
    }

    /// A new mount: the kernel knows nothing.
    pub fn forget_everything(&mut self, locking: bool) {
        self.kernel = Kernel::new(locking, self.kernel.serial());
        for task in &mut self.tasks {
            *task = None;
        }
    }

    /// A caller may do its next thing.
    pub fn go_on(world: &mut World, caller: usize) -> Outcome<()> {
        if world.callers.tasks[caller].is_none() && !Callers::take_step(world, caller)? {
            return Ok(());
        }
        Callers::send(world, caller)
    }

    /// A kernel request of a caller was answered: its record is the last of the history.
    pub fn replied(world: &mut World, caller: usize) {
        let World { callers, epoch, .. } = world;
        let record = epoch.records.last().expect("the record was just pushed");
        let Some(task) = callers.tasks[caller].as_mut() else { return };
        task.sent = false;
        callers.kernel.unpin(&record.op);
        callers.kernel.note(&record.op, &record.reply);
        if task.looking {
            task.looking = false;
        } else {
            task.ops.pop_front();
            let mut before = task.ops.len();
            follow_up(task, &record.op, &record.reply);
            if task.dying {
                before = only_close(task, &mut callers.kernel, before, &record.op, &record.reply);
            }
            for op in task.ops.iter().skip(before) {
                callers.kernel.pin(op);
            }
            let locks = std::mem::take(&mut task.locks);
            callers.kernel.unlock(&locks);
        }
        let finished = task.ops.is_empty();
        if finished {
            callers.tasks[caller] = None;
            callers.done += 1;
        }
        Callers::wake_next(world, caller, finished);
    }

    /// A control request of a caller was answered.
    pub fn answered(world: &mut World, caller: usize, answer: &Answer) -> Outcome<()> {
        if let Answer::Failed(error) = answer
            && !world.options.data_may_fail()
        {
            // Info or compaction of an inode that is gone is an honest failure.
            let errno = error.errno();
            if !matches!(errno, 2 | 116) {
                return Err(Failure::new(
                    "control",
                    format!("a control request failed with errno {errno}"),
                ));
            }
        }
        world.callers.tasks[caller] = None;
        world.callers.done += 1;
        Callers::wake_next(world, caller, true);
        Ok(())
    }

    fn wake_next(world: &mut World, caller: usize, finished: bool) {
        let pause = if finished && world.callers.pause > 0 {
            world.dice.latency(world.callers.pause, 50)
        } else {
            0
        };
        world.wake_caller(caller, pause);
        let waiting = world
            .callers
            .tasks
            .iter()
            .enumerate()
            .filter(|(_, t)| t.as_ref().is_some_and(|t| t.waiting));
        let waiting: Vec<usize> = waiting.map(|(i, _)| i).collect();
        for other in waiting {
            world.wake_caller(other, 0);
        }
    }

    /// Whether the caller has something to do now.
    fn take_step(world: &mut World, caller: usize) -> Outcome<bool> {
        let callers = &mut world.callers;
        if callers.resting || callers.next >= callers.plan.len() {
            return Ok(false);
        }
        let step = callers.plan[callers.next];
        callers.next += 1;
        Callers::draw_faults(world)?;
        let wall = world.now().wall;
        let mut ops = VecDeque::new();
        let mut listing = None;
        match world.callers.kernel.resolve(&step, wall) {
            Concrete::Requests(list) => ops.extend(list),
            Concrete::List { ino, room, plus } => {
                ops.push_back(Operation::OpenDir { ino });
                listing = Some((ino, room, plus));
            }
            Concrete::Silent(op) => {
                world.tell(op)?;
                return Callers::rest_a_moment(world, caller, 0);
            }
            Concrete::Interrupt(pick) => {
                Callers::interrupt(world, pick)?;
                return Callers::rest_a_moment(world, caller, 0);
            }
            Concrete::Sleep(time) => return Callers::rest_a_moment(world, caller, time),
            Concrete::Skip => {
                world.callers.skipped += 1;
                return Callers::rest_a_moment(world, caller, 0);
            }
            Concrete::Info(ino) => return Callers::command(world, caller, Control::Info { ino }),
            Concrete::Compact(ino) => {
                return Callers::command(world, caller, Control::Compact { ino });
            }
            Concrete::Status => return Callers::command(world, caller, Control::Status),
            Concrete::Sync => return Callers::command(world, caller, Control::Sync),
        }
        for op in &ops {
            world.callers.kernel.pin(op);
        }
        world.callers.tasks[caller] = Some(Task { listing, ..Task::new(ops) });
        Ok(true)
    }

    fn draw_faults(world: &mut World) -> Outcome<()> {
        if world.link.strikes(Fault::WallJump, &mut world.faults) {
            world.link.counts[Fault::WallJump as usize] -= 1;
            world.jump_clock();
        }
        if world.link.strikes(Fault::KvRecovery, &mut world.faults) {
            world.link.counts[Fault::KvRecovery as usize] -= 1;
            world.recover_store();
        }
        let World { link, more_faults, .. } = world;
        if link.strikes(Fault::Pause, more_faults) {
            world.pause();
        }
        let World { link, more_faults, .. } = world;
        if link.strikes(Fault::DiskRot, more_faults) {
            world.link.counts[Fault::DiskRot as usize] -= 1;
            world.rot();
        }
        Callers::kill_one(world)?;
        let World { link, more_faults, .. } = world;
        if world.armed && link.strikes(Fault::Abort, more_faults) {
            world.aborting = true;
        }
        if world.armed && world.link.strikes(Fault::Remount, &mut world.faults) {
            world.callers.remount = true;
            world.callers.resting = true;
        }
        Ok(())
    }

    /// A caller that waits for an answer is killed: a signal for its request, and nothing of its own
    /// follows.
    fn kill_one(world: &mut World) -> Outcome<()> {
        let World { link, more_faults, callers, .. } = world;
        if !link.strikes(Fault::CallerKilled, more_faults) {
            return Ok(());
        }
        let waiting =
            callers.tasks.iter_mut().enumerate().filter_map(|(n, t)| Some((n, t.as_mut()?)));
        let mut waiting: Vec<(usize, &mut Task)> =
            waiting.filter(|(_, t)| t.sent && !t.looking).collect();
        if waiting.is_empty() {
            link.counts[Fault::CallerKilled as usize] -= 1;
            return Ok(());
        }
        let index = more_faults.index(waiting.len());
        let (caller, task) = &mut waiting[index];
        task.dying = true;
        let caller = *caller;
        world.interrupt_caller(caller)
    }

    fn rest_a_moment(world: &mut World, caller: usize, extra: u64) -> Outcome<bool> {
        let pause = world.callers.pause + extra;
        world.wake_caller(caller, pause);
        world.callers.done += 1;
        Ok(false)
    }

    fn command(world: &mut World, caller: usize, control: Control) -> Outcome<bool> {
        world.callers.tasks[caller] = Some(Task::new(VecDeque::new()));
        world.command(Waiter::Caller(caller), control)?;
        Ok(false)
    }

    fn interrupt(world: &mut World, pick: u32) -> Outcome<()> {
        if world.options.rate(Fault::Interrupt) == 0 {
            return Ok(());
        }
        match Kernel::interrupt(pick, &world.under_way()) {
            Some(target) => world.tell(Operation::Interrupt { target }),
            None => Ok(()),
        }
    }

    /// Sends the next request of a caller's task, if its locks are free.
    fn send(world: &mut World, caller: usize) -> Outcome<()> {
        let callers = &mut world.callers;
        let Some(task) = callers.tasks[caller].as_mut() else { return Ok(()) };
        if task.sent {
            return Ok(());
        }
        if let Some(command) = task.command.take() {
            task.sent = true;
            return world.command(Waiter::Caller(caller), command).map(|_| ());
        }
        let Some(op) = task.ops.front().cloned() else { return Ok(()) };
        let op = match callers.kernel.unknown_name(&op) {
            Some((parent, name)) if task.lookups < LOOKUPS_MAX => {
                task.lookups += 1;
                task.looking = true;
                let lookup = Operation::Lookup { parent, name };
                callers.kernel.pin(&lookup);
                lookup
            }
            _ => {
                let locks = callers.kernel.locks_of(&op);
                task.waiting = !callers.kernel.lock(&locks);
                if task.waiting {
                    return Ok(());
                }
                task.locks = locks;
                op
            }
        };
        task.sent = true;
        let uid = if caller == 1 { 1000 } else { 0 };
        world.ask(
            Waiter::Caller(caller),
            Caller { uid, gid: uid, pid: 100 + caller as u32 },
            op,
        )?;
        Ok(())
    }
}

/// What comes after an answer within one step.
fn follow_up(task: &mut Task, op: &Operation, reply: &Reply) {
    match (op, reply) {
        (Operation::OpenDir { ino }, Reply::Opened(opened)) => {
            let handle = opened.handle;
            if let Some((ino, room, plus)) = task.listing {
                task.ops.push_back(Operation::ReadDir { ino, handle, cookie: 0, room, plus });
                return;
            }
            for op in &mut task.ops {
                set_handle(op, *ino, handle);
            }
        }
        (Operation::OpenDir { .. }, _) => task.ops.clear(), // Their pins keep a directory in the cache, no more.
        (Operation::ReadDir { ino, handle, .. }, Reply::Entries(entries))
            if !entries.is_empty() =>
        {
            let (_, room, plus) = task.listing.expect("only listings read directories");
            let cookie = entries.last().expect("not empty").cookie;
            task.ops.push_back(Operation::ReadDir {
                ino: *ino,
                handle: *handle,
                cookie,
                room,
                plus,
            });
        }
        (Operation::ReadDir { ino, handle, .. }, _) => {
            task.ops.push_back(Operation::ReleaseDir { ino: *ino, handle: *handle });
        }
        _ => {}
    }
}

/// Of a caller that was killed only the closing of what it opened is left. Returns how many of its
/// requests the kernel holds already.
fn only_close(
    task: &mut Task,
    kernel: &mut Kernel,
    held: usize,
    op: &Operation,
    reply: &Reply,
) -> usize {
    let ops = std::mem::take(&mut task.ops);
    let mut kept = 0;
    for (index, op) in ops.into_iter().enumerate() {
        if matches!(op, Operation::Release { .. } | Operation::ReleaseDir { .. }) {
            kept += usize::from(index < held);
            task.ops.push_back(op);
        } else if index < held {
            kernel.unpin(&op);
        }
    }
    let open = match (op, reply) {
        (Operation::OpenDir { ino }, Reply::Opened(opened)) => Some((*ino, opened.handle)),
        (Operation::ReadDir { ino, handle, .. }, _) => Some((*ino, *handle)),
        _ => None,
    };
    if let Some((ino, handle)) = open
        && task.ops.is_empty()
    {
        task.ops.push_back(Operation::ReleaseDir { ino, handle });
    }
    kept
}

fn set_handle(op: &mut Operation, dir: Ino, to: Handle) {
    match op {
        Operation::FsyncDir { ino, handle, .. } | Operation::ReleaseDir { ino, handle }
            if *ino == dir =>
        {
            *handle = to
        }
        _ => {}
    }
}
