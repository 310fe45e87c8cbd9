//! `vellum fsck`: checks an unmounted volume.

use super::options::Options;
use super::{Exit, Failure, Global, output, volume};
use crate::fuse::Pending;
use crate::host::Host;
use clap::Args;
use serde::Serialize;
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;
use vellum_core::port::control::{Answer, CheckReport, Control};

/// Arguments of `vellum fsck`.
#[derive(Args, Debug)]
pub(super) struct FsckArgs {
    /// Verify the checksums of all file data, too
    #[arg(long)]
    data: bool,
    /// Directory of the volume; it must not be mounted
    #[arg(value_name = "VOLUME")]
    volume: PathBuf,
}

#[derive(Serialize)]
struct Checked {
    volume: String,
    clean: bool,
    inodes: u64,
    dentries: u64,
    segments: u64,
    orphan_segments: u64,
    bytes_verified: u64,
    problems: Vec<Problem>,
}

#[derive(Serialize)]
struct Problem {
    rule: &'static str,
    text: String,
}

pub(super) fn run(global: &Global, args: &FsckArgs) -> Result<Exit, Failure> {
    let path = volume::resolve(&args.volume)?;
    let volume = volume::open_existing(&path)?;
    let host: Arc<Host<Pending>> = volume.start(&Options::read_only())?;
    let checked = volume::look_at(&host, &volume)
        .and_then(|_| check(&host, args.data))
        .map(|report| Checked::of(path.display().to_string(), report));
    let _ = host.ask(Control::Unmount).recv();
    host.stop();
    volume.close()?;
    let checked = checked?;
    output::print(global, &checked, Checked::text);
    Ok(if checked.clean { Exit::Ok } else { Exit::Data })
}

fn check(host: &Host<Pending>, data: bool) -> Result<CheckReport, Failure> {
    match host.ask(Control::Check { data }).recv() {
        Ok(Answer::Checked(report)) => Ok(report),
        Ok(Answer::Failed(error)) => {
            Err(Failure::new(Exit::Data, format!("the check could not be finished: {error:?}")))
        }
        other => {
            Err(Failure::new(Exit::Error, format!("the check could not be finished: {other:?}")))
        }
    }
}

impl Checked {
    fn of(volume: String, report: CheckReport) -> Checked {
        let problems = report.problems.into_iter().map(|p| Problem { rule: p.rule, text: p.text });
        let problems: Vec<Problem> = problems.collect();
        Checked {
            volume,
            clean: problems.is_empty(),
            inodes: report.inodes,
            dentries: report.dentries,
            segments: report.segments,
            orphan_segments: report.orphan_segments,
            bytes_verified: report.bytes_verified,
            problems,
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for problem in &self.problems {
            let _ = writeln!(text, "{}: {}", problem.rule, problem.text);
        }
        let state = match self.problems.len() {
            0 => "clean".to_string(),
            n => format!("{n} problems"),
        };
        let _ = write!(
            text,
            "{}: {state}; {} inodes, {} names, {} segments, {} verified, {} segments without a file",
            self.volume,
            self.inodes,
            self.dentries,
            self.segments,
            output::iec(self.bytes_verified),
            self.orphan_segments,
        );
        text
    }
}
