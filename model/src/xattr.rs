//! Extended attributes.
//!
//! Namespaces as on Linux: `user.` on files and directories only, `trusted.` and `security.` anywhere;
//! every other name is not supported (POSIX ACLs are no part of the model).

use crate::attr::{Kind, NodeId, Time};
use crate::error::{Error, Result};
use crate::fs::Fs;

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
    /// Sets an attribute. Stamps ctime.
    ///
    /// # Errors
    /// `Range` for an empty or long name, `ArgTooLong` for a long value, `NotSupported` for an unknown
    /// namespace, `Permission` for `user.` on other kinds, `Exists` and `NoData` by the mode.
    pub fn setxattr(
        &mut self,
        id: NodeId,
        name: &[u8],
        value: &[u8],
        mode: XattrMode,
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
        let node = self.node_mut(id);
        match (mode, node.xattrs.contains_key(name)) {
            (XattrMode::Create, true) => return Err(Error::Exists),
            (XattrMode::Replace, false) => return Err(Error::NoData),
            _ => {}
        }
        node.xattrs.insert(name.to_vec(), value.to_vec());
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
