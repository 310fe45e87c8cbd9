//! The harness is tested: bugs planted in core, each found by the target that should find it.

mod common;

use common::{Random, corpus, mutated};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use vellum_core::canary::{Canary, install};
use vellum_fuzz::TARGETS;

/// Inputs after which a bug counts as missed.
const TRIES_MAX: u64 = 4000;

/// Bug and target.
const PLANTS: &[(Canary, &str)] = &[
    (Canary::CollidingName, "operations"),
    (Canary::CutShort, "extent_map"),
    (Canary::DriftingUsage, "operations"),
    (Canary::ForgottenErase, "operations"),
    (Canary::ForgottenMark, "operations"),
    (Canary::ForgottenMark, "page_files"),
    (Canary::HollowFsync, "operations"),
    (Canary::KeptBackLink, "operations"),
    (Canary::KeptChangeTime, "operations"),
    (Canary::KeptParent, "operations"),
    (Canary::KeptSetId, "operations"),
    (Canary::KeptSubdirs, "operations"),
    (Canary::NoAncestorCheck, "operations"),
    (Canary::OvertakenPunch, "operations"),
    (Canary::SizeByMax, "operations"),
    (Canary::UnreadLog, "kv_log"),
    (Canary::UnsettledCopy, "operations"),
    (Canary::UnsharedCopy, "operations"),
    (Canary::BelievedRecord, "kv_log"),
];

thread_local! {
    static PLANTED: Cell<Option<Canary>> = const { Cell::new(None) };
}

#[test]
fn planted_bugs_are_found() {
    install(|| PLANTED.get());
    // Each of them is found by a panic, which nobody needs to read.
    std::panic::set_hook(Box::new(|_| ()));
    let tries: Vec<_> = PLANTS.iter().map(|(bug, name)| (bug, name, tries(*bug, name))).collect();
    drop(std::panic::take_hook());
    for (bug, name, tries) in &tries {
        println!("{name} finds {bug:?} with {} inputs", tries.map_or(0, |tries| tries));
    }
    let missed: Vec<_> = tries.iter().filter(|(.., tries)| tries.is_none()).collect();
    assert!(missed.is_empty(), "missed: {missed:?}");
}

/// After how many inputs a target fails: those of its corpus, then mutations of it.
fn tries(bug: Canary, name: &str) -> Option<u64> {
    let target = TARGETS.into_iter().find(|target| target.name == name).expect("a target");
    let corpus = corpus(name);
    let mut random = Random::new(1);
    PLANTED.set(Some(bug));
    let fails = |input: &[u8]| catch_unwind(AssertUnwindSafe(|| (target.fuzz_one)(input))).is_err();
    let found = (1..=TRIES_MAX).find(|n| match corpus.get(*n as usize - 1) {
        Some((_, input)) => fails(input),
        None => fails(&mutated(&mut random, &corpus).1),
    });
    PLANTED.set(None);
    found
}
