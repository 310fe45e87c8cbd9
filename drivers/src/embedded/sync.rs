//! The locks and threads of the store. Tests with the feature `shuttle` get those of a scheduler that tries
//! interleavings in their place.

#[cfg(not(all(test, feature = "shuttle")))]
use std as from;

#[cfg(all(test, feature = "shuttle"))]
use shuttle as from;

pub(super) use from::sync::atomic::{AtomicBool, Ordering};
pub(super) use from::sync::{Arc, Condvar, Mutex, MutexGuard, RwLock};
pub(super) use from::thread;

/// A known bug that a test plants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Plant {
    /// Who waits counts what has finished after it has asked the store.
    LateCount = 1,
    /// The thread in the background is woken before it is told to end.
    UnlockedClose,
    /// A finish wakes one of those who wait.
    OneWoken,
}

#[cfg(not(all(test, feature = "shuttle")))]
pub(super) const fn planted(_: Plant) -> bool {
    false
}

#[cfg(all(test, feature = "shuttle"))]
pub(super) use planting::{plant, planted};

#[cfg(all(test, feature = "shuttle"))]
mod planting {
    use super::Plant;
    use std::sync::atomic::{AtomicU8, Ordering};

    static PLANTED: AtomicU8 = AtomicU8::new(0);

    /// Plants a bug, or none.
    pub(in crate::embedded) fn plant(plant: Option<Plant>) {
        PLANTED.store(plant.map_or(0, |plant| plant as u8), Ordering::SeqCst);
    }

    pub(in crate::embedded) fn planted(plant: Plant) -> bool {
        PLANTED.load(Ordering::SeqCst) == plant as u8
    }
}
