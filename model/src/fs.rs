//! The filesystem itself: its nodes, their attributes, and how long they live.
//!
//! Invariants (verified by [`Fs::check`]): each node is reachable from the root or has no link and is
//! held; a directory has one name and 2 + subdirectories links; anything else has as many links as names.
//! Tests: `tests/nodes.rs`, `tests/linux.rs`.

use std::collections::BTreeMap;

use crate::attr::{Attr, Caller, Kind, New, NodeId, SetAttr, SetTime, Time};
use crate::data::Data;
use crate::error::{Error, Result};
use crate::quirk::Quirk;
use crate::xattr::CAPABILITY;

/// Bits of a permission word.
pub(crate) const SET_UID: u16 = 0o4000;
pub(crate) const SET_GID: u16 = 0o2000;
const GROUP_EXEC: u16 = 0o0010;
pub(crate) const PERM_BITS: u16 = 0o7777;

/// The limits of a filesystem; the default is what Linux allows at most.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of a name.
    pub name_max: usize,
    /// Bytes of a symbolic link's target.
    pub symlink_max: usize,
    /// Links of a node.
    pub link_max: u32,
    /// Bytes of a file.
    pub file_size_max: u64,
    /// Bytes of an extended attribute's name.
    pub xattr_name_max: usize,
    /// Bytes of an extended attribute's value.
    pub xattr_size_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            name_max: 255,
            symlink_max: 4095,
            link_max: u32::MAX,
            file_size_max: i64::MAX as u64,
            xattr_name_max: 255,
            xattr_size_max: 65536,
        }
    }
}

/// When [`Fs::touch_atime`] moves an access time: the mount options of Linux.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum AccessTimes {
    /// `relatime`: if it is not after mtime and ctime, or a day old.
    #[default]
    Relative,
    /// `strictatime`: always.
    Strict,
    /// `noatime`: never.
    Never,
}

/// A whole filesystem as a value: clone it to try something, compare two with [`Fs::tree`].
#[derive(Clone, Debug)]
pub struct Fs {
    pub(crate) nodes: BTreeMap<NodeId, Node>,
    next: u64,
    pub(crate) limits: Limits,
    access_times: AccessTimes,
    quirk: Option<Quirk>,
}

#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) perm: u16,
    pub(crate) nlink: u32,
    uid: u32,
    gid: u32,
    rdev: u64,
    pub(crate) atime: Time,
    pub(crate) mtime: Time,
    pub(crate) ctime: Time,
    btime: Time,
    pub(crate) body: Body,
    pub(crate) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    opens: u64,
    holds: u64,
    /// Made without a name (`O_TMPFILE`): may still be given one.
    pub(crate) nameable: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum Body {
    File(Data),
    Dir { up: NodeId, entries: BTreeMap<Vec<u8>, NodeId> },
    Symlink(Vec<u8>),
    Special(Kind),
}

impl Fs {
    /// A filesystem with an empty root directory, made at `now` with `root`'s owner and permissions.
    pub fn new(root: New, now: Time) -> Self {
        let mut fs = Self {
            nodes: BTreeMap::new(),
            next: NodeId::ROOT.0,
            limits: Limits::default(),
            access_times: AccessTimes::default(),
            quirk: None,
        };
        let body = Body::Dir { up: NodeId::ROOT, entries: BTreeMap::new() };
        let id = fs.insert(body, root, 0, now);
        fs.node_mut(id).nlink = 2;
        fs
    }

    /// The same filesystem under other limits.
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The same filesystem with another rule for access times.
    pub fn with_access_times(mut self, rule: AccessTimes) -> Self {
        self.access_times = rule;
        self
    }

    /// The limits.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Plants a bug, for tests that must see it caught.
    pub fn plant(&mut self, quirk: Quirk) {
        self.quirk = Some(quirk);
    }

    pub(crate) fn has(&self, quirk: Quirk) -> bool {
        self.quirk == Some(quirk)
    }

    /// The attributes of a node.
    ///
    /// # Errors
    /// `Stale` if it is gone, here and wherever a node is given.
    pub fn getattr(&self, id: NodeId) -> Result<Attr> {
        let node = self.node(id)?;
        Ok(Attr {
            node: id,
            kind: node.kind(),
            perm: node.perm,
            nlink: node.nlink,
            uid: node.uid,
            gid: node.gid,
            size: node.size(),
            rdev: node.rdev,
            atime: node.atime,
            mtime: node.mtime,
            ctime: node.ctime,
            btime: node.btime,
        })
    }

    /// Changes attributes: chmod, chown, truncate and utimens in one. Stamps ctime, unless every field is
    /// omitted; that stamps nothing.
    ///
    /// # Errors
    /// `IsDir` or `Invalid` for a size of anything but a file, `TooBig` beyond the largest file.
    pub fn setattr(
        &mut self,
        id: NodeId,
        set: &SetAttr,
        caller: Caller,
        now: Time,
    ) -> Result<Attr> {
        self.node(id)?;
        if let Some(size) = set.size {
            self.resize(id, size, caller, now)?;
        }
        let keeps_mask = self.has(Quirk::ChmodKeepsMask);
        let node = self.node_mut(id);
        let chown = set.chown || set.uid.is_some() || set.gid.is_some();
        node.uid = set.uid.unwrap_or(node.uid);
        node.gid = set.gid.unwrap_or(node.gid);
        match set.perm {
            Some(perm) => node.perm = perm & PERM_BITS,
            None if chown && node.kind() != Kind::Dir => node.drop_set_id(),
            None => {}
        }
        if chown && node.kind() != Kind::Dir {
            node.xattrs.remove(CAPABILITY);
        }
        if let Some(perm) = set.perm.filter(|_| !keeps_mask) {
            node.chmod_acl(perm);
        }
        let times = set.atime != SetTime::Omit || set.mtime != SetTime::Omit;
        set.atime.apply(&mut node.atime, now);
        set.mtime.apply(&mut node.mtime, now);
        if chown || set.perm.is_some() || times {
            node.ctime = now;
        }
        self.getattr(id)
    }

