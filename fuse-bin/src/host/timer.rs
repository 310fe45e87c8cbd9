//! Calls the machine when the time it named has come.
//!
//! Under the machine's lock only an atomic is written ([`Timer::aim`]); the timer is programmed after unlocking and only when the time
//! became earlier. A time that became later is noticed when the old one fires, without visiting the
//! machine.

use super::sync::{Alarm, AtomicBool, AtomicU64, Mutex, Ordering, Plant, planted, thread};
use super::{Host, Machine, Respond, clock};
use std::io;
use std::sync::Arc;
use vellum_core::time::Instant;

/// No time at all.
const NEVER: u64 = u64::MAX;

pub(super) struct Timer {
    shared: Arc<Shared>,
    thread: Arc<Mutex<Option<thread::JoinHandle<()>>>>,
}

/// What the waiting thread and the programming threads share.
struct Shared {
    alarm: Alarm,
    /// When the machine wants to be called.
    wanted: AtomicU64,
    /// What the alarm is programmed to. Written under `programming` only.
    programmed: AtomicU64,
    programming: Mutex<()>,
    stop: AtomicBool,
}

/// The part that becomes a thread.
pub(super) struct TimerEnd {
    shared: Arc<Shared>,
    thread: Arc<Mutex<Option<thread::JoinHandle<()>>>>,
}

impl Timer {
    pub(super) fn new() -> io::Result<(Timer, TimerEnd)> {
        let shared = Arc::new(Shared {
            alarm: Alarm::new()?,
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
        let waiter = self.thread.lock().take();
        if let Some(waiter) = waiter {
            super::pool::join(waiter);
        }
    }
}

impl Shared {
    /// Programs the alarm. The caller holds `programming`.
    fn set(&self, at: u64) {
        self.programmed.store(at, Ordering::SeqCst);
        self.alarm.set(at);
    }

    /// After the timer fired: whether the machine is due. If not, waits for the new time.
    fn due(&self) -> bool {
        let _programming = self.programming.lock();
        let early = self.wanted.load(Ordering::SeqCst);
        self.programmed.store(NEVER, Ordering::SeqCst);
        let newest = self.wanted.load(Ordering::SeqCst);
        let wanted = if planted(Plant::StaleAlarm) { early } else { newest };
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
    pub(super) fn spawn<R: Respond, M: Machine>(self, host: &Arc<Host<R, M>>) -> io::Result<()> {
        let TimerEnd { shared, thread } = self;
        let host = Arc::downgrade(host);
        let handle = thread::Builder::new().name("vellum-timer".into()).spawn(move || {
            loop {
                shared.alarm.wait();
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
