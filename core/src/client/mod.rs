//! The mount's machine: takes requests of the kernel and of the host, decides, and asks for effects.
//!
//! Owns: the inode table, handles, write buffers, the order of everything that happens on one mount.
//! Never does: I/O. Hosts call the four `handle_` methods and then take effects until there are none.
//!
//! A request is answered at once from memory where that is true, or becomes a task: a future over
//! the operations of [`crate::meta::ops`] whose end is a closure that changes the machine and
//! replies. A request that must wait (for a load, for room, for a truncate) is parked at what it
//! waits for and dispatched again.
//!
//! Tests: `core/tests/client.rs`, the simulator, and the mount tests.

mod atime;
mod attrs;
mod capacity;
mod compaction;
mod config;
mod control;
mod dirs;
mod file;
mod files;
mod flush;
mod gc;
mod inodes;
mod names;
mod orphans;
mod privileges;
mod reader;
mod reclaim;
mod scrub;
mod space;
mod tasks;
mod timers;
mod tmpfile;
mod write;
mod xattrs;

pub use config::ClientConfig;

use crate::error::FsError;
use crate::id::{EffectId, Ino, RequestId};
use crate::meta::ops::xattr::Set;
use crate::meta::record::Pair;
use crate::meta::txn::Volume;
use crate::port::control::{Control, Garbage, Limit, ScrubReport};
use crate::port::kernel::{Operation, Reply, Request};
use crate::port::meta_kv::Version;
use crate::port::{Completion, Effect, Point, Report, Severity};
use crate::time::{Instant, Now};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use capacity::Wait;
use inodes::Inodes;
use names::Numbers;
use tasks::Tasks;
use timers::Timers;

/// One mount of one volume.
///
/// A machine is `Send`; the production host keeps it in a mutex that many threads share.
pub struct Client {
    config: ClientConfig,
    now: Now,
    phase: Phase,
    effects: VecDeque<Effect>,
    tasks: Tasks,
    timers: Timers,
    inodes: Inodes,
    numbers: Numbers,
    log: CommitLog,
    reclaim: reclaim::Queue,
    compaction: compaction::Compaction,
    /// Reads that look again where their bytes are, and how often they did.
    read_again: BTreeMap<RequestId, u32>,
    /// Requests that wait for the mount, for inode numbers or for buffer memory.
    parked: Vec<(RequestId, Request)>,
    segments: u64,
    served: u64,
    /// Bytes in all write buffers.
    dirty: u64,
    /// Inodes and bytes of the volume: those at the mount, and what this mount committed since.
    used: Pair,
    /// Bytes that buffered writes will add to those.
    reserved: u64,
    /// What the volume may hold at most.
    limit: Limit,
    /// Requests that wait for the space of removed files.
    waits: BTreeMap<RequestId, Wait>,
    /// Why the last write-back failed, until one succeeds.
    flush_trouble: Option<FsError>,
    /// Collections of garbage under way, what there was before, and whether it is durably gone.
    collecting: BTreeMap<RequestId, (Garbage, bool)>,
    /// How far the scrub under way is.
    scrubbing: Option<ScrubReport>,
    /// How far the check under way is.
    check_progress: Option<crate::port::control::CheckProgress>,
}

/// Where in its life a mount is.
enum Phase {
    /// Before [`Control::Mount`]: kernel requests wait.
    Starting,
    /// Serving.
    Mounted(Mounted),
    /// After [`Control::Unmount`]: everything is refused.
    Stopped,
}

#[derive(Clone)]
struct Mounted {
    volume: Arc<Volume>,
    info: crate::port::control::VolumeInfo,
}

/// How far commits went and how far they are durable.
#[derive(Debug, Default)]
struct CommitLog {
    committed: Version,
    durable: Version,
    /// A periodic sync is under way.
    syncing: bool,
}

impl Client {
    /// A machine that knows nothing yet; its first control request is [`Control::Format`] or
    /// [`Control::Mount`].
    pub fn new(config: ClientConfig) -> Client {
        Client {
            now: Now::default(),
            phase: Phase::Starting,
            effects: VecDeque::new(),
            tasks: Tasks::new(config.seed),
            timers: Timers::default(),
            inodes: Inodes::default(),
            numbers: Numbers::default(),
            log: CommitLog::default(),
            reclaim: reclaim::Queue::default(),
            compaction: compaction::Compaction::default(),
            read_again: BTreeMap::new(),
            parked: Vec::new(),
            segments: 0,
            served: 0,
            dirty: 0,
            used: Pair::default(),
            reserved: 0,
            limit: Limit::default(),
            waits: BTreeMap::new(),
            flush_trouble: None,
            collecting: BTreeMap::new(),
            scrubbing: None,
            check_progress: None,
            config,
        }
    }

    /// A request of the kernel arrived. `id` is unused since the last reply to it.
    pub fn handle_request(&mut self, now: Now, id: RequestId, request: Request) {
        self.now = now;
        self.dispatch(id, request);
        self.run();
    }

    /// A request of the host arrived. Its id comes from the same space as the kernel's.
    pub fn handle_control(&mut self, now: Now, id: RequestId, control: Control) {
        self.now = now;
        self.control(id, control);
        self.run();
    }

    /// An effect was performed.
    pub fn handle_completion(&mut self, now: Now, id: EffectId, completion: Completion) {
        self.now = now;
        self.tasks.complete(id, completion);
        self.run();
    }

