//! The machine and the model side by side: what the differential test and the fuzz target `operations` share.
//!
//! The including module has a `world` beside this one: a machine with stores.

mod compare;

use super::world::{CALLER, World};
use bytes::Bytes;
use std::collections::BTreeMap;
use vellum_core::error::FsError;
use vellum_core::id::{Handle, Ino};
use vellum_core::port::control::{Answer, Control};
use vellum_core::port::kernel as k;
use vellum_core::time::WallTime;
use vellum_model::{
    Allocate, Caller, Fs, Kind, New, NodeId, RenameFlags, SetAttr, SetTime, Time, XattrMode,
};

/// A request in a user's words. Names, directories, files and handles are picked modulo what exists,
/// so that every plan stays valid while it shrinks.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Create {
        dir: u8,
        name: u8,
    },
    MkDir {
        dir: u8,
        name: u8,
    },
    TmpFile {
        dir: u8,
        exclusive: bool,
    },
    SetXattr {
        node: u8,
        which: u8,
        value: u8,
        flags: u8,
    },
    RemoveXattr {
        node: u8,
        which: u8,
    },
    MkNod {
        dir: u8,
        name: u8,
    },
    Symlink {
        dir: u8,
        name: u8,
    },
    Link {
        node: u8,
        dir: u8,
        name: u8,
    },
    Unlink {
        dir: u8,
        name: u8,
    },
    RmDir {
        dir: u8,
        name: u8,
    },
    Rename {
        from: u8,
        old: u8,
        to: u8,
        new: u8,
        flags: u8,
    },
    Lookup {
        dir: u8,
        name: u8,
    },
    ReadLink {
        node: u8,
    },
    List {
        dir: u8,
        room: u16,
    },
    Open {
        node: u8,
    },
    Close {
        file: u8,
    },
    Write {
        file: u8,
        at: u32,
        len: u32,
        append: bool,
        kill: bool,
    },
    Read {
        file: u8,
        at: u32,
        len: u32,
    },
    Truncate {
        node: u8,
        size: u32,
        kill: bool,
    },
    Times {
        node: u8,
        atime: Option<i64>,
        mtime: Option<i64>,
    },
    Chmod {
        node: u8,
        mode: u16,
    },
    Chown {
        node: u8,
        uid: u16,
    },
    Allocate {
        file: u8,
        at: u32,
        len: u32,
        mode: u8,
    },
    Copy {
        from: u8,
        at: u32,
        to: u8,
        to_at: u32,
        len: u32,
    },
    Seek {
        file: u8,
        at: u32,
        hole: bool,
    },
    Fsync {
        file: u8,
    },
    Compact {
        node: u8,
    },
    Collect,
    Wait,
    Remount,
    /// Everything is made durable, by a sync or by an fsync of each file; then the machine is gone without
    /// a word.
    Crash {
        fsync: bool,
    },
}

/// Both worlds, and how the nodes of one are called in the other.
pub(crate) struct Pair {
    pub(crate) world: World,
    pub(crate) model: Fs,
    nodes: BTreeMap<Ino, NodeId>,
    open: Vec<(Ino, Handle)>,
    writes: u8,
}

fn time(t: WallTime) -> Time {
    Time::new(t.secs, t.nanos)
}

fn named(n: u8) -> Bytes {
    Bytes::from(vec![b'a' + n])
}

fn pick<T: Clone>(all: &[T], n: u8) -> Option<T> {
    (!all.is_empty()).then(|| all[n as usize % all.len()].clone())
}

impl Pair {
    pub(crate) fn new() -> Pair {
        let world = World::new();
        let model = Fs::new(New::perm(0o755), time(WallTime::new(1_000, 0)));
        let nodes = [(Ino::ROOT, NodeId::ROOT)].into();
        Pair { world, model, nodes, open: Vec::new(), writes: 0 }
    }

    fn of_kind(&self, wanted: impl Fn(Kind) -> bool) -> Vec<(Ino, NodeId)> {
        let is = |node: &NodeId| self.model.getattr(*node).is_ok_and(|a| wanted(a.kind));
        self.nodes.iter().filter(|(_, node)| is(node)).map(|(i, n)| (*i, *n)).collect()
    }

    pub(crate) fn dir(&self, n: u8) -> (Ino, NodeId) {
        pick(&self.of_kind(|k| k == Kind::Dir), n).expect("the root")
    }

