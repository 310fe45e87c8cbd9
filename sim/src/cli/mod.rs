//! The verbs of `sim`, one file each, and what they have in common.

pub(crate) mod canaries;
pub(crate) mod exhaustive;
pub(crate) mod replay;
pub(crate) mod run;
pub(crate) mod soak;
pub(crate) mod totals;

use clap::Args;
use vellum_core::canary::Canary;
use vellum_sim::canaries::{BUGS, Bug};
use vellum_sim::faults::Fault;
use vellum_sim::runner::Job;

/// What a run has beside its seed and its length.
#[derive(Args, Clone, Debug)]
pub(crate) struct Extras {
    /// A bug to plant.
    #[arg(long, value_parser = canary)]
    canary: Option<Canary>,
    /// Faults to leave out, such as kv-outage,crash.
    #[arg(long, value_parser = fault, value_delimiter = ',')]
    without: Vec<Fault>,
}

impl Extras {
    pub(crate) fn job(&self, seed: u64, ops: usize) -> Job {
        Job { canary: self.canary, without: self.without.clone(), ..Job::of_seed(seed, ops) }
    }
}

/// The command that repeats a run.
pub(crate) fn replay_command(job: &Job, ops: usize, keep: &[usize]) -> String {
    let mut command =
        format!("cargo run --release -p vellum-sim -- replay {} --ops {ops}", job.seed);
    command.push_str(&flags(job.canary, &job.without));
    if !keep.is_empty() {
        let keep: Vec<String> = keep.iter().map(ToString::to_string).collect();
        command.push_str(&format!(" --keep {}", keep.join(",")));
    }
    command.push_str(" --verbose");
    command
}

/// Options of a run as they are written.
pub(crate) fn flags(canary: Option<Canary>, without: &[Fault]) -> String {
    let mut flags = String::new();
    if let Some(canary) = canary {
        flags.push_str(&format!(" --canary {}", name_of(canary)));
    }
    let names = Fault::ALL.iter().filter(|(_, fault)| without.contains(fault));
    let names: Vec<&str> = names.map(|(name, _)| *name).collect();
    if !names.is_empty() {
        flags.push_str(&format!(" --without {}", names.join(",")));
    }
    flags
}

/// Panics are failures of a run; their place is all that is worth printing.
pub(crate) fn quiet_panics() {
    std::panic::set_hook(Box::new(|info| {
        if let Some(at) = info.location() {
            eprintln!("panic at {}:{}", at.file(), at.line());
        }
    }));
}

pub(crate) fn name_of(canary: Canary) -> &'static str {
    Bug::of(canary).map_or("?", |bug| bug.name)
}

pub(crate) fn bug(name: &str) -> Result<&'static Bug, String> {
    let names: Vec<&str> = BUGS.iter().map(|bug| bug.name).collect();
    Bug::named(name).ok_or_else(|| format!("no such bug; there are {}", names.join(", ")))
}

pub(crate) fn canary(name: &str) -> Result<Canary, String> {
    bug(name).map(|bug| bug.canary)
}

pub(crate) fn fault(name: &str) -> Result<Fault, String> {
    let names: Vec<&str> = Fault::ALL.iter().map(|(name, _)| *name).collect();
    let found = Fault::ALL.iter().find(|(n, _)| *n == name);
    found.map(|(_, f)| *f).ok_or_else(|| format!("no such fault; there are {}", names.join(", ")))
}

pub(crate) fn seeds(range: &str) -> Result<(u64, u64), String> {
    let wrong = || format!("{range:?} is no range A..B");
    let (from, to) = range.split_once("..").ok_or_else(wrong)?;
    let range = (from.parse().map_err(|_| wrong())?, to.parse().map_err(|_| wrong())?);
    if range.0 < range.1 { Ok(range) } else { Err(wrong()) }
}
