//! Cutting what is flushed together into segments.
//!
//! A fold frees what a region names. If one segment held bytes of every region of a large file, its space
//! came back only after the last of them was folded; therefore bytes of different regions go into segments
//! of their own, unless those would be too small.
//!
//! Owns: where a payload is cut. Never does: appending. Source: `docs/adr/0009-folding-regions.md`.

use super::write_buffer::LogExtentPlace;
use crate::limits::REGION_SIZE;
use alloc::vec::Vec;
use bytes::Bytes;

/// What goes into one segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// Its payload, in pieces.
    pub payload: Vec<Bytes>,
    /// Where runs of the file lie in that payload.
    pub places: Vec<LogExtentPlace>,
    /// Length of the payload.
    pub len: u32,
}

/// Cuts a payload where the file has a border between regions, into parts of at least `min` bytes. `places`
/// are in file order, one behind the other in the payload, and together as long as it.
pub fn split(payload: &[Bytes], places: &[LogExtentPlace], min: u64) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut pieces = payload.iter().cloned();
    let mut rest = None;
    for (begin, end) in bounds(places, min) {
        let part = Part {
            payload: take(&mut pieces, &mut rest, (end - begin) as usize),
            places: within(places, begin, end),
            len: end - begin,
        };
        parts.push(part);
    }
    parts
}

/// Where parts begin and end in the payload.
fn bounds(places: &[LogExtentPlace], min: u64) -> Vec<(u32, u32)> {
    let Some(last) = places.last() else { return Vec::new() };
    let total = end(last);
    let mut bounds = Vec::new();
    let (mut begin, mut region) = (0, places[0].offset / REGION_SIZE);
    for place in places {
        let regions = place.offset / REGION_SIZE..=(place.offset + place.len - 1) / REGION_SIZE;
        for next in regions {
            if core::mem::replace(&mut region, next) == next {
                continue;
            }
            let skipped = (next * REGION_SIZE).saturating_sub(place.offset);
            let at = place.payload_offset + skipped as u32;
            if u64::from(at - begin) >= min && u64::from(total - at) >= min {
                bounds.push((begin, at));
                begin = at;
            }
        }
    }
    bounds.push((begin, total));
    bounds
}

fn end(place: &LogExtentPlace) -> u32 {
    place.payload_offset + place.len as u32
}

/// The places of a part, as they lie in its own payload.
fn within(places: &[LogExtentPlace], begin: u32, until: u32) -> Vec<LogExtentPlace> {
    let touching = places.iter().filter(|place| end(place) > begin && place.payload_offset < until);
    let cut = touching.map(|place| {
        let (from, to) = (place.payload_offset.max(begin), end(place).min(until));
        LogExtentPlace {
            offset: place.offset + u64::from(from - place.payload_offset),
            len: u64::from(to - from),
            payload_offset: from - begin,
        }
    });
    cut.collect()
}

/// Takes so many bytes off the front of pieces.
fn take(
    pieces: &mut impl Iterator<Item = Bytes>,
    rest: &mut Option<Bytes>,
    mut len: usize,
) -> Vec<Bytes> {
    let mut taken = Vec::new();
    while len > 0
        && let Some(mut piece) = rest.take().or_else(|| pieces.next())
    {
        let front = piece.split_to(piece.len().min(len));
        len -= front.len();
        taken.push(front);
        *rest = Some(piece).filter(|piece| !piece.is_empty());
    }
    taken
}

#[cfg(test)]
mod tests;
