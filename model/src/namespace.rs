//! Names: lookup, making and removing of entries, listings. Renames are in `rename.rs`.
//!
//! Times: whoever changes a directory's entries stamps its mtime and ctime; whoever changes a node's
//! link count stamps its ctime; a new node has all four times at `now`. Nothing here moves an atime.

use std::collections::BTreeMap;

use crate::acl;
use crate::allowed::{Call, is_dots};
use crate::attr::{Attr, DirEntry, Kind, New, NodeId, Time};
use crate::data::Data;
use crate::error::{Error, Result};
use crate::fs::{Body, Fs, SET_GID, SET_UID};
use crate::quirk::Quirk;

type Entries = BTreeMap<Vec<u8>, NodeId>;

impl Fs {
    /// The node that `name` names in a directory; `.` and `..` are understood.
    ///
    /// # Errors
    /// `NotDir`, `NameTooLong`, `NotFound`.
    pub fn lookup(&self, parent: NodeId, name: &[u8]) -> Result<Attr> {
        let found = match name {
            b"." => {
                self.entries(parent)?;
                parent
            }
            b".." => self.parent(parent)?,
            _ => self.peek(parent, name)?.ok_or(Error::NotFound)?,
        };
        self.getattr(found)
    }

    /// The directory above a directory; the root is its own.
    ///
    /// # Errors
    /// `NotDir`.
    pub fn parent(&self, id: NodeId) -> Result<NodeId> {
        match &self.node(id)?.body {
            Body::Dir { up, .. } => Ok(*up),
            _ => Err(Error::NotDir),
        }
    }

    /// Makes a regular file. That there must (or need not) be one already is the caller's `O_EXCL`.
    ///
    /// # Errors
    /// `NotDir`, `NameTooLong`, `Exists`, and `NotFound` in a removed directory.
    pub fn create(&mut self, parent: NodeId, name: &[u8], new: New, now: Time) -> Result<Attr> {
        self.refuse(&Call::Make { parent, name })?;
        self.make(parent, name, Body::File(Data::default()), new, 0, now)
    }

    /// Makes a node of any kind but a directory or symbolic link; `rdev` counts for devices only.
    ///
    /// # Errors
    /// As [`Fs::create`]; `Permission` for a directory, `Invalid` for a symbolic link.
    pub fn mknod(
        &mut self,
        parent: NodeId,
        name: &[u8],
        kind: Kind,
        rdev: u64,
        new: New,
        now: Time,
    ) -> Result<Attr> {
        self.refuse(&Call::Make { parent, name })?;
        let body = match kind {
            Kind::Dir => return Err(Error::Permission),
            Kind::Symlink => return Err(Error::Invalid),
            Kind::File => Body::File(Data::default()),
            Kind::Fifo | Kind::Socket | Kind::CharDev | Kind::BlockDev => Body::Special(kind),
        };
        let rdev = if kind.is_device() { rdev } else { 0 };
        self.make(parent, name, body, new, rdev, now)
    }

    /// Makes a directory. Set-id bits in `new` are ignored; set-group-ID is inherited.
    ///
    /// # Errors
    /// As [`Fs::create`], and `LinkMax` if the parent has too many subdirectories.
    pub fn mkdir(&mut self, parent: NodeId, name: &[u8], mut new: New, now: Time) -> Result<Attr> {
        self.refuse(&Call::Mkdir { parent, name })?;
        new.perm &= !(SET_UID | SET_GID);
        if self.node(parent)?.perm & SET_GID != 0 && !self.has(Quirk::MkdirDropsSetGid) {
            new.perm |= SET_GID;
        }
        let body = Body::Dir { up: parent, entries: Entries::new() };
        let made = self.make(parent, name, body, new, 0, now)?;
        self.node_mut(made.node).nlink = 2;
        self.node_mut(parent).nlink += 1;
        self.getattr(made.node)
    }

