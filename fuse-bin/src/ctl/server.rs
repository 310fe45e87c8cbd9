//! The daemon's end of the control socket.

use super::socket_path;
use super::wire::{Ask, Backend, Checked, Collected, Compacted, Info, Scrubbed, Status, Told};
use crate::host::{Host, Respond};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use vellum_core::id::Ino;
use vellum_core::port::control::{Answer, CheckOptions, Control};

/// Askers at a time; further ones are refused.
const ASKERS_MAX: usize = 16;
/// Longest question.
const LINE_MAX: u64 = 4096;
/// How long the machine is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the daemon knows about its mount.
#[derive(Clone, Debug)]
pub struct Facts {
    volume: String,
    mountpoint: String,
    read_only: bool,
    since: Instant,
}

impl Facts {
    /// Facts of a mount that starts now.
    pub fn new(volume: &Path, mountpoint: &Path, read_only: bool) -> Facts {
        Facts {
            volume: volume.display().to_string(),
            mountpoint: mountpoint.display().to_string(),
            read_only,
            since: Instant::now(),
        }
    }

    fn status(&self) -> Status {
        Status {
            version: env!("CARGO_PKG_VERSION").to_string(),
            stability: "experimental".to_string(),
            pid: std::process::id(),
            volume: self.volume.clone(),
            mountpoint: self.mountpoint.clone(),
            read_only: self.read_only,
            uptime_seconds: self.since.elapsed().as_secs_f64(),
            meta: Backend { backend: "embedded".to_string() },
            data: Backend { backend: "disk".to_string() },
            ..Status::default()
        }
    }
}

/// A listening socket; its file is removed when this is dropped.
#[derive(Debug)]
pub struct Socket {
    path: PathBuf,
    /// Which file it is.
    file: Identity,
}

impl Drop for Socket {
    fn drop(&mut self) {
        // The next mount may have the same device number already, and its socket there.
        if file_of(&self.path).is_ok_and(|file| file == self.file) {
            let _ = std::fs::remove_file(&self.path);
        }
        if let Some(dir) = self.path.parent() {
            let _ = std::fs::remove_dir(dir);
        }
    }
}

/// Answers on the socket of the mount with this device number until the process ends.
///
/// A mount works without its socket, so a failure is logged and `None` returned.
pub fn serve<R: Respond>(host: &Arc<Host<R>>, device: (u32, u32), facts: Facts) -> Option<Socket> {
    let path = socket_path(rustix::process::geteuid().as_raw(), device);
    match listen(host, &path, facts) {
        Ok(socket) => Some(socket),
        Err(error) => {
            tracing::warn!(%error, socket = %path.display(), "no control socket; `vellum status` will not work");
            None
        }
    }
}

/// Binds and starts the accepting thread.
pub(super) fn listen<R: Respond>(
    host: &Arc<Host<R>>,
    path: &Path,
    facts: Facts,
) -> io::Result<Socket> {
    if let Some(dir) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    }
    // Left behind by a daemon that had the same device number and was killed.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    let file = file_of(path)?;
    let host = Arc::downgrade(host);
    std::thread::Builder::new().name("vellum-ctl".into()).spawn(move || {
        let askers = Arc::new(AtomicUsize::new(0));
        for stream in listener.incoming() {
            let (Ok(stream), Some(host)) = (stream, host.upgrade()) else { continue };
            if askers.fetch_add(1, Ordering::SeqCst) >= ASKERS_MAX {
                askers.fetch_sub(1, Ordering::SeqCst);
                continue;
            }
            let (facts, count) = (facts.clone(), askers.clone());
            let work = move || {
                converse(&host, &facts, stream);
                count.fetch_sub(1, Ordering::SeqCst);
            };
            if std::thread::Builder::new().name("vellum-ctl-asker".into()).spawn(work).is_err() {
                askers.fetch_sub(1, Ordering::SeqCst);
            }
        }
    })?;
    Ok(Socket { path: path.to_path_buf(), file })
}

