//! Histories that are told event by event, and their pieces.

use bytes::Bytes;
use std::collections::BTreeMap;
use std::time::Duration;
use vellum_core::error::FsError;
use vellum_core::id::{Handle, Ino, RequestId};
use vellum_core::port::Point;
use vellum_core::port::kernel::{
    Attr, Caller, Entry, OpenFlags, Opened, Operation, Piece, Reply, S_IFDIR, S_IFREG, SetAttr,
    WriteFlags,
};
use vellum_core::port::meta_kv::{Commit, Version};
use vellum_core::time::WallTime;
use vellum_sim::check::{Judge, Mercy};
use vellum_sim::history::{CommitOrder, Epoch, Place, Record, Unanswered};
use vellum_sim::observe::{Node, Observed};
use vellum_sim::recover::End;
use vellum_sim::times::Span;

pub(crate) const NOW: WallTime = WallTime::new(1_000_000, 0);
pub(crate) const FILE: Ino = Ino(7);

/// A history that is told event by event. Each event has the next place.
#[derive(Default)]
pub(crate) struct Story {
    pub(crate) epoch: Epoch,
    pub(crate) order: CommitOrder,
    pub(crate) place: Place,
    pub(crate) version: u64,
}

/// A request under way.
pub(crate) struct Asked(pub(crate) Operation, pub(crate) Place);

impl Story {
    pub(crate) fn ask(&mut self, op: Operation) -> Asked {
        self.place += 1;
        Asked(op, self.place)
    }

    pub(crate) fn commit(&mut self) -> Commit {
        self.place += 1;
        self.version += 10;
        let commit = Commit { version: Version(self.version), batch: 0 };
        self.order.push(commit, self.place);
        commit
    }

    pub(crate) fn answer(&mut self, Asked(op, asked): Asked, reply: Reply, point: Point) {
        self.place += 1;
        self.epoch.records.push(Record {
            id: RequestId(self.place),
            caller: Caller::default(),
            op,
            wall: NOW,
            asked,
            answered: self.place,
            span: Span::at(NOW),
            reply,
            point,
            interrupted: false,
            inferred: false,
        });
    }

    /// The process ends before it answers.
    pub(crate) fn leave(&mut self, Asked(op, asked): Asked) {
        self.epoch.unanswered.push(Unanswered { caller: Caller::default(), op, wall: NOW, asked });
    }

    /// A change that nobody overlaps.
    pub(crate) fn change(&mut self, op: Operation, reply: Reply) {
        let asked = self.ask(op);
        let commit = self.commit();
        self.answer(asked, reply, Point::Commit(commit));
    }

    /// Something that is answered from memory.
    pub(crate) fn step(&mut self, op: Operation, reply: Reply) {
        let asked = self.ask(op);
        self.answer(asked, reply, Point::Step);
    }

    pub(crate) fn judge(&self) -> Result<(), &'static str> {
        self.judge_with(Mercy::default())
    }

    pub(crate) fn judge_with(&self, mercy: Mercy) -> Result<(), &'static str> {
        let mut judge = judge();
        match judge.judge(&self.epoch.records, &self.order, mercy) {
            Ok(_) => Ok(()),
            Err(failure) => Err(failure.rule),
        }
    }

    /// The verdict on what is found after the process ended and kept the commits up to `cut`.
    pub(crate) fn recover(&mut self, cut: Place, found: &Observed) -> Result<(), &'static str> {
        let (mut judge, start) = (judge(), empty().mirror());
        let unanswered = self.epoch.unanswered.clone();
        let timeline = judge
            .judge_life(&mut self.epoch, &self.order, Mercy::default(), 0)
            .expect("nothing is wrong before the end");
        let end = End::Killed(cut);
        let verdict = judge
            .recover(start, &self.epoch, &self.order, &timeline, end, found, None)
            .map_err(|failure| failure.rule);
        self.epoch.forget_inferred(&unanswered);
        verdict
    }
}

pub(crate) fn judge() -> Judge {
    Judge::new(&empty())
}

/// A volume with nothing but its root.
pub(crate) fn empty() -> Observed {
    let mut found = Observed::default();
    found.nodes.insert(Ino::ROOT, node(attr(Ino::ROOT, S_IFDIR | 0o755, 2, 0)));
    found
}

/// A volume with the file `a` in its root.
pub(crate) fn with_file(content: &[u8]) -> Observed {
    let mut found = empty();
    let root = found.nodes.get_mut(&Ino::ROOT).expect("just made");
    root.entries.insert(Bytes::from_static(b"a"), FILE);
    let mut file = node(attr(FILE, S_IFREG | 0o644, 1, content.len() as u64));
    file.content.push((0, content.to_vec()));
    found.nodes.insert(FILE, file);
    found
}

pub(crate) fn node(attr: Attr) -> Node {
    Node {
        attr,
        entries: BTreeMap::new(),
        xattrs: BTreeMap::new(),
        target: Bytes::new(),
        content: Vec::new(),
    }
}

