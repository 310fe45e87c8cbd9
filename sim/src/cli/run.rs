//! `sim run`: a range of seeds.

use clap::Parser;
use std::process::ExitCode;
use std::time::Instant;

use super::totals::{Totals, print_failure, run_twice_sometimes};
use super::{Extras, flags, quiet_panics, replay_command, seeds};

/// Seeds from which on a batch must have met everything rare.
const ENOUGH: u64 = 1_000;

#[derive(Parser)]
pub(crate) struct Args {
    /// First seed and the one after the last: A..B.
    #[arg(long, value_parser = seeds)]
    seeds: (u64, u64),
    /// Operations of a run.
    #[arg(long, default_value_t = 200)]
    ops: usize,
    /// Threads.
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    #[command(flatten)]
    extras: Extras,
    /// Go on after a failure, and list all at the end.
    #[arg(long)]
    keep_going: bool,
    /// Fail if a rare situation or a fault was never met; so do batches of 1,000 seeds and more of 200
    /// operations without other options.
    #[arg(long)]
    probes: bool,
    /// One JSON object per line.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> ExitCode {
    header(args);
    quiet_panics();
    let (from, to) = args.seeds;
    let began = Instant::now();
    let jobs = args.jobs.max(1) as u64;
    let parts: Vec<Totals> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..jobs)
            .map(|job| scope.spawn(move || part(args, (from + job..to).step_by(jobs as usize))))
            .collect();
        threads.into_iter().map(|t| t.join().expect("the runs catch their panics")).collect()
    });
    let mut totals = Totals::default();
    parts.into_iter().for_each(|part| totals.add(part));
    for (seed, verdict) in &totals.failures {
        let replay = replay_command(&args.extras.job(*seed, args.ops), args.ops, &[]);
        print_failure(*seed, verdict, &replay, args.json);
    }
    let seconds = began.elapsed().as_secs_f64();
    if args.json {
        println!("{}", totals.json(seconds));
    } else {
        totals.print(seconds);
    }
    let mut good = totals.failures.is_empty();
    if args.wants_probes() {
        for missed in totals.never_met() {
            good = false;
            eprintln!("FAILED never met: {missed}");
        }
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn part(args: &Args, seeds: impl Iterator<Item = u64>) -> Totals {
    let mut totals = Totals::default();
    for seed in seeds {
        let verdict = run_twice_sometimes(&args.extras.job(seed, args.ops));
        let failed = verdict.failure.is_some();
        totals.note(seed, verdict);
        if failed && !args.keep_going {
            break;
        }
    }
    totals
}

impl Args {
    fn wants_probes(&self) -> bool {
        let plain = self.extras.canary.is_none() && self.extras.without.is_empty();
        let large = self.seeds.1 - self.seeds.0 >= ENOUGH && self.ops >= 200;
        self.probes || (plain && large)
    }

    fn flags(&self) -> String {
        format!(" --ops {}{}", self.ops, flags(self.extras.canary, &self.extras.without))
    }
}

fn header(args: &Args) {
    let (from, to) = args.seeds;
    if args.json {
        let line = serde_json::json!({
            "event": "start", "seeds": [from, to], "jobs": args.jobs, "flags": args.flags(),
        });
        println!("{line}");
    } else {
        println!("seeds {from}..{to}, {} jobs,{}", args.jobs, args.flags());
    }
}
