//! Names and link counts of each inode, once all directory entries and back links were seen.

use super::inodes::Inode;
use super::problems::Problems;
use super::{Check, rule};
use crate::id::Ino;
use crate::port::kernel::S_IFDIR;
use alloc::format;

/// Checks every inode.
pub(super) fn check(check: &mut Check) {
    for inode in check.inodes.readable() {
        match (inode.ino, inode.kind) {
            (Ino::ROOT, _) => check_root(&mut check.problems, inode),
            (_, S_IFDIR) => check_dir(&mut check.problems, inode),
            _ => check_file(&mut check.problems, inode),
        }
    }
}

fn check_root(problems: &mut Problems, root: &Inode) {
    if root.names != 0 {
        problems.add(rule::DIR_NAMES, format!("the root directory has {} names", root.names));
    }
    if root.nlink != 1 {
        problems.add(rule::NLINK, format!("the root directory has link count {}", root.nlink));
    }
}

fn check_dir(problems: &mut Problems, dir: &Inode) {
    if dir.names > 1 {
        let text = format!("directory {}: {} names", dir.ino, dir.names);
        return problems.add(rule::DIR_NAMES, text);
    }
    check_count(problems, dir);
}

fn check_file(problems: &mut Problems, inode: &Inode) {
    check_count(problems, inode);
    if inode.nlink == inode.names && inode.nlink > 1 && inode.back_links < inode.names {
        let text =
            format!("inode {}: {} names, {} back links", inode.ino, inode.names, inode.back_links);
        problems.add(rule::BACK_LINK, text);
    }
}

fn check_count(problems: &mut Problems, inode: &Inode) {
    if inode.nlink > 0 && inode.names == 0 {
        let text = format!("inode {}: link count {}, but no name", inode.ino, inode.nlink);
        return problems.add(rule::INODE_UNREACHABLE, text);
    }
    if inode.nlink != inode.names {
        let text =
            format!("inode {}: link count {}, {} names", inode.ino, inode.nlink, inode.names);
        return problems.add(rule::NLINK, text);
    }
    if inode.nlink > 0 && !inode.home_seen {
        let (dir, cookie) = inode.home;
        let text = format!(
            "inode {}: its home name is at directory {dir}, cookie {cookie:#x}; there it is not",
            inode.ino
        );
        problems.add(rule::HOME_NAME, text);
    }
}
