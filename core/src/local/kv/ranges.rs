//! Ranges with the versions at which they were written: a segmented interval map.
//!
//! Each boundary key starts a segment that reaches to the next boundary and lists, ascending, the
//! versions that covered all of it. A lookup is one search however many ranges there are.

use crate::port::meta_kv::{Key, KeyRange, Version};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::Bound;
use smallvec::SmallVec;

/// Versions that wrote a segment, ascending.
type Versions = SmallVec<[Version; 2]>;

/// Ranges written at versions.
#[derive(Default)]
pub(super) struct RangeVersions {
    segments: BTreeMap<Key, Versions>,
}

impl RangeVersions {
    /// Notes that `range` was written at `version`, which is not below any noted before.
    /// Returns roughly how many bytes that took.
    pub(super) fn add(&mut self, range: &KeyRange, version: Version) -> usize {
        if range.is_empty() {
            return 0;
        }
        let mut grown = self.split(&range.begin) + self.split(&range.end);
        for (_, versions) in self.segments.range_mut::<[u8], _>(bounds(range)) {
            if versions.last() != Some(&version) {
                versions.push(version);
                grown += size_of::<Version>();
            }
        }
        grown
    }

    /// The newest version at or below `at` that wrote `key`.
    pub(super) fn newest(&self, key: &[u8], at: Version) -> Option<Version> {
        if self.segments.is_empty() {
            return None;
        }
        let (_, versions) = self.segments.range::<[u8], _>(up_to(key)).next_back()?;
        let n = versions.partition_point(|v| *v <= at);
        n.checked_sub(1).map(|i| versions[i])
    }

    /// The oldest version that wrote `key`.
    pub(super) fn first(&self, key: &[u8]) -> Option<Version> {
        let (_, versions) = self.segments.range::<[u8], _>(up_to(key)).next_back()?;
        versions.first().copied()
    }

    /// Whether any part of `range` was written above `version`.
    pub(super) fn written_after(&self, range: &KeyRange, version: Version) -> bool {
        let newer = |versions: &Versions| versions.last().is_some_and(|v| *v > version);
        if self.segments.is_empty() || range.is_empty() {
            return false;
        }
        let first = self.segments.range::<[u8], _>(up_to(&range.begin)).next_back();
        first.is_some_and(|(_, versions)| newer(versions))
            || self.segments.range::<[u8], _>(bounds(range)).any(|(_, versions)| newer(versions))
    }

    /// What of `range` was written at or below `at`: ascending disjoint ranges. Looks at no more than
    /// `segments_max` segments, from the begin or (`reverse`) from the end, and says which part of the
    /// range it has seen.
    pub(super) fn covered(
        &self,
        range: &KeyRange,
        at: Version,
        reverse: bool,
        segments_max: usize,
    ) -> (Vec<KeyRange>, KeyRange) {
        let mut found = Vec::new();
        let mut seen = range.clone();
        if self.segments.is_empty() || range.is_empty() {
            return (found, seen);
        }
        let old_enough = |versions: &Versions| versions.first().is_some_and(|v| *v <= at);
        let first = self.segments.range::<[u8], _>(up_to(&range.begin)).next_back();
        let inner = self
            .segments
            .range::<[u8], _>((Bound::Excluded(&*range.begin), Bound::Excluded(&*range.end)));
        if reverse {
            let mut end = range.end.clone();
            for (n, (begin, versions)) in inner.rev().chain(first).enumerate() {
                if n == segments_max {
                    seen.begin = end;
                    break;
                }
                let begin = begin.clone().max(range.begin.clone());
                if old_enough(versions) {
                    prepend(&mut found, KeyRange { begin: begin.clone(), end });
                }
                end = begin;
            }
            found.reverse();
        } else {
            let mut open: Option<Key> = None;
            for (n, (begin, versions)) in first.into_iter().chain(inner).enumerate() {
                let begin = begin.max(&range.begin);
                if n == segments_max {
                    seen.end = begin.clone();
                    break;
                }
                match (old_enough(versions), open.take()) {
                    (true, None) => open = Some(begin.clone()),
                    (true, some) => open = some,
                    (false, Some(from)) => found.push(KeyRange { begin: from, end: begin.clone() }),
                    (false, None) => {}
                }
            }
            if let Some(begin) = open {
                found.push(KeyRange { begin, end: seen.end.clone() });
            }
        }
        (found, seen)
    }

    /// Everything ever written, as ascending disjoint ranges.
    pub(super) fn merged(&self) -> impl Iterator<Item = KeyRange> + '_ {
        let mut segments = self.segments.iter().peekable();
        core::iter::from_fn(move || {
            let (begin, _) = segments.find(|(_, versions)| !versions.is_empty())?;
            let (end, _) = segments.find(|(_, versions)| versions.is_empty())?;
            Some(KeyRange { begin: begin.clone(), end: end.clone() })
        })
    }

    /// Makes `key` a boundary.
    fn split(&mut self, key: &Key) -> usize {
        let versions = match self.segments.range::<[u8], _>(up_to(key)).next_back() {
            Some((boundary, _)) if boundary == key => return 0,
            Some((_, versions)) => versions.clone(),
            None => Versions::new(),
        };
        let grown = 96 + key.len() + versions.len() * size_of::<Version>();
        self.segments.insert(key.clone(), versions);
        grown
    }
}

/// Adds a range in front of the lowest one, joined with it where they touch.
fn prepend(found: &mut Vec<KeyRange>, range: KeyRange) {
    match found.last_mut() {
        Some(lowest) if lowest.begin == range.end => lowest.begin = range.begin,
        _ => found.push(range),
    }
}

pub(super) fn bounds(range: &KeyRange) -> (Bound<&[u8]>, Bound<&[u8]>) {
    (Bound::Included(&*range.begin), Bound::Excluded(&*range.end))
}

fn up_to(key: &[u8]) -> (Bound<&[u8]>, Bound<&[u8]>) {
    (Bound::Unbounded, Bound::Included(key))
}
