//! `sim`: runs seeds, all interleavings, one run again, and proves that planted bugs are found.

mod cli;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(about = "Runs Vellum's machine in a simulated world with faults, and judges it.")]
struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Runs a range of seeds.
    Run(cli::run::Args),
    /// Runs plans of all sizes until the time is up.
    Soak(cli::soak::Args),
    /// Runs one seed.
    Replay(cli::replay::Args),
    /// Drops operations and faults from a seed that fails while it fails by the same rule.
    Shrink(cli::replay::ShrinkArgs),
    /// Runs all interleavings of two and three operations.
    Exhaustive(cli::exhaustive::Args),
    /// Finds each planted bug.
    Canaries(cli::canaries::Args),
}

fn main() -> ExitCode {
    match Args::parse().verb {
        Verb::Run(args) => cli::run::run(&args),
        Verb::Soak(args) => cli::soak::soak(&args),
        Verb::Replay(args) => cli::replay::replay(&args),
        Verb::Shrink(args) => cli::replay::print_shrunk(&args),
        Verb::Exhaustive(args) => cli::exhaustive::exhaustive(&args),
        Verb::Canaries(args) => cli::canaries::canaries(&args),
    }
}
