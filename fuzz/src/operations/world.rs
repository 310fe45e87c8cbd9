//! A machine over the real stores of one computer, on simulated disks: one request at a time, no faults but
//! the crashes that are asked for.

use std::collections::BTreeMap;
use vellum_core::client::{Client, ClientConfig};
use vellum_core::error::FsError;
use vellum_core::id::{Handle, Ino, RequestId, SessionId, VolumeId};
use vellum_core::port::control::{
    Answer, CheckOptions, CheckReport, Control, FormatOptions, Limit,
};
use vellum_core::port::kernel::{
    Attr, Caller, DirEntry, OpenFlags, Operation, Piece, Reply, Request,
};
use vellum_core::port::meta_kv::{KvError, KvReply, KvRequest};
use vellum_core::port::{Completion, Effect};
use vellum_core::time::{Instant, Now, WallTime};
use vellum_sim::dice::{Dice, Stream};
use vellum_sim::disk::Ills;
use vellum_sim::local::LocalStore;

const VOLUME: VolumeId = VolumeId(1);
const CAPACITY: u64 = 1 << 40;

pub(crate) const CALLER: Caller = Caller { uid: 1000, gid: 100, pid: 42 };

pub(crate) struct World {
    client: Client,
    stores: LocalStore,
    dice: Dice,
    pub(crate) now: Now,
    replies: BTreeMap<RequestId, Reply>,
    answers: BTreeMap<RequestId, Answer>,
    next: u64,
}

/// Logs are folded early, so that requests of a few bytes see it.
fn config(session: SessionId) -> ClientConfig {
    let mut config = ClientConfig::sole(session, 1);
    config.compaction.write_log_count = 3;
    config.compaction.min_file_size = 64 << 10;
    config.compaction.garbage_slack = 1 << 20;
    config.compaction.segment_max = 64 << 10;
    config
}

impl World {
    pub(crate) fn new() -> World {
        let mut world = World {
            client: Client::new(config(SessionId(7))),
            stores: LocalStore::new(VOLUME, CAPACITY, Ills::default()),
            dice: Dice::new(1, Stream::Disk),
            now: Now { mono: Instant(1), wall: WallTime::new(1_000, 0) },
            replies: BTreeMap::new(),
            answers: BTreeMap::new(),
            next: 0,
        };
        let options = FormatOptions {
            volume: VOLUME,
            hash_key: [3; 16],
            // Few of them make names share buckets.
            hash_bits: 2,
            uid: 0,
            gid: 0,
            mode: 0o755,
            limit: Limit::default(),
        };
        assert!(matches!(world.control(Control::Format(options)), Answer::Formatted(_)));
        assert!(matches!(world.control(Control::Mount), Answer::Mounted(_)));
        world
    }

    /// The same volume under a new machine, as after a restart.
    pub(crate) fn remount(&mut self) {
        let session = SessionId(self.client.config().session.0 + 1);
        self.client = Client::new(config(session));
        assert!(matches!(self.control(Control::Mount), Answer::Mounted(_)));
    }

    /// The power fails: what no sync covered is torn or gone.
    pub(crate) fn crash(&mut self) {
        self.stores.crash(true, &mut self.dice);
        self.remount();
    }

    fn tick(&mut self, nanos: u64) {
        self.now.mono.0 += nanos;
        let total = u64::from(self.now.wall.nanos) + nanos;
        let secs = self.now.wall.secs + (total / 1_000_000_000) as i64;
        self.now.wall = WallTime::new(secs, (total % 1_000_000_000) as u32);
    }

    /// Lets time pass, timers included.
    pub(crate) fn wait(&mut self, nanos: u64) {
        let until = self.now.mono.0 + nanos;
        while let Some(at) = self.client.poll_timeout().filter(|at| at.0 <= until) {
            self.tick(at.0.saturating_sub(self.now.mono.0));
            self.client.handle_timeout(self.now);
            self.perform();
        }
        self.tick(until - self.now.mono.0);
    }

    pub(crate) fn control(&mut self, control: Control) -> Answer {
        self.next += 1;
        let id = RequestId(self.next);
        self.client.handle_control(self.now, id, control);
        self.perform();
        self.answers.remove(&id).expect("answered")
    }

    pub(crate) fn ask(&mut self, op: Operation) -> Result<Reply, FsError> {
        self.next += 1;
        self.tick(1_000);
        let id = RequestId(self.next);
        self.client.handle_request(self.now, id, Request { caller: CALLER, op });
        self.perform();
        match self.replies.remove(&id).expect("a reply") {
            Reply::Error(error) => Err(error),
            reply => Ok(reply),
        }
    }

