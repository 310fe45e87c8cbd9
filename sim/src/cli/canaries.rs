//! `sim canaries`: each planted bug must be found.

use clap::Parser;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use vellum_sim::canaries::{BUGS, Bug, Found};

#[derive(Parser)]
pub(crate) struct Args {
    /// Operations of a run.
    #[arg(long, default_value_t = 200)]
    ops: usize,
    /// Only this one.
    #[arg(long, value_parser = super::bug, value_name = "NAME")]
    only: Option<&'static Bug>,
    /// Begin each search at the seed that is known to find the bug.
    #[arg(long)]
    quick: bool,
    /// Threads.
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// One JSON object per line.
    #[arg(long)]
    json: bool,
}

pub(crate) fn canaries(args: &Args) -> ExitCode {
    super::quiet_panics();
    let bugs = args.only.map_or(BUGS, std::slice::from_ref);
    hunt_all(bugs, args.jobs, args.json, |bug| {
        if args.quick { bug.hunt_quickly(args.ops) } else { bug.hunt(args.ops) }
    })
}

/// Hunts bugs on several threads; prints a line for each as it is found or missed.
fn hunt_all(
    bugs: &'static [Bug],
    jobs: usize,
    json: bool,
    hunt: impl Fn(&Bug) -> Option<Found> + Sync,
) -> ExitCode {
    let next = AtomicUsize::new(0);
    let found = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                while let Some(bug) = bugs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let began = Instant::now();
                    let outcome = hunt(bug);
                    found.fetch_add(usize::from(outcome.is_some()), Ordering::Relaxed);
                    print_bug(bug, outcome.as_ref(), began.elapsed().as_secs_f64(), json);
                }
            });
        }
    });
    let found = found.into_inner();
    if json {
        println!("{}", serde_json::json!({ "event": "summary", "found": found, "of": bugs.len() }));
    } else {
        println!("{found} of {} planted bugs found", bugs.len());
    }
    if found == bugs.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn print_bug(bug: &Bug, found: Option<&Found>, seconds: f64, json: bool) {
    if json {
        let line = serde_json::json!({
            "event": "canary", "name": bug.name, "breaks": bug.breaks, "within": bug.within,
            "rules": bug.rules, "found": found.is_some(), "seed": found.map(|f| f.seed),
            "rule": found.map(|f| f.rule), "expected": found.map(|f| bug.expects(f.rule)),
            "tried": found.map_or(bug.within, |f| f.tried), "seconds": seconds,
        });
        return println!("{line}");
    }
    let kind = if bug.acts.is_empty() { "seed    " } else { "schedule" };
    match found {
        Some(Found { seed, rule, tried }) => {
            let odd = if bug.expects(rule) { "" } else { ", not the rule that was to find it" };
            println!(
                "{:<22} found   {kind} {seed:>5} of {:<6} {rule}{odd} ({tried} tried)",
                bug.name, bug.within
            );
        }
        None => println!("{:<22} MISSED  {} seeds: {}", bug.name, bug.within, bug.breaks),
    }
}
