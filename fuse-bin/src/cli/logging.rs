//! The log: RFC 3339 times, text or JSON, to stderr or a file.

use super::{Exit, Failure, Global};
use clap::ValueEnum;
use std::fs::OpenOptions;
use std::path::Path;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::time::UtcTime;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Least severity that is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Level {
    Error,
    #[default]
    Warn,
    Info,
    Debug,
    Trace,
}

/// How a line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    #[default]
    Text,
    Json,
}

/// Starts logging. `fallback` is the file used when the command line names none; stderr without both.
///
/// # Errors
/// When the file cannot be opened.
pub(super) fn start(global: &Global, fallback: Option<&Path>) -> Result<(), Failure> {
    match global.log_file.as_deref().or(fallback) {
        None => install(global, std::io::stderr),
        Some(path) => {
            let file = OpenOptions::new().append(true).create(true).open(path);
            let file =
                file.map_err(|e| Failure::io(format_args!("log file {}", path.display()), &e))?;
            install(global, file);
        }
    }
    Ok(())
}

/// Every level that clap accepts, as clap prints it.
pub(super) fn word(value: &impl ValueEnum) -> String {
    value.to_possible_value().map(|v| v.get_name().to_string()).unwrap_or_default()
}

fn install<W>(global: &Global, writer: W)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let level = match global.log_level {
        _ if global.quiet => LevelFilter::ERROR,
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    };
    let registry = tracing_subscriber::registry().with(level);
    let timer = UtcTime::rfc_3339();
    let layer = tracing_subscriber::fmt::layer().with_timer(timer).with_writer(writer);
    // A second start in one process (a test) keeps the first.
    let _ = match global.log_format {
        Format::Text => registry.with(layer.with_ansi(false)).try_init(),
        Format::Json => registry.with(layer.json().flatten_event(true)).try_init(),
    };
}

/// Ends the process when anything panics: a broken invariant must not leave a mount that hangs.
///
/// An aborted daemon leaves a mountpoint that answers ENOTCONN, which the next mount detaches.
pub(super) fn abort_on_panic() {
    std::panic::set_hook(Box::new(|info| {
        let backtrace = std::backtrace::Backtrace::force_capture();
        let thread = std::thread::current();
        let thread = thread.name().unwrap_or("?");
        tracing::error!(thread, "broken invariant, aborting: {info}\n{backtrace}");
        eprintln!("vellum: broken invariant in thread {thread}, aborting: {info}\n{backtrace}");
        std::process::abort();
    }));
}

/// The default log file of a daemon that has no terminal: its directory is created.
///
/// # Errors
/// When no place is known or it cannot be created.
pub(super) fn daemon_file() -> Result<std::path::PathBuf, Failure> {
    let dir = if rustix::process::geteuid().is_root() {
        std::path::PathBuf::from("/var/log/vellum")
    } else {
        let state = std::env::var_os("XDG_STATE_HOME").map(std::path::PathBuf::from);
        let home =
            || Some(std::path::PathBuf::from(std::env::var_os("HOME")?).join(".local/state"));
        state
            .or_else(home)
            .ok_or_else(|| Failure::new(Exit::Configuration, "no HOME; name a --log-file"))?
            .join("vellum")
    };
    std::fs::create_dir_all(&dir)
        .map_err(|e| Failure::io(format_args!("log directory {}", dir.display()), &e))?;
    Ok(dir.join("vellum.log"))
}