    /// Records an access (read, readdir, readlink, a followed link) by the filesystem's rule.
    ///
    /// # Errors
    /// `Stale`.
    pub fn touch_atime(&mut self, id: NodeId, now: Time) -> Result<()> {
        self.node(id)?;
        let rule = self.access_times;
        let node = self.node_mut(id);
        let day_old = now.secs.saturating_sub(node.atime.secs) >= 24 * 60 * 60;
        let due = match rule {
            AccessTimes::Strict => true,
            AccessTimes::Never => false,
            AccessTimes::Relative => {
                node.mtime >= node.atime || node.ctime >= node.atime || day_old
            }
        };
        if due {
            node.atime = now;
        }
        Ok(())
    }

    /// Counts an open file or directory: the node stays until as many [`Fs::release`].
    ///
    /// # Errors
    /// `Stale`.
    pub fn open(&mut self, id: NodeId) -> Result<()> {
        self.node(id)?;
        self.node_mut(id).opens += 1;
        Ok(())
    }

    /// Closes one open of a node; the last one ends an unlinked node.
    ///
    /// # Errors
    /// `Stale`, or `BadHandle` if it is not open.
    pub fn release(&mut self, id: NodeId) -> Result<()> {
        let opens = self.node(id)?.opens;
        self.node_mut(id).opens = opens.checked_sub(1).ok_or(Error::BadHandle)?;
        self.reap(id);
        Ok(())
    }

    /// Counts a reference that the kernel keeps (an entry handed out by a lookup).
    ///
    /// # Errors
    /// `Stale`.
    pub fn hold(&mut self, id: NodeId) -> Result<()> {
        self.node(id)?;
        self.node_mut(id).holds += 1;
        Ok(())
    }

    /// Drops `count` such references (`FORGET`); the last one ends an unlinked node.
    ///
    /// # Errors
    /// `Stale`, or `Invalid` if there are fewer.
    pub fn forget(&mut self, id: NodeId, count: u64) -> Result<()> {
        let holds = self.node(id)?.holds;
        self.node_mut(id).holds = holds.checked_sub(count).ok_or(Error::Invalid)?;
        self.reap(id);
        Ok(())
    }

    /// How many nodes exist, those included that are only held.
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn node(&self, id: NodeId) -> Result<&Node> {
        self.nodes.get(&id).ok_or(Error::Stale)
    }

    /// A node that was already looked up; a missing one is a bug of the model.
    pub(crate) fn node_mut(&mut self, id: NodeId) -> &mut Node {
        self.nodes.get_mut(&id).expect("checked by the caller")
    }

    pub(crate) fn insert(&mut self, body: Body, new: New, rdev: u64, now: Time) -> NodeId {
        let id = NodeId(self.next);
        self.next += 1;
        let node = Node {
            perm: new.perm & PERM_BITS,
            nlink: 0,
            uid: new.uid,
            gid: new.gid,
            rdev,
            atime: now,
            mtime: now,
            ctime: now,
            btime: now,
            body,
            xattrs: BTreeMap::new(),
            opens: 0,
            holds: 0,
            nameable: false,
        };
        self.nodes.insert(id, node);
        id
    }

    /// Forgets a node that has neither a name nor a holder.
    pub(crate) fn reap(&mut self, id: NodeId) {
        if self.nodes.get(&id).is_some_and(|n| n.nlink == 0 && !n.is_held()) {
            self.nodes.remove(&id);
        }
    }
}

impl Node {
    pub(crate) fn kind(&self) -> Kind {
        match &self.body {
            Body::File(_) => Kind::File,
            Body::Dir { .. } => Kind::Dir,
            Body::Symlink(_) => Kind::Symlink,
            Body::Special(kind) => *kind,
        }
    }

    pub(crate) fn is_held(&self) -> bool {
        self.opens > 0 || self.holds > 0
    }

    /// The group, which entries of a set-group-ID directory inherit.
    pub(crate) fn gid(&self) -> u32 {
        self.gid
    }

    pub(crate) fn drop_set_id(&mut self) {
        self.perm &= !SET_UID;
        if self.perm & GROUP_EXEC != 0 {
            self.perm &= !SET_GID;
        }
    }

    fn size(&self) -> u64 {
        match &self.body {
            Body::File(data) => data.size(),
            Body::Symlink(target) => target.len() as u64,
            Body::Dir { .. } | Body::Special(_) => 0,
        }
    }
}

impl SetTime {
    fn apply(self, time: &mut Time, now: Time) {
        match self {
            Self::Omit => {}
            Self::Now => *time = now,
            Self::Set(given) => *time = given,
        }
    }
}
