//! What `vellum gc` and `vellum scrub` have in common: a daemon or an unmounted volume is asked, and it may
//! take long.

use super::fsck::mounted_at;
use super::options::Options;
use super::status::daemon_of;
use super::{Exit, Failure, volume, watch};
use crate::ctl::wire::{Ask, Progress, Status, Told};
use crate::ctl::{Daemon, Facts, answer};
use crate::fuse::Pending;
use crate::fuse::mountinfo::Mount;
use crate::host::Host;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use vellum_core::port::control::Control;

/// Asks whoever has the volume; without a mount, this process is it meanwhile.
///
/// # Errors
/// 5 when there is no such volume, 3 when the daemon does not answer, 1 when it failed.
pub(super) fn ask(
    path: &Path,
    question: &Ask,
    every: Duration,
    progress: impl Fn(&Status) -> Option<Progress>,
) -> Result<Told, Failure> {
    let told = match mounted_at(path)? {
        Some(mount) => ask_mount(&mount, question, every, progress)?,
        None => ask_volume(path, question, every, progress)?,
    };
    match told {
        Told::Error { text, .. } => {
            Err(Failure::new(Exit::Error, format!("{}: {text}", path.display())))
        }
        told => Ok(told),
    }
}

fn ask_mount(
    mount: &Mount,
    question: &Ask,
    every: Duration,
    progress: impl Fn(&Status) -> Option<Progress>,
) -> Result<Told, Failure> {
    let asked = daemon_of(mount)?;
    let look = || match Daemon::of(mount)?.ask(&Ask::Status) {
        Ok(Told::Status(status)) => progress(&status),
        _ => None,
    };
    watch::watched(every, look, || asked.ask_patiently(question)).map_err(|error| {
        Failure::new(Exit::Unreachable, format!("{}: {error}", mount.mountpoint.display()))
    })
}

fn ask_volume(
    path: &Path,
    question: &Ask,
    every: Duration,
    progress: impl Fn(&Status) -> Option<Progress>,
) -> Result<Told, Failure> {
    let path = volume::resolve(path)?;
    let volume = volume::open_existing(&path)?;
    let host: Arc<Host<Pending>> = volume.start(&Options::default())?;
    let facts = Facts::new(&path, Path::new(""), false);
    let look = || match answer(&host, &facts, &Ask::Status) {
        Told::Status(status) => progress(&status),
        _ => None,
    };
    let told = volume::look_at(&host, &volume)
        .map(|_| watch::watched(every, look, || answer(&host, &facts, question)));
    let _ = host.ask(Control::Unmount).recv();
    host.stop();
    volume.close()?;
    told
}
