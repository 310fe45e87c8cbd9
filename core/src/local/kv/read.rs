//! Reads: the layers' part under the lock, the rest outside of it.

use super::cut::{Cut, CutLimits, Slot, precedes};
use super::engine::Snapshot;
use super::layer::Layer;
use super::store::Store;
use crate::local::Shared;
use crate::port::meta_kv::{Key, KeyRange, KvError, Read, ReadRound, Value, Values, Version};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::ControlFlow;

/// Bytes of keys and values after which a range reply says `more`.
const REPLY_BYTES_MAX: usize = if cfg!(test) { 40 } else { 128 << 10 };
/// Keys of the active layer looked at while the lock is held. Both are small in tests, so that short
/// ranges meet them.
const STEPS_MAX: usize = if cfg!(test) { 3 } else { 2048 };

/// Performs a round. Engine reads happen outside the lock; the version stays the same throughout.
pub fn read<S: Snapshot>(
    shared: &impl Shared<Store<S>>,
    round: &ReadRound,
) -> Result<(Version, Vec<Values>), KvError> {
    let view = shared.with(|store| store.view(round.at, &round.reads))?;
    let version = view.version;
    let mut values = Vec::with_capacity(round.reads.len());
    for (read, active) in round.reads.iter().zip(view.parts) {
        values.push(match (read, active) {
            (Read::Get(key), Part::Key(slot)) => Values::One(view.below.one(key, slot)?),
            (Read::Range { range, limit, reverse }, Part::Cut(cut)) => {
                let scan = Scan { version, limit: *limit as usize, reverse: *reverse };
                scan.rows(shared, &view.below, range, cut)?
            }
            (Read::Get(_), Part::Cut(_)) | (Read::Range { .. }, Part::Key(_)) => {
                unreachable!("a view has the parts of its reads")
            }
        });
    }
    Ok((version, values))
}

/// What the lock is needed for: the active layer's part of each read, and handles on the rest.
pub(super) struct View<S> {
    version: Version,
    parts: Vec<Part>,
    below: Below<S>,
}

/// The active layer's part of one read.
enum Part {
    Key(Slot),
    Cut(Cut),
}

/// The immutable layers below the active one.
pub(super) struct Below<S> {
    pub(super) snapshot: S,
    pub(super) layer: Option<Arc<Layer>>,
    pub(super) version: Version,
}

impl<S> View<S> {
    /// Takes the parts out of the active layer, if the version reaches into it.
    pub(super) fn new(below: Below<S>, active: Option<&Layer>, reads: &[Read]) -> View<S> {
        let version = below.version;
        let part = |read: &Read| match (read, active) {
            (Read::Get(key), Some(layer)) => Part::Key(layer.lookup(key, version)),
            (Read::Get(_), None) => Part::Key(Slot::Untouched),
            (Read::Range { range, limit, reverse }, Some(layer)) => {
                Part::Cut(Cut::of(layer, range, version, *reverse, cut_limits(*limit as usize)))
            }
            (Read::Range { range, .. }, None) => Part::Cut(Cut::empty(range.clone())),
        };
        View { version, parts: reads.iter().map(part).collect(), below }
    }
}

impl<S: Snapshot> Below<S> {
    fn one(&self, key: &Key, active: Slot) -> Result<Option<Value>, KvError> {
        let slot = active.over(|| match &self.layer {
            Some(layer) => layer.lookup(key, self.version),
            None => Slot::Untouched,
        });
        match slot {
            Slot::Absent => Ok(None),
            Slot::Value(value) => Ok(Some(value)),
            Slot::Untouched => Ok(self.snapshot.get(key)?),
            Slot::Operands(_) => Ok(slot.resolve(self.snapshot.get(key)?.as_deref())),
        }
    }
}

/// One range read on its way.
struct Scan {
    version: Version,
    limit: usize,
    reverse: bool,
}

