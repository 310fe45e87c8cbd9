//! Folding the write log of a region: what is still visible, what of it is moved, and when that pays.
//!
//! A fold replaces the log of a region by what is visible of it. Bytes that are written over give their
//! space back; extents in small pieces are moved together into new segments, and so is what is left of
//! segments that are mostly dead.
//!
//! Owns: these choices. Never does: reading, writing, waiting.
//!
//! Write amplification is bounded: what a fold moves for the sake of order is at most twice what was
//! written to the region since it was folded (packs of folds are marked and count no more). Beside that it
//! moves what a mostly dead segment has left, which is less than the space that comes back.
//!
//! Source: `docs/adr/0009-folding-regions.md`. Tests: `fold/tests.rs`.

use super::extent_map::{ExtentMap, Source};
use super::write_log::LogExtent;
use crate::id::SegmentId;
use crate::limits::{LOG_BYTES_MAX, WRITE_BUFFER_MAX};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

#[cfg(test)]
mod tests;

/// Whose bytes a piece of the overlay is: those of a fold, or written since.
const FOLDED: u64 = 0;
const WRITTEN: u64 = 1;

/// A shorter extent is worth moving together with its neighbours.
const FRAGMENT_MAX: u64 = 256 << 10;
/// The same when somebody asked for it.
const FRAGMENT_ASKED_MAX: u64 = 4 << 20;
/// What is put in order in one piece, or not at all, where there is not enough for everything.
const WINDOW: u64 = 8 << 20;
/// Visible extents of a region below this length on average are untidy.
const TIDY_MIN: u64 = 64 << 10;
/// Log entries for each visible extent that a read may meet.
const DEPTH_MAX: u64 = 8;
/// Visible extents that a region may have before its depth counts.
const DEPTH_FREE: u64 = 8;
/// Bytes written over that do not count.
const COVERED_FREE: u64 = 32 << 10;
/// The part of what is visible in a region that its log may carry.
const CARRIED_SHARE: u64 = 16;

/// When regions are folded without being asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Whether they are at all.
    pub enabled: bool,
    /// Entries that the log of a region may have (`compaction.write_log_count`).
    pub write_log_count: u64,
    /// Bytes written over what is visible, in percent of that (`compaction.space_amplification_percent`).
    pub space_amplification_percent: u64,
    /// From which file size on that counts (`compaction.min_file_size`).
    pub min_file_size: u64,
    /// So many bytes more of a file may be garbage before its writers wait for folds.
    pub garbage_slack: u64,
    /// Bytes that the log of a region may carry itself, however little is visible there.
    pub carried_max: u64,
    /// Visible bytes from which on a region is tidied up when nobody writes to its file.
    pub untidy_min: u64,
    /// Largest payload of a segment that a fold writes.
    pub segment_max: u32,
    /// Smallest payload of a segment of its own for what a flush has of one region.
    pub segment_min: u32,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            enabled: true,
            write_log_count: 2_147_483_647,
            space_amplification_percent: 50,
            min_file_size: 64 << 20,
            garbage_slack: 16 << 20,
            carried_max: 1 << 20,
            untidy_min: 1 << 20,
            segment_max: 8 << 20,
            segment_min: 64 << 10,
        }
    }
}

impl Policy {
    /// Bytes written over that a file of so many visible ones may have. A region may have twice its share:
    /// those with most are folded first.
    pub fn covered_max(&self, visible: u64, size: u64) -> u64 {
        let most = visible.saturating_add(WRITE_BUFFER_MAX);
        let share = u128::from(visible) * u128::from(self.space_amplification_percent) / 100;
        if size < self.min_file_size {
            most
        } else {
            most.min(u64::try_from(share).unwrap_or(most))
        }
    }
}

/// Why a region is to be folded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Its log is much longer than what is visible.
    Long,
    /// Its log carries many bytes, and is fine otherwise.
    Carried,
}

/// What the log of a region is like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RegionLog {
    /// Extents in it.
    pub entries: u64,
    /// Sum of their lengths.
    pub bytes: u64,
    /// Bytes of those that were written since the last fold.
    pub written: u64,
    /// Bytes that the log itself carries.
    pub carried: u64,
}

