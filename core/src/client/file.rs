//! What is known of one file's data: its committed extents, the write buffer, the flushes in flight.
//!
//! Invariant: every byte of the file is in exactly one of buffer, committed extents, or a hole; a
//! flush that commits moves its extents from the first to the second in one step of the machine.
//! Loads and commits are put in order by their versions, so that neither is applied twice or lost.

use super::tasks::TaskId;
use crate::data::extent_map::{ExtentMap, Source};
use crate::data::write_buffer::{SubBufferId, WriteBuffer};
use crate::error::FsError;
use crate::id::SegmentId;
use crate::limits::{EXTENTS_KEPT_MAX, REGION_SIZE};
use crate::meta::attrs::Attrs;
use crate::meta::ops::flush::Flushed;
use crate::meta::record::{Core, flag};
use crate::port::meta_kv::{Commit, Version};
use crate::time::WallTime;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use bytes::Bytes;
use core::ops::Range;

/// One file in memory.
#[derive(Default)]
pub(super) struct FileState {
    known: Known,
    /// Counts resets, so that the result of an older load is not taken.
    pub(super) epoch: u64,
    /// Flushes that committed while a load was under way.
    replay: Vec<(Commit, Flushed, Written)>,
    pub(super) buffer: WriteBuffer,
    /// One per sealed sub-buffer, oldest first.
    pub(super) pipeline: VecDeque<Stage>,
    /// Tasks that wait for a sub-buffer and all older ones.
    pub(super) settling: Vec<(SubBufferId, TaskId)>,
    pub(super) errors: Errors,
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

/// Where a sealed sub-buffer is on its way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stage {
    pub(super) id: SubBufferId,
    pub(super) step: Step,
}

/// The steps of a sub-buffer, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Its segment is being appended.
    Appending,
    /// Its bytes are where they must be before a commit may name them.
    Appended(Option<(SegmentId, u32)>),
    /// Its transaction is under way.
    Committing,
}

#[derive(Default)]
enum Known {
    #[default]
    Nothing,
    Loading,
    Loaded(Committed),
}

/// What is committed of a file, as of the loads and commits seen.
pub(super) struct Committed {
    version: Version,
    pub(super) size: u64,
    pub(super) generation: u64,
    mtime: WallTime,
    mtime_set: bool,
    /// All bytes of an inline file.
    inline: Option<Bytes>,
    regions: BTreeMap<u64, Region>,
    /// Regions that are not in the table are empty.
    complete: bool,
}

enum Region {
    Loading,
    Loaded(Version, ExtentMap),
}

impl Region {
    fn extents(&self) -> usize {
        match self {
            Region::Loading => 0,
            Region::Loaded(_, map) => map.len(),
        }
    }
}

/// What a read of committed bytes finds.
pub(super) enum Span {
    Bytes(Bytes),
    Segment { segment: SegmentId, offset: u32 },
    Hole,
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

    /// Everything that a read needs was read afresh at one version.
    pub(super) fn reloaded(
        &mut self,
        attrs: &Attrs,
        inline: Bytes,
        maps: Vec<(u64, ExtentMap)>,
        version: Version,
    ) {
        let mut committed = Committed::new(attrs, inline, version);
        let maps = maps.into_iter().map(|(region, map)| (region, Region::Loaded(version, map)));
        committed.regions.extend(maps);
        self.known = Known::Loaded(committed);
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
                None => {
                    committed.regions.insert(region, Region::Loading);
                    return Some((region, true));
                }
            }
        }
        None
    }

    /// A load of a region arrived.
    pub(super) fn region_loaded(
        &mut self,
        epoch: u64,
        region: u64,
        map: ExtentMap,
        version: Version,
    ) {
        if epoch != self.epoch {
            return;
        }
        let Some(committed) = self.committed_mut() else { return };
        if matches!(committed.regions.get(&region), Some(Region::Loading)) {
            committed.make_room();
            committed.regions.insert(region, Region::Loaded(version, map));
        }
        self.replay_onto();
    }

    /// A load of a region failed: the next request tries again.
    pub(super) fn region_failed(&mut self, epoch: u64, region: u64) {
        if epoch == self.epoch
            && let Some(committed) = self.committed_mut()
        {
            committed.regions.remove(&region);
        }
    }

    /// Something else than a flush changed the file: what was known of it is void.
    pub(super) fn reset(&mut self) {
        self.epoch += 1;
        self.known = Known::Nothing;
        self.replay.clear();
    }

    /// A flush committed.
    pub(super) fn apply(&mut self, commit: Commit, flushed: Flushed, written: Written) {
        self.replay.push((commit, flushed, written));
        self.replay_onto();
    }

    /// Applies the flushes that loads may not have seen; forgets them once no load is under way.
    fn replay_onto(&mut self) {
        let loading = match &mut self.known {
            Known::Loaded(committed) => {
                for (commit, flushed, written) in &self.replay {
                    committed.apply(*commit, flushed, *written);
                }
                committed.regions.values().any(|region| matches!(region, Region::Loading))
            }
            Known::Loading => true,
            Known::Nothing => false,
        };
        if !loading {
            self.replay.clear();
        }
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
}

