//! The asking end of the control socket.

use super::socket_path;
use super::wire::{Ask, Told};
use crate::fuse::mountinfo::Mount;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection to the daemon of a mount.
#[derive(Debug)]
pub struct Daemon {
    stream: UnixStream,
    process: Option<OwnedFd>,
}

impl Daemon {
    /// The daemon of a mount; `None` when it does not listen.
    pub fn of(mount: &Mount) -> Option<Daemon> {
        let path = socket_path(mount.user.unwrap_or(0), (mount.major, mount.minor));
        Daemon::at(&path).ok()
    }

    /// The daemon that listens at `path`.
    ///
    /// # Errors
    /// As connect(2).
    pub fn at(path: &Path) -> io::Result<Daemon> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let process = rustix::net::sockopt::socket_peercred(&stream)
            .ok()
            .and_then(|peer| pidfd_open(peer.pid, PidfdFlags::empty()).ok());
        Ok(Daemon { stream, process })
    }

    /// Asks and waits for the answer.
    ///
    /// # Errors
    /// When the daemon goes away, takes too long or does not speak our language.
    pub fn ask(&self, ask: &Ask) -> io::Result<Told> {
        let mut line = serde_json::to_string(ask)?;
        line.push('\n');
        (&self.stream).write_all(line.as_bytes())?;
        let mut answer = String::new();
        BufReader::new(&self.stream).read_line(&mut answer)?;
        if answer.is_empty() {
            return Err(io::ErrorKind::NotConnected.into());
        }
        Ok(serde_json::from_str(&answer)?)
    }

    /// Asks and waits for the answer, however long it takes.
    ///
    /// # Errors
    /// When the daemon goes away or does not speak our language.
    pub fn ask_patiently(&self, ask: &Ask) -> io::Result<Told> {
        self.stream.set_read_timeout(None)?;
        self.ask(ask)
    }

    /// Waits until the daemon's process has ended; false when `patience` ran out first.
    ///
    /// # Errors
    /// As poll(2).
    pub fn wait_for_end(&self, patience: Option<Duration>) -> io::Result<bool> {
        let deadline = patience.map(|p| Instant::now() + p);
        loop {
            let left = deadline.map(|d| d.saturating_duration_since(Instant::now()));
            let timeout = left.map(|l| Timespec {
                tv_sec: i64::try_from(l.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: l.subsec_nanos().into(),
            });
            // Without a process handle the end of the connection has to do.
            let mut fds = match &self.process {
                Some(process) => [PollFd::new(process, PollFlags::IN)],
                None => [PollFd::new(&self.stream, PollFlags::RDHUP | PollFlags::HUP)],
            };
            match poll(&mut fds, timeout.as_ref()) {
                Ok(0) => return Ok(false),
                Ok(_) => return Ok(true),
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// The daemon's process id, if it could be learned.
    pub fn pid(&self) -> Option<Pid> {
        rustix::net::sockopt::socket_peercred(&self.stream).ok().map(|peer| peer.pid)
    }
}
