//! The data of one file: inline bytes, erases, the write log.
//!
//! A byte beyond the size may be in the log, when a later erase covers it: then nothing is visible
//! there. (The topmost paint must be an erase, so that for each extent a later erase covers each of its
//! bytes beyond the size; that needs no overlay.) What is visible is counted region by region.

use super::{Check, Fix, rule};
use crate::data::extent_map::{ExtentMap, Source};
use crate::data::write_log::{self, LogExtent};
use crate::id::Ino;
use crate::limits::INLINE_MAX;
use crate::meta::key::{self, tag};
use crate::meta::record::{Core, Pair, decode_erase, flag};
use crate::port::meta_kv::{Value, Version};
use alloc::format;
use alloc::vec::Vec;
use core::ops::Range;

/// The order of paint of a key.
type Order = [u8; 16];

/// The extents of a region's packs, in the order of paint.
type Packs = Vec<(Order, Vec<LogExtent>)>;

/// What was seen of one file's data.
#[derive(Debug, Default)]
pub(super) struct FileRows {
    /// Length of the inline data.
    pub(super) inline: Option<u64>,
    /// Generation, order and range.
    erases: Vec<(u64, Order, Range<u64>)>,
    /// Generations seen: the current one and those that wait for reclaim.
    generations: Vec<u64>,
    /// Extents in the log of the current generation, and visible bytes of its finished regions.
    logged: Pair,
    /// The region of the current generation that is being read.
    region: Option<(u64, Packs)>,
    /// A pack or erase does not decode or is missing: what is visible cannot be told.
    unreadable: bool,
    /// A pack or erase is newer than the store: no erase covers it.
    disordered: bool,
}

impl FileRows {
    pub(super) fn erase(&mut self, check: &mut Check, ino: Ino, rest: &[u8], value: &Value) {
        let decoded = key::parse_erase(rest).zip(key::paint_order(rest));
        match (decoded, decode_erase(value)) {
            (Some((generation, order)), Ok((lo, hi))) if lo < hi => {
                self.saw(check, ino, generation, order);
                self.erases.push((generation, order, lo..hi));
            }
            _ => {
                self.unreadable = true;
                let text = format!("inode {ino}: erase {rest:?} is {value:?}");
                check.problems.add(rule::ERASE_DECODE, text);
            }
        }
    }

    /// `current`: the inode's data generation and its size.
    pub(super) fn pack(
        &mut self,
        check: &mut Check,
        ino: Ino,
        rest: &[u8],
        value: &Value,
        current: Option<(u64, u64)>,
    ) {
        let place = key::parse_log(rest).zip(key::paint_order(rest));
        let Some(((generation, region), order)) = place else {
            self.unreadable = true;
            return check.problems.add(rule::LOG_DECODE, format!("inode {ino}: log key {rest:?}"));
        };
        self.saw(check, ino, generation, order);
        let extents = match write_log::decode(region, value) {
            Ok(extents) => extents,
            Err(error) => {
                self.unreadable = true;
                check.segments.incomplete = true;
                let text =
                    format!("inode {ino}, generation {generation}, region {region}: {error}");
                return check.problems.add(rule::LOG_DECODE, text);
            }
        };
        for extent in &extents {
            if let Source::Segment { segment, offset } = extent.source {
                check.segments.refer(segment, ino, (offset, extent.len));
            }
            if let Some((_, size)) = current.filter(|(now, _)| *now == generation) {
                self.logged.hi += 1;
                self.check_end(check, ino, extent, (generation, order), size);
            }
        }
        if current.is_some_and(|(now, _)| now == generation) {
            self.collect(generation, region, order, extents);
        }
    }

    /// Rows come region by region, and in the order of paint within each.
    fn collect(&mut self, generation: u64, region: u64, order: Order, extents: Vec<LogExtent>) {
        if self.region.as_ref().is_some_and(|(at, _)| *at != region) {
            self.count_visible(generation);
        }
        let (_, packs) = self.region.get_or_insert_with(|| (region, Vec::new()));
        packs.push((order, extents));
    }

    /// Paints the region that was read, erases in between, and counts what remains.
    fn count_visible(&mut self, generation: u64) {
        let Some((_, packs)) = self.region.take() else { return };
        let mut erases = self.erases.iter().filter(|(g, ..)| *g == generation).peekable();
        let mut map = ExtentMap::new();
        for (order, extents) in packs {
            while let Some((.., range)) = erases.next_if(|(_, at, _)| *at < order) {
                map.erase(range.clone());
            }
            for extent in extents {
                map.paint(extent.offset, extent.len, extent.source);
            }
        }
        erases.for_each(|(.., range)| map.erase(range.clone()));
        self.logged.lo += map.bytes() as i64;
    }

