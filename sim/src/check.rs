//! The judge: replays a life of the mount in the order of its commits and compares every answer.
//!
//! Owns: what counts as right. Never does: running anything.
//! - A change that succeeded takes effect at its point: its commit, or the step that answered it. The
//!   point lies between request and answer, and the model must do the same there.
//! - A failure, a read, a lookup, a listing matches some state between request and answer, at best the
//!   one its point names. Size and the rest of the attributes may come from two such states.
//! - A listing from start to end names each entry that stood throughout exactly once.
//! - Times: `times.rs`; and ctime never goes back while a mount lives.

use std::collections::BTreeMap;
use vellum_core::id::Ino;
use vellum_core::port::control::Limit;
use vellum_core::port::kernel::{Attr, Entry, Operation, Reply, SetTime};
use vellum_model::Time;

use crate::claims::{
    ALL, CORE, Claim, LINKS, RESULT, SIZE, What, claims, describe, holds, stranger,
};
use crate::history::{CommitOrder, Place, Record};
pub use crate::invariants::order::place_changes;
use crate::invariants::{change_time, listing};
use crate::observe::Observed;
use crate::replay::{Change, Mirror, Usage, as_answered};
use crate::shed;
use crate::times::{Shown, Span, Stamp, Times};
use crate::world::{Failure, Outcome, brief};

/// What the run allows beyond the rules.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mercy {
    /// A bucket of names may be full.
    pub tiny_hash: bool,
    /// The kernel serialised changes of one inode.
    pub kernel_locks: bool,
    /// Data may be refused or unreadable.
    pub data_may_fail: bool,
    /// The civil clock jumped, and said everything between these.
    pub clock_hull: Option<Span>,
    /// What the volume may hold.
    pub limit: Limit,
    /// What an earlier life may have left behind.
    pub garbage: Usage,
}

/// What is known about the filesystem, and when what was promised to be durable.
#[derive(Clone, Debug)]
pub struct Judge {
    /// The state at the beginning of the present life of the mount.
    pub mirror: Mirror,
    /// The times of every inode.
    pub times: BTreeMap<Ino, Times>,
    /// Reads of this life that were never answered; they may have moved access times all the same.
    pub lost_reads: Vec<(Ino, Place, Span)>,
    /// Writes of this life that were never answered; they may have taken set-id bits all the same.
    pub lost_writes: Vec<(Ino, Place, Span)>,
    /// Bytes that requests of this life that were never answered may have been promised.
    pub lost_promises: Vec<(Place, u64)>,
    /// What the lives before may have left to reclaim.
    pub garbage: Usage,
}

/// A change in its place.
#[derive(Debug)]
pub struct Placed<'a> {
    /// Where it took effect.
    pub place: Place,
    /// The request.
    pub record: &'a Record,
}

/// What a replay found out, for the checks after a crash.
#[derive(Debug, Default)]
pub struct Timeline {
    /// Changes of the names, attributes or contents of an inode, in order.
    pub changes: Vec<(Place, Vec<Ino>)>,
}

impl Judge {
    /// Starts from what was found on a volume.
    pub fn new(found: &Observed) -> Judge {
        Judge {
            mirror: found.mirror(),
            times: found.times(),
            lost_reads: Vec::new(),
            lost_writes: Vec::new(),
            lost_promises: Vec::new(),
            garbage: Usage::default(),
        }
    }

    /// Replays a life and compares every answer; afterwards the judge is at its end.
    ///
    /// # Errors
    /// The first answer that no state explains.
    pub fn judge(
        &mut self,
        records: &[Record],
        order: &CommitOrder,
        mercy: Mercy,
    ) -> Outcome<Timeline> {
        let changes = place_changes(records, order)?;
        let places: Vec<Place> = changes.iter().map(|c| c.place).collect();
        let start = self.mirror.clone();
        let mut timeline = Timeline::default();
        let states = self.replay(records, &changes, &mut timeline)?;
        self.note_touches(records);
        let mut claims = claims(records, order, &places, &self.lost_promises, mercy.kernel_locks);
        // Most answers are true at their point: one replay tells.
        self.walk(start.clone(), &changes, &mut claims, mercy, |claim| (claim.best, claim.best));
        claims.retain(|c| c.seen != ALL);
        for with_shed in [false, true] {
            // Only then what a write under way takes before it takes effect.
            if with_shed && !claims.is_empty() {
                shed::note(&mut claims, start.clone(), &changes, records, &self.lost_writes);
            }
            self.walk(start.clone(), &changes, &mut claims, mercy, |claim| {
                (claim.first, claim.last)
            });
            claims.retain(|c| c.seen != ALL);
        }
        if let Some(claim) =
            claims.iter().filter(|c| c.seen != ALL).min_by_key(|c| c.record.answered)
        {
            let open = claims.iter().filter(|c| c.record.answered == claim.record.answered).count();
            return Err(Failure { open, ..self.explain(claim, start, &changes) });
        }
        let each_holds = |failure| Failure { open: 0, ..failure };
        self.judge_times(records, mercy).map_err(each_holds)?;
        change_time::check(records).map_err(each_holds)?;
        listing::check(start, &changes, records, &places).map_err(each_holds)?;
        self.mirror = states;
        Ok(timeline)
    }

