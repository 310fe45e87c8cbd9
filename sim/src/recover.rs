//! What must be there after a life of the mount ended: compared with what is.
//!
//! - Names and attributes: the state after a prefix of the commits that contains everything that was
//!   promised to be durable, with any of the unanswered changes.
//! - Contents of each file: a state after a prefix of its writes and truncations that contains what was
//!   synced, and exactly the truncations that the prefix of commits contains.

use std::collections::{BTreeMap, BTreeSet};
use vellum_core::id::Ino;
use vellum_core::port::kernel::{Operation, S_IFDIR, S_IFMT, S_IFREG, SetTime};
use vellum_model::NodeId;

use crate::check::{Judge, Placed, Timeline, is_change, is_of_content, place_changes, redo, shown};
use crate::history::{CommitOrder, Epoch, Place, Unanswered};
use crate::invariants::{contents, durable};
use crate::observe::{Node, Observed};
use crate::replay::{Mirror, kind};
use crate::shed::CAPABILITY;
use crate::times::Span;
use crate::world::{Failure, Outcome, brief};

/// How a life ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Everything is there.
    Clean,
    /// Killed; commits after this place were lost.
    Killed(Place),
}

impl Judge {
    /// Compares what was found with what the life before it allows, and goes on from what was found.
    /// `start` is the state before that life, `hull` what a clock that jumped has said.
    ///
    /// # Errors
    /// When nothing that is allowed looks like what was found.
    pub fn recover(
        &mut self,
        start: Mirror,
        epoch: &Epoch,
        order: &CommitOrder,
        timeline: &Timeline,
        end: End,
        found: &Observed,
        hull: Option<Span>,
    ) -> Outcome<()> {
        let changes = place_changes(&epoch.records, order)?;
        match end {
            End::Clean => {
                let shed = Shed::by_failures(epoch);
                compare(&self.mirror, found, &shed).map_err(|text| Failure::new("tree", text))?;
                for (ino, node) in &found.nodes {
                    if node.attr.mode & S_IFMT == S_IFREG
                        && !same_content(&self.mirror, *ino, found)
                    {
                        return Err(Failure::new("content", differs(&self.mirror, *ino, found)));
                    }
                }
            }
            End::Killed(cut) => {
                durable::check(epoch, timeline, &changes, cut)?;
                check_names(&start, &changes, &epoch.unanswered, cut, found)?;
                contents::check(start, &changes, epoch, cut, found)?;
            }
        }
        self.check_times(epoch, hull, found)?;
        if end != End::Clean {
            self.garbage = self.mirror.usage_at_most();
        }
        self.mirror = found.mirror();
        self.times = found.times();
        Ok(())
    }

    fn check_times(&self, epoch: &Epoch, hull: Option<Span>, found: &Observed) -> Outcome<()> {
        let mut extra: Vec<Span> = epoch.unanswered.iter().flat_map(times_of).collect();
        if !extra.is_empty() {
            extra.push(Span::at(epoch.ended));
        }
        extra.extend(hull);
        for (ino, node) in &found.nodes {
            let Some(times) = self.times.get(ino) else { continue };
            if let Some(wrong) = times.judge_roughly(shown(&node.attr), &extra) {
                return Err(Failure::new(
                    "times",
                    format!("{ino} afterwards: {wrong}\n  {times:?}"),
                ));
            }
        }
        Ok(())
    }
}

/// Times that an unanswered request may have left behind.
fn times_of(request: &Unanswered) -> Vec<Span> {
    let mut times = vec![Span::at(request.wall)];
    if let Operation::SetAttr { set, .. } = &request.op {
        for time in [set.atime, set.mtime].into_iter().flatten() {
            if let SetTime::At(at) = time {
                times.push(Span::at(at));
            }
        }
    }
    times
}

