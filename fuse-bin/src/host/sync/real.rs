//! The real ones.

use super::Plant;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use std::io;

pub(in crate::host) use crossbeam_channel::{Receiver, Sender, unbounded};
pub(in crate::host) use parking_lot::{Condvar, Mutex};
pub(in crate::host) use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
pub(in crate::host) use std::thread;

/// Whether a test planted it.
pub(in crate::host) const fn planted(_: Plant) -> bool {
    false
}

/// A timerfd on CLOCK_BOOTTIME, so that time spent suspended counts.
pub(in crate::host) struct Alarm(OwnedFd);

impl Alarm {
    pub(in crate::host) fn new() -> io::Result<Alarm> {
        Ok(Alarm(timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::CLOEXEC)?))
    }

    /// It goes off at this time, in nanoseconds, and not at the one that was set before.
    pub(in crate::host) fn set(&self, at: u64) {
        // Zero would disarm it.
        let at = at.max(1);
        let it_value =
            Timespec { tv_sec: (at / 1_000_000_000) as i64, tv_nsec: (at % 1_000_000_000) as _ };
        let spec = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value };
        timerfd_settime(&self.0, TimerfdTimerFlags::ABSTIME, &spec)
            .expect("a timerfd takes any absolute time");
    }

    /// Blocks until it goes off.
    pub(in crate::host) fn wait(&self) {
        let mut expirations = [0u8; 8];
        while let Err(Errno::INTR) = rustix::io::read(&self.0, &mut expirations) {}
    }
}
