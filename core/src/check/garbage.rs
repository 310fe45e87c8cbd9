//! What waits for reclaim: inodes without names, and data generations that a truncate cut off.

use super::scan::{Scan, Store};
use super::{Check, Fix, rule};
use crate::error::FsResult;
use crate::id::Ino;
use crate::meta::key;
use crate::meta::ops::WHOLE;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;

/// The reclaim queue.
#[derive(Debug, Default)]
pub(super) struct Garbage(BTreeSet<(Ino, u64)>);

impl Garbage {
    /// How much waits.
    pub(super) fn len(&self) -> u64 {
        self.0.len() as u64
    }

    /// Whether a removed inode waits.
    pub(super) fn has_inode(&self, ino: Ino) -> bool {
        self.0.contains(&(ino, WHOLE))
    }

    /// Whether a data generation waits, by itself or with its inode.
    pub(super) fn has_generation(&self, ino: Ino, generation: u64) -> bool {
        self.has_inode(ino) || self.0.contains(&(ino, generation))
    }
}

/// Reads the queue.
pub(super) async fn load(store: &Store<'_>, check: &mut Check) -> FsResult<()> {
    let mut scan = Scan::new(key::all_garbage());
    while let Some(page) = store.page(&mut scan).await? {
        for (key, _) in page {
            match key::parse_garbage(&key) {
                Some(entry) => {
                    check.garbage.0.insert(entry);
                }
                None => check.problems.add(rule::UNKNOWN_KEY, format!("reclaim entry {key:?}")),
            }
        }
    }
    Ok(())
}

/// Compares the queue with the inodes.
pub(super) fn check(check: &mut Check) {
    for inode in check.inodes.readable() {
        if inode.nlink == 0 && inode.names == 0 && !check.garbage.has_inode(inode.ino) {
            let text = format!("inode {}: no names, and not queued for reclaim", inode.ino);
            let fix = (!check.names_unknown).then_some(Fix::Queue(inode.ino, WHOLE));
            check.problems.add_with(rule::RECLAIM_MISSING, text, fix);
        }
    }
    for (ino, generation) in &check.garbage.0 {
        let found = match check.inodes.find(*ino) {
            None => Some(String::from("no such inode")),
            Some(inode) if !inode.readable => None,
            Some(inode) if *generation == WHOLE => {
                (inode.nlink > 0).then(|| format!("the inode has {} names", inode.nlink))
            }
            Some(inode) => (*generation >= inode.generation)
                .then(|| format!("the inode is at generation {}", inode.generation)),
        };
        if let Some(found) = found {
            let what = match *generation {
                WHOLE => format!("inode {ino}"),
                generation => format!("generation {generation} of inode {ino}"),
            };
            let text = format!("{what} queued for reclaim: {found}");
            let fix = Fix::Clear([key::garbage(*ino, *generation)].into());
            check.problems.add_with(rule::RECLAIM_ENTRY, text, Some(fix));
        }
    }
}
