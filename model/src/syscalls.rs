//! System calls on the model: paths and open files on top of [`Fs`], as the kernel's VFS puts them.
//!
//! Owns: the order of checks that Linux makes before it asks a filesystem, the table of open files, and
//! access times of what a call reads or follows.

use std::collections::BTreeMap;

use crate::allowed::Call;
use crate::attr::{Caller, Kind, New, NodeId, SetAttr, SetTime, Time};
use crate::error::{Error, Result};
use crate::fs::Fs;
use crate::op::{Op, OpenFlags, Outcome};
use crate::path::{Last, Place};
use crate::rename::RenameFlags;

/// A process with one filesystem as its root.
#[derive(Clone, Debug)]
pub struct Syscalls {
    /// The filesystem.
    pub fs: Fs,
    /// Owner of what is made. Changing it does not make the caller less privileged.
    pub uid: u32,
    /// Group of what is made.
    pub gid: u32,
    /// Whether its writes keep set-id bits.
    pub caller: Caller,
    files: BTreeMap<u8, OpenFile>,
}

#[derive(Clone, Debug)]
struct OpenFile {
    node: NodeId,
    flags: OpenFlags,
}

impl Syscalls {
    /// A privileged process with user and group 0, umask 0 and no open files.
    pub fn new(fs: Fs) -> Self {
        Self { fs, uid: 0, gid: 0, caller: Caller::Privileged, files: BTreeMap::new() }
    }

    /// Does one call at `now`.
    pub fn apply(&mut self, op: &Op, now: Time) -> Outcome {
        self.run(op, now).unwrap_or_else(Outcome::Failed)
    }

    /// The errors that are right for this call in this state; none if it must succeed.
    pub fn allowed_errors(&self, op: &Op, now: Time) -> Vec<Error> {
        match self.with_call(op, |fs, call| fs.allowed_errors(&call)) {
            Some(Ok(errors)) => errors,
            Some(Err(error)) => vec![error],
            None => self.clone().apply(op, now).error().into_iter().collect(),
        }
    }

    /// The node behind an open slot.
    pub fn open_node(&self, slot: u8) -> Option<NodeId> {
        self.files.get(&slot).map(|file| file.node)
    }

    fn run(&mut self, op: &Op, now: Time) -> Result<Outcome> {
        match op {
            Op::Open { slot, path, flags, perm } => self.open(*slot, path, *flags, *perm, now),
            Op::Close { slot } => self.close(*slot),
            Op::Pread { .. }
            | Op::Pwrite { .. }
            | Op::Fstat { .. }
            | Op::Ftruncate { .. }
            | Op::Fallocate { .. }
            | Op::SeekData { .. }
            | Op::SeekHole { .. } => self.run_on_file(op, now),
            Op::Mkdir { .. }
            | Op::Mknod { .. }
            | Op::Rmdir { .. }
            | Op::Unlink { .. }
            | Op::Rename { .. }
            | Op::Link { .. }
            | Op::Symlink { .. } => self.run_on_names(op, now),
            _ => self.run_on_node(op, now),
        }
    }

    fn open(
        &mut self,
        slot: u8,
        path: &[u8],
        flags: OpenFlags,
        perm: u16,
        now: Time,
    ) -> Result<Outcome> {
        self.files.remove(&slot).map_or(Ok(()), |file| self.fs.release(file.node))?;
        if flags.create && flags.directory {
            return Err(Error::Invalid);
        }
        let exclusive = flags.create && flags.exclusive;
        let place = self.resolve(path, !flags.no_follow && !exclusive, now)?;
        let node = match place.node {
            None if !flags.create => return Err(Error::NotFound),
            None => self.open_new(&place, perm, now)?,
            Some(_) if exclusive => return Err(Error::Exists),
            Some(node) => {
                self.check_open(&place, node, flags)?;
                if flags.truncate {
                    let set = SetAttr { size: Some(0), mtime: SetTime::Now, ..SetAttr::default() };
                    self.fs.setattr(node, &set, self.caller, now)?;
                }
                node
            }
        };
        self.fs.open(node)?;
        self.files.insert(slot, OpenFile { node, flags });
        Ok(Outcome::Done)
    }

    fn open_new(&mut self, place: &Place, perm: u16, now: Time) -> Result<NodeId> {
        if place.wants_dir {
            return Err(Error::IsDir);
        }
        let new = self.new_node(perm);
        Ok(self.fs.create(place.dir, name_of(place)?, new, now)?.node)
    }

