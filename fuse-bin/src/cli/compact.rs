//! `vellum compact`: folds the write logs of files, so that they are read in long pieces and take no more
//! room than they must.

use super::status::{daemon_of, vellum_mount_of};
use super::{Exit, Failure, Global, output, preflight};
use crate::ctl::Daemon;
use crate::ctl::wire::{Ask, Compacted, Told};
use clap::Args;
use serde::Serialize;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Arguments of `vellum compact`.
#[derive(Args, Debug)]
pub(super) struct CompactArgs {
    /// Files on a mount; of directories, the files below
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
}

#[derive(Serialize, Default)]
struct Outcome {
    /// Files looked at.
    files: u64,
    #[serde(flatten)]
    done: Compacted,
}

pub(super) fn run(global: &Global, args: &CompactArgs) -> Result<Exit, Failure> {
    let mut outcome = Outcome::default();
    for path in &args.paths {
        let meta = path
            .symlink_metadata()
            .map_err(|e| Failure::io(format_args!("{}", path.display()), &e))?;
        let absolute = preflight::without_touching(path)?;
        let dir =
            if meta.is_dir() { absolute.as_path() } else { absolute.parent().unwrap_or(&absolute) };
        let daemon = daemon_of(&vellum_mount_of(dir)?)?;
        compact(&daemon, path, meta.dev(), &mut outcome)?;
    }
    output::print(global, &outcome, text);
    Ok(Exit::Ok)
}

/// One file, or the files below a directory as far as they are on the same mount.
fn compact(
    daemon: &Daemon,
    path: &Path,
    device: u64,
    outcome: &mut Outcome,
) -> Result<(), Failure> {
    let failed = |e: std::io::Error| Failure::io(format_args!("{}", path.display()), &e);
    let meta = path.symlink_metadata().map_err(failed)?;
    if meta.dev() != device {
        return Ok(());
    }
    if meta.is_dir() {
        for entry in path.read_dir().map_err(failed)? {
            compact(daemon, &entry.map_err(failed)?.path(), device, outcome)?;
        }
        return Ok(());
    }
    if !meta.is_file() {
        return Ok(());
    }
    match daemon.ask_patiently(&Ask::Compact { ino: meta.ino() }) {
        Ok(Told::Compacted(done)) => {
            outcome.files += 1;
            outcome.done.folds += done.folds;
            outcome.done.moved_bytes += done.moved_bytes;
            outcome.done.written_bytes += done.written_bytes;
            outcome.done.trimmed_bytes += done.trimmed_bytes;
            Ok(())
        }
        // It was removed meanwhile.
        Ok(Told::Error { errno: 2 | 116, .. }) => Ok(()),
        Ok(Told::Error { text, .. }) => {
            Err(Failure::new(Exit::Error, format!("{}: {text}", path.display())))
        }
        Ok(other) => Err(Failure::new(Exit::Error, format!("unexpected answer {other:?}"))),
        Err(error) => Err(Failure::new(Exit::Unreachable, format!("{}: {error}", path.display()))),
    }
}

fn text(outcome: &Outcome) -> String {
    format!(
        "{} files: {} regions folded, {} moved, {} given back",
        outcome.files,
        outcome.done.folds,
        output::iec(outcome.done.moved_bytes),
        output::iec(outcome.done.trimmed_bytes)
    )
}
