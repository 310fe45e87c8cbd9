//! Seeds that once failed stay fixed.

use vellum_sim::runner::Job;

const SEEDS: &str = include_str!("../regressions/seeds.txt");

/// Seed, operations, what it showed.
fn regressions() -> Vec<(u64, usize, &'static str)> {
    let lines = SEEDS.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
    let parse = |line: &'static str| {
        let (seed, rest) = line.split_once(' ')?;
        let (ops, shown) = rest.trim_start().split_once(' ')?;
        Some((seed.parse().ok()?, ops.parse().ok()?, shown.trim()))
    };
    lines.map(|line| parse(line).unwrap_or_else(|| panic!("no seed: {line:?}"))).collect()
}

#[test]
fn what_once_failed_passes() {
    let jobs = regressions();
    assert!(!jobs.is_empty());
    for (seed, ops, shown) in jobs {
        let verdict = Job::of_seed(seed, ops).run();
        if let Some(failure) = verdict.failure {
            panic!("seed {seed}, {ops} operations ({shown}): {}: {}", failure.rule, failure.text);
        }
    }
}
