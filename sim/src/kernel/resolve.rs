//! What a step of the plan means now: which inodes, names and handles there are to do it with.

use bytes::Bytes;
use std::collections::BTreeSet;
use vellum_core::id::{Handle, Ino};
use vellum_core::limits::FILE_SIZE_MAX;
use vellum_core::port::kernel::{
    OpenFlags, Operation, S_IFDIR, S_IFLNK, S_IFMT, SetAttr, SetTime, Whence, WriteFlags,
};
use vellum_core::time::WallTime;

use super::{Kernel, Known};
use crate::plan::{Step, UserTime};

/// A user's step made concrete.
#[derive(Clone, Debug)]
pub enum Concrete {
    /// Kernel requests, one after the other.
    Requests(Vec<Operation>),
    /// Open a directory, list it in pages, close it.
    List {
        /// Which one.
        ino: Ino,
        /// Bytes of a page.
        room: u32,
        /// With attributes.
        plus: bool,
    },
    /// A request that nobody answers.
    Silent(Operation),
    /// A signal for the n-th of the requests under way.
    Interrupt(u32),
    /// `info` of an inode.
    Info(Ino),
    /// `vellum compact`.
    Compact(Ino),
    /// `status`.
    Status,
    /// `sync`.
    Sync,
    /// Nothing for so many nanoseconds.
    Sleep(u64),
    /// There is nothing to do it with.
    Skip,
}

impl Kernel {
    /// Makes a step concrete, at the time `wall`.
    pub fn resolve(&mut self, step: &Step, wall: WallTime) -> Concrete {
        let one = |op| Concrete::Requests(vec![op]);
        match *step {
            Step::Lookup(spot) => {
                let (parent, name) = self.spot(spot);
                one(Operation::Lookup { parent, name })
            }
            Step::GetAttr(pick) => {
                let (ino, handle) = self.node_or_handle(pick);
                one(Operation::GetAttr { ino, handle })
            }
            Step::Chmod(pick, mode) => {
                self.set(pick, SetAttr { mode: Some(mode), ..SetAttr::default() })
            }
            Step::Chown(pick, uid, gid) => {
                let set = SetAttr { uid, gid, ..SetAttr::default() };
                let (ino, _) = self.node_or_handle(pick);
                let changes = uid.is_some() || gid.is_some();
                let kill_suidgid = changes && self.kind(ino) != S_IFDIR;
                self.set(pick, SetAttr { kill_suidgid, ..set })
            }
            Step::Truncate(pick, size) => {
                let Some(ino) = self.file(pick) else { return Concrete::Skip };
                let (mtime, kill_suidgid) = (truncate_stamp(pick), pick.is_multiple_of(5));
                let set = SetAttr { size: Some(size), mtime, kill_suidgid, ..SetAttr::default() };
                one(Operation::SetAttr { ino, handle: None, set })
            }
            Step::Utimes(pick, atime, mtime) => {
                let (atime, mtime) = (set_time(atime, wall), set_time(mtime, wall));
                self.set(pick, SetAttr { atime, mtime, ..SetAttr::default() })
            }
            Step::ReadLink(pick) => match self.of_kind(pick, S_IFLNK) {
                Some(ino) => one(Operation::ReadLink { ino }),
                None => Concrete::Skip,
            },
            Step::List(pick, room, plus) => Concrete::List { ino: self.dir(pick), room, plus },
            Step::FsyncDir(pick) => {
                let ino = self.dir(pick);
                Concrete::Requests(vec![
                    Operation::OpenDir { ino },
                    Operation::FsyncDir { ino, handle: Handle(0), datasync: false },
                    Operation::ReleaseDir { ino, handle: Handle(0) },
                ])
            }
            Step::StatFs => one(Operation::StatFs { ino: Ino::ROOT }),
            Step::Forget(pick) => self.forget(pick),
            Step::Interrupt(pick) => Concrete::Interrupt(pick),
            Step::Info(pick) if pick & 1 == 1 => {
                self.file(pick).map_or(Concrete::Skip, Concrete::Compact)
            }
            Step::Info(pick) => self.file(pick).map_or(Concrete::Skip, Concrete::Info),
            Step::Status => Concrete::Status,
            Step::Sync => Concrete::Sync,
            Step::Sleep(us) => Concrete::Sleep(u64::from(us) * 1_000),
            _ => self.resolve_change(step),
        }
    }

