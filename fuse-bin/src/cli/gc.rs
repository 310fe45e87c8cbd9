//! `vellum gc`: counts what nobody needs any more, or gives it back at once.

use super::{Exit, Failure, Global, output, upkeep};
use crate::ctl::wire::{Ask, Collected, Garbage, Progress, Told};
use clap::Args;
use serde::Serialize;
use std::path::PathBuf;
use std::time::Duration;

/// Arguments of `vellum gc`.
#[derive(Args, Debug)]
pub(super) struct GcArgs {
    /// Collect it; without this it is only counted
    #[arg(long)]
    now: bool,
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
    /// It was collected, not only counted.
    collected: bool,
    #[serde(flatten)]
    garbage: Collected,
}

pub(super) fn run(global: &Global, args: &GcArgs) -> Result<Exit, Failure> {
    let every = Duration::from_secs(if global.quiet { 0 } else { args.progress });
    let told = upkeep::ask(&args.volume, &Ask::Gc { now: args.now }, every, |status| {
        let waiting = status.compacting + status.unlinked;
        Some(Progress { stage: "garbage".into(), done: waiting })
    })?;
    let Told::Collected(garbage) = told else {
        return Err(Failure::new(Exit::Error, format!("unexpected answer {told:?}")));
    };
    let volume = args.volume.display().to_string();
    output::print(global, &Outcome { volume, collected: args.now, garbage }, text);
    Ok(Exit::Ok)
}

fn text(outcome: &Outcome) -> String {
    let Collected { before, after } = &outcome.garbage;
    if !outcome.collected {
        return format!("{}: {}; `--now` collects it", outcome.volume, counted(before));
    }
    let freed = before.stored_bytes.saturating_sub(after.stored_bytes);
    format!("{}: {} freed; {} left", outcome.volume, output::iec(freed), counted(after))
}

fn counted(garbage: &Garbage) -> String {
    format!(
        "{} in {} segments, of which {} are not named by any file; {} segments mostly dead, {} without a \
         record, {} removed files to reclaim",
        output::iec(garbage.stored_bytes),
        garbage.segments,
        output::iec(garbage.unnamed_bytes),
        garbage.sparse_segments,
        garbage.orphan_segments,
        garbage.removed_inodes,
    )
}
