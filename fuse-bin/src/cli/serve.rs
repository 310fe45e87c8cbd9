//! The life of a mount: open, mount, serve, flush, end.
//!
//! Invariants: the line "mounted" is printed after the mount answered a real request; the process ends
//! with 0 only when everything acknowledged is durable; a second signal ends it at once.

use super::mount::Settings;
use super::volume::{self, Volume};
use super::{Exit, Failure, guard, logging, preflight, probe};
use crate::ctl;
use crate::fuse::{MountError, MountSpec, Mounted, Pending, Unmounter};
use crate::host::Host;
use crossbeam_channel::{Receiver, Sender, never, select, unbounded};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use vellum_core::port::control::{Answer, Control};

/// How long a lazily detached mount may keep the connection before the process ends it.
const DETACHED_GRACE: Duration = Duration::from_secs(2);

/// What the main thread waits for.
enum Event {
    Signal(i32),
    /// The kernel ended the connection.
    Ended(io::Result<()>),
    /// The thread that unmounts is done.
    Unmounted(io::Result<()>),
}

/// Serves until the mount ends. `ready` is called once it answers.
pub(super) fn run(settings: &Settings, ready: impl FnOnce()) -> Result<Exit, Failure> {
    if let Err(error) = rustix::process::configure_io_flusher_behavior(true) {
        tracing::debug!(%error, "the process could not be marked as an I/O flusher");
    }
    let events = catch_signals()?;
    let volume = volume::open_to_serve(&settings.volume, settings.options.read_only)?;
    logging::abort_on_panic();
    let host = volume.start(&settings.options)?;
    volume::mount_machine(&host, &volume)?;
    let result = serve(settings, &host, &volume, &events, ready);
    host.stop();
    volume.close().and(result)
}

fn serve(
    settings: &Settings,
    host: &Arc<Host<Pending>>,
    volume: &Volume,
    events: &(Sender<Event>, Receiver<Event>),
    ready: impl FnOnce(),
) -> Result<Exit, Failure> {
    let mounted = Mounted::start(host, &spec(settings)).map_err(explain)?;
    let unmounter = mounted.unmounter();
    let facts = ctl::Facts::new(&settings.volume, &settings.mountpoint, settings.options.read_only);
    let device = mounted.device();
    let _socket = ctl::serve(host, device, facts);
    watch(mounted, &events.0)?;
    if let Err(failure) = probe::ask_another(&settings.mountpoint) {
        let _ = unmounter.unmount();
        return Err(failure);
    }
    let _guard = match settings.options.auto_unmount {
        true => Some(guard::start(&settings.mountpoint, device).inspect_err(|_| {
            let _ = unmounter.unmount();
        })?),
        false => None,
    };
    tracing::info!(volume = %volume.path.display(), mountpoint = %settings.mountpoint.display(), "mounted");
    ready();
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    let served = wait_for_end(host, unmounter, events);
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    flush(host, &events.1)?;
    served.map_err(|e| Failure::io("serving the kernel", &e))?;
    tracing::info!(volume = %volume.path.display(), "unmounted, everything is durable");
    Ok(Exit::Ok)
}

/// Returns when the kernel has ended the connection, or nothing can end it but the end of the process.
fn wait_for_end(
    host: &Arc<Host<Pending>>,
    unmounter: Unmounter,
    (send, events): &(Sender<Event>, Receiver<Event>),
) -> io::Result<()> {
    let mut unmounter = Some(unmounter);
    let mut deadline = never();
    loop {
        select! {
            recv(events) -> event => match event {
                Ok(Event::Ended(result)) => return result,
                Ok(Event::Signal(SIGHUP)) => tracing::info!("nothing to reload"),
                Ok(Event::Signal(signal)) => match unmounter.take() {
                    Some(unmounter) => {
                        tracing::info!(signal, "flushing and unmounting");
                        end_mount(host.clone(), unmounter, send.clone());
                    }
                    None => end_now(),
                },
                Ok(Event::Unmounted(Ok(()))) => deadline = crossbeam_channel::at(Instant::now() + DETACHED_GRACE),
                Ok(Event::Unmounted(Err(error))) => {
                    tracing::error!(%error, "cannot unmount; ending anyway");
                    return Ok(());
                }
                Err(_) => return Ok(()),
            },
            recv(deadline) -> _ => {
                tracing::warn!("the mount is still in use; its users get ENOTCONN");
                return Ok(());
            }
        }
    }
}