    fn check_open(&self, place: &Place, node: NodeId, flags: OpenFlags) -> Result<()> {
        let kind = self.fs.getattr(node)?.kind;
        match kind {
            Kind::Symlink if flags.directory => Err(Error::NotDir),
            Kind::Symlink => Err(Error::Loop),
            Kind::Dir if flags.create || flags.write || flags.truncate => Err(Error::IsDir),
            Kind::Dir => Ok(()),
            _ if flags.directory || place.wants_dir => Err(Error::NotDir),
            Kind::File => Ok(()),
            // What lies behind a special file is the kernel's, not the filesystem's.
            _ => Err(Error::NoAddress),
        }
    }

    fn close(&mut self, slot: u8) -> Result<Outcome> {
        let file = self.files.remove(&slot).ok_or(Error::BadHandle)?;
        self.fs.release(file.node)?;
        Ok(Outcome::Done)
    }

    fn run_on_file(&mut self, op: &Op, now: Time) -> Result<Outcome> {
        match op {
            Op::Pread { slot, offset, len } => {
                let node = self.readable(*slot)?;
                let bytes = self.fs.read(node, *offset, *len)?;
                if *len > 0 {
                    self.fs.touch_atime(node, now)?;
                }
                Ok(Outcome::Bytes(bytes))
            }
            Op::Pwrite { slot, offset, data } => {
                let (node, flags) = self.writable(*slot, Error::BadHandle)?;
                let offset = if flags.append { self.fs.getattr(node)?.size } else { *offset };
                let count = self.fs.write(node, offset, data, self.caller, now)?;
                Ok(Outcome::Count(count as u64))
            }
            Op::Fstat { slot } => Ok(Outcome::Attr(self.fs.getattr(self.file(*slot)?.node)?)),
            Op::Ftruncate { slot, size } => {
                let (node, _) = self.writable(*slot, Error::Invalid)?;
                let set = SetAttr { size: Some(*size), mtime: SetTime::Now, ..SetAttr::default() };
                self.fs.setattr(node, &set, self.caller, now)?;
                Ok(Outcome::Done)
            }
            Op::Fallocate { slot, mode, offset, len } => {
                let file = self.file(*slot)?;
                if *len == 0 {
                    return Err(Error::Invalid);
                }
                if !file.flags.write {
                    return Err(Error::BadHandle);
                }
                self.fs.allocate(file.node, *mode, *offset, *len, self.caller, now)?;
                Ok(Outcome::Done)
            }
            Op::SeekData { slot, offset } => {
                Ok(Outcome::Count(self.fs.seek_data(self.file(*slot)?.node, *offset)?))
            }
            Op::SeekHole { slot, offset } => {
                Ok(Outcome::Count(self.fs.seek_hole(self.file(*slot)?.node, *offset)?))
            }
            _ => unreachable!("dispatched by run"),
        }
    }

    fn run_on_names(&mut self, op: &Op, now: Time) -> Result<Outcome> {
        self.follow_parents(op, now)?;
        if matches!(op, Op::Symlink { target, .. } if target.is_empty()) {
            return Err(Error::NotFound);
        }
        let made = self.with_call(op, |fs, call| fs.refuse(&call).map(|()| Change::from(&call)));
        let change = made.expect("a change of names")??;
        match (op, change) {
            (Op::Mkdir { perm, .. }, Change::At(dir, name)) => {
                self.fs.mkdir(dir, &name, self.new_node(*perm), now)?;
            }
            (Op::Mknod { kind, perm, rdev, .. }, Change::At(dir, name)) => {
                self.fs.mknod(dir, &name, *kind, *rdev, self.new_node(*perm), now)?;
            }
            (Op::Symlink { target, .. }, Change::At(dir, name)) => {
                self.fs.symlink(dir, &name, target, self.new_node(0o777), now)?;
            }
            (Op::Link { .. }, Change::Link(node, dir, name)) => {
                self.fs.link(node, dir, &name, now)?;
            }
            (Op::Unlink { .. }, Change::At(dir, name)) => self.fs.unlink(dir, &name, now)?,
            (Op::Rmdir { .. }, Change::At(dir, name)) => self.fs.rmdir(dir, &name, now)?,
            (Op::Rename { flags, .. }, Change::Rename(from, old, to, new)) => {
                self.fs.rename(from, &old, to, &new, *flags, now)?;
            }
            _ => unreachable!("dispatched by run"),
        }
        Ok(Outcome::Done)
    }

