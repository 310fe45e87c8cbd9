//! What happened, as the callers saw it: the input of the checker.

use vellum_core::id::RequestId;
use vellum_core::port::Point;
use vellum_core::port::kernel::{Caller, Operation, Reply};
use vellum_core::port::meta_kv::{Commit, Version};
use vellum_core::time::WallTime;

use crate::times::Span;

/// A place in the one order of events of a run: commits as the store applied them, requests as they
/// were handed in, answers as they were given. Every event has its own place.
pub type Place = u64;

/// A request and its answer.
#[derive(Debug)]
pub struct Record {
    /// Its id.
    pub id: RequestId,
    /// Who asked.
    pub caller: Caller,
    /// What was asked.
    pub op: Operation,
    /// What the clock said then.
    pub wall: WallTime,
    /// When it was handed in.
    pub asked: Place,
    /// When it was answered.
    pub answered: Place,
    /// What the clock said while it was under way.
    pub span: Span,
    /// What was answered.
    pub reply: Reply,
    /// Where the machine says that the answer belongs.
    pub point: Point,
    /// A signal was sent for it.
    pub interrupted: bool,
    /// It was never answered; that it happened was inferred from what others saw.
    pub inferred: bool,
}

impl Record {
    /// Whether it succeeded.
    pub fn succeeded(&self) -> bool {
        !matches!(self.reply, Reply::Error(_))
    }
}

/// A request that was never answered, because the process ended.
#[derive(Clone, Debug)]
pub struct Unanswered {
    /// Who asked.
    pub caller: Caller,
    /// What was asked.
    pub op: Operation,
    /// What the clock said then.
    pub wall: WallTime,
    /// When it was handed in.
    pub asked: Place,
}

/// Where the store applied each commit.
#[derive(Clone, Debug, Default)]
pub struct CommitOrder(Vec<(Commit, Place)>);

impl CommitOrder {
    /// The store applied a commit.
    pub fn push(&mut self, commit: Commit, place: Place) {
        debug_assert!(self.0.last().is_none_or(|(last, at)| *last < commit && *at < place));
        self.0.push((commit, place));
    }

    /// Every commit between two places.
    pub fn between(&self, after: Place, before: Place) -> impl Iterator<Item = (Commit, Place)> {
        self.0.iter().copied().filter(move |(_, at)| *at > after && *at < before)
    }

    /// Where a commit was applied, if ever.
    pub fn of(&self, commit: Commit) -> Option<Place> {
        self.0.binary_search_by_key(&commit, |(c, _)| *c).ok().map(|i| self.0[i].1)
    }

    /// Where the last commit at or below a version was applied; 0 if there is none.
    pub fn at(&self, version: Version) -> Place {
        let after = self.0.partition_point(|(c, _)| c.version <= version);
        after.checked_sub(1).map_or(0, |i| self.0[i].1)
    }

    /// Forgets the commits after `cut`, which a crash lost, and says where the cut is.
    pub fn cut(&mut self, cut: Commit) -> Place {
        let after = self.0.partition_point(|(c, _)| *c <= cut);
        self.0.truncate(after);
        self.0.last().map_or(0, |(_, at)| *at)
    }
}

impl Epoch {
    /// Takes back what was inferred: these requests were never answered.
    pub fn forget_inferred(&mut self, unanswered: &[Unanswered]) {
        self.records.retain(|record| !record.inferred);
        self.unanswered = unanswered.to_vec();
    }
}

/// One life of a mount: from a known state to a crash, an unmount or the end.
#[derive(Debug, Default)]
pub struct Epoch {
    /// Answered requests in the order of their answers.
    pub records: Vec<Record>,
    /// Requests that were never answered.
    pub unanswered: Vec<Unanswered>,
    /// What the clock said at its end.
    pub ended: WallTime,
    /// Moments at which everything answered before `asked` was promised to be durable.
    pub synced: Vec<Place>,
}
