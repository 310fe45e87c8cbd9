//! `sim`: runs seeds, replays one, and proves that planted bugs are found.

mod cli;

use clap::{Parser, Subcommand};
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use vellum_core::canary::Canary;
use vellum_sim::canaries::{BUGS, Bug, Found};
use vellum_sim::faults::{Fault, FaultCounts, Options};
use vellum_sim::runner::{Job, Verdict};
use vellum_sim::shrink::{only, shrink};
use vellum_sim::trace::Trace;

#[derive(Parser)]
#[command(about = "Runs Vellum's machine in a simulated world with faults, and judges it.")]
struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Runs a range of seeds.
    Run {
        /// First seed and the one after the last: A..B.
        #[arg(long, value_parser = seeds)]
        seeds: (u64, u64),
        /// Operations of a run.
        #[arg(long, default_value_t = 200)]
        ops: usize,
        /// Threads.
        #[arg(long, default_value_t = 1)]
        jobs: usize,
        /// A bug to plant.
        #[arg(long, value_parser = canary)]
        canary: Option<Canary>,
        /// Faults to leave out, such as kv-outage,crash.
        #[arg(long, value_parser = fault, value_delimiter = ',')]
        without: Vec<Fault>,
        /// Go on after a failure, and list all at the end.
        #[arg(long)]
        keep_going: bool,
        /// One JSON object per line.
        #[arg(long)]
        json: bool,
    },
    /// Runs one seed.
    Replay {
        /// Which one.
        seed: u64,
        /// Operations of the run.
        #[arg(long, default_value_t = 200)]
        ops: usize,
        /// A bug to plant.
        #[arg(long, value_parser = canary)]
        canary: Option<Canary>,
        /// Faults to leave out.
        #[arg(long, value_parser = fault, value_delimiter = ',')]
        without: Vec<Fault>,
        /// Only these steps of the plan, as `shrink` prints them.
        #[arg(long, value_delimiter = ',')]
        keep: Vec<usize>,
        /// Print everything that happens.
        #[arg(long)]
        verbose: bool,
    },
    /// Drops operations from the plan of a seed that fails while it fails by the same rule.
    Shrink {
        /// Which one.
        seed: u64,
        /// Operations of the run.
        #[arg(long, default_value_t = 200)]
        ops: usize,
        /// A bug to plant.
        #[arg(long, value_parser = canary)]
        canary: Option<Canary>,
    },
    /// Runs all interleavings of two and three operations.
    Exhaustive(cli::exhaustive::Args),
    /// Finds each planted bug.
    Canaries {
        /// Operations of a run.
        #[arg(long, default_value_t = 200)]
        ops: usize,
        /// Only this one.
        #[arg(long, value_parser = bug, value_name = "NAME")]
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
    },
}

fn main() -> ExitCode {
    match Args::parse().verb {
        Verb::Run { seeds, ops, jobs, canary, without, keep_going, json } => {
            run(&Batch { seeds, ops, jobs, canary, without, keep_going, json })
        }
        Verb::Replay { seed, ops, canary, without, keep, verbose } => {
            let job = Job { canary, without, verbose, ..Job::of_seed(seed, ops) };
            replay(&if keep.is_empty() { job } else { only(&job, &keep) })
        }
        Verb::Shrink { seed, ops, canary } => {
            quiet_panics();
            print_shrunk(&Job { canary, ..Job::of_seed(seed, ops) })
        }
        Verb::Exhaustive(args) => cli::exhaustive::exhaustive(&args),
        Verb::Canaries { ops, only, quick, jobs, json } => {
            quiet_panics();
            let bugs = only.map_or(BUGS, std::slice::from_ref);
            canaries(
                bugs,
                jobs,
                json,
                |bug| {
                    if quick { bug.hunt_quickly(ops) } else { bug.hunt(ops) }
                },
            )
        }
    }
}

/// A range of seeds to run.
struct Batch {
    seeds: (u64, u64),
    ops: usize,
    jobs: usize,
    canary: Option<Canary>,
    without: Vec<Fault>,
    keep_going: bool,
    json: bool,
}

/// What a batch came to.
#[derive(Default)]
struct Totals {
    seeds: u64,
    steps: u64,
    requests: u64,
    faults: FaultCounts,
    probes: BTreeMap<&'static str, u64>,
    traces: BTreeMap<u64, u64>,
    failures: BTreeMap<u64, Verdict>,
}

