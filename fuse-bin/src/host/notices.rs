//! Notifications on their way to the kernel, on a thread of their own.
//!
//! An invalidation can wait for a page that is being written, so no thread that answers requests may
//! send one. The queue coalesces: per inode one range and per name one entry, so it is bounded by what
//! the kernel can have cached. Nothing is ever dropped: a lost invalidation is stale data for ever.

use super::sync::{Condvar, Mutex, Plant, planted, thread};
use bytes::Bytes;
use hashbrown::HashMap;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use vellum_core::id::Ino;
use vellum_core::port::kernel::Notification;

/// Tells the kernel.
pub trait Notify: Send + 'static {
    /// Sends one notification; blocks while the kernel works on it.
    ///
    /// # Errors
    /// What the kernel answers; that it knows nothing of the object is no error.
    fn notify(&self, notification: &Notification) -> io::Result<()>;
}

pub(super) struct Notices {
    shared: Arc<Shared>,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
}

struct Shared {
    queue: Mutex<Queue>,
    filled: Condvar,
}

#[derive(Default)]
struct Queue {
    order: VecDeque<Subject>,
    ranges: HashMap<Subject, (i64, i64)>,
    stop: bool,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Subject {
    Inode(Ino),
    Entry(Ino, Bytes),
}

impl Notices {
    pub(super) fn new() -> Notices {
        let shared = Shared { queue: Mutex::new(Queue::default()), filled: Condvar::new() };
        Notices { shared: Arc::new(shared), thread: Mutex::new(None) }
    }

    /// Queues a notification; never blocks.
    pub(super) fn push(&self, notification: Notification) {
        self.shared.queue.lock().push(notification);
        self.shared.filled.notify_one();
    }

    pub(super) fn spawn(&self, kernel: impl Notify) -> io::Result<()> {
        let shared = self.shared.clone();
        let teller = thread::Builder::new().name("vellum-notify".into()).spawn(move || {
            while let Some(notification) = shared.next() {
                if let Err(error) = kernel.notify(&notification) {
                    tracing::warn!(%error, ?notification, "the kernel refused a notification");
                }
            }
        })?;
        *self.thread.lock() = Some(teller);
        Ok(())
    }

    pub(super) fn stop(&self) {
        self.shared.queue.lock().stop = true;
        self.shared.filled.notify_all();
        let teller = self.thread.lock().take();
        if let Some(teller) = teller {
            super::pool::join(teller);
        }
    }
}

impl Shared {
    /// The next notification; `None` at the end.
    fn next(&self) -> Option<Notification> {
        let mut queue = self.queue.lock();
        loop {
            if queue.stop {
                return None;
            }
            if let Some(notification) = queue.pop() {
                return Some(notification);
            }
            if planted(Plant::LostWakeup) {
                drop(queue);
                queue = self.queue.lock();
            }
            self.filled.wait(&mut queue);
        }
    }
}

impl Queue {
    fn push(&mut self, notification: Notification) {
        let (subject, range) = match notification {
            Notification::Inode { ino, offset, len } => (Subject::Inode(ino), (offset, len)),
            Notification::Entry { parent, name } => (Subject::Entry(parent, name), (0, 0)),
        };
        match self.ranges.get_mut(&subject) {
            Some(queued) => *queued = union(*queued, range),
            None => {
                self.order.push_back(subject.clone());
                self.ranges.insert(subject, range);
            }
        }
    }

    fn pop(&mut self) -> Option<Notification> {
        let subject = self.order.pop_front()?;
        let (offset, len) = self.ranges.remove(&subject)?;
        Some(match subject {
            Subject::Inode(ino) => Notification::Inode { ino, offset, len },
            Subject::Entry(parent, name) => Notification::Entry { parent, name },
        })
    }
}

/// The smallest range that covers both; an offset of -1 stands for attributes only, a length of 0 for
/// everything after the offset.
fn union(a: (i64, i64), b: (i64, i64)) -> (i64, i64) {
    if a.0 < 0 {
        return b;
    }
    if b.0 < 0 {
        return a;
    }
    let begin = a.0.min(b.0);
    if a.1 <= 0 || b.1 <= 0 {
        return (begin, 0);
    }
    let end = a.0.saturating_add(a.1).max(b.0.saturating_add(b.1));
    (begin, end - begin)
}

#[cfg(all(test, not(feature = "shuttle")))]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_one_inode_are_joined_and_keep_their_place() {
        let mut queue = Queue::default();
        queue.push(Notification::Inode { ino: Ino(5), offset: 8192, len: 4096 });
        queue.push(Notification::Entry { parent: Ino(1), name: "a".into() });
        queue.push(Notification::Inode { ino: Ino(5), offset: 0, len: 4096 });
        queue.push(Notification::Entry { parent: Ino(1), name: "a".into() });
        let all: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(
            all,
            [
                Notification::Inode { ino: Ino(5), offset: 0, len: 12288 },
                Notification::Entry { parent: Ino(1), name: "a".into() },
            ]
        );
    }

    #[test]
    fn attributes_only_never_hide_a_range() {
        assert_eq!(union((-1, 0), (10, 5)), (10, 5));
        assert_eq!(union((10, 5), (-1, 0)), (10, 5));
        assert_eq!(union((-1, 0), (-1, 0)), (-1, 0));
        assert_eq!(union((10, 0), (5, 1)), (5, 0));
    }
}
