//! The proof that the harness can fail: known bugs are planted in core, and each must be found.
//!
//! Owns: the table of the bugs, and which one is planted in the run of a thread. Never does: the bugs
//! themselves; each of them is one `planted!(Name)` at its place in core.
//!
//! A new one: a variant of [`Canary`], its place, and a row here. `sim canaries --only NAME` says the rest.

use std::cell::Cell;
use std::sync::Once;
use vellum_core::canary::{Canary, install};

use crate::exhaustive::acts::Act;
use crate::exhaustive::{Setting, search};
use crate::runner::Job;

/// A planted bug and what must become of it.
#[derive(Clone, Copy, Debug)]
pub struct Bug {
    /// Which one; what it does is said there.
    pub canary: Canary,
    /// Its name on command lines.
    pub name: &'static str,
    /// What goes wrong for a user.
    pub breaks: &'static str,
    /// The rules that find it.
    pub rules: &'static [&'static str],
    /// One of the seeds from 0 up to here finds it, with 200 operations.
    pub within: u64,
    /// The first one that did when this was written; where a quick search begins.
    pub known: u64,
    /// Operations whose interleavings find it, in place of seeds, for what locks of the kernel keep apart in
    /// nearly all runs; one of the first `within` does.
    pub acts: &'static [&'static str],
}

/// A bug that was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// By this seed, or schedule.
    pub seed: u64,
    /// The rule that it broke.
    pub rule: &'static str,
    /// Seeds or schedules that were run for it.
    pub tried: u64,
}

impl Bug {
    /// The bug with a name.
    pub fn named(name: &str) -> Option<&'static Bug> {
        BUGS.iter().find(|bug| bug.name == name)
    }

    /// The row of a planted bug.
    pub fn of(canary: Canary) -> Option<&'static Bug> {
        BUGS.iter().find(|bug| bug.canary == canary)
    }

    /// Whether this rule was to find it.
    pub fn expects(&self, rule: &str) -> bool {
        self.rules.contains(&rule)
    }

    /// The first seed that finds it, among those from 0 to the bound.
    pub fn hunt(&self, ops: usize) -> Option<Found> {
        if !self.acts.is_empty() {
            return self.search();
        }
        (0..self.within).find_map(|seed| {
            let rule = self.try_seed(seed, ops)?;
            Some(Found { seed, rule, tried: seed + 1 })
        })
    }

    /// The same, but the seed that is known to find it comes first.
    pub fn hunt_quickly(&self, ops: usize) -> Option<Found> {
        if !self.acts.is_empty() {
            return self.search();
        }
        match self.try_seed(self.known, ops) {
            Some(rule) => Some(Found { seed: self.known, rule, tried: 1 }),
            None => self.hunt(ops),
        }
    }

    /// Walks through interleavings, of which none fails without the bug.
    fn search(&self) -> Option<Found> {
        let acts: Vec<Act> = self.acts.iter().filter_map(|name| Act::named(name)).collect();
        let planted = Setting { canary: Some(self.canary), ..Setting::PLAIN };
        let searched = search(&planted, &acts, self.within);
        let rule = searched.found?.failure.rule;
        let honest = search(&Setting::PLAIN, &acts, self.within);
        let (seed, tried) = (searched.schedules - 1, searched.schedules);
        honest.found.is_none().then_some(Found { seed, rule, tried })
    }

    /// The rule that a seed breaks with the bug. A seed that fails without it proves nothing.
    fn try_seed(&self, seed: u64, ops: usize) -> Option<&'static str> {
        let honest = Job::of_seed(seed, ops);
        let planted = Job { canary: Some(self.canary), ..honest.clone() };
        let failure = planted.run().failure?;
        honest.run().failure.is_none().then_some(failure.rule)
    }
}

thread_local! {
    static PLANTED: Cell<Option<Canary>> = const { Cell::new(None) };
}

/// While this lives, the bug is planted in whatever runs in this thread.
#[must_use]
pub struct Planted {
    before: Option<Canary>,
}

/// Plants a bug, or none.
pub fn plant(canary: Option<Canary>) -> Planted {
    static ASK: Once = Once::new();
    if canary.is_some() {
        // Without this no run pays for being asked.
        ASK.call_once(|| install(|| PLANTED.get()));
    }
    Planted { before: PLANTED.replace(canary) }
}

impl Drop for Planted {
    fn drop(&mut self) {
        PLANTED.set(self.before);
    }
}

macro_rules! bugs {
    ($($canary:ident $name:literal $breaks:literal [$($rule:literal)*] $within:literal $known:literal
        $(=> [$($act:literal)*])?)*) => {
        /// Every planted bug.
        pub const BUGS: &[Bug] = &[$(Bug {
            canary: Canary::$canary,
            name: $name,
            breaks: $breaks,
            rules: &[$($rule),*],
            within: $within,
            known: $known,
            acts: &[$($($act),*)?],
        }),*];
    };
}