    /// Makes a symbolic link.
    ///
    /// # Errors
    /// As [`Fs::create`]; `NotFound` for an empty target, `NameTooLong` for a long one.
    pub fn symlink(
        &mut self,
        parent: NodeId,
        name: &[u8],
        target: &[u8],
        mut new: New,
        now: Time,
    ) -> Result<Attr> {
        if target.is_empty() {
            return Err(Error::NotFound);
        }
        if target.len() > self.limits.symlink_max {
            return Err(Error::NameTooLong);
        }
        self.refuse(&Call::Make { parent, name })?;
        new.perm = 0o777;
        self.make(parent, name, Body::Symlink(target.to_vec()), new, 0, now)
    }

    /// The target of a symbolic link. Leaves atime to [`Fs::touch_atime`].
    ///
    /// # Errors
    /// `Invalid` for anything else.
    pub fn readlink(&self, id: NodeId) -> Result<Vec<u8>> {
        match &self.node(id)?.body {
            Body::Symlink(target) => Ok(target.clone()),
            _ => Err(Error::Invalid),
        }
    }

    /// Makes a file that has no name yet (`O_TMPFILE`), opened once. [`Fs::link`] may name it if it is
    /// `nameable` (not `O_EXCL`).
    ///
    /// # Errors
    /// `NotDir`, and `NotFound` in a removed directory.
    pub fn tmpfile(&mut self, parent: NodeId, nameable: bool, new: New, now: Time) -> Result<Attr> {
        self.entries(parent)?;
        if self.node(parent)?.nlink == 0 {
            return Err(Error::NotFound);
        }
        let id = self.give_birth(parent, Body::File(Data::default()), new, 0, now)?;
        self.node_mut(id).nameable = nameable;
        self.open(id)?;
        self.getattr(id)
    }

    /// Gives a node another name.
    ///
    /// # Errors
    /// `Permission` for a directory, `NotFound` for a node that was unlinked, `LinkMax`, and as
    /// [`Fs::create`].
    pub fn link(&mut self, id: NodeId, parent: NodeId, name: &[u8], now: Time) -> Result<Attr> {
        self.refuse(&Call::Link { node: id, parent, name })?;
        let keeps_ctime = self.has(Quirk::LinkKeepsCtime);
        self.entries_mut(parent).insert(name.to_vec(), id);
        self.stamp_entries(parent, now);
        let node = self.node_mut(id);
        node.nlink += 1;
        node.nameable = false;
        if !keeps_ctime {
            node.ctime = now;
        }
        self.getattr(id)
    }

    /// Removes a name of anything but a directory. The node stays while it has names or is held.
    ///
    /// # Errors
    /// `NotDir`, `NameTooLong`, `NotFound`, `IsDir`.
    pub fn unlink(&mut self, parent: NodeId, name: &[u8], now: Time) -> Result<()> {
        self.refuse(&Call::Unlink { parent, name })?;
        let victim = self.take(parent, name);
        self.stamp_entries(parent, now);
        self.drop_link(victim, now);
        Ok(())
    }

    /// Removes an empty directory. It stays, with no link, while it is held.
    ///
    /// # Errors
    /// `NotDir`, `NameTooLong`, `NotFound`, `NotEmpty`, `Invalid` for `.`.
    pub fn rmdir(&mut self, parent: NodeId, name: &[u8], now: Time) -> Result<()> {
        self.refuse(&Call::Rmdir { parent, name })?;
        let victim = self.take(parent, name);
        self.stamp_entries(parent, now);
        self.node_mut(parent).nlink -= 1;
        self.drop_dir(victim, now);
        Ok(())
    }

    /// A directory's entries: `.` and `..`, then the names in order. Leaves atime to [`Fs::touch_atime`].
    ///
    /// # Errors
    /// `NotDir`, and `NotFound` for a removed directory.
    pub fn readdir(&self, id: NodeId) -> Result<Vec<DirEntry>> {
        let entries = self.entries(id)?;
        if self.node(id)?.nlink == 0 {
            return Err(Error::NotFound);
        }
        let dots = [(b".".to_vec(), id), (b"..".to_vec(), self.parent(id)?)];
        let names = entries.iter().map(|(name, node)| (name.clone(), *node));
        dots.into_iter()
            .chain(names)
            .map(|(name, node)| Ok(DirEntry { name, node, kind: self.node(node)?.kind() }))
            .collect()
    }