pub(crate) fn attr(ino: Ino, mode: u32, nlink: u32, size: u64) -> Attr {
    Attr {
        ino,
        mode,
        nlink,
        uid: 0,
        gid: 0,
        rdev: 0,
        size,
        blocks: size.div_ceil(512),
        atime: NOW,
        mtime: NOW,
        ctime: NOW,
        btime: NOW,
    }
}

pub(crate) fn entry(attr: Option<Attr>) -> Entry {
    Entry { attr, entry_valid: Duration::ZERO, attr_valid: Duration::ZERO }
}

pub(crate) fn name(name: &'static str) -> Bytes {
    Bytes::from_static(name.as_bytes())
}

pub(crate) fn create() -> (Operation, Reply) {
    let (op, handle) = (open(0o102), Handle(1));
    let opened =
        Opened { handle, keep_cache: false, direct_io: false, cache_dir: false, no_flush: false };
    (op, Reply::Created { entry: entry(Some(attr(FILE, S_IFREG | 0o644, 1, 0))), opened })
}

/// open(2) of `a` with O_CREAT.
pub(crate) fn open(flags: u32) -> Operation {
    open_of("a", flags)
}

pub(crate) fn open_of(text: &'static str, flags: u32) -> Operation {
    let flags = OpenFlags(flags);
    Operation::Create { parent: Ino::ROOT, name: name(text), mode: 0o644, umask: 0, flags }
}

pub(crate) fn lookup() -> Operation {
    Operation::Lookup { parent: Ino::ROOT, name: name("a") }
}

pub(crate) fn write(offset: u64, bytes: &'static [u8]) -> (Operation, Reply) {
    let flags = WriteFlags { from_cache: false, kill_suidgid: false, append: false };
    let data = Bytes::from_static(bytes);
    let op = Operation::Write { ino: FILE, handle: Handle(1), offset, data, flags };
    (op, Reply::Written(bytes.len() as u32))
}

pub(crate) fn read(bytes: &'static [u8]) -> (Operation, Reply) {
    let op = Operation::Read { ino: FILE, handle: Handle(1), offset: 0, len: 100 };
    (op, Reply::Data([Piece::Bytes(Bytes::from_static(bytes))].into_iter().collect()))
}

pub(crate) fn fsync() -> Operation {
    Operation::Fsync { ino: FILE, handle: Handle(1), datasync: false }
}

/// A file that was made, written twice and synced; then an O_TRUNC, and a read that shows what it did.
/// The O_TRUNC is never answered.
pub(crate) fn emptied_without_an_answer() -> Story {
    let mut story = two_writes();
    story.step(fsync(), Reply::Done);
    let emptying = story.ask(open(0o1102));
    story.commit();
    let (op, reply) = read(b"");
    story.step(op, reply);
    story.leave(emptying);
    story
}

/// A file that was made and written twice.
pub(crate) fn two_writes() -> Story {
    let mut story = Story::default();
    let (op, reply) = create();
    story.change(op, reply);
    for (op, reply) in [write(0, b"first"), write(5, b"second")] {
        story.step(op, reply);
    }
    story
}

/// A file of mode `before`, to which a write failed; then its permissions become `perm`, its set-id bits
/// stay, and fstat says `mode`.
pub(crate) fn failed_write_between(before: u32, perm: u32, mode: u32) -> Story {
    let mut story = Story::default();
    let (op, reply) = create();
    story.change(op, reply);
    let set = SetAttr { mode: Some(before), ..SetAttr::default() };
    let shown =
        |mode| Reply::Attr { attr: attr(FILE, S_IFREG | mode, 1, 0), valid: Duration::ZERO };
    story.change(Operation::SetAttr { ino: FILE, handle: None, set }, shown(before));
    let flags = WriteFlags { from_cache: false, kill_suidgid: true, append: false };
    let data = Bytes::from_static(b"none");
    let write = Operation::Write { ino: FILE, handle: Handle(1), offset: 0, data, flags };
    let writing = story.ask(write);
    story.commit();
    story.answer(writing, Reply::Error(FsError::NoSpace), Point::Step);
    let acl = [(1, perm >> 6), (4, perm >> 3 & 7), (0x20, perm & 7)];
    let entry = |(tag, perm): (u8, u32)| [tag, 0, perm as u8, 0, 0xff, 0xff, 0xff, 0xff];
    let value: Bytes = [2, 0, 0, 0].into_iter().chain(acl.into_iter().flat_map(entry)).collect();
    let name = name("system.posix_acl_access");
    let acl = Operation::SetXattr { ino: FILE, name, value, flags: 0, kill_sgid: false };
    story.change(acl, Reply::Done);
    story.step(Operation::GetAttr { ino: FILE, handle: None }, shown(mode));
    story
}
