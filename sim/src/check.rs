//! The judge: replays a life of the mount in the order of its commits and compares every answer.
//!
//! Owns: what counts as right. Never does: running anything.
//! - A change that succeeded takes effect at its point: its commit, or the step that answered it. The
//!   point lies between request and answer, and the model must do the same there.
//! - A failure, a read, a lookup, a listing matches some state between request and answer, at best the
//!   one its point names. Size and the rest of the attributes may come from two such states.
//! - A listing from start to end names each entry that stood throughout exactly once.
//! - Times: `times.rs`.

use std::collections::BTreeMap;
use vellum_core::id::Ino;
use vellum_core::port::Point;
use vellum_core::port::kernel::{
    Attr, DirEntry, Entry, Operation, Piece, Reply, S_IFDIR, S_IFMT, SetTime,
};
use vellum_model::{Kind, NodeId, Time};

use crate::history::{CommitOrder, Place, Record};
use crate::replay::{Change, Mirror, kind};
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
}

/// What is known about the filesystem, and when what was promised to be durable.
#[derive(Clone, Debug)]
pub struct Judge {
    /// The state at the beginning of the present life of the mount.
    pub mirror: Mirror,
    /// The times of every inode.
    pub times: BTreeMap<Ino, Times>,
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

/// Bits of what an answer says; each must hold in some state of its interval.
const RESULT: u8 = 1;
const CORE: u8 = 2;
const SIZE: u8 = 4;
const LINKS: u8 = 8;
const ALL: u8 = RESULT | CORE | SIZE | LINKS;

/// Something to be found true in a state between two.
struct Claim<'a> {
    record: &'a Record,
    what: What<'a>,
    first: usize,
    best: usize,
    last: usize,
    seen: u8,
}