    /// Everything that names one existing node and changes no name.
    fn run_on_node(&mut self, op: &Op, now: Time) -> Result<Outcome> {
        if let Op::Utimens { atime: SetTime::Omit, mtime: SetTime::Omit, .. } = op {
            // Linux does not even look at the path.
            return Ok(Outcome::Done);
        }
        let (path, follow) = target_of(op);
        let node = self.resolve_existing(path, follow, now)?;
        match op {
            Op::Stat { .. } | Op::Lstat { .. } => return Ok(Outcome::Attr(self.fs.getattr(node)?)),
            Op::Readlink { .. } => {
                let target = self.fs.readlink(node)?;
                self.fs.touch_atime(node, now)?;
                return Ok(Outcome::Bytes(target));
            }
            Op::Readdir { .. } => {
                let entries = self.fs.readdir(node)?;
                self.fs.touch_atime(node, now)?;
                return Ok(Outcome::Entries(entries));
            }
            Op::Getxattr { name, .. } => return Ok(Outcome::Bytes(self.fs.getxattr(node, name)?)),
            Op::Listxattr { .. } => return Ok(Outcome::Names(self.fs.listxattr(node)?)),
            Op::Setxattr { name, value, mode, .. } => {
                self.fs.setxattr(node, name, value, *mode, now)?
            }
            Op::Removexattr { name, .. } => self.fs.removexattr(node, name, now)?,
            _ => {
                self.fs.setattr(node, &set_of(op), self.caller, now)?;
            }
        }
        Ok(Outcome::Done)
    }

    /// Resolves what a change of names is about and hands it on as a [`Call`]; None for other calls.
    fn with_call<T>(&self, op: &Op, then: impl FnOnce(&Fs, Call<'_>) -> T) -> Option<Result<T>> {
        let fs = &self.fs;
        let at = |path: &[u8]| fs.resolve(path, false, &mut Vec::new());
        let result = match op {
            Op::Mkdir { path, .. } => at(path).and_then(|place| {
                let (parent, name) = (place.dir, free_name(&place, true)?);
                Ok(then(fs, Call::Mkdir { parent, name }))
            }),
            Op::Mknod { kind: Kind::Dir, .. } => Err(Error::Permission),
            Op::Mknod { kind: Kind::Symlink, .. } => Err(Error::Invalid),
            Op::Mknod { path, .. } | Op::Symlink { path, .. } => at(path).and_then(|place| {
                let (parent, name) = (place.dir, free_name(&place, false)?);
                Ok(then(fs, Call::Make { parent, name }))
            }),
            Op::Link { from, to } => at(from).and_then(|source| {
                let node = source.found()?;
                if source.wants_dir && !fs.is_dir(node) {
                    return Err(Error::NotDir);
                }
                let place = at(to)?;
                let (parent, name) = (place.dir, free_name(&place, false)?);
                Ok(then(fs, Call::Link { node, parent, name }))
            }),
            Op::Unlink { path } => at(path).and_then(|place| {
                let (parent, name) = (place.dir, name_or(&place, Error::IsDir)?);
                if place.wants_dir {
                    let is_dir = fs.is_dir(place.found()?);
                    return Err(if is_dir { Error::IsDir } else { Error::NotDir });
                }
                Ok(then(fs, Call::Unlink { parent, name }))
            }),
            Op::Rmdir { path } => at(path).and_then(|place| {
                let name = match &place.last {
                    Last::Name(name) => name,
                    Last::Dot => return Err(Error::Invalid),
                    Last::DotDot => return Err(Error::NotEmpty),
                    Last::Root => return Err(Error::Busy),
                };
                Ok(then(fs, Call::Rmdir { parent: place.dir, name }))
            }),
            Op::Rename { from, to, flags } => at(from).and_then(|source| {
                let place = at(to)?;
                let old = name_or(&source, Error::Busy)?;
                let taken =
                    if *flags == RenameFlags::NoReplace { Error::Exists } else { Error::Busy };
                let new = name_or(&place, taken)?;
                let moves_file = source.node.is_some_and(|node| !fs.is_dir(node));
                if moves_file && (source.wants_dir || place.wants_dir) {
                    return Err(Error::NotDir);
                }
                Ok(then(
                    fs,
                    Call::Rename { from: source.dir, old, to: place.dir, new, flags: *flags },
                ))
            }),
            _ => return None,
        };
        Some(result)
    }

    /// Access times of the links on the way of a change of names. The errors come again later.
    fn follow_parents(&mut self, op: &Op, now: Time) -> Result<()> {
        let mut followed = Vec::new();
        let paths: [Option<&[u8]>; 2] = match op {
            Op::Rename { from, to, .. } | Op::Link { from, to } => [Some(from), Some(to)],
            Op::Mkdir { path, .. }
            | Op::Mknod { path, .. }
            | Op::Rmdir { path }
            | Op::Unlink { path }
            | Op::Symlink { path, .. } => [Some(path), None],
            _ => [None, None],
        };
        for path in paths.into_iter().flatten() {
            if self.fs.resolve(path, false, &mut followed).is_err() {
                break;
            }
        }
        followed.into_iter().try_for_each(|node| self.fs.touch_atime(node, now))
    }

    fn resolve(&mut self, path: &[u8], follow: bool, now: Time) -> Result<Place> {
        let mut followed = Vec::new();
        let place = self.fs.resolve(path, follow, &mut followed);
        followed.into_iter().try_for_each(|node| self.fs.touch_atime(node, now))?;
        place
    }

    fn resolve_existing(&mut self, path: &[u8], follow: bool, now: Time) -> Result<NodeId> {
        let place = self.resolve(path, follow, now)?;
        let node = place.found()?;
        if place.wants_dir && !self.fs.is_dir(node) {
            return Err(Error::NotDir);
        }
        Ok(node)
    }

    fn new_node(&self, perm: u16) -> New {
        New { perm, uid: self.uid, gid: self.gid }
    }

    fn file(&self, slot: u8) -> Result<&OpenFile> {
        self.files.get(&slot).ok_or(Error::BadHandle)
    }

    fn readable(&self, slot: u8) -> Result<NodeId> {
        let file = self.file(slot)?;
        if file.flags.write && !file.flags.read {
            return Err(Error::BadHandle);
        }
        Ok(file.node)
    }

    fn writable(&self, slot: u8, otherwise: Error) -> Result<(NodeId, OpenFlags)> {
        let file = self.file(slot)?;
        if file.flags.write { Ok((file.node, file.flags)) } else { Err(otherwise) }
    }
}

/// What a checked [`Call`] is about, owned.
enum Change {
    At(NodeId, Vec<u8>),
    Link(NodeId, NodeId, Vec<u8>),
    Rename(NodeId, Vec<u8>, NodeId, Vec<u8>),
}

impl From<&Call<'_>> for Change {
    fn from(call: &Call<'_>) -> Self {
        match *call {
            Call::Make { parent, name }
            | Call::Mkdir { parent, name }
            | Call::Unlink { parent, name }
            | Call::Rmdir { parent, name } => Self::At(parent, name.to_vec()),
            Call::Link { node, parent, name } => Self::Link(node, parent, name.to_vec()),
            Call::Rename { from, old, to, new, .. } => {
                Self::Rename(from, old.to_vec(), to, new.to_vec())
            }
        }
    }
}

