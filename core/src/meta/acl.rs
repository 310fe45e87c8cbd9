//! POSIX ACLs in the form of Linux' extended attributes: validation, and what mode and ACL do to each
//! other. The kernel reads them by getxattr and enforces them; what changes them is decided here.
//!
//! The form: version 2 (u32), then 8 bytes per entry: tag (u16), permissions (u16), id (u32; of named
//! users and groups only), all little-endian, in the order of their tags.
//! Source: POSIX 1003.1e draft 17, Linux fs/posix_acl.c.

use crate::error::{FsError, FsResult};
use crate::port::meta_kv::Value;
use alloc::vec::Vec;
use bytes::Bytes;

const VERSION: u32 = 2;
const HEAD: usize = 4;
const ENTRY: usize = 8;
const NO_ID: u32 = u32::MAX;

mod kind {
    pub(super) const USER_OBJ: u16 = 0x01;
    pub(super) const USER: u16 = 0x02;
    pub(super) const GROUP_OBJ: u16 = 0x04;
    pub(super) const GROUP: u16 = 0x08;
    pub(super) const MASK: u16 = 0x10;
    pub(super) const OTHER: u16 = 0x20;
}

/// A valid ACL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acl(Vec<Entry>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    kind: u16,
    perm: u16,
    id: u32,
}

impl Acl {
    /// Decodes; `None` if it has no entries, which means that there is no ACL.
    ///
    /// # Errors
    /// NotSupported for another version, Invalid for everything else that is no ACL.
    pub fn decode(value: &[u8]) -> FsResult<Option<Acl>> {
        let (head, rest) = value.split_first_chunk::<HEAD>().ok_or(FsError::Invalid)?;
        if u32::from_le_bytes(*head) != VERSION {
            return Err(FsError::NotSupported);
        }
        let (entries, rest) = rest.as_chunks::<ENTRY>();
        if !rest.is_empty() {
            return Err(FsError::Invalid);
        }
        if entries.is_empty() {
            return Ok(None);
        }
        let acl = Acl(entries.iter().map(Entry::decode).collect());
        acl.is_valid().then_some(Some(acl)).ok_or(FsError::Invalid)
    }

    /// Encodes.
    pub fn encode(&self) -> Value {
        let mut out = Vec::with_capacity(HEAD + self.0.len() * ENTRY);
        out.extend_from_slice(&VERSION.to_le_bytes());
        for entry in &self.0 {
            out.extend_from_slice(&entry.kind.to_le_bytes());
            out.extend_from_slice(&entry.perm.to_le_bytes());
            out.extend_from_slice(&entry.id.to_le_bytes());
        }
        Bytes::from(out)
    }

    /// The three classes in their order, each once; a mask wherever somebody is named.
    fn is_valid(&self) -> bool {
        use kind::{GROUP, GROUP_OBJ, MASK, OTHER, USER, USER_OBJ};
        let mut before = 0;
        let mut named = false;
        for Entry { kind, perm, id } in &self.0 {
            let follows = match *kind {
                USER_OBJ => before == 0,
                USER => matches!(before, USER_OBJ | USER),
                GROUP_OBJ => matches!(before, USER_OBJ | USER),
                GROUP => matches!(before, GROUP_OBJ | GROUP),
                MASK => matches!(before, GROUP_OBJ | GROUP),
                OTHER => before == MASK || (matches!(before, GROUP_OBJ | GROUP) && !named),
                _ => false,
            };
            let by_id = matches!(*kind, USER | GROUP);
            if !follows || *perm > 7 || (by_id && *id == NO_ID) {
                return false;
            }
            named |= by_id;
            before = *kind;
        }
        before == OTHER
    }

    /// The nine permission bits that it stands for: the group's are the mask's, if it has one.
    pub fn mode(&self) -> u32 {
        let [user, group, other] = self.classes().map(|at| u32::from(self.0[at].perm));
        user << 6 | group << 3 | other
    }

    /// Whether the permission bits say everything that it says.
    pub fn is_minimal(&self) -> bool {
        self.0.len() == 3
    }

    /// chmod: owner, other, and the mask (or the group, without one) become the mode's.
    pub fn set_mode(&mut self, mode: u32) {
        let [user, group, other] = self.classes();
        self.0[user].perm = (mode >> 6 & 7) as u16;
        self.0[group].perm = (mode >> 3 & 7) as u16;
        self.0[other].perm = (mode & 7) as u16;
    }

    /// What something that is made with `mode` inherits from this default ACL: no more than the mode
    /// allows. Returns the mode with the permission bits of the result.
    pub fn inherit(&mut self, mode: u32) -> u32 {
        self.set_mode(mode & self.mode());
        mode & !0o777 | self.mode()
    }

    /// Where the entries of the three classes are.
    fn classes(&self) -> [usize; 3] {
        let at = |kind| self.0.iter().position(|entry| entry.kind == kind);
        let group = at(kind::MASK).or_else(|| at(kind::GROUP_OBJ));
        [at(kind::USER_OBJ), group, at(kind::OTHER)]
            .map(|at| at.expect("a valid ACL has all three"))
    }
}

impl Entry {
    fn decode(bytes: &[u8; ENTRY]) -> Entry {
        let [a, b, c, d, id @ ..] = *bytes;
        let kind = u16::from_le_bytes([a, b]);
        let id = match kind {
            kind::USER | kind::GROUP => u32::from_le_bytes(id),
            _ => NO_ID,
        };
        Entry { kind, perm: u16::from_le_bytes([c, d]), id }
    }
}

#[cfg(test)]
mod tests;