    fn resolve_change(&mut self, step: &Step) -> Concrete {
        let one = |op| Concrete::Requests(vec![op]);
        match *step {
            Step::Create(spot, mode, flags) => {
                let (parent, name) = self.spot(spot);
                one(Operation::Create {
                    parent,
                    name,
                    mode,
                    umask: umask(spot.pick),
                    flags: OpenFlags(flags | 0o100 | killing(flags, spot.pick)),
                })
            }
            Step::MkNod(spot, mode) => {
                let (parent, name) = self.spot(spot);
                let rdev = if matches!(mode & S_IFMT, 0o020_000 | 0o060_000) { 0x0801 } else { 0 };
                one(Operation::MkNod { parent, name, mode, umask: umask(spot.pick), rdev })
            }
            Step::MkDir(spot, mode) => {
                let (parent, name) = self.spot(spot);
                let (mode, umask) = (mode & 0o1777, umask(spot.pick));
                one(Operation::MkDir { parent, name, mode, umask })
            }
            Step::Symlink(spot, len) => {
                let (parent, name) = self.spot(spot);
                one(Operation::Symlink {
                    parent,
                    name,
                    target: Bytes::from(vec![b't'; usize::from(len)]),
                })
            }
            Step::Link(pick, spot) => {
                let ino = self.node(pick);
                let (new_parent, new_name) = self.spot(spot);
                one(Operation::Link { ino, new_parent, new_name })
            }
            Step::Unlink(spot) => {
                let (parent, name) = self.spot(spot);
                one(Operation::Unlink { parent, name })
            }
            Step::RmDir(spot) => {
                let (parent, name) = self.spot(spot);
                one(Operation::RmDir { parent, name })
            }
            Step::Rename(from, to, flags) => {
                let (parent, name) = self.spot(from);
                let (new_parent, new_name) = self.spot(to);
                one(Operation::Rename { parent, name, new_parent, new_name, flags })
            }
            Step::TmpFile(pick, mode, flags) => {
                let (parent, umask) = (self.dir(pick), umask(pick));
                one(Operation::TmpFile { parent, mode, umask, flags: OpenFlags(flags) })
            }
            Step::Open(pick, flags) => match self.file(pick) {
                Some(ino) => one(Operation::Open { ino, flags: OpenFlags(flags) }),
                None => Concrete::Skip,
            },
            Step::SetXattr(..)
            | Step::GetXattr(..)
            | Step::ListXattr(..)
            | Step::RemoveXattr(..) => self.resolve_xattr(step),
            _ => self.resolve_io(step),
        }
    }

