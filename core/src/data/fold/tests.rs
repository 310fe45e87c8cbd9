use super::{Due, Overlay, Plan, Policy};
use crate::data::extent_map::{ExtentMap, Source};
use crate::data::write_log::LogExtent;
use crate::id::{SegmentId, SessionId};
use alloc::collections::BTreeSet;
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;
use proptest::prelude::*;

const KIB: u64 = 1 << 10;

fn id(sequence: u64) -> SegmentId {
    SegmentId { session: SessionId(1), sequence }
}

fn stored(offset: u64, len: u64, sequence: u64, at: u32) -> LogExtent {
    LogExtent { offset, len, source: Source::Segment { segment: id(sequence), offset: at } }
}

fn carried(offset: u64, len: u64) -> LogExtent {
    let bytes = Bytes::from(vec![7; len as usize]);
    LogExtent { offset, len, source: Source::Bytes(bytes) }
}

/// What the log is after the plan was carried out: everything moved lies in new segments.
fn carried_out(plan: &Plan, segment_max: u32) -> Overlay {
    let mut after = Overlay::default();
    let mut folded = plan.folded.clone();
    for (n, part) in plan.parts(segment_max).into_iter().enumerate() {
        let mut at = 0;
        for extent in part {
            match folded.last_mut() {
                Some(LogExtent {
                    offset,
                    len,
                    source: Source::Segment { segment, offset: start },
                }) if *segment == id(1000 + n as u64)
                    && *offset + *len == extent.offset
                    && u64::from(*start) + *len == u64::from(at) =>
                {
                    *len += extent.len;
                }
                _ => folded.push(stored(extent.offset, extent.len, 1000 + n as u64, at)),
            }
            at += extent.len as u32;
        }
    }
    after.paint(folded, true);
    after.paint(plan.written.clone(), false);
    after
}

fn holes(map: &ExtentMap, end: u64) -> Vec<(u64, u64)> {
    let pieces = map.pieces(0..end);
    let mut holes: Vec<(u64, u64)> = Vec::new();
    for (range, _) in pieces.into_iter().filter(|(_, source)| source.is_none()) {
        match holes.last_mut() {
            Some((_, end)) if *end == range.start => *end = range.end,
            _ => holes.push((range.start, range.end)),
        }
    }
    holes
}

#[test]
fn a_log_of_one_extent_is_left_alone() {
    let mut overlay = Overlay::default();
    overlay.paint(vec![stored(0, 100, 1, 0)], false);
    assert!(!overlay.plan(&BTreeSet::new(), false).is_worth_it());
    assert!(!overlay.plan(&BTreeSet::new(), true).is_worth_it());
}

#[test]
fn what_is_written_over_goes_without_a_byte_being_moved() {
    let mut overlay = Overlay::default();
    overlay.paint(vec![stored(0, 4 << 20, 1, 0)], false);
    overlay.paint(vec![stored(0, 4 << 20, 2, 0)], false);
    let plan = overlay.plan(&BTreeSet::new(), false);
    assert!(plan.is_worth_it());
    assert_eq!((plan.moved_bytes(), plan.trimmed), (0, 4 << 20));
    assert_eq!(plan.folded, vec![stored(0, 4 << 20, 2, 0)]);
}

#[test]
fn scattered_writes_are_moved_together_once_there_are_enough() {
    let mut overlay = Overlay::default();
    overlay.paint(vec![stored(0, 1 << 20, 1, 0)], true);
    let page = |n: u64| stored(n * 8 * KIB, 4 * KIB, 2, (n * 4 * KIB) as u32);
    overlay.paint((0..8).map(|n| page(n * 16)).collect(), false);
    let few = overlay.plan(&BTreeSet::new(), false);
    assert_eq!(few.moved_bytes(), 0, "32 KiB were written, 64 KiB at most may be moved");
    overlay.paint((0..128).map(page).collect(), false);
    let many = overlay.plan(&BTreeSet::new(), false);
    assert_eq!(many.moved_bytes(), 1 << 20);
    assert_eq!(many.parts(8 << 20).len(), 1);
}

#[test]
fn a_region_is_due_when_its_garbage_outweighs_it() {
    let policy = Policy { min_file_size: 0, ..Policy::default() };
    let mut overlay = Overlay::default();
    overlay.paint(vec![stored(0, 1 << 20, 1, 0)], true);
    overlay.paint(vec![stored(0, 1024 * KIB, 2, 0)], false);
    assert_eq!(overlay.log.due(&overlay.map, 1 << 20, &policy), None);
    overlay.paint(vec![stored(0, 4 * KIB, 3, 0)], false);
    assert_eq!(overlay.log.due(&overlay.map, 1 << 20, &policy), Some(Due::Long));
    let off = Policy { enabled: false, ..policy };
    assert_eq!(overlay.log.due(&overlay.map, 1 << 20, &off), None);
    let larger = Policy { min_file_size: 2 << 20, ..policy };
    assert_eq!(overlay.log.due(&overlay.map, 1 << 20, &larger), None);
}

