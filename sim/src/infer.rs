//! Changes that were never answered, and happened: found out from what others saw of them.
//!
//! A process that is killed leaves requests unanswered. Each may have taken effect with one of the
//! commits that the store made for nobody's answer, and others may have seen it before the kill. When an
//! answer has no explanation, this tries unanswered changes at those commits.

use vellum_core::id::{Handle, Ino, RequestId};
use vellum_core::port::Point;
use vellum_core::port::kernel::{Attr, Entry, Opened, Operation, Reply};
use vellum_core::port::meta_kv::Commit;
use vellum_core::time::WallTime;

use crate::check::{Judge, Mercy, Timeline, is_change};
use crate::history::{CommitOrder, Epoch, Place, Record, Unanswered};
use crate::invariants::limits::needs;
use crate::times::Span;
use crate::world::{Failure, Outcome};

/// Unanswered changes of one life that are found out at most.
const DEPTH: usize = 4;

impl Judge {
    /// [`Judge::judge`] of a life; unanswered changes that explain what others saw become records. Of
    /// several explanations the first is taken, after so many that are left out.
    ///
    /// # Errors
    /// The first answer that nothing (else) explains.
    pub fn judge_life(
        &mut self,
        epoch: &mut Epoch,
        order: &CommitOrder,
        mercy: Mercy,
        mut left_out: usize,
    ) -> Outcome<Timeline> {
        self.lost_reads = lost_reads(epoch);
        self.lost_writes = lost_writes(epoch);
        let lost = epoch.unanswered.iter();
        self.lost_promises = lost.map(|lost| (lost.asked, needs(&lost.op).bytes)).collect();
        let mut attempt = self.clone();
        let first = match attempt.judge(&epoch.records, order, mercy) {
            Ok(timeline) if left_out == 0 => {
                *self = attempt;
                return Ok(timeline);
            }
            Ok(_) => return Err(Failure::new("explanation", "there is only one")),
            Err(failure) => failure,
        };
        let mut failure = first.clone();
        for _ in 0..DEPTH {
            match self.explain_by_one(epoch, order, mercy, &failure, &mut left_out) {
                Some(Ok((judge, timeline))) => {
                    *self = judge;
                    return Ok(timeline);
                }
                Some(Err(later)) => failure = later,
                None => break,
            }
        }
        Err(first)
    }

    /// Tries each unanswered change at each commit: success, or a failure that lies later. The change
    /// that helped is among the records then.
    fn explain_by_one(
        &self,
        epoch: &mut Epoch,
        order: &CommitOrder,
        mercy: Mercy,
        failure: &Failure,
        left_out: &mut usize,
    ) -> Option<Outcome<(Judge, Timeline)>> {
        let mut best: Option<(Failure, Record, usize)> = None;
        for index in 0..epoch.unanswered.len() {
            let change = epoch.unanswered[index].clone();
            let write = matches!(change.op, Operation::Write { .. });
            if !is_change(&change.op) || write {
                continue;
            }
            let commits = order.between(change.asked, failure.place);
            let commits: Vec<(Commit, Place)> =
                commits.filter(|(c, _)| !is_taken(epoch, *c)).collect();
            for (commit, place) in commits {
                let span = Span::new(change.wall, epoch.ended);
                epoch.records.push(inferred(&change, commit, place, failure.stranger, span));
                let mut attempt = self.clone();
                let result = attempt.judge(&epoch.records, order, mercy);
                let record = epoch.records.pop().expect("just pushed");
                match result {
                    Ok(_) if *left_out > 0 => *left_out -= 1,
                    Ok(timeline) => {
                        epoch.records.push(record);
                        epoch.unanswered.remove(index);
                        return Some(Ok((attempt, timeline)));
                    }
                    // One answer can show several of them, such as a listing.
                    Err(later)
                        if later.progress()
                            > best.as_ref().map_or(failure, |b| &b.0).progress() =>
                    {
                        best = Some((later, record, index));
                    }
                    Err(_) => {}
                }
            }
        }
        let (later, record, index) = best?;
        epoch.records.push(record);
        epoch.unanswered.remove(index);
        Some(Err(later))
    }
}

/// Whether an answer says that it took effect with this commit.
fn is_taken(epoch: &Epoch, commit: Commit) -> bool {
    epoch.records.iter().any(|r| r.point == Point::Commit(commit))
}

/// The record that the change would have had; of its answer only the inode number counts.
fn inferred(
    change: &Unanswered,
    commit: Commit,
    place: Place,
    ino: Option<Ino>,
    span: Span,
) -> Record {
    let entry = Entry {
        attr: ino.map(number_only),
        entry_valid: Default::default(),
        attr_valid: Default::default(),
    };
    let reply = match change.op {
        Operation::Create { .. } | Operation::TmpFile { .. } => {
            let handle = Handle(u64::MAX);
            let opened = Opened {
                handle,
                keep_cache: false,
                direct_io: false,
                cache_dir: false,
                no_flush: false,
            };
            Reply::Created { entry, opened }
        }
        Operation::MkNod { .. } | Operation::MkDir { .. } | Operation::Symlink { .. } => {
            Reply::Entry(entry)
        }
        _ => Reply::Done,
    };
    Record {
        id: RequestId(0),
        caller: change.caller,
        op: change.op.clone(),
        wall: change.wall,
        asked: change.asked,
        answered: place,
        span,
        reply,
        point: Point::Commit(commit),
        interrupted: false,
        inferred: true,
    }
}

/// Reads that were never answered, with what the clock said while they could move access times.
fn lost_reads(epoch: &Epoch) -> Vec<(Ino, Place, Span)> {
    let reads = epoch.unanswered.iter().filter_map(|lost| match lost.op {
        Operation::Read { ino, .. }
        | Operation::ReadDir { ino, .. }
        | Operation::ReadLink { ino } => Some((ino, lost.asked, Span::new(lost.wall, epoch.ended))),
        _ => None,
    });
    reads.collect()
}

/// Writes that were never answered, with what the clock said while they could change anything.
fn lost_writes(epoch: &Epoch) -> Vec<(Ino, Place, Span)> {
    let writes = epoch.unanswered.iter().filter_map(|lost| match lost.op {
        Operation::Write { ino, .. } => Some((ino, lost.asked, Span::new(lost.wall, epoch.ended))),
        _ => None,
    });
    writes.collect()
}

fn number_only(ino: Ino) -> Attr {
    let time = WallTime::default();
    Attr {
        ino,
        mode: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        size: 0,
        blocks: 0,
        atime: time,
        mtime: time,
        ctime: time,
        btime: time,
    }
}
