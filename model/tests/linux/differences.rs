//! Where real filesystems differ from the model by their own choice. Everything else must agree.

use std::path::Path;

use vellum_model::{Allocate, Error, Op, Result, Syscalls};

/// The filesystems whose differences are known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Flavor {
    Tmpfs,
    Ext4,
    Other,
}

/// A class of calls that a filesystem does otherwise, so that the comparison leaves it out there.
pub(crate) struct Difference {
    on: Flavor,
    /// What it does instead.
    pub(crate) how: &'static str,
    covers: fn(&Op, &Syscalls) -> bool,
}

const DIFFERENCES: [Difference; 4] = [
    Difference {
        on: Flavor::Tmpfs,
        how: "zeroing a range is not supported (EOPNOTSUPP)",
        covers: |op, _| {
            matches!(op, Op::Fallocate { mode: Allocate::ZeroExtend | Allocate::ZeroKeep, .. })
        },
    },
    Difference {
        on: Flavor::Tmpfs,
        how: "a read of no bytes is an access (POSIX: only where nbyte is greater than 0)",
        covers: |op, _| matches!(op, Op::Pread { len: 0, .. }),
    },
    Difference {
        on: Flavor::Tmpfs,
        how: "removing an ACL that is not there stamps ctime",
        covers: |op, model| match op {
            Op::Removexattr { path, name, follow } => lacks(model, path, name, *follow),
            // An empty list removes one, too.
            Op::Setxattr { path, name, value, follow, .. } if value.len() <= 4 => {
                lacks(model, path, name, *follow)
            }
            _ => false,
        },
    },
    Difference {
        on: Flavor::Ext4,
        how: "setting an attribute to the value it has stamps nothing",
        covers: |op, model| match op {
            Op::Setxattr { path, name, value, follow, .. } => {
                xattr(model, path, name, *follow).as_ref() == Ok(value)
            }
            _ => false,
        },
    },
];

fn lacks(model: &Syscalls, path: &[u8], name: &[u8], follow: bool) -> bool {
    name.starts_with(b"system.") && xattr(model, path, name, follow) == Err(Error::NoData)
}

fn xattr(model: &Syscalls, path: &[u8], name: &[u8], follow: bool) -> Result<Vec<u8>> {
    model.fs.getxattr(model.node_at(path, follow)?, name)
}

impl Flavor {
    /// By the magic number of statfs(2).
    pub(crate) fn of(dir: &Path) -> Self {
        match rustix::fs::statfs(dir).expect("a place to work").f_type {
            0x0102_1994 => Self::Tmpfs,
            0xef53 => Self::Ext4,
            _ => Self::Other,
        }
    }

    /// Whether a known difference covers this call.
    pub(crate) fn differs(self, op: &Op, model: &Syscalls) -> bool {
        self.differences().any(|difference| (difference.covers)(op, model))
    }

    pub(crate) fn differences(self) -> impl Iterator<Item = &'static Difference> {
        DIFFERENCES.iter().filter(move |difference| difference.on == self)
    }
}