bugs! {
    LostConflict "lost-conflict" "two creates in one directory, one of them lost"
        ["attributes" "impossible-success" "tree" "check"] 500 90
    DoubleApplied "double-applied" "an operation fails on what it did itself"
        ["unexplained-error" "impossible-success" "result" "check" "garbage"] 200 16
    NoCancelWrite "no-cancel-write" "a commit lands after its operation was tried again"
        ["result" "attributes" "impossible-success" "garbage"] 20000 5430
    UnreliedSlot "unrelied-slot" "a write-back lands twice, the second time over newer bytes"
        ["check" "live-check" "times" "read-data" "content" "garbage"] 10000 25
    LateInterrupt "late-interrupt" "EINTR, and it happened"
        ["impossible-success" "result" "attributes"] 2000 167
    ShortRange "short-range" "rows of a range that are not seen"
        ["attributes" "unexplained-error" "check" "live-check" "times" "result" "listing-entry"] 100 5
    ImpatientRetry "impatient-retry" "EIO where there was contention"
        ["unexplained-error" "control"] 200 10
    NoAncestorCheck "no-ancestor-check" "a directory inside itself"
        ["impossible-success" "live-check" "crash-names"] 50 0
    UnreliedAncestors "unrelied-ancestors" "two renames that make a circle of directories"
        ["impossible-success" "check" "live-check"] 1000 7 => ["rename d e/s/a" "rename e d/n/a"]
    KeptParent "kept-parent" "\"..\" leads to where the directory was"
        ["check" "live-check" "listing-entry" "unexplained-error" "impossible-success"] 50 0
    KeptSubdirs "kept-subdirs" "the link count of a directory"
        ["tree" "attributes" "listing-entry" "live-check" "check"] 200 0
    CollidingName "colliding-name" "a name replaces another one with the same hash"
        ["impossible-success" "tree" "crash-names" "unexplained-error" "live-check"] 200 14
    LostLink "lost-link" "the link count after two links at once"
        ["content" "tree" "attributes" "check" "crash-content"] 2000 501
    KeptBackLink "kept-back-link" "a back link of a name that is gone"
        ["check" "live-check"] 50 4
    KeptChangeTime "kept-change-time" "ctime after link(2)"
        ["times"] 50 4
    KeptDirTime "kept-dir-time" "mtime of a directory after rename(2)"
        ["times"] 300 61
    PhantomEntry "phantom-entry" "a directory is removed with what was created in it"
        ["impossible-success" "check"] 3000 259
    SkippedEntry "skipped-entry" "a listing leaves out names"
        ["listing-complete"] 2000 21
    KeptGarbage "kept-garbage" "a file with a name is reclaimed"
        ["check" "live-check" "panic"] 200 0
    ForgottenMask "forgotten-mask" "permissions after chmod(2)"
        ["tree" "crash-names" "live-check" "attributes"] 200 25
    KeptSetId "kept-set-id" "a set-id program with other content"
        ["attributes" "tree" "listing-entry" "impossible-success" "result" "believed-mode"] 100 6
    UntoldMode "untold-mode" "a program runs with set-id bits that it has lost"
        ["believed-mode"] 50 0
    KeptOwnerSetId "kept-owner-set-id" "a set-id program of another owner, or cut"
        ["attributes" "tree" "believed-mode"] 50 0
    StaleAttributes "stale-attributes" "an old size after a write-back"
        ["listing-entry" "attributes" "times"] 1000 116
    CommitBeforeData "commit-before-data" "a file names bytes that are not there"
        ["unexplained-error" "walk-read" "check" "live-check"] 2000 206
    ForgottenErase "forgotten-erase" "truncated bytes come back when the file grows"
        ["check" "live-check" "read-data" "content" "result" "crash-content"] 100 6
    SizeByMax "size-by-max" "a truncated file keeps its size"
        ["attributes" "copy-count" "read-data" "content" "listing-entry"] 50 0
    OvertakenPunch "overtaken-punch" "a hole is filled by an earlier write"
        ["times" "read-data" "content" "crash-content"] 100 6
    OvertakenTruncate "overtaken-truncate" "a truncated file grows by an earlier write"
        ["attributes" "copy-count" "times" "read-data" "content" "crash-content" "result"] 50 2
    UnsharedCopy "unshared-copy" "a copy whose bytes go with the original"
        ["check" "live-check"] 100 1
    UnsettledCopy "unsettled-copy" "a copy of what the file was before"
        ["result" "content" "read-data"] 100 5
    AppendAtOffset "append-at-offset" "two appends in one place"
        ["attributes" "read-data" "copy-count" "result" "content" "crash-content" "listing-entry"] 50 0
    CutShort "cut-short" "a byte behind a write is lost"
        ["panic" "content" "read-data"] 100 5
    OvertakenSeal "overtaken-seal" "an earlier write covers a later one"
        ["times" "read-data" "content" "panic"] 2000 316
    LostWakeup "lost-wakeup" "a request that is never answered"
        ["deadlock"] 100 6
    UnsettledRename "unsettled-rename" "a crash leaves an empty file in the place of the old one"
        ["crash-content"] 1000 122
    HollowFsync "hollow-fsync" "what fsync promised is lost in a crash"
        ["durability"] 500 24
    KeptXattrs "kept-xattrs" "attributes of files that are gone fill the volume"
        ["check" "live-check"] 50 0
    ReclaimedOpen "reclaimed-open" "an open file loses its data with its name"
        ["panic" "unexplained-error"] 300 6
    ForgottenGarbage "forgotten-garbage" "removed files fill the volume after a crash"
        ["garbage"] 50 0
    KeptLiveBytes "kept-live-bytes" "segments without a use fill the volume"
        ["check" "live-check"] 100 1
    EarlyDelete "early-delete" "a removal that a crash undoes has lost its bytes"
        ["walk-read" "check" "read-data"] 10000 892
    DriftingUsage "drifting-usage" "df says more than there is"
        ["check" "live-check"] 50 0
    DroppedWrite "dropped-write" "what was written while its region was folded is lost"
        ["read-data" "content" "crash-content" "check" "live-check"] 200 1
    UnreliedGeneration "unrelied-generation" "a fold brings a truncated log back as garbage"
        ["check" "live-check"] 20000 1170
    ResurrectedErase "resurrected-erase" "a fold brings erased bytes back"
        ["read-data" "content" "check" "live-check"] 100 6
    EarlyErase "early-erase" "erased bytes come back when the erase is cleared"
        ["read-data" "content" "check" "live-check"] 3000 239
    UnreleasedFold "unreleased-fold" "folded segments fill the volume"
        ["check" "live-check"] 50 1
    UncountedFold "uncounted-fold" "the number of log entries"
        ["check" "live-check"] 100 6
    EarlyFoldDelete "early-fold-delete" "a fold that a crash undoes has lost the bytes"
        ["walk-read" "check" "read-data"] 5000 896
    NoSecondLook "no-second-look" "EIO for bytes that a fold has moved meanwhile"
        ["unexplained-error"] 5000 681
    KeptAppend "kept-append" "what could not be written at once fills the volume"
        ["leftovers"] 5000 1043
    KeptFold "kept-fold" "folds that come to nothing fill the volume"
        ["leftovers"] 200 14
    UncheckedGeneration "unchecked-generation" "a conflict across a flush of the store is not seen"
        ["impossible-success" "check" "tree" "attributes" "result"] 10000 229
    BelievedRecord "believed-record" "garbage from a torn log becomes metadata"
        ["panic" "phantom-commit" "mount"] 1000 37
    UnsyncedLog "unsynced-log" "the log of fsync is gone after a power cut"
        ["page-rules" "phantom-commit" "mount" "durability"] 100 2
    UnreadLog "unread-log" "older records of the log are lost"
        ["panic" "page-rules" "durability"] 10000 891
    ForgottenMark "forgotten-mark" "durable segments are cut off at a start"
        ["check" "walk-read"] 200 22
    UnsyncedDirectory "unsynced-directory" "a page file is gone after a power cut"
        ["check" "walk-read"] 300 22
    BelievedSync "believed-sync" "bytes that never reached the disk count as durable"
        ["check" "walk-read" "page-rules"] 5000 519
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_planted_bug_has_a_row_and_a_name_of_its_own() {
        let rows: Vec<Canary> = BUGS.iter().map(|bug| bug.canary).collect();
        assert_eq!(rows, Canary::ALL);
        for (n, bug) in BUGS.iter().enumerate() {
            assert!(BUGS[n + 1..].iter().all(|other| other.name != bug.name), "{}", bug.name);
            assert!(bug.known < bug.within && !bug.rules.is_empty(), "{}", bug.name);
            assert!(bug.acts.iter().all(|act| Act::named(act).is_some()), "{}", bug.name);
        }
    }

    #[test]
    fn a_bug_is_planted_while_its_guard_lives_and_in_its_thread_only() {
        let outer = plant(Some(Canary::LostWakeup));
        {
            let _inner = plant(None);
            assert_eq!(PLANTED.get(), None);
        }
        assert_eq!(PLANTED.get(), Some(Canary::LostWakeup));
        std::thread::scope(|scope| {
            scope.spawn(|| assert_eq!(PLANTED.get(), None));
        });
        drop(outer);
        assert_eq!(PLANTED.get(), None);
    }
}