impl RegionLog {
    /// An extent was appended.
    pub fn appended(&mut self, len: u64, source: &Source) {
        self.entries += 1;
        self.bytes += len;
        self.written += len;
        if matches!(source, Source::Bytes(_)) {
            self.carried += len;
        }
    }

    /// Why a fold is due, whatever the rest of the file is like; `map` is what is visible, `size` that of the file.
    pub fn due(&self, map: &ExtentMap, size: u64, policy: &Policy) -> Option<Due> {
        if !policy.enabled || self.entries == 0 {
            return None;
        }
        let (visible, extents) = (map.bytes(), map.len() as u64);
        let covered = self.covered(map);
        let amplified = covered > policy.covered_max(visible, size).saturating_mul(2);
        let crowded = self.entries >= policy.write_log_count && self.entries > extents;
        let deep = self.entries > DEPTH_MAX * (extents + DEPTH_FREE)
            || covered > DEPTH_MAX * (visible + COVERED_FREE);
        // Each such fold looks at everything that is visible: where that is much, more must come together.
        let carries = self.carried > policy.carried_max.max(visible / CARRIED_SHARE);
        if amplified || crowded || deep {
            return Some(Due::Long);
        }
        carries.then_some(Due::Carried)
    }

    /// Whether a fold would pay when nobody writes: reads meet many small extents, and enough was written to
    /// put a part of them in order.
    pub fn is_untidy(&self, map: &ExtentMap, policy: &Policy) -> bool {
        let (visible, extents) = (map.bytes(), map.len() as u64);
        policy.enabled
            && visible >= policy.untidy_min
            && visible < extents * TIDY_MIN
            && self.written >= visible.min(WINDOW) / 2
    }

    /// Bytes that it names and nobody can see.
    pub fn covered(&self, map: &ExtentMap) -> u64 {
        self.bytes.saturating_sub(map.bytes())
    }

    /// A fold found nothing to do: what was written so far is no reason to try again.
    pub fn settle(&mut self) {
        self.written = 0;
    }
}

/// The log of a region, painted.
#[derive(Debug, Default)]
pub struct Overlay {
    /// What is visible.
    pub map: ExtentMap,
    /// What the log is like.
    pub log: RegionLog,
}

impl Overlay {
    /// Paints a pack.
    pub fn paint(&mut self, extents: Vec<LogExtent>, folded: bool) {
        let owner = if folded { FOLDED } else { WRITTEN };
        for extent in extents {
            let written = self.log.written;
            self.log.appended(extent.len, &extent.source);
            if folded {
                self.log.written = written;
            }
            self.map.paint_owned(extent.offset, extent.len, extent.source, owner, |_, _| ());
        }
    }

    /// Makes a range a hole.
    pub fn erase(&mut self, range: Range<u64>) {
        self.map.erase(range);
    }

    /// How many bytes of each segment are visible.
    pub fn visible(&self) -> BTreeMap<SegmentId, u64> {
        let mut visible = BTreeMap::new();
        for extent in self.map.extents() {
            if let Source::Segment { segment, .. } = extent.source {
                *visible.entry(segment).or_default() += extent.len;
            }
        }
        visible
    }

    /// What to do with it. `sparse` are the segments that will be mostly dead; `asked`: somebody wants it
    /// whatever it costs.
    pub fn plan(&self, sparse: &BTreeSet<SegmentId>, asked: bool) -> Plan {
        self.plan_in(WINDOW, sparse, asked)
    }

    /// What was written and is carried by the log is moved, and that only: it has cost nothing of what a
    /// fold may move for the sake of order, and still counts as written.
    pub fn plan_carried(&self) -> Plan {
        let mut plan = Plan { moved_is_written: true, ..Plan::default() };
        for (extent, owner) in self.map.owned() {
            let extent =
                LogExtent { offset: extent.offset, len: extent.len, source: extent.source };
            match (owner, &extent.source) {
                (WRITTEN, Source::Bytes(_)) => plan.moved.push(extent),
                (WRITTEN, _) => plan.written.push(extent),
                _ => plan.folded.push(extent),
            }
        }
        self.complete(plan)
    }

