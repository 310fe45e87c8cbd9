//! Names and link counts of each inode, once all directory entries and back links were seen.

use super::inodes::Inode;
use super::problems::Problems;
use super::repair::CoreEdit;
use super::{Check, Fix, rule};
use crate::id::Ino;
use crate::port::kernel::S_IFDIR;
use alloc::format;

/// Checks every inode.
pub(super) fn check(check: &mut Check) {
    // An entry that nobody can read may be the name that is missing.
    let sure = !check.names_unknown;
    for inode in check.inodes.readable() {
        match (inode.ino, inode.kind) {
            (Ino::ROOT, _) => check_root(&mut check.problems, inode),
            (_, S_IFDIR) => check_dir(&mut check.problems, inode, sure),
            _ => check_file(&mut check.problems, inode, sure),
        }
    }
}

fn check_root(problems: &mut Problems, root: &Inode) {
    if root.names != 0 {
        let text = format!("the root directory has {} names", root.names);
        problems.add_with(rule::DIR_NAMES, text, Some(Fix::OneName(root.ino)));
    }
    if root.nlink != 1 {
        let text = format!("the root directory has link count {}", root.nlink);
        problems.add_with(rule::NLINK, text, Some(Fix::Core(root.ino, CoreEdit::Links(1))));
    }
}

fn check_dir(problems: &mut Problems, dir: &Inode, sure: bool) {
    if dir.names > 1 {
        let text = format!("directory {}: {} names", dir.ino, dir.names);
        return problems.add_with(rule::DIR_NAMES, text, Some(Fix::OneName(dir.ino)));
    }
    check_count(problems, dir, sure);
}

fn check_file(problems: &mut Problems, inode: &Inode, sure: bool) {
    check_count(problems, inode, sure);
    if inode.nlink == inode.names && inode.nlink > 1 && inode.back_links < inode.names {
        let text =
            format!("inode {}: {} names, {} back links", inode.ino, inode.names, inode.back_links);
        problems.add_with(rule::BACK_LINK, text, Some(Fix::BackLinks(inode.ino)));
    }
}

fn check_count(problems: &mut Problems, inode: &Inode, sure: bool) {
    if inode.nlink > 0 && inode.names == 0 {
        let text = format!("inode {}: link count {}, but no name", inode.ino, inode.nlink);
        let fix = sure.then_some(Fix::Reconnect(inode.ino));
        return problems.add_with(rule::INODE_UNREACHABLE, text, fix);
    }
    if inode.nlink != inode.names {
        let text =
            format!("inode {}: link count {}, {} names", inode.ino, inode.nlink, inode.names);
        let fix = sure.then_some(Fix::Core(inode.ino, CoreEdit::Links(inode.names)));
        return problems.add_with(rule::NLINK, text, fix);
    }
    if inode.nlink > 0 && !inode.home_seen {
        let (dir, cookie) = inode.home;
        let text = format!(
            "inode {}: its home name is at directory {dir}, cookie {cookie:#x}; there it is not",
            inode.ino
        );
        problems.add_with(rule::HOME_NAME, text, Some(Fix::Home(inode.ino)));
    }
}
