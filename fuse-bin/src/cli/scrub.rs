//! `vellum scrub`: reads and verifies everything that is stored.

use super::units::parse_size;
use super::{Exit, Failure, Global, output, upkeep};
use crate::ctl::wire::{Ask, Progress, Scrubbed, Told};
use clap::Args;
use serde::Serialize;
use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

/// Arguments of `vellum scrub`.
#[derive(Args, Debug)]
pub(super) struct ScrubArgs {
    /// Bytes per second; 0: as fast as it goes
    #[arg(long, value_name = "SIZE", default_value = "128M", value_parser = parse_size)]
    rate: u64,
    /// Say on stderr how far it is every so many seconds; 0: never
    #[arg(long, value_name = "SECONDS", default_value_t = 2)]
    progress: u64,
    /// Where the volume is mounted, or its directory when it is not
    #[arg(value_name = "VOLUME|MOUNTPOINT")]
    volume: PathBuf,
}

#[derive(Serialize)]
struct Outcome {
    volume: String,
    #[serde(flatten)]
    found: Scrubbed,
}

pub(super) fn run(global: &Global, args: &ScrubArgs) -> Result<Exit, Failure> {
    let every = Duration::from_secs(if global.quiet { 0 } else { args.progress });
    let told = upkeep::ask(&args.volume, &Ask::Scrub { rate: args.rate }, every, |status| {
        let scrub = status.scrub.as_ref()?;
        Some(Progress { stage: "bytes".into(), done: scrub.bytes_verified })
    })?;
    let Told::Scrubbed(found) = told else {
        return Err(Failure::new(Exit::Error, format!("unexpected answer {told:?}")));
    };
    let damaged = found.damaged_segments > 0;
    let volume = args.volume.display().to_string();
    output::print(global, &Outcome { volume, found }, text);
    Ok(if damaged { Exit::Data } else { Exit::Ok })
}

fn text(outcome: &Outcome) -> String {
    let found = &outcome.found;
    let mut text = String::new();
    for problem in &found.problems {
        let _ = writeln!(text, "{}: {}", problem.rule, problem.text);
    }
    let _ = write!(
        text,
        "{}: {} in {} segments verified, {} segments damaged",
        outcome.volume,
        output::iec(found.bytes_verified),
        found.segments,
        found.damaged_segments
    );
    text
}