    fn complete(&self, plan: Plan) -> Plan {
        Plan {
            entries: self.log.entries,
            trimmed: self.log.bytes.saturating_sub(self.map.bytes()),
            ..plan
        }
    }

    fn plan_in(&self, window: u64, sparse: &BTreeSet<SegmentId>, asked: bool) -> Plan {
        let planner = Planner {
            sparse,
            asked,
            budget: self.log.written.saturating_mul(2),
            window,
            moves_carried: self.carried() > LOG_BYTES_MAX,
        };
        let pieces = self.map.owned().map(|(extent, owner)| Piece {
            extent: LogExtent { offset: extent.offset, len: extent.len, source: extent.source },
            written: owner == WRITTEN,
        });
        self.complete(planner.plan(pieces.collect()))
    }

    /// Visible bytes that the log itself carries.
    fn carried(&self) -> u64 {
        let bytes = self.map.extents().filter(|e| matches!(e.source, Source::Bytes(_)));
        bytes.map(|e| e.len).sum()
    }
}

/// A visible extent.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Piece {
    extent: LogExtent,
    /// Since the last fold.
    written: bool,
}

/// What a fold does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Stays where it is, and has been looked at by a fold now.
    pub folded: Vec<LogExtent>,
    /// Stays where it is, and still counts as written.
    pub written: Vec<LogExtent>,
    /// Is moved, in file order.
    pub moved: Vec<LogExtent>,
    /// What is moved still counts as written.
    pub moved_is_written: bool,
    /// Entries of the log that is replaced.
    pub entries: u64,
    /// Bytes that the log names and nobody can see.
    pub trimmed: u64,
}

impl Plan {
    /// Whether it makes anything better.
    pub fn is_worth_it(&self) -> bool {
        let kept = (self.folded.len() + self.written.len()) as u64;
        !self.moved.is_empty() || self.trimmed > 0 || kept < self.entries
    }

    /// Bytes that are moved.
    pub fn moved_bytes(&self) -> u64 {
        self.moved.iter().map(|e| e.len).sum()
    }

    /// What is moved, cut into as many parts as there will be segments of at most `max` bytes.
    pub fn parts(&self, max: u32) -> Vec<Vec<LogExtent>> {
        let mut parts = Vec::new();
        let mut part: Vec<LogExtent> = Vec::new();
        let mut room = u64::from(max);
        for extent in &self.moved {
            let mut done = 0;
            while done < extent.len {
                let len = (extent.len - done).min(room);
                let source = extent.source.skip(done);
                part.push(LogExtent { offset: extent.offset + done, len, source });
                done += len;
                room -= len;
                if room == 0 {
                    parts.push(core::mem::take(&mut part));
                    room = u64::from(max);
                }
            }
        }
        if !part.is_empty() {
            parts.push(part);
        }
        parts
    }
}

/// The choices of one plan.
struct Planner<'a> {
    sparse: &'a BTreeSet<SegmentId>,
    asked: bool,
    /// Bytes that may be moved for the sake of order.
    budget: u64,
    /// Runs are cut where the file has a multiple of this.
    window: u64,
    /// The log carries more than it should.
    moves_carried: bool,
}

