//! The threads that perform what may block.
//!
//! A few threads for the page store and one of its own for syncs, so that neither waits behind the
//! other. The queues have no bound of their own: the machine bounds what it asks for (its dirty
//! limit), and a reader of the kernel's queue must never wait for room.

use super::sync::{Mutex, Plant, Receiver, Sender, planted, thread, unbounded};
use super::{Host, Machine, Respond};
use std::io;
use std::sync::Arc;
use vellum_core::id::EffectId;
use vellum_core::port::Completion;
use vellum_core::port::meta_kv::KvRequest;
use vellum_core::port::page_store::PageRequest;

/// Threads for page I/O.
const WORKERS: usize = 4;

/// What a thread of the pool does.
pub(super) enum Job {
    Page(EffectId, PageRequest),
    Kv(EffectId, KvRequest),
    Stop,
}

pub(super) struct Pool {
    jobs: Sender<Job>,
    syncs: Sender<Job>,
    threads: Arc<Mutex<Vec<thread::JoinHandle<()>>>>,
}

/// The part that becomes threads.
pub(super) struct PoolEnds {
    jobs: Receiver<Job>,
    syncs: Receiver<Job>,
    threads: Arc<Mutex<Vec<thread::JoinHandle<()>>>>,
}

impl Pool {
    pub(super) fn new() -> (Pool, PoolEnds) {
        let (jobs, jobs_end) = unbounded();
        let (syncs, syncs_end) = unbounded();
        let threads = Arc::new(Mutex::new(Vec::new()));
        let ends = PoolEnds { jobs: jobs_end, syncs: syncs_end, threads: threads.clone() };
        (Pool { jobs, syncs, threads }, ends)
    }

    /// Queues page I/O. After [`Pool::stop`] it is dropped.
    pub(super) fn submit(&self, job: Job) {
        let _ = self.jobs.send(job);
    }

    /// Queues a sync. After [`Pool::stop`] it is dropped.
    pub(super) fn sync(&self, id: EffectId, request: KvRequest) {
        let _ = self.syncs.send(Job::Kv(id, request));
    }

    pub(super) fn stop(&self) {
        for _ in 0..if planted(Plant::OneStop) { 1 } else { WORKERS } {
            let _ = self.jobs.send(Job::Stop);
        }
        let _ = self.syncs.send(Job::Stop);
        for worker in std::mem::take(&mut *self.threads.lock()) {
            join(worker);
        }
    }
}

impl PoolEnds {
    pub(super) fn spawn<R: Respond, M: Machine>(self, host: &Arc<Host<R, M>>) -> io::Result<()> {
        let mut queues = vec![("vellum-sync".to_string(), self.syncs)];
        for n in 0..WORKERS {
            queues.push((format!("vellum-io-{n}"), self.jobs.clone()));
        }
        for (name, queue) in queues {
            let host = Arc::downgrade(host);
            let worker = thread::Builder::new().name(name).spawn(move || {
                while let Ok(job) = queue.recv() {
                    let Some(host) = host.upgrade() else { return };
                    match job {
                        Job::Page(id, request) => {
                            let result = host.stores.pages.perform(request);
                            host.complete(id, Completion::Page(result));
                        }
                        Job::Kv(id, request) => {
                            let result = host.stores.kv.perform(request);
                            host.complete(id, Completion::Kv(result));
                        }
                        Job::Stop => return,
                    }
                }
            })?;
            self.threads.lock().push(worker);
        }
        Ok(())
    }
}

/// Waits for a thread, unless it is the current one (the last owner of a host may be one of its threads).
pub(super) fn join(handle: thread::JoinHandle<()>) {
    if handle.thread().id() != thread::current().id() {
        let _ = handle.join();
    }
}
