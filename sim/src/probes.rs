//! Rare situations that a batch of runs must meet: the proof that the generators come where bugs live.
//!
//! Owns: the list, and what the runs of this thread have met. Never does: bringing a situation about.
//!
//! A new one: `probe!("name")` at its place in core, or [`hit`] at its place in the simulator, and a row
//! here. `sim run --probes` fails when one of the list was never met.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Once;

/// A rare situation.
#[derive(Clone, Copy, Debug)]
pub struct Probe {
    /// Its name.
    pub name: &'static str,
    /// The file in which it is noted, from the root of the repository.
    pub noted: &'static str,
}

/// How often each was met.
pub type Hits = BTreeMap<&'static str, u64>;

macro_rules! probes {
    ($($noted:literal: $($name:literal),* ;)*) => {
        /// All of them.
        pub const PROBES: &[Probe] = &[$($(Probe { name: $name, noted: $noted },)*)*];
    };
}

probes! {
    "core/src/meta/txn.rs":
        "conflict-retried", "too-old-retried", "retry-backs-off", "range-read-on", "unknown-happened",
        "unknown-cancelled", "interrupt-honored";
    "core/src/meta/ops/bucket.rs": "bucket-shared", "bucket-full";
    "core/src/meta/ops/load.rs": "overlay-deep", "erase-over-pack";
    "core/src/meta/ops/flush.rs": "inline-promoted";
    "core/src/meta/ops/rename.rs": "rename-below-itself";
    "core/src/client/flush.rs": "append-in-vain", "flushes-overlap", "flush-split", "flush-waits-for-fold";
    "core/src/client/compaction/mod.rs": "erases-cleared", "sparse-repacked";
    "core/src/client/compaction/tidy.rs": "tidied-up";
    "core/src/client/compaction/run.rs": "fold-moved", "fold-carried", "fold-gave-back", "fold-overtaken", "log-emptied";
    "core/src/client/reader.rs": "read-again";
    "core/src/data/gather.rs": "read-alone";
    "core/src/client/write.rs": "write-waits-for-memory";
    "core/src/client/capacity.rs": "full-waits-for-reclaim", "volume-full";
    "core/src/client/names.rs": "numbers-awaited";
    "core/src/client/files.rs": "removed-stays-open";
    "core/src/client/reclaim.rs": "garbage-adopted", "reclaim-stalled";
    "core/src/client/orphans.rs": "orphans-deleted";
    "core/src/client/attrs.rs": "exclusive-waits";
    "core/src/client/privileges.rs": "set-id-shed";
    "core/src/local/kv/log.rs": "log-tail-cut";
    "core/src/local/pages/recover.rs": "page-tail-cut";
    "core/src/local/pages/state.rs": "page-sync-failed";
    "sim/src/world/life.rs": "crash-lost-commits";
    "sim/src/world/steps.rs": "write-during-fsync", "removed-file-read", "changed-while-listed";
    "sim/src/runner.rs": "live-check", "live-check-moved", "killed-unanswered";
}

/// What a thousand runs may miss.
const VERY_RARE: &str = "append-in-vain";
/// So many do not miss it.
const MANY: u64 = 10_000;

thread_local! {
    static HITS: RefCell<Hits> = const { RefCell::new(BTreeMap::new()) };
}

/// A situation was met in this thread.
pub fn hit(name: &'static str) {
    HITS.with_borrow_mut(|hits| *hits.entry(name).or_default() += 1);
}

/// What was met since the last call; from the first call on core tells, too.
pub fn take() -> Hits {
    static LISTEN: Once = Once::new();
    LISTEN.call_once(|| vellum_core::canary::note_with(hit));
    HITS.take()
}

/// Those of the list that were never met, though so many runs should have.
pub fn missed(hits: &Hits, runs: u64) -> Vec<&'static Probe> {
    let due = |probe: &&Probe| runs >= MANY || probe.name != VERY_RARE;
    let met = |probe: &&Probe| hits.get(probe.name).is_some_and(|count| *count > 0);
    PROBES.iter().filter(due).filter(|probe| !met(probe)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn each_probe_is_noted_where_the_list_says() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
        for (n, Probe { name, noted }) in PROBES.iter().enumerate() {
            let text = std::fs::read_to_string(root.join(noted)).expect("a source file");
            assert!(text.contains(&format!("\"{name}\"")), "{name} in {noted}");
            assert!(PROBES[..n].iter().all(|other| other.name != *name), "{name} twice");
        }
    }

    #[test]
    fn each_probe_in_core_is_in_the_list() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
        let mut todo = vec![root.join("core/src")];
        while let Some(path) = todo.pop() {
            if path.is_dir() {
                let inside = std::fs::read_dir(&path).expect("a directory");
                todo.extend(inside.map(|entry| entry.expect("an entry").path()));
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            for part in text.split("probe!(\"").skip(1) {
                let name = part.split('"').next().unwrap_or_default();
                assert!(PROBES.iter().any(|probe| probe.name == name), "{name} in {path:?}");
            }
        }
    }
}
