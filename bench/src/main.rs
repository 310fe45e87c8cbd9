//! `vellum-bench`: the same work on several filesystems in one run, interleaved, and one table.
//!
//! Owns: the rows of `docs/performance.md`, how they are measured, how they are printed.
//! Never does: use a crate of this workspace; it sees filesystems through system calls only, so that it
//! measures every filesystem alike and runs in any directory (`--dir NAME=PATH`).
#![forbid(unsafe_code)]

mod meter;
mod report;
mod row;
mod rows;
mod target;

use anyhow::{Context, Result, bail};
use clap::Parser;
use report::Report;
use row::{Row, Scale};
use std::path::PathBuf;
use target::Target;

/// Measures filesystems side by side.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// The vellum binary; a fresh volume is formatted and mounted with it.
    #[arg(long, value_name = "BINARY")]
    vellum: Option<PathBuf>,
    /// One more option for `vellum mount`, such as `--mount-option=-o --mount-option=noatime`.
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    mount_option: Vec<String>,
    /// A build of libfuse's example passthrough_ll; without it bindfs, if installed.
    #[arg(long, value_name = "BINARY")]
    passthrough: Option<PathBuf>,
    /// Where volume, plain directory and the passthrough's source lie: all on one disk.
    #[arg(long, value_name = "DIR")]
    disk: Option<PathBuf>,
    /// A further directory to measure. Can be repeated.
    #[arg(long, value_name = "NAME=PATH")]
    dir: Vec<String>,
    /// Only rows whose name contains this. Can be repeated.
    #[arg(long, value_name = "ROW")]
    only: Vec<String>,
    /// Only filesystems whose name contains this. Can be repeated.
    #[arg(long, value_name = "NAME")]
    on: Vec<String>,
    /// Little work: to see that everything runs. Its numbers mean nothing.
    #[arg(long)]
    quick: bool,
    /// How often each row runs on each filesystem; the median is printed.
    #[arg(long, default_value_t = 3)]
    repeat: usize,
    /// Print JSON in place of Markdown.
    #[arg(long)]
    json: bool,
    /// Name the rows and stop.
    #[arg(long)]
    list: bool,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let rows = chosen_rows(&args)?;
    if args.list {
        rows.iter().for_each(|row| println!("{:<28} {}", row.title(), row.durability));
        return Ok(());
    }
    let scale = if args.quick { Scale::QUICK } else { Scale::FULL };
    let disk = match &args.disk {
        Some(dir) => tempfile::tempdir_in(dir),
        None => tempfile::tempdir(),
    }
    .context("a directory on the disk to measure")?;
    let material = rows::Material::prepare(&disk.path().join("material"), scale)?;
    let mut targets = chosen_targets(&args, disk.path())?;
    let mut report = Report::new(&targets, scale, args.repeat);
    for repetition in 0..args.repeat {
        for row in &rows {
            // Each repetition begins with another filesystem, so that none always inherits another's dirty pages.
            for turn in 0..targets.len() {
                let nth = (turn + repetition) % targets.len();
                let target = &mut targets[nth];
                let outcome = row.run(target, scale, &material);
                eprintln!(
                    "[{}/{}] {}",
                    repetition + 1,
                    args.repeat,
                    report::progress(row, target, &outcome)
                );
                report.add(row, nth, outcome);
            }
        }
    }
    for target in targets {
        target.leave()?;
    }
    if args.json {
        println!("{}", report.json()?)
    } else {
        print!("{}", report.markdown())
    }
    if report.failures() > 0 {
        bail!("{} measurements failed", report.failures());
    }
    Ok(())
}

fn chosen_rows(args: &Args) -> Result<Vec<Row>> {
    let mut rows = rows::all();
    rows.retain(|row| {
        args.only.is_empty() || args.only.iter().any(|part| row.title().contains(part.as_str()))
    });
    if rows.is_empty() {
        bail!("no row has a name with {:?}; --list names them", args.only);
    }
    Ok(rows)
}

fn chosen_targets(args: &Args, disk: &std::path::Path) -> Result<Vec<Target>> {
    let wanted =
        |name: &str| args.on.is_empty() || args.on.iter().any(|part| name.contains(part.as_str()));
    let mut targets = Vec::new();
    if let Some(binary) = &args.vellum
        && wanted("vellum")
    {
        targets.push(Target::vellum(binary, &args.mount_option, disk)?);
    }
    let plain = Target::disk(disk)?;
    if wanted(plain.name()) {
        targets.push(plain);
    }
    if wanted("tmpfs") {
        targets.push(Target::tmpfs()?);
    }
    if wanted("thin") {
        targets.extend(Target::thin(args.passthrough.as_deref(), disk)?);
    }
    for dir in &args.dir {
        let Some((name, path)) = dir.split_once('=') else {
            bail!("--dir wants NAME=PATH, not {dir:?}")
        };
        targets.push(Target::directory(name, path.as_ref())?);
    }
    if targets.is_empty() {
        bail!("nothing to measure");
    }
    Ok(targets)
}
