//! The host's threads around a puppet of a machine: who waits is answered once, nothing wakes too late,
//! a reader is always free, the kernel is told before the answer, and a stop ends everything.
//!
//! The same scenes run with real threads, and with the feature `shuttle` under a scheduler that tries
//! interleavings of every lock, queue, atomic and alarm (`ci/shuttle`). It does not try weak memory orders.

mod puppet;

use super::sync::{Condvar, Mutex, thread};
use super::{Host, Notify, Respond, Stores};
use puppet::{Puppet, SlowStore};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use vellum_core::id::{Handle, Ino, RequestId};
use vellum_core::port::kernel::{Caller, Notification, Operation, Reply, Request};

type TestHost = Host<Answer, Puppet>;

/// Which requests were answered, of which inodes the kernel was told, and how many answers did not wait
/// for that.
#[derive(Default)]
struct Seen {
    answers: BTreeMap<u64, u32>,
    told: BTreeMap<u64, u32>,
    early: u32,
}

/// Shared by everybody in a scene.
struct Board {
    seen: Mutex<Seen>,
    changed: Condvar,
}

impl Board {
    fn new() -> Arc<Board> {
        Arc::new(Board { seen: Mutex::new(Seen::default()), changed: Condvar::new() })
    }

    fn note(&self, note: impl FnOnce(&mut Seen)) {
        note(&mut self.seen.lock());
        self.changed.notify_all();
    }

    /// Blocks until it is so: for ever, if the host forgets somebody.
    fn wait_until(&self, so: impl Fn(&Seen) -> bool) {
        let mut seen = self.seen.lock();
        while !so(&seen) {
            self.changed.wait(&mut seen);
        }
    }
}

/// How a request of the kernel is answered here.
struct Answer {
    id: u64,
    board: Arc<Board>,
    /// An inode of which the kernel must have been told before.
    after: Option<Ino>,
}

impl Answer {
    fn new(id: u64, board: &Arc<Board>, op: &Operation) -> Answer {
        let after = match op {
            Operation::StatFs { ino } => Some(*ino),
            _ => None,
        };
        Answer { id, board: board.clone(), after }
    }
}

impl Respond for Answer {
    fn respond(self, _: Reply) -> Vec<Operation> {
        self.board.note(|seen| {
            *seen.answers.entry(self.id).or_default() += 1;
            seen.early += u32::from(self.after.is_some_and(|ino| !seen.told.contains_key(&ino.0)));
        });
        Vec::new()
    }
}

/// The kernel, when it is told something. That takes its time, and of a range until a request of
/// [`wait_told`] was answered.
struct Kernel(Arc<Board>);

impl Notify for Kernel {
    fn notify(&self, notification: &Notification) -> io::Result<()> {
        let Notification::Inode { ino, offset, .. } = notification else { return Ok(()) };
        match offset {
            ..0 => thread::yield_now(),
            _ => self.0.wait_until(|seen| seen.answers.contains_key(&TOLD)),
        }
        self.0.note(|seen| *seen.told.entry(ino.0).or_default() += 1);
        Ok(())
    }
}

/// A host whose store syncs only after a certain request was answered.
fn host(board: &Arc<Board>, readers: usize, sync_after: Option<u64>) -> Arc<TestHost> {
    let host = host_alone(board, readers, sync_after);
    host.notify_through(Kernel(board.clone())).expect("threads are to be had");
    host
}

/// The same, and there is no kernel to tell.
fn host_alone(board: &Arc<Board>, readers: usize, sync_after: Option<u64>) -> Arc<TestHost> {
    let store = Arc::new(SlowStore { board: board.clone(), sync_after });
    let stores = Stores { kv: store.clone(), pages: store };
    let host = Host::start(Puppet::default(), stores).expect("threads are to be had");
    host.readers(readers);
    host
}

/// Threads that take requests out of the kernel's queue until it is empty.
fn read(
    host: &Arc<TestHost>,
    board: &Arc<Board>,
    readers: usize,
    queue: Vec<(u64, Operation)>,
) -> Vec<thread::JoinHandle<()>> {
    let queue = Arc::new(Mutex::new(VecDeque::from(queue)));
    let reader = |_| {
        let (host, board, queue) = (host.clone(), board.clone(), queue.clone());
        thread::spawn(move || {
            loop {
                let Some((id, op)) = queue.lock().pop_front() else { return };
                let answer = Answer::new(id, &board, &op);
                let request = Request { caller: Caller::default(), op };
                host.request(RequestId(id), request, answer);
            }
        })
    };
    (0..readers).map(reader).collect()
}

const FILE: Ino = Ino(5);
const OPEN: Handle = Handle(1);
/// A request of [`wait_told`].
const TOLD: u64 = 20;

fn at_once(ino: u64) -> Operation {
    Operation::GetAttr { ino: Ino(ino), handle: None }
}

/// The kernel is told first.
fn wait_told(ino: u64) -> Operation {
    Operation::StatFs { ino: Ino(ino) }
}

/// The kernel is told first, of pages.
fn range_told() -> Operation {
    Operation::OpenDir { ino: FILE }
}

fn in_time() -> Operation {
    Operation::Flush { ino: FILE, handle: OPEN }
}

fn sync() -> Operation {
    Operation::Fsync { ino: FILE, handle: OPEN, datasync: false }
}

fn page(offset: u64) -> Operation {
    Operation::Read { ino: FILE, handle: OPEN, offset, len: 1 }
}

