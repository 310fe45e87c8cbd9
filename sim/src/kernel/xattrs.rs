//! Which extended attributes the callers ask for, and their values.

use bytes::Bytes;
use vellum_core::id::Ino;
use vellum_core::port::kernel::{Operation, S_IFDIR, S_IFLNK, S_IFREG};

use super::{Concrete, Kernel};
use crate::plan::Step;

pub(super) const ACCESS_ACL: &[u8] = b"system.posix_acl_access";
const DEFAULT_ACL: &[u8] = b"system.posix_acl_default";

impl Kernel {
    pub(super) fn resolve_xattr(&mut self, step: &Step) -> Concrete {
        let op = match *step {
            Step::SetXattr(pick, which, value, flags) => {
                let ino = self.node(pick);
                let name = self.xattr_name(ino, which);
                let value = match &name[..] {
                    ACCESS_ACL | DEFAULT_ACL => acl(pick, value),
                    _ => self.payload(value.into()),
                };
                let kill_sgid = name == ACCESS_ACL && pick.is_multiple_of(3);
                Operation::SetXattr { ino, name, value, flags, kill_sgid }
            }
            Step::GetXattr(pick, which, room) => {
                let ino = self.node(pick);
                Operation::GetXattr { ino, name: self.xattr_name(ino, which), room }
            }
            Step::ListXattr(pick, room) => Operation::ListXattr { ino: self.node(pick), room },
            Step::RemoveXattr(pick, which) => {
                let ino = self.node(pick);
                Operation::RemoveXattr { ino, name: self.xattr_name(ino, which) }
            }
            _ => return Concrete::Skip,
        };
        Concrete::Requests(vec![op])
    }

    /// An attribute that Linux lets pass for this inode.
    fn xattr_name(&self, ino: Ino, which: u8) -> Bytes {
        let kind = self.kind(ino);
        let name: &[u8] = match which {
            0..=2 if matches!(kind, S_IFREG | S_IFDIR) => b"user.a",
            3 if matches!(kind, S_IFREG | S_IFDIR) => b"user.b",
            4..=6 if kind != S_IFLNK => ACCESS_ACL,
            7..=8 if kind != S_IFLNK => DEFAULT_ACL,
            // Without locks a write may or may not meet one that comes at the same time.
            9..=10 if self.locking => b"security.capability",
            11 => b"security.z",
            _ => b"trusted.t",
        };
        Bytes::from_static(name)
    }
}

/// An ACL: with or without named users and a mask.
fn acl(pick: u32, value: u16) -> Bytes {
    let perm = |shift: u32| (pick >> shift & 7) as u16;
    let none = u32::MAX;
    let mut entries = vec![(0x01, perm(0), none)];
    if value > 1 {
        entries.push((0x02, perm(3), 1000));
    }
    entries.push((0x04, perm(6), none));
    if value > 20 {
        entries.push((0x08, perm(9), 5));
    }
    if value > 0 {
        entries.push((0x10, perm(12), none));
    }
    entries.push((0x20, perm(15), none));
    let mut out = vec![2, 0, 0, 0];
    for (tag, perm, id) in entries {
        out.extend(u16::to_le_bytes(tag));
        out.extend(perm.to_le_bytes());
        out.extend(id.to_le_bytes());
    }
    Bytes::from(out)
}
