//! Every interleaving of two or three operations on a small tree, with at most one fault.
//!
//! Owns: what is run ([`acts`]) and how its schedules are walked through ([`dfs`]). Never does: judging
//! (`runner.rs` and `check.rs` do, as for any run).
//!
//! A schedule is the order of everything that the world does: requests handed in, requests that reach the
//! stores, answers that reach the machine. Each is run from the start, so that it is printed as a few
//! numbers and repeated by them. When all operations are answered the search ends, and what is left is
//! done in one order.

pub mod acts;
pub mod dfs;

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use vellum_core::canary::Canary;

use crate::callers::Callers;
use crate::canaries;
use crate::exhaustive::acts::{Act, Tree};
use crate::exhaustive::dfs::Search;
use crate::faults::{Options, Store};
use crate::job::panic_text;
use crate::kernel::Kernel;
use crate::runner::Run;
use crate::world::explore::{Explorer, Next, REDUNDANT};
use crate::world::{Failure, Outcome, World};

/// What the schedules of a batch have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The stores.
    pub store: Store,
    /// The kernel serialises changes of one inode, as Linux does. Needed for kills.
    pub locks: bool,
    /// Faults of one schedule, at most.
    pub faults: u32,
    /// One of them may be the end of the process.
    pub kills: bool,
    /// A bug to plant.
    pub canary: Option<Canary>,
}

impl Setting {
    /// Nothing goes wrong, and nothing but the machine keeps operations apart.
    pub const PLAIN: Setting =
        Setting { store: Store::Cluster, locks: false, faults: 0, kills: false, canary: None };
    /// One commit conflicts, or its outcome is unknown.
    pub const FAULT: Setting = Setting { faults: 1, ..Setting::PLAIN };
    /// The process ends once, on stores that lose what was not synced.
    pub const KILL: Setting =
        Setting { store: Store::Embedded, locks: true, faults: 1, kills: true, canary: None };
}

/// What the schedules of some operations came to.
#[derive(Clone, Debug, Default)]
pub struct Searched {
    /// Schedules that were run and judged.
    pub schedules: u64,
    /// Schedules that were given up because they are others in another order.
    pub redundant: u64,
    /// The first that failed.
    pub found: Option<Found>,
    /// There were more schedules than were asked for.
    pub cut_short: bool,
}

/// A schedule that failed.
#[derive(Clone, Debug)]
pub struct Found {
    /// What was wrong.
    pub failure: Failure,
    /// The schedule, for [`replay`].
    pub choices: String,
}

/// Walks through all schedules of some operations, at most `limit`, up to the first that fails.
pub fn search(setting: &Setting, acts: &[Act], limit: u64) -> Searched {
    let search = Rc::new(RefCell::new(Search::default()));
    let mut searched = Searched::default();
    loop {
        match run(setting, acts, &search, false) {
            Ok(()) => searched.schedules += 1,
            Err(failure) if failure.rule == REDUNDANT => searched.redundant += 1,
            Err(failure) => {
                searched.schedules += 1;
                let choices = search.borrow().text();
                searched.found = Some(Found { failure, choices });
                return searched;
            }
        }
        if !search.borrow_mut().advance() {
            return searched;
        }
        if searched.schedules >= limit {
            searched.cut_short = true;
            return searched;
        }
    }
}

/// Runs one schedule again, and prints what happens.
///
/// # Errors
/// What is wrong with it.
pub fn replay(setting: &Setting, acts: &[Act], choices: &str) -> Outcome<()> {
    let script = Search::replay(choices);
    let script = script.map_err(|error| Failure::new("choices", error.to_string()))?;
    run(setting, acts, &Rc::new(RefCell::new(script)), true)
}

/// One schedule from the format to the verdict.
fn run(
    setting: &Setting,
    acts: &[Act],
    search: &Rc<RefCell<Search<Next>>>,
    verbose: bool,
) -> Outcome<()> {
    const SEED: u64 = 1;
    let _planted = canaries::plant(setting.canary);
    let options = Options::steady(setting.store, setting.locks, acts.len());
    let callers = Callers::new(acts.len(), Vec::new(), Kernel::new(setting.locks, 0), 0);
    let mut world = World::new(SEED, options, callers);
    world.steady = true;
    let result = catch_unwind(AssertUnwindSafe(|| {
        let mut run = Run::new(world);
        run.begin(SEED)?;
        let tree = Tree::make(&mut run.world)?;
        run.settle()?;
        run.world.verbose = verbose;
        let parts = acts.iter().map(|act| act.part(&tree)).collect();
        Callers::perform(&mut run.world, parts);
        let (search, faults, kills) = (search.clone(), setting.faults, setting.kills);
        run.world.explorer = Some(Explorer { search, faults, kills });
        while !run.world.callers.idle() && !run.world.crashed {
            run.world.step()?;
        }
        run.world.explorer = None;
        if run.world.crashed {
            run.crash()?;
        }
        run.rest()
    }));
    result.unwrap_or_else(|panic| Err(Failure::new("panic", panic_text(panic.as_ref()))))
}
