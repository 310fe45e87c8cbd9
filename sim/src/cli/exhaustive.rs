//! `sim exhaustive`: all interleavings of two and three operations.

use clap::{Parser, ValueEnum};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use vellum_core::canary::Canary;
use vellum_sim::exhaustive::acts::{ACTS, Act, TRIPLES};
use vellum_sim::exhaustive::{Searched, Setting, replay, search};

#[derive(Parser)]
pub(crate) struct Args {
    /// All pairs of operations (the default).
    #[arg(long)]
    pairs: bool,
    /// Some triples of operations.
    #[arg(long)]
    triples: bool,
    /// What may go wrong once.
    #[arg(long, value_enum, default_value_t = Faults::None)]
    faults: Faults,
    /// A bug to plant.
    #[arg(long, value_parser = super::canary)]
    canary: Option<Canary>,
    /// Schedules of one pair or triple, at most.
    #[arg(long, default_value_t = 20_000)]
    limit: u64,
    /// Only every N-th pair or triple.
    #[arg(long, default_value_t = 1)]
    every: usize,
    /// Threads.
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// Only these operations, such as "unlink d/f;rmdir e/s".
    #[arg(long, value_delimiter = ';')]
    acts: Vec<String>,
    /// Runs one schedule of `--acts`, as it was printed, and prints what happens.
    #[arg(long)]
    choices: Option<String>,
    /// Print each pair or triple when it is done.
    #[arg(long)]
    progress: bool,
    /// One JSON object per line.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Faults {
    /// Nothing.
    None,
    /// A commit conflicts, or nobody knows its outcome.
    Commit,
    /// The process ends, and what was not durable may be lost.
    Kill,
}

/// What a group of operations came to.
struct Line {
    acts: Vec<Act>,
    searched: Searched,
}

pub(crate) fn exhaustive(args: &Args) -> ExitCode {
    let setting = args.setting();
    if let Some(choices) = &args.choices {
        return match args.named().map(|acts| replay(&setting, &acts, choices)) {
            Ok(Ok(())) => {
                println!("no failure");
                ExitCode::SUCCESS
            }
            Ok(Err(failure)) => {
                println!("FAILED {}: {}", failure.rule, failure.text);
                ExitCode::FAILURE
            }
            Err(unknown) => usage(&unknown),
        };
    }
    let groups = match args.groups() {
        Ok(groups) => groups,
        Err(unknown) => return usage(&unknown),
    };
    let began = Instant::now();
    let lines = search_all(args, &setting, &groups);
    print(args, &lines, began.elapsed().as_secs_f64());
    let failed = lines.iter().any(|line| line.searched.found.is_some());
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Threads take one group after the other.
fn search_all(args: &Args, setting: &Setting, groups: &[Vec<Act>]) -> Vec<Line> {
    super::quiet_panics();
    let next = AtomicUsize::new(0);
    let work = || {
        let mut lines = Vec::new();
        while let Some(acts) = groups.get(next.fetch_add(1, Ordering::Relaxed)) {
            let searched = search(setting, acts, args.limit);
            if let Some(found) = &searched.found {
                eprintln!("FAILED {}: {}: {}", names(acts), found.failure.rule, found.failure.text);
            }
            let line = Line { acts: acts.clone(), searched };
            if args.progress {
                let (schedules, acts) = (line.searched.schedules, names(&line.acts));
                eprintln!("{schedules:>8} {acts}");
            }
            lines.push(line);
        }
        lines
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..args.jobs.max(1)).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|t| t.join().expect("runs catch their panics")).collect()
    })
}

fn print(args: &Args, lines: &[Line], seconds: f64) {
    let schedules: u64 = lines.iter().map(|l| l.searched.schedules).sum();
    let redundant: u64 = lines.iter().map(|l| l.searched.redundant).sum();
    let short = lines.iter().filter(|l| l.searched.cut_short).count();
    let failed = lines.iter().filter_map(|l| Some((&l.acts, l.searched.found.as_ref()?)));
    let most = lines.iter().max_by_key(|l| l.searched.schedules);
    let most =
        most.map_or(String::new(), |l| format!("{} ({})", names(&l.acts), l.searched.schedules));
    if args.json {
        let failures: Vec<_> = failed
            .map(|(acts, found)| {
                serde_json::json!({
                    "acts": names(acts), "rule": found.failure.rule, "choices": found.choices,
                    "replay": args.replay(acts, &found.choices),
                })
            })
            .collect();
        let line = serde_json::json!({
            "event": "summary", "groups": lines.len(), "schedules": schedules, "redundant": redundant,
            "cut_short": short, "most": most, "failures": failures, "seconds": seconds,
        });
        println!("{line}");
        return;
    }
    for (acts, found) in failed {
        println!("FAILED {}: {}", names(acts), found.failure.rule);
        println!("  replay: {}", args.replay(acts, &found.choices));
    }
    println!(
        "{} groups, {} failed, {schedules} schedules ({redundant} more given up as equal to others, {short} groups cut short), {seconds:.0} s; most: {most}",
        lines.len(),
        lines.iter().filter(|l| l.searched.found.is_some()).count(),
    );
}

impl Args {
    fn setting(&self) -> Setting {
        let setting = match self.faults {
            Faults::None => Setting::PLAIN,
            Faults::Commit => Setting::FAULT,
            Faults::Kill => Setting::KILL,
        };
        Setting { canary: self.canary, ..setting }
    }

    fn named(&self) -> Result<Vec<Act>, String> {
        self.acts.iter().map(|name| Act::named(name.trim()).ok_or_else(|| name.clone())).collect()
    }

    fn groups(&self) -> Result<Vec<Vec<Act>>, String> {
        if !self.acts.is_empty() {
            return Ok(vec![self.named()?]);
        }
        let mut groups: Vec<Vec<Act>> = Vec::new();
        if self.pairs || !self.triples {
            for (n, one) in ACTS.iter().enumerate() {
                groups.extend(ACTS[n..].iter().map(|two| vec![*one, *two]));
            }
        }
        if self.triples {
            let named = |names: &[&str; 3]| {
                names.iter().map(|n| Act::named(n).ok_or_else(|| (*n).to_string())).collect()
            };
            groups.extend(TRIPLES.iter().map(named).collect::<Result<Vec<_>, String>>()?);
        }
        Ok(groups.into_iter().step_by(self.every.max(1)).collect())
    }

    /// The command that repeats a schedule.
    fn replay(&self, acts: &[Act], choices: &str) -> String {
        let faults = self.faults.to_possible_value();
        let faults = faults.map_or(String::new(), |v| v.get_name().to_string());
        let canary =
            self.canary.map_or(String::new(), |c| format!(" --canary {}", super::name_of(c)));
        format!(
            "cargo run --release -p vellum-sim -- exhaustive --faults {faults}{canary} --acts '{}' --choices '{choices}'",
            names(acts)
        )
    }
}

fn names(acts: &[Act]) -> String {
    acts.iter().map(|act| act.name).collect::<Vec<_>>().join(";")
}

fn usage(unknown: &str) -> ExitCode {
    let names: Vec<&str> = ACTS.iter().map(|act| act.name).collect();
    eprintln!("no operation {unknown:?}; there are\n  {}", names.join("\n  "));
    ExitCode::from(2)
}
