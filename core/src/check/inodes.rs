//! The inodes of the volume as later rules need them: a few words each, found by number.

use crate::id::Ino;
use crate::meta::record::Pair;
use alloc::vec::Vec;

/// One inode.
#[derive(Clone, Copy, Debug)]
pub(super) struct Inode {
    pub(super) ino: Ino,
    /// Its core decodes. If not, nothing below is known.
    pub(super) readable: bool,
    /// Type bits.
    pub(super) kind: u32,
    pub(super) nlink: u32,
    /// Data generation.
    pub(super) generation: u64,
    /// Directory and cookie of the home name.
    pub(super) home: (Ino, u64),
    /// A directory entry stands at the home name and names this inode.
    pub(super) home_seen: bool,
    /// Directory entries that name it.
    pub(super) names: u32,
    /// Back links that point to one of these.
    pub(super) back_links: u32,
}

/// What else there is to know of a directory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dir {
    pub(super) ino: Ino,
    pub(super) parent: Option<Ino>,
    /// Subdirectories and entries as its counter says.
    pub(super) counted: Pair,
    /// Subdirectories and entries as they are.
    pub(super) found: Pair,
    /// All its entries and its counter were readable.
    pub(super) readable: bool,
}

/// All inodes, in the order of their numbers.
#[derive(Debug, Default)]
pub(super) struct Inodes {
    all: Vec<Inode>,
    dirs: Vec<Dir>,
    /// Inodes that have a core.
    pub(super) cores: u64,
    /// Sum of the bytes that they count as theirs.
    pub(super) bytes: i64,
    /// A counter of bytes was unreadable, so that the sum means nothing.
    pub(super) bytes_unknown: bool,
}

impl Inodes {
    /// Adds one; they come in the order of their numbers.
    pub(super) fn push(&mut self, inode: Inode, dir: Option<Dir>) {
        assert!(self.all.last().is_none_or(|last| last.ino < inode.ino), "rows come in order");
        self.all.push(inode);
        self.dirs.extend(dir);
    }

    /// Adds to the sum of bytes; a damaged counter may say anything.
    pub(super) fn count_bytes(&mut self, bytes: i64) {
        self.bytes = self.bytes.saturating_add(bytes);
    }

    pub(super) fn find(&self, ino: Ino) -> Option<&Inode> {
        Some(&self.all[self.all.binary_search_by_key(&ino, |i| i.ino).ok()?])
    }

    pub(super) fn find_mut(&mut self, ino: Ino) -> Option<&mut Inode> {
        let at = self.all.binary_search_by_key(&ino, |i| i.ino).ok()?;
        Some(&mut self.all[at])
    }

    /// The place of a directory in [`Inodes::dirs`].
    pub(super) fn dir_at(&self, ino: Ino) -> Option<usize> {
        self.dirs.binary_search_by_key(&ino, |d| d.ino).ok()
    }

    pub(super) fn dir_mut(&mut self, ino: Ino) -> Option<&mut Dir> {
        let at = self.dir_at(ino)?;
        Some(&mut self.dirs[at])
    }

    pub(super) fn dirs(&self) -> &[Dir] {
        &self.dirs
    }

    /// All inodes with a core that decodes.
    pub(super) fn readable(&self) -> impl Iterator<Item = &Inode> {
        self.all.iter().filter(|inode| inode.readable)
    }
}
