//! Exit codes, and the failure that carries one.

use std::fmt;
use std::io;
use std::process::ExitCode;

/// What the process ends with. Documented; scripts rely on the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Ok = 0,
    /// Any other error.
    Error = 1,
    /// Arguments that make no sense.
    Usage = 2,
    /// The daemon does not answer.
    Unreachable = 3,
    /// Not permitted.
    Permission = 4,
    /// Something named does not exist.
    NotFound = 5,
    /// Something is in use.
    Busy = 6,
    /// The system or the volume is not set up for it.
    Configuration = 7,
    /// Damaged data was found.
    Data = 8,
    /// It took too long.
    Timeout = 9,
    /// Damage was found, and all of it was repaired.
    Repaired = 10,
    /// What mount(8) expects of a helper that failed.
    MountHelper = 32,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// Why a verb failed: for people a sentence that says what to do, for scripts a code.
#[derive(Debug)]
pub struct Failure {
    /// The process's exit code.
    pub exit: Exit,
    /// What happened, in one sentence or two.
    pub text: String,
}

impl Failure {
    /// A failure with its code.
    pub fn new(exit: Exit, text: impl Into<String>) -> Failure {
        Failure { exit, text: text.into() }
    }

    /// A failed system call, with what was attempted.
    pub fn io(doing: impl fmt::Display, error: &io::Error) -> Failure {
        let exit = match error.kind() {
            io::ErrorKind::NotFound => Exit::NotFound,
            io::ErrorKind::PermissionDenied => Exit::Permission,
            io::ErrorKind::ResourceBusy => Exit::Busy,
            io::ErrorKind::TimedOut => Exit::Timeout,
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotConnected => Exit::Unreachable,
            _ => Exit::Error,
        };
        Failure::new(exit, format!("{doing}: {error}"))
    }

    /// Prints it to stderr, as JSON if asked for.
    pub fn print(&self, json: bool) {
        if json {
            let line = serde_json::json!({
                "schema_version": super::output::SCHEMA_VERSION,
                "error": self.text,
                "exit_code": self.exit as u8,
            });
            eprintln!("{line}");
        } else {
            eprintln!("vellum: {}", self.text);
        }
    }
}
