//! Where a file has data: how much is visible, holes, and what a flush covers.

use super::committed::Region;
use super::{FileState, Measured, Missing, Scan};
use crate::data::write_buffer::SubBufferId;
use crate::limits::REGION_SIZE;
use crate::port::kernel::Whence;
use alloc::vec::Vec;
use core::ops::Range;

/// Regions that are looked up one by one where not all are known.
const REGIONS_TRIED: u64 = 64;

impl FileState {
    /// How many bytes of the oldest sub-buffer lie over committed ones, as far as memory tells. While it
    /// is the oldest nothing changes what is committed, so that this goes on where it was before.
    pub(in crate::client) fn measure(&mut self, id: SubBufferId) -> Result<u64, Missing> {
        if self.measured.id != Some(id) {
            self.measured = Measured { id: Some(id), ..Measured::default() };
        }
        loop {
            if self.committed().is_none() {
                return Err(Missing::Attrs);
            }
            let Some(sub) = self.buffer.sub_buffer(id) else { return Ok(self.measured.covered) };
            let Some(at) = sub.map().next_data(self.measured.upto) else {
                return Ok(self.measured.covered);
            };
            let end = (at / REGION_SIZE + 1) * REGION_SIZE;
            if let Some((region, begin)) = self.missing_region(&(at..at + 1)) {
                return Err(Missing::Region(region, begin));
            }
            let (Some(committed), Some(sub)) = (self.committed(), self.buffer.sub_buffer(id))
            else {
                return Ok(self.measured.covered);
            };
            let mut covered = 0;
            sub.map().visit(at..end, |part, source| {
                if source.is_some() {
                    covered += committed.covered(part);
                }
            });
            self.measured.covered += covered;
            self.measured.upto = end;
        }
    }

    /// How many committed bytes are visible in a range, if all of it is in memory.
    pub(in crate::client) fn visible(&self, generation: u64, range: Range<u64>) -> Option<u64> {
        let committed = self.committed().filter(|c| c.generation == generation)?;
        if range.is_empty() {
            return Some(0);
        }
        if committed.inline.is_some() || !committed.complete {
            let span = range.start / REGION_SIZE..=range.end.saturating_sub(1) / REGION_SIZE;
            let few = span.end() - span.start() < REGIONS_TRIED;
            let has = |region| matches!(committed.regions.get(&region), Some(Region::Loaded(..)));
            if committed.inline.is_some() || !few || !span.into_iter().all(has) {
                return None;
            }
        }
        let first = range.start / REGION_SIZE;
        let mut sum = 0;
        for (region, slot) in committed.regions.range(first..) {
            if region.checked_mul(REGION_SIZE).is_none_or(|start| start >= range.end) {
                break;
            }
            let Region::Loaded(_, loaded) = slot else { return None };
            sum += loaded.map.covered(range.clone());
        }
        Some(sum)
    }

    /// Visible bytes, the buffered ones included. `None` while something is loaded that this rests on;
    /// where nothing is known and nothing on its way, buffered bytes count as new.
    pub(in crate::client) fn bytes(&self, counted: i64) -> Option<u64> {
        let Some(committed) = self.committed() else {
            let buffered = self.buffer.bytes();
            return (!self.is_loading()).then(|| counted.max(0) as u64 + buffered);
        };
        let mut fresh = 0;
        let mut loading = false;
        self.buffer.visit(0..self.buffer.end(), |part, buffered| {
            if buffered.is_some() {
                fresh += part.end - part.start - committed.covered(part.clone());
                loading |= committed.is_loading(part);
            }
        });
        (!loading).then(|| committed.bytes.max(0) as u64 + fresh)
    }

    /// How many bytes of a range are neither committed nor buffered.
    pub(in crate::client) fn fresh(&mut self, range: &Range<u64>) -> Result<u64, Missing> {
        if self.committed().is_none() {
            return Err(Missing::Attrs);
        }
        if let Some((region, begin)) = self.missing_region(range) {
            return Err(Missing::Region(region, begin));
        }
        let Some(committed) = self.committed() else { return Err(Missing::Attrs) };
        let mut fresh = 0;
        self.buffer.visit(range.clone(), |part, buffered| {
            if buffered.is_none() {
                fresh += part.end - part.start - committed.covered(part);
            }
        });
        Ok(fresh)
    }

    /// Begins listing the regions; false if that is under way.
    pub(in crate::client) fn begin_listing(&mut self) -> bool {
        !core::mem::replace(&mut self.listing, true)
    }

    /// The regions that there were at a version, or nothing if they could not be listed.
    pub(in crate::client) fn listed(&mut self, epoch: u64, regions: Option<Vec<u64>>) {
        self.listing = false;
        if epoch == self.epoch
            && let Some(regions) = regions
            && let Some(committed) = self.committed_mut()
        {
            for region in regions {
                committed.regions.entry(region).or_insert(Region::Listed);
            }
            committed.complete = true;
        }
        self.replay_onto();
    }

    /// The first offset at or after `from` with data (or a hole); `None` if there is none before the end.
    /// The caller looked that `from` lies before it.
    pub(in crate::client) fn seek(
        &mut self,
        from: u64,
        whence: Whence,
    ) -> Result<Option<u64>, Missing> {
        let (Some(size), Some(committed)) = (self.size(), self.committed()) else {
            return Err(Missing::Attrs);
        };
        if committed.inline.is_none() && !committed.complete && size > REGION_SIZE {
            return Err(Missing::Regions);
        }
        let same = |s: &Scan| (s.from, s.whence, s.changes) == (from, whence, self.changes);
        let mut at = self.scan.filter(same).map_or(from, |scan| scan.at);
        while at < size {
            let end = size.min((at / REGION_SIZE + 1) * REGION_SIZE);
            if let Some((region, begin)) = self.missing_region(&(at..at + 1)) {
                // What was looked at may be forgotten before this region is there.
                self.scan = Some(Scan { from, whence, changes: self.changes, at });
                return Err(Missing::Region(region, begin));
            }
            let Some(committed) = self.committed() else { return Err(Missing::Attrs) };
            let buffered = self.buffer.next_data(at).unwrap_or(u64::MAX);
            match whence {
                Whence::Data => {
                    let found = buffered.min(committed.next_data(at, end));
                    if found < end {
                        return Ok(Some(found));
                    }
                    at = end.max(committed.next_region(end).min(buffered));
                }
                Whence::Hole => {
                    let next = committed.next_hole(self.buffer.next_hole(at), end);
                    if next == at {
                        return Ok(Some(at));
                    }
                    at = next;
                }
            }
        }
        Ok((whence == Whence::Hole).then_some(size))
    }
}
