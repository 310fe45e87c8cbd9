//! What is known of one file's data: its committed extents, the write buffer, the flushes in flight.
//!
//! Invariant: every byte of the file is in exactly one of buffer, committed extents, or a hole; a
//! flush that commits moves its extents from the first to the second in one step of the machine.
//! Loads and commits are put in order by their versions, so that neither is applied twice or lost.

mod committed;
mod space;

pub(super) use committed::{Committed, Span};

use super::compaction::{ERASED_MAX, ERASES_MAX};
use super::tasks::TaskId;
use crate::data::fold::{Due, Policy};
use crate::data::write_buffer::{SubBufferId, WriteBuffer};
use crate::error::FsError;
use crate::id::SegmentId;
use crate::limits::REGION_SIZE;
use crate::meta::attrs::Attrs;
use crate::meta::ops::flush::Flushed;
use crate::meta::ops::load::LoadedRegion;
use crate::meta::ops::patch::{Patch, Patched};
use crate::port::kernel::Whence;
use crate::port::meta_kv::{Commit, Version};
use crate::time::WallTime;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use bytes::Bytes;
use committed::Region;
use core::ops::Range;

/// One file in memory.
#[derive(Default)]
pub(super) struct FileState {
    known: Known,
    /// Counts resets, so that the result of an older load is not taken.
    pub(super) epoch: u64,
    /// Changes that committed while a load was under way.
    replay: Vec<(Commit, Applied)>,
    pub(super) buffer: WriteBuffer,
    /// One per sealed sub-buffer, oldest first.
    pub(super) pipeline: VecDeque<Stage>,
    /// Tasks that wait for a sub-buffer and all older ones.
    pub(super) settling: Vec<(SubBufferId, TaskId)>,
    pub(super) errors: Errors,
    /// Bytes of the volume that are promised to what is buffered.
    pub(super) reserved: u64,
    measured: Measured,
    /// The regions are being listed.
    listing: bool,
    /// The last search that had to wait for a region.
    scan: Option<Scan>,
    /// Counts what may change the answer of a search.
    changes: u64,
    /// Erases, and bytes erased, since somebody looked after them.
    erased: (u32, u64),
}

/// A change that committed, as memory makes it again.
pub(super) enum Applied {
    /// A flush.
    Flushed(Flushed, Written),
    /// Something that had the inode to itself, and the attributes after it.
    Patched(Patch, Box<Attrs>),
}

/// What a flush did to size and time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Written {
    /// End of its last byte.
    pub(super) end: u64,
    /// Time of its newest write.
    pub(super) mtime: WallTime,
}

/// Write-back errors of an inode.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Errors {
    /// How many there were.
    pub(super) count: u64,
    /// The last one.
    pub(super) last: Option<FsError>,
}

/// A sealed sub-buffer on its way.
#[derive(Clone, Debug)]
pub(super) struct Stage {
    pub(super) id: SubBufferId,
    /// The segments that hold its bytes, with their payload lengths; none if the log carries them.
    pub(super) segments: Vec<(SegmentId, u32)>,
    pub(super) step: Step,
}

/// The steps of a sub-buffer, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Its segments are being appended.
    Appending,
    /// Its bytes are where they must be before a commit may name them.
    Appended,
    /// Its transaction is under way.
    Committing,
}

/// How much of the oldest sub-buffer lies over committed bytes, as far as that was found out.
#[derive(Clone, Copy, Debug, Default)]
struct Measured {
    id: Option<SubBufferId>,
    /// Up to this offset in the file.
    upto: u64,
    covered: u64,
}

/// A search for data or a hole on its way.
#[derive(Clone, Copy, Debug)]
struct Scan {
    from: u64,
    whence: Whence,
    changes: u64,
    /// From `from` up to here nothing was found.
    at: u64,
}

/// What is missing before something can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// Attributes and inline bytes.
    Attrs,
    /// Which regions there are.
    Regions,
    /// A region; whether its load has not begun yet.
    Region(u64, bool),
}

#[derive(Default)]
enum Known {
    #[default]
    Nothing,
    Loading,
    Loaded(Committed),
}

