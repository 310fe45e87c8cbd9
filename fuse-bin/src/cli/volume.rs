//! Opening a volume directory and putting a machine on it.

use super::options::Options;
use super::{Exit, Failure};
use crate::fuse::mountinfo;
use crate::host::{Host, Respond, Stores};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use vellum_core::client::{Client, ClientConfig};
use vellum_core::error::FsError;
use vellum_core::port::control::{Answer, Control, FormatOptions, Limit, VolumeInfo};
use vellum_drivers::embedded::EngineOpenError;
use vellum_drivers::volume::{fresh_hash_key, fresh_session};
use vellum_drivers::{LocalVolume, OpenMode, VolumeError};

/// How long a holder of the volume that is just ending is waited for.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);

/// An open volume directory, locked by this process.
pub(super) struct Volume {
    pub(super) path: PathBuf,
    /// Nothing was there before.
    pub(super) is_new: bool,
    local: LocalVolume,
}

/// The volume's directory as an absolute path without symlinks. It need not exist.
///
/// # Errors
/// 5 when the directory above does not exist, 7 for another kind of volume, 2 for a file.
pub(super) fn resolve(path: &Path) -> Result<PathBuf, Failure> {
    if let Some((scheme, _)) = path.to_str().and_then(|p| p.split_once("://")) {
        let text = format!("this build has no driver for `{scheme}://` volumes; name a directory");
        return Err(Failure::new(Exit::Configuration, text));
    }
    match path.canonicalize() {
        Ok(resolved) if resolved.is_dir() => Ok(resolved),
        Ok(_) => {
            Err(Failure::new(Exit::Usage, format!("volume {} is not a directory", path.display())))
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            super::preflight::without_touching(path)
        }
        Err(e) => Err(Failure::io(format_args!("volume {}", path.display()), &e)),
    }
}

/// Opens a volume to serve it; a directory that is missing or empty becomes one.
///
/// # Errors
/// 6 when it is in use, after waiting for a holder that is just ending; 7 and 8 as [`refused`] says.
pub(super) fn open_to_serve(path: &Path, read_only: bool) -> Result<Volume, Failure> {
    open_patiently(path, if read_only { OpenMode::MustExist } else { OpenMode::CreateIfEmpty })
}

/// Opens a volume that must exist.
///
/// # Errors
/// As [`open_to_serve`], and 5 when there is none.
pub(super) fn open_existing(path: &Path) -> Result<Volume, Failure> {
    open(path, OpenMode::MustExist)
}

fn open_patiently(path: &Path, mode: OpenMode) -> Result<Volume, Failure> {
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        match open(path, mode) {
            Err(failure)
                if failure.exit == Exit::Busy
                    && Instant::now() < deadline
                    && holder_is_ending(path) =>
            {
                std::thread::sleep(Duration::from_millis(20));
            }
            other => return other,
        }
    }
}

/// Whether nothing is mounted from this volume any more, so that its holder can only be on its way out.
fn holder_is_ending(path: &Path) -> bool {
    let source = format!("vellum:{}", path.display());
    mountinfo::mounts().is_ok_and(|mounts| mounts.iter().all(|mount| mount.source != source))
}

fn open(path: &Path, mode: OpenMode) -> Result<Volume, Failure> {
    let local = LocalVolume::open(path, mode).map_err(refused)?;
    Ok(Volume { path: path.to_path_buf(), is_new: local.created, local })
}

/// The exit code for each way in which a volume does not open.
fn refused(error: VolumeError) -> Failure {
    let exit = match &error {
        VolumeError::NotAVolume { .. } => Exit::NotFound,
        VolumeError::InUse { .. } => Exit::Busy,
        VolumeError::NotEmpty { .. } | VolumeError::FutureFormat { .. } => Exit::Configuration,
        VolumeError::Identity { .. } | VolumeError::MetaRead { .. } => Exit::Data,
        VolumeError::Meta(EngineOpenError::Damaged { .. }) => Exit::Data,
        VolumeError::Io { cause, .. } => Failure::io("", cause).exit,
        _ => Exit::Error,
    };
    Failure::new(exit, error.to_string())
}