enum What<'a> {
    /// The whole answer.
    Answer,
    /// The attributes in the answer of a change, after it.
    Attr(&'a Attr),
    /// An entry of a listing.
    Entry(Ino, &'a DirEntry),
}

impl Judge {
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
        let states = self.replay(&changes, &mut timeline)?;
        self.note_touches(records);
        let mut claims = claims(records, order, &places, mercy.kernel_locks);
        // Most answers are true at their point: one replay tells.
        self.walk(start.clone(), &changes, &mut claims, mercy, |claim| (claim.best, claim.best));
        claims.retain(|c| c.seen != ALL);
        if !claims.is_empty() {
            self.walk(start.clone(), &changes, &mut claims, mercy, |claim| {
                (claim.first, claim.last)
            });
        }
        if let Some(claim) =
            claims.iter().filter(|c| c.seen != ALL).min_by_key(|c| c.record.answered)
        {
            return Err(self.explain(claim, start, &changes));
        }
        self.judge_times(records, mercy)?;
        judge_listings(start, &changes, records, &places)?;
        self.mirror = states;
        Ok(timeline)
    }

    /// Makes all changes in order, notes stamps and new inodes, and returns the final state.
    fn replay(&mut self, changes: &[Placed<'_>], timeline: &mut Timeline) -> Outcome<Mirror> {
        let mut mirror = self.mirror.clone();
        for (index, change) in changes.iter().enumerate() {
            let tag = tag(index);
            let answer = reply_attr(&change.record.reply).map(|a| a.ino);
            let done = mirror
                .apply_answered(&change.record.op, change.record.caller, answer, tag)
                .map_err(|error| {
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
            self.note_change(&mut mirror, change, &done, tag)?;
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
            let Some(attr) = reply_attr(&record.reply) else {
                return Err(Failure::new(
                    "reply-shape",
                    format!("{} = {}", brief(&record.op), brief(&record.reply)),
                ));
            };
            if mirror.nodes.insert(attr.ino, made).is_some() {
                return Err(Failure::new(
                    "ino-reused",
                    format!("{} made {} again", brief(&record.op), attr.ino),
                ));
            }
            self.times.insert(attr.ino, Times::born(record.span));
        }
        if let (Some((_, count)), Reply::Written(said)) = (done.written, &record.reply)
            && count != u64::from(*said)
        {
            return Err(Failure::new(
                "write-count",
                format!("{} = {said}, not {count}", brief(&record.op)),
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
            let listed = match &record.reply {
                Reply::Entries(entries) => {
                    entries.iter().filter_map(|e| e.entry.and_then(|e| e.attr)).collect()
                }
                reply => reply_attr(reply).into_iter().copied().collect::<Vec<Attr>>(),
            };
            for attr in listed {
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
                    return Err(Failure::new("times", text));
                }
            }
        }
        Ok(())
    }
}

/// The times that an answer shows.
pub fn shown(attr: &Attr) -> Shown {
    Shown { atime: attr.atime, mtime: attr.mtime, ctime: attr.ctime, btime: attr.btime }
}

/// The changes that succeeded, in the order in which they took effect.
///
/// # Errors
/// A point that does not lie between request and answer.
pub fn place_changes<'a>(records: &'a [Record], order: &CommitOrder) -> Outcome<Vec<Placed<'a>>> {
    let mut changes = Vec::new();
    for record in records.iter().filter(|r| r.succeeded() && is_change(&r.op)) {
        let place = match record.point {
            Point::Commit(commit) => order.of(commit).ok_or_else(|| {
                let text = format!(
                    "{} = {:?}, which the store never made",
                    brief(&record.op),
                    record.point
                );
                Failure::new("phantom-commit", text)
            })?,
            Point::Step => record.answered,
            Point::Snapshot(_) => continue,
        };
        if place < record.asked || place > record.answered {
            let text = format!(
                "{} took effect at {place}, outside of {}..={}",
                brief(&record.op),
                record.asked,
                record.answered
            );
            return Err(Failure::new("point-outside", text));
        }
        changes.push(Placed { place, record });
    }
    changes.sort_by_key(|c| (c.place, c.record.answered));
    Ok(changes)
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
            | Operation::Write { .. }
    )
}

/// A time that only one change of a life has.
fn tag(index: usize) -> Time {
    Time::new((1 << 50) + index as i64, 0)
}

/// Makes a change again that was made before.
pub fn redo(mirror: &mut Mirror, change: &Placed<'_>, index: usize) {
    let answer = reply_attr(&change.record.reply).map(|a| a.ino);
    let done = mirror
        .apply_answered(&change.record.op, change.record.caller, answer, tag(index))
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

/// An inode number in a request or its answer that no known operation has made.
fn stranger(mirror: &Mirror, record: &Record) -> Option<Ino> {
    let (named, _) = crate::kernel::targets(&record.op);
    let answered = reply_attr(&record.reply).map(|a| a.ino);
    named.into_iter().flatten().chain(answered).find(|ino| !mirror.nodes.contains_key(ino))
}

/// Everything that the answers claim, with the states in which it may be true. A change that nobody
/// else overlaps (`lone`) answers what is true right after it.
fn claims<'a>(
    records: &'a [Record],
    order: &CommitOrder,
    places: &[Place],
    lone: bool,
) -> Vec<Claim<'a>> {
    let state_at = |place: Place| places.partition_point(|p| *p <= place);
    let mut opened: BTreeMap<u64, usize> = BTreeMap::new();
    let mut claims = Vec::new();
    for record in records {
        let first = state_at(record.asked);
        let last = state_at(record.answered);
        let best = match record.point {
            Point::Commit(commit) => order.of(commit).map_or(last, state_at),
            Point::Snapshot(version) => state_at(order.at(version)),
            Point::Step => last,
        };
        let placed = record.succeeded()
            && is_change(&record.op)
            && !matches!(record.point, Point::Snapshot(_));
        let claim =
            |what| Claim { record, what, first, best: best.clamp(first, last), last, seen: 0 };
        if record.inferred {
            continue;
        }
        if placed {
            if let Some(attr) = reply_attr(&record.reply) {
                let first = if lone { best } else { first };
                claims.push(Claim { first, ..claim(What::Attr(attr)) });
            }
            continue;
        }
        match (&record.op, &record.reply) {
            (Operation::OpenDir { .. }, Reply::Opened(handle)) => {
                opened.insert(handle.handle.0, first);
                claims.push(claim(What::Answer));
            }
            (Operation::ReadDir { ino, handle, .. }, Reply::Entries(entries)) => {
                let first = opened.get(&handle.0).copied().unwrap_or(first);
                for entry in entries {
                    claims.push(Claim { first, ..claim(What::Entry(*ino, entry)) });
                }
            }
            _ => claims.push(claim(What::Answer)),
        }
    }
    claims
}