    /// The time that [`Client::poll_timeout`] named has come.
    pub fn handle_timeout(&mut self, now: Now) {
        self.now = now;
        while let Some(timer) = self.timers.expired(now.mono) {
            self.timer(timer);
        }
        self.run();
    }

    /// The next effect to perform. Hosts call it until it is `None`, after each input.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When [`Client::handle_timeout`] wants to be called, if ever.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// The configuration it was made with.
    pub fn config(&self) -> &ClientConfig {
        &self.config
    }

    /// One arm, one call. Parked requests come here again.
    fn dispatch(&mut self, id: RequestId, request: Request) {
        let mounted = match &self.phase {
            Phase::Mounted(mounted) => mounted.clone(),
            Phase::Starting => return self.parked.push((id, request)),
            Phase::Stopped => {
                if request.op.wants_reply() {
                    self.fail(id, FsError::ShuttingDown);
                }
                return;
            }
        };
        if self.config.read_only && request.op.changes() {
            return self.fail(id, FsError::ReadOnly);
        }
        let caller = request.caller;
        match request.op {
            Operation::Lookup { parent, name } => self.lookup(mounted, id, parent, name),
            Operation::Forget { nodes } => self.forget(nodes),
            Operation::GetAttr { ino, .. } => self.getattr(mounted, id, ino),
            Operation::SetAttr { ino, handle, set } => {
                self.setattr(mounted, id, (caller, ino, handle, set))
            }
            Operation::ReadLink { ino } => self.readlink(mounted, id, ino),
            op @ (Operation::Symlink { .. }
            | Operation::MkNod { .. }
            | Operation::MkDir { .. }
            | Operation::Create { .. }) => self.create(mounted, id, Request { caller, op }),
            Operation::Unlink { parent, name } => self.unlink(mounted, id, parent, name),
            Operation::RmDir { parent, name } => self.rmdir(mounted, id, parent, name),
            Operation::Rename { parent, name, new_parent, new_name, flags } => {
                self.rename(mounted, id, (parent, name), (new_parent, new_name), flags);
            }
            Operation::Link { ino, new_parent, new_name } => {
                self.link(mounted, id, ino, (new_parent, new_name));
            }
            Operation::Open { ino, flags } => self.open(mounted, id, (caller, ino, flags)),
            Operation::Read { ino, handle, offset, len } => {
                self.read(mounted, id, (caller, ino, handle, offset, len));
            }
            op @ Operation::Write { .. } => self.write(mounted, id, caller, op),
            Operation::Flush { ino, handle } => self.flush(id, ino, handle),
            Operation::Release { ino, handle } => self.release(id, ino, handle),
            Operation::Fsync { ino, handle, .. } => self.fsync(id, ino, handle),
            Operation::OpenDir { ino } => self.opendir(mounted, id, ino),
            Operation::ReadDir { ino, handle, cookie, room, plus } => {
                self.readdir(mounted, id, (ino, handle, cookie, room, plus));
            }
            Operation::ReleaseDir { handle, .. } => self.releasedir(id, handle),
            Operation::FsyncDir { handle, .. } => self.fsyncdir(id, handle),
            Operation::StatFs { .. } => self.statfs(id),
            op @ Operation::TmpFile { .. } => self.tmpfile(mounted, id, Request { caller, op }),
            Operation::GetXattr { ino, name, room } => {
                self.getxattr(mounted, id, (ino, name, room));
            }
            Operation::ListXattr { ino, room } => self.listxattr(mounted, id, (caller, ino, room)),
            Operation::SetXattr { ino, name, value, flags, kill_sgid } => {
                let set = Set { name, value, flags, kill_sgid, now: self.now.wall };
                self.setxattr(mounted, id, ino, set);
            }
            Operation::RemoveXattr { ino, name } => self.removexattr(mounted, id, ino, name),
            op @ Operation::Fallocate { .. } => self.fallocate(mounted, id, caller, op),
            op @ Operation::CopyRange { .. } => self.copy_range(mounted, id, caller, op),
            Operation::Seek { ino, handle, offset, whence } => {
                self.seek(mounted, id, (caller, ino, handle, offset, whence));
            }
            Operation::Interrupt { target } => self.interrupt(target),
        }
    }

    fn reply(&mut self, request: RequestId, reply: Reply, point: Point) {
        self.tasks.answered(request);
        self.served += 1;
        if !self.read_again.is_empty() {
            self.read_again.remove(&request);
        }
        if !self.waits.is_empty() {
            self.waits.remove(&request);
        }
        self.effects.push_back(Effect::Reply { request, reply, point });
    }

    fn fail(&mut self, request: RequestId, error: FsError) {
        self.reply(request, Reply::Error(error), Point::Step);
    }

    fn report(&mut self, severity: Severity, text: String) {
        self.effects.push_back(Effect::Report(Report { severity, text }));
    }

    /// A transaction took effect.
    fn note(&mut self, point: Point) {
        if let Point::Commit(commit) = point
            && commit.version > self.log.committed
        {
            self.log.committed = commit.version;
            self.arm_sync();
        }
    }

    /// Lets everything that waited for something of the whole mount try again.
    fn unpark(&mut self) {
        for (id, request) in core::mem::take(&mut self.parked) {
            self.dispatch(id, request);
        }
    }

    /// Lets everything that waited for an inode try again.
    fn unpark_inode(&mut self, ino: Ino) {
        let Some(inode) = self.inodes.get_mut(ino) else { return };
        for (id, request) in core::mem::take(&mut inode.parked) {
            self.dispatch(id, request);
        }
    }
}
