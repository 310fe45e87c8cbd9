//! System calls on the model: paths and open files on top of [`Fs`], as the kernel's VFS puts them.
//!
//! Owns: the order of checks that Linux makes before it asks a filesystem, the table of open files, and
//! access times of what a call reads or follows.

use std::collections::BTreeMap;

use crate::acl::{Acl, is_acl};
use crate::allowed::{Call, with_synonyms};
use crate::attr::{Caller, Kind, New, NodeId, SetAttr, SetTime, Time};
use crate::error::{Error, Result};
use crate::fs::Fs;
use crate::op::{Op, OpenFlags, Outcome};
use crate::path::{Follow, Last, PATH_MAX, Place};
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
    /// Permission bits that it takes off what it makes.
    pub umask: u16,
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
        let files = BTreeMap::new();
        Self { fs, uid: 0, gid: 0, umask: 0, caller: Caller::Privileged, files }
    }

    /// Does one call at `now`.
    pub fn apply(&mut self, op: &Op, now: Time) -> Outcome {
        self.run(op, now).unwrap_or_else(Outcome::Failed)
    }

    /// The errors that are right for this call in this state; none if it must succeed.
    pub fn allowed_errors(&self, op: &Op, now: Time) -> Vec<Error> {
        if let Some(error) = malformed(op) {
            return vec![error];
        }
        match self.plan(op) {
            Some(Ok(plan)) => plan.allowed,
            Some(Err(error)) => vec![error],
            None => self.clone().apply(op, now).error().into_iter().collect(),
        }
    }

    /// The node behind an open slot.
    pub fn open_node(&self, slot: u8) -> Option<NodeId> {
        self.files.get(&slot).map(|file| file.node)
    }

    /// The node that a call on `path` is about, `@3` being the file in slot 3. Touches no access times.
    ///
    /// # Errors
    /// As resolving the path.
    pub fn node_at(&self, path: &[u8], follow: bool) -> Result<NodeId> {
        if let Some(slot) = slot_of(path) {
            return self.open_node(slot).ok_or(Error::NotFound);
        }
        self.fs.resolve(path, following(follow), &mut Vec::new())?.node
    }

    fn run(&mut self, op: &Op, now: Time) -> Result<Outcome> {
        match op {
            Op::Open { slot, path, flags, perm } => self.open(*slot, path, *flags, *perm, now),
            Op::Close { slot } => self.close(*slot),
            Op::Tmpfile { slot, path, exclusive, perm } => {
                self.tmpfile(*slot, path, *exclusive, *perm, now)
            }
            Op::Pread { .. }
            | Op::Pwrite { .. }
            | Op::Fstat { .. }
            | Op::Ftruncate { .. }
            | Op::Fallocate { .. }
            | Op::CopyRange { .. }
            | Op::SeekData { .. }
            | Op::SeekHole { .. } => self.run_on_file(op, now),
            Op::Mkdir { .. }
            | Op::Mknod { .. }
            | Op::Rmdir { .. }
            | Op::Unlink { .. }
            | Op::Rename { .. }
            | Op::Link { .. }
            | Op::LinkSlot { .. }
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
        let follow = match (flags.create, flags.no_follow || exclusive) {
            (true, true) => Follow::Never,
            (true, false) => Follow::ToCreate,
            (false, true) => Follow::BeforeSlash,
            (false, false) => Follow::Always,
        };
        let place = self.resolve(path, follow, now)?;
        // Linux refuses a final slash before it looks what is there.
        if flags.create && place.wants_dir && matches!(place.last, Last::Name(_)) {
            return Err(Error::IsDir);
        }
        let node = match place.node {
            Err(Error::NotFound) if flags.create => self.open_new(&place, perm, now)?,
            Err(error) => return Err(error),
            Ok(_) if exclusive => return Err(Error::Exists),
            Ok(node) => {
                self.check_open(&place, node, flags)?;
                if flags.truncate {
                    let set = SetAttr { size: Some(0), ..SetAttr::default() };
                    self.fs.setattr(node, &set, self.caller, now)?;
                }
                node
            }
        };
        self.fs.open(node)?;
        self.files.insert(slot, OpenFile { node, flags });
        Ok(Outcome::Done)
    }

    fn tmpfile(
        &mut self,
        slot: u8,
        path: &[u8],
        exclusive: bool,
        perm: u16,
        now: Time,
    ) -> Result<Outcome> {
        self.files.remove(&slot).map_or(Ok(()), |file| self.fs.release(file.node))?;
        let dir = self.resolve_existing(path, true, now)?;
        let made = self.fs.tmpfile(dir, !exclusive, self.new_node(perm), now)?;
        let flags = OpenFlags { read: true, write: true, ..OpenFlags::default() };
        self.files.insert(slot, OpenFile { node: made.node, flags });
        Ok(Outcome::Done)
    }

    fn open_new(&mut self, place: &Place, perm: u16, now: Time) -> Result<NodeId> {
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
                let set = SetAttr { size: Some(*size), ..SetAttr::default() };
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
            Op::CopyRange { from, offset, to, to_offset, len } => {
                self.copy_range((*from, *offset), (*to, *to_offset), *len, now)
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

    fn copy_range(
        &mut self,
        (from, offset): (u8, u64),
        (to, to_offset): (u8, u64),
        len: u64,
        now: Time,
    ) -> Result<Outcome> {
        let (source, target) = (self.file(from)?.node, self.file(to)?.clone());
        // Linux looks what they are before it looks how they are open.
        for node in [source, target.node] {
            self.fs.data(node)?;
        }
        self.readable(from)?;
        if !target.flags.write || target.flags.append {
            return Err(Error::BadHandle);
        }
        let to = (target.node, to_offset);
        let count = self.fs.copy_range((source, offset), to, len, self.caller, now)?;
        if count > 0 {
            self.fs.touch_atime(source, now)?;
        }
        Ok(Outcome::Count(count))
    }

    fn run_on_names(&mut self, op: &Op, now: Time) -> Result<Outcome> {
        if let Some(error) = malformed(op) {
            return Err(error);
        }
        if let Op::LinkSlot { slot, .. } = op {
            // Without the file there is nothing to resolve a path for.
            self.file(*slot)?;
        }
        self.follow_parents(op, now)?;
        let plan = self.plan(op).expect("a change of names")?;
        if let Some(error) = plan.first {
            return Err(error);
        }
        match (op, plan.change) {
            (Op::Mkdir { perm, .. }, Change::At(dir, name)) => {
                self.fs.mkdir(dir, &name, self.new_node(*perm), now)?;
            }
            (Op::Mknod { kind, perm, rdev, .. }, Change::At(dir, name)) => {
                self.fs.mknod(dir, &name, *kind, *rdev, self.new_node(*perm), now)?;
            }
            (Op::Symlink { target, .. }, Change::At(dir, name)) => {
                self.fs.symlink(dir, &name, target, self.new_node(0o777), now)?;
            }
            (Op::Link { .. } | Op::LinkSlot { .. }, Change::Link(node, dir, name)) => {
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
            Op::Statfs { .. } => return Ok(Outcome::Count(self.fs.limits().name_max as u64)),
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
            Op::Getxattr { name, .. } => {
                self.check_acl(node, name)?;
                return Ok(Outcome::Bytes(self.fs.getxattr(node, name)?));
            }
            Op::Listxattr { .. } => return Ok(Outcome::Names(self.fs.listxattr(node)?)),
            Op::Setxattr { name, value, mode, .. } => {
                self.check_acl(node, name)?;
                if is_acl(name) && !Acl::lists_anybody(value)? {
                    return self.remove_xattr(node, name, now);
                }
                // It is in the groups of all its files, so no ACL takes a set-group-ID of them.
                self.fs.setxattr(node, name, value, *mode, Caller::Privileged, now)?
            }
            Op::Removexattr { name, .. } => {
                self.check_acl(node, name)?;
                return self.remove_xattr(node, name, now);
            }
            _ => {
                self.fs.setattr(node, &set_of(op), self.caller, now)?;
            }
        }
        Ok(Outcome::Done)
    }

    fn check_acl(&self, node: NodeId, name: &[u8]) -> Result<()> {
        let refused = is_acl(name) && self.fs.getattr(node)?.kind == Kind::Symlink;
        if refused { Err(Error::NotSupported) } else { Ok(()) }
    }

    /// The kernel takes an ACL that is not there for removed.
    fn remove_xattr(&mut self, node: NodeId, name: &[u8], now: Time) -> Result<Outcome> {
        match self.fs.removexattr(node, name, now) {
            Err(Error::NoData) if is_acl(name) => Ok(Outcome::Done),
            result => result.map(|()| Outcome::Done),
        }
    }

    /// Resolves what a change of names is about and finds what speaks against it; None for other calls.
    fn plan(&self, op: &Op) -> Option<Result<Plan>> {
        Some(match op {
            Op::Mkdir { path, .. } => self.plan_at(path, |place| {
                let (parent, name) = (place.dir, name_or(place, Error::Exists)?);
                Ok(Plan::new(&self.fs, &Call::Mkdir { parent, name }))
            }),
            Op::Mknod { path, .. } | Op::Symlink { path, .. } => self.plan_at(path, |place| {
                let (parent, name) = (place.dir, free_name(place)?);
                Ok(Plan::new(&self.fs, &Call::Make { parent, name }))
            }),
            Op::Unlink { path } => self.plan_at(path, |place| {
                let (parent, name) = (place.dir, name_or(place, Error::IsDir)?);
                if place.wants_dir {
                    let is_dir = self.fs.is_dir(place.node?);
                    return Err(if is_dir { Error::IsDir } else { Error::NotDir });
                }
                Ok(Plan::new(&self.fs, &Call::Unlink { parent, name }))
            }),
            Op::Rmdir { path } => self.plan_at(path, |place| {
                let name = match &place.last {
                    Last::Name(name) => name,
                    Last::Dot => return Err(Error::Invalid),
                    Last::DotDot => return Err(Error::NotEmpty),
                    Last::Root => return Err(Error::Busy),
                };
                Ok(Plan::new(&self.fs, &Call::Rmdir { parent: place.dir, name }))
            }),
            Op::Link { from, to, follow } => self.plan_link(from, to, *follow),
            Op::LinkSlot { slot, to } => self.file(*slot).and_then(|file| {
                self.plan_at(to, |place| {
                    let (node, parent, name) = (file.node, place.dir, free_name(place)?);
                    Ok(Plan::new(&self.fs, &Call::Link { node, parent, name }))
                })
            }),
            Op::Rename { from, to, flags } => self.plan_rename(from, to, *flags),
            _ => return None,
        })
    }

    fn plan_at(&self, path: &[u8], then: impl FnOnce(&Place) -> Result<Plan>) -> Result<Plan> {
        then(&self.fs.resolve(path, Follow::Never, &mut Vec::new())?)
    }

    fn plan_link(&self, from: &[u8], to: &[u8], follow: bool) -> Result<Plan> {
        let source = self.fs.resolve(from, following(follow), &mut Vec::new())?;
        let node = source.node?;
        if source.wants_dir && !self.fs.is_dir(node) {
            return Err(Error::NotDir);
        }
        self.plan_at(to, |place| {
            let (parent, name) = (place.dir, free_name(place)?);
            Ok(Plan::new(&self.fs, &Call::Link { node, parent, name }))
        })
    }

    fn plan_rename(&self, from: &[u8], to: &[u8], flags: RenameFlags) -> Result<Plan> {
        let source = self.fs.resolve(from, Follow::Never, &mut Vec::new())?;
        let target = self.fs.resolve(to, Follow::Never, &mut Vec::new())?;
        let old = name_or(&source, Error::Busy)?;
        let taken = if flags == RenameFlags::NoReplace { Error::Exists } else { Error::Busy };
        let new = name_or(&target, taken)?;
        let call = Call::Rename { from: source.dir, old, to: target.dir, new, flags };
        let mut plan = Plan::new(&self.fs, &call);
        let is_file = |place: &Place| place.node.is_ok_and(|node| !self.fs.is_dir(node));
        let exchange = flags == RenameFlags::Exchange;
        let slash = (is_file(&source) && (source.wants_dir || (target.wants_dir && !exchange)))
            || (exchange && is_file(&target) && target.wants_dir);
        if slash {
            // Linux looks at the slashes once it knows that the names are there, or free.
            let names =
                matches!(plan.first, Some(Error::NotFound | Error::Exists | Error::NameTooLong));
            plan.first = if names { plan.first } else { Some(Error::NotDir) };
            plan.allowed.push(Error::NotDir);
        }
        Ok(plan)
    }

    /// Access times of the links on the way of a change of names. The errors come again later.
    fn follow_parents(&mut self, op: &Op, now: Time) -> Result<()> {
        let mut followed = Vec::new();
        let paths: [Option<(&[u8], Follow)>; 2] = match op {
            Op::Rename { from, to, .. } => [Some((from, Follow::Never)), Some((to, Follow::Never))],
            Op::Link { from, to, follow } => {
                [Some((from, following(*follow))), Some((to, Follow::Never))]
            }
            Op::Mkdir { path, .. }
            | Op::Mknod { path, .. }
            | Op::Rmdir { path }
            | Op::Unlink { path }
            | Op::LinkSlot { to: path, .. }
            | Op::Symlink { path, .. } => [Some((path, Follow::Never)), None],
            _ => [None, None],
        };
        for (path, follow) in paths.into_iter().flatten() {
            if self.fs.resolve(path, follow, &mut followed).is_err() {
                break;
            }
        }
        followed.into_iter().try_for_each(|node| self.fs.touch_atime(node, now))
    }

    fn resolve(&mut self, path: &[u8], follow: Follow, now: Time) -> Result<Place> {
        let mut followed = Vec::new();
        let place = self.fs.resolve(path, follow, &mut followed);
        followed.into_iter().try_for_each(|node| self.fs.touch_atime(node, now))?;
        place
    }

    fn resolve_existing(&mut self, path: &[u8], follow: bool, now: Time) -> Result<NodeId> {
        if let Some(slot) = slot_of(path) {
            return self.open_node(slot).ok_or(Error::NotFound);
        }
        let place = self.resolve(path, following(follow), now)?;
        let node = place.node?;
        if place.wants_dir && !self.fs.is_dir(node) {
            return Err(Error::NotDir);
        }
        Ok(node)
    }

    fn new_node(&self, perm: u16) -> New {
        New { perm, umask: self.umask, uid: self.uid, gid: self.gid }
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

/// A change of names, resolved.
struct Plan {
    /// The error that Linux reports.
    first: Option<Error>,
    allowed: Vec<Error>,
    change: Change,
}

impl Plan {
    fn new(fs: &Fs, call: &Call<'_>) -> Self {
        let refusals = fs.refusals(call);
        let first = refusals.first().copied();
        Self { first, allowed: with_synonyms(call, refusals), change: Change::from(call) }
    }
}

/// What a [`Call`] is about, owned.
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

/// The slot that `@3` names.
fn slot_of(path: &[u8]) -> Option<u8> {
    match path {
        [b'@', digit @ b'0'..=b'9'] => Some(digit - b'0'),
        _ => None,
    }
}

fn following(follow: bool) -> Follow {
    if follow { Follow::Always } else { Follow::BeforeSlash }
}

/// What Linux refuses before it looks at any path.
fn malformed(op: &Op) -> Option<Error> {
    match op {
        Op::Symlink { target, .. } if target.is_empty() => Some(Error::NotFound),
        Op::Symlink { target, .. } if target.len() >= PATH_MAX => Some(Error::NameTooLong),
        Op::Mknod { kind: Kind::Dir, .. } => Some(Error::Permission),
        Op::Mknod { kind: Kind::Symlink, .. } => Some(Error::Invalid),
        _ => None,
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

/// The name to make anything but a directory under, so no slash may follow it.
fn free_name(place: &Place) -> Result<&[u8]> {
    let name = name_of(place)?;
    match place.node {
        Err(Error::NotFound) if place.wants_dir => Err(Error::NotFound),
        _ => Ok(name),
    }
}

fn target_of(op: &Op) -> (&[u8], bool) {
    match op {
        Op::Stat { path }
        | Op::Statfs { path }
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
