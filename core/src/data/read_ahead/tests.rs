use super::*;
use alloc::vec::Vec;
use proptest::prelude::*;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

fn fetches(reads: impl IntoIterator<Item = Range<u64>>) -> Vec<Option<Range<u64>>> {
    let mut pattern = ReadAhead::default();
    reads.into_iter().map(|range| pattern.read(&range)).collect()
}

fn stream(from: u64, len: u64, count: u64) -> impl Iterator<Item = Range<u64>> {
    (0..count).map(move |n| from + n * len..from + (n + 1) * len)
}

#[test]
fn the_third_sequential_read_fetches_ahead() {
    let got = fetches(stream(10 * MIB, 64 * KIB, 3));
    assert_eq!(got[..2], [None, None]);
    let end = 10 * MIB + 192 * KIB;
    assert_eq!(got[2], Some(end..end + MIB));
}

#[test]
fn a_jump_cancels() {
    let mut pattern = ReadAhead::default();
    for range in stream(0, 64 * KIB, 8) {
        pattern.read(&range);
    }
    assert_eq!(pattern.read(&(900 * MIB..900 * MIB + 4 * KIB)), None);
    assert_eq!(pattern.read(&(512 * KIB..576 * KIB)), None, "the old run is forgotten");
    assert_eq!(pattern.read(&(576 * KIB..640 * KIB)), None);
    assert!(pattern.read(&(640 * KIB..704 * KIB)).is_some());
}

#[test]
fn random_reads_fetch_nothing() {
    let reads = (0..1000u64).map(|n| {
        let at = (n * 7_919 % 1000) * 5 * MIB + 4 * KIB;
        at..at + 4 * KIB
    });
    assert!(fetches(reads).into_iter().all(|fetch| fetch.is_none()));
}

#[test]
fn a_stream_stays_ahead_without_gaps_or_repeats_and_within_its_window() {
    let mut pattern = ReadAhead::default();
    let mut ahead: Option<u64> = None;
    let mut calls = 0;
    for range in stream(0, 128 * KIB, 1000) {
        if let Some(fetch) = pattern.read(&range) {
            assert!(fetch.start >= range.end);
            assert!(fetch.end <= range.end + WINDOW_MAX);
            if let Some(ahead) = ahead {
                assert_eq!(fetch.start, ahead.max(range.end));
            }
            ahead = Some(fetch.end);
            calls += 1;
        }
        if calls > 4 {
            assert!(ahead.expect("fetching") >= range.end + WINDOW_MAX / 2 - 128 * KIB);
        }
    }
    assert!(calls < 40, "{calls} fetches for 125 MiB");
}

#[test]
fn reads_of_one_stream_may_arrive_in_any_order() {
    let mut ranges: Vec<_> = stream(0, MIB, 4).collect();
    ranges.extend([6 * MIB..7 * MIB, 5 * MIB..6 * MIB, 4 * MIB..5 * MIB, 7 * MIB..8 * MIB]);
    let got = fetches(ranges);
    assert!(got[4..].iter().any(|fetch| fetch.is_some()), "the run goes on: {got:?}");
}

proptest! {
    #[test]
    fn whatever_is_read_what_is_fetched_lies_behind_it_and_is_bounded(
        reads in proptest::collection::vec((any::<u64>(), 0u64..4 << 20), 1..60),
        near in any::<bool>(),
    ) {
        let mut pattern = ReadAhead::default();
        for (start, len) in reads {
            let start = if near { start % (16 << 20) } else { start };
            let range = start..start.saturating_add(len);
            if let Some(fetch) = pattern.read(&range) {
                prop_assert!(fetch.start >= range.end && fetch.start < fetch.end);
                prop_assert!(fetch.end - fetch.start <= WINDOW_MAX);
            }
        }
    }
}
