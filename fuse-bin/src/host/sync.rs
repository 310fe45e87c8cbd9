//! The locks, threads, queues and alarm of the host. Tests with the feature `shuttle` get those of a
//! scheduler that tries interleavings in their place, and an alarm whose time is up whenever it likes.

#[cfg(not(all(test, feature = "shuttle")))]
mod real;
#[cfg(all(test, feature = "shuttle"))]
mod shuttled;

#[cfg(not(all(test, feature = "shuttle")))]
pub(super) use real::*;
#[cfg(all(test, feature = "shuttle"))]
pub(super) use shuttled::*;

/// A known bug that a test plants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Plant {
    /// Any reader may block, the last one, too.
    LastReaderBlocks = 1,
    /// A waiter is enlisted after its request was handed in, under another lock.
    LateWaiter,
    /// Between a look at the queue of notifications and the sleep the lock is let go of.
    LostWakeup,
    /// After the alarm the time wanted is read before the old one is forgotten.
    StaleAlarm,
    /// A stop reaches one thread of the pool only.
    OneStop,
    /// A notification counts as done before the kernel was told.
    EarlyTold,
}
