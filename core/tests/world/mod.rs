//! The smallest world a machine can live in: one store in a map, one page store in a map, no faults.
//! The simulator is the real judge; this one shows single behaviours.
#![allow(dead_code)]

use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use vellum_core::client::{Client, ClientConfig};
use vellum_core::error::FsError;
use vellum_core::id::{EffectId, Handle, Ino, RequestId, SegmentId, SessionId, VolumeId};
use vellum_core::port::control::{
    Answer, CheckOptions, CheckReport, Control, FormatOptions, Limit,
};
use vellum_core::port::kernel::*;
use vellum_core::port::meta_kv::*;
use vellum_core::port::page_store::*;
use vellum_core::port::{Completion, Effect};
use vellum_core::time::{Instant, Now, WallTime};

pub(crate) struct World {
    pub(crate) client: Client,
    pub(crate) kv: BTreeMap<Vec<u8>, Bytes>,
    pub(crate) pages: BTreeMap<SegmentId, Vec<u8>>,
    /// Segments that cannot be read or verified.
    pub(crate) page_errors: BTreeMap<SegmentId, PageError>,
    /// After so many segments one cannot be appended.
    pub(crate) appends_left: Option<u32>,
    /// Payload bytes that are damaged.
    pub(crate) rotten: BTreeSet<(SegmentId, u32)>,
    /// What was to be fetched ahead.
    pub(crate) prefetched: Vec<(SegmentId, u32, u32)>,
    /// Most rows that one read of a range brings.
    pub(crate) rows_max: u32,
    /// Every so many rounds of reads one finds its version too old.
    pub(crate) too_old_every: u64,
    rounds: u64,
    /// Commits wait for [`World::commit_next`].
    pub(crate) slow_commits: bool,
    /// Reads wait as well.
    pub(crate) slow_reads: bool,
    waiting: VecDeque<(EffectId, KvRequest)>,
    /// The metadata store has no room.
    pub(crate) kv_full: bool,
    /// After so many commits the machine is dead until [`World::remount`].
    pub(crate) commits_left: u64,
    pub(crate) version: u64,
    /// What each commit wrote to.
    pub(crate) writes: Vec<(u64, Vec<KeyRange>)>,
    pub(crate) durable: u64,
    pub(crate) now: Now,
    replies: BTreeMap<RequestId, Reply>,
    answers: BTreeMap<RequestId, Answer>,
    pub(crate) reports: Vec<String>,
    /// The kernel works on every notification until [`World::kernel_forgets`].
    pub(crate) slow_kernel: bool,
    notices: Vec<EffectId>,
    next: u64,
}

/// Runs something with a planted bug.
#[cfg(feature = "canary")]
pub(crate) fn with_planted<R>(bug: vellum_core::canary::Canary, run: impl FnOnce() -> R) -> R {
    use std::cell::Cell;
    use vellum_core::canary::{Canary, install};
    thread_local!(static PLANTED: Cell<Option<Canary>> = const { Cell::new(None) });
    static ASK: std::sync::Once = std::sync::Once::new();
    ASK.call_once(|| install(|| PLANTED.get()));
    PLANTED.set(Some(bug));
    let result = run();
    PLANTED.set(None);
    result
}

/// The answer of the metadata store that is on its way.
pub(crate) struct Unheard(EffectId, Result<KvReply, KvError>);

pub(crate) const CALLER: Caller = Caller { uid: 1000, gid: 100, pid: 42 };

impl World {
    pub(crate) fn new() -> World {
        World::with(ClientConfig::sole(SessionId(7), 1))
    }

    pub(crate) fn with(config: ClientConfig) -> World {
        World::formatted(config, 60)
    }

