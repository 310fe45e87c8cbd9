//! What an answer claims, and whether a state of the model agrees.
//!
//! Owns: the comparison of one answer with one state. Never does: choosing the state (`check.rs`).

use std::collections::BTreeMap;
use vellum_core::error::FsError;
use vellum_core::id::Ino;
use vellum_core::port::Point;
use vellum_core::port::kernel::{Attr, DirEntry, Operation, Piece, Reply, S_IFDIR, S_IFMT};
use vellum_model::Kind;

use crate::check::{Mercy, is_change, reply_attr};
use crate::history::{CommitOrder, Place, Record};
use crate::invariants::limits::{may_be_full, needs};
use crate::replay::{Mirror, Usage, kind};
use crate::shed::Shed;

/// Bits of what an answer says; each must hold in some state of its interval.
pub(crate) const RESULT: u8 = 1;
pub(crate) const CORE: u8 = 2;
pub(crate) const SIZE: u8 = 4;
pub(crate) const LINKS: u8 = 8;
pub(crate) const ALL: u8 = RESULT | CORE | SIZE | LINKS;

/// Something to be found true in a state between two.
pub(crate) struct Claim<'a> {
    pub(crate) record: &'a Record,
    pub(crate) what: What<'a>,
    pub(crate) first: usize,
    pub(crate) best: usize,
    pub(crate) last: usize,
    pub(crate) seen: u8,
    /// What a write may have taken from its inode.
    pub(crate) shed: Option<Shed>,
    /// Bytes that requests under way beside it may need, as far as that can matter.
    pub(crate) promised: u64,
}

impl Claim<'_> {
    /// The inode whose attributes it is about, if it is one.
    pub(crate) fn about(&self) -> Option<Ino> {
        match self.what {
            What::Attr(attr) => Some(attr.ino),
            What::Entry(_, entry) => Some(entry.ino),
            What::Answer => match &self.record.op {
                Operation::GetXattr { ino, .. }
                | Operation::ListXattr { ino, .. }
                | Operation::SetXattr { ino, .. }
                | Operation::RemoveXattr { ino, .. } => Some(*ino),
                _ => reply_attr(&self.record.reply).map(|attr| attr.ino),
            },
        }
    }
}