    /// A pack or erase of a generation, with its place in the order of paint.
    fn saw(&mut self, check: &mut Check, ino: Ino, generation: u64, order: Order) {
        if !self.generations.contains(&generation) {
            self.generations.push(generation);
        }
        let (incarnation, version) = place(order);
        if (incarnation, version) > check.newest {
            let text = format!(
                "inode {ino}: log or erase of incarnation {incarnation}, version {}; the store is at {} and {}",
                version.0, check.newest.0, check.newest.1.0
            );
            self.disordered = true;
            check.problems.add(rule::LOG_ORDER, text);
        }
    }

    /// What of an extent lies beyond the size must be covered by later erases.
    fn check_end(
        &mut self,
        check: &mut Check,
        ino: Ino,
        extent: &LogExtent,
        (generation, order): (u64, Order),
        size: u64,
    ) {
        let end = extent.offset + extent.len;
        if end <= size || self.unreadable {
            return;
        }
        let later = self.erases.iter().filter(|(g, o, _)| *g == generation && *o > order);
        let left = uncovered(extent.offset.max(size)..end, later.map(|(.., range)| range));
        if let Some(left) = left {
            let text = format!(
                "inode {ino}: bytes {}..{} are visible beyond its size {size}",
                left.start, left.end
            );
            let fix = Fix::Erase { ino, generation, from: size };
            check.problems.add_with(
                rule::BEYOND_SIZE,
                text,
                Some(fix).filter(|_| !self.disordered),
            );
            self.unreadable = true;
        }
    }

    /// All rows were seen; `size` and `usage` are what the attributes say.
    pub(super) fn finish(
        mut self,
        check: &mut Check,
        ino: Ino,
        core: &Core,
        (size, usage): (u64, Pair),
    ) {
        self.count_visible(core.generation);
        for generation in &self.generations {
            if *generation != core.generation && !check.garbage.has_generation(ino, *generation) {
                let text = format!(
                    "inode {ino}: log or erase of generation {generation}, which is neither the current one ({}) nor queued for reclaim",
                    core.generation
                );
                let older = *generation < core.generation;
                let fix = older.then(|| Fix::Queue(ino, *generation));
                check.problems.add_with(rule::LOG_GENERATION, text, fix);
            }
        }
        if let Some(len) = self.inline
            && len > size.min(INLINE_MAX)
        {
            let text = format!("inode {ino}: {len} bytes inline, size {size}");
            // Nothing is cut off: who wrote it wants it.
            let fits = len <= INLINE_MAX;
            let fix = fits.then(|| Fix::number(key::inode(ino, tag::SIZE), len)).flatten();
            check.problems.add_with(rule::INLINE_LENGTH, text, fix);
        }
        let logged = self.generations.contains(&core.generation);
        let inline = core.has(flag::INLINE);
        if (inline && logged) || (!inline && self.inline.is_some()) {
            let text = format!(
                "inode {ino}: inline flag {inline}, inline bytes {:?}, log in the current generation {logged}",
                self.inline
            );
            check.problems.add(rule::INLINE_LOG, text);
        } else if !self.unreadable {
            self.check_usage(check, ino, core.nlink, usage);
        }
    }

    fn check_usage(&self, check: &mut Check, ino: Ino, nlink: u32, usage: Pair) {
        let inline = self.inline.unwrap_or(0) as i64;
        let found = Pair { hi: self.logged.hi, lo: self.logged.lo + inline };
        // Reclaim takes the log page by page, and the counter goes with the last page.
        let leaving = nlink == 0 && check.garbage.has_inode(ino);
        let good = found == usage || (leaving && found.hi <= usage.hi && found.lo <= usage.lo);
        if !good {
            let text = format!(
                "inode {ino}: counted {} log entries and {} visible bytes, found {} and {}",
                usage.hi, usage.lo, found.hi, found.lo
            );
            let fix = Fix::put(key::inode(ino, tag::USAGE), found.encode());
            check.problems.add_with(rule::USAGE, text, fix.filter(|_| !leaving));
        }
    }
}

/// Incarnation and version of a place in the order of paint.
fn place(order: Order) -> (u32, Version) {
    let [a, b, c, d, version @ .., _, _, _, _] = order;
    (u32::from_be_bytes([a, b, c, d]), Version(u64::from_be_bytes(version)))
}

/// The first part of a range that no cover covers.
fn uncovered<'a>(
    range: Range<u64>,
    covers: impl Iterator<Item = &'a Range<u64>>,
) -> Option<Range<u64>> {
    let mut covers: Vec<&Range<u64>> = covers.collect();
    covers.sort_by_key(|cover| cover.start);
    let mut at = range.start;
    for cover in covers {
        if cover.start > at {
            break;
        }
        at = at.max(cover.end);
    }
    (at < range.end).then_some(at..range.end)
}
