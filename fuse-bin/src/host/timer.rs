//! Calls the machine when the time it named has come.
//!
//! A timerfd on CLOCK_BOOTTIME, so that time spent suspended counts. Under the machine's lock only an
//! atomic is written ([`Timer::aim`]); the timer is programmed after unlocking and only when the time
//! became earlier. A time that became later is noticed when the old one fires, without visiting the
//! machine.

use super::{Host, Respond, clock};
use parking_lot::Mutex;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use vellum_core::time::Instant;

/// No time at all.
const NEVER: u64 = u64::MAX;

pub(super) struct Timer {
    shared: Arc<Shared>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

/// What the waiting thread and the programming threads share.
struct Shared {
    fd: OwnedFd,
    /// When the machine wants to be called.
    wanted: AtomicU64,
    /// What the timerfd is programmed to. Written under `programming` only.
    programmed: AtomicU64,
    programming: Mutex<()>,
    stop: AtomicBool,
}

/// The part that becomes a thread.
pub(super) struct TimerEnd {
    shared: Arc<Shared>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl Timer {
    pub(super) fn new() -> io::Result<(Timer, TimerEnd)> {
        let fd = timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::CLOEXEC)?;
        let shared = Arc::new(Shared {
            fd,
            wanted: AtomicU64::new(NEVER),
            programmed: AtomicU64::new(NEVER),
            programming: Mutex::new(()),
            stop: AtomicBool::new(false),
        });
        let thread = Arc::new(Mutex::new(None));
        let end = TimerEnd { shared: shared.clone(), thread: thread.clone() };
        Ok((Timer { shared, thread }, end))
    }

    /// Notes when the machine wants to be called; true when [`Timer::program`] must follow.
    /// Called under the machine's lock, so that the last word is the newest.
    pub(super) fn aim(&self, wanted: Option<Instant>) -> bool {
        let wanted = wanted.map_or(NEVER, |at| at.0);
        if self.shared.wanted.load(Ordering::Relaxed) != wanted {
            self.shared.wanted.store(wanted, Ordering::SeqCst);
        }
        wanted < self.shared.programmed.load(Ordering::SeqCst)
    }

    /// Programs the timer to the newest time wanted, if that is earlier.
    pub(super) fn program(&self) {
        let _programming = self.shared.programming.lock();
        let wanted = self.shared.wanted.load(Ordering::SeqCst);
        if wanted < self.shared.programmed.load(Ordering::SeqCst) {
            self.shared.set(wanted);
        }
    }

    pub(super) fn stop(&self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        {
            let _programming = self.shared.programming.lock();
            self.shared.set(0);
        }
        if let Some(thread) = self.thread.lock().take() {
            super::pool::join(thread);
        }
    }
}

impl Shared {
    /// Programs the timerfd. The caller holds `programming`.
    fn set(&self, at: u64) {
        self.programmed.store(at, Ordering::SeqCst);
        // Zero would disarm it.
        let at = at.max(1);
        let it_value =
            Timespec { tv_sec: (at / 1_000_000_000) as i64, tv_nsec: (at % 1_000_000_000) as _ };
        let spec = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value };
        timerfd_settime(&self.fd, TimerfdTimerFlags::ABSTIME, &spec)
            .expect("a timerfd takes any absolute time");
    }

    /// Blocks until the timer fires.
    fn wait(&self) {
        let mut expirations = [0u8; 8];
        while let Err(Errno::INTR) = rustix::io::read(&self.fd, &mut expirations) {}
    }

    /// After the timer fired: whether the machine is due. If not, waits for the new time.
    fn due(&self) -> bool {
        let _programming = self.programming.lock();
        self.programmed.store(NEVER, Ordering::SeqCst);
        let wanted = self.wanted.load(Ordering::SeqCst);
        if wanted <= clock::mono().0 {
            return true;
        }
        if wanted != NEVER {
            self.set(wanted);
        }
        false
    }
}

impl TimerEnd {
    pub(super) fn spawn<R: Respond>(self, host: &Arc<Host<R>>) -> io::Result<()> {
        let TimerEnd { shared, thread } = self;
        let host = Arc::downgrade(host);
        let handle = std::thread::Builder::new().name("vellum-timer".into()).spawn(move || {
            loop {
                shared.wait();
                if shared.stop.load(Ordering::SeqCst) {
                    return;
                }
                if shared.due() {
                    let Some(host) = host.upgrade() else { return };
                    host.expire();
                }
            }
        })?;
        *thread.lock() = Some(handle);
        Ok(())
    }
}
