//! Those of shuttle, in the shape of the real ones.

use super::Plant;
use std::collections::VecDeque;
use std::io;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering as RealOrdering};
use std::sync::mpsc::{RecvError, SendError};

pub(in crate::host) use shuttle::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
pub(in crate::host) use shuttle::thread;

static PLANTED: AtomicU8 = AtomicU8::new(0);

/// Plants a bug, or none.
pub(in crate::host) fn plant(plant: Option<Plant>) {
    PLANTED.store(plant.map_or(0, |plant| plant as u8), RealOrdering::SeqCst);
}

/// Whether a test planted it.
pub(in crate::host) fn planted(plant: Plant) -> bool {
    PLANTED.load(RealOrdering::SeqCst) == plant as u8
}

shuttle::lazy_static! {
    /// Nanoseconds. Time passes only when an alarm goes off.
    static ref CLOCK: AtomicU64 = AtomicU64::new(1);
}

/// What the clock says.
pub(in crate::host) fn clock() -> u64 {
    CLOCK.load(Ordering::SeqCst)
}

/// As parking_lot's.
pub(in crate::host) struct Mutex<T>(shuttle::sync::Mutex<T>);

/// As parking_lot's.
pub(in crate::host) struct MutexGuard<'a, T>(Option<shuttle::sync::MutexGuard<'a, T>>);

impl<T> Mutex<T> {
    pub(in crate::host) fn new(value: T) -> Mutex<T> {
        Mutex(shuttle::sync::Mutex::new(value))
    }

    pub(in crate::host) fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard(Some(self.0.lock().expect("no thread panicked")))
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_deref().expect("it is held but while it waits")
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_deref_mut().expect("it is held but while it waits")
    }
}

/// As parking_lot's.
pub(in crate::host) struct Condvar(shuttle::sync::Condvar);

impl Condvar {
    pub(in crate::host) fn new() -> Condvar {
        Condvar(shuttle::sync::Condvar::new())
    }

    pub(in crate::host) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        let held = guard.0.take().expect("it is held");
        guard.0 = Some(self.0.wait(held).expect("no thread panicked"));
    }

    pub(in crate::host) fn notify_one(&self) {
        self.0.notify_one();
    }

    pub(in crate::host) fn notify_all(&self) {
        self.0.notify_all();
    }
}

/// As crossbeam's, of which the host uses neither bounds nor disconnection.
pub(in crate::host) fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
    let queue = Arc::new((Mutex::new(VecDeque::new()), Condvar::new()));
    (Sender(queue.clone()), Receiver(queue))
}

type Queue<T> = Arc<(Mutex<VecDeque<T>>, Condvar)>;

/// As crossbeam's.
pub(in crate::host) struct Sender<T>(Queue<T>);

/// As crossbeam's.
pub(in crate::host) struct Receiver<T>(Queue<T>);

impl<T> Sender<T> {
    pub(in crate::host) fn send(&self, value: T) -> Result<(), SendError<T>> {
        self.0.0.lock().push_back(value);
        self.0.1.notify_one();
        Ok(())
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Receiver<T> {
        Receiver(self.0.clone())
    }
}

impl<T> Receiver<T> {
    pub(in crate::host) fn recv(&self) -> Result<T, RecvError> {
        let mut queue = self.0.0.lock();
        loop {
            if let Some(value) = queue.pop_front() {
                return Ok(value);
            }
            self.0.1.wait(&mut queue);
        }
    }
}

/// Goes off at any moment after it was set; then that time has come.
pub(in crate::host) struct Alarm {
    at: Mutex<Option<u64>>,
    armed: Condvar,
}

impl Alarm {
    pub(in crate::host) fn new() -> io::Result<Alarm> {
        Ok(Alarm { at: Mutex::new(None), armed: Condvar::new() })
    }

    pub(in crate::host) fn set(&self, at: u64) {
        *self.at.lock() = Some(at);
        self.armed.notify_all();
    }

    pub(in crate::host) fn wait(&self) {
        let mut at = self.at.lock();
        while at.is_none() {
            self.armed.wait(&mut at);
        }
        drop(at);
        // Until it goes off it may be set anew.
        thread::yield_now();
        let at = self.at.lock().take();
        CLOCK.fetch_max(at.unwrap_or(0), Ordering::SeqCst);
    }
}
