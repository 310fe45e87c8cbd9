//! `sim replay` and `sim shrink`: one seed.

use clap::Parser;
use std::process::ExitCode;
use vellum_sim::faults::Options;
use vellum_sim::runner::Job;
use vellum_sim::shrink::{only, shrink};

use super::{Extras, quiet_panics, replay_command};

#[derive(Parser)]
pub(crate) struct Args {
    /// Which one.
    seed: u64,
    /// Operations of the run.
    #[arg(long, default_value_t = 200)]
    ops: usize,
    #[command(flatten)]
    extras: Extras,
    /// Only these steps of the plan, as `shrink` prints them.
    #[arg(long, value_delimiter = ',')]
    keep: Vec<usize>,
    /// Print everything that happens.
    #[arg(long)]
    verbose: bool,
}

#[derive(Parser)]
pub(crate) struct ShrinkArgs {
    /// Which one.
    seed: u64,
    /// Operations of the run.
    #[arg(long, default_value_t = 200)]
    ops: usize,
    #[command(flatten)]
    extras: Extras,
}

pub(crate) fn replay(args: &Args) -> ExitCode {
    let job = Job { verbose: args.verbose, ..args.extras.job(args.seed, args.ops) };
    let job = if args.keep.is_empty() { job } else { only(&job, &args.keep) };
    println!("seed {}, {} operations, {:?}", job.seed, job.plan.len(), Options::of_seed(job.seed));
    let verdict = job.run();
    for report in &verdict.reports {
        println!("report: {report}");
    }
    println!(
        "trace {:016x}, {} steps, {} requests",
        verdict.trace, verdict.steps, verdict.requests
    );
    match verdict.failure {
        None => {
            println!("no failure");
            ExitCode::SUCCESS
        }
        Some(failure) => {
            println!("FAILED {}: {}", failure.rule, failure.text);
            ExitCode::FAILURE
        }
    }
}

pub(crate) fn print_shrunk(args: &ShrinkArgs) -> ExitCode {
    quiet_panics();
    let job = args.extras.job(args.seed, args.ops);
    let Some(failure) = job.run().failure else {
        println!("seed {} does not fail", job.seed);
        return ExitCode::FAILURE;
    };
    let shrunk = shrink(&job, failure.rule);
    let least = Job { without: shrunk.without.clone(), ..job.clone() };
    let story = Job { story: true, ..only(&least, &shrunk.kept) }.run();
    for line in &story.story {
        println!("  {line}");
    }
    let left: Vec<&str> = shrunk.faults_left(&job).collect();
    println!(
        "{} of {} operations break {}; faults: {}",
        shrunk.kept.len(),
        job.plan.len(),
        failure.rule,
        if left.is_empty() { "none".into() } else { left.join(", ") }
    );
    if let Some(failure) = story.failure {
        println!("{}", failure.text);
    }
    println!("replay: {}", replay_command(&least, job.plan.len(), &shrunk.kept));
    ExitCode::SUCCESS
}
