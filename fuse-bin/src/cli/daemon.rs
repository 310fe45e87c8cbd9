//! `-d`: the mount goes on in the background once it answers.
//!
//! The program runs itself again before any thread exists and waits on a pipe. The child says one word
//! when the mount answered a real request; if it ends before, its own error is on the terminal already
//! and its exit code becomes ours.

use super::mount::{MountArgs, Settings};
use super::{Exit, Failure, Global, logging};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};

/// What the child says.
const READY: &str = "ready";

/// Starts the child and waits for its word. True when it is ready.
///
/// # Errors
/// When it cannot be started. A child that failed has printed why; its code is in the result.
pub(super) fn launch(global: &Global, args: &MountArgs, s: &Settings) -> Result<Launched, Failure> {
    let program = std::env::current_exe().map_err(|e| Failure::io("/proc/self/exe", &e))?;
    let mut command = Command::new(program);
    command.arg0("vellum").arg("mount").arg("--daemon-child");
    command.arg("--log-level").arg(logging::word(&global.log_level));
    command.arg("--log-format").arg(logging::word(&global.log_format));
    if let Some(file) = &global.log_file {
        let file = std::path::absolute(file)
            .map_err(|e| Failure::io(format_args!("{}", file.display()), &e))?;
        command.arg("--log-file").arg(file);
    }
    if global.json {
        command.arg("--json");
    }
    for list in &args.options {
        command.arg("-o").arg(list);
    }
    command.arg("--").arg(&s.volume).arg(&s.mountpoint);
    command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().map_err(|e| Failure::io("starting the daemon", &e))?;
    let mut word = String::new();
    if let Some(out) = child.stdout.take() {
        // An error reads as the end: the child's state decides.
        let _ = BufReader::new(out).read_line(&mut word);
    }
    if word.trim_end() == READY {
        return Ok(Launched::Ready);
    }
    let status = child.wait().map_err(|e| Failure::io("waiting for the daemon", &e))?;
    match status.code() {
        Some(code) => Ok(Launched::Failed(u8::try_from(code).unwrap_or(1))),
        None => Err(Failure::new(
            Exit::Error,
            format!("the daemon was ended by signal {}", status.signal().unwrap_or(0)),
        )),
    }
}

/// What became of the child.
pub(super) enum Launched {
    /// It serves the mount.
    Ready,
    /// It failed with this exit code and said why.
    Failed(u8),
}

/// In the child, before anything else: a session of its own, so that no terminal ends it.
pub(super) fn become_session() {
    // Fails only for a group leader, which a child never is.
    let _ = rustix::process::setsid();
}

/// In the child, once the mount answers: tells the parent and lets go of its terminal.
pub(super) fn say_ready() {
    let mut out = std::io::stdout();
    let _ = writeln!(out, "{READY}").and_then(|()| out.flush());
    if let Ok(null) = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdin(&null);
        let _ = rustix::stdio::dup2_stdout(&null);
        let _ = rustix::stdio::dup2_stderr(&null);
    }
}