/// Device, inode and change time: a filesystem may give the number of a removed inode to the next one.
type Identity = (u64, u64, i64, i64);

fn file_of(path: &Path) -> io::Result<Identity> {
    let meta = path.symlink_metadata()?;
    Ok((meta.dev(), meta.ino(), meta.ctime(), meta.ctime_nsec()))
}

/// Answers one asker until it goes away.
fn converse<R: Respond>(host: &Arc<Host<R>>, facts: &Facts, stream: UnixStream) {
    let Ok(mut write) = stream.try_clone() else { return };
    let mut read = BufReader::new(stream);
    loop {
        let mut line = String::new();
        match read.by_ref().take(LINE_MAX).read_line(&mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let told = match serde_json::from_str(&line) {
            Ok(ask) => answer(host, facts, &ask),
            Err(error) => Told::Error { errno: 0, text: format!("not understood: {error}") },
        };
        let Ok(mut text) = serde_json::to_string(&told) else { return };
        text.push('\n');
        if write.write_all(text.as_bytes()).is_err() {
            return;
        }
    }
}

/// Puts a question to a machine and waits for the answer.
pub(crate) fn answer<R: Respond>(host: &Arc<Host<R>>, facts: &Facts, ask: &Ask) -> Told {
    let control = match ask {
        Ask::Status => Control::Status,
        Ask::Info { ino } => Control::Info { ino: Ino(*ino) },
        Ask::Sync => Control::Sync,
        Ask::Check { data } => Control::Check(CheckOptions { data: *data, settled: false }),
        Ask::Compact { ino } => Control::Compact { ino: Ino(*ino) },
        Ask::Gc { now } => Control::Gc { now: *now },
        Ask::Scrub { rate } => Control::Scrub { rate: *rate },
    };
    let answer = host.ask(control);
    let answer = match ask {
        // As long as the volume is large.
        Ask::Check { .. } | Ask::Compact { .. } | Ask::Gc { .. } | Ask::Scrub { .. } => {
            answer.recv().ok()
        }
        _ => answer.recv_timeout(PATIENCE).ok(),
    };
    match (answer, ask) {
        (Some(Answer::Status(status)), _) => {
            let mut out = facts.status();
            out.fill(&status);
            Told::Status(Box::new(out))
        }
        (Some(Answer::Info(info)), Ask::Info { ino }) => Told::Info(Info::of(*ino, &info)),
        (Some(Answer::Synced), _) => Told::Synced,
        (Some(Answer::Checked(report)), _) => Told::Checked(Box::new(Checked::of(report))),
        (Some(Answer::Compacted(done)), _) => Told::Compacted(Compacted::of(&done)),
        (Some(Answer::Collected(collected)), _) => Told::Collected(Collected::of(&collected)),
        (Some(Answer::Scrubbed(report)), _) => Told::Scrubbed(Scrubbed::of(report)),
        (Some(Answer::Failed(error)), _) => {
            Told::Error { errno: error.errno(), text: format!("{error:?}") }
        }
        (Some(other), _) => Told::Error { errno: 0, text: format!("unexpected answer {other:?}") },
        (None, _) => Told::Error { errno: 110, text: "the mount did not answer in time".into() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_that_another_mount_has_taken_over_stays() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("run/0-42.sock");
        std::fs::create_dir(path.parent().expect("its directory")).expect("mkdir");
        let bind = || {
            // Beside the old one at first, so that it gets a number of its own.
            let new = path.with_extension("new");
            UnixListener::bind(&new).expect("bind");
            std::fs::rename(&new, &path).expect("rename");
            Socket { path: path.clone(), file: file_of(&path).expect("stat") }
        };
        let first = bind();
        let second = bind();
        drop(first);
        assert!(path.exists(), "the second one's");
        drop(second);
        assert!(!path.parent().expect("its directory").exists(), "the last one leaves nothing");
    }
}
