//! `vellum mount`.

use super::daemon::{self, Launched};
use super::options::Options;
use super::{Exit, Failure, Global, logging, option_names, output, preflight, serve, volume};
use clap::Args;
use serde::Serialize;
use std::path::PathBuf;

/// Arguments of `vellum mount`.
#[derive(Args, Clone, Debug, Default)]
#[command(after_help = option_names::help())]
pub(super) struct MountArgs {
    /// Mount options, repeated or in comma lists
    #[arg(short = 'o', value_name = "OPT[=VALUE],..")]
    pub(super) options: Vec<String>,
    /// Go on in the background once the mount answers
    #[arg(short, long, conflicts_with = "foreground")]
    pub(super) daemon: bool,
    /// Stay in the foreground (the default)
    #[arg(short, long)]
    pub(super) foreground: bool,
    /// Set by `-d` on the process it starts
    #[arg(long, hide = true, conflicts_with_all = ["daemon", "foreground"])]
    pub(super) daemon_child: bool,
    /// Directory of the volume; created and formatted if it is missing or empty
    #[arg(value_name = "VOLUME")]
    pub(super) volume: PathBuf,
    /// Directory to mount at
    #[arg(value_name = "MOUNTPOINT")]
    pub(super) mountpoint: PathBuf,
}

/// Everything that was checked before the mount.
pub(super) struct Settings {
    pub(super) options: Options,
    pub(super) volume: PathBuf,
    pub(super) mountpoint: PathBuf,
    pub(super) allow_other: bool,
}

/// What is printed when the mount is ready.
#[derive(Serialize)]
struct Ready {
    volume: String,
    mountpoint: String,
}

pub(super) fn run(global: &Global, args: MountArgs) -> Result<Exit, Failure> {
    if args.daemon_child {
        daemon::become_session();
        let fallback = match &global.log_file {
            Some(_) => None,
            None => Some(logging::daemon_file()?),
        };
        logging::start(global, fallback.as_deref())?;
    } else {
        logging::start(global, None)?;
    }
    let settings = check(&args)?;
    if args.daemon {
        return match daemon::launch(global, &args, &settings)? {
            Launched::Ready => {
                announce(global, &settings);
                Ok(Exit::Ok)
            }
            // The child has said why.
            Launched::Failed(code) => std::process::exit(i32::from(code)),
        };
    }
    serve::run(&settings, || {
        if args.daemon_child {
            daemon::say_ready();
        } else {
            announce(global, &settings);
        }
    })
}

/// Everything that can be known before the volume is opened.
fn check(args: &MountArgs) -> Result<Settings, Failure> {
    let options = Options::parse(&args.options)?;
    preflight::fuse_device()?;
    let mountpoint = preflight::mountpoint(&args.mountpoint)?;
    let volume = volume::resolve(&args.volume)?;
    preflight::not_nested(&volume, &mountpoint)?;
    let allow_other = allow_other(&options)?;
    Ok(Settings { options, volume, mountpoint, allow_other })
}

/// Root lets others in unless told not to; anybody else needs the permission of /etc/fuse.conf.
fn allow_other(options: &Options) -> Result<bool, Failure> {
    if rustix::process::geteuid().is_root() {
        return Ok(options.allow_other.unwrap_or(true));
    }
    let permitted = crate::fuse::user_may_allow_other("/etc/fuse.conf".as_ref());
    match (options.allow_other, permitted) {
        (Some(false), _) => Ok(false),
        (Some(true), Err(text)) => Err(Failure::new(Exit::Permission, text)),
        (None, permitted) => Ok(permitted.is_ok()),
        (Some(true), Ok(())) => Ok(true),
    }
}

fn announce(global: &Global, settings: &Settings) {
    let ready = Ready {
        volume: settings.volume.display().to_string(),
        mountpoint: settings.mountpoint.display().to_string(),
    };
    output::print(global, &ready, |r| format!("mounted {} at {}", r.volume, r.mountpoint));
}
