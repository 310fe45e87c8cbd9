//! Kernel requests in the words of the model: how an operation changes it, and which errors it may give.
//!
//! Owns: the mapping between inode numbers and the model's nodes. Never does: deciding about order.

use std::collections::BTreeMap;
use vellum_core::id::Ino;
use vellum_core::limits::INLINE_MAX;
use vellum_core::port::kernel::{
    self, Operation, Reply, S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFSOCK, S_ISGID,
    S_ISUID,
};
use vellum_core::time::WallTime;
use vellum_model::{
    Allocate, Caller, Error, Fs, Kind, New, NodeId, RenameFlags, SetAttr, SetTime, Time, XattrMode,
};

mod allowed;

/// The model with the names that the filesystem gave to its nodes.
#[derive(Clone, Debug)]
pub struct Mirror {
    /// The model.
    pub fs: Fs,
    /// Which node an inode number means.
    pub nodes: BTreeMap<Ino, NodeId>,
    /// What the model has for a hole is one. Whoever looks at a volume cannot tell zeros that were written.
    pub holes_known: bool,
}

/// How much a volume holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes.
    pub bytes: u64,
    /// Inodes.
    pub inodes: u64,
    /// Those of the bytes that extended attributes take.
    pub xattrs: u64,
    /// Bytes of files that may lie or have lain inline, where holes count.
    pub inline: u64,
}

/// What a successful change did.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// The node it made.
    pub made: Option<NodeId>,
    /// Nodes that may have got other attributes, the made one included.
    pub touched: Vec<NodeId>,
    /// Bytes written, and where.
    pub written: Option<(u64, u64)>,
}

impl Mirror {
    /// The node of an inode number.
    pub fn node(&self, ino: Ino) -> Result<NodeId, Error> {
        self.nodes.get(&ino).copied().ok_or(Error::Stale)
    }

    /// The inode number of a node.
    pub fn ino(&self, node: NodeId) -> Option<Ino> {
        self.nodes.iter().find(|(_, n)| **n == node).map(|(ino, _)| *ino)
    }

    /// What all inodes that were ever there take at most.
    pub fn usage_at_most(&self) -> Usage {
        let (mut bytes, mut xattrs, mut inline) = (0, 0, 0);
        for node in self.nodes.values() {
            let size = self.fs.getattr(*node).map_or(0, |attr| attr.size);
            inline += size.min(INLINE_MAX);
            bytes += self.fs.allocated(*node).unwrap_or(0);
            for name in self.fs.listxattr(*node).unwrap_or_default() {
                let value = self.fs.getxattr(*node, &name).unwrap_or_default();
                xattrs += (name.len() + value.len()) as u64;
            }
        }
        Usage { bytes: bytes + xattrs, inodes: self.fs.node_count() as u64, xattrs, inline }
    }

    /// Makes the change of a request that succeeded and answered with `ino`, stamped with `now`.
    ///
    /// # Errors
    /// Why it cannot have succeeded in this state.
    pub fn apply_answered(
        &mut self,
        op: &Operation,
        by: kernel::Caller,
        ino: Option<Ino>,
        now: Time,
    ) -> Result<Change, Error> {
        // A CREATE that found a file opened it under its name and emptied it later, whatever its name is then.
        match (op, ino.and_then(|ino| self.nodes.get(&ino))) {
            (Operation::Create { flags, .. }, Some(found)) => {
                self.open_existing(*found, *flags, now)
            }
            _ => self.apply(op, by, now),
        }
    }

    /// Makes the change of a request, stamped with `now`.
    ///
    /// # Errors
    /// Why it cannot succeed in this state.
    pub fn apply(
        &mut self,
        op: &Operation,
        by: kernel::Caller,
        now: Time,
    ) -> Result<Change, Error> {
        let new = |mode: u32, umask: u32| New {
            perm: (mode & 0o7777) as u16,
            umask: umask as u16,
            uid: by.uid,
            gid: by.gid,
        };
        let made = match op {
            Operation::Create { parent, name, mode, umask, flags } => {
                let dir = self.node(*parent)?;
                if let Some(found) = self.found(dir, name)? {
                    return self.open_existing(found, *flags, now);
                }
                self.fs.create(dir, name, new(*mode, *umask), now)?
            }
            Operation::MkNod { parent, name, mode, umask, rdev } => {
                let (dir, new) = (self.node(*parent)?, new(*mode, *umask));
                self.fs.mknod(dir, name, kind(*mode), u64::from(*rdev), new, now)?
            }
            Operation::MkDir { parent, name, mode, umask } => {
                let dir = self.node(*parent)?;
                self.fs.mkdir(dir, name, new(*mode, *umask), now)?
            }
            Operation::TmpFile { parent, mode, umask, flags } => {
                let dir = self.node(*parent)?;
                self.fs.tmpfile(dir, !flags.exclusive(), new(*mode, *umask), now)?
            }
            Operation::Symlink { parent, name, target } => {
                let dir = self.node(*parent)?;
                self.fs.symlink(dir, name, target, new(0o777, 0), now)?
            }
            _ => return self.change(op, by, now),
        };
        let parent = crate::kernel::targets(op).0[0].ok_or(Error::Invalid)?;
        self.fs.hold(made.node)?;
        Ok(Change {
            made: Some(made.node),
            touched: vec![made.node, self.node(parent)?],
            written: None,
        })
    }