/// Requests of every kind, and somebody who gives up on some of them.
fn everybody_is_answered_once() {
    let board = Board::new();
    let host = host(&board, 2, None);
    let ops = [at_once(7), sync(), in_time(), page(0), in_time(), at_once(8), page(1), sync()];
    let count = ops.len() as u64;
    let queue = ops.into_iter().zip(1..).map(|(op, n)| (2 * n, op)).collect();
    let readers = read(&host, &board, 2, queue);
    let impatient = {
        let host = host.clone();
        thread::spawn(move || [4, 10].into_iter().for_each(|id| host.interrupt(RequestId(id))))
    };
    board.wait_until(|seen| {
        seen.answers.len() as u64 == count
            && seen.told.contains_key(&7)
            && seen.told.contains_key(&8)
    });
    for reader in readers {
        reader.join().expect("no reader panicked");
    }
    impatient.join().expect("it did not panic");
    host.stop();
    let seen = board.seen.lock();
    assert!(seen.answers.values().all(|times| *times == 1), "{:?}", seen.answers);
    assert!(host.inner.lock().waiting.is_empty(), "somebody still waits");
}

/// A sync that ends only when a later request was answered: some reader must be there to read it.
fn a_reader_is_always_free() {
    let board = Board::new();
    let host = host(&board, 2, Some(8));
    let queue = vec![(2, sync()), (4, sync()), (6, page(0)), (8, at_once(7))];
    let readers = read(&host, &board, 2, queue);
    board.wait_until(|seen| seen.answers.len() == 4);
    for reader in readers {
        reader.join().expect("no reader panicked");
    }
    host.stop();
}

/// A stop amid everything: no thread stays.
fn a_stop_ends_every_thread() {
    let board = Board::new();
    let host = host(&board, 2, None);
    let queue = vec![
        (2, in_time()),
        (4, page(0)),
        (6, sync()),
        (8, at_once(7)),
        (TOLD, wait_told(8)),
        (10, page(1)),
    ];
    let readers = read(&host, &board, 2, queue);
    host.stop();
    for reader in readers {
        reader.join().expect("no reader panicked");
    }
    let seen = board.seen.lock();
    assert!(seen.answers.values().all(|times| *times == 1), "{:?}", seen.answers);
    assert!(seen.answers.contains_key(&TOLD), "who waits for the kernel is never forgotten");
}

/// The kernel takes its time to forget: the answer comes after that, and waits for no page.
fn an_answer_comes_when_the_kernel_was_told() {
    let board = Board::new();
    let host = host(&board, 2, None);
    let queue = vec![(2, range_told()), (TOLD, wait_told(7)), (4, wait_told(7)), (6, wait_told(8))];
    let readers = read(&host, &board, 2, queue);
    board.wait_until(|seen| seen.answers.len() == 4);
    for reader in readers {
        reader.join().expect("no reader panicked");
    }
    host.stop();
    let seen = board.seen.lock();
    assert_eq!(seen.early, 0, "answers before the kernel was told");
    assert!(seen.answers.values().all(|times| *times == 1), "{:?}", seen.answers);
}

/// Before there is a kernel, and after it.
fn nobody_waits_for_a_kernel_that_is_not_there() {
    let board = Board::new();
    let host = host_alone(&board, 1, None);
    for id in [2, 4] {
        let op = wait_told(7);
        let answer = Answer::new(id, &board, &op);
        host.request(RequestId(id), Request { caller: Caller::default(), op }, answer);
        assert!(board.seen.lock().answers.contains_key(&id), "{id}");
        host.stop();
    }
}

/// Times that are called off while the alarm goes off, and others that come up at that moment.
fn no_time_is_missed() {
    let board = Board::new();
    let host = host(&board, 1, None);
    for round in 0..3 {
        let (off, on) = (4 * round + 2, 4 * round + 4);
        let ask = |id| {
            let answer = Answer::new(id, &board, &in_time());
            let request = Request { caller: Caller::default(), op: in_time() };
            host.request(RequestId(id), request, answer);
        };
        ask(off);
        host.interrupt(RequestId(off));
        ask(on);
        board.wait_until(|seen| seen.answers.contains_key(&off) && seen.answers.contains_key(&on));
    }
    host.stop();
    let seen = board.seen.lock();
    assert!(seen.answers.values().all(|times| *times == 1), "{:?}", seen.answers);
}

#[cfg(not(feature = "shuttle"))]
mod real {
    /// With real threads; worth most under ThreadSanitizer (`ci/sanitize`).
    #[test]
    fn everybody_is_answered_once() {
        (0..200).for_each(|_| super::everybody_is_answered_once());
    }

    #[test]
    fn a_reader_is_always_free() {
        (0..200).for_each(|_| super::a_reader_is_always_free());
    }

    #[test]
    fn a_stop_ends_every_thread() {
        (0..200).for_each(|_| super::a_stop_ends_every_thread());
    }

    #[test]
    fn an_answer_comes_when_the_kernel_was_told() {
        (0..200).for_each(|_| super::an_answer_comes_when_the_kernel_was_told());
    }

    #[test]
    fn nobody_waits_for_a_kernel_that_is_not_there() {
        super::nobody_waits_for_a_kernel_that_is_not_there();
    }

    #[test]
    fn no_time_is_missed() {
        (0..200).for_each(|_| super::no_time_is_missed());
    }
}

#[cfg(feature = "shuttle")]
mod shuttled;