impl FileState {
    /// A file that was created just now.
    pub(super) fn created(attrs: &Attrs, version: Version) -> FileState {
        let known = Known::Loaded(Committed::new(attrs, Bytes::new(), version));
        FileState { known, ..FileState::default() }
    }

    /// What is committed, if loaded.
    pub(super) fn committed(&self) -> Option<&Committed> {
        match &self.known {
            Known::Loaded(committed) => Some(committed),
            _ => None,
        }
    }

    fn committed_mut(&mut self) -> Option<&mut Committed> {
        match &mut self.known {
            Known::Loaded(committed) => Some(committed),
            _ => None,
        }
    }

    fn is_loading(&self) -> bool {
        matches!(self.known, Known::Loading)
    }

    /// Marks a load of the attributes as under way; false if one is already.
    pub(super) fn begin_load(&mut self) -> bool {
        let idle = matches!(self.known, Known::Nothing);
        if idle {
            self.known = Known::Loading;
        }
        idle
    }

    /// A load of attributes and inline bytes arrived.
    pub(super) fn loaded(&mut self, epoch: u64, attrs: &Attrs, inline: Bytes, version: Version) {
        if epoch != self.epoch || matches!(self.known, Known::Loaded(_)) {
            return;
        }
        self.known = Known::Loaded(Committed::new(attrs, inline, version));
        self.replay_onto();
    }

    /// A load failed: the next request tries again.
    pub(super) fn load_failed(&mut self, epoch: u64) {
        if epoch == self.epoch && matches!(self.known, Known::Loading) {
            self.known = Known::Nothing;
        }
    }

    /// The first region of a range that must be loaded, and whether that has not begun yet.
    pub(super) fn missing_region(&mut self, range: &Range<u64>) -> Option<(u64, bool)> {
        let committed = self.committed_mut()?;
        if committed.inline.is_some() || range.is_empty() {
            return None;
        }
        for region in range.start / REGION_SIZE..=(range.end - 1) / REGION_SIZE {
            match committed.regions.get(&region) {
                Some(Region::Loaded(..)) => {}
                Some(Region::Loading) => return Some((region, false)),
                None if committed.complete => {}
                Some(Region::Listed) | None => {
                    committed.regions.insert(region, Region::Loading);
                    return Some((region, true));
                }
            }
        }
        None
    }

    /// Whether the extents of a range are in memory.
    pub(super) fn knows(&self, range: &Range<u64>) -> bool {
        let Some(committed) = self.committed() else { return false };
        let loaded = |region| match committed.regions.get(&region) {
            Some(Region::Loaded(..)) => true,
            Some(_) => false,
            None => committed.complete,
        };
        committed.inline.is_some()
            || range.is_empty()
            || (range.start / REGION_SIZE..=(range.end - 1) / REGION_SIZE).all(loaded)
    }

    /// A load of a region arrived.
    pub(super) fn region_loaded(
        &mut self,
        epoch: u64,
        region: u64,
        loaded: LoadedRegion,
        version: Version,
    ) {
        if epoch != self.epoch {
            return;
        }
        let Some(committed) = self.committed_mut() else { return };
        if matches!(committed.regions.get(&region), Some(Region::Loading)) {
            committed.make_room();
            committed.regions.insert(region, Region::Loaded(version, loaded));
            committed.touched.insert(region);
        }
        self.replay_onto();
    }

    /// A load of a region failed: the next request tries again.
    pub(super) fn region_failed(&mut self, epoch: u64, region: u64) {
        if epoch == self.epoch
            && let Some(committed) = self.committed_mut()
        {
            committed.regions.insert(region, Region::Listed);
        }
    }

    /// The regions of which the log has become one to be folded, since the last call, and those that are
    /// to be folded when nobody writes.
    pub(super) fn due(&mut self, policy: &Policy) -> (Vec<(u64, Due)>, Vec<u64>) {
        self.committed_mut().map_or_else(Default::default, |committed| committed.due(policy))
    }

    /// A fold of a region found nothing to do.
    pub(super) fn settle_region(&mut self, region: u64) {
        if let Some(committed) = self.committed_mut() {
            committed.settle_region(region);
        }
    }

