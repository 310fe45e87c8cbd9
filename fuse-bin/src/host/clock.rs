//! The host's clocks, as the machine's [`Now`].

use rustix::time::{ClockId, clock_gettime};
use vellum_core::time::{Instant, Now, WallTime};

/// Samples both clocks: CLOCK_BOOTTIME, which counts suspended time, and CLOCK_REALTIME.
pub fn now() -> Now {
    Now { mono: mono(), wall: wall() }
}

/// CLOCK_BOOTTIME in nanoseconds.
#[cfg(not(all(test, feature = "shuttle")))]
pub(super) fn mono() -> Instant {
    let t = clock_gettime(ClockId::Boottime);
    Instant((t.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(t.tv_nsec as u64))
}

/// The time of the alarms.
#[cfg(all(test, feature = "shuttle"))]
pub(super) fn mono() -> Instant {
    Instant(super::sync::clock())
}

fn wall() -> WallTime {
    let t = clock_gettime(ClockId::Realtime);
    WallTime::new(t.tv_sec, t.tv_nsec as u32)
}
