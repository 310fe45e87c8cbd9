//! After a crash the content of each file is a prefix of the changes that were made to it, byte by byte,
//! and contains what was synced.

use std::collections::BTreeMap;
use vellum_core::id::Ino;
use vellum_core::port::kernel::{Operation, Reply, S_IFMT, S_IFREG};

use crate::check::{Placed, redo};
use crate::history::{Epoch, Place};
use crate::observe::Observed;
use crate::recover::{differs, same_content};
use crate::replay::Mirror;
use crate::world::{Failure, Outcome, brief};

/// Which prefixes of its content changes each file may show.
struct Window {
    least: usize,
    most: Option<usize>,
    count: usize,
    matched: bool,
    seen: bool,
}

/// Compares all files with what they may show.
///
/// # Errors
/// The first file that shows none of its states.
pub(crate) fn check(
    start: Mirror,
    changes: &[Placed<'_>],
    epoch: &Epoch,
    cut: Place,
    found: &Observed,
) -> Outcome<()> {
    let files: Vec<Ino> = found
        .nodes
        .iter()
        .filter(|(_, n)| n.attr.mode & S_IFMT == S_IFREG)
        .map(|(ino, _)| *ino)
        .collect();
    let renamed = renamed(&start, changes, cut);
    let changed = changed(&start, changes);
    let mut windows: BTreeMap<Ino, Window> = BTreeMap::new();
    for ino in &files {
        let mut promises = promises(*ino, epoch);
        promises.extend(renamed.iter().filter(|(whose, _)| whose == ino).map(|(_, asked)| *asked));
        let window = window(*ino, changes, &changed, &promises, cut);
        windows.insert(*ino, window);
    }
    let mut mirror = start;
    let try_all = |mirror: &Mirror, windows: &mut BTreeMap<Ino, Window>, only: Option<Ino>| {
        for (ino, window) in windows.iter_mut().filter(|(ino, _)| only.is_none_or(|o| o == **ino)) {
            let inside =
                window.count >= window.least && window.most.is_none_or(|most| window.count <= most);
            window.seen |= mirror.node(*ino).is_ok();
            window.matched |= inside && same_content(mirror, *ino, found);
        }
    };
    try_all(&mirror, &mut windows, None);
    for (index, change) in changes.iter().enumerate() {
        // A copy that was never answered may have seen its source before or after each change of that.
        let copies = epoch.unanswered.iter().filter(|u| u.asked < change.place);
        for (u, to) in copies.filter_map(|u| Some((u, copied(&u.op, changed[index]?)?))) {
            let mut copied = mirror.clone();
            if copied.apply(&u.op, u.caller, crate::replay::time(u.wall)).is_ok() {
                try_all(&copied, &mut windows, Some(to));
            }
        }
        redo(&mut mirror, change, index);
        if let Some(ino) = changed[index].or_else(|| made(change))
            && let Some(window) = windows.get_mut(&ino)
        {
            window.count += usize::from(changed[index].is_some());
            try_all(&mirror, &mut windows, Some(ino));
        }
    }
    let last = mirror.clone();
    for u in &epoch.unanswered {
        // By itself, and after the others below: a copy may or may not have seen what they wrote.
        let mut alone = last.clone();
        if let Operation::CopyRange { to_ino, .. } = &u.op
            && alone.apply(&u.op, u.caller, crate::replay::time(u.wall)).is_ok()
        {
            try_all(&alone, &mut windows, Some(*to_ino));
        }
        if let Some(ino) = content_of(&u.op).or_else(|| emptied(&mirror, &u.op))
            && mirror.apply(&u.op, u.caller, crate::replay::time(u.wall)).is_ok()
        {
            try_all(&mirror, &mut windows, Some(ino));
        }
    }
    for (ino, window) in &windows {
        if window.seen && !window.matched {
            let mut text = format!(
                "{ino} shows none of its states {}..={:?} of {}; against the last one: {}",
                window.least,
                window.most,
                window.count,
                differs(&last, *ino, found)
            );
            for change in of_file(*ino, changes, &changed) {
                let side = if change.place <= cut { "" } else { " (after the cut)" };
                text.push_str(&format!(
                    "\n    at {}{side} {}",
                    change.place,
                    brief(&change.record.op)
                ));
            }
            return Err(Failure::new("crash-content", text));
        }
    }
    Ok(())
}

fn window(
    ino: Ino,
    changes: &[Placed<'_>],
    changed: &[Option<Ino>],
    promises: &[Place],
    cut: Place,
) -> Window {
    let mut window = Window { least: 0, most: None, count: 0, matched: false, seen: false };
    let mut count = 0;
    for change in of_file(ino, changes, changed) {
        // Of what was inferred nobody knows with which commit it came.
        let certain = !change.record.inferred;
        let truncation = certain && !matches!(change.record.op, Operation::Write { .. });
        if truncation && change.place > cut && window.most.is_none() {
            window.most = Some(count);
        }
        count += 1;
        let promised = promises.iter().any(|asked| change.record.answered < *asked);
        if promised || (truncation && change.place <= cut) {
            window.least = count;
        }
    }
    window
}

/// The changes of one file's content.
fn of_file<'a, 'r>(
    ino: Ino,
    changes: &'a [Placed<'r>],
    changed: &'a [Option<Ino>],
) -> impl Iterator<Item = &'a Placed<'r>> {
    let theirs = changes.iter().zip(changed).filter(move |(_, whose)| **whose == Some(ino));
    theirs.map(|(change, _)| change)
}

/// The file whose content each change changed; O_TRUNC counts, also for a new file.
fn changed(start: &Mirror, changes: &[Placed<'_>]) -> Vec<Option<Ino>> {
    let mut mirror = start.clone();
    let mut changed = Vec::new();
    for (index, change) in changes.iter().enumerate() {
        let op = &change.record.op;
        changed.push(match op {
            Operation::Create { flags, .. } if flags.truncates() => {
                // The answer names the file, but one that was inferred may name none, or a guess.
                let answered = made(change).filter(|ino| mirror.node(*ino).is_ok());
                answered.or_else(|| emptied(&mirror, op)).or_else(|| made(change))
            }
            op => content_of(op),
        });
        redo(&mut mirror, change, index);
    }
    changed
}

/// Moments before which everything that was answered about a file must be there.
fn promises(ino: Ino, epoch: &Epoch) -> Vec<Place> {
    let mut promises = epoch.synced.clone();
    for record in &epoch.records {
        if let (Operation::Fsync { ino: of, .. }, Reply::Done) = (&record.op, &record.reply)
            && *of == ino
        {
            promises.push(record.asked);
        }
    }
    promises
}

/// Files whose rename survived, with the moment at which it was asked for: what was written before came
/// along.
fn renamed(start: &Mirror, changes: &[Placed<'_>], cut: Place) -> Vec<(Ino, Place)> {
    let mut mirror = start.clone();
    let mut renamed = Vec::new();
    for (index, change) in changes.iter().enumerate().filter(|(_, c)| c.place <= cut) {
        if let Operation::Rename { parent, name, .. } = &change.record.op {
            let source = mirror.node(*parent).and_then(|dir| mirror.found(dir, name));
            let source = source.ok().flatten().and_then(|found| mirror.ino(found));
            renamed.extend(source.map(|ino| (ino, change.record.asked)));
        }
        redo(&mut mirror, change, index);
    }
    renamed
}

/// The file whose content an operation changes.
fn content_of(op: &Operation) -> Option<Ino> {
    match op {
        Operation::Write { ino, data, .. } if !data.is_empty() => Some(*ino),
        Operation::SetAttr { ino, set, .. } if set.size.is_some() => Some(*ino),
        Operation::Fallocate { ino, .. } => Some(*ino),
        Operation::CopyRange { to_ino, .. } => Some(*to_ino),
        _ => None,
    }
}

/// Where an operation copies to, if that is from this file.
fn copied(op: &Operation, from: Ino) -> Option<Ino> {
    match op {
        Operation::CopyRange { ino, to_ino, .. } if *ino == from => Some(*to_ino),
        _ => None,
    }
}

/// The file that O_TRUNC empties, if its name is taken.
fn emptied(mirror: &Mirror, op: &Operation) -> Option<Ino> {
    match op {
        Operation::Create { parent, name, flags, .. } if flags.truncates() => {
            let found = mirror.node(*parent).and_then(|dir| mirror.found(dir, name)).ok()??;
            mirror.ino(found)
        }
        _ => None,
    }
}

fn made(change: &Placed<'_>) -> Option<Ino> {
    match &change.record.op {
        Operation::Create { .. } | Operation::TmpFile { .. } | Operation::MkNod { .. } => {
            crate::check::reply_attr(&change.record.reply).map(|a| a.ino)
        }
        _ => None,
    }
}