    fn resolve_io(&mut self, step: &Step) -> Concrete {
        let one = |op| Concrete::Requests(vec![op]);
        match *step {
            Step::Read(pick, offset, len) => match self.handle(pick, |f| f.0 & 3 != 1) {
                Some((handle, open)) => one(Operation::Read { ino: open.ino, handle, offset, len }),
                None => self.resolve_change(&Step::Open(pick, 2)),
            },
            Step::Write(pick, offset, len, from_cache) => {
                match self.handle(pick, OpenFlags::writes) {
                    Some((handle, open)) => {
                        // Without locks a write may or may not meet a chmod that comes at the same time.
                        let flags = WriteFlags {
                            from_cache,
                            kill_suidgid: self.locking && pick.is_multiple_of(2),
                            append: open.flags.appends(),
                        };
                        // The kernel cuts a write at the largest file size.
                        let offset = offset.min(FILE_SIZE_MAX - 1);
                        let len = u64::from(len).min(FILE_SIZE_MAX - offset) as u32;
                        let data = self.payload(len);
                        one(Operation::Write { ino: open.ino, handle, offset, data, flags })
                    }
                    None => self.resolve_change(&Step::Open(pick, 2)),
                }
            }
            Step::Allocate(pick, offset, len, mode) => match self.handle(pick, OpenFlags::writes) {
                Some((handle, open)) => {
                    let (ino, len) = (open.ino, u64::from(len));
                    one(Operation::Fallocate { ino, handle, offset, len, mode })
                }
                None => self.resolve_change(&Step::Open(pick, 2)),
            },
            Step::Copy(pick, offset, to, to_offset, len) => {
                let from = self.handle(pick, |f| f.0 & 3 != 1);
                let to = self.handle(to, |f| f.writes() && !f.appends());
                let (Some((handle, from)), Some((to_handle, to))) = (from, to) else {
                    return self.resolve_change(&Step::Open(pick, 2));
                };
                one(Operation::CopyRange {
                    ino: from.ino,
                    handle,
                    offset,
                    to_ino: to.ino,
                    to_handle,
                    to_offset,
                    len: u64::from(len),
                })
            }
            Step::Seek(pick, offset, hole) => match self.handle(pick, |_| true) {
                Some((handle, open)) => {
                    let whence = if hole { Whence::Hole } else { Whence::Data };
                    one(Operation::Seek { ino: open.ino, handle, offset, whence })
                }
                None => Concrete::Skip,
            },
            Step::Fsync(pick, datasync) => match self.handle(pick, |_| true) {
                Some((handle, open)) => one(Operation::Fsync { ino: open.ino, handle, datasync }),
                None => Concrete::Skip,
            },
            Step::Close(pick, last) => match self.handle(pick, |_| true) {
                Some((handle, open)) if !last => one(Operation::Flush { ino: open.ino, handle }),
                Some((handle, open)) if open.busy == 0 => {
                    self.handles.get_mut(&handle).expect("just found").closing = true;
                    let ino = open.ino;
                    Concrete::Requests(vec![
                        Operation::Flush { ino, handle },
                        Operation::Release { ino, handle },
                    ])
                }
                _ => Concrete::Skip,
            },
            _ => Concrete::Skip,
        }
    }

    /// A SETATTR. Linux does not send one that sets nothing.
    fn set(&self, pick: u32, set: SetAttr) -> Concrete {
        let (ino, handle) = self.node_or_handle(pick);
        if set == SetAttr::default() {
            return Concrete::Requests(vec![Operation::GetAttr { ino, handle }]);
        }
        Concrete::Requests(vec![Operation::SetAttr { ino, handle, set }])
    }

    fn forget(&mut self, pick: u32) -> Concrete {
        let parents: BTreeSet<Ino> =
            self.names.iter().filter(|(_, to)| to.is_some()).map(|((dir, _), _)| *dir).collect();
        let free = |(ino, n): &(&Ino, &Known)| {
            **ino != Ino::ROOT
                && n.lookups > 0
                && n.pins == 0
                && n.handles == 0
                && !parents.contains(ino)
        };
        let candidates: Vec<(Ino, u64)> =
            self.nodes.iter().filter(free).map(|(i, n)| (*i, n.lookups)).collect();
        if candidates.is_empty() {
            return Concrete::Skip;
        }
        let (ino, count) = candidates[pick as usize % candidates.len()];
        self.nodes.remove(&ino);
        self.names.retain(|(dir, _), to| *dir != ino && *to != Some(ino));
        Concrete::Silent(Operation::Forget { nodes: vec![(ino, count)] })
    }
}

fn umask(pick: u32) -> u32 {
    [0, 0o022, 0o077][pick as usize % 3]
}

/// Some who truncate by opening may not keep set-id bits.
fn killing(flags: u32, pick: u32) -> u32 {
    let truncates = OpenFlags(flags).truncates();
    if truncates && pick.is_multiple_of(2) { OpenFlags::KILL_SUIDGID } else { 0 }
}

/// ftruncate(2) and truncate(2) of a new size: Linux sends the time along for the former.
fn truncate_stamp(pick: u32) -> Option<SetTime> {
    pick.is_multiple_of(4).then_some(SetTime::Now)
}

fn set_time(time: UserTime, wall: WallTime) -> Option<SetTime> {
    match time {
        UserTime::Omit => None,
        UserTime::Now => Some(SetTime::Now),
        UserTime::At(secs, nanos) => Some(SetTime::At(WallTime::new(secs, nanos))),
        UserTime::Ahead(secs) => {
            Some(SetTime::At(WallTime::new(wall.secs + i64::from(secs) + 60, wall.nanos)))
        }
    }
}