    /// Makes all changes in order, notes stamps and new inodes, and returns the final state.
    fn replay(
        &mut self,
        records: &[Record],
        changes: &[Placed<'_>],
        timeline: &mut Timeline,
    ) -> Outcome<Mirror> {
        let mut mirror = self.mirror.clone();
        for (index, change) in changes.iter().enumerate() {
            let tag = tag(index);
            let answer = reply_attr(&change.record.reply).map(|a| a.ino);
            let mut op = as_answered(&change.record.op, &change.record.reply);
            if let Operation::SetXattr { ino, name, flags: flags @ 1, .. } = &mut op
                && name[..] == *shed::CAPABILITY
            {
                let (before, lost) = (&changes[..index], &self.lost_writes);
                if shed::took_capability(*ino, before, change.place, records, lost) {
                    *flags = 0;
                }
            }
            let done =
                mirror.apply_answered(&op, change.record.caller, answer, tag).map_err(|error| {
                    let text = format!(
                        "{} succeeded at place {} ({:?}, {}..={}) where the model says {error:?}",
                        brief(&change.record.op),
                        change.place,
                        change.record.point,
                        change.record.asked,
                        change.record.answered
                    );
                    let stranger = stranger(&mirror, change.record);
                    let place = change.place;
                    Failure { place, stranger, ..Failure::new("impossible-success", text) }
                })?;
            self.note_change(&mut mirror, change, &done, tag)
                .map_err(|failure| Failure { place: change.place, ..failure })?;
            let touched = done.touched.iter().filter_map(|n| mirror.ino(*n)).collect();
            timeline.changes.push((change.place, touched));
        }
        let broken = mirror.fs.check();
        if !broken.is_empty() {
            return Err(Failure::new("model-sound", broken.join("; ")));
        }
        Ok(mirror)
    }

    fn note_change(
        &mut self,
        mirror: &mut Mirror,
        change: &Placed<'_>,
        done: &Change,
        tag: Time,
    ) -> Outcome<()> {
        let record = change.record;
        if let Some(made) = done.made {
            match reply_attr(&record.reply) {
                Some(attr) => {
                    if mirror.nodes.insert(attr.ino, made).is_some() {
                        let text = format!("{} made {} again", brief(&record.op), attr.ino);
                        return Err(Failure::new("ino-reused", text));
                    }
                    self.times.insert(attr.ino, Times::born(record.span));
                }
                // Nobody has seen its number.
                None if record.inferred => {}
                None => {
                    let text = format!("{} = {}", brief(&record.op), brief(&record.reply));
                    return Err(Failure::new("reply-shape", text));
                }
            }
        }
        if let (Some((_, count)), Reply::Written(said)) = (done.written, &record.reply)
            && count != u64::from(*said)
        {
            return Err(Failure::new(
                "write-count",
                format!("{} = {said}, not {count}", brief(&record.op)),
            ));
        }
        if let (Some((_, count)), Reply::Copied(said)) = (done.written, &record.reply)
            && count != *said
        {
            return Err(Failure::new(
                "copy-count",
                format!("{} = {said}, there were {count}", brief(&record.op)),
            ));
        }
        for node in &done.touched {
            let Some(ino) = mirror.ino(*node) else { continue };
            let Ok(attr) = mirror.fs.getattr(*node) else { continue };
            let Some(times) = self.times.get_mut(&ino) else { continue };
            for stamp in stamps(record, ino, &attr, tag) {
                times.stamp(change.place, stamp);
            }
        }
        Ok(())
    }

    fn note_touches(&mut self, records: &[Record]) {
        for record in records {
            if let Operation::Write { ino, .. } = &record.op
                && let Some(times) = self.times.get_mut(ino)
            {
                times.shed(record.asked, record.span);
            }
            let (Operation::Read { ino, .. }
            | Operation::ReadDir { ino, .. }
            | Operation::ReadLink { ino }) = &record.op
            else {
                continue;
            };
            if let Some(times) = self.times.get_mut(ino) {
                times.touch(record.asked, record.answered, record.span);
            }
        }
        for (ino, asked, span) in &self.lost_writes {
            if let Some(times) = self.times.get_mut(ino) {
                times.shed(*asked, *span);
            }
        }
        for (ino, asked, span) in &self.lost_reads {
            if let Some(times) = self.times.get_mut(ino) {
                times.touch(*asked, Place::MAX, *span);
            }
        }
    }

    /// Goes through all states and tries the claims in theirs.
    fn walk(
        &self,
        mut mirror: Mirror,
        changes: &[Placed<'_>],
        claims: &mut [Claim<'_>],
        mercy: Mercy,
        range: impl Fn(&Claim<'_>) -> (usize, usize),
    ) {
        claims.sort_by_key(|c| range(c).0);
        let mut next = 0;
        let mut active: Vec<usize> = Vec::new();
        for state in 0..=changes.len() {
            while next < claims.len() && range(&claims[next]).0 == state {
                active.push(next);
                next += 1;
            }
            active.retain(|index| {
                let claim = &mut claims[*index];
                claim.seen |= holds(&mirror, claim, mercy);
                claim.seen != ALL && range(claim).1 > state
            });
            if active.is_empty() && next == claims.len() {
                return;
            }
            if let Some(change) = changes.get(state) {
                redo(&mut mirror, change, state);
            }
        }
    }

    fn explain(&self, claim: &Claim<'_>, mut mirror: Mirror, changes: &[Placed<'_>]) -> Failure {
        let record = claim.record;
        let unknown = match claim.what {
            What::Entry(_, entry) => Some(entry.ino),
            _ => None,
        };
        let mut text = format!(
            "{:?} {} = {} at {:?}, asked at {}, answered at {}",
            record.id,
            brief(&record.op),
            brief(&record.reply),
            record.point,
            record.asked,
            record.answered
        );
        if let What::Entry(_, entry) = claim.what {
            text.push_str(&format!("\n  the entry {:?} -> {}", entry.name, entry.ino));
        }
        text.push_str("\n  what the model has between them:");
        for state in 0..=changes.len() {
            if state >= claim.first && state <= claim.last {
                text.push_str(&format!("\n    {}", describe(&mirror, record)));
            }
            if let Some(change) = changes.get(state) {
                if state >= claim.first && state < claim.last {
                    text.push_str(&format!(
                        "\n    then at {} {}",
                        change.place,
                        brief(&change.record.op)
                    ));
                }
                redo(&mut mirror, change, state);
            }
        }
        let unknown = match unknown {
            Some(ino) if mirror.nodes.contains_key(&ino) => None,
            Some(ino) => Some(ino),
            None => stranger(&mirror, record),
        };
        let missing = [(RESULT, "result"), (CORE, "attributes"), (SIZE, "size"), (LINKS, "links")];
        let missing: Vec<&str> =
            missing.iter().filter(|(b, _)| claim.seen & b == 0).map(|(_, n)| *n).collect();
        text.push_str(&format!("\n  never true: {}", missing.join(", ")));
        let rule = match (&record.reply, &claim.what) {
            (Reply::Error(_), _) => "unexplained-error",
            (_, What::Entry(..)) => "listing-entry",
            (Reply::Data(_), _) => "read-data",
            _ if claim.seen & RESULT == 0 => "result",
            _ => "attributes",
        };
        Failure { place: record.answered, stranger: unknown, ..Failure::new(rule, text) }
    }

    fn judge_times(&self, records: &[Record], mercy: Mercy) -> Outcome<()> {
        for record in records.iter().filter(|r| !r.inferred) {
            for attr in attrs_in(&record.reply) {
                let Some(times) = self.times.get(&attr.ino) else { continue };
                let wrong = match mercy.clock_hull {
                    Some(hull) => times.judge_roughly(shown(&attr), &[hull]),
                    None => times.judge(shown(&attr), record.asked, record.answered),
                };
                if let Some(wrong) = wrong {
                    let text = format!(
                        "{:?} {} of {} asked at {}, answered at {}: {wrong}\n  {times:?}",
                        record.id,
                        brief(&record.op),
                        attr.ino,
                        record.asked,
                        record.answered
                    );
                    let place = record.answered;
                    return Err(Failure { place, ..Failure::new("times", text) });
                }
            }
        }
        Ok(())
    }
}

/// All attributes in an answer.
pub(crate) fn attrs_in(reply: &Reply) -> Vec<Attr> {
    match reply {
        Reply::Entries(entries) => {
            entries.iter().filter_map(|e| e.entry.and_then(|e| e.attr)).collect()
        }
        reply => reply_attr(reply).into_iter().copied().collect(),
    }
}

/// The times that an answer shows.
pub fn shown(attr: &Attr) -> Shown {
    Shown { atime: attr.atime, mtime: attr.mtime, ctime: attr.ctime, btime: attr.btime }
}

/// Whether a request is meant to change something.
pub fn is_change(op: &Operation) -> bool {
    matches!(
        op,
        Operation::SetAttr { .. }
            | Operation::Symlink { .. }
            | Operation::MkNod { .. }
            | Operation::MkDir { .. }
            | Operation::Unlink { .. }
            | Operation::RmDir { .. }
            | Operation::Rename { .. }
            | Operation::Link { .. }
            | Operation::Create { .. }
            | Operation::TmpFile { .. }
            | Operation::SetXattr { .. }
            | Operation::RemoveXattr { .. }
            | Operation::Fallocate { .. }
            | Operation::CopyRange { .. }
            | Operation::Write { .. }
    )
}

/// Whether a change is one of a file's content only.
pub fn is_of_content(op: &Operation) -> bool {
    let data = matches!(op, Operation::Write { .. } | Operation::Fallocate { .. });
    data || matches!(op, Operation::CopyRange { .. })
}

/// A time that only one change of a life has.
fn tag(index: usize) -> Time {
    Time::new((1 << 50) + index as i64, 0)
}

/// Makes a change again that was made before.
pub fn redo(mirror: &mut Mirror, change: &Placed<'_>, index: usize) {
    let answer = reply_attr(&change.record.reply).map(|a| a.ino);
    let mut op = as_answered(&change.record.op, &change.record.reply);
    if let Operation::SetXattr { flags, .. } = &mut op {
        // That there was none may be the work of a write, and those are left out where names are compared.
        *flags = 0;
    }
    let done = mirror
        .apply_answered(&op, change.record.caller, answer, tag(index))
        .expect("it worked the first time");
    if let (Some(made), Some(attr)) = (done.made, reply_attr(&change.record.reply)) {
        mirror.nodes.insert(attr.ino, made);
    }
}

/// What an operation did to the times of one node that it touched.
fn stamps(record: &Record, ino: Ino, after: &vellum_model::Attr, tag: Time) -> Vec<Stamp> {
    let (wall, span) = (record.wall, record.span);
    let mut stamps = Vec::new();
    if let Operation::SetAttr { ino: whose, set, .. } = &record.op
        && *whose == ino
    {
        if set.size.is_some() && after.ctime == tag {
            stamps.push(Stamp::Modified(span));
        }
        match set.mtime {
            Some(SetTime::Now) => stamps.push(Stamp::SetModified(span)),
            Some(SetTime::At(at)) if at > wall => stamps.push(Stamp::SetFuture(at)),
            Some(SetTime::At(at)) => stamps.push(Stamp::SetModified(Span::at(at))),
            None => {}
        }
        match set.atime {
            Some(SetTime::Now) => stamps.push(Stamp::SetAccessed(span, record.asked)),
            Some(SetTime::At(at)) => stamps.push(Stamp::SetAccessed(Span::at(at), record.asked)),
            None => {}
        }
        if after.ctime == tag {
            stamps.push(Stamp::Changed(span));
        }
        return stamps;
    }
    if after.mtime == tag {
        stamps.push(Stamp::Modified(span));
    } else if after.ctime == tag {
        stamps.push(Stamp::Changed(span));
    }
    stamps
}

/// The attributes in an answer.
pub fn reply_attr(reply: &Reply) -> Option<&Attr> {
    match reply {
        Reply::Attr { attr, .. } => Some(attr),
        Reply::Entry(Entry { attr, .. }) | Reply::Created { entry: Entry { attr, .. }, .. } => {
            attr.as_ref()
        }
        _ => None,
    }
}