impl Volume {
    /// Puts a machine on the volume.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub(super) fn start<R: Respond>(&self, options: &Options) -> Result<Arc<Host<R>>, Failure> {
        let session = fresh_session();
        let mut config = ClientConfig::sole(session, session.0 as u64);
        options.apply(&mut config);
        let stores = Stores::local(&self.local.kv, &self.local.pages);
        Host::start(Client::new(config), stores).map_err(|e| Failure::io("starting threads", &e))
    }

    /// Makes everything durable and lets go of the directory.
    ///
    /// # Errors
    /// When the last flush fails.
    pub(super) fn close(self) -> Result<(), Failure> {
        self.local.close().map_err(|error| {
            Failure::new(Exit::Error, format!("the last metadata flush failed: {error:?}"))
        })
    }
}

/// Gets the machine ready to serve; formats a volume that is new, or whose format was interrupted.
///
/// # Errors
/// 7 for a format from the future, 8 for a volume that cannot be read.
pub(super) fn mount_machine<R: Respond>(
    host: &Host<R>,
    volume: &Volume,
) -> Result<VolumeInfo, Failure> {
    if volume.is_new {
        format_machine(host, volume, Limit::default())?;
    }
    match host.ask(Control::Mount).recv() {
        // Nothing was ever stored: the machine that made the directory did not get to the record.
        Ok(Answer::NotFormatted) if volume.local.pages.list(None, 1).is_empty() => {
            format_machine(host, volume, Limit::default())?;
            look_at(host, volume)
        }
        answer => mounted(answer.ok(), volume),
    }
}

/// Gets the machine ready to look at a volume, and never formats.
///
/// # Errors
/// As [`mount_machine`].
pub(super) fn look_at<R: Respond>(host: &Host<R>, volume: &Volume) -> Result<VolumeInfo, Failure> {
    mounted(host.ask(Control::Mount).recv().ok(), volume)
}

fn mounted(answer: Option<Answer>, volume: &Volume) -> Result<VolumeInfo, Failure> {
    match answer {
        Some(Answer::Mounted(info)) if info.volume == volume.local.id => Ok(info),
        Some(Answer::Mounted(info)) => Err(Failure::new(
            Exit::Data,
            format!(
                "the metadata of {} belongs to volume {}, the directory to volume {}. Nothing was changed. \
                 Put the files back together",
                volume.path.display(),
                info.volume,
                volume.local.id
            ),
        )),
        answer => Err(explain(answer, &volume.path)),
    }
}

/// Writes the volume record and the root directory.
///
/// # Errors
/// As [`mount_machine`].
pub(super) fn format_machine<R: Respond>(
    host: &Host<R>,
    volume: &Volume,
    limit: Limit,
) -> Result<VolumeInfo, Failure> {
    let options = FormatOptions {
        volume: volume.local.id,
        hash_key: fresh_hash_key(),
        hash_bits: 60,
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        mode: 0o755,
        limit,
    };
    match host.ask(Control::Format(options)).recv() {
        Ok(Answer::Formatted(info) | Answer::AlreadyFormatted(info)) => Ok(info),
        other => Err(explain(other.ok(), &volume.path)),
    }
}

fn explain(answer: Option<Answer>, path: &Path) -> Failure {
    let path = path.display();
    match answer {
        Some(Answer::FutureFormat { found, known }) => Failure::new(
            Exit::Configuration,
            format!(
                "{path} has metadata of format {found}; this program knows formats up to {known}. Use a newer release of Vellum"
            ),
        ),
        Some(Answer::NotFormatted) => Failure::new(
            Exit::Data,
            format!(
                "{path} has data, but its metadata store has no volume record. Nothing was changed. Restore the metadata store from a backup"
            ),
        ),
        Some(Answer::Failed(FsError::Damaged)) => Failure::new(
            Exit::Data,
            format!("the metadata of {path} is damaged; `vellum fsck` may tell where"),
        ),
        Some(Answer::Failed(error)) => {
            Failure::new(Exit::Error, format!("{path} cannot be served: {error:?}"))
        }
        other => Failure::new(Exit::Error, format!("{path} cannot be served: {other:?}")),
    }
}
