//! Threads that commit and sync at once, over an engine and a medium in memory: each sync is answered, with
//! the truth, nobody sleeps for ever, and a close ends the thread in the background.
//!
//! The same scenes run with real threads, and with the feature `shuttle` under a scheduler that tries
//! interleavings (`ci/shuttle`).

mod memory;

use super::group::Group;
use super::sync::thread;
use memory::{MapEngine, MemoryMedium};
use std::sync::Arc;
use vellum_core::local::kv::{Engine, Store, StoreLimits, log};
use vellum_core::port::meta_kv::{CommitRequest, Mutation, Version};

type TestGroup = Group<MapEngine, MemoryMedium>;

/// A store on an empty medium whose memory is bounded tightly.
struct World {
    group: Arc<TestGroup>,
    medium: MemoryMedium,
}

impl World {
    fn new(soft: usize, hard: usize) -> World {
        let (engine, medium) = (MapEngine::default(), MemoryMedium::default());
        let replayed = log::replay(&medium, Version(0)).expect("nothing is there");
        let start = Store::<memory::MapSnapshot>::start(replayed);
        let snapshot = engine.apply(&start.batch).expect("a map takes all");
        let limits = StoreLimits { soft, hard, ..StoreLimits::default() };
        let store = Store::new(snapshot, &start, limits);
        let group = Group::start(engine, medium.clone(), store).expect("threads are to be had");
        World { group: Arc::new(group), medium }
    }

    /// Threads that commit and sync, by turns.
    fn writers(&self, threads: u8, commits: u8) -> Vec<thread::JoinHandle<()>> {
        let writer = |thread: u8| {
            let (group, medium) = (self.group.clone(), self.medium.clone());
            thread::spawn(move || {
                for n in 0..commits {
                    let version = group.commit(set(thread, n)).expect("there is room").version;
                    let durable = group.sync(version).expect("the medium is well");
                    assert!(durable >= version, "{durable:?} is not up to {version:?}");
                    // What was removed from the log the engine has, so the log is looked at first.
                    let synced = medium.synced();
                    let replayed =
                        log::replay(&synced, group.engine().version()).expect("a whole log");
                    assert!(replayed.last() >= version, "a power cut would lose {version:?}");
                }
            })
        };
        (0..threads).map(writer).collect()
    }

    fn close(self, writers: Vec<thread::JoinHandle<()>>, rows: usize) {
        for writer in writers {
            writer.join().expect("no writer panicked");
        }
        self.group.close().expect("the medium is well");
        assert_eq!(self.group.engine().rows(), rows, "the engine has everything after a close");
    }
}

fn set(thread: u8, n: u8) -> CommitRequest {
    let (key, value) = ([b'k', thread, n][..].into(), vec![n; 100].into());
    let mutations = vec![Mutation::Set { key, value }];
    CommitRequest { read_version: None, read_conflicts: vec![], write_conflicts: vec![], mutations }
}

/// Syncs of several threads share records of the log.
fn every_sync_is_answered() {
    let world = World::new(1 << 20, 1 << 20);
    let writers = world.writers(3, 2);
    world.close(writers, 6);
}

/// Memory is full all the time: commits wait for flushes, by whomever.
fn commits_wait_for_flushes() {
    let world = World::new(1, 300);
    let writers = world.writers(2, 3);
    world.close(writers, 6);
}

#[cfg(not(feature = "shuttle"))]
mod real {
    #[test]
    fn every_sync_is_answered() {
        (0..200).for_each(|_| super::every_sync_is_answered());
    }

    #[test]
    fn commits_wait_for_flushes() {
        (0..200).for_each(|_| super::commits_wait_for_flushes());
    }
}

#[cfg(feature = "shuttle")]
mod shuttled;