fn check_names(
    start: &Mirror,
    changes: &[Placed<'_>],
    unanswered: &[Unanswered],
    cut: Place,
    found: &Observed,
) -> Outcome<()> {
    let mut mirror = start.clone();
    for (index, change) in changes.iter().enumerate() {
        match &change.record.op {
            _ if change.place > cut => {}
            Operation::Write { .. } => {}
            // What they took from the file went with their commits, whatever became of the bytes.
            Operation::Fallocate { ino, .. } | Operation::CopyRange { to_ino: ino, .. } => {
                mirror.modify(*ino)
            }
            op @ Operation::SetXattr { .. } => {
                let now = crate::replay::time(change.record.wall);
                mirror.apply(&whether_there_or_not(op), change.record.caller, now).ok();
            }
            _ => redo(&mut mirror, change, index),
        }
    }
    let maybe: Vec<&Unanswered> =
        unanswered.iter().filter(|u| is_change(&u.op) && !is_of_content(&u.op)).collect();
    let mut first = None;
    for subset in 0..1u32 << maybe.len().min(10) {
        let mut candidate = mirror.clone();
        let chosen = maybe.iter().enumerate().filter(|(i, _)| subset >> i & 1 == 1);
        let applied = chosen.map(|(_, u)| {
            let now = crate::replay::time(u.wall);
            candidate.apply(&whether_there_or_not(&u.op), u.caller, now)
        });
        if applied.collect::<Result<Vec<_>, _>>().is_err() {
            continue;
        }
        match compare(&candidate, found, &Shed::ByAny) {
            Ok(()) => return Ok(()),
            Err(text) => first = first.or(Some(text)),
        }
    }
    let mut text = format!("cut at {cut}: {}", first.unwrap_or_default());
    for u in maybe {
        text.push_str(&format!("\n  perhaps: {}", brief(&u.op)));
    }
    for change in changes.iter().filter(|c| c.place > cut) {
        text.push_str(&format!("\n  lost: at {} {}", change.place, brief(&change.record.op)));
    }
    Err(Failure::new("crash-names", text))
}

/// Whether there were capabilities rested on writes, which may have taken them and are left out here.
fn whether_there_or_not(op: &Operation) -> Operation {
    let mut any = op.clone();
    if let Operation::SetXattr { name, flags, .. } = &mut any
        && name == CAPABILITY
    {
        *flags = 0;
    }
    any
}

/// What differs between the model's tree and what was found, but for sizes, contents and times.
fn compare(mirror: &Mirror, found: &Observed, shed: &Shed) -> Result<(), String> {
    let mut names: BTreeMap<NodeId, Ino> =
        mirror.nodes.iter().map(|(ino, node)| (*node, *ino)).collect();
    let mut todo = vec![(Ino::ROOT, NodeId::ROOT, String::from("/"))];
    let mut seen = 0;
    while let Some((ino, id, path)) = todo.pop() {
        let node = found.nodes.get(&ino).ok_or_else(|| format!("{path} is missing"))?;
        let model = mirror.fs.getattr(id).map_err(|e| format!("{path}: {e:?}"))?;
        let attr = &node.attr;
        let shed = shed.has(ino);
        let bits = if shed { 0o1777 } else { 0o7777 };
        let same = kind(attr.mode) == model.kind
            && attr.mode & bits == u32::from(model.perm) & bits
            && attr.nlink == model.nlink
            && (attr.uid, attr.gid) == (model.uid, model.gid)
            && u64::from(attr.rdev) == model.rdev;
        if !same {
            return Err(format!("{path} ({ino}): found {attr:?}, expected {model:?}"));
        }
        compare_xattrs(mirror, id, node, shed).map_err(|e| format!("{path} ({ino}): {e}"))?;
        if !node.target.is_empty()
            && mirror.fs.readlink(id).ok().as_deref() != Some(&node.target[..])
        {
            return Err(format!("{path}: another symlink target"));
        }
        if attr.mode & S_IFMT != S_IFDIR {
            continue;
        }
        let entries = mirror.fs.readdir(id).map_err(|e| format!("{path}: {e:?}"))?;
        let entries = entries.into_iter().filter(|e| e.name != b"." && e.name != b"..");
        let expected: BTreeMap<Vec<u8>, NodeId> = entries.map(|e| (e.name, e.node)).collect();
        if let Some(extra) = node.entries.keys().find(|n| !expected.contains_key(&n[..])) {
            return Err(format!("{path}: {extra:?} should not be there"));
        }
        for (name, child) in expected {
            let Some(found_ino) = node.entries.get(&name[..]) else {
                return Err(format!("{path}: {:?} is missing", String::from_utf8_lossy(&name)));
            };
            // An unanswered creation chose a number that nobody has seen.
            let known = *names.entry(child).or_insert(*found_ino);
            if known != *found_ino {
                let name = String::from_utf8_lossy(&name);
                return Err(format!("{path}: {name:?} is {found_ino}, expected {known}"));
            }
            todo.push((*found_ino, child, format!("{path}{}/", String::from_utf8_lossy(&name))));
        }
        seen += 1;
        if seen > 100_000 {
            return Err("the directories go round in circles".into());
        }
    }
    Ok(())
}

/// Files from which a write that left no other trace may have taken set-id bits and capabilities.
enum Shed {
    /// Any: writes may be lost.
    ByAny,
    /// These: a write of them failed.
    By(BTreeSet<Ino>),
}

impl Shed {
    fn by_failures(epoch: &Epoch) -> Shed {
        let failed = epoch.records.iter().filter(|record| !record.succeeded());
        let written = failed.filter_map(|record| match record.op {
            Operation::Write { ino, .. } => Some(ino),
            _ => None,
        });
        Shed::By(written.collect())
    }

    fn has(&self, ino: Ino) -> bool {
        match self {
            Shed::ByAny => true,
            Shed::By(files) => files.contains(&ino),
        }
    }
}

fn compare_xattrs(mirror: &Mirror, id: NodeId, node: &Node, shed: bool) -> Result<(), String> {
    let names = mirror.fs.listxattr(id).unwrap_or_default();
    for name in &names {
        let want = mirror.fs.getxattr(id, name).unwrap_or_default();
        let found = node.xattrs.get(&name[..]);
        let taken = shed && found.is_none() && name == CAPABILITY;
        let shown = name.escape_ascii();
        match found {
            Some(found) if *found == want => {}
            None if taken => {}
            Some(found) => return Err(format!("{shown} is {found:?} and should be {want:?}")),
            None => return Err(format!("{shown} is missing")),
        }
    }
    match node.xattrs.keys().find(|name| !names.iter().any(|n| n[..] == name[..])) {
        Some(extra) => Err(format!("{} should not be there", extra.escape_ascii())),
        None => Ok(()),
    }
}

pub(crate) fn same_content(mirror: &Mirror, ino: Ino, found: &Observed) -> bool {
    let node = &found.nodes[&ino];
    let Ok(id) = mirror.node(ino) else { return false };
    let Ok(model) = mirror.fs.getattr(id) else { return false };
    model.size == node.attr.size
        && node.content.iter().all(|(offset, bytes)| {
            mirror.fs.read(id, *offset, bytes.len()).is_ok_and(|want| want == *bytes)
        })
}

pub(crate) fn differs(mirror: &Mirror, ino: Ino, found: &Observed) -> String {
    let node = &found.nodes[&ino];
    let Ok(id) = mirror.node(ino) else { return "it is unknown".into() };
    let size = mirror.fs.getattr(id).map_or(0, |a| a.size);
    if size != node.attr.size {
        return format!("size {} instead of {size}", node.attr.size);
    }
    for (offset, bytes) in &node.content {
        let want = mirror.fs.read(id, *offset, bytes.len()).unwrap_or_default();
        if let Some(at) = bytes.iter().zip(&want).position(|(a, b)| a != b) {
            let wrong = bytes.iter().zip(&want).filter(|(a, b)| a != b).count();
            return format!(
                "byte {} is {:#x} instead of {:#x} ({wrong} of {} differ)",
                offset + at as u64,
                bytes[at],
                want[at],
                bytes.len()
            );
        }
    }
    "nothing".into()
}