    /// By how much what the logs in memory name and nobody can see, and what is not named any more and still
    /// there (`unnamed`), passes what the policy allows.
    pub(super) fn excess(&self, policy: &Policy, unnamed: u64) -> Option<u64> {
        let committed = self.committed()?;
        let most = policy.covered_max(committed.visible(), committed.size);
        (committed.garbage() + unnamed).checked_sub(most).filter(|excess| *excess > 0)
    }

    /// The region with most garbage, of those that are wanted.
    pub(super) fn worst_region(&self, wanted: impl Fn(u64) -> bool) -> Option<u64> {
        self.committed()?.worst_region(wanted)
    }

    /// Whether so much was erased that it is worth giving back.
    pub(super) fn wants_sweep(&self) -> bool {
        let (erases, bytes) = self.erased;
        erases >= ERASES_MAX || bytes >= ERASED_MAX
    }

    /// Somebody looks after what was erased.
    pub(super) fn swept(&mut self) {
        self.erased = (0, 0);
    }

    /// What is known of where a region's bytes are is old; it is read again when it is needed.
    pub(super) fn forget_region(&mut self, region: u64) {
        if let Some(committed) = self.committed_mut() {
            committed.forget_region(region);
        }
    }

    /// Something else than a flush changed the file: what was known of it is void.
    pub(super) fn reset(&mut self) {
        self.epoch += 1;
        self.changes += 1;
        self.known = Known::Nothing;
        self.replay.clear();
    }

    /// A flush committed.
    pub(super) fn apply(&mut self, commit: Commit, flushed: Flushed, written: Written) {
        self.replay.push((commit, Applied::Flushed(flushed, written)));
        self.replay_onto();
    }

    /// Something that had the inode to itself committed.
    pub(super) fn patched(&mut self, commit: Commit, patched: &Patched) {
        let Some(patch) = &patched.patch else { return self.reset() };
        self.changes += 1;
        if patch.erase.is_some() {
            let before = self.committed().map_or(0, |c| c.bytes);
            let gone = before.saturating_sub(patched.attrs.usage.lo).max(0);
            self.erased = (self.erased.0 + 1, self.erased.1 + gone as u64);
        }
        self.replay
            .push((commit, Applied::Patched(patch.clone(), Box::new(patched.attrs.clone()))));
        self.replay_onto();
    }

    /// Applies the changes that loads may not have seen; forgets them once no load is under way.
    fn replay_onto(&mut self) {
        let listing = self.listing;
        let loading = match &mut self.known {
            Known::Loaded(committed) => {
                for (commit, applied) in &self.replay {
                    committed.apply(*commit, applied);
                }
                listing
                    || committed.regions.values().any(|region| matches!(region, Region::Loading))
            }
            Known::Loading => true,
            Known::Nothing => false,
        };
        if !loading {
            self.replay.clear();
        }
    }

    /// Bytes were buffered.
    pub(super) fn wrote(&mut self) {
        self.changes += 1;
    }

    /// Size with the buffered writes.
    pub(super) fn size(&self) -> Option<u64> {
        Some(self.committed()?.size.max(self.buffer.end()))
    }

    /// The time to stamp a write with, so that a lagging clock cannot hide it.
    pub(super) fn write_time(&self, wall: WallTime) -> WallTime {
        let committed = self.committed().filter(|c| !c.mtime_set).map(|c| c.mtime);
        let last = self.buffer.mtime().or(committed);
        last.map_or(wall, |last| wall.max(last.next_tick()))
    }

    /// Nothing buffered and nothing in flight.
    pub(super) fn is_clean(&self) -> bool {
        self.buffer.is_empty() && self.pipeline.is_empty()
    }

    /// Something of it is being written.
    pub(super) fn is_committing(&self) -> bool {
        !self.pipeline.is_empty()
    }

    /// Gives up the flushes from the `first` on. Returns the segments of theirs that are in place and that
    /// nothing will name; one that is still being appended finds nobody who waits for it.
    pub(super) fn drop_stages(&mut self, first: usize) -> Vec<(SegmentId, u32)> {
        let dropped = self.pipeline.drain(first..).filter(|stage| stage.step != Step::Appending);
        dropped.flat_map(|stage| stage.segments).collect()
    }
}