fn run(batch: &Batch) -> ExitCode {
    let (from, to) = batch.seeds;
    let name = batch.canary.map_or("none", name_of);
    header(batch, name);
    quiet_panics();
    let began = Instant::now();
    let jobs = batch.jobs.max(1) as u64;
    let parts: Vec<Totals> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..jobs)
            .map(|job| {
                scope.spawn(move || run_part(batch, (from + job..to).step_by(jobs as usize)))
            })
            .collect();
        threads.into_iter().map(|t| t.join().expect("the runs catch their panics")).collect()
    });
    let mut totals = Totals::default();
    parts.into_iter().for_each(|part| totals.add(part));
    for (seed, verdict) in &totals.failures {
        print_failure(batch, *seed, verdict);
    }
    totals.print(batch, began.elapsed().as_secs_f64());
    if totals.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run_part(batch: &Batch, seeds: impl Iterator<Item = u64>) -> Totals {
    let mut totals = Totals::default();
    for seed in seeds {
        let verdict = run_twice_sometimes(&batch.job(seed));
        let failed = verdict.failure.is_some();
        totals.note(seed, verdict);
        if failed && !batch.keep_going {
            break;
        }
    }
    totals
}

/// Every tenth seed runs twice: the same seed must be the same run.
fn run_twice_sometimes(job: &Job) -> Verdict {
    let mut verdict = job.run();
    if job.seed.is_multiple_of(10) && verdict.failure.is_none() {
        let again = job.run();
        if again.trace != verdict.trace {
            let text =
                format!("two runs have the traces {:016x} and {:016x}", verdict.trace, again.trace);
            verdict.failure = Some(vellum_sim::world::Failure::new("determinism", text));
        }
    }
    verdict
}

