//! Extended attributes.
//!
//! Namespaces as on Linux: `user.` on files and directories only, `trusted.` and `security.` anywhere;
//! ACLs (`system.posix_acl_access`, and `system.posix_acl_default` of directories) on everything but
//! symbolic links; every other name is not supported.

use crate::acl::{self, Acl, is_acl};
use crate::attr::{Caller, Kind, NodeId, Time};
use crate::error::{Error, Result};
use crate::fs::{Fs, Node, SET_GID};
use crate::quirk::Quirk;

/// What a program may do beyond its user: it goes with every change of the file's data or owner.
pub(crate) const CAPABILITY: &[u8] = b"security.capability";

/// What [`Fs::setxattr`] demands of an attribute of that name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum XattrMode {
    /// Nothing.
    #[default]
    Any,
    /// That there is none (`XATTR_CREATE`).
    Create,
    /// That there is one (`XATTR_REPLACE`).
    Replace,
}

impl Fs {
    /// Sets an attribute. Stamps ctime. An access ACL sets the permission bits, and takes set-group-ID
    /// of an unprivileged caller who is not in the group; one that they say all of is not kept.
    ///
    /// # Errors
    /// `Range` for an empty or long name, `ArgTooLong` for a long value, `NotSupported` for an unknown
    /// namespace, `Permission` for `user.` on other kinds, `Exists` and `NoData` by the mode (of what is
    /// no ACL); `Invalid` for what should be an ACL and is none, `Access` for a default ACL of anything
    /// but a directory.
    pub fn setxattr(
        &mut self,
        id: NodeId,
        name: &[u8],
        value: &[u8],
        mode: XattrMode,
        caller: Caller,
        now: Time,
    ) -> Result<()> {
        let kind = self.node(id)?.kind();
        self.check_xattr_len(name)?;
        if value.len() > self.limits.xattr_size_max {
            return Err(Error::ArgTooLong);
        }
        if is_user(name) && !carries_user(kind) {
            return Err(Error::Permission);
        }
        check_namespace(name)?;
        if is_acl(name) {
            return self.set_acl(id, name, value, caller, now);
        }
        let keeps_ctime = self.has(Quirk::SetxattrKeepsCtime);
        let node = self.node_mut(id);
        match (mode, node.xattrs.contains_key(name)) {
            (XattrMode::Create, true) => return Err(Error::Exists),
            (XattrMode::Replace, false) => return Err(Error::NoData),
            _ => {}
        }
        node.xattrs.insert(name.to_vec(), value.to_vec());
        if !keeps_ctime {
            node.ctime = now;
        }
        Ok(())
    }

    fn set_acl(
        &mut self,
        id: NodeId,
        name: &[u8],
        value: &[u8],
        caller: Caller,
        now: Time,
    ) -> Result<()> {
        let lists_anybody = Acl::lists_anybody(value)?;
        let node = self.node_mut(id);
        match node.kind() {
            Kind::Symlink => return Err(Error::NotSupported),
            _ if !lists_anybody => {
                // An ACL of nobody is none; where there is none already nothing happens.
                if node.xattrs.remove(name).is_some() {
                    node.ctime = now;
                }
                return Ok(());
            }
            Kind::Dir => {}
            _ if name == acl::DEFAULT => return Err(Error::Access),
            _ => {}
        }
        let mut kept = Acl::parse(value)?;
        if name == acl::ACCESS {
            if let Some(acl) = &kept {
                node.perm = node.perm & !0o777 | acl.perm();
            }
            if caller == Caller::Unprivileged {
                node.perm &= !SET_GID;
            }
            kept = kept.filter(|acl| !acl.is_plain());
        }
        match kept {
            Some(acl) => node.xattrs.insert(name.to_vec(), acl.value()),
            None => node.xattrs.remove(name),
        };
        node.ctime = now;
        Ok(())
    }

    /// The value of an attribute.
    ///
    /// # Errors
    /// `NoData` if there is none; `Range` and `NotSupported` as [`Fs::setxattr`].
    pub fn getxattr(&self, id: NodeId, name: &[u8]) -> Result<Vec<u8>> {
        let node = self.node(id)?;
        self.check_xattr_len(name)?;
        if is_user(name) && !carries_user(node.kind()) {
            return Err(Error::NoData);
        }
        check_namespace(name)?;
        node.xattrs.get(name).cloned().ok_or(Error::NoData)
    }

    /// The names of all attributes, sorted.
    ///
    /// # Errors
    /// `Stale`.
    pub fn listxattr(&self, id: NodeId) -> Result<Vec<Vec<u8>>> {
        Ok(self.node(id)?.xattrs.keys().cloned().collect())
    }

    /// Removes an attribute. Stamps ctime.
    ///
    /// # Errors
    /// As [`Fs::setxattr`], and `NoData` if there is none.
    pub fn removexattr(&mut self, id: NodeId, name: &[u8], now: Time) -> Result<()> {
        let kind = self.node(id)?.kind();
        self.check_xattr_len(name)?;
        if is_user(name) && !carries_user(kind) {
            return Err(Error::Permission);
        }
        check_namespace(name)?;
        let node = self.node_mut(id);
        node.xattrs.remove(name).ok_or(Error::NoData)?;
        node.ctime = now;
        Ok(())
    }

    fn check_xattr_len(&self, name: &[u8]) -> Result<()> {
        if name.is_empty() || name.len() > self.limits.xattr_name_max {
            return Err(Error::Range);
        }
        Ok(())
    }
}

/// A known prefix, and something behind it.
fn check_namespace(name: &[u8]) -> Result<()> {
    let known = [b"user.".as_slice(), b"trusted.", b"security."];
    match known.into_iter().find(|prefix| name.starts_with(prefix)) {
        None if is_acl(name) => Ok(()),
        Some(prefix) if name.len() > prefix.len() => Ok(()),
        Some(_) => Err(Error::Invalid),
        None => Err(Error::NotSupported),
    }
}

fn is_user(name: &[u8]) -> bool {
    name.starts_with(b"user.")
}

fn carries_user(kind: Kind) -> bool {
    matches!(kind, Kind::File | Kind::Dir)
}

impl Node {
    /// An ACL of the node, if it has one.
    pub(crate) fn acl(&self, name: &[u8]) -> Option<Acl> {
        let value = self.xattrs.get(name)?;
        Acl::parse(value).expect("checked when it was set")
    }

    /// Makes the access ACL say what new permission bits say.
    pub(crate) fn chmod_acl(&mut self, perm: u16) {
        if let Some(acl) = self.acl(acl::ACCESS) {
            self.xattrs.insert(acl::ACCESS.to_vec(), acl.chmod(perm).value());
        }
    }
}