    /// With so many bits of name hash: few of them make names share buckets.
    pub(crate) fn formatted(config: ClientConfig, hash_bits: u8) -> World {
        let mut world = World {
            client: Client::new(config),
            kv: BTreeMap::new(),
            pages: BTreeMap::new(),
            page_errors: BTreeMap::new(),
            appends_left: None,
            rotten: BTreeSet::new(),
            prefetched: Vec::new(),
            rows_max: u32::MAX,
            too_old_every: u64::MAX,
            rounds: 0,
            slow_commits: false,
            slow_reads: false,
            waiting: VecDeque::new(),
            kv_full: false,
            commits_left: u64::MAX,
            version: 0,
            writes: Vec::new(),
            durable: 0,
            now: Now { mono: Instant(1), wall: WallTime::new(1_000, 0) },
            replies: BTreeMap::new(),
            answers: BTreeMap::new(),
            reports: Vec::new(),
            slow_kernel: false,
            notices: Vec::new(),
            next: 0,
        };
        let options = FormatOptions {
            volume: VolumeId(1),
            hash_key: [3; 16],
            hash_bits,
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
        self.remount_with(|_| ());
    }

    /// The machine is gone, and a new one comes: the stores of this world lose nothing.
    pub(crate) fn crash(&mut self) {
        self.remount();
    }

    /// The same volume under a new machine with another configuration.
    pub(crate) fn remount_with(&mut self, edit: impl FnOnce(&mut ClientConfig)) {
        let mut config = self.client.config().clone();
        config.session = SessionId(config.session.0 + 1);
        edit(&mut config);
        self.client = Client::new(config);
        self.commits_left = u64::MAX;
        assert!(matches!(self.control(Control::Mount), Answer::Mounted(_)));
    }

    /// Rounds of reads that the store has answered.
    pub(crate) fn client_reads(&self) -> u64 {
        self.rounds
    }

    pub(crate) fn tick(&mut self, nanos: u64) {
        self.now.mono.0 += nanos;
        let total = u64::from(self.now.wall.nanos) + nanos;
        self.now.wall = WallTime::new(
            self.now.wall.secs + (total / 1_000_000_000) as i64,
            (total % 1_000_000_000) as u32,
        );
    }

    /// Lets time pass, timers included.
    pub(crate) fn wait(&mut self, nanos: u64) {
        let until = self.now.mono.0 + nanos;
        while let Some(at) = self.client.poll_timeout().filter(|at| at.0 <= until) {
            let step = at.0.saturating_sub(self.now.mono.0);
            self.tick(step);
            self.client.handle_timeout(self.now);
            self.perform();
        }
        let rest = until - self.now.mono.0;
        self.tick(rest);
    }

    pub(crate) fn control(&mut self, control: Control) -> Answer {
        let id = self.begin(control);
        self.answers.remove(&id).expect("answered")
    }

    /// A request of the host whose answer may take its time.
    pub(crate) fn begin(&mut self, control: Control) -> RequestId {
        self.next += 1;
        let id = RequestId(self.next);
        self.client.handle_control(self.now, id, control);
        self.perform();
        id
    }

    /// The report of a check that was begun, if it is done.
    pub(crate) fn checked(&mut self, id: RequestId) -> Option<CheckReport> {
        match self.answers.remove(&id)? {
            Answer::Checked(report) => Some(report),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn send(&mut self, op: Operation) -> RequestId {
        self.next += 1;
        self.tick(1_000);
        let id = RequestId(self.next);
        self.client.handle_request(self.now, id, Request { caller: CALLER, op });
        self.perform();
        id
    }

    /// The kernel is done with what it was told; returns how much that was.
    pub(crate) fn kernel_forgets(&mut self) -> usize {
        let notices = std::mem::take(&mut self.notices);
        for id in &notices {
            self.client.handle_completion(self.now, *id, Completion::Notified);
            self.perform();
        }
        notices.len()
    }

    /// The oldest request that waits is served; false when there is none.
    pub(crate) fn commit_next(&mut self) -> bool {
        if self.waiting.is_empty() {
            return false;
        }
        let unheard = self.unheard();
        self.hear(unheard);
        true
    }

    /// The oldest request that waits is served, and nobody hears of it until [`World::hear`].
    pub(crate) fn unheard(&mut self) -> Unheard {
        let (id, request) = self.waiting.pop_front().expect("something waits");
        Unheard(id, self.kv(request))
    }

    pub(crate) fn hear(&mut self, Unheard(id, result): Unheard) {
        self.client.handle_completion(self.now, id, Completion::Kv(result));
        self.perform();
    }

    /// The answer to a request that was sent, if it has one yet.
    pub(crate) fn reply_to(&mut self, id: RequestId) -> Option<Reply> {
        self.replies.remove(&id)
    }

    pub(crate) fn ask(&mut self, op: Operation) -> Result<Reply, FsError> {
        let id = self.send(op);
        match self.replies.remove(&id) {
            Some(Reply::Error(error)) => Err(error),
            Some(reply) => Ok(reply),
            None if self.commits_left == 0 => Err(FsError::ShuttingDown),
            None => panic!("no reply"),
        }
    }

    /// As [`World::ask`], of a caller that gives up before any effect of its request was performed.
    pub(crate) fn ask_and_give_up(&mut self, op: Operation) -> Result<Reply, FsError> {
        self.next += 2;
        let (target, id) = (RequestId(self.next - 1), RequestId(self.next));
        self.client.handle_request(self.now, target, Request { caller: CALLER, op });
        let op = Operation::Interrupt { target };
        self.client.handle_request(self.now, id, Request { caller: CALLER, op });
        self.perform();
        match self.replies.remove(&target).expect("a reply") {
            Reply::Error(error) => Err(error),
            reply => Ok(reply),
        }
    }

    fn perform(&mut self) {
        while let Some(effect) = self.client.poll_effect() {
            if self.commits_left == 0 {
                continue;
            }
            match effect {
                Effect::Reply { request, reply, .. } => {
                    assert!(self.replies.insert(request, reply).is_none(), "replied twice");
                }
                Effect::Answer { request, answer } => {
                    self.answers.insert(request, *answer);
                }
                Effect::Kv { id, request: commit @ KvRequest::Commit(_) } if self.slow_commits => {
                    self.waiting.push_back((id, commit));
                }
                Effect::Kv { id, request: read @ KvRequest::Read(_) } if self.slow_reads => {
                    self.waiting.push_back((id, read));
                }
                Effect::Kv { id, request } => {
                    let result = self.kv(request);
                    self.client.handle_completion(self.now, id, Completion::Kv(result));
                }
                Effect::Page { id, request } => {
                    let result = self.page(request);
                    self.client.handle_completion(self.now, id, Completion::Page(result));
                }
                Effect::Notify { id, .. } if self.slow_kernel => self.notices.push(id),
                Effect::Notify { id, .. } => {
                    self.client.handle_completion(self.now, id, Completion::Notified);
                }
                Effect::Report(report) => self.reports.push(report.text),
            }
        }
    }

    fn kv(&mut self, request: KvRequest) -> Result<KvReply, KvError> {
        match request {
            KvRequest::Read(round) => {
                self.rounds += 1;
                if self.rounds.is_multiple_of(self.too_old_every) {
                    return Err(KvError::TooOld);
                }
                // One version is kept: whoever reads older rows begins anew.
                let at = round.at.map_or(self.version, |at| at.0);
                if round.reads.iter().any(|read| self.is_newer(read, at)) {
                    return Err(KvError::TooOld);
                }
                let values = round.reads.into_iter().map(|read| self.read(read)).collect();
                Ok(KvReply::Values { version: Version(at), values })
            }
            KvRequest::Commit(_) if self.kv_full => Err(KvError::NoSpace),
            KvRequest::Commit(commit) => {
                let seen = commit.read_version.map_or(self.version, |version| version.0);
                let newer = self.writes.iter().rev().take_while(|(at, _)| *at > seen);
                let mut written = newer.flat_map(|(_, ranges)| ranges);
                let relied = &commit.read_conflicts;
                if written.any(|w| relied.iter().any(|r| w.begin < r.end && r.begin < w.end)) {
                    return Err(KvError::Conflict);
                }
                self.version += 1;
                self.commits_left -= 1;
                let commit_at = Commit { version: Version(self.version), batch: 0 };
                let mut ranges = commit.write_conflicts;
                for mutation in commit.mutations {
                    ranges.push(self.apply(mutation, commit_at));
                }
                self.writes.push((self.version, ranges));
                Ok(KvReply::Committed(commit_at))
            }
            KvRequest::Sync { up_to } => {
                self.durable = self.durable.max(up_to.0);
                Ok(KvReply::Durable(Version(self.version)))
            }
        }
    }

    /// Whether something that is read was written after a version.
    fn is_newer(&self, read: &Read, at: u64) -> bool {
        let wanted = match read {
            Read::Get(key) => KeyRange::point(key.clone()),
            Read::Range { range, .. } => range.clone(),
        };
        let newer = self.writes.iter().rev().take_while(|(version, _)| *version > at);
        newer.flat_map(|(_, ranges)| ranges).any(|w| w.begin < wanted.end && wanted.begin < w.end)
    }

    fn read(&self, read: Read) -> Values {
        match read {
            Read::Get(key) => Values::One(self.kv.get(key.as_ref()).cloned()),
            Read::Range { range, limit, reverse } => {
                let bounds =
                    (Bound::Included(range.begin.to_vec()), Bound::Excluded(range.end.to_vec()));
                let all = self.kv.range(bounds).map(|(k, v)| (Key::new(k), v.clone()));
                let limit = limit.min(self.rows_max) as usize;
                let some = limit.saturating_add(1);
                let mut rows: Vec<_> =
                    if reverse { all.rev().take(some).collect() } else { all.take(some).collect() };
                let more = rows.len() > limit;
                rows.truncate(limit);
                Values::Rows { rows, more }
            }
        }
    }

    /// Returns what it wrote to.
    fn apply(&mut self, mutation: Mutation, at: Commit) -> KeyRange {
        match mutation {
            Mutation::Set { key, value } => {
                self.kv.insert(key.to_vec(), value);
                KeyRange::point(key)
            }
            Mutation::Clear { key } => {
                self.kv.remove(key.as_ref());
                KeyRange::point(key)
            }
            Mutation::ClearRange { range } => {
                self.kv.retain(|k, _| !range.contains(k));
                range
            }
            Mutation::Atomic { key, op, operand } => {
                let new = op.apply(self.kv.get(key.as_ref()).map(|v| v.as_ref()), &operand);
                self.kv.insert(key.to_vec(), new);
                KeyRange::point(key)
            }
            Mutation::SetStampedKey { mut key, stamp_at, value } => {
                key.overwrite(stamp_at, &at.stamp());
                self.kv.insert(key.to_vec(), value);
                KeyRange::point(key)
            }
            Mutation::SetStampedValue { key, value, stamp_at } => {
                let mut value = value.to_vec();
                value[stamp_at..stamp_at + 10].copy_from_slice(&at.stamp());
                self.kv.insert(key.to_vec(), Bytes::from(value));
                KeyRange::point(key)
            }
        }
    }

    fn page(&mut self, request: PageRequest) -> Result<PageReply, PageError> {
        match request {
            PageRequest::Append(draft) => {
                self.appends_left = match self.appends_left {
                    Some(0) => {
                        self.appends_left = None;
                        return Err(PageError::Io);
                    }
                    left => left.map(|left| left - 1),
                };
                let bytes = draft.payload.concat();
                assert_eq!(bytes.len(), draft.len as usize);
                assert!(self.pages.insert(draft.id, bytes).is_none(), "a segment id came back");
                Ok(PageReply::Appended { physical: u64::from(draft.len) })
            }
            PageRequest::Read { segment, offset, len } => {
                self.page_errors.get(&segment).map_or(Ok(()), |error| Err(*error))?;
                let bytes = self.pages.get(&segment).ok_or(PageError::Missing)?;
                let read = (segment, offset)..(segment, offset + len);
                if let Some((_, offset)) = self.rotten.range(read).next() {
                    return Err(PageError::Corrupt { offset: *offset });
                }
                let (from, to) = (offset as usize, (offset + len) as usize);
                Ok(PageReply::Data(Bytes::copy_from_slice(&bytes[from..to])))
            }
            PageRequest::Prefetch { parts } => {
                for (segment, offset, len) in &parts {
                    let stored = self.pages.get(segment).map_or(0, Vec::len);
                    assert!((offset + len) as usize <= stored, "bytes that nobody has");
                }
                self.prefetched.extend(parts);
                Ok(PageReply::Prefetched)
            }
            PageRequest::Verify { segment } => {
                self.page_errors.get(&segment).map_or(Ok(()), |error| Err(*error))?;
                let len = self.pages.get(&segment).ok_or(PageError::Missing)?.len() as u32;
                Ok(PageReply::Verified { len })
            }
            PageRequest::Delete { segments } => {
                for segment in segments {
                    self.pages.remove(&segment);
                }
                Ok(PageReply::Deleted)
            }
            PageRequest::List { after, limit } => {
                let from = after.map_or(Bound::Unbounded, Bound::Excluded);
                let page = self.pages.range((from, Bound::Unbounded)).map(|(id, _)| *id);
                Ok(PageReply::Listed(page.take(limit as usize).collect()))
            }
            PageRequest::Space => Ok(PageReply::Space(Space { total: 1 << 40, free: 1 << 39 })),
        }
    }
}

/// Calls in the words of the kernel, with the answers unpacked.
impl World {
    pub(crate) fn create(&mut self, dir: Ino, name: &str) -> Result<(Ino, Handle), FsError> {
        let op = Operation::Create {
            parent: dir,
            name: Bytes::copy_from_slice(name.as_bytes()),
            mode: 0o644,
            umask: 0,
            flags: OpenFlags(0o302),
        };
        match self.ask(op)? {
            Reply::Created { entry, opened } => {
                Ok((entry.attr.expect("an inode").ino, opened.handle))
            }
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn mkdir(&mut self, dir: Ino, name: &str) -> Result<Ino, FsError> {
        let name = Bytes::copy_from_slice(name.as_bytes());
        self.entry(Operation::MkDir { parent: dir, name, mode: 0o755, umask: 0 })
            .map(|a| a.expect("an inode").ino)
    }

    pub(crate) fn entry(&mut self, op: Operation) -> Result<Option<Attr>, FsError> {
        match self.ask(op)? {
            Reply::Entry(entry) => Ok(entry.attr),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn lookup(&mut self, dir: Ino, name: &str) -> Result<Option<Attr>, FsError> {
        let name = Bytes::copy_from_slice(name.as_bytes());
        self.entry(Operation::Lookup { parent: dir, name })
    }

    pub(crate) fn attr(&mut self, ino: Ino) -> Result<Attr, FsError> {
        match self.ask(Operation::GetAttr { ino, handle: None })? {
            Reply::Attr { attr, .. } => Ok(attr),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn write(
        &mut self,
        (ino, handle): (Ino, Handle),
        offset: u64,
        data: &[u8],
    ) -> Result<u32, FsError> {
        let data = Bytes::copy_from_slice(data);
        match self.ask(Operation::Write {
            ino,
            handle,
            offset,
            data,
            flags: WriteFlags::default(),
        })? {
            Reply::Written(n) => Ok(n),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn read_at(
        &mut self,
        (ino, handle): (Ino, Handle),
        offset: u64,
        len: u32,
    ) -> Result<Vec<u8>, FsError> {
        match self.ask(Operation::Read { ino, handle, offset, len })? {
            Reply::Data(pieces) => {
                let mut out = Vec::new();
                for piece in pieces {
                    match piece {
                        Piece::Bytes(bytes) => out.extend_from_slice(&bytes),
                        Piece::Zeros(n) => out.resize(out.len() + n as usize, 0),
                    }
                }
                Ok(out)
            }
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn truncate(&mut self, ino: Ino, size: u64) -> Result<Attr, FsError> {
        let set = SetAttr { size: Some(size), ..SetAttr::default() };
        match self.ask(Operation::SetAttr { ino, handle: None, set })? {
            Reply::Attr { attr, .. } => Ok(attr),
            other => panic!("{other:?}"),
        }
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

    pub(crate) fn unlink(&mut self, dir: Ino, name: &str) -> Result<(), FsError> {
        let name = Bytes::copy_from_slice(name.as_bytes());
        self.ask(Operation::Unlink { parent: dir, name }).map(|_| ())
    }

    pub(crate) fn rename(
        &mut self,
        from: (Ino, &str),
        to: (Ino, &str),
        flags: u32,
    ) -> Result<(), FsError> {
        let op = Operation::Rename {
            parent: from.0,
            name: Bytes::copy_from_slice(from.1.as_bytes()),
            new_parent: to.0,
            new_name: Bytes::copy_from_slice(to.1.as_bytes()),
            flags,
        };
        self.ask(op).map(|_| ())
    }

    pub(crate) fn link(&mut self, ino: Ino, to: (Ino, &str)) -> Result<(), FsError> {
        let new_name = Bytes::copy_from_slice(to.1.as_bytes());
        self.entry(Operation::Link { ino, new_parent: to.0, new_name }).map(|_| ())
    }

    pub(crate) fn symlink(&mut self, dir: Ino, name: &str, target: &str) -> Result<Ino, FsError> {
        let name = Bytes::copy_from_slice(name.as_bytes());
        let target = Bytes::copy_from_slice(target.as_bytes());
        self.entry(Operation::Symlink { parent: dir, name, target })
            .map(|a| a.expect("an inode").ino)
    }

    pub(crate) fn rmdir(&mut self, dir: Ino, name: &str) -> Result<(), FsError> {
        let name = Bytes::copy_from_slice(name.as_bytes());
        self.ask(Operation::RmDir { parent: dir, name }).map(|_| ())
    }

    /// Checks the volume, data included.
    pub(crate) fn check(&mut self) -> CheckReport {
        match self.control(Control::Check(CheckOptions { data: true, settled: true })) {
            Answer::Checked(report) => report,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn list(&mut self, dir: Ino, room: u32) -> Result<Vec<(String, Ino)>, FsError> {
        let handle = match self.ask(Operation::OpenDir { ino: dir })? {
            Reply::Opened(opened) => opened.handle,
            other => panic!("{other:?}"),
        };
        let (mut all, mut cookie) = (Vec::new(), 0);
        loop {
            let op = Operation::ReadDir { ino: dir, handle, cookie, room, plus: false };
            let Reply::Entries(entries) = self.ask(op)? else { panic!("no entries") };
            let Some(last) = entries.last() else { break };
            cookie = last.cookie;
            all.extend(
                entries.iter().map(|e| (String::from_utf8_lossy(&e.name).into_owned(), e.ino)),
            );
        }
        self.ask(Operation::ReleaseDir { ino: dir, handle })?;
        Ok(all)
    }

    pub(crate) fn forget(&mut self, ino: Ino) {
        self.send(Operation::Forget { nodes: vec![(ino, u64::MAX)] });
    }
}
