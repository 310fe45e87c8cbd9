//! Making good what a check found, where it is known how.
//!
//! Owns: which fix follows from a broken rule ([`Fix`]), and how it is written ([`apply`]). Never does: a
//! change of anything that it does not understand, or one that takes data away: such problems stay.
//!
//! A repair checks, writes each fix in a transaction of its own, and checks again: what one fix brings to
//! light the next pass sees. It ends when a pass finds nothing that can be fixed. Nothing else may write
//! meanwhile, so that only a machine that is mounted read-only repairs.
//!
//! Tests: `core/tests/repair.rs` repairs each damage that `core/tests/check.rs` plants.

mod apply;
mod fix;

pub(super) use fix::{CoreEdit, Fix};

use super::pass;
use super::scan::{Scan, Store};
use crate::error::FsResult;
use crate::id::Ino;
use crate::meta::key;
use crate::meta::record::Dentry;
use crate::meta::txn::Volume;
use crate::port::Point;
use crate::port::control::{Problem, RepairReport, Repaired};
use crate::task::Cx;
use crate::time::WallTime;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use apply::Repair;

/// Passes of one repair. Damage upon damage takes a few: a name, then its inode, then the counters.
const PASSES_MAX: usize = 16;

/// Times that one fix is written for one problem. Other fixes of the same pass may be in its way; if that
/// is not why it did not help, it never will.
const TRIES_MAX: usize = 3;

/// The directory entries of some inodes, as directory and cookie.
type NamesOf = BTreeMap<Ino, Vec<(Ino, u64)>>;

/// Repairs what can be repaired, and says what is left. The point is that of the last change.
///
/// # Errors
/// When a store does not answer. What was repaired until then stays.
pub async fn repair(
    cx: &Cx,
    volume: &Volume,
    data: bool,
    now: WallTime,
) -> FsResult<(RepairReport, Point)> {
    let (mut repaired, mut tried) = (Vec::new(), Vec::new());
    let mut last = Point::Step;
    let mut repair = Repair::new(cx, volume, now);
    for _ in 0..PASSES_MAX {
        let (left, fixes) = pass(cx, volume, data).await?;
        let names = names_of(cx, volume, &fixes).await?;
        let before = repaired.len();
        let mut done: Option<Fix> = None;
        for (problem, fix) in fixes {
            // One change may be the answer to several problems in a row.
            if done.as_ref() != Some(&fix) {
                let same = |(p, f): &&(Problem, Fix)| *p == problem && *f == fix;
                if tried.iter().filter(same).count() >= TRIES_MAX {
                    continue;
                }
                tried.push((problem.clone(), fix.clone()));
                match repair.apply(&fix, &names).await {
                    Ok(Some(point)) => last = point,
                    // What stands in its way is a problem of its own, and is reported.
                    Ok(None) | Err(_) => continue,
                }
            }
            repaired.push(Repaired { rule: problem.rule, found: problem.text, done: fix.says() });
            done = Some(fix);
        }
        if repaired.len() == before {
            return Ok((RepairReport { repaired, left }, last));
        }
    }
    let (left, _) = pass(cx, volume, data).await?;
    Ok((RepairReport { repaired, left }, last))
}

/// The names of the inodes whose fix needs to know them.
async fn names_of(cx: &Cx, volume: &Volume, fixes: &[(Problem, Fix)]) -> FsResult<NamesOf> {
    let wanted = fixes.iter().filter_map(|(_, fix)| fix.wants_names_of());
    let mut names: NamesOf = wanted.map(|ino| (ino, Vec::new())).collect();
    if names.is_empty() {
        return Ok(names);
    }
    let store = Store::new(cx, volume);
    let mut scan = Scan::new(key::all_dentries());
    while let Some(page) = store.page(&mut scan).await? {
        for (key, value) in page {
            if let (Some(place), Ok(dentry)) = (key::parse_dentry(&key), Dentry::decode(&value))
                && let Some(places) = names.get_mut(&dentry.ino)
            {
                places.push(place);
            }
        }
    }
    Ok(names)
}
