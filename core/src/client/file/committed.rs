//! What is committed of one file, as of the loads and commits that memory has seen.

use super::{Applied, Written};
use crate::data::extent_map::{ExtentMap, Source};
use crate::data::fold::{Due, Policy};
use crate::data::write_log::LogExtent;
use crate::id::SegmentId;
use crate::limits::{EXTENTS_KEPT_MAX, REGION_SIZE};
use crate::meta::attrs::Attrs;
use crate::meta::ops::flush::Flushed;
use crate::meta::ops::load::LoadedRegion;
use crate::meta::record::{Core, flag};
use crate::port::meta_kv::{Commit, Version};
use crate::time::WallTime;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use bytes::Bytes;
use core::ops::Range;

/// What is committed of a file, as of the loads and commits seen.
pub(in crate::client) struct Committed {
    pub(super) version: Version,
    pub(in crate::client) size: u64,
    pub(in crate::client) generation: u64,
    pub(super) mtime: WallTime,
    pub(super) mtime_set: bool,
    /// All bytes of an inline file.
    pub(super) inline: Option<Bytes>,
    /// Visible bytes.
    pub(super) bytes: i64,
    pub(super) regions: BTreeMap<u64, Region>,
    /// Regions that were loaded or painted since somebody looked whether they are to be folded.
    pub(super) touched: BTreeSet<u64>,
    /// Regions that are not in the table are empty.
    pub(super) complete: bool,
}

pub(super) enum Region {
    /// There is one, and it is not in memory.
    Listed,
    Loading,
    Loaded(Version, LoadedRegion),
}

impl Region {
    fn extents(&self) -> usize {
        match self {
            Region::Listed | Region::Loading => 0,
            Region::Loaded(_, loaded) => loaded.map.len(),
        }
    }
}

/// What a read of committed bytes finds.
pub(in crate::client) enum Span {
    Bytes(Bytes),
    Segment { segment: SegmentId, offset: u32 },
    Hole,
}

impl Committed {
    pub(super) fn new(attrs: &Attrs, inline: Bytes, version: Version) -> Committed {
        let is_inline = attrs.core.has(flag::INLINE);
        Committed {
            version,
            size: attrs.size,
            generation: attrs.core.generation,
            mtime: attrs.mtime(),
            mtime_set: attrs.core.has(flag::MTIME_SET),
            inline: is_inline.then_some(inline),
            bytes: attrs.usage.lo,
            regions: BTreeMap::new(),
            touched: BTreeSet::new(),
            complete: is_inline,
        }
    }

    pub(super) fn apply(&mut self, commit: Commit, applied: &Applied) {
        let fresh = commit.version > self.version;
        match applied {
            Applied::Flushed(Flushed::Gone, _) => {}
            Applied::Flushed(Flushed::Inline { data, core }, written) => {
                if fresh {
                    self.bytes = data.len() as i64;
                    self.inline = Some(data.clone());
                    self.advance(commit, core, *written);
                }
            }
            Applied::Flushed(Flushed::Extents { extents, grown, core }, written) => {
                if fresh {
                    self.inline = None;
                    self.bytes += grown;
                    self.advance(commit, core, *written);
                }
                self.repaint(commit, None, extents);
            }
            Applied::Patched(patch, attrs) => {
                if fresh {
                    self.version = commit.version;
                    self.size = attrs.size;
                    self.bytes = attrs.usage.lo;
                    self.mtime = attrs.mtime();
                    self.mtime_set = attrs.core.has(flag::MTIME_SET);
                }
                self.repaint(commit, patch.erase.as_ref(), &patch.extents);
            }
        }
    }

    /// Paints what a commit painted on the regions in memory that have not seen it.
    fn repaint(&mut self, commit: Commit, erase: Option<&Range<u64>>, extents: &[LogExtent]) {
        if self.complete {
            for region in extents.iter().flat_map(|e| regions_of(e.offset, e.len)) {
                self.regions
                    .entry(region)
                    .or_insert_with(|| Region::Loaded(Version(0), LoadedRegion::default()));
            }
        }
        let unseen = self.erase_unseen(commit, erase);
        let mut painted: BTreeMap<u64, bool> =
            unseen.into_iter().map(|region| (region, true)).collect();
        for extent in extents {
            for region in regions_of(extent.offset, extent.len) {
                let Some(Region::Loaded(seen, loaded)) = self.regions.get_mut(&region) else {
                    continue;
                };
                if *painted.entry(region).or_insert(commit.version > *seen) {
                    *seen = commit.version;
                    self.touched.insert(region);
                    paint_within(loaded, region, extent.offset, extent.len, &extent.source);
                }
            }
        }
        self.make_room();
    }

    /// Erases a range in the regions in memory that have not seen the commit; returns which.
    fn erase_unseen(&mut self, commit: Commit, erase: Option<&Range<u64>>) -> Vec<u64> {
        let Some(range) = erase.filter(|range| !range.is_empty()) else { return Vec::new() };
        let touching = range.start / REGION_SIZE..=(range.end - 1) / REGION_SIZE;
        let mut unseen = Vec::new();
        for (region, slot) in self.regions.range_mut(touching) {
            if let Region::Loaded(seen, loaded) = slot
                && commit.version > *seen
            {
                loaded.map.erase(range.clone());
                *seen = commit.version;
                unseen.push(*region);
            }
        }
        unseen
    }

    /// Forgets loaded regions when they hold too much.
    pub(super) fn make_room(&mut self) {
        let kept: usize = self.regions.values().map(Region::extents).sum();
        if kept > EXTENTS_KEPT_MAX {
            for region in self.regions.values_mut() {
                if matches!(region, Region::Loaded(..)) {
                    *region = Region::Listed;
                }
            }
        }
    }

