//! At rest every stored segment of a session has a record: what was appended in vain was deleted again.

use vellum_core::id::{SegmentId, SessionId};
use vellum_core::meta::key;
use vellum_core::port::meta_kv::{KvReply, Read, ReadRound, Values};
use vellum_core::port::page_store::{PageReply, PageRequest};

use crate::kv::Paging;
use crate::store::Stores;
use crate::world::{Failure, Outcome};

/// Segments listed at a time.
const PAGE: u32 = 256;

/// Looks into both stores, past the machine: that counts no segment of its own session, because a record
/// may be on its way. Those of earlier sessions it does count.
///
/// # Errors
/// The first segment without a record, and how many there are.
pub fn check(stores: &mut Stores, session: SessionId, time: u64) -> Outcome<()> {
    let mut unnamed: Vec<SegmentId> = Vec::new();
    let mut after = None;
    loop {
        let listed = match stores.page(&PageRequest::List { after, limit: PAGE }) {
            Ok(PageReply::Listed(listed)) => listed,
            other => return Err(Failure::new("leftovers", format!("listing: {other:?}"))),
        };
        let Some(last) = listed.last() else { break };
        after = Some(*last);
        let own = listed.into_iter().filter(|id| id.session == session);
        let own: Vec<SegmentId> = own.collect();
        let reads = own.iter().map(|id| Read::Get(key::segment(*id))).collect();
        let round = ReadRound { at: None, reads };
        let values = match stores.read(time, &round, Paging { rows_max: u32::MAX }) {
            Ok(KvReply::Values { values, .. }) => values,
            other => return Err(Failure::new("leftovers", format!("reading: {other:?}"))),
        };
        let records = own.iter().zip(values);
        let without = records.filter(|(_, value)| matches!(value, Values::One(None)));
        unnamed.extend(without.map(|(id, _)| *id));
    }
    match unnamed.first() {
        None => Ok(()),
        Some(first) => {
            let text = format!("{} stored segments without a record: {first}", unnamed.len());
            Err(Failure::new("leftovers", text))
        }
    }
}
