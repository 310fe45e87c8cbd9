//! `vellum umount`: unmounts and waits until the daemon has made everything durable and is gone.

use super::units::parse_duration;
use super::{Exit, Failure, Global, output, preflight};
use crate::ctl;
use crate::fuse::{Unmount, unmount};
use clap::Args;
use serde::Serialize;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// How long a forced unmount waits for the daemon.
const FORCED_PATIENCE: Duration = Duration::from_secs(5);

/// Arguments of `vellum umount`.
#[derive(Args, Debug)]
pub(super) struct UmountArgs {
    /// Abort requests under way and detach, even when the daemon hangs
    #[arg(long, conflicts_with = "lazy")]
    force: bool,
    /// Detach now; the volume is released when nobody uses it any more
    #[arg(short, long)]
    lazy: bool,
    /// Give up waiting for the daemon after this time
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    timeout: Option<Duration>,
    /// Where it is mounted
    #[arg(value_name = "MOUNTPOINT")]
    mountpoint: PathBuf,
}

#[derive(Serialize)]
struct Unmounted {
    mountpoint: String,
    volume: String,
    /// Whether the daemon has ended, so that the volume can be mounted again.
    released: bool,
}

pub(super) fn run(global: &Global, args: &UmountArgs) -> Result<Exit, Failure> {
    let path = preflight::without_touching(&args.mountpoint)?;
    let mount = match preflight::mount_at(&path)? {
        Some(mount) if mount.is_vellum() => mount,
        _ => {
            // It may be named through a symlink.
            let path = path.canonicalize().unwrap_or(path);
            preflight::mount_at(&path)?.filter(|m| m.is_vellum()).ok_or_else(|| {
                let text = format!("no Vellum mount at {}", args.mountpoint.display());
                Failure::new(Exit::NotFound, text)
            })?
        }
    };
    let daemon = ctl::Daemon::of(&mount);
    let how = match (args.force, args.lazy) {
        (true, _) => Unmount::Force,
        (_, true) => Unmount::Lazy,
        _ => Unmount::Clean,
    };
    unmount(&mount.mountpoint, how).map_err(|error| match error.kind() {
        io::ErrorKind::ResourceBusy => Failure::new(
            Exit::Busy,
            format!(
                "{} is in use (`fuser -vm {0}` shows by whom); end that, or use `vellum umount --lazy`",
                mount.mountpoint.display()
            ),
        ),
        _ => Failure::io(format_args!("unmounting {}", mount.mountpoint.display()), &error),
    })?;
    let patience = match how {
        Unmount::Clean => args.timeout,
        Unmount::Lazy => Some(args.timeout.unwrap_or(Duration::ZERO)),
        Unmount::Force => Some(args.timeout.unwrap_or(FORCED_PATIENCE)),
    };
    let released = match daemon {
        Some(daemon) => {
            daemon.wait_for_end(patience).map_err(|e| Failure::io("waiting for the daemon", &e))?
        }
        // No daemon answers: it is dead, or belongs to somebody else.
        None => true,
    };
    if !released && how == Unmount::Clean {
        return Err(Failure::new(
            Exit::Timeout,
            format!(
                "{} is unmounted, but its daemon is still flushing",
                mount.mountpoint.display()
            ),
        ));
    }
    let result = Unmounted {
        mountpoint: mount.mountpoint.display().to_string(),
        volume: mount.source.trim_start_matches("vellum:").to_string(),
        released,
    };
    output::print(global, &result, |r| format!("unmounted {}", r.mountpoint));
    Ok(Exit::Ok)
}