    /// The map of a region in memory; an empty region has none.
    pub(super) fn map(&self, region: u64) -> Option<&ExtentMap> {
        match self.regions.get(&region) {
            Some(Region::Loaded(_, loaded)) => Some(&loaded.map),
            _ => None,
        }
    }

    /// The regions of which the log has become one to be folded, since the last call, and those that are
    /// to be folded when nobody writes.
    pub(super) fn due(&mut self, policy: &Policy) -> (Vec<(u64, Due)>, Vec<u64>) {
        let (mut due, mut untidy) = (Vec::new(), Vec::new());
        for region in core::mem::take(&mut self.touched) {
            let Some(Region::Loaded(_, loaded)) = self.regions.get(&region) else { continue };
            if let Some(why) = loaded.log.due(&loaded.map, self.size, policy) {
                due.push((region, why));
            } else if loaded.log.is_untidy(&loaded.map, policy) {
                untidy.push(region);
            }
        }
        (due, untidy)
    }

    /// A fold of a region found nothing to do.
    pub(super) fn settle_region(&mut self, region: u64) {
        if let Some(Region::Loaded(_, loaded)) = self.regions.get_mut(&region) {
            loaded.log.settle();
        }
    }

    /// Visible bytes.
    pub(super) fn visible(&self) -> u64 {
        self.bytes.max(0) as u64
    }

    /// Bytes that the logs in memory name and nobody can see.
    pub(super) fn garbage(&self) -> u64 {
        self.covered_regions().map(|(_, covered)| covered).sum()
    }

    /// The region with most of that, of those that are wanted.
    pub(super) fn worst_region(&self, wanted: impl Fn(u64) -> bool) -> Option<u64> {
        let some =
            self.covered_regions().filter(|(region, covered)| *covered > 0 && wanted(*region));
        some.max_by_key(|(_, covered)| *covered).map(|(region, _)| region)
    }

    fn covered_regions(&self) -> impl Iterator<Item = (u64, u64)> {
        self.regions.iter().filter_map(|(region, slot)| match slot {
            Region::Loaded(_, loaded) => Some((*region, loaded.log.covered(&loaded.map))),
            Region::Listed | Region::Loading => None,
        })
    }

    /// A region was folded: what is in memory names segments that may go.
    pub(super) fn forget_region(&mut self, region: u64) {
        if let Some(slot) = self.regions.get_mut(&region)
            && matches!(slot, Region::Loaded(..))
        {
            *slot = Region::Listed;
        }
    }

    /// How many bytes of a range are visible, as far as memory tells.
    pub(super) fn covered(&self, range: Range<u64>) -> u64 {
        if let Some(inline) = &self.inline {
            return range.end.min(inline.len() as u64).saturating_sub(range.start);
        }
        let regions = regions_of(range.start, range.end - range.start);
        regions.filter_map(|region| Some(self.map(region)?.covered(range.clone()))).sum()
    }

    /// Whether a region of a range is being loaded.
    pub(super) fn is_loading(&self, range: Range<u64>) -> bool {
        let mut regions = regions_of(range.start, range.end - range.start);
        self.inline.is_none()
            && regions.any(|region| matches!(self.regions.get(&region), Some(Region::Loading)))
    }

    /// The first visible byte from `at` on, in the region of `at` only and before `end`; else `end`.
    pub(super) fn next_data(&self, at: u64, end: u64) -> u64 {
        let found = match &self.inline {
            Some(inline) => (at < inline.len() as u64).then_some(at),
            None => self.map(at / REGION_SIZE).and_then(|map| map.next_data(at)),
        };
        found.unwrap_or(end).min(end)
    }

    /// The first hole from `at` on, in the region of `at` only and before `end`; else `end`. Beyond `end`
    /// nothing is looked at.
    pub(super) fn next_hole(&self, at: u64, end: u64) -> u64 {
        if at >= end {
            return at;
        }
        let found = match &self.inline {
            Some(inline) => at.max(inline.len() as u64),
            None => self.map(at / REGION_SIZE).map_or(at, |map| map.next_hole(at)),
        };
        found.min(end)
    }

    /// Where the first region at or after `at` begins that may have data; `u64::MAX` if none.
    pub(super) fn next_region(&self, at: u64) -> u64 {
        if !self.complete {
            return at;
        }
        let next = self.regions.range(at.div_ceil(REGION_SIZE)..).next();
        next.map_or(u64::MAX, |(region, _)| region * REGION_SIZE)
    }

    fn advance(&mut self, commit: Commit, core: &Core, written: Written) {
        self.version = commit.version;
        self.size = self.size.max(written.end);
        // A time that utimens put into the future counts no more once something is written.
        self.mtime = if self.mtime_set { written.mtime } else { self.mtime.max(written.mtime) };
        self.mtime_set = core.has(flag::MTIME_SET);
    }

    /// What is committed over a range whose regions are loaded, in order, covering it once.
    pub(in crate::client) fn visit(&self, range: Range<u64>, mut f: impl FnMut(Range<u64>, Span)) {
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
                Some(Region::Loaded(_, loaded)) => {
                    loaded.map.visit(part, |range, source| f(range, span(source)))
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

fn paint_within(loaded: &mut LoadedRegion, region: u64, offset: u64, len: u64, source: &Source) {
    let part = clip(&(offset..offset + len), region);
    if part.start < part.end {
        let (len, source) = (part.end - part.start, source.skip(part.start - offset));
        loaded.log.appended(len, &source);
        loaded.map.paint(part.start, len, source);
    }
}
