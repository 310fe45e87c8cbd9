//! Times go backwards only by utimens: ctime, which nobody can set, never does while a mount lives.

use std::collections::BTreeMap;
use vellum_core::id::Ino;
use vellum_core::port::kernel::Attr;
use vellum_core::time::WallTime;

use crate::check::attrs_in;
use crate::history::Record;
use crate::world::{Failure, Outcome, brief};

/// ctime never goes back, whatever the clock does: an answer shows no less than any answer that was
/// there before it was asked for.
///
/// # Errors
/// The two answers.
pub fn check(records: &[Record]) -> Outcome<()> {
    let mut answers: Vec<(&Record, Attr)> = Vec::new();
    for record in records.iter().filter(|r| !r.inferred) {
        answers.extend(attrs_in(&record.reply).into_iter().map(|attr| (record, attr)));
    }
    let mut before = answers.clone();
    before.sort_by_key(|(record, _)| record.answered);
    answers.sort_by_key(|(record, _)| record.asked);
    let mut before = before.into_iter().peekable();
    let mut seen: BTreeMap<Ino, (WallTime, &Record)> = BTreeMap::new();
    for (record, attr) in answers {
        while let Some((record, attr)) = before.next_if(|(r, _)| r.answered < record.asked) {
            let newest = seen.entry(attr.ino).or_insert((attr.ctime, record));
            if attr.ctime > newest.0 {
                *newest = (attr.ctime, record);
            }
        }
        if let Some((ctime, first)) = seen.get(&attr.ino)
            && attr.ctime < *ctime
        {
            let text = format!(
                "{:?} {} shows ctime {:?} of {}, and {:?} {} had shown {ctime:?} before it was asked",
                record.id,
                brief(&record.op),
                attr.ctime,
                attr.ino,
                first.id,
                brief(&first.op)
            );
            return Err(Failure { place: record.answered, ..Failure::new("ctime-back", text) });
        }
    }
    Ok(())
}
