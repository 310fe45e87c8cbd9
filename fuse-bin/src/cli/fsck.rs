//! `vellum fsck`: checks a volume, mounted or not.

use super::options::Options;
use super::status::daemon_of;
use super::{Exit, Failure, Global, output, preflight, volume, watch};
use crate::ctl::Daemon;
use crate::ctl::wire::{Ask, Checked, Progress, Told};
use crate::fuse::Pending;
use crate::fuse::mountinfo::Mount;
use crate::host::Host;
use clap::Args;
use serde::Serialize;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use vellum_core::port::control::{Answer, CheckOptions, CheckReport, Control};

/// Arguments of `vellum fsck`.
#[derive(Args, Debug)]
pub(super) struct FsckArgs {
    /// Verify the checksums of all file data, too
    #[arg(long)]
    data: bool,
    /// Say on stderr how far it is every so many seconds; 0: never
    #[arg(long, value_name = "SECONDS", default_value_t = 2)]
    progress: u64,
    /// Directory of a volume that is not mounted, or where one is mounted
    #[arg(value_name = "VOLUME|MOUNTPOINT")]
    volume: PathBuf,
}

/// What is printed.
#[derive(Serialize)]
struct Outcome {
    volume: String,
    /// It was mounted, and its daemon checked it.
    mounted: bool,
    #[serde(flatten)]
    checked: Checked,
}

pub(super) fn run(global: &Global, args: &FsckArgs) -> Result<Exit, Failure> {
    let every = Duration::from_secs(if global.quiet { 0 } else { args.progress });
    let outcome = match mounted_at(&args.volume)? {
        Some(mount) => check_mount(&mount, args.data, every)?,
        None => check_volume(&args.volume, args.data, every)?,
    };
    output::print(global, &outcome, Outcome::text);
    outcome.exit()
}

/// The Vellum mount whose root a path is.
fn mounted_at(path: &Path) -> Result<Option<Mount>, Failure> {
    let Ok(resolved) = path.canonicalize() else { return Ok(None) };
    Ok(preflight::mount_at(&resolved)?.filter(Mount::is_vellum))
}

/// Asks the daemon, which goes on serving meanwhile.
fn check_mount(mount: &Mount, data: bool, every: Duration) -> Result<Outcome, Failure> {
    let at = mount.mountpoint.display();
    let lost = |error: std::io::Error| Failure::new(Exit::Unreachable, format!("{at}: {error}"));
    let asked = daemon_of(mount)?;
    let progress = || match Daemon::of(mount)?.ask(&Ask::Status) {
        Ok(Told::Status(status)) => status.check,
        _ => None,
    };
    match watch::watched(every, progress, || asked.ask_patiently(&Ask::Check { data })) {
        Ok(Told::Checked(checked)) => {
            let volume = mount.source.trim_start_matches("vellum:").to_string();
            Ok(Outcome { volume, mounted: true, checked: *checked })
        }
        Ok(Told::Error { text, .. }) => {
            Err(Failure::new(Exit::Error, format!("{at}: the check could not be finished: {text}")))
        }
        Ok(other) => Err(Failure::new(Exit::Error, format!("unexpected answer {other:?}"))),
        Err(error) => Err(lost(error)),
    }
}

fn check_volume(path: &Path, data: bool, every: Duration) -> Result<Outcome, Failure> {
    let path = volume::resolve(path)?;
    let volume = volume::open_existing(&path)?;
    let host: Arc<Host<Pending>> = volume.start(&Options::read_only())?;
    let report = volume::look_at(&host, &volume)
        .and_then(|_| watch::watched(every, || progress_of(&host), || check(&host, data)));
    let _ = host.ask(Control::Unmount).recv();
    host.stop();
    volume.close()?;
    Ok(Outcome {
        volume: path.display().to_string(),
        mounted: false,
        checked: Checked::of(report?),
    })
}

fn check(host: &Host<Pending>, data: bool) -> Result<CheckReport, Failure> {
    match host.ask(Control::Check(CheckOptions { data, settled: true })).recv() {
        Ok(Answer::Checked(report)) => Ok(report),
        Ok(Answer::Failed(error)) => {
            Err(Failure::new(Exit::Data, format!("the check could not be finished: {error:?}")))
        }
        other => {
            Err(Failure::new(Exit::Error, format!("the check could not be finished: {other:?}")))
        }
    }
}

fn progress_of(host: &Host<Pending>) -> Option<Progress> {
    match host.ask(Control::Status).recv() {
        Ok(Answer::Status(status)) => status.check.as_ref().map(Progress::of),
        _ => None,
    }
}

impl Outcome {
    /// What the process ends with.
    fn exit(&self) -> Result<Exit, Failure> {
        match (self.checked.clean, self.checked.exact) {
            (true, _) => Ok(Exit::Ok),
            (false, true) => Ok(Exit::Data),
            (false, false) => Err(Failure::new(
                Exit::Error,
                "the volume was written to faster than it could be read, so that these problems may be none; \
                 check it again when less is written, or unmounted",
            )),
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        let checked = &self.checked;
        for problem in &checked.problems {
            let _ = writeln!(text, "{}: {}", problem.rule, problem.text);
        }
        let state = match checked.problems.len() {
            0 => "clean".to_string(),
            n => format!("{n} problems"),
        };
        let _ = write!(
            text,
            "{}: {state}; {} inodes, {} names, {} segments, {} verified, {} segments without a file",
            self.volume,
            checked.inodes,
            checked.dentries,
            checked.segments,
            output::iec(checked.bytes_verified),
            checked.orphan_segments,
        );
        text
    }
}
