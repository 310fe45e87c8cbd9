//! Every change takes effect at one point of one order, and the point lies between its request and its
//! answer: what was acknowledged before another request was made comes before it.
//!
//! Together with the replay in that order (`check.rs`) this is strict serializability. What an answer from
//! memory says must hold at some point between its request and its answer, too.

use vellum_core::port::Point;

use crate::check::{Placed, is_change};
use crate::history::{CommitOrder, Record};
use crate::world::{Failure, Outcome, brief};

/// The changes that succeeded, in the order in which they took effect.
///
/// # Errors
/// A point that does not lie between request and answer.
pub fn place_changes<'a>(records: &'a [Record], order: &CommitOrder) -> Outcome<Vec<Placed<'a>>> {
    let mut changes = Vec::new();
    for record in records.iter().filter(|r| r.succeeded() && is_change(&r.op)) {
        let place = match record.point {
            Point::Commit(commit) => order.of(commit).ok_or_else(|| {
                let text = format!(
                    "{} = {:?}, which the store never made",
                    brief(&record.op),
                    record.point
                );
                Failure::new("phantom-commit", text)
            })?,
            Point::Step => record.answered,
            Point::Snapshot(_) => continue,
        };
        if place < record.asked || place > record.answered {
            let text = format!(
                "{} took effect at {place}, outside of {}..={}",
                brief(&record.op),
                record.asked,
                record.answered
            );
            return Err(Failure::new("point-outside", text));
        }
        changes.push(Placed { place, record });
    }
    changes.sort_by_key(|c| (c.place, c.record.answered));
    Ok(changes)
}