    fn file(&self, n: u8) -> Option<(Ino, NodeId)> {
        pick(&self.of_kind(|k| k == Kind::File), n)
    }

    fn node(&self, n: u8) -> (Ino, NodeId) {
        pick(&self.of_kind(|_| true), n).expect("the root")
    }

    /// The time that the world stamps on its next request.
    fn next_time(&self) -> Time {
        let t = self.world.now.wall;
        let nanos = u64::from(t.nanos) + 1_000;
        Time::new(t.secs + (nanos / 1_000_000_000) as i64, (nanos % 1_000_000_000) as u32)
    }

    pub(crate) fn apply(&mut self, op: &Op) {
        match op {
            Op::Create { .. }
            | Op::MkDir { .. }
            | Op::MkNod { .. }
            | Op::Symlink { .. }
            | Op::Link { .. } => {
                self.make(op);
            }
            Op::TmpFile { dir, exclusive } => self.tmpfile(*dir, *exclusive),
            Op::SetXattr { .. } | Op::RemoveXattr { .. } => self.change_xattr(op),
            Op::Unlink { .. } | Op::RmDir { .. } | Op::Rename { .. } => self.unmake(op),
            Op::Lookup { dir, name: n } => {
                let (ino, node) = self.dir(*dir);
                let got = self.world.entry(k::Operation::Lookup { parent: ino, name: named(*n) });
                let want = self.model.lookup(node, &named(*n)).ok();
                assert_eq!(
                    got.map(|a| a.map(|a| self.nodes[&a.ino])),
                    Ok(want.map(|a| a.node)),
                    "{op:?}"
                );
            }
            Op::ReadLink { node } => {
                let (ino, node) = self.node(*node);
                let got = self.world.ask(k::Operation::ReadLink { ino });
                match (got, self.model.readlink(node)) {
                    (Ok(k::Reply::Target(got)), Ok(want)) => assert_eq!(got, want, "{op:?}"),
                    (Err(_), Err(_)) => {}
                    other => panic!("{op:?}: {other:?}"),
                }
            }
            Op::List { dir, room } => self.list(*dir, u32::from(*room)),
            Op::Open { .. } | Op::Close { .. } | Op::Fsync { .. } => self.hold(op),
            Op::Compact { node } => {
                let Some((ino, _)) = self.file(*node) else { return };
                let folded = self.world.control(Control::Compact { ino });
                assert!(matches!(folded, Answer::Compacted(_)), "{op:?}: {folded:?}");
            }
            Op::Collect => {
                let collected = self.world.control(Control::Gc { now: true });
                assert!(matches!(collected, Answer::Collected(_)), "{collected:?}");
            }
            Op::Wait => self.world.wait(2_500_000_000),
            Op::Remount | Op::Crash { .. } => self.start_anew(op),
            Op::Write { .. } | Op::Read { .. } => self.transfer(op),
            Op::Allocate { .. } | Op::Copy { .. } | Op::Seek { .. } => self.space(op),
            Op::Truncate { .. } | Op::Times { .. } | Op::Chmod { .. } | Op::Chown { .. } => {
                self.set(op)
            }
        }
    }

    fn make(&mut self, op: &Op) {
        let now = self.next_time();
        let new = self.owned(0o666);
        let (parent, dir, n) = match op {
            Op::Create { dir, name }
            | Op::MkDir { dir, name }
            | Op::MkNod { dir, name }
            | Op::Symlink { dir, name }
            | Op::Link { dir, name, .. } => (self.dir(*dir).0, self.dir(*dir).1, named(*name)),
            _ => unreachable!(),
        };
        let (request, want) = match op {
            Op::Create { .. } => (
                k::Operation::MkNod {
                    parent,
                    name: n.clone(),
                    mode: 0o100_666,
                    umask: UMASK,
                    rdev: 0,
                },
                self.model.create(dir, &n, new, now),
            ),
            Op::MkDir { .. } => (
                k::Operation::MkDir { parent, name: n.clone(), mode: 0o666, umask: UMASK },
                self.model.mkdir(dir, &n, new, now),
            ),
            Op::MkNod { .. } => (
                k::Operation::MkNod {
                    parent,
                    name: n.clone(),
                    mode: 0o010_666,
                    umask: UMASK,
                    rdev: 0,
                },
                self.model.mknod(dir, &n, Kind::Fifo, 0, new, now),
            ),
            Op::Symlink { .. } => (
                k::Operation::Symlink {
                    parent,
                    name: n.clone(),
                    target: Bytes::from_static(b"to/there"),
                },
                self.model.symlink(dir, &n, b"to/there", new, now),
            ),
            Op::Link { node, .. } => {
                let (ino, node) = self.node(*node);
                (
                    k::Operation::Link { ino, new_parent: parent, new_name: n.clone() },
                    self.model.link(node, dir, &n, now),
                )
            }
            _ => unreachable!(),
        };
        match (self.world.entry(request), want) {
            (Ok(Some(got)), Ok(want)) => {
                self.nodes.insert(got.ino, want.node);
                self.model.hold(want.node).expect("just made");
            }
            (Err(got), Err(want)) => {
                assert_eq!(got.errno(), want.errno(), "{op:?}: {got:?}, {want:?}")
            }
            (got, want) => panic!("{op:?}: {got:?}, the model: {want:?}"),
        }
    }