impl Committed {
    fn new(attrs: &Attrs, inline: Bytes, version: Version) -> Committed {
        let is_inline = attrs.core.has(flag::INLINE);
        Committed {
            version,
            size: attrs.size,
            generation: attrs.core.generation,
            mtime: attrs.mtime(),
            mtime_set: attrs.core.has(flag::MTIME_SET),
            inline: is_inline.then_some(inline),
            regions: BTreeMap::new(),
            complete: is_inline,
        }
    }

    fn apply(&mut self, commit: Commit, flushed: &Flushed, written: Written) {
        let fresh = commit.version > self.version;
        match flushed {
            Flushed::Gone => {}
            Flushed::Inline { data, core } => {
                if fresh {
                    self.inline = Some(data.clone());
                    self.advance(commit, core, written);
                }
            }
            Flushed::Extents { extents, core } => {
                if fresh {
                    self.inline = None;
                    self.advance(commit, core, written);
                }
                if self.complete {
                    for region in extents.iter().flat_map(|e| regions_of(e.offset, e.len)) {
                        self.regions
                            .entry(region)
                            .or_insert_with(|| Region::Loaded(Version(0), ExtentMap::new()));
                    }
                }
                for (region, slot) in &mut self.regions {
                    if let Region::Loaded(seen, map) = slot
                        && commit.version > *seen
                    {
                        for extent in extents {
                            paint_within(map, *region, extent.offset, extent.len, &extent.source);
                        }
                        *seen = commit.version;
                    }
                }
                self.make_room();
            }
        }
    }

    /// Forgets loaded regions when they hold too much.
    fn make_room(&mut self) {
        let kept: usize = self.regions.values().map(Region::extents).sum();
        if kept > EXTENTS_KEPT_MAX {
            self.regions.retain(|_, region| matches!(region, Region::Loading));
            self.complete = false;
        }
    }

    fn advance(&mut self, commit: Commit, core: &Core, written: Written) {
        self.version = commit.version;
        self.size = self.size.max(written.end);
        // A time that utimens put into the future counts no more once something is written.
        self.mtime = if self.mtime_set { written.mtime } else { self.mtime.max(written.mtime) };
        self.mtime_set = core.has(flag::MTIME_SET);
    }

    /// What is committed over a range whose regions are loaded, in order, covering it once.
    pub(super) fn visit(&self, range: Range<u64>, mut f: impl FnMut(Range<u64>, Span)) {
        if range.is_empty() {
            return;
        }
        if let Some(inline) = &self.inline {
            let end = range.end.min(inline.len() as u64);
            if range.start < end {
                f(range.start..end, Span::Bytes(inline.slice(range.start as usize..end as usize)));
            }
            let hole = range.start.max(end)..range.end;
            if !hole.is_empty() {
                f(hole, Span::Hole);
            }
            return;
        }
        for region in regions_of(range.start, range.end - range.start) {
            let part = clip(&range, region);
            match self.regions.get(&region) {
                Some(Region::Loaded(_, map)) => {
                    map.visit(part, |range, source| f(range, span(source)))
                }
                _ => f(part, Span::Hole),
            }
        }
    }
}

fn span(source: Option<Source>) -> Span {
    match source {
        Some(Source::Bytes(bytes)) => Span::Bytes(bytes),
        Some(Source::Segment { segment, offset }) => Span::Segment { segment, offset },
        None => Span::Hole,
    }
}

fn regions_of(offset: u64, len: u64) -> Range<u64> {
    if len == 0 { 0..0 } else { offset / REGION_SIZE..(offset + len - 1) / REGION_SIZE + 1 }
}

fn clip(range: &Range<u64>, region: u64) -> Range<u64> {
    range.start.max(region * REGION_SIZE)..range.end.min((region + 1).saturating_mul(REGION_SIZE))
}

fn paint_within(map: &mut ExtentMap, region: u64, offset: u64, len: u64, source: &Source) {
    let part = clip(&(offset..offset + len), region);
    if part.start < part.end {
        map.paint(part.start, part.end - part.start, source.skip(part.start - offset));
    }
}