/// Which parts of a claim are true in a state.
fn holds(mirror: &Mirror, claim: &Claim<'_>, mercy: Mercy) -> u8 {
    let all = |ok: bool| if ok { ALL } else { 0 };
    match claim.what {
        What::Attr(attr) => RESULT | attr_holds(mirror, attr),
        What::Entry(dir, entry) => entry_holds(mirror, dir, entry),
        What::Answer => match &claim.record.reply {
            Reply::Error(error) => {
                let errno = error.errno();
                all(excused(claim.record, errno, mercy)
                    || mirror.allows(&claim.record.op, claim.record.caller, errno))
            }
            reply => answer_holds(mirror, claim.record, reply),
        },
    }
}

/// Errors that the world is to blame for.
fn excused(record: &Record, errno: i32, mercy: Mercy) -> bool {
    let makes_name = matches!(
        record.op,
        Operation::Create { .. }
            | Operation::MkNod { .. }
            | Operation::MkDir { .. }
            | Operation::Symlink { .. }
            | Operation::Link { .. }
            | Operation::Rename { .. }
    );
    match errno {
        4 => record.interrupted,
        28 => (mercy.tiny_hash && makes_name) || mercy.data_may_fail,
        5 => mercy.data_may_fail,
        _ => false,
    }
}

fn answer_holds(mirror: &Mirror, record: &Record, reply: &Reply) -> u8 {
    let all = |ok: bool| if ok { ALL } else { 0 };
    match (&record.op, reply) {
        (Operation::Lookup { parent, name }, Reply::Entry(entry)) => {
            let found = mirror.node(*parent).and_then(|dir| mirror.found(dir, name));
            match (found, &entry.attr) {
                (Ok(None), None) => ALL,
                (Ok(Some(node)), Some(attr)) if mirror.nodes.get(&attr.ino) == Some(&node) => {
                    RESULT | attr_holds(mirror, attr)
                }
                (_, Some(attr)) => attr_holds(mirror, attr),
                _ => 0,
            }
        }
        (
            Operation::GetAttr { ino, .. } | Operation::SetAttr { ino, .. },
            Reply::Attr { attr, .. },
        ) => attr_holds(mirror, attr) | if attr.ino == *ino { RESULT } else { 0 },
        (Operation::ReadLink { ino }, Reply::Target(target)) => all(mirror
            .node(*ino)
            .and_then(|n| mirror.fs.readlink(n))
            .is_ok_and(|t| t == target[..])),
        (Operation::Read { ino, offset, len, .. }, Reply::Data(pieces)) => {
            let want = mirror.node(*ino).and_then(|n| mirror.fs.read(n, *offset, *len as usize));
            all(want.is_ok_and(|want| pieces_equal(pieces, &want)))
        }
        (Operation::Open { ino, .. }, Reply::Opened(_)) => all(mirror
            .node(*ino)
            .and_then(|n| mirror.fs.getattr(n))
            .is_ok_and(|a| a.kind != Kind::Dir)),
        (Operation::OpenDir { ino }, Reply::Opened(_)) => all(mirror
            .node(*ino)
            .and_then(|n| mirror.fs.getattr(n))
            .is_ok_and(|a| a.kind == Kind::Dir)),
        (Operation::StatFs { .. }, Reply::StatFs(s)) => all(s.block_size > 0 && s.name_max == 255),
        (Operation::Create { parent, name, flags, .. }, Reply::Created { entry, .. }) => {
            let found = mirror.node(*parent).and_then(|dir| mirror.found(dir, name));
            let same = |a: &Attr| {
                found.is_ok_and(|f| f.is_some() && f == mirror.nodes.get(&a.ino).copied())
            };
            all(!flags.exclusive() && !flags.truncates() && entry.attr.as_ref().is_some_and(same))
        }
        (Operation::Rename { parent, name, new_parent, new_name, flags }, Reply::Done) => {
            let at =
                |dir: &Ino, name: &[u8]| mirror.node(*dir).and_then(|dir| mirror.found(dir, name));
            let (from, to) = (at(parent, name), at(new_parent, new_name));
            all(*flags != 1 && from.is_ok_and(|f| f.is_some()) && from == to)
        }
        (Operation::Write { data, .. }, Reply::Written(0)) => all(data.is_empty()),
        (
            Operation::Flush { .. }
            | Operation::Release { .. }
            | Operation::ReleaseDir { .. }
            | Operation::Fsync { .. }
            | Operation::FsyncDir { .. },
            Reply::Done,
        ) => ALL,
        (Operation::ReadDir { .. }, Reply::Entries(entries)) => all(entries.is_empty()),
        _ => 0,
    }
}