pub(crate) enum What<'a> {
    /// The whole answer.
    Answer,
    /// The attributes in the answer of a change, after it.
    Attr(&'a Attr),
    /// An entry of a listing.
    Entry(Ino, &'a DirEntry),
}

/// An inode number in a request or its answer that no known operation has made.
pub(crate) fn stranger(mirror: &Mirror, record: &Record) -> Option<Ino> {
    let (named, _) = crate::kernel::targets(&record.op);
    let answered = reply_attr(&record.reply).map(|a| a.ino);
    named.into_iter().flatten().chain(answered).find(|ino| !mirror.nodes.contains_key(ino))
}

/// Everything that the answers claim, with the states in which it may be true. A change that nobody
/// else overlaps (`lone`) answers what is true right after it.
pub(crate) fn claims<'a>(
    records: &'a [Record],
    order: &CommitOrder,
    places: &[Place],
    lost: &[(Place, u64)],
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
        let first = match &record.reply {
            // The machine does not know yet of what it was not told, and what that gives back.
            Reply::Error(FsError::NoSpace) => state_at(oldest_under_way(records, record)),
            _ => first,
        };
        let claim = |what| Claim {
            record,
            what,
            first,
            best: best.clamp(first, last),
            last,
            seen: 0,
            shed: None,
            promised: promised(records, lost, record),
        };
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

/// What the volume promised at most to requests that were under way while one was refused: how much of that
/// they need is known when they are done.
fn promised(records: &[Record], lost: &[(Place, u64)], refused: &Record) -> u64 {
    if !matches!(refused.reply, Reply::Error(FsError::NoSpace)) {
        return 0;
    }
    let beside = |other: &&Record| {
        !other.inferred && other.asked < refused.answered && other.answered > refused.asked
    };
    let others = records.iter().filter(beside).filter(|other| other.id != refused.id);
    let answered: u64 = others.map(|other| needs(&other.op).bytes).sum();
    let never = lost.iter().filter(|(asked, _)| *asked < refused.answered);
    answered + never.map(|(_, bytes)| bytes).sum::<u64>()
}

/// When the oldest change was asked for that was not answered when `record` was asked.
fn oldest_under_way(records: &[Record], record: &Record) -> Place {
    let under_way = |other: &&Record| {
        other.asked < record.asked && record.asked < other.answered && is_change(&other.op)
    };
    let asked = records.iter().filter(under_way).map(|other| other.asked);
    asked.min().unwrap_or(record.asked)
}

/// Which parts of a claim are true in a state.
pub(crate) fn holds(mirror: &Mirror, claim: &Claim<'_>, mercy: Mercy) -> u8 {
    let mut seen = is_true(mirror, claim, mercy);
    let Some(Shed { ino, group_taken, group_kept }) = claim.shed else { return seen };
    for group in [false, true] {
        if seen != ALL && if group { group_taken } else { group_kept } {
            let mut shed = mirror.clone();
            shed.shed(ino, group);
            seen |= is_true(&shed, claim, mercy);
        }
    }
    seen
}

fn is_true(mirror: &Mirror, claim: &Claim<'_>, mercy: Mercy) -> u8 {
    let all = |ok: bool| if ok { ALL } else { 0 };
    match claim.what {
        What::Attr(attr) => RESULT | attr_holds(mirror, attr),
        What::Entry(dir, entry) => entry_holds(mirror, dir, entry),
        What::Answer => match &claim.record.reply {
            Reply::Error(error) => {
                let errno = error.errno();
                let bytes = mercy.garbage.bytes + claim.promised;
                let mercy = Mercy { garbage: Usage { bytes, ..mercy.garbage }, ..mercy };
                all(excused(mirror, claim.record, errno, mercy)
                    || mirror.allows(&claim.record.op, claim.record.caller, errno))
            }
            reply => answer_holds(mirror, claim.record, reply),
        },
    }
}

/// Errors that the world is to blame for.
fn excused(mirror: &Mirror, record: &Record, errno: i32, mercy: Mercy) -> bool {
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
        28 => {
            (mercy.tiny_hash && makes_name)
                || mercy.data_may_fail
                || may_be_full(mirror, mercy.garbage, mercy.limit, &record.op)
        }
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
        (Operation::GetXattr { ino, name, room }, reply) => {
            let value = mirror.node(*ino).and_then(|n| mirror.fs.getxattr(n, name));
            all(value.is_ok_and(|value| value_answered(&value, *room, reply)))
        }
        (Operation::ListXattr { ino, room }, reply) => {
            let list = mirror.xattr_list(*ino, record.caller);
            all(list.is_ok_and(|list| value_answered(&list, *room, reply)))
        }
        (Operation::Seek { ino, offset, whence, .. }, Reply::Offset(found)) => {
            all(mirror.node(*ino).is_ok_and(|n| mirror.may_be_found(n, *offset, *whence, *found)))
        }
        (Operation::CopyRange { ino, offset, len, .. }, Reply::Copied(0)) => {
            let size = mirror.node(*ino).and_then(|n| mirror.fs.getattr(n)).map(|a| a.size);
            all(*len == 0 || size.is_ok_and(|size| size <= *offset))
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

fn value_answered(value: &[u8], room: u32, reply: &Reply) -> bool {
    match reply {
        Reply::Room(len) => room == 0 && *len as usize == value.len(),
        Reply::Value(bytes) => room > 0 && value.len() <= room as usize && bytes[..] == *value,
        _ => false,
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

/// What the model has for what a request is about.
pub(crate) fn describe(mirror: &Mirror, record: &Record) -> String {
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
