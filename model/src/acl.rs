//! POSIX ACLs as Linux has them: the attributes `system.posix_acl_access` and
//! `system.posix_acl_default`, and how they go together with permission bits.
//!
//! With a mask the group's permission bits are the mask, without one they are the owning group's.

use crate::error::{Error, Result};

pub(crate) const ACCESS: &[u8] = b"system.posix_acl_access";
pub(crate) const DEFAULT: &[u8] = b"system.posix_acl_default";

/// Whether an attribute is an ACL.
pub(crate) fn is_acl(name: &[u8]) -> bool {
    name == ACCESS || name == DEFAULT
}

/// Who may do what.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Acl {
    owner: u16,
    users: Vec<(u32, u16)>,
    group: u16,
    groups: Vec<(u32, u16)>,
    mask: Option<u16>,
    other: u16,
}

/// Entries that are still to be read: (tag, permissions, id).
struct Rest<'a>(&'a [(u16, u16, u32)]);

impl Rest<'_> {
    /// The next entry, if it has this tag.
    fn take(&mut self, tag: u16) -> Option<(u16, u32)> {
        let (&(found, perm, id), rest) = self.0.split_first()?;
        if found != tag {
            return None;
        }
        self.0 = rest;
        Some((perm, id))
    }

    fn take_all(&mut self, tag: u16) -> Vec<(u32, u16)> {
        std::iter::from_fn(|| self.take(tag)).map(|(perm, id)| (id, perm)).collect()
    }
}

impl Acl {
    /// Reads an attribute's value; `None` if it lists nobody, which means no ACL.
    ///
    /// # Errors
    /// `NotSupported` for another version of the form, `Invalid` for what is no ACL.
    pub(crate) fn parse(value: &[u8]) -> Result<Option<Self>> {
        match &entries(value)?[..] {
            [] => Ok(None),
            entries => Self::from_entries(entries).map(Some).ok_or(Error::Invalid),
        }
    }

    /// Whether a value lists anybody.
    ///
    /// # Errors
    /// As [`Acl::parse`], for what does not even look like an ACL.
    pub(crate) fn lists_anybody(value: &[u8]) -> Result<bool> {
        Ok(!value.is_empty() && !entries(value)?.is_empty())
    }

    fn from_entries(entries: &[(u16, u16, u32)]) -> Option<Self> {
        let mut rest = Rest(entries);
        let acl = Self {
            owner: rest.take(0x01)?.0,
            users: rest.take_all(0x02),
            group: rest.take(0x04)?.0,
            groups: rest.take_all(0x08),
            mask: rest.take(0x10).map(|(perm, _)| perm),
            other: rest.take(0x20)?.0,
        };
        let named = acl.users.iter().chain(&acl.groups);
        let sound = rest.0.is_empty()
            && entries.iter().all(|(_, perm, _)| *perm <= 7)
            && named.clone().all(|(id, _)| *id != u32::MAX)
            && (acl.mask.is_some() || named.count() == 0);
        sound.then_some(acl)
    }

    /// The attribute's value.
    pub(crate) fn value(&self) -> Vec<u8> {
        let mut out = vec![2, 0, 0, 0];
        let mut add = |tag: u16, perm: u16, id: u32| {
            out.extend(tag.to_le_bytes());
            out.extend(perm.to_le_bytes());
            out.extend(id.to_le_bytes());
        };
        let nobody = u32::MAX;
        add(0x01, self.owner, nobody);
        self.users.iter().for_each(|(id, perm)| add(0x02, *perm, *id));
        add(0x04, self.group, nobody);
        self.groups.iter().for_each(|(id, perm)| add(0x08, *perm, *id));
        if let Some(mask) = self.mask {
            add(0x10, mask, nobody);
        }
        add(0x20, self.other, nobody);
        out
    }

    /// The permission bits that show it.
    pub(crate) fn perm(&self) -> u16 {
        self.owner << 6 | self.mask.unwrap_or(self.group) << 3 | self.other
    }

    /// Whether permission bits can say all of it. A mask alone makes it more.
    pub(crate) fn is_plain(&self) -> bool {
        self.mask.is_none()
    }

    /// The same under other permission bits: a chmod.
    pub(crate) fn chmod(mut self, perm: u16) -> Self {
        let class = |shift: u32| (perm >> shift) & 7;
        self.owner = class(6);
        self.other = class(0);
        match &mut self.mask {
            Some(mask) => *mask = class(3),
            None => self.group = class(3),
        }
        self
    }
}

/// The entries of a value, each of a known tag, in whatever order: (tag, permissions, id).
fn entries(value: &[u8]) -> Result<Vec<(u16, u16, u32)>> {
    if value.len() < 4 {
        return Err(Error::Invalid);
    }
    if value[..4] != [2, 0, 0, 0] {
        return Err(Error::NotSupported);
    }
    if !(value.len() - 4).is_multiple_of(8) {
        return Err(Error::Invalid);
    }
    let word = |bytes: &[u8]| bytes.iter().rev().fold(0u32, |sum, b| sum << 8 | u32::from(*b));
    let entries: Vec<_> = value[4..]
        .chunks(8)
        .map(|e| (word(&e[..2]) as u16, word(&e[2..4]) as u16, word(&e[4..])))
        .collect();
    let known = [0x01, 0x02, 0x04, 0x08, 0x10, 0x20];
    entries.iter().all(|(tag, ..)| known.contains(tag)).then_some(entries).ok_or(Error::Invalid)
}
