//! Notifications on their way to the kernel, on threads of their own.
//!
//! An invalidation can wait for a page that is being written, or for an inode that the kernel is about to
//! drop, so no thread that answers requests may send one. One of attributes alone waits for no page, and a
//! request may wait for it: it never queues behind others, which may wait for what that request writes.
//!
//! The queues coalesce: per inode one range and per name one entry, so they are bounded by what the kernel
//! can have cached. Nothing is ever dropped: a lost invalidation is stale data for ever. Each one is
//! completed when the kernel has answered, whatever it answered, and at once when there is none.

use super::sync::{Condvar, Mutex, Plant, planted, thread};
use super::{Host, Machine, Respond};
use bytes::Bytes;
use hashbrown::HashMap;
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Weak};
use vellum_core::id::{EffectId, Ino};
use vellum_core::port::Completion;
use vellum_core::port::kernel::Notification;

/// Tells the kernel.
pub trait Notify: Send + Sync + 'static {
    /// Sends one notification; blocks while the kernel works on it.
    ///
    /// # Errors
    /// What the kernel answers; that it knows nothing of the object is no error.
    fn notify(&self, notification: &Notification) -> io::Result<()>;
}

pub(super) struct Notices {
    attributes: Lane,
    others: Lane,
}

/// A queue and the thread that empties it.
struct Lane {
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
    ranges: HashMap<Subject, Queued>,
    /// There is a kernel and a thread that tells it.
    serving: bool,
}

/// What is to be invalidated of a subject, and whom that completes.
struct Queued {
    range: (i64, i64),
    ids: Vec<EffectId>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Subject {
    Inode(Ino),
    Entry(Ino, Bytes),
}

impl Notices {
    pub(super) fn new() -> Notices {
        Notices { attributes: Lane::new(), others: Lane::new() }
    }

    /// Queues a notification; never blocks. False when there is no kernel to tell.
    #[must_use]
    pub(super) fn push(&self, id: EffectId, notification: Notification) -> bool {
        let lane = match notification {
            Notification::Inode { offset: ..0, .. } => &self.attributes,
            _ => &self.others,
        };
        lane.push(id, notification)
    }

    pub(super) fn spawn<R: Respond, M: Machine>(
        &self,
        host: &Arc<Host<R, M>>,
        kernel: impl Notify,
    ) -> io::Result<()> {
        let kernel = Arc::new(kernel);
        self.attributes.spawn("vellum-attrs", host, kernel.clone())?;
        self.others.spawn("vellum-notify", host, kernel)
    }

    /// What is queued is completed; the kernel is not told any more.
    pub(super) fn stop(&self) {
        self.attributes.stop();
        self.others.stop();
    }
}

impl Lane {
    fn new() -> Lane {
        let shared = Shared { queue: Mutex::new(Queue::default()), filled: Condvar::new() };
        Lane { shared: Arc::new(shared), thread: Mutex::new(None) }
    }

    fn push(&self, id: EffectId, notification: Notification) -> bool {
        let mut queue = self.shared.queue.lock();
        if !queue.serving {
            return false;
        }
        queue.push(id, notification);
        drop(queue);
        self.shared.filled.notify_one();
        true
    }

    fn spawn<R: Respond, M: Machine>(
        &self,
        name: &str,
        host: &Arc<Host<R, M>>,
        kernel: Arc<impl Notify>,
    ) -> io::Result<()> {
        let (shared, host) = (self.shared.clone(), Arc::downgrade(host));
        let teller = thread::Builder::new().name(name.into());
        self.shared.queue.lock().serving = true;
        let teller = teller.spawn(move || shared.tell(&host, &*kernel)).inspect_err(|_| {
            self.shared.queue.lock().serving = false;
        })?;
        *self.thread.lock() = Some(teller);
        Ok(())
    }

    fn stop(&self) {
        self.shared.queue.lock().serving = false;
        self.shared.filled.notify_all();
        let teller = self.thread.lock().take();
        if let Some(teller) = teller {
            super::pool::join(teller);
        }
    }
}

impl Shared {
    /// Tells the kernel until a stop. What is left then is completed all the same.
    fn tell<R: Respond, M: Machine>(&self, host: &Weak<Host<R, M>>, kernel: &impl Notify) {
        while let Some((notification, ids, serving)) = self.next() {
            let complete = || {
                let Some(host) = host.upgrade() else { return };
                ids.iter().for_each(|id| host.complete(*id, Completion::Notified));
            };
            if planted(Plant::EarlyTold) {
                complete();
            }
            if serving && let Err(error) = kernel.notify(&notification) {
                tracing::warn!(%error, ?notification, "the kernel refused a notification");
            }
            if !planted(Plant::EarlyTold) {
                complete();
            }
        }
    }

    /// The next notification, whom it completes, and whether there is a kernel still; `None` at the end.
    fn next(&self) -> Option<(Notification, Vec<EffectId>, bool)> {
        let mut queue = self.queue.lock();
        loop {
            if let Some((notification, ids)) = queue.pop() {
                return Some((notification, ids, queue.serving));
            }
            if !queue.serving {
                return None;
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
    fn push(&mut self, id: EffectId, notification: Notification) {
        let (subject, range) = match notification {
            Notification::Inode { ino, offset, len } => (Subject::Inode(ino), (offset, len)),
            Notification::Entry { parent, name } => (Subject::Entry(parent, name), (0, 0)),
        };
        match self.ranges.get_mut(&subject) {
            Some(queued) => {
                queued.range = union(queued.range, range);
                queued.ids.push(id);
            }
            None => {
                self.order.push_back(subject.clone());
                self.ranges.insert(subject, Queued { range, ids: vec![id] });
            }
        }
    }

    fn pop(&mut self) -> Option<(Notification, Vec<EffectId>)> {
        let subject = self.order.pop_front()?;
        let Queued { range: (offset, len), ids } = self.ranges.remove(&subject)?;
        let notification = match subject {
            Subject::Inode(ino) => Notification::Inode { ino, offset, len },
            Subject::Entry(parent, name) => Notification::Entry { parent, name },
        };
        Some((notification, ids))
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
        let inode = |offset| Notification::Inode { ino: Ino(5), offset, len: 4096 };
        let entry = || Notification::Entry { parent: Ino(1), name: "a".into() };
        queue.push(EffectId(1), inode(8192));
        queue.push(EffectId(2), entry());
        queue.push(EffectId(3), inode(0));
        queue.push(EffectId(4), entry());
        let all: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(
            all,
            [
                (
                    Notification::Inode { ino: Ino(5), offset: 0, len: 12288 },
                    vec![EffectId(1), EffectId(3)]
                ),
                (entry(), vec![EffectId(2), EffectId(4)]),
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
