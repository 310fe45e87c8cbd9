//! What a write takes from a file before it takes effect: set-id bits and file capabilities.
//!
//! Owns: which writes may have done so without any other trace, and what went by the mode of that time.
//! Never does: trying answers. A write under way may have come so far; one that failed or was never answered
//! may have come so far and no further, and the model knows nothing of it.

use std::collections::{BTreeMap, BTreeSet};
use vellum_core::id::Ino;
use vellum_core::port::kernel::{Operation, S_IXGRP};

use crate::check::{Placed, redo};
use crate::claims::Claim;
use crate::history::{Place, Record};
use crate::replay::Mirror;
use crate::times::Span;

/// The attribute that a write takes.
pub(crate) const CAPABILITY: &[u8] = b"security.capability";

/// What may be gone from an inode. A set-user-id bit and capabilities are in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shed {
    /// Which inode.
    pub(crate) ino: Ino,
    /// There was a mode whose set-group-id bit goes: the group could execute.
    pub(crate) group_taken: bool,
    /// There was a mode whose set-group-id bit stays.
    pub(crate) group_kept: bool,
}

/// A write that may have taken something.
struct Taker {
    ino: Ino,
    asked: Place,
    /// Until when it could.
    ended: Place,
    /// Until when the model knows nothing of it.
    hidden: Place,
}

/// Says of each claim what may be gone from its inode.
pub(crate) fn note(
    claims: &mut [Claim<'_>],
    mut mirror: Mirror,
    changes: &[Placed<'_>],
    records: &[Record],
    lost: &[(Ino, Place, Span)],
) {
    let takers = takers(records, lost);
    let inos: BTreeSet<Ino> = claims.iter().filter_map(Claim::about).collect();
    // Whether the group may execute, in each state.
    let mut modes: BTreeMap<Ino, Vec<Option<bool>>> = BTreeMap::new();
    for state in 0..=changes.len() {
        for ino in &inos {
            let attr = mirror.node(*ino).and_then(|node| mirror.fs.getattr(node));
            let group = attr.ok().map(|attr| u32::from(attr.perm) & S_IXGRP != 0);
            modes.entry(*ino).or_default().push(group);
        }
        if let Some(change) = changes.get(state) {
            redo(&mut mirror, change, state);
        }
    }
    for claim in claims {
        claim.shed = claim.about().and_then(|ino| shed(claim, ino, &takers, &modes[&ino], changes));
    }
}

/// Whether capabilities that the model has may be gone where a change took effect: a write took them.
pub(crate) fn took_capability(
    ino: Ino,
    before: &[Placed<'_>],
    place: Place,
    records: &[Record],
    lost: &[(Ino, Place, Span)],
) -> bool {
    let sets = |change: &&Placed<'_>| {
        matches!(&change.record.op, Operation::SetXattr { ino: whose, name, .. }
            if *whose == ino && name[..] == *CAPABILITY)
    };
    let since = before.iter().rev().find(sets).map_or(0, |change| change.place);
    let took = |t: &Taker| t.ino == ino && t.asked < place && t.ended > since && t.hidden > place;
    takers(records, lost).iter().any(took)
}

fn takers(records: &[Record], lost: &[(Ino, Place, Span)]) -> Vec<Taker> {
    let answered = records.iter().filter_map(|record| {
        let Operation::Write { ino, .. } = record.op else { return None };
        let hidden = if record.succeeded() { record.answered } else { Place::MAX };
        // What an interrupted one had begun goes on behind its answer.
        let ended = if record.interrupted { Place::MAX } else { record.answered };
        Some(Taker { ino, asked: record.asked, ended, hidden })
    });
    let lost = lost.iter().map(|(ino, asked, _)| Taker {
        ino: *ino,
        asked: *asked,
        ended: Place::MAX,
        hidden: Place::MAX,
    });
    answered.chain(lost).collect()
}

fn shed(
    claim: &Claim<'_>,
    ino: Ino,
    takers: &[Taker],
    modes: &[Option<bool>],
    changes: &[Placed<'_>],
) -> Option<Shed> {
    let state_at = |place: Place| changes.partition_point(|change| change.place <= place);
    let (first, last) = (claim.record.asked, claim.record.answered);
    let hidden = |t: &&Taker| t.ino == ino && t.asked < last && t.hidden > first;
    let mut shed = Shed { ino, group_taken: false, group_kept: false };
    for taker in takers.iter().filter(hidden) {
        for group in &modes[state_at(taker.asked)..=state_at(taker.ended.min(last))] {
            shed.group_taken |= *group == Some(true);
            shed.group_kept |= *group == Some(false);
        }
    }
    (shed.group_taken || shed.group_kept).then_some(shed)
}
