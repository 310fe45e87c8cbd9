//! The extended attributes of one inode: names, values, ACLs, and what the core and the counter say.

use super::repair::{CoreEdit, Fix};
use super::{Check, rule};
use crate::id::Ino;
use crate::limits::XATTR_SIZE_MAX;
use crate::meta::acl::Acl;
use crate::meta::key::{self, tag};
use crate::meta::ops::xattr::{ACCESS_ACL, DEFAULT_ACL, check_name, flag_of};
use crate::meta::record::{Core, Pair, flag};
use crate::port::meta_kv::Value;
use alloc::format;

/// The flags that tell of attributes.
const FLAGS: u16 = flag::XATTR | flag::CAPABILITY | flag::ACCESS_ACL | flag::DEFAULT_ACL;

/// What was seen of an inode's attributes.
#[derive(Debug, Default)]
pub(super) struct Xattrs {
    /// What its counter says.
    pub(super) counted: Pair,
    found: Pair,
    flags: u16,
    /// The permission bits that its access ACL stands for.
    access: Option<u32>,
}

impl Xattrs {
    pub(super) fn row(&mut self, check: &mut Check, ino: Ino, name: &[u8], value: &Value) {
        self.found.hi += name.len() as i64 + 1;
        self.found.lo += value.len() as i64;
        self.flags |= flag::XATTR | flag_of(name).unwrap_or(0);
        let good = check_name(name).is_ok()
            && value.len() <= XATTR_SIZE_MAX
            && (!matches!(name, ACCESS_ACL | DEFAULT_ACL) || self.acl(name, value));
        if !good {
            let name = name.escape_ascii();
            let text = format!("inode {ino}: extended attribute {name} is {value:?}");
            check.problems.add(rule::XATTR_DECODE, text);
        }
    }

    /// Whether an ACL is one, and one that had to be kept.
    fn acl(&mut self, name: &[u8], value: &Value) -> bool {
        let Ok(Some(acl)) = Acl::decode(value) else { return false };
        if name == ACCESS_ACL {
            self.access = Some(acl.mode());
        }
        name == DEFAULT_ACL || !acl.is_minimal()
    }

    /// Bytes that the counter claims; a damaged one may say anything.
    pub(super) fn bytes(&self) -> i64 {
        self.counted.hi.saturating_add(self.counted.lo)
    }

    /// All rows were seen.
    pub(super) fn finish(self, check: &mut Check, ino: Ino, core: &Core) {
        if core.flags & FLAGS != self.flags {
            let text = format!(
                "inode {ino}: flags {:#x}, attributes for {:#x}",
                core.flags & FLAGS,
                self.flags
            );
            let edit = CoreEdit::Flags { all: FLAGS, set: self.flags };
            check.problems.add_with(rule::XATTR_FLAGS, text, Some(Fix::Core(ino, edit)));
        }
        if self.counted != self.found {
            let text = format!(
                "inode {ino}: counted {} bytes of attribute names and {} of values, found {} and {}",
                self.counted.hi, self.counted.lo, self.found.hi, self.found.lo
            );
            let fix = Fix::put(key::inode(ino, tag::XATTRS), self.found.encode());
            check.problems.add_with(rule::XATTR_USAGE, text, fix);
        }
        let stray = self.flags & flag::DEFAULT_ACL != 0 && !core.is_dir();
        if stray || self.access.is_some_and(|mode| mode != core.mode & 0o777) {
            let text = format!("inode {ino}: mode {:#o} and ACL {:?}", core.mode, self.access);
            check.problems.add(rule::ACL_MODE, text);
        }
    }
}