    fn change(&mut self, op: &Operation, by: kernel::Caller, now: Time) -> Result<Change, Error> {
        // Where the kernel does not tell who keeps set-id bits.
        let caller = if by.uid == 0 { Caller::Privileged } else { Caller::Unprivileged };
        let mut touched = Vec::new();
        let mut written = None;
        match op {
            Operation::Link { ino, new_parent, new_name } => {
                let (node, dir) = (self.node(*ino)?, self.node(*new_parent)?);
                self.fs.link(node, dir, new_name, now)?;
                touched = vec![node, dir];
            }
            Operation::Unlink { parent, name } => {
                let dir = self.node(*parent)?;
                touched = vec![dir];
                touched.extend(self.found(dir, name)?);
                self.fs.unlink(dir, name, now)?;
            }
            Operation::RmDir { parent, name } => {
                let dir = self.node(*parent)?;
                touched = vec![dir];
                touched.extend(self.found(dir, name)?);
                self.fs.rmdir(dir, name, now)?;
            }
            Operation::Rename { parent, name, new_parent, new_name, flags } => {
                let (from, to) = (self.node(*parent)?, self.node(*new_parent)?);
                touched = vec![from, to];
                touched.extend(self.found(from, name)?);
                touched.extend(self.found(to, new_name)?);
                let flags = rename_flags(*flags).ok_or(Error::Invalid)?;
                self.fs.rename(from, name, to, new_name, flags, now)?;
            }
            Operation::SetAttr { ino, set, .. } => {
                let node = self.node(*ino)?;
                let who = if set.kill_suidgid { Caller::Unprivileged } else { Caller::Privileged };
                self.fs.setattr(node, &set_attr(set), who, now)?;
                touched.push(node);
            }
            Operation::Write { ino, offset, data, flags, .. } => {
                let node = self.node(*ino)?;
                let who =
                    if flags.kill_suidgid { Caller::Unprivileged } else { Caller::Privileged };
                let at = if flags.append && !flags.from_cache {
                    self.fs.getattr(node)?.size
                } else {
                    *offset
                };
                let count = self.fs.write(node, at, data, who, now)?;
                touched.push(node);
                written = Some((at, count as u64));
            }
            Operation::SetXattr { ino, name, value, flags, kill_sgid } => {
                let node = self.node(*ino)?;
                let mode = match flags {
                    1 => XattrMode::Create,
                    2 => XattrMode::Replace,
                    _ => XattrMode::Any,
                };
                let who = if *kill_sgid { Caller::Unprivileged } else { Caller::Privileged };
                self.fs.setxattr(node, name, value, mode, who, now)?;
                touched.push(node);
            }
            Operation::RemoveXattr { ino, name } => {
                let node = self.node(*ino)?;
                self.fs.removexattr(node, name, now)?;
                touched.push(node);
            }
            Operation::Fallocate { ino, offset, len, mode, .. } => {
                let node = self.node(*ino)?;
                let mode = allocate(*mode).ok_or(Error::NotSupported)?;
                self.fs.allocate(node, mode, *offset, *len, caller, now)?;
                touched.push(node);
            }
            Operation::CopyRange { ino, offset, to_ino, to_offset, len, .. } => {
                let (from, to) = (self.node(*ino)?, self.node(*to_ino)?);
                let (from, to) = ((from, *offset), (to, *to_offset));
                let count = self.fs.copy_range(from, to, *len, caller, now)?;
                if count > 0 {
                    touched.push(to.0);
                }
                written = Some((*to_offset, count));
            }
            _ => return Err(Error::NotSupported),
        }
        touched.sort_unstable();
        touched.dedup();
        Ok(Change { made: None, touched, written })
    }