    /// A node of the world's caller, who has a umask.
    fn owned(&self, perm: u16) -> New {
        New { perm, umask: UMASK as u16, uid: CALLER.uid, gid: CALLER.gid }
    }

    fn tmpfile(&mut self, dir: u8, exclusive: bool) {
        let (now, (parent, dir)) = (self.next_time(), self.dir(dir));
        let flags = k::OpenFlags(if exclusive { 0o202 } else { 0o2 });
        let request = k::Operation::TmpFile { parent, mode: 0o4755, umask: UMASK, flags };
        let want = self.model.tmpfile(dir, !exclusive, self.owned(0o4755), now);
        match (self.world.ask(request), want) {
            (Ok(k::Reply::Created { entry, opened }), Ok(want)) => {
                let ino = entry.attr.expect("an inode").ino;
                self.nodes.insert(ino, want.node);
                self.model.hold(want.node).expect("just made");
                self.open.push((ino, opened.handle));
            }
            (Err(got), Err(want)) => assert_eq!(got.errno(), want.errno()),
            (got, want) => panic!("tmpfile: {got:?}, the model: {want:?}"),
        }
    }

    fn change_xattr(&mut self, op: &Op) {
        let now = self.next_time();
        let name = |which: u8| match which {
            0 => "trusted.a",
            1 => "security.b",
            2 => "security.capability",
            3 => "system.posix_acl_access",
            _ => "system.posix_acl_default",
        };
        let (got, want) = match op {
            Op::SetXattr { node, which, value, flags } => {
                let ((ino, node), name) = (self.node(*node), name(*which));
                let value = if *which < 3 {
                    vec![*value; value.wrapping_mul(7).into()]
                } else {
                    acl(*value)
                };
                let mode = [XattrMode::Any, XattrMode::Create, XattrMode::Replace];
                let mode = mode[usize::from(*flags)];
                let request = k::Operation::SetXattr {
                    ino,
                    name: name.into(),
                    value: Bytes::from(value.clone()),
                    flags: (*flags).into(),
                    kill_sgid: *flags == 1,
                };
                let who = if *flags == 1 { Caller::Unprivileged } else { Caller::Privileged };
                let want = self.model.setxattr(node, name.as_bytes(), &value, mode, who, now);
                (self.world.ask(request), want)
            }
            Op::RemoveXattr { node, which } => {
                let ((ino, node), name) = (self.node(*node), name(*which));
                let request = k::Operation::RemoveXattr { ino, name: name.into() };
                (self.world.ask(request), self.model.removexattr(node, name.as_bytes(), now))
            }
            _ => unreachable!(),
        };
        match (got, want) {
            (Ok(_), Ok(())) => {}
            (Err(got), Err(want)) => assert_eq!(got.errno(), want.errno(), "{op:?}"),
            (got, want) => panic!("{op:?}: {got:?}, the model: {want:?}"),
        }
    }

