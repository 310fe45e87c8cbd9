//! `vellum fsck`: checks a volume, mounted or not; repairs one that is not.

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
use vellum_core::port::control::{Answer, CheckOptions, Control, RepairReport, Repaired};

/// Arguments of `vellum fsck`.
#[derive(Args, Debug)]
pub(super) struct FsckArgs {
    /// Verify the checksums of all file data, too
    #[arg(long)]
    data: bool,
    /// Repair what can be repaired without a loss or a guess; the volume must not be mounted
    #[arg(long)]
    repair: bool,
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
    /// What was repaired; only with `--repair`.
    #[serde(skip_serializing_if = "Option::is_none")]
    repaired: Option<Vec<Repair>>,
    #[serde(flatten)]
    checked: Checked,
}

/// One repair.
#[derive(Serialize)]
struct Repair {
    rule: &'static str,
    found: String,
    done: String,
}

pub(super) fn run(global: &Global, args: &FsckArgs) -> Result<Exit, Failure> {
    let every = Duration::from_secs(if global.quiet { 0 } else { args.progress });
    let outcome = match mounted_at(&args.volume)? {
        Some(mount) if args.repair => {
            let text =
                format!("{} is mounted; unmount it to repair it", mount.mountpoint.display());
            return Err(Failure::new(Exit::Busy, text));
        }
        Some(mount) => check_mount(&mount, args.data, every)?,
        None => check_volume(args, every)?,
    };
    output::print(global, &outcome, Outcome::text);
    outcome.exit()
}

/// The Vellum mount whose root a path is.
pub(super) fn mounted_at(path: &Path) -> Result<Option<Mount>, Failure> {
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
            Ok(Outcome { volume, mounted: true, repaired: None, checked: *checked })
        }
        Ok(Told::Error { text, .. }) => {
            Err(Failure::new(Exit::Error, format!("{at}: the check could not be finished: {text}")))
        }
        Ok(other) => Err(Failure::new(Exit::Error, format!("unexpected answer {other:?}"))),
        Err(error) => Err(lost(error)),
    }
}

fn check_volume(args: &FsckArgs, every: Duration) -> Result<Outcome, Failure> {
    let path = volume::resolve(&args.volume)?;
    let volume = volume::open_existing(&path)?;
    let host: Arc<Host<Pending>> = volume.start(&Options::read_only())?;
    let report = volume::look_at(&host, &volume)
        .and_then(|_| watch::watched(every, || progress_of(&host), || check(&host, args)));
    let _ = host.ask(Control::Unmount).recv();
    host.stop();
    volume.close()?;
    let report = report?;
    let repair = |r: Repaired| Repair { rule: r.rule, found: r.found, done: r.done };
    Ok(Outcome {
        volume: path.display().to_string(),
        mounted: false,
        repaired: args.repair.then(|| report.repaired.into_iter().map(repair).collect()),
        checked: Checked::of(report.left),
    })
}

/// A check repairs nothing and leaves everything.
fn check(host: &Host<Pending>, args: &FsckArgs) -> Result<RepairReport, Failure> {
    let options = CheckOptions { data: args.data, settled: true };
    let control = if args.repair { Control::Repair(options) } else { Control::Check(options) };
    match host.ask(control).recv() {
        Ok(Answer::Checked(left)) => Ok(RepairReport { left, ..RepairReport::default() }),
        Ok(Answer::Repaired(report)) => Ok(report),
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
        let repaired = self.repaired.as_ref().is_some_and(|repaired| !repaired.is_empty());
        match (self.checked.clean, self.checked.exact) {
            (true, _) if repaired => Ok(Exit::Repaired),
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
        for Repair { rule, found, done } in self.repaired.iter().flatten() {
            let _ = writeln!(text, "repaired {rule}: {found}; {done}");
        }
        for problem in &checked.problems {
            let _ = writeln!(text, "{}: {}", problem.rule, problem.text);
        }
        let mut state = match checked.problems.len() {
            0 => "clean".to_string(),
            n => format!("{n} problems"),
        };
        if let Some(repaired) = &self.repaired {
            let _ = write!(state, ", {} repaired", repaired.len());
        }
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