fn replay(job: &Job) -> ExitCode {
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

fn print_shrunk(job: &Job) -> ExitCode {
    let Some(failure) = job.run().failure else {
        println!("seed {} does not fail", job.seed);
        return ExitCode::FAILURE;
    };
    let kept = shrink(job, failure.rule);
    for index in &kept {
        println!("{index:>5} {:?}", job.plan[*index]);
    }
    let keep: Vec<String> = kept.iter().map(ToString::to_string).collect();
    let canary = job.canary.map_or(String::new(), |c| format!(" --canary {}", name_of(c)));
    println!("{} of {} operations break {}", kept.len(), job.plan.len(), failure.rule);
    println!(
        "replay: cargo run --release -p vellum-sim -- replay {} --ops {}{canary} --keep {} --verbose",
        job.seed,
        job.plan.len(),
        keep.join(",")
    );
    ExitCode::SUCCESS
}

/// Hunts bugs on several threads; prints a line for each as it is found or missed.
fn canaries(
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
    match found {
        Some(Found { seed, rule, tried }) => {
            let odd = if bug.expects(rule) { "" } else { ", not the rule that was to find it" };
            println!(
                "{:<22} found   seed {seed:>5} of {:<6} {rule}{odd} ({tried} tried)",
                bug.name, bug.within
            );
        }
        None => println!("{:<22} MISSED  {} seeds: {}", bug.name, bug.within, bug.breaks),
    }
}

impl Batch {
    fn job(&self, seed: u64) -> Job {
        Job { canary: self.canary, without: self.without.clone(), ..Job::of_seed(seed, self.ops) }
    }

    /// The options that a replay needs, too.
    fn flags(&self) -> String {
        let mut flags = format!(" --ops {}", self.ops);
        if let Some(canary) = self.canary {
            flags.push_str(&format!(" --canary {}", name_of(canary)));
        }
        let names =
            Fault::ALL.iter().filter(|(_, f)| self.without.contains(f)).map(|(name, _)| *name);
        let names: Vec<&str> = names.collect();
        if !names.is_empty() {
            flags.push_str(&format!(" --without {}", names.join(",")));
        }
        flags
    }
}

impl Totals {
    fn note(&mut self, seed: u64, verdict: Verdict) {
        self.seeds += 1;
        self.steps += verdict.steps;
        self.requests += verdict.requests;
        for (sum, count) in self.faults.iter_mut().zip(verdict.faults) {
            *sum += count;
        }
        for (name, count) in &verdict.probes {
            *self.probes.entry(name).or_default() += count;
        }
        self.traces.insert(seed, verdict.trace);
        if verdict.failure.is_some() {
            self.failures.insert(seed, verdict);
        }
    }

    fn add(&mut self, other: Totals) {
        self.seeds += other.seeds;
        self.steps += other.steps;
        self.requests += other.requests;
        for (sum, count) in self.faults.iter_mut().zip(other.faults) {
            *sum += count;
        }
        for (name, count) in other.probes {
            *self.probes.entry(name).or_default() += count;
        }
        self.traces.extend(other.traces);
        self.failures.extend(other.failures);
    }

    fn trace(&self) -> u64 {
        let mut trace = Trace::default();
        self.traces.values().for_each(|t| trace.word(*t));
        trace.value()
    }

    fn print(&self, batch: &Batch, seconds: f64) {
        let faults = Fault::ALL.iter().zip(self.faults).map(|((name, _), count)| (*name, count));
        let rate = self.seeds as f64 / seconds.max(1e-9);
        if batch.json {
            let faults: BTreeMap<&str, u64> = faults.collect();
            let line = serde_json::json!({
                "event": "summary", "seeds": self.seeds, "failures": self.failures.len(),
                "operations": self.steps, "requests": self.requests, "faults": faults,
                "probes": self.probes, "seeds_per_second": rate, "trace": format!("{:016x}", self.trace()),
            });
            println!("{line}");
            return;
        }
        let faults: Vec<String> =
            faults.filter(|f| f.1 > 0).map(|(name, count)| format!("{name} {count}")).collect();
        println!("faults: {}", faults.join(", "));
        let probes: Vec<String> =
            self.probes.iter().map(|(name, count)| format!("{name} {count}")).collect();
        println!("probes: {}", probes.join(", "));
        println!(
            "{} seeds, {} failed, {} operations, {} requests, {} faults, {rate:.0} seeds/s, trace {:016x}",
            self.seeds,
            self.failures.len(),
            self.steps,
            self.requests,
            self.faults.iter().sum::<u64>(),
            self.trace()
        );
    }
}

fn header(batch: &Batch, canary: &str) {
    let (from, to) = batch.seeds;
    if batch.json {
        let line = serde_json::json!({
            "event": "start", "seeds": [from, to], "jobs": batch.jobs, "canary": canary, "flags": batch.flags(),
        });
        println!("{line}");
    } else {
        println!("seeds {from}..{to}, {} jobs,{}", batch.jobs, batch.flags());
    }
}

fn print_failure(batch: &Batch, seed: u64, verdict: &Verdict) {
    let Some(failure) = &verdict.failure else { return };
    let replay =
        format!("cargo run --release -p vellum-sim -- replay {seed}{} --verbose", batch.flags());
    if batch.json {
        let line = serde_json::json!({
            "event": "failure", "seed": seed, "rule": failure.rule, "text": failure.text,
            "reports": verdict.reports, "replay": replay,
        });
        println!("{line}");
        return;
    }
    println!("FAILED seed {seed}, {}: {}", failure.rule, failure.text);
    for report in verdict.reports.iter().take(5) {
        println!("  report: {report}");
    }
    println!("  replay: {replay}");
}

/// Panics are failures of a run; their place is all that is worth printing.
fn quiet_panics() {
    std::panic::set_hook(Box::new(|info| {
        if let Some(at) = info.location() {
            eprintln!("panic at {}:{}", at.file(), at.line());
        }
    }));
}

fn name_of(canary: Canary) -> &'static str {
    Bug::of(canary).map_or("?", |bug| bug.name)
}

fn bug(name: &str) -> Result<&'static Bug, String> {
    let names: Vec<&str> = BUGS.iter().map(|bug| bug.name).collect();
    Bug::named(name).ok_or_else(|| format!("no such bug; there are {}", names.join(", ")))
}

fn canary(name: &str) -> Result<Canary, String> {
    bug(name).map(|bug| bug.canary)
}

fn fault(name: &str) -> Result<Fault, String> {
    let names: Vec<&str> = Fault::ALL.iter().map(|(name, _)| *name).collect();
    let found = Fault::ALL.iter().find(|(n, _)| *n == name);
    found.map(|(_, f)| *f).ok_or_else(|| format!("no such fault; there are {}", names.join(", ")))
}

fn seeds(range: &str) -> Result<(u64, u64), String> {
    let wrong = || format!("{range:?} is no range A..B");
    let (from, to) = range.split_once("..").ok_or_else(wrong)?;
    let range = (from.parse().map_err(|_| wrong())?, to.parse().map_err(|_| wrong())?);
    if range.0 < range.1 { Ok(range) } else { Err(wrong()) }
}
