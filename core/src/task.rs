//! Operations in flight: futures that are polled by hand, without a runtime.
//!
//! A task asks the machine for one thing at a time through its mailbox ([`Cx::ask`]) and is polled
//! again when the answer is there. There are no wakers: the machine knows who waits for what.
//! Owns: mailboxes. Never does: effects (the machine turns an [`Ask`] into one).

use crate::error::{FsError, FsResult};
use crate::id::Ino;
use crate::meta::record::Pair;
use crate::port::control::{CheckProgress, ScrubReport};
use crate::port::kernel::Notification;
use crate::port::meta_kv::{KvError, KvReply, KvRequest};
use crate::port::page_store::{PageError, PageReply, PageRequest};
use alloc::sync::Arc;
use alloc::vec::Vec;
use atomic_refcell::AtomicRefCell;
use core::future::Future;
use core::ops::Range;
use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;

/// What a task wants of its machine.
#[derive(Debug)]
pub enum Ask {
    /// The metadata store. Told by [`Told::Kv`].
    Kv(KvRequest),
    /// The page store, several requests at once. Told by [`Told::Pages`].
    Pages(Vec<PageRequest>),
    /// Time to pass. Told by [`Told::Done`].
    Sleep(Duration),
    /// The kernel to have forgotten something. Told by [`Told::Done`].
    Notify(Notification),
    /// The buffered writes of an inode committed. Told by [`Told::Settled`].
    Settle(Ino),
    /// The buffered writes of all inodes on their way. Told by [`Told::Dirty`].
    SettleAll,
    /// Everything committed so far durable. Told by [`Told::Kv`].
    Sync,
    /// The callers to have their share, in the midst of compaction. Told by [`Told::Done`].
    Pace,
    /// How far a scrub is to be known. Told by [`Told::Done`].
    Scrubbed(ScrubReport),
    /// How far a check is to be known. Told by [`Told::Done`].
    Progress(CheckProgress),
    /// How many committed bytes of a data generation are visible in a range. Told by [`Told::Visible`].
    Visible {
        /// Whose.
        ino: Ino,
        /// Data generation.
        generation: u64,
        /// Where in the file.
        range: Range<u64>,
    },
}

/// What it is told.
#[derive(Debug)]
pub enum Told {
    /// By the metadata store.
    Kv(Result<KvReply, KvError>),
    /// By the page store, one answer per request, in their order.
    Pages(Vec<Result<PageReply, PageError>>),
    /// It is done.
    Done,
    /// Whether anything had to be committed, or the write-back error.
    Settled(FsResult<bool>),
    /// The inodes that have buffered writes.
    Dirty(Vec<Ino>),
    /// So many bytes; `None` if that is not in memory.
    Visible(Option<u64>),
}

#[derive(Debug, Default)]
struct Mailbox {
    ask: Option<Ask>,
    told: Option<Told>,
    marks: u64,
    random: u64,
    conflicts: u64,
    charged: Pair,
    interrupted: bool,
    left: bool,
}

/// A task's way to its machine. Cheap to clone; all clones share one mailbox.
#[derive(Clone, Debug)]
pub struct Cx {
    mailbox: Arc<AtomicRefCell<Mailbox>>,
    slot: u32,
}

impl Cx {
    /// The context of the task in a slot. `number` is unique among the tasks of the session.
    pub(crate) fn new(slot: u32, number: u64, seed: u64) -> Cx {
        let random = (seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15)) | 1;
        let mailbox = Mailbox { marks: number << MARK_BITS, random, ..Mailbox::default() };
        Cx { mailbox: Arc::new(AtomicRefCell::new(mailbox)), slot }
    }

    /// Asks the machine and waits for the answer.
    pub async fn ask(&self, ask: Ask) -> Told {
        Exchange { cx: self, ask: Some(ask) }.await
    }

    /// Waits.
    pub async fn sleep(&self, delay: Duration) {
        self.ask(Ask::Sleep(delay)).await;
    }

    /// Waits until every write of an inode that was buffered before is committed.
    /// True when something had to be done, so that what was read before may be stale.
    pub async fn settle(&self, ino: Ino) -> FsResult<bool> {
        match self.ask(Ask::Settle(ino)).await {
            Told::Settled(result) => result,
            _ => Err(FsError::Damaged),
        }
    }

    /// The session-ledger slot of this task.
    pub(crate) fn slot(&self) -> u32 {
        self.slot
    }

    /// A mark for a commit, unique in the session.
    pub(crate) fn next_mark(&self) -> u64 {
        let mut mailbox = self.mailbox.borrow_mut();
        mailbox.marks += 1;
        mailbox.marks
    }

    /// A number below `ceiling` (not zero) that differs from task to task.
    pub(crate) fn jitter(&self, ceiling: u64) -> u64 {
        let mut mailbox = self.mailbox.borrow_mut();
        let mut x = mailbox.random;
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        mailbox.random = x;
        x % ceiling
    }

    pub(crate) fn count_conflict(&self) {
        self.mailbox.borrow_mut().conflicts += 1;
    }

    /// A commit changed the volume's counters.
    pub(crate) fn charge(&self, by: Pair) {
        let charged = &mut self.mailbox.borrow_mut().charged;
        charged.hi += by.hi;
        charged.lo += by.lo;
    }

    /// What commits changed the volume's counters by since the last call.
    pub(crate) fn take_charged(&self) -> Pair {
        core::mem::take(&mut self.mailbox.borrow_mut().charged)
    }

    /// Whether the caller gave up.
    pub(crate) fn interrupted(&self) -> bool {
        self.mailbox.borrow().interrupted
    }

    pub(crate) fn interrupt(&self) {
        self.mailbox.borrow_mut().interrupted = true;
    }

    /// Whether the caller has its answer already: it gave up while this task waited.
    pub(crate) fn left(&self) -> bool {
        self.mailbox.borrow().left
    }

    pub(crate) fn leave(&self) {
        self.mailbox.borrow_mut().left = true;
    }

    pub(crate) fn take_ask(&self) -> Option<Ask> {
        self.mailbox.borrow_mut().ask.take()
    }

    pub(crate) fn tell(&self, told: Told) {
        self.mailbox.borrow_mut().told = Some(told);
    }

    pub(crate) fn take_conflicts(&self) -> u64 {
        core::mem::take(&mut self.mailbox.borrow_mut().conflicts)
    }
}

/// Commits one task may mark.
const MARK_BITS: u32 = 24;

struct Exchange<'a> {
    cx: &'a Cx,
    ask: Option<Ask>,
}

impl Future for Exchange<'_> {
    type Output = Told;

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Told> {
        let mut mailbox = self.cx.mailbox.borrow_mut();
        if let Some(ask) = self.ask.take() {
            mailbox.ask = Some(ask);
            return Poll::Pending;
        }
        match mailbox.told.take() {
            Some(told) => Poll::Ready(told),
            None => Poll::Pending,
        }
    }
}
