//! A cut: what one layer says about a range as of one version, in the order of a scan.
//!
//! Cuts are bounded, so that taking one from the active layer holds the lock shortly; a cut names the
//! part of the range it covers and the scan goes on behind it.

use super::layer::{Chain, Layer, Operand, Operands, append, slot};
use super::ranges::bounds;
use crate::port::meta_kv::{Key, KeyRange, Value, Version};
use alloc::vec::Vec;

/// What a layer says about a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    /// Nothing: look below.
    Untouched,
    /// The key is not there.
    Absent,
    /// The key has this value.
    Value(Value),
    /// Look below and apply these.
    Operands(Operands),
}

impl Slot {
    /// The statement of two layers together, this one above.
    pub(super) fn over(self, below: impl FnOnce() -> Slot) -> Slot {
        match self {
            Slot::Untouched => below(),
            Slot::Operands(mut operands) => match below() {
                Slot::Untouched => Slot::Operands(operands),
                Slot::Operands(mut under) => {
                    operands.drain(..).for_each(|operand| append(&mut under, operand));
                    Slot::Operands(under)
                }
                Slot::Absent => folded(&operands, None),
                Slot::Value(value) => folded(&operands, Some(&value)),
            },
            decided => decided,
        }
    }

    /// The value, given what the engine has.
    pub(super) fn resolve(self, base: Option<&[u8]>) -> Option<Value> {
        match self {
            Slot::Untouched => base.map(Value::copy_from_slice),
            Slot::Absent => None,
            Slot::Value(value) => Some(value),
            Slot::Operands(operands) => Operand::fold(&operands, base),
        }
    }
}

fn folded(operands: &[Operand], base: Option<&[u8]>) -> Slot {
    Operand::fold(operands, base).map_or(Slot::Absent, Slot::Value)
}

/// What a layer says about a range.
pub(super) struct Cut {
    /// The part of the range this is about: all of it, or its first part in scan order.
    pub(super) covered: KeyRange,
    /// Keys in scan order. Operands only where nothing of the cut clears the key beneath.
    pub(super) entries: Vec<(Key, Slot)>,
    /// Ranges of which nothing below shows through; ascending, disjoint.
    pub(super) cleared: Vec<KeyRange>,
}

/// How much of a layer one cut may touch.
#[derive(Clone, Copy, Debug)]
pub(super) struct CutLimits {
    /// Keys that have a value.
    pub(super) rows: usize,
    /// Keys and cleared segments looked at.
    pub(super) steps: usize,
}

impl Cut {
    /// A cut that says nothing.
    pub(super) fn empty(range: KeyRange) -> Cut {
        Cut { covered: range, entries: Vec::new(), cleared: Vec::new() }
    }

    /// Takes a cut of a layer.
    pub(super) fn of(
        layer: &Layer,
        range: &KeyRange,
        at: Version,
        reverse: bool,
        limits: CutLimits,
    ) -> Cut {
        if range.is_empty() {
            return Cut::empty(range.clone());
        }
        let (cleared, covered) = layer.clears().covered(range, at, reverse, limits.steps);
        let mut cut = Cut { covered, entries: Vec::new(), cleared };
        if cut.covered.is_empty() {
            return cut;
        }
        let keys = layer.keys().range::<[u8], _>(bounds(&cut.covered));
        let stopped = if reverse {
            take(keys.rev(), at, limits, &mut cut.entries)
        } else {
            take(keys, at, limits, &mut cut.entries)
        };
        if let Some(last) = stopped {
            let seen = if reverse {
                KeyRange { begin: last, end: cut.covered.end.clone() }
            } else {
                KeyRange { begin: cut.covered.begin.clone(), end: last.successor() }
            };
            cut.restrict(seen);
        }
        cut
    }

