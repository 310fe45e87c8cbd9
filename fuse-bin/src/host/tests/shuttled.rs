//! The scenes under shuttle. A failure prints the schedule; `shuttle::replay` takes it.

use crate::host::sync::{Plant, plant};
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, Runner};
use std::panic::{AssertUnwindSafe, catch_unwind};

type Scene = fn();

const SCENES: [(&str, Scene); 6] = [
    ("everybody is answered once", super::everybody_is_answered_once),
    ("a reader is always free", super::a_reader_is_always_free),
    ("a stop ends every thread", super::a_stop_ends_every_thread),
    ("no time is missed", super::no_time_is_missed),
    ("an answer comes when the kernel was told", super::an_answer_comes_when_the_kernel_was_told),
    ("nobody waits for no kernel", super::nobody_waits_for_a_kernel_that_is_not_there),
];

const SEED: u64 = 7;
/// Schedules within which a planted bug is found.
const PLANTED_MAX: usize = 4000;

/// One test, since what is planted is known to the whole process.
#[test]
fn no_schedule_breaks_a_rule_and_planted_bugs_are_found() {
    let number =
        |name, default| std::env::var(name).map_or(default, |n| n.parse().expect("a number"));
    let schedules = number("VELLUM_TEST_SHUTTLE", 10_000);
    let seed = number("VELLUM_TEST_SHUTTLE_SEED", SEED);
    for (name, scene) in SCENES {
        let begin = std::time::Instant::now();
        explore(scene, seed, schedules as usize);
        println!("{name}: {} schedules in {:.1} s", 2 * schedules, begin.elapsed().as_secs_f64());
    }
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let plants = [
        (Plant::LastReaderBlocks, 1),
        (Plant::LateWaiter, 0),
        (Plant::LostWakeup, 0),
        (Plant::StaleAlarm, 3),
        (Plant::OneStop, 2),
        (Plant::EarlyTold, 4),
    ];
    let found = plants.map(|(bug, scene)| (bug, first_failure(bug, SCENES[scene].1)));
    std::panic::set_hook(hook);
    for (bug, schedules) in &found {
        println!(
            "{bug:?}: {}",
            schedules.map_or("MISSED".into(), |n| format!("found within {n} schedules"))
        );
    }
    assert!(found.iter().all(|(_, schedules)| schedules.is_some()));
}

/// Half of them at random, half with few but well-placed changes of priority.
fn explore(scene: Scene, seed: u64, schedules: usize) {
    Runner::new(RandomScheduler::new_from_seed(seed, schedules), config()).run(scene);
    Runner::new(PctScheduler::new_from_seed(seed, 3, schedules), config()).run(scene);
}

fn first_failure(bug: Plant, scene: Scene) -> Option<usize> {
    plant(Some(bug));
    let fails = |schedules: &usize| {
        catch_unwind(AssertUnwindSafe(|| explore(scene, SEED, *schedules))).is_err()
    };
    let found = [10, 100, 1000, PLANTED_MAX].into_iter().find(fails);
    plant(None);
    found
}

fn config() -> Config {
    let mut config = Config::new();
    config.stack_size = 256 << 10;
    config.silence_warnings = true;
    config
}
