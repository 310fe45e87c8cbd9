//! The page store: every segment that a log names is there and, if asked for, unharmed.
//!
//! Segments that no record knows are no damage: a crash between an append and its commit, or between
//! a commit and the deletion after it, leaves them. They are counted. Those of this session are not: their
//! record may be on its way.

use super::scan::Store;
use super::{Check, rule};
use crate::data::page_io::{page, pages};
use crate::error::{FsError, FsResult};
use crate::id::SegmentId;
use crate::meta::key;
use crate::port::page_store::{PageError, PageReply, PageRequest};
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Segments listed at a time.
const LIST_MAX: u32 = 1024;
/// Segments verified at a time.
const VERIFY_MAX: usize = 8;

/// Compares the page store with the records; with `data`, verifies what is referenced.
pub(super) async fn check(store: &Store<'_>, check: &mut Check, data: bool) -> FsResult<()> {
    let wanted = check.segments.all.iter().filter(|(_, segment)| segment.is_referenced());
    let mut missing: BTreeSet<SegmentId> = wanted.map(|(id, _)| *id).collect();
    let mut present = Vec::new();
    let mut after = None;
    loop {
        let page = list(store, after).await?;
        let Some(last) = page.last() else { break };
        after = Some(*last);
        for id in page {
            if missing.remove(&id) {
                present.push(id);
            } else if !check.segments.all.contains_key(&id) && id.session != store.volume.session {
                check.orphan_segments += 1;
            }
        }
    }
    let missing: Vec<SegmentId> = missing.into_iter().collect();
    for id in still_named(store, &missing).await? {
        let users = check.segments.all[&id].users();
        check.problems.add(rule::SEGMENT_MISSING, format!("segment {id}: {users}"));
    }
    if data {
        for ids in present.chunks(VERIFY_MAX) {
            verify(store, check, ids).await?;
        }
    }
    Ok(())
}

/// Those of the segments that have a record now. The others lost their last reference since the moment
/// of the check, and may be gone.
async fn still_named(store: &Store<'_>, ids: &[SegmentId]) -> FsResult<Vec<SegmentId>> {
    let mut named = Vec::new();
    for ids in ids.chunks(LIST_MAX as usize) {
        let records: Vec<_> = ids.iter().map(|id| key::segment(*id)).collect();
        let found = store.values_now(&records).await?;
        named.extend(ids.iter().zip(found).filter(|(_, f)| f.is_some()).map(|(id, _)| *id));
    }
    Ok(named)
}

/// The stored segments after one.
async fn list(store: &Store<'_>, after: Option<SegmentId>) -> FsResult<Vec<SegmentId>> {
    match page(store.cx, PageRequest::List { after, limit: LIST_MAX }).await {
        Ok(PageReply::Listed(mut page)) => {
            page.retain(|id| after.is_none_or(|after| *id > after));
            Ok(page)
        }
        Ok(_) => Err(FsError::Damaged),
        Err(error) => Err(error.into()),
    }
}

async fn verify(store: &Store<'_>, check: &mut Check, ids: &[SegmentId]) -> FsResult<()> {
    let requests = ids.iter().map(|segment| PageRequest::Verify { segment: *segment });
    let replies = pages(store.cx, requests.collect()).await;
    let (mut bad, mut verified) = (Vec::new(), 0);
    for (id, reply) in ids.iter().zip(replies) {
        let segment = &check.segments.all[id];
        let (rule, found, fix) = match reply {
            Ok(PageReply::Verified { len }) => {
                check.bytes_verified += u64::from(len);
                verified += u64::from(len);
                match segment.payload {
                    Some(payload) if payload != u64::from(len) => {
                        let text = format!("record says {payload}, stored are {len}");
                        (rule::SEGMENT_LENGTH, text, segment.recorded(*id, u64::from(len)))
                    }
                    _ => continue,
                }
            }
            Ok(_) => return Err(FsError::Damaged),
            Err(PageError::Missing) => (rule::SEGMENT_MISSING, String::from("gone"), None),
            Err(PageError::Corrupt { offset }) => {
                let text = format!("the frame at payload byte {offset} is damaged");
                (rule::FRAME_CHECKSUM, text, None)
            }
            Err(error) => (rule::SEGMENT_UNREADABLE, format!("{error:?}"), None),
        };
        bad.push((*id, rule, format!("segment {id}: {found}; {}", segment.users()), fix));
    }
    store.advance(verified).await;
    let suspects: Vec<SegmentId> = bad.iter().map(|(id, ..)| *id).collect();
    let named = still_named(store, &suspects).await?;
    for (_, rule, text, fix) in bad.into_iter().filter(|(id, ..)| named.contains(id)) {
        check.problems.add_with(rule, text, fix);
    }
    Ok(())
}
