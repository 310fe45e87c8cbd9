//! Regions that are tidied up once nobody writes to their file.
//!
//! While a file is written at random its extents are small, and to put them in order again and again would
//! cost more than it gives. When the writer is done, readers come: what was written pays for a fold then.

use super::{Client, Work};
use crate::id::Ino;
use crate::meta::ops::fold::{Place, Reason};
use crate::time::Instant;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::time::Duration;

/// How long nobody must have written to a file.
const QUIET: Duration = Duration::from_secs(2);
/// Files that are remembered at a time.
const FILES_MAX: usize = 1024;

/// Untidy regions by file, and since when nobody wrote to it.
#[derive(Debug, Default)]
pub(super) struct Untidy(BTreeMap<Ino, (Instant, BTreeSet<u64>)>);

impl Untidy {
    /// How many regions.
    pub(super) fn len(&self) -> usize {
        self.0.values().map(|(_, regions)| regions.len()).sum()
    }

    /// Takes the files to which nobody has written for long enough.
    fn quiet(&mut self, now: Instant) -> BTreeMap<Ino, (Instant, BTreeSet<u64>)> {
        let quiet = self.0.extract_if(.., |_, (since, _)| now.since(*since) >= QUIET);
        quiet.collect()
    }
}

impl Client {
    /// A log grew or was loaded; `regions` are those of the file that are untidy now.
    pub(super) fn tidy_later(&mut self, ino: Ino, regions: Vec<u64>) {
        let (now, Untidy(files)) = (self.now.mono, &mut self.compaction.untidy);
        if let Some((since, _)) = files.get_mut(&ino) {
            *since = now;
        }
        if regions.is_empty() || (files.len() >= FILES_MAX && !files.contains_key(&ino)) {
            return;
        }
        files.entry(ino).or_insert_with(|| (now, BTreeSet::new())).1.extend(regions);
        self.arm_tidy(QUIET);
    }

    /// Folds what is untidy of files to which nobody writes.
    pub(in crate::client) fn tidy_up(&mut self) {
        let quiet = self.compaction.untidy.quiet(self.now.mono);
        for (ino, (_, regions)) in quiet {
            if self.inodes.file(ino).is_some_and(|file| !file.is_clean()) {
                self.compaction.untidy.0.insert(ino, (self.now.mono, regions));
                continue;
            }
            for region in regions {
                probe!("tidied-up");
                self.compact(Work::Fold(Place { ino, region }, Reason::Untidy));
            }
        }
        if !self.compaction.stopped && !self.compaction.untidy.0.is_empty() {
            self.arm_tidy(QUIET);
        }
    }
}