fn attr_holds(mirror: &Mirror, attr: &Attr) -> u8 {
    let Ok(model) = mirror.node(attr.ino).and_then(|n| mirror.fs.getattr(n)) else { return 0 };
    let core = kind(attr.mode) == model.kind
        && attr.mode & 0o7777 == u32::from(model.perm)
        && (attr.uid, attr.gid) == (model.uid, model.gid)
        && u64::from(attr.rdev) == model.rdev;
    let size = model.kind == Kind::Dir || attr.size == model.size;
    let links = attr.nlink == model.nlink;
    (u8::from(core) * CORE) | (u8::from(size) * SIZE) | (u8::from(links) * LINKS)
}

fn entry_holds(mirror: &Mirror, dir: Ino, entry: &DirEntry) -> u8 {
    let all = |ok: bool| if ok { ALL } else { 0 };
    let Ok(node) = mirror.node(dir) else { return 0 };
    match &entry.name[..] {
        b"." => all(entry.ino == dir && entry.kind & S_IFMT == S_IFDIR),
        b".." => {
            let up = mirror.fs.parent(node);
            // A removed directory has no parent any more that POSIX would name.
            let removed = mirror.fs.getattr(node).is_ok_and(|a| a.nlink == 0);
            all(removed || up.is_ok_and(|up| mirror.nodes.get(&entry.ino) == Some(&up)))
        }
        name => {
            let found = mirror.found(node, name);
            let same =
                found.is_ok_and(|f| f.is_some() && f == mirror.nodes.get(&entry.ino).copied());
            let kinds =
                found.ok().flatten().and_then(|n| mirror.fs.getattr(n).ok()).map(|a| a.kind);
            let named = same && kinds == Some(kind(entry.kind));
            let attr = entry.entry.as_ref().and_then(|e| e.attr.as_ref());
            let attributes = match attr {
                Some(attr) if attr.ino == entry.ino => attr_holds(mirror, attr),
                Some(_) => 0,
                None => CORE | SIZE | LINKS,
            };
            (u8::from(named) * RESULT) | attributes
        }
    }
}

fn pieces_equal(pieces: &[Piece], want: &[u8]) -> bool {
    let mut rest = want;
    for piece in pieces {
        if piece.len() > rest.len() {
            return false;
        }
        let (head, tail) = rest.split_at(piece.len());
        let equal = match piece {
            Piece::Bytes(bytes) => &bytes[..] == head,
            Piece::Zeros(_) => head.iter().all(|b| *b == 0),
        };
        if !equal {
            return false;
        }
        rest = tail;
    }
    rest.is_empty()
}

