//! What must hold of a volume and its history, and who sees to it.
//!
//! A rule about what is stored is one of core's check, which runs in a fifth of all runs while callers
//! work, and at the end of each. A rule about the history is here or in the judge. Each has planted bugs
//! that it finds; `sim canaries` shows that it does.

pub mod change_time;
pub(crate) mod contents;
pub mod damage;
pub(crate) mod durable;
pub mod leftovers;
pub mod limits;
pub(crate) mod listing;
pub mod order;
pub mod transactions;

/// Something that must hold, and where that is checked.
#[derive(Clone, Copy, Debug)]
pub struct Invariant {
    /// What.
    pub holds: &'static str,
    /// The files that check it, from the root of the repository; none while there is nothing to check.
    pub checked: &'static [&'static str],
    /// Planted bugs that break it.
    pub bugs: &'static [&'static str],
}

const JUDGE: &str = "sim/src/check.rs";
const RECOVER: &str = "sim/src/recover.rs";
const RUNNER: &str = "sim/src/runner.rs";

/// All of them. Those with nothing to check need several mounts of one volume.
pub const INVARIANTS: &[Invariant] = &[
    Invariant {
        holds: "every name leads to an inode",
        checked: &["core/src/check/names.rs", RECOVER],
        bugs: &["colliding-name", "phantom-entry"],
    },
    Invariant {
        holds: "link counts are the number of names, and counters of directories are exact",
        checked: &["core/src/check/nlink.rs", "core/src/check/back_links.rs", RECOVER],
        bugs: &["kept-back-link", "kept-subdirs"],
    },
    Invariant {
        holds: "the directories form a tree",
        checked: &["core/src/check/tree.rs", JUDGE],
        bugs: &["no-ancestor-check", "unrelied-ancestors", "kept-parent"],
    },
    Invariant {
        holds: "what was acknowledged happened exactly once, in an order that respects real time",
        checked: &["sim/src/invariants/order.rs", JUDGE],
        bugs: &[
            "lost-conflict",
            "double-applied",
            "no-cancel-write",
            "unrelied-slot",
            "late-interrupt",
        ],
    },
    Invariant {
        holds: "nothing of a session commits after its fence is cleared",
        checked: &[],
        bugs: &[],
    },
    Invariant {
        holds: "every extent that can be reached is durable",
        checked: &["core/src/check/segments.rs", "sim/src/invariants/durable.rs", RECOVER],
        bugs: &["commit-before-data", "hollow-fsync", "forgotten-mark", "believed-sync"],
    },
    Invariant {
        holds: "the live bytes of a segment are the sum of its references",
        checked: &["core/src/check/segments.rs"],
        bugs: &["unshared-copy", "kept-live-bytes", "unreleased-fold"],
    },
    Invariant {
        holds: "recorded usage is what is there, and within the limits",
        checked: &["core/src/check/volume.rs", "sim/src/invariants/limits.rs"],
        bugs: &["drifting-usage", "uncounted-fold"],
    },
    Invariant {
        holds: "after a crash a file is a prefix of its changes and has what was synced",
        checked: &["sim/src/invariants/contents.rs"],
        bugs: &["unsettled-rename", "lost-link"],
    },
    Invariant {
        holds: "bytes beyond a truncate or in a hole are zeros, for ever",
        checked: &[JUDGE, "sim/src/claims.rs"],
        bugs: &["forgotten-erase", "overtaken-punch"],
    },
    Invariant {
        holds: "appends do not overlap",
        checked: &[JUDGE, "sim/src/replay.rs"],
        bugs: &["append-at-offset"],
    },
    Invariant { holds: "locks exclude", checked: &[], bugs: &[] },
    Invariant {
        holds: "a removed file is readable until its last close",
        checked: &[JUDGE, "sim/src/claims.rs"],
        bugs: &["reclaimed-open"],
    },
    Invariant {
        holds: "nothing is reclaimed that anybody may still need",
        checked: &[RECOVER],
        bugs: &["early-delete", "early-fold-delete"],
    },
    Invariant {
        holds: "a listing has each entry that stood throughout exactly once",
        checked: &["sim/src/invariants/listing.rs"],
        bugs: &["skipped-entry"],
    },
    Invariant {
        holds: "what another mount shows is not older than promised",
        checked: &[],
        bugs: &[],
    },
    Invariant {
        holds: "reclaim and whatever else works in the background change no content",
        checked: &[JUDGE, RECOVER],
        bugs: &[
            "kept-garbage",
            "dropped-write",
            "resurrected-erase",
            "early-erase",
            "no-second-look",
        ],
    },
    Invariant {
        holds: "times go backwards only by utimens",
        checked: &["sim/src/invariants/change_time.rs", "sim/src/times.rs"],
        bugs: &["kept-change-time", "kept-dir-time", "overtaken-seal"],
    },
    Invariant {
        holds: "at rest nothing waits to be reclaimed and no segment is an orphan",
        checked: &["core/src/check/garbage.rs", "sim/src/invariants/leftovers.rs", RUNNER],
        bugs: &[
            "forgotten-garbage",
            "kept-xattrs",
            "unrelied-generation",
            "kept-append",
            "kept-fold",
        ],
    },
    Invariant {
        holds: "no transaction is above the limits of the store",
        checked: &["sim/src/invariants/transactions.rs"],
        bugs: &[],
    },
    Invariant {
        holds: "the kernel goes by no set-id bits that an answered change of data has taken",
        checked: &["sim/src/kernel/modes.rs"],
        bugs: &["untold-mode"],
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canaries::Bug;
    use std::path::Path;

    #[test]
    fn each_invariant_names_files_and_bugs_that_exist() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
        for Invariant { holds, checked, bugs } in INVARIANTS {
            checked.iter().for_each(|file| assert!(root.join(file).is_file(), "{file}: {holds}"));
            bugs.iter().for_each(|bug| assert!(Bug::named(bug).is_some(), "{bug}: {holds}"));
        }
    }

    #[test]
    fn the_document_has_each_invariant() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
        let text = std::fs::read_to_string(root.join("docs/testing.md")).expect("the document");
        for (n, invariant) in INVARIANTS.iter().enumerate() {
            let row = format!("| {} | {} |", n + 1, invariant.holds);
            assert!(text.contains(&row), "no row begins with {row:?}");
        }
    }
}