impl Planner<'_> {
    fn plan(&self, pieces: Vec<Piece>) -> Plan {
        let runs = self.runs(pieces);
        let mut left = if self.asked { u64::MAX } else { self.budget };
        let chosen = self.choose(&runs, &mut left);
        let mut plan = Plan::default();
        let (mut price, mut paid) = (0u64, 0u64);
        for (run, chosen) in runs.into_iter().zip(chosen) {
            if chosen {
                price += self.of_choice(&run.pieces);
                paid += run.written();
                plan.moved.extend(run.pieces.into_iter().map(|piece| piece.extent));
            } else {
                self.keep(&mut plan, run, &mut left);
            }
        }
        // What was written elsewhere pays for what was moved beyond what was itself written.
        pay(&mut plan, price.div_ceil(2).saturating_sub(paid));
        plan
    }

    /// Which runs are moved, those first that save the most extents for the bytes they cost.
    fn choose(&self, runs: &[Run], left: &mut u64) -> Vec<bool> {
        let cost: Vec<u64> = runs.iter().map(|run| self.of_choice(&run.pieces)).collect();
        let scattered = (0..runs.len()).filter(|n| runs[*n].is_scattered());
        let mut order: Vec<usize> = scattered.collect();
        order.sort_by_key(|n| cost[*n] / (runs[*n].pieces.len() as u64 - 1));
        let mut chosen = vec![false; runs.len()];
        for n in order {
            if let Some(rest) = left.checked_sub(cost[n]) {
                *left = rest;
                chosen[n] = true;
            }
        }
        chosen
    }

    /// Bytes that are moved for the sake of order only. To take a part of a segment that could stay leaves
    /// the rest of it behind, perhaps mostly dead: without the bound of what was written one fold would
    /// make the next one necessary, for ever.
    fn of_choice(&self, pieces: &[Piece]) -> u64 {
        let stays = pieces.iter().filter(|piece| !self.must_move(&piece.extent));
        stays.map(|piece| piece.extent.len).sum()
    }

    /// Pieces that touch and are of one kind: worth moving together, or not.
    fn runs(&self, pieces: Vec<Piece>) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        for piece in pieces {
            let loose = self.is_loose(&piece.extent);
            let offset = piece.extent.offset;
            match runs.last_mut() {
                Some(run)
                    if run.loose == loose
                        && run.end() == offset
                        && run.begin() / self.window == offset / self.window =>
                {
                    run.pieces.push(piece);
                }
                _ => runs.push(Run { loose, pieces: Vec::from([piece]) }),
            }
        }
        runs
    }

    /// What of a run must move does; neighbours that were written go along.
    fn keep(&self, plan: &mut Plan, run: Run, left: &mut u64) {
        let fresh = |piece: &Piece| piece.written || self.must_move(&piece.extent);
        let groups = run.pieces.chunk_by(|a, b| fresh(a) == fresh(b));
        for group in groups {
            let rest = left.checked_sub(self.of_choice(group));
            let together = run.loose && group.len() > 1 && fresh(&group[0]) && rest.is_some();
            if let (true, Some(rest)) = (together, rest) {
                *left = rest;
            }
            for Piece { extent, written } in group {
                let extent = extent.clone();
                if together || self.must_move(&extent) {
                    plan.moved.push(extent);
                } else if *written && run.loose {
                    plan.written.push(extent);
                } else {
                    plan.folded.push(extent);
                }
            }
        }
    }

    fn must_move(&self, extent: &LogExtent) -> bool {
        match &extent.source {
            Source::Bytes(_) => self.moves_carried,
            Source::Segment { segment, .. } => self.sparse.contains(segment),
        }
    }

    fn is_loose(&self, extent: &LogExtent) -> bool {
        let short = if self.asked { FRAGMENT_ASKED_MAX } else { FRAGMENT_MAX };
        extent.len < short || self.must_move(extent)
    }
}

/// So many bytes of what was written pay for something, and for nothing more.
fn pay(plan: &mut Plan, mut owed: u64) {
    let kept = core::mem::take(&mut plan.written);
    for extent in kept {
        if owed > 0 {
            owed = owed.saturating_sub(extent.len);
            plan.folded.push(extent);
        } else {
            plan.written.push(extent);
        }
    }
    plan.folded.sort_by_key(|extent| extent.offset);
}

/// Pieces that touch.
struct Run {
    loose: bool,
    pieces: Vec<Piece>,
}

impl Run {
    /// Short pieces that would be one.
    fn is_scattered(&self) -> bool {
        self.loose && self.pieces.len() > 1
    }

    fn written(&self) -> u64 {
        self.pieces.iter().filter(|piece| piece.written).map(|piece| piece.extent.len).sum()
    }

    fn begin(&self) -> u64 {
        self.pieces.first().map_or(0, |piece| piece.extent.offset)
    }

    fn end(&self) -> u64 {
        self.pieces.last().map_or(0, |piece| piece.extent.offset + piece.extent.len)
    }
}