    /// CREATE of a name that is taken: O_EXCL fails, a file is opened and perhaps emptied.
    fn open_existing(
        &mut self,
        found: NodeId,
        flags: kernel::OpenFlags,
        now: Time,
    ) -> Result<Change, Error> {
        if flags.exclusive() {
            return Err(Error::Exists);
        }
        match self.fs.getattr(found)?.kind {
            Kind::File => {}
            Kind::Dir => return Err(Error::IsDir),
            _ => return Err(Error::Exists),
        }
        if flags.truncates() {
            let set = SetAttr { size: Some(0), mtime: SetTime::Now, ..SetAttr::default() };
            let who = if flags.kills_suidgid() { Caller::Unprivileged } else { Caller::Privileged };
            self.fs.setattr(found, &set, who, now)?;
        }
        Ok(Change { made: None, touched: vec![found], written: None })
    }

    /// What a name names; `.` and `..` are never asked for.
    pub fn found(&self, dir: NodeId, name: &[u8]) -> Result<Option<NodeId>, Error> {
        match self.fs.lookup(dir, name) {
            Ok(attr) => Ok(Some(attr.node)),
            Err(Error::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The names of an inode's attributes as listxattr gives them to a caller.
    pub fn xattr_list(&self, ino: Ino, by: kernel::Caller) -> Result<Vec<u8>, Error> {
        let names = self.fs.listxattr(self.node(ino)?)?.into_iter();
        let shown = names.filter(|name| by.uid == 0 || !name.starts_with(b"trusted."));
        Ok(shown.flat_map(|name| name.into_iter().chain([0])).collect())
    }

    /// The same state, but that data of an inode changed, whatever data.
    pub fn modify(&mut self, ino: Ino) {
        let Ok(node) = self.node(ino) else { return };
        let Ok(attr) = self.fs.getattr(node) else { return };
        let (mode, by) = (Allocate::Keep, Caller::Privileged);
        self.fs.allocate(node, mode, 0, 1, by, attr.ctime).expect("a file");
    }

    /// The same state, but that a write took from an inode what a write takes before it takes effect itself;
    /// `group`: a set-group-id bit, too.
    pub fn shed(&mut self, ino: Ino, group: bool) {
        let Ok(node) = self.node(ino) else { return };
        let Ok(attr) = self.fs.getattr(node) else { return };
        let bits = if group { S_ISUID | S_ISGID } else { S_ISUID };
        // A change of owner takes capabilities.
        let perm = Some(attr.perm & !(bits as u16));
        let set = SetAttr { chown: true, perm, ..SetAttr::default() };
        self.fs.setattr(node, &set, Caller::Privileged, attr.ctime).expect("the node is there");
    }
}

/// A request as it was carried out: a copy may end early.
pub fn as_answered(op: &Operation, reply: &Reply) -> Operation {
    let mut done = op.clone();
    if let (Operation::CopyRange { len, .. }, Reply::Copied(count)) = (&mut done, reply) {
        *len = *count;
    }
    done
}

/// FALLOC_FL_* bits in the model's words.
fn allocate(mode: u32) -> Option<Allocate> {
    match mode {
        0 => Some(Allocate::Extend),
        1 => Some(Allocate::Keep),
        3 => Some(Allocate::PunchHole),
        0x10 => Some(Allocate::ZeroExtend),
        0x11 => Some(Allocate::ZeroKeep),
        _ => None,
    }
}

/// A core time in the model's words.
pub fn time(wall: WallTime) -> Time {
    Time::new(wall.secs, wall.nanos)
}

/// Type bits in the model's words.
pub fn kind(mode: u32) -> Kind {
    match mode & S_IFMT {
        S_IFDIR => Kind::Dir,
        S_IFLNK => Kind::Symlink,
        S_IFIFO => Kind::Fifo,
        S_IFSOCK => Kind::Socket,
        S_IFCHR => Kind::CharDev,
        S_IFBLK => Kind::BlockDev,
        _ => Kind::File,
    }
}

fn exceeds(len: usize, room: u32) -> Option<Error> {
    (room > 0 && len > room as usize).then_some(Error::Range)
}

fn rename_flags(flags: u32) -> Option<RenameFlags> {
    match flags {
        0 => Some(RenameFlags::Replace),
        1 => Some(RenameFlags::NoReplace),
        2 => Some(RenameFlags::Exchange),
        _ => None,
    }
}

fn set_attr(set: &kernel::SetAttr) -> SetAttr {
    let set_time = |given: Option<kernel::SetTime>| match given {
        None => SetTime::Omit,
        Some(kernel::SetTime::Now) => SetTime::Now,
        Some(kernel::SetTime::At(at)) => SetTime::Set(Time::new(at.secs, at.nanos)),
    };
    SetAttr {
        perm: set.mode.map(|m| (m & 0o7777) as u16),
        uid: set.uid,
        gid: set.gid,
        size: set.size,
        atime: set_time(set.atime),
        mtime: set_time(set.mtime),
        chown: false,
    }
}
