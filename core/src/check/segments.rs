//! Segments: their records and live-byte counters against the logs that name them.

use super::scan::{Scan, Store};
use super::{Check, Fix, rule};
use crate::error::FsResult;
use crate::id::{Ino, SegmentId};
use crate::meta::key;
use crate::meta::record::{SegmentRecord, decode_u64};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use smallvec::SmallVec;

/// Everything known of one segment.
#[derive(Debug, Default)]
pub(super) struct Segment {
    /// Who names it, in the order of numbers.
    inos: SmallVec<[Ino; 1]>,
    /// Sum of the lengths of all extents that name it.
    referenced: u64,
    /// End of the extent that ends last.
    end: u64,
    /// Payload length as its record says.
    pub(super) payload: Option<u64>,
    live: Option<u64>,
    /// Its record or counter does not decode.
    unreadable: bool,
}

/// All segments of the volume.
#[derive(Debug, Default)]
pub(super) struct Segments {
    pub(super) all: BTreeMap<SegmentId, Segment>,
    /// A log pack did not decode: references are missing.
    pub(super) incomplete: bool,
}

impl Segments {
    /// A log extent names a segment. Inodes come in the order of their numbers.
    pub(super) fn refer(&mut self, id: SegmentId, ino: Ino, (offset, len): (u32, u64)) {
        let segment = self.all.entry(id).or_default();
        if segment.inos.last() != Some(&ino) {
            segment.inos.push(ino);
        }
        segment.referenced = segment.referenced.saturating_add(len);
        segment.end = segment.end.max(u64::from(offset) + len);
    }

    /// How many segments some log names.
    pub(super) fn referenced(&self) -> usize {
        self.all.values().filter(|segment| segment.is_referenced()).count()
    }
}

impl Segment {
    pub(super) fn is_referenced(&self) -> bool {
        !self.inos.is_empty()
    }

    /// Its record becomes what is stored, if no extent ends beyond.
    pub(super) fn recorded(&self, id: SegmentId, stored: u64) -> Option<Fix> {
        if self.end <= stored { Fix::number(key::segment(id), stored) } else { None }
    }

    /// Who names it, for a report.
    pub(super) fn users(&self) -> String {
        let mut out = String::from("named by");
        for ino in self.inos.iter().take(USERS_SHOWN) {
            out.push_str(&format!(" {ino}"));
        }
        if self.inos.len() > USERS_SHOWN {
            out.push_str(&format!(" and {} others", self.inos.len() - USERS_SHOWN));
        }
        out
    }
}

/// Inodes that a report about a segment names.
const USERS_SHOWN: usize = 16;

/// Reads the records and counters of all segments.
pub(super) async fn scan(store: &Store<'_>, check: &mut Check) -> FsResult<()> {
    let ranges = [(key::all_segments(), false), (key::all_live_bytes(), true)];
    for (range, live) in ranges {
        let mut scan = Scan::new(range);
        while let Some(page) = store.page(&mut scan).await? {
            for (key, value) in page {
                let Some(id) = key::parse_segment(&key) else {
                    check.problems.add(rule::UNKNOWN_KEY, format!("segment key {key:?}"));
                    continue;
                };
                let segment = check.segments.all.entry(id).or_default();
                let decoded = match live {
                    true => decode_u64(&value),
                    false => SegmentRecord::decode(&value).map(|record| record.len),
                };
                match decoded {
                    Ok(n) if live => segment.live = Some(n),
                    Ok(n) => segment.payload = Some(n),
                    Err(_) => {
                        segment.unreadable = true;
                        let text = format!("segment {id}: {key:?} is {value:?}");
                        // What a counter should say is known; what a record said is not.
                        let known = live && !check.segments.incomplete;
                        let fix = known.then(|| Fix::number(key, segment.referenced)).flatten();
                        check.problems.add_with(rule::SEGMENT_RECORD, text, fix);
                    }
                }
            }
        }
    }
    compare(check);
    Ok(())
}

fn compare(check: &mut Check) {
    let incomplete = check.segments.incomplete;
    for (id, segment) in check.segments.all.iter().filter(|(_, s)| !s.unreadable) {
        if let Some((rule, found)) = violation(segment, incomplete) {
            let fix = (!incomplete).then(|| fix(rule, *id, segment)).flatten();
            check.problems.add_with(rule, format!("segment {id}: {found}"), fix);
        }
    }
}

/// What makes good a broken rule, where every reference was seen.
fn fix(rule: &'static str, id: SegmentId, segment: &Segment) -> Option<Fix> {
    let (record, live) = (key::segment(id), key::live_bytes(id));
    match rule {
        rule::SEGMENT_UNKNOWN => {
            Some(Fix::Record { id, end: segment.end, live: segment.referenced })
        }
        rule::SEGMENT_PAIR if !segment.is_referenced() => Some(Fix::Clear([live].into())),
        rule::SEGMENT_UNREFERENCED => Some(Fix::Clear([record, live].into())),
        rule::SEGMENT_PAIR | rule::SEGMENT_LIVE_BYTES => Fix::number(live, segment.referenced),
        _ => None,
    }
}

/// The first rule that a segment breaks. `incomplete`: some references could not be read.
fn violation(segment: &Segment, incomplete: bool) -> Option<(&'static str, String)> {
    let (payload, live) = match (segment.payload, segment.live) {
        (None, _) if segment.is_referenced() => {
            return Some((rule::SEGMENT_UNKNOWN, format!("no record, {}", segment.users())));
        }
        (None, _) => return Some((rule::SEGMENT_PAIR, String::from("live bytes but no record"))),
        (Some(_), None) if segment.is_referenced() => {
            return Some((rule::SEGMENT_PAIR, String::from("a record but no live bytes")));
        }
        (Some(payload), live) => (payload, live.unwrap_or(0)),
    };
    if !segment.is_referenced() && !incomplete {
        let found = format!("no log names it; {live} live bytes");
        return Some((rule::SEGMENT_UNREFERENCED, found));
    }
    if segment.end > payload {
        let found = format!(
            "an extent ends at {}, the payload at {payload}; {}",
            segment.end,
            segment.users()
        );
        return Some((rule::SEGMENT_LENGTH, found));
    }
    let short = incomplete && segment.referenced < live;
    (live != segment.referenced && !short).then(|| {
        let found = format!("{live} live bytes, extents name {}", segment.referenced);
        (rule::SEGMENT_LIVE_BYTES, found)
    })
}