    /// Lays a cut over another one of the same range.
    pub(super) fn over(mut self, mut below: Cut, reverse: bool) -> Cut {
        if below.entries.is_empty() && below.cleared.is_empty() && below.covered == self.covered {
            return self;
        }
        let both = KeyRange {
            begin: self.covered.begin.clone().max(below.covered.begin.clone()),
            end: self.covered.end.clone().min(below.covered.end.clone()),
        };
        self.restrict(both.clone());
        below.restrict(both.clone());

        let mut entries = Vec::with_capacity(self.entries.len() + below.entries.len());
        let mut under = below.entries.into_iter().peekable();
        for (key, slot) in self.entries {
            while let Some(lower) = under.next_if(|(lower, _)| precedes(lower, &key, reverse)) {
                if !contains(&self.cleared, &lower.0) {
                    entries.push(lower);
                }
            }
            let lower = under.next_if(|(lower, _)| *lower == key).map(|(_, slot)| slot);
            let slot = slot.over(|| match lower {
                Some(slot) => slot,
                None if contains(&below.cleared, &key) => Slot::Absent,
                None => Slot::Untouched,
            });
            entries.push((key, slot));
        }
        entries.extend(under.filter(|(lower, _)| !contains(&self.cleared, lower)));
        Cut { covered: both, entries, cleared: union(self.cleared, below.cleared) }
    }

    /// Forgets what lies outside of `seen`, which begins or ends where the cut does.
    fn restrict(&mut self, seen: KeyRange) {
        if seen == self.covered {
            return;
        }
        self.entries.retain(|(key, _)| seen.contains(key));
        self.cleared.retain_mut(|range| {
            if range.begin < seen.begin {
                range.begin = seen.begin.clone();
            }
            if range.end > seen.end {
                range.end = seen.end.clone();
            }
            !range.is_empty()
        });
        self.covered = seen;
    }

    /// The parts of the covered range where the engine shows through, in scan order.
    pub(super) fn gaps(&self, reverse: bool) -> Vec<KeyRange> {
        let mut gaps = Vec::with_capacity(self.cleared.len() + 1);
        let mut begin = &self.covered.begin;
        for cleared in &self.cleared {
            if *begin < cleared.begin {
                gaps.push(KeyRange { begin: begin.clone(), end: cleared.begin.clone() });
            }
            begin = &cleared.end;
        }
        if *begin < self.covered.end {
            gaps.push(KeyRange { begin: begin.clone(), end: self.covered.end.clone() });
        }
        if reverse {
            gaps.reverse();
        }
        gaps
    }
}

/// Whether `a` comes before `b` in scan order.
pub(super) fn precedes(a: &[u8], b: &[u8], reverse: bool) -> bool {
    if reverse { a > b } else { a < b }
}

/// Collects slots until a limit is met; then the last key looked at.
fn take<'a>(
    keys: impl Iterator<Item = (&'a Key, &'a Chain)>,
    at: Version,
    limits: CutLimits,
    entries: &mut Vec<(Key, Slot)>,
) -> Option<Key> {
    let mut rows = 0;
    for (step, (key, chain)) in keys.enumerate() {
        match slot(chain, at) {
            Slot::Untouched => {}
            Slot::Absent => entries.push((key.clone(), Slot::Absent)),
            slot => {
                rows += 1;
                entries.push((key.clone(), slot));
            }
        }
        if rows >= limits.rows || step + 1 >= limits.steps {
            return Some(key.clone());
        }
    }
    None
}

fn contains(ranges: &[KeyRange], key: &[u8]) -> bool {
    let n = ranges.partition_point(|range| &*range.begin <= key);
    n.checked_sub(1).is_some_and(|i| key < &*ranges[i].end)
}

/// Both, as ascending disjoint ranges.
fn union(a: Vec<KeyRange>, b: Vec<KeyRange>) -> Vec<KeyRange> {
    if a.is_empty() {
        return b;
    }
    if b.is_empty() {
        return a;
    }
    let mut all: Vec<KeyRange> = a.into_iter().chain(b).collect();
    all.sort_by(|x, y| x.begin.cmp(&y.begin));
    let mut out: Vec<KeyRange> = Vec::with_capacity(all.len());
    for range in all {
        match out.last_mut() {
            Some(last) if range.begin <= last.end => {
                if range.end > last.end {
                    last.end = range.end;
                }
            }
            _ => out.push(range),
        }
    }
    out
}