    fn unmake(&mut self, op: &Op) {
        let now = self.next_time();
        let (request, want) = match op {
            Op::Unlink { dir, name: n } => {
                let (parent, dir) = self.dir(*dir);
                (
                    k::Operation::Unlink { parent, name: named(*n) },
                    self.model.unlink(dir, &named(*n), now),
                )
            }
            Op::RmDir { dir, name: n } => {
                let (parent, dir) = self.dir(*dir);
                (
                    k::Operation::RmDir { parent, name: named(*n) },
                    self.model.rmdir(dir, &named(*n), now),
                )
            }
            Op::Rename { from, old, to, new, flags } => {
                let ((from, from_node), (to, to_node)) = (self.dir(*from), self.dir(*to));
                let (flags, rule) = match flags {
                    2 => (1, RenameFlags::NoReplace),
                    3 => (2, RenameFlags::Exchange),
                    _ => (0, RenameFlags::Replace),
                };
                let request = k::Operation::Rename {
                    parent: from,
                    name: named(*old),
                    new_parent: to,
                    new_name: named(*new),
                    flags,
                };
                (
                    request,
                    self.model.rename(from_node, &named(*old), to_node, &named(*new), rule, now),
                )
            }
            _ => unreachable!(),
        };
        match (self.world.ask(request), want) {
            (Ok(_), Ok(())) => {}
            (Err(got), Err(want)) => {
                // More than one reason may hold; which one is found first is left open.
                let open =
                    [FsError::NotEmpty, FsError::Exists, FsError::Invalid, FsError::IsDirectory];
                let either = matches!(op, Op::Rename { .. }) && open.contains(&got);
                assert!(either || got.errno() == want.errno(), "{op:?}: {got:?}, {want:?}");
            }
            (got, want) => panic!("{op:?}: {got:?}, the model: {want:?}"),
        }
    }

    fn list(&mut self, dir: u8, room: u32) {
        let (ino, node) = self.dir(dir);
        let got = self.world.list(ino, room.max(300)).expect("list");
        let mut names: Vec<(Vec<u8>, NodeId)> =
            got.into_iter().map(|(n, ino)| (n.into_bytes(), self.nodes[&ino])).collect();
        names.sort();
        let mut want: Vec<_> = match self.model.readdir(node) {
            Ok(entries) => entries.into_iter().map(|e| (e.name, e.node)).collect(),
            Err(_) => Vec::new(),
        };
        want.sort();
        if self.model.getattr(node).is_ok_and(|a| a.nlink > 0) {
            assert_eq!(names, want);
        } else {
            assert!(names.is_empty(), "a removed directory lists nothing");
        }
    }

    fn hold(&mut self, op: &Op) {
        match op {
            Op::Open { node } => {
                let Some((ino, node)) = self.file(*node) else { return };
                self.open.push(self.world.open(ino).expect("open"));
                self.model.open(node).expect("open");
            }
            Op::Close { file } => {
                if !self.open.is_empty() {
                    let (ino, handle) = self.open.remove(*file as usize % self.open.len());
                    self.world.close((ino, handle)).expect("close");
                    self.model.release(self.nodes[&ino]).expect("open");
                }
            }
            Op::Fsync { file } => {
                if let Some(file) = pick(&self.open, *file) {
                    self.world.fsync(file).expect("fsync");
                }
            }
            _ => unreachable!(),
        }
    }

    fn start_anew(&mut self, op: &Op) {
        let open = std::mem::take(&mut self.open);
        if matches!(op, Op::Remount) {
            for file in &open {
                self.world.close(*file).expect("close");
            }
            assert!(matches!(self.world.control(Control::Unmount), Answer::Unmounted));
            self.world.remount();
        } else {
            self.make_durable(matches!(op, Op::Crash { fsync: true }));
            self.world.crash();
        }
        for (ino, _) in open {
            self.model.release(self.nodes[&ino]).expect("open");
        }
        // The kernel forgets everything: what has no name is gone.
        let gone = |node: &NodeId| self.model.getattr(*node).is_ok_and(|a| a.nlink == 0);
        self.nodes.retain(|_, node| !gone(node));
        self.look_up_all(Ino::ROOT, NodeId::ROOT);
    }

    fn make_durable(&mut self, fsync: bool) {
        let files = self.files_with_a_name();
        if !fsync || files.is_empty() {
            return assert!(matches!(self.world.control(Control::Sync), Answer::Synced));
        }
        for (ino, _) in files {
            let file = self.world.open(ino).expect("open");
            self.world.fsync(file).expect("fsync");
            self.world.close(file).expect("close");
        }
    }

    fn files_with_a_name(&self) -> Vec<(Ino, NodeId)> {
        let named = |node: NodeId| self.model.getattr(node).is_ok_and(|a| a.nlink > 0);
        self.of_kind(|k| k == Kind::File).into_iter().filter(|(_, node)| named(*node)).collect()
    }