/// Every entry that stood throughout a complete listing is in it once.
fn judge_listings(
    start: Mirror,
    changes: &[Placed<'_>],
    records: &[Record],
    places: &[Place],
) -> Outcome<()> {
    struct Listing<'a> {
        dir: Ino,
        from: Place,
        until: Option<Place>,
        cookie: u64,
        names: BTreeMap<&'a [u8], u32>,
        standing: Option<BTreeMap<Vec<u8>, NodeId>>,
    }
    let mut listings: BTreeMap<u64, Listing<'_>> = BTreeMap::new();
    let mut complete = Vec::new();
    for record in records {
        match (&record.op, &record.reply) {
            (Operation::OpenDir { ino }, Reply::Opened(opened)) => {
                let listing = Listing {
                    dir: *ino,
                    from: record.asked,
                    until: None,
                    cookie: 0,
                    names: BTreeMap::new(),
                    standing: None,
                };
                listings.insert(opened.handle.0, listing);
            }
            (Operation::ReadDir { handle, cookie, .. }, Reply::Entries(entries)) => {
                let Some(mut listing) = listings.remove(&handle.0) else { continue };
                if listing.cookie != *cookie {
                    continue;
                }
                for entry in entries {
                    *listing.names.entry(&entry.name).or_insert(0) += 1;
                    listing.cookie = entry.cookie;
                }
                if entries.is_empty() {
                    listing.until = Some(record.answered);
                    complete.push(listing);
                } else {
                    listings.insert(handle.0, listing);
                }
            }
            _ => {}
        }
    }
    let state_at = |place: Place| places.partition_point(|p| *p <= place);
    let mut mirror = start;
    for state in 0..=changes.len() {
        for listing in &mut complete {
            let until = listing.until.expect("only complete ones");
            if state < state_at(listing.from) || state > state_at(until) {
                continue;
            }
            let entries =
                mirror.node(listing.dir).and_then(|n| mirror.fs.readdir(n)).unwrap_or_default();
            let now: BTreeMap<Vec<u8>, NodeId> =
                entries.into_iter().map(|e| (e.name, e.node)).collect();
            match &mut listing.standing {
                None => listing.standing = Some(now),
                Some(standing) => standing.retain(|name, node| now.get(name) == Some(node)),
            }
        }
        if let Some(change) = changes.get(state) {
            redo(&mut mirror, change, state);
        }
    }
    for listing in complete {
        for (name, _) in listing.standing.unwrap_or_default() {
            let times = listing.names.get(&name[..]).copied().unwrap_or(0);
            if times != 1 {
                let text = format!(
                    "a listing of {} from {} to {:?} has {:?} {times} times",
                    listing.dir,
                    listing.from,
                    listing.until,
                    String::from_utf8_lossy(&name)
                );
                return Err(Failure::new("listing-complete", text));
            }
        }
    }
    Ok(())
}

/// What the model has for what a request is about.
fn describe(mirror: &Mirror, record: &Record) -> String {
    let (inos, _) = crate::kernel::targets(&record.op);
    let mut text = String::new();
    for ino in inos.into_iter().flatten() {
        match mirror.node(ino).and_then(|n| mirror.fs.getattr(n)) {
            Ok(a) => text.push_str(&format!(
                "{ino}: {:?} {:o} nlink {} {}:{} size {} ",
                a.kind, a.perm, a.nlink, a.uid, a.gid, a.size
            )),
            Err(error) => text.push_str(&format!("{ino}: {error:?} ")),
        }
    }
    let lookup = match &record.op {
        Operation::Lookup { parent, name } => Some((*parent, name.clone())),
        _ => None,
    };
    for (dir, name) in crate::kernel::names_of(&record.op).into_iter().flatten().chain(lookup) {
        let found = mirror.node(dir).and_then(|d| mirror.found(d, &name));
        let found = found.map(|f| f.and_then(|n| mirror.ino(n)));
        text.push_str(&format!(
            "{}/{:?} = {found:?} ",
            dir,
            String::from_utf8_lossy(&name[..name.len().min(20)])
        ));
    }
    if let Operation::Read { ino, offset, len, .. } = &record.op
        && let Ok(data) = mirror.node(*ino).and_then(|n| mirror.fs.read(n, *offset, *len as usize))
    {
        text.push_str(&format!("{} bytes {:02x?}", data.len(), &data[..data.len().min(16)]));
        if let Reply::Data(pieces) = &record.reply {
            text.push_str(&first_difference(pieces, &data));
        }
    }
    text
}

fn first_difference(pieces: &[Piece], want: &[u8]) -> String {
    let mut got = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Bytes(bytes) => got.extend_from_slice(bytes),
            Piece::Zeros(n) => got.resize(got.len() + *n as usize, 0),
        }
    }
    let at = got.iter().zip(want).position(|(a, b)| a != b);
    match at {
        Some(at) => format!(
            "; byte {at} differs: got {:02x?}, want {:02x?}",
            &got[at..got.len().min(at + 8)],
            &want[at..want.len().min(at + 8)]
        ),
        None => format!("; got {} bytes", got.len()),
    }
}