    fn make(
        &mut self,
        parent: NodeId,
        name: &[u8],
        body: Body,
        new: New,
        rdev: u64,
        now: Time,
    ) -> Result<Attr> {
        let id = self.give_birth(parent, body, new, rdev, now)?;
        self.node_mut(id).nlink = 1;
        self.entries_mut(parent).insert(name.to_vec(), id);
        self.stamp_entries(parent, now);
        self.getattr(id)
    }

    /// A new node without a name, with what its directory hands down: the group of a set-group-ID
    /// directory, and the default ACL, of which nobody gets more than `new` would give.
    fn give_birth(
        &mut self,
        parent: NodeId,
        body: Body,
        mut new: New,
        rdev: u64,
        now: Time,
    ) -> Result<NodeId> {
        let dir = self.node(parent)?;
        if dir.perm & SET_GID != 0 {
            new.gid = dir.gid();
        }
        let default = dir.acl(acl::DEFAULT).filter(|_| !self.has(Quirk::MakeForgetsDefaultAcl));
        let (is_link, is_dir) =
            (matches!(body, Body::Symlink(_)), matches!(body, Body::Dir { .. }));
        let inherited = match default.clone() {
            _ if is_link => None,
            Some(acl) => {
                let shown = acl.perm();
                let acl = acl.chmod(new.perm & shown);
                new.perm = new.perm & !0o777 | acl.perm();
                Some(acl)
            }
            None => {
                new.perm &= !new.umask;
                None
            }
        };
        let id = self.insert(body, new, rdev, now);
        let node = self.node_mut(id);
        if let Some(acl) = inherited.filter(|acl| !acl.is_plain()) {
            node.xattrs.insert(acl::ACCESS.to_vec(), acl.value());
        }
        if let Some(acl) = default.filter(|_| is_dir) {
            node.xattrs.insert(acl::DEFAULT.to_vec(), acl.value());
        }
        Ok(id)
    }

    /// The node of a name other than `.` and `..`, if there is one.
    pub(crate) fn peek(&self, parent: NodeId, name: &[u8]) -> Result<Option<NodeId>> {
        let entries = self.entries(parent)?;
        if name.len() > self.limits.name_max {
            return Err(Error::NameTooLong);
        }
        if name.is_empty() || name.contains(&b'/') || name.contains(&0) {
            return Err(Error::Invalid);
        }
        debug_assert!(!entries.keys().any(|n| is_dots(n)));
        Ok(entries.get(name).copied())
    }

    pub(crate) fn entries(&self, id: NodeId) -> Result<&Entries> {
        match &self.node(id)?.body {
            Body::Dir { entries, .. } => Ok(entries),
            _ => Err(Error::NotDir),
        }
    }

    /// The entries of what was checked to be a directory.
    pub(crate) fn entries_mut(&mut self, id: NodeId) -> &mut Entries {
        match &mut self.node_mut(id).body {
            Body::Dir { entries, .. } => entries,
            _ => unreachable!("the caller checked that it is a directory"),
        }
    }

    /// Takes an entry out that was checked to be there.
    pub(crate) fn take(&mut self, parent: NodeId, name: &[u8]) -> NodeId {
        self.entries_mut(parent).remove(name).expect("the caller checked that it is there")
    }

    pub(crate) fn stamp_entries(&mut self, dir: NodeId, now: Time) {
        let node = self.node_mut(dir);
        node.mtime = now;
        node.ctime = now;
    }

    pub(crate) fn drop_link(&mut self, id: NodeId, now: Time) {
        let node = self.node_mut(id);
        node.nlink -= 1;
        node.ctime = now;
        self.reap(id);
    }

    pub(crate) fn drop_dir(&mut self, id: NodeId, now: Time) {
        let node = self.node_mut(id);
        node.nlink = 0;
        node.ctime = now;
        self.reap(id);
    }
}
