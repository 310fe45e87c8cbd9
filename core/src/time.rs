//! Own notions of time. The core never reads a clock: every input carries a [`Now`].

use core::time::Duration;

/// A point on a monotonic clock, in nanoseconds since an arbitrary origin.
///
/// Hosts feed it from CLOCK_BOOTTIME, so that time spent suspended counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(pub u64);

impl Instant {
    /// The point `delay` later, saturating at the end of time.
    pub fn after(self, delay: Duration) -> Instant {
        Instant(self.0.saturating_add(u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// How long ago `earlier` was; zero when it lies in the future.
    pub fn since(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// A point of civil time as POSIX stores it: seconds since 1970 (negative before) and nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WallTime {
    /// Seconds since 1970-01-01T00:00:00Z; negative before.
    pub secs: i64,
    /// Nanoseconds within the second, 0..1_000_000_000.
    pub nanos: u32,
}

impl WallTime {
    /// Builds a time from seconds and nanoseconds; `nanos` is clamped below one second.
    pub const fn new(secs: i64, nanos: u32) -> WallTime {
        WallTime { secs, nanos: if nanos > 999_999_999 { 999_999_999 } else { nanos } }
    }

    /// The next representable instant, so that a lagging clock cannot hide a change.
    pub fn next_tick(self) -> WallTime {
        if self.nanos >= 999_999_999 {
            WallTime { secs: self.secs.saturating_add(1), nanos: 0 }
        } else {
            WallTime { secs: self.secs, nanos: self.nanos + 1 }
        }
    }
}

/// What time it is: both clocks, sampled by the host when the input arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Monotonic time, for timers and leases.
    pub mono: Instant,
    /// Civil time, for timestamps.
    pub wall: WallTime,
}
