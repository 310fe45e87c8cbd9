//! The offline check of a volume: every invariant of the metadata as a rule with a stable name.
//!
//! Owns: the rules ([`rule::ALL`]), the order in which the key space is read, what makes good a broken rule.
//! Never does: decisions that operations share; it recomputes from the rows what operations keep in
//! counters. Repairs are [`mod@repair`]'s.
//!
//! Reads go page by page, all of them at one version, so that a volume of any size is checked within the
//! store's limits while requests go on. Should that version leave the store's window, the rest is read
//! at a later one: problems found that way may be none, and the check begins anew, a few times at most.
//! Memory grows with the number of inodes and segments (some tens of bytes each), not with names or data.
//!
//! A broken row is reported once: rules that could only repeat it are silent about that object.
//!
//! Tests: `core/tests/check.rs` plants damage for every rule, `core/tests/random.rs` checks volumes
//! after random operations.

mod back_links;
mod file;
mod garbage;
mod inode;
mod inodes;
mod names;
mod nlink;
mod pages;
mod problems;
mod repair;
pub mod rule;
mod scan;
mod segments;
mod tree;
mod volume;
mod xattrs;

use crate::error::FsResult;
use crate::id::Ino;
use crate::meta::txn::Volume;
use crate::port::control::{CheckReport, Problem};
use crate::port::meta_kv::Version;
use crate::task::Cx;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use garbage::Garbage;
use inodes::Inodes;
use problems::Problems;
use repair::Fix;
use scan::Store;
use segments::Segments;

/// What is known of the volume while it is read.
#[derive(Default)]
struct Check {
    /// The incarnation and version at which the check began: no log is newer.
    newest: (u32, Version),
    problems: Problems,
    garbage: Garbage,
    inodes: Inodes,
    segments: Segments,
    dentries: u64,
    bytes_verified: u64,
    orphan_segments: u64,
    /// An entry does not decode: what it names has one name more than was seen.
    names_unknown: bool,
    /// Inodes that have data, but no core.
    headless: BTreeSet<Ino>,
}

pub use repair::repair;

/// How often a check that finds problems in a volume on the move begins anew.
const PASSES_MAX: usize = 3;

/// Checks every rule; with `data`, verifies the frames of every referenced segment, too.
///
/// # Errors
/// When a store does not answer. What it answers never is an error: that is what the report is for.
pub async fn check(cx: &Cx, volume: &Volume, data: bool) -> FsResult<CheckReport> {
    let mut report = pass(cx, volume, data).await?.0;
    for _ in 1..PASSES_MAX {
        if report.exact || report.problems.is_empty() {
            break;
        }
        report = pass(cx, volume, data).await?.0;
    }
    Ok(report)
}

/// Checks every rule once; with what would make good the problems that it found.
async fn pass(
    cx: &Cx,
    volume: &Volume,
    data: bool,
) -> FsResult<(CheckReport, Vec<(Problem, Fix)>)> {
    let store = Store::new(cx, volume);
    store.stage("volume").await;
    let began = store.version().await?;
    let mut check = Check { newest: (volume.incarnation, began), ..Check::default() };
    volume::check_record(&store, &mut check).await?;
    volume::check_families(&store, &mut check).await?;
    garbage::load(&store, &mut check).await?;
    store.stage("inodes").await;
    inode::scan(&store, &mut check).await?;
    store.stage("names").await;
    names::scan(&store, &mut check).await?;
    back_links::scan(&store, &mut check).await?;
    nlink::check(&mut check);
    tree::check(&mut check);
    garbage::check(&mut check);
    volume::check_counters(&store, &mut check).await?;
    store.stage("segments").await;
    segments::scan(&store, &mut check).await?;
    let exact = store.is_exact() || store.version_now().await? == began;
    store.stage("data").await;
    pages::check(&store, &mut check, data).await?;
    let fixes = check.problems.fixes();
    Ok((check.report(exact), fixes))
}

impl Check {
    fn report(self, exact: bool) -> CheckReport {
        CheckReport {
            exact,
            inodes: self.inodes.cores,
            dentries: self.dentries,
            segments: self.segments.referenced() as u64,
            bytes_verified: self.bytes_verified,
            orphan_segments: self.orphan_segments,
            waiting: self.garbage.len(),
            problems: self.problems.finish(),
        }
    }
}