impl Scan {
    fn rows<S: Snapshot>(
        &self,
        shared: &impl Shared<Store<S>>,
        below: &Below<S>,
        range: &KeyRange,
        cut: Cut,
    ) -> Result<Values, KvError> {
        let mut rows = Rows::new(self.limit);
        if self.limit == 0 || range.is_empty() {
            return Ok(Values::Rows { rows: rows.rows, more: false });
        }
        let mut rest = self.step(below, range, cut, &mut rows)?;
        while let Some(range) = rest {
            if !rows.rows.is_empty() || rows.full {
                rows.full = true;
                break;
            }
            // Everything seen so far is deleted: go on behind it.
            let read = Read::Range {
                range: range.clone(),
                limit: u32::try_from(self.limit).unwrap_or(u32::MAX),
                reverse: self.reverse,
            };
            let view = shared.with(|store| store.view(Some(self.version), &[read]))?;
            let cut = match view.parts.into_iter().next() {
                Some(Part::Cut(cut)) => cut,
                _ => Cut::empty(range.clone()),
            };
            rest = self.step(&view.below, &range, cut, &mut rows)?;
        }
        Ok(Values::Rows { rows: rows.rows, more: rows.full })
    }

    /// Adds what a cut of the active layer covers; returns the part of the range behind it.
    fn step<S: Snapshot>(
        &self,
        below: &Below<S>,
        range: &KeyRange,
        active: Cut,
        rows: &mut Rows,
    ) -> Result<Option<KeyRange>, KvError> {
        let cut = match &below.layer {
            Some(layer) => {
                let limits = cut_limits(self.limit);
                let lower = Cut::of(layer, &active.covered, self.version, self.reverse, limits);
                active.over(lower, self.reverse)
            }
            None => active,
        };
        let rest = if self.reverse {
            KeyRange { begin: range.begin.clone(), end: cut.covered.begin.clone() }
        } else {
            KeyRange { begin: cut.covered.end.clone(), end: range.end.clone() }
        };
        self.merge(&below.snapshot, cut, rows)?;
        Ok((!rest.is_empty()).then_some(rest))
    }

    /// Merges a cut with the engine's rows.
    fn merge<S: Snapshot>(&self, snapshot: &S, cut: Cut, rows: &mut Rows) -> Result<(), KvError> {
        let gaps = cut.gaps(self.reverse);
        let mut above = cut.entries.into_iter().peekable();
        for gap in gaps {
            let mut visit = |key: &[u8], value: &[u8]| {
                while let Some((upper, slot)) =
                    above.next_if(|(upper, _)| precedes(upper, key, self.reverse))
                {
                    rows.add(upper, slot.resolve(None))?;
                }
                match above.next_if(|(upper, _)| **upper == *key) {
                    Some((upper, slot)) => rows.add(upper, slot.resolve(Some(value))),
                    None => rows.add_base(key, value),
                }
            };
            snapshot.scan(&gap, self.reverse, &mut visit)?;
            if rows.full {
                return Ok(());
            }
        }
        for (key, slot) in above {
            if rows.add(key, slot.resolve(None)).is_break() {
                break;
            }
        }
        Ok(())
    }
}

/// Rows of a reply, bounded.
struct Rows {
    rows: Vec<(Key, Value)>,
    limit: usize,
    bytes: usize,
    /// A row was turned away.
    full: bool,
}

impl Rows {
    fn new(limit: usize) -> Rows {
        Rows { rows: Vec::new(), limit, bytes: 0, full: false }
    }

    fn add(&mut self, key: Key, value: Option<Value>) -> ControlFlow<()> {
        let Some(value) = value else { return ControlFlow::Continue(()) };
        if !self.has_room() {
            return ControlFlow::Break(());
        }
        self.bytes += key.len() + value.len();
        self.rows.push((key, value));
        ControlFlow::Continue(())
    }

    fn add_base(&mut self, key: &[u8], value: &[u8]) -> ControlFlow<()> {
        if !self.has_room() {
            return ControlFlow::Break(());
        }
        self.bytes += key.len() + value.len();
        self.rows.push((Key::new(key), Value::copy_from_slice(value)));
        ControlFlow::Continue(())
    }

    fn has_room(&mut self) -> bool {
        self.full = self.full || self.rows.len() >= self.limit || self.bytes >= REPLY_BYTES_MAX;
        !self.full
    }
}

/// One row more than asked for, so that the reply knows whether there is more.
fn cut_limits(limit: usize) -> CutLimits {
    CutLimits { rows: limit.saturating_add(1), steps: STEPS_MAX }
}