    fn perform(&mut self) {
        while let Some(effect) = self.client.poll_effect() {
            match effect {
                Effect::Reply { request, reply, .. } => {
                    assert!(self.replies.insert(request, reply).is_none(), "replied twice");
                }
                Effect::Answer { request, answer } => {
                    assert!(self.answers.insert(request, *answer).is_none(), "answered twice");
                }
                Effect::Kv { id, request } => {
                    let result = self.kv(request);
                    self.client.handle_completion(self.now, id, Completion::Kv(result));
                }
                Effect::Page { id, request } => {
                    let result = self.stores.serve(&request);
                    self.client.handle_completion(self.now, id, Completion::Page(result));
                }
                Effect::Notify { id, .. } => {
                    self.client.handle_completion(self.now, id, Completion::Notified);
                }
                Effect::Report(_) => {}
            }
        }
    }

    fn kv(&mut self, request: KvRequest) -> Result<KvReply, KvError> {
        match request {
            KvRequest::Read(round) => self.stores.read(&round),
            KvRequest::Commit(commit) => self.stores.commit(*commit).map(KvReply::Committed),
            KvRequest::Sync { up_to } => self.stores.sync(up_to).map(KvReply::Durable),
        }
    }

    /// Checks the volume, data included, and what the stores saw.
    pub(crate) fn check(&mut self) -> CheckReport {
        assert_eq!(self.stores.violations(), [] as [String; 0]);
        match self.control(Control::Check(CheckOptions { data: true, settled: true })) {
            Answer::Checked(report) => report,
            other => panic!("{other:?}"),
        }
    }
}

/// Calls in the words of the kernel, with the answers unpacked.
impl World {
    pub(crate) fn entry(&mut self, op: Operation) -> Result<Option<Attr>, FsError> {
        match self.ask(op)? {
            Reply::Entry(entry) => Ok(entry.attr),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn attr(&mut self, ino: Ino) -> Result<Attr, FsError> {
        match self.ask(Operation::GetAttr { ino, handle: None })? {
            Reply::Attr { attr, .. } => Ok(attr),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn read_at(
        &mut self,
        (ino, handle): (Ino, Handle),
        offset: u64,
        len: u32,
    ) -> Result<Vec<u8>, FsError> {
        let Reply::Data(pieces) = self.ask(Operation::Read { ino, handle, offset, len })? else {
            panic!("no data")
        };
        let mut out = Vec::new();
        for piece in pieces {
            match piece {
                Piece::Bytes(bytes) => out.extend_from_slice(&bytes),
                Piece::Zeros(n) => out.resize(out.len() + n as usize, 0),
            }
        }
        Ok(out)
    }

    pub(crate) fn open(&mut self, ino: Ino) -> Result<(Ino, Handle), FsError> {
        match self.ask(Operation::Open { ino, flags: OpenFlags(2) })? {
            Reply::Opened(opened) => Ok((ino, opened.handle)),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn close(&mut self, (ino, handle): (Ino, Handle)) -> Result<(), FsError> {
        let flushed = self.ask(Operation::Flush { ino, handle }).map(|_| ());
        self.ask(Operation::Release { ino, handle })?;
        flushed
    }

    pub(crate) fn fsync(&mut self, (ino, handle): (Ino, Handle)) -> Result<(), FsError> {
        self.ask(Operation::Fsync { ino, handle, datasync: false }).map(|_| ())
    }

    pub(crate) fn list(&mut self, dir: Ino, room: u32) -> Result<Vec<(String, Ino)>, FsError> {
        let Reply::Opened(opened) = self.ask(Operation::OpenDir { ino: dir })? else {
            panic!("not opened")
        };
        let handle = opened.handle;
        let (mut all, mut cookie) = (Vec::new(), 0);
        loop {
            let op = Operation::ReadDir { ino: dir, handle, cookie, room, plus: false };
            let Reply::Entries(entries) = self.ask(op)? else { panic!("no entries") };
            let Some(last) = entries.last() else { break };
            cookie = last.cookie;
            let named = |e: &DirEntry| (String::from_utf8_lossy(&e.name).into_owned(), e.ino);
            all.extend(entries.iter().map(named));
        }
        self.ask(Operation::ReleaseDir { ino: dir, handle })?;
        Ok(all)
    }
}
