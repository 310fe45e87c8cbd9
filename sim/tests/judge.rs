//! The judge must be able to fail: stores that break their word are caught, honest ones are not, and a
//! seed is one run.

use vellum_core::canary::Canary;
use vellum_sim::kv::Lie;
use vellum_sim::runner::Job;
use vellum_sim::shrink::{only, shrink};

/// The first seed that fails with a lie and passes without.
fn caught(lie: Lie, seeds: u64) -> Option<u64> {
    (0..seeds).find(|seed| {
        let honest = Job::of_seed(*seed, 120);
        let lying = Job { lie: Some(lie), ..honest.clone() };
        lying.run().failure.is_some() && honest.run().failure.is_none()
    })
}

#[test]
fn a_store_without_conflicts_is_caught() {
    assert!(caught(Lie::NoConflicts, 300).is_some());
}

#[test]
fn a_store_that_forgets_to_sync_is_caught() {
    assert!(caught(Lie::NoSync, 300).is_some());
}

#[test]
fn a_store_that_reads_at_no_version_is_caught() {
    assert!(caught(Lie::NewestReads, 1_000).is_some());
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 0..20 {
        let job = Job::of_seed(seed, 80);
        assert_eq!(job.run().trace, job.run().trace, "seed {seed}");
    }
}

#[test]
fn a_shorter_plan_breaks_the_same_rule() {
    let planted = |seed| Job { canary: Some(Canary::ForgottenErase), ..Job::of_seed(seed, 60) };
    let found = (0..300).find_map(|seed| Some((seed, planted(seed).run().failure?.rule)));
    let (seed, rule) = found.expect("some seed finds it");
    let job = planted(seed);
    let shrunk = shrink(&job, rule);
    assert!(shrunk.kept.len() < job.plan.len());
    assert!(!shrunk.without.is_empty(), "some fault is not needed: {shrunk:?}");
    let least = Job { without: shrunk.without, ..job.clone() };
    assert_eq!(only(&least, &shrunk.kept).run().failure.map(|failure| failure.rule), Some(rule));
}