fn name_of(place: &Place) -> Result<&[u8]> {
    name_or(place, Error::Exists)
}

fn name_or(place: &Place, otherwise: Error) -> Result<&[u8]> {
    match &place.last {
        Last::Name(name) => Ok(name),
        Last::Dot | Last::DotDot | Last::Root => Err(otherwise),
    }
}

/// The name to make something under; only a directory may be made with a slash behind its name.
fn free_name(place: &Place, for_dir: bool) -> Result<&[u8]> {
    let name = name_of(place)?;
    match place.node {
        Some(_) => Ok(name),
        None if place.wants_dir && !for_dir => Err(Error::NotFound),
        None => Ok(name),
    }
}

fn target_of(op: &Op) -> (&[u8], bool) {
    match op {
        Op::Stat { path }
        | Op::Readdir { path }
        | Op::Chmod { path, .. }
        | Op::Truncate { path, .. } => (path, true),
        Op::Lstat { path } | Op::Readlink { path } => (path, false),
        Op::Chown { path, follow, .. }
        | Op::Utimens { path, follow, .. }
        | Op::Setxattr { path, follow, .. }
        | Op::Getxattr { path, follow, .. }
        | Op::Listxattr { path, follow }
        | Op::Removexattr { path, follow, .. } => (path, *follow),
        _ => unreachable!("dispatched by run"),
    }
}

fn set_of(op: &Op) -> SetAttr {
    match op {
        Op::Chmod { perm, .. } => SetAttr { perm: Some(*perm), ..SetAttr::default() },
        Op::Chown { uid, gid, .. } => {
            SetAttr { uid: *uid, gid: *gid, chown: true, ..SetAttr::default() }
        }
        Op::Utimens { atime, mtime, .. } => {
            SetAttr { atime: *atime, mtime: *mtime, ..SetAttr::default() }
        }
        Op::Truncate { size, .. } => SetAttr { size: Some(*size), ..SetAttr::default() },
        _ => unreachable!("dispatched by run"),
    }
}
