//! The command line: one file per verb.
//!
//! Owns: arguments, output, exit codes. Never does: a decision about a file.
//! Tests: beside each parser; the verbs themselves in `fuse-bin/tests`.

mod compact;
mod daemon;
mod exit;
mod format;
mod fsck;
mod gc;
mod guard;
mod helper;
mod info;
mod logging;
mod man;
mod mount;
mod option_names;
pub mod options;
mod output;
mod preflight;
mod probe;
mod remount;
mod scrub;
mod serve;
mod status;
mod umount;
pub mod units;
mod upkeep;
mod volume;
mod watch;

pub use exit::{Exit, Failure};

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// Version and stability, as `--version` prints them.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (experimental)");

/// A full-POSIX workspace filesystem.
#[derive(Parser, Debug)]
#[command(name = "vellum", version = VERSION, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

/// Options of every verb.
#[derive(Args, Clone, Debug, Default)]
struct Global {
    /// Print JSON instead of text
    #[arg(long, global = true)]
    json: bool,
    /// Print nothing but errors
    #[arg(short, long, global = true)]
    quiet: bool,
    /// Least severity that is logged: error, warn, info, debug or trace
    #[arg(long, global = true, value_name = "LEVEL", default_value = "warn")]
    log_level: logging::Level,
    /// Format of the log
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text")]
    log_format: logging::Format,
    /// Append the log to this file instead of writing it to stderr
    #[arg(long, global = true, value_name = "FILE")]
    log_file: Option<PathBuf>,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Mount a volume at a directory
    Mount(mount::MountArgs),
    /// Unmount, and wait until everything is durable
    Umount(umount::UmountArgs),
    /// Make a new, empty volume
    Format(format::FormatArgs),
    /// Show where the bytes of a file are
    Info(info::InfoArgs),
    /// Show what a mount is doing
    Status(status::StatusArgs),
    /// Check a volume, mounted or not
    Fsck(fsck::FsckArgs),
    /// Count what nobody needs any more, or collect it
    Gc(gc::GcArgs),
    /// Verify everything that is stored
    Scrub(scrub::ScrubArgs),
    /// Put the data of files in order
    Compact(compact::CompactArgs),
    /// Write the manual pages
    Man(man::ManArgs),
    /// Whether a mount answers
    #[command(hide = true)]
    Probe(probe::ProbeArgs),
    /// Unmounts when the daemon is gone
    #[command(hide = true)]
    Guard(guard::GuardArgs),
}

/// Runs the program.
pub fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().collect();
    if helper::is_helper(args.first()) {
        return helper::run(&args[1..]);
    }
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            let code = if error.use_stderr() { Exit::Usage } else { Exit::Ok };
            return code.into();
        }
    };
    report(run(&cli.global, cli.verb), &cli.global)
}

fn run(global: &Global, verb: Verb) -> Result<Exit, Failure> {
    if !matches!(verb, Verb::Mount(_)) {
        logging::start(global, None)?;
    }
    match verb {
        Verb::Mount(args) => mount::run(global, args),
        Verb::Umount(args) => umount::run(global, &args),
        Verb::Format(args) => format::run(global, &args),
        Verb::Info(args) => info::run(global, &args),
        Verb::Status(args) => status::run(global, &args),
        Verb::Fsck(args) => fsck::run(global, &args),
        Verb::Gc(args) => gc::run(global, &args),
        Verb::Scrub(args) => scrub::run(global, &args),
        Verb::Compact(args) => compact::run(global, &args),
        Verb::Man(args) => man::run(global, &args),
        Verb::Probe(args) => probe::run(&args),
        Verb::Guard(args) => guard::run(&args),
    }
}

/// Prints a failure and turns the result into an exit code.
fn report(result: Result<Exit, Failure>, global: &Global) -> ExitCode {
    match result {
        Ok(exit) => exit.into(),
        Err(failure) => {
            failure.print(global.json);
            failure.exit.into()
        }
    }
}