/// Flushes while the mount still answers, then unmounts, on a thread of its own: the main thread goes on
/// listening for a second signal.
fn end_mount(host: Arc<Host<Pending>>, unmounter: Unmounter, send: Sender<Event>) {
    let work = move || {
        if let Ok(Answer::Failed(error)) = host.ask(Control::Sync).recv() {
            tracing::error!(?error, "flush before the unmount failed");
        }
        let _ = send.send(Event::Unmounted(unmounter.unmount()));
    };
    if let Err(error) = std::thread::Builder::new().name("vellum-unmount".into()).spawn(work) {
        tracing::error!(%error, "no thread to unmount with");
        end_now();
    }
}

/// The last flush: everything durable, then nothing is served any more.
fn flush(host: &Arc<Host<Pending>>, events: &Receiver<Event>) -> Result<(), Failure> {
    let answer = host.ask(Control::Unmount);
    loop {
        select! {
            recv(answer) -> answer => return match answer {
                Ok(Answer::Unmounted) => Ok(()),
                Ok(Answer::Failed(error)) => Err(Failure::new(
                    Exit::Error,
                    format!("the last flush failed ({error:?}): writes since the last sync may be lost"),
                )),
                other => Err(Failure::new(Exit::Error, format!("the last flush failed: {other:?}"))),
            },
            recv(events) -> event => {
                if let Ok(Event::Signal(SIGTERM | SIGINT)) = event {
                    end_now();
                }
            }
        }
    }
}

/// The second signal.
fn end_now() -> ! {
    eprintln!("vellum: ended before everything was flushed");
    tracing::error!("ended before everything was flushed");
    std::process::exit(i32::from(Exit::Error as u8));
}

fn catch_signals() -> Result<(Sender<Event>, Receiver<Event>), Failure> {
    let (send, events) = unbounded();
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])
        .map_err(|e| Failure::io("installing signal handlers", &e))?;
    let to = send.clone();
    std::thread::Builder::new()
        .name("vellum-signals".into())
        .spawn(move || {
            for signal in signals.forever() {
                if to.send(Event::Signal(signal)).is_err() {
                    return;
                }
            }
        })
        .map_err(|e| Failure::io("starting a thread", &e))?;
    Ok((send, events))
}

/// Reports the end of the connection as an event.
fn watch(mounted: Mounted, send: &Sender<Event>) -> Result<(), Failure> {
    let send = send.clone();
    std::thread::Builder::new()
        .name("vellum-watch".into())
        .spawn(move || drop(send.send(Event::Ended(mounted.wait()))))
        .map(drop)
        .map_err(|e| Failure::io("starting a thread", &e))
}

fn spec(settings: &Settings) -> MountSpec {
    let cpus = std::thread::available_parallelism().map_or(2, usize::from);
    let options = &settings.options;
    MountSpec {
        mountpoint: settings.mountpoint.clone(),
        volume: settings.volume.display().to_string(),
        read_only: options.read_only,
        suid: options.suid,
        dev: options.dev,
        exec: options.exec,
        noatime: options.noatime,
        allow_other: settings.allow_other,
        threads: options.threads.unwrap_or(cpus.clamp(2, 16)),
        read_ahead: options.read_ahead.unwrap_or(MountSpec::READ_AHEAD),
    }
}

fn explain(error: MountError) -> Failure {
    match error {
        MountError::NoDevice(_) => preflight::no_device(),
        MountError::Permission(error) => Failure::new(
            Exit::Permission,
            format!(
                "mounting is not permitted ({error}): run as root, or install the package fuse3"
            ),
        ),
        MountError::Other(error) if error.kind() == io::ErrorKind::NotFound => Failure::new(
            Exit::Configuration,
            format!(
                "mounting needs fusermount3 ({error}): install the package fuse3, or run as root"
            ),
        ),
        MountError::Other(error) => Failure::io("mounting", &error),
    }
}