#[test]
fn one_page_written_over_and_over_makes_a_region_due() {
    let mut overlay = Overlay::default();
    overlay.paint(vec![stored(0, 1 << 20, 1, 0)], true);
    let mut writes = 0;
    while overlay.log.due(&overlay.map, 1 << 20, &Policy::default()).is_none() {
        overlay.paint(vec![stored(4 * KIB, 4 * KIB, 2 + writes, 0)], false);
        writes += 1;
    }
    assert!((60..120).contains(&writes), "{writes}");
}

#[test]
fn bytes_that_the_log_carries_are_moved_when_they_are_many() {
    let mut overlay = Overlay::default();
    overlay.paint((0..10).map(|n| carried(n * 32 * KIB, 1000)).collect(), false);
    assert_eq!(overlay.plan(&BTreeSet::new(), false).moved_bytes(), 0);
    overlay.paint((0..20).map(|n| carried(n * 32 * KIB, 1000)).collect(), false);
    assert_eq!(overlay.plan(&BTreeSet::new(), false).moved_bytes(), 20_000);
}

#[test]
fn what_is_left_of_a_dead_segment_takes_no_part_of_a_live_one_along() {
    let mut overlay = Overlay::default();
    overlay.paint(vec![stored(0, 2, 1, 6635), stored(2, 6000, 2, 511)], true);
    let plan = overlay.plan(&BTreeSet::from([id(1)]), false);
    assert_eq!(plan.moved, vec![stored(0, 2, 1, 6635)]);
    assert_eq!(plan.folded, vec![stored(2, 6000, 2, 511)]);
}

#[test]
fn what_was_written_pays_once() {
    let mut overlay = Overlay::default();
    overlay.paint(vec![stored(0, 4 * KIB, 1, 0), stored(4 * KIB, 4 * KIB, 2, 0)], true);
    overlay.paint(vec![stored(64 * KIB, 16 * KIB, 3, 0)], false);
    let plan = overlay.plan(&BTreeSet::new(), false);
    assert_eq!(plan.moved_bytes(), 8 * KIB);
    assert_eq!((plan.folded.len(), plan.written.len()), (1, 0));
}

/// A region of 64 MiB in segments of 8 MiB, as a fold leaves it, and `written` pages of it written over since.
fn worn(written: u64) -> Overlay {
    const PAGES: u64 = 16 << 10;
    let mut overlay = Overlay::default();
    let base = (0..8).map(|n| stored(n * super::WINDOW, super::WINDOW, 1 + n, 0));
    overlay.paint(base.collect(), true);
    // A stride that is prime to the number of pages meets them all, far apart.
    let page = |n: u64| stored(n * 6_151 % PAGES * 4 * KIB, 4 * KIB, 100, (n * 4 * KIB) as u32);
    overlay.paint((0..written).map(page).collect(), false);
    overlay
}

#[test]
fn where_not_everything_can_be_put_in_order_a_part_is() {
    let mut overlay = worn(5_000);
    assert!(overlay.log.is_untidy(&overlay.map, &Policy::default()));
    let plan = overlay.plan(&BTreeSet::new(), false);
    let budget = 2 * 5_000 * 4 * KIB;
    let windows = budget / super::WINDOW;
    assert_eq!((windows, plan.moved_bytes()), (4, windows * super::WINDOW));
    assert_eq!(plan.parts(8 << 20).len(), 4, "each window becomes one segment");
    let after = carried_out(&plan, 8 << 20);
    assert!(after.log.written <= overlay.log.written - plan.moved_bytes() / 2);
    assert!(!after.log.is_untidy(&after.map, &Policy::default()), "it has been paid for");
    overlay.log.settle();
    assert!(!overlay.log.is_untidy(&overlay.map, &Policy::default()));
}

#[test]
fn a_region_is_untidy_when_enough_was_written_in_small_pieces() {
    let untidy = |overlay: &Overlay| overlay.log.is_untidy(&overlay.map, &Policy::default());
    assert!(untidy(&worn(1_100)));
    assert!(!untidy(&worn(1_000)), "that would not pay for one segment");
    let mut whole = Overlay::default();
    whole.paint((0..16).map(|n| stored(n << 22, 4 << 20, 1 + n, 0)).collect(), false);
    assert!(!untidy(&whole), "extents of 4 MiB");
    let mut small = Overlay::default();
    small.paint((0..100).map(|n| stored(n * 4 * KIB, 4 * KIB, 1 + n, 0)).collect(), false);
    assert!(!untidy(&small), "400 KiB");
}

