//! `sim soak`: plans of all sizes until the time is up or something fails.

use clap::Parser;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use vellum_sim::dice::{Dice, Stream};
use vellum_sim::runner::Job;
use vellum_sim::shrink::shrink;

use super::totals::{Totals, print_failure, run_twice_sometimes};
use super::{Extras, quiet_panics, replay_command};

/// Seconds between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(30);
/// Plans up to this size are made shorter at once when they fail.
const SHRINK_MAX: usize = 1_000;

#[derive(Parser)]
pub(crate) struct Args {
    /// How long.
    #[arg(long)]
    minutes: f64,
    /// The first seed.
    #[arg(long, default_value_t = 1_000_000)]
    from: u64,
    /// Threads.
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    #[command(flatten)]
    extras: Extras,
    /// One JSON object per line.
    #[arg(long)]
    json: bool,
}

pub(crate) fn soak(args: &Args) -> ExitCode {
    quiet_panics();
    let began = Instant::now();
    let until = began + Duration::from_secs_f64(args.minutes * 60.0);
    let next = AtomicU64::new(args.from);
    let failed = AtomicBool::new(false);
    let shared = Mutex::new((Totals::default(), began));
    std::thread::scope(|scope| {
        for _ in 0..args.jobs.max(1) {
            scope.spawn(|| {
                while Instant::now() < until && !failed.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let verdict = run_twice_sometimes(&args.extras.job(seed, size(seed)));
                    failed.fetch_or(verdict.failure.is_some(), Ordering::Relaxed);
                    let mut shared = shared.lock().expect("runs catch their panics");
                    shared.0.note(seed, verdict);
                    if shared.1.elapsed() >= PROGRESS {
                        shared.1 = Instant::now();
                        progress(args, seed, &shared.0, began);
                    }
                }
            });
        }
    });
    let (totals, _) = shared.into_inner().expect("runs catch their panics");
    for (seed, verdict) in &totals.failures {
        let job = args.extras.job(*seed, size(*seed));
        print_failure(*seed, verdict, &shortest(&job, verdict.failure.as_ref()), args.json);
    }
    let seconds = began.elapsed().as_secs_f64();
    if args.json {
        println!("{}", totals.json(seconds));
    } else {
        totals.print(seconds);
    }
    if totals.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Operations of a seed's plan. Most time goes into plans of medium size.
fn size(seed: u64) -> usize {
    let dice = &mut Dice::new(seed, Stream::Size);
    let (low, high) = *dice.pick(&[(20, 60), (60, 200), (200, 600), (200, 600), (600, 1_500)]);
    if dice.chance(200) { 5_000 } else { dice.within(low, high) as usize }
}

/// The command that repeats a failure with as little as it takes.
fn shortest(job: &Job, failure: Option<&vellum_sim::world::Failure>) -> String {
    match failure {
        Some(failure) if job.plan.len() <= SHRINK_MAX && failure.rule != "determinism" => {
            let shrunk = shrink(job, failure.rule);
            let job = Job { without: shrunk.without, ..job.clone() };
            replay_command(&job, job.plan.len(), &shrunk.kept)
        }
        _ => replay_command(job, job.plan.len(), &[]),
    }
}

fn progress(args: &Args, seed: u64, totals: &Totals, began: Instant) {
    let seconds = began.elapsed().as_secs();
    if args.json {
        let line = serde_json::json!({
            "event": "progress", "seed": seed, "seeds": totals.seeds, "seconds": seconds,
        });
        println!("{line}");
    } else {
        println!("{seconds} s: {} seeds, at {seed}, no failure", totals.seeds);
    }
}
