//! What to run, and what it came to.

use std::panic::{AssertUnwindSafe, catch_unwind};
use vellum_core::canary::Canary;

use crate::callers::Callers;
use crate::canaries;
use crate::faults::{Fault, FaultCounts, Options};
use crate::kernel::Kernel;
use crate::kv::Lie;
use crate::plan::{self, Step};
use crate::probes::{self, Hits};
use crate::runner::Run;
use crate::world::{Failure, World};

/// What to run.
#[derive(Clone, Debug)]
pub struct Job {
    /// The seed.
    pub seed: u64,
    /// The operations; the seed's own plan if it was not made shorter.
    pub plan: Vec<Step>,
    /// A bug to plant.
    pub canary: Option<Canary>,
    /// How the metadata store breaks its word, for tests of the judge.
    pub lie: Option<Lie>,
    /// Faults that are left out.
    pub without: Vec<Fault>,
    /// Print everything that happens.
    pub verbose: bool,
    /// Keep what the callers did, in words.
    pub story: bool,
}

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// Nothing, or what went wrong.
    pub failure: Option<Failure>,
    /// Hash of everything that happened.
    pub trace: u64,
    /// Steps done.
    pub steps: u64,
    /// Requests answered.
    pub requests: u64,
    /// Faults by class.
    pub faults: FaultCounts,
    /// Rare situations that were met.
    pub probes: Hits,
    /// What the callers did, in words, if asked for.
    pub story: Vec<String>,
    /// Warnings and errors that the machine reported.
    pub reports: Vec<String>,
}

impl Job {
    /// The job of a seed with so many operations.
    pub fn of_seed(seed: u64, ops: usize) -> Job {
        Job {
            seed,
            plan: plan::generate(seed, ops),
            canary: None,
            lie: None,
            without: Vec::new(),
            verbose: false,
            story: false,
        }
    }

    /// Runs it. A panic of the machine is a failure like any other.
    pub fn run(&self) -> Verdict {
        let _planted = canaries::plant(self.canary);
        probes::take();
        let mut options = Options::of_seed(self.seed);
        self.without.iter().for_each(|fault| options.leave_out(*fault));
        let kernel = Kernel::new(options.kernel_locks, 0);
        let callers =
            Callers::new(options.callers, self.plan.clone(), kernel, options.pause_us * 1_000);
        let mut world = World::new(self.seed, options, callers);
        world.verbose = self.verbose;
        world.story = self.story.then(Vec::new);
        self.lie.into_iter().for_each(|lie| world.stores.lie(lie));
        let mut run = Run::new(world);
        let result = catch_unwind(AssertUnwindSafe(|| run.all(self.seed)));
        let failure = match result {
            Ok(Ok(())) => None,
            Ok(Err(failure)) => Some(failure),
            Err(panic) => Some(Failure::new("panic", panic_text(panic.as_ref()))),
        };
        Verdict {
            failure,
            trace: run.world.trace.value(),
            steps: run.world.callers.done,
            requests: run.requests + run.world.epoch.records.len() as u64,
            faults: {
                let mut counts = run.world.link.counts;
                let [syncs, full, reads] = run.world.stores.ills();
                counts[Fault::DiskSync as usize] += syncs;
                counts[Fault::DiskFull as usize] += full;
                counts[Fault::DiskRead as usize] += reads;
                counts
            },
            probes: probes::take(),
            story: std::mem::take(&mut run.world.story).unwrap_or_default(),
            reports: std::mem::take(&mut run.world.reports),
        }
    }
}

pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_string());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without words".into())
}
