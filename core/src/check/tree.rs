//! The directories form a tree: parent pointers lead from each one to the root.

use super::{Check, Fix, rule};
use crate::id::Ino;
use crate::meta::key;
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

/// What is known of the way up from a directory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Unknown,
    /// On the way that is being followed.
    Here,
    /// It ends: at the root, or where another rule is broken.
    Ends,
}

/// Follows every parent pointer once.
pub(super) fn check(check: &mut Check) {
    let dirs = check.inodes.dirs();
    let mut ways = vec![Way::Unknown; dirs.len()];
    for start in 0..dirs.len() {
        let mut path = Vec::new();
        let mut at = Some(start);
        while let Some(here) = at {
            if ways[here] == Way::Here {
                let ino = dirs[here].ino;
                let text = format!("directory {ino} is its own ancestor");
                // Without its name the circle is open, and what is in it comes to /lost+found.
                let home = check.inodes.find(ino).filter(|inode| inode.home_seen);
                let fix = home.map(|i| Fix::Clear([key::dentry(i.home.0, i.home.1)].into()));
                check.problems.add_with(rule::DIR_TREE, text, fix);
            }
            if ways[here] != Way::Unknown || dirs[here].ino == Ino::ROOT {
                break;
            }
            ways[here] = Way::Here;
            path.push(here);
            at = dirs[here].parent.and_then(|parent| check.inodes.dir_at(parent));
        }
        path.into_iter().for_each(|passed| ways[passed] = Way::Ends);
    }
}