#[test]
fn what_the_log_carries_is_moved_out_and_still_counts_as_written() {
    let policy = Policy::default();
    let mut overlay = Overlay::default();
    overlay.paint(vec![stored(0, 64 << 20, 1, 0)], true);
    overlay.paint((0..1_000).map(|n| carried(n * 64 * KIB, 4 * KIB)).collect(), false);
    assert_eq!(overlay.log.due(&overlay.map, 64 << 20, &policy), None, "less than a sixteenth");
    overlay.paint((0..1_000).map(|n| carried((n * 64 + 8) * KIB, 4 * KIB)).collect(), false);
    overlay.paint((0..10).map(|n| stored((n * 64 + 16) * KIB, 4 * KIB, 2, 0)).collect(), false);
    assert_eq!(overlay.log.due(&overlay.map, 64 << 20, &policy), Some(Due::Carried));
    let plan = overlay.plan_carried();
    assert_eq!((plan.moved_bytes(), plan.moved_is_written), (2_000 * 4 * KIB, true));
    let folded: u64 = plan.folded.iter().map(|extent| extent.len).sum();
    assert_eq!((plan.written.len(), folded), (10, (64 << 20) - 2_010 * 4 * KIB), "they stay");
    assert_eq!(plan.trimmed, 2_010 * 4 * KIB);
}

fn extent() -> impl Strategy<Value = (u64, u64, u64, bool)> {
    (0..400u64, 1..200u64, 1..6u64, any::<bool>())
        .prop_map(|(at, len, segment, carried)| (at * KIB, len * KIB, segment, carried))
}

/// Extents, whether a fold left them, whether they are erased instead.
type Step = (Vec<(u64, u64, u64, bool)>, bool, bool);

fn step() -> impl Strategy<Value = Step> {
    (prop::collection::vec(extent(), 1..6), any::<bool>(), prop::bool::weighted(0.1))
}

proptest! {
    #[test]
    fn a_fold_keeps_what_is_visible_within_its_bounds_and_is_done_at_once(
        steps in prop::collection::vec(step(), 1..12),
        dead in prop::collection::btree_set(1..6u64, 0..3),
        asked in any::<bool>(),
        window in prop::sample::select(vec![40 * KIB, 100 * KIB, super::WINDOW]),
    ) {
        let mut overlay = Overlay::default();
        let mut place = 0;
        for (extents, folded, erase) in steps {
            if erase {
                overlay.erase(extents[0].0..extents[0].0 + extents[0].1);
                continue;
            }
            let extents = extents.into_iter().map(|(offset, len, segment, bytes)| {
                place += len as u32;
                match bytes && len < 16 * KIB {
                    true => carried(offset, len),
                    false => stored(offset, len, segment, place),
                }
            });
            overlay.paint(extents.collect(), folded);
        }
        let sparse: BTreeSet<SegmentId> = dead.into_iter().map(id).collect();
        let plan = overlay.plan_in(window, &sparse, asked);
        let after = carried_out(&plan, 64 << 10);
        let end = 1 << 20;
        prop_assert_eq!(after.map.bytes(), overlay.map.bytes());
        prop_assert_eq!(holes(&after.map, end), holes(&overlay.map, end));
        prop_assert_eq!(after.log.bytes, after.map.bytes(), "nothing is written over");
        // What is kept is kept where it was.
        for extent in plan.folded.iter().chain(&plan.written) {
            let before = overlay.map.pieces(extent.offset..extent.offset + extent.len);
            prop_assert_eq!(before, vec![(
                extent.offset..extent.offset + extent.len,
                Some(extent.source.clone()),
            )]);
        }
        let must: u64 = overlay.map.extents().filter(|e| match &e.source {
            Source::Bytes(_) => true,
            Source::Segment { segment, .. } => sparse.contains(segment),
        }).map(|e| e.len).sum();
        let paid = overlay.log.written - after.log.written;
        prop_assert!(asked || plan.moved_bytes() <= 2 * paid + must, "each byte written pays once");
        for segment in after.visible().keys() {
            prop_assert!(!sparse.contains(segment), "{segment} is mostly dead and still named");
        }
        let again = after.plan(&BTreeSet::new(), false);
        prop_assert!(again.moved_bytes() <= 2 * after.log.written, "only what still counts as written");
    }
}