    /// The kernel knows only what it looked up since the mount.
    fn look_up_all(&mut self, parent: Ino, dir: NodeId) {
        for entry in self.model.readdir(dir).expect("a directory") {
            if entry.name == b"." || entry.name == b".." {
                continue;
            }
            let request = k::Operation::Lookup { parent, name: Bytes::from(entry.name) };
            let found = self.world.entry(request).expect("lookup").expect("there");
            assert_eq!(self.nodes[&found.ino], entry.node);
            if entry.kind == Kind::Dir {
                self.look_up_all(found.ino, entry.node);
            }
        }
    }

    fn transfer(&mut self, op: &Op) {
        match op {
            Op::Write { file, at, len, append, kill } => {
                let Some((ino, handle)) = pick(&self.open, *file) else { return };
                self.writes = self.writes.wrapping_add(1);
                let data = Bytes::from(vec![self.writes.max(1); *len as usize]);
                let (now, node) = (self.next_time(), self.nodes[&ino]);
                let flags =
                    k::WriteFlags { append: *append, kill_suidgid: *kill, from_cache: false };
                let who = if *kill { Caller::Unprivileged } else { Caller::Privileged };
                let request = k::Operation::Write {
                    ino,
                    handle,
                    offset: u64::from(*at),
                    data: data.clone(),
                    flags,
                };
                let got = self.world.ask(request);
                assert!(matches!(got, Ok(k::Reply::Written(n)) if n == *len), "{op:?}: {got:?}");
                if *append {
                    self.model.append(node, &data, who, now).expect("append");
                } else {
                    self.model.write(node, u64::from(*at), &data, who, now).expect("write");
                }
            }
            Op::Read { file, at, len } => {
                let Some((ino, handle)) = pick(&self.open, *file) else { return };
                let got = self.world.read_at((ino, handle), u64::from(*at), *len).expect("read");
                let want =
                    self.model.read(self.nodes[&ino], u64::from(*at), *len as usize).expect("read");
                assert!(got == want, "{op:?}: {} bytes, the model {}", got.len(), want.len());
            }
            _ => unreachable!(),
        }
    }

    fn space(&mut self, op: &Op) {
        let now = self.next_time();
        match *op {
            Op::Allocate { file, at, len, mode } => {
                let Some((ino, handle)) = pick(&self.open, file) else { return };
                let (offset, len) = (u64::from(at), u64::from(len));
                let (mode, kind) = [
                    (0, Allocate::Extend),
                    (1, Allocate::Keep),
                    (3, Allocate::PunchHole),
                    (3, Allocate::PunchHole),
                    (0x10, Allocate::ZeroExtend),
                    (0x11, Allocate::ZeroKeep),
                ][usize::from(mode)];
                let request = k::Operation::Fallocate { ino, handle, offset, len, mode };
                let got = self.world.ask(request);
                assert!(matches!(got, Ok(k::Reply::Done)), "{op:?}: {got:?}");
                let node = self.nodes[&ino];
                let want = self.model.allocate(node, kind, offset, len, Caller::Unprivileged, now);
                want.expect("inside the largest file");
            }
            Op::Copy { from, at, to, to_at, len } => {
                let Some((ino, handle)) = pick(&self.open, from) else { return };
                let Some((to_ino, to_handle)) = pick(&self.open, to) else { return };
                let (offset, to_offset, len) = (u64::from(at), u64::from(to_at), u64::from(len));
                let request = k::Operation::CopyRange {
                    ino,
                    handle,
                    offset,
                    to_ino,
                    to_handle,
                    to_offset,
                    len,
                };
                let (source, target) = (self.nodes[&ino], self.nodes[&to_ino]);
                let (from, to) = ((source, offset), (target, to_offset));
                // It may end early, but not before it began.
                match self.world.ask(request) {
                    Ok(k::Reply::Copied(count)) => {
                        let asked = if count == 0 { len } else { count };
                        let want =
                            self.model.copy_range(from, to, asked, Caller::Unprivileged, now);
                        assert_eq!(want.ok(), Some(count), "{op:?}");
                    }
                    Err(error) => {
                        let want = self.model.copy_range(from, to, len, Caller::Unprivileged, now);
                        assert_eq!(want.map_err(|e| e.errno()), Err(error.errno()), "{op:?}");
                    }
                    other => panic!("{op:?}: {other:?}"),
                }
            }
            Op::Seek { file, at, hole } => {
                let Some((ino, handle)) = pick(&self.open, file) else { return };
                self.seek(op, (ino, handle), u64::from(at), hole);
            }
            _ => unreachable!(),
        }
    }

