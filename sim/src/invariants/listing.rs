//! Listings as a whole: every entry that stood from the first page to the last is there, once.

use std::collections::BTreeMap;
use vellum_core::id::Ino;
use vellum_core::port::kernel::{Operation, Reply};
use vellum_model::NodeId;

use crate::check::{Placed, redo};
use crate::history::{Place, Record};
use crate::replay::Mirror;
use crate::world::{Failure, Outcome};

/// Every entry that stood throughout a complete listing is in it once.
pub(crate) fn check(
    start: Mirror,
    changes: &[Placed<'_>],
    records: &[Record],
    places: &[Place],
) -> Outcome<()> {
    struct Listing<'a> {
        dir: Ino,
        from: Place,
        until: Option<Place>,
        cookie: u64,
        names: BTreeMap<&'a [u8], u32>,
        standing: Option<BTreeMap<Vec<u8>, NodeId>>,
    }
    let mut listings: BTreeMap<u64, Listing<'_>> = BTreeMap::new();
    let mut complete = Vec::new();
    for record in records {
        match (&record.op, &record.reply) {
            (Operation::OpenDir { ino }, Reply::Opened(opened)) => {
                let listing = Listing {
                    dir: *ino,
                    from: record.asked,
                    until: None,
                    cookie: 0,
                    names: BTreeMap::new(),
                    standing: None,
                };
                listings.insert(opened.handle.0, listing);
            }
            (Operation::ReadDir { handle, cookie, .. }, Reply::Entries(entries)) => {
                let Some(mut listing) = listings.remove(&handle.0) else { continue };
                if listing.cookie != *cookie {
                    continue;
                }
                for entry in entries {
                    *listing.names.entry(&entry.name).or_insert(0) += 1;
                    listing.cookie = entry.cookie;
                }
                if entries.is_empty() {
                    listing.until = Some(record.answered);
                    complete.push(listing);
                } else {
                    listings.insert(handle.0, listing);
                }
            }
            _ => {}
        }
    }
    let state_at = |place: Place| places.partition_point(|p| *p <= place);
    let until = complete.iter().filter_map(|listing| listing.until).max();
    let Some(last) = until.map(state_at) else { return Ok(()) };
    let mut mirror = start;
    for state in 0..=changes.len().min(last) {
        for listing in &mut complete {
            let until = listing.until.expect("only complete ones");
            if state < state_at(listing.from) || state > state_at(until) {
                continue;
            }
            let entries =
                mirror.node(listing.dir).and_then(|n| mirror.fs.readdir(n)).unwrap_or_default();
            let now: BTreeMap<Vec<u8>, NodeId> =
                entries.into_iter().map(|e| (e.name, e.node)).collect();
            match &mut listing.standing {
                None => listing.standing = Some(now),
                Some(standing) => standing.retain(|name, node| now.get(name) == Some(node)),
            }
        }
        if let Some(change) = changes.get(state) {
            redo(&mut mirror, change, state);
        }
    }
    for listing in complete {
        for (name, _) in listing.standing.unwrap_or_default() {
            let times = listing.names.get(&name[..]).copied().unwrap_or(0);
            if times != 1 {
                let text = format!(
                    "a listing of {} from {} to {:?} has {:?} {times} times",
                    listing.dir,
                    listing.from,
                    listing.until,
                    String::from_utf8_lossy(&name)
                );
                let place = listing.until.unwrap_or(0);
                return Err(Failure { place, ..Failure::new("listing-complete", text) });
            }
        }
    }
    Ok(())
}