    /// The machine knows holes to the byte, the model to the chunk.
    fn seek(&mut self, op: &Op, (ino, handle): (Ino, Handle), offset: u64, hole: bool) {
        let whence = if hole { k::Whence::Hole } else { k::Whence::Data };
        let node = self.nodes[&ino];
        let got = match self.world.ask(k::Operation::Seek { ino, handle, offset, whence }) {
            Ok(k::Reply::Offset(found)) => Ok(found),
            Err(error) => Err(error.errno()),
            other => panic!("{op:?}: {other:?}"),
        };
        let best = if hole {
            self.model.seek_hole(node, offset)
        } else {
            self.model.seek_data(node, offset)
        };
        let size = self.model.getattr(node).expect("open").size;
        match got {
            Ok(found) if hole => {
                assert!(found >= offset && best.is_ok_and(|best| found <= best), "{op:?}: {found}");
                let there = self.model.read(node, found, 1).expect("open");
                assert!(found == size || there == [0], "{op:?}: data at {found}");
            }
            Ok(found) => {
                let chunk = self.model.seek_data(node, found);
                assert_eq!(chunk, Ok(found), "{op:?}: a hole at {found}");
                let skipped = self.model.read(node, offset, (found - offset) as usize);
                assert!(skipped.expect("open").iter().all(|b| *b == 0), "{op:?}: {found}");
            }
            Err(errno) => {
                assert_eq!(errno, 6, "{op:?}");
                let rest = self.model.read(node, offset, size.saturating_sub(offset) as usize);
                assert!(rest.expect("open").iter().all(|b| *b == 0), "{op:?}: data was skipped");
            }
        }
    }

    fn set(&mut self, op: &Op) {
        let now = self.next_time();
        let (at, to) = (|t: i64| WallTime::new(t, 7), |t: i64| Time::new(t, 7));
        let mut asked = k::SetAttr::default();
        let mut set = SetAttr::default();
        let (ino, node) = match op {
            Op::Truncate { node, size, kill } => {
                let Some(found) = self.file(*node) else { return };
                asked.kill_suidgid = *kill;
                asked.size = Some(u64::from(*size));
                set.size = asked.size;
                found
            }
            Op::Times { node, atime, mtime } => {
                if atime.is_none() && mtime.is_none() {
                    return;
                }
                asked.atime = atime.map(|t| k::SetTime::At(at(t)));
                asked.mtime = mtime.map(|t| k::SetTime::At(at(t)));
                set.atime = atime.map_or(SetTime::Omit, |t| SetTime::Set(to(t)));
                set.mtime = mtime.map_or(SetTime::Omit, |t| SetTime::Set(to(t)));
                self.node(*node)
            }
            Op::Chmod { node, mode } => {
                asked.mode = Some(u32::from(*mode) & 0o7777);
                set.perm = Some(*mode & 0o7777);
                self.node(*node)
            }
            Op::Chown { node, uid } => {
                let (ino, node) = self.node(*node);
                let kind = self.model.getattr(node).expect("held").kind;
                asked.kill_suidgid = kind != Kind::Dir;
                asked.uid = Some(u32::from(*uid));
                set.uid = asked.uid;
                (ino, node)
            }
            _ => unreachable!(),
        };
        let who = if asked.kill_suidgid { Caller::Unprivileged } else { Caller::Privileged };
        self.model.setattr(node, &set, who, now).expect("setattr");
        let got = self.world.ask(k::Operation::SetAttr { ino, handle: None, set: asked });
        assert!(got.is_ok(), "{op:?}: {got:?}");
    }
}

const UMASK: u32 = 0o022;

/// An ACL, now and then of nobody, or one that says no more than permission bits.
fn acl(pick: u8) -> Vec<u8> {
    let perm = |shift: u8| u16::from(pick >> shift & 7);
    let none = u32::MAX;
    let mut entries = vec![(1, perm(0), none), (4, perm(1), none), (32, perm(2), none)];
    match pick % 4 {
        0 => {}
        1 => entries.insert(2, (16, perm(3), none)),
        _ => {
            entries.insert(1, (2, perm(4), 1000));
            entries.insert(3, (16, perm(5), none));
        }
    }
    if pick == 255 {
        entries.clear();
    }
    let mut out = vec![2, 0, 0, 0];
    for (tag, perm, id) in entries {
        out.extend(u16::to_le_bytes(tag));
        out.extend(perm.to_le_bytes());
        out.extend(id.to_le_bytes());
    }
    out
}
