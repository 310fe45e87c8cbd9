//! Whole trees as values, to compare: the model with itself, with an implementation, with a real mount.

use std::collections::BTreeMap;
use std::fmt::Debug;

use crate::attr::{Kind, NodeId, Time};
use crate::fs::{Body, Fs};

/// Every path with what is there. The root is `/`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tree {
    /// By absolute path, in byte order.
    pub entries: BTreeMap<Vec<u8>, Entry>,
}

/// What is at one path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Kind of the node.
    pub kind: Kind,
    /// The 12 permission bits.
    pub perm: u16,
    /// Link count.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Size of a file or symbolic link, otherwise 0.
    pub size: u64,
    /// Device number of a device, otherwise 0.
    pub rdev: u64,
    /// Last access.
    pub atime: Time,
    /// Last modification.
    pub mtime: Time,
    /// Last change.
    pub ctime: Time,
    /// [`Digest`] of a file's bytes, otherwise 0.
    pub content: u64,
    /// Target of a symbolic link.
    pub target: Option<Vec<u8>>,
    /// Extended attributes.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The first path, in byte order, of the same node, if that is another one.
    pub same_as: Option<Vec<u8>>,
}

/// What two trees must agree on besides kind, permissions, owner, sizes, contents and hard links.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Compare {
    /// Link counts of directories (not every filesystem counts subdirectories).
    pub dir_links: bool,
    /// mtime and ctime.
    pub times: bool,
    /// atime.
    pub access_times: bool,
    /// Extended attributes.
    pub xattrs: bool,
}

impl Default for Compare {
    fn default() -> Self {
        Self { dir_links: true, times: false, access_times: false, xattrs: true }
    }
}

impl Fs {
    /// The whole tree below the root.
    pub fn tree(&self) -> Tree {
        let mut tree = Tree::default();
        let mut ids = BTreeMap::new();
        self.dump(NodeId::ROOT, b"/", &mut ids, &mut tree);
        // The walk meets paths in another order than that of bytes (`/a/x` before `/a.b`).
        tree.settle_links(&ids);
        tree
    }

    fn dump(&self, id: NodeId, path: &[u8], ids: &mut BTreeMap<Vec<u8>, NodeId>, tree: &mut Tree) {
        let (Ok(node), Ok(attr)) = (self.node(id), self.getattr(id)) else { return };
        let (content, target) = match &node.body {
            Body::File(data) => (Digest::of(data.chunks()), None),
            Body::Symlink(target) => (0, Some(target.clone())),
            Body::Dir { .. } | Body::Special(_) => (0, None),
        };
        let entry = Entry {
            kind: attr.kind,
            perm: attr.perm,
            nlink: attr.nlink,
            uid: attr.uid,
            gid: attr.gid,
            size: attr.size,
            rdev: attr.rdev,
            atime: attr.atime,
            mtime: attr.mtime,
            ctime: attr.ctime,
            content,
            target,
            xattrs: node.xattrs.clone(),
            same_as: None,
        };
        tree.entries.insert(path.to_vec(), entry);
        ids.insert(path.to_vec(), id);
        if let Body::Dir { entries, .. } = &node.body {
            for (name, child) in entries {
                self.dump(*child, &join(path, name), ids, tree);
            }
        }
    }
}

impl Tree {
    /// Fills in `same_as` from the identity (node or inode number) of the node at each path.
    pub fn settle_links<I: Ord + Copy>(&mut self, ids: &BTreeMap<Vec<u8>, I>) {
        let mut first: BTreeMap<I, &[u8]> = BTreeMap::new();
        for (path, id) in ids {
            let leader = *first.entry(*id).or_insert(path);
            if let Some(entry) = self.entries.get_mut(path) {
                entry.same_as = (leader != path.as_slice()).then(|| leader.to_vec());
            }
        }
    }
}

/// How `right` differs from `left`, one readable line per difference; empty if it does not.
pub fn diff(left: &Tree, right: &Tree, compare: Compare) -> Vec<String> {
    let mut lines = Vec::new();
    for (path, entry) in &left.entries {
        match right.entries.get(path) {
            None => lines.push(format!("{}: only left ({:?})", show(path), entry.kind)),
            Some(other) => diff_entry(path, entry, other, compare, &mut lines),
        }
    }
    for (path, entry) in &right.entries {
        if !left.entries.contains_key(path) {
            lines.push(format!("{}: only right ({:?})", show(path), entry.kind));
        }
    }
    lines
}

fn diff_entry(path: &[u8], left: &Entry, right: &Entry, compare: Compare, lines: &mut Vec<String>) {
    if left.kind != right.kind {
        lines.push(format!("{}: kind {:?} / {:?}", show(path), left.kind, right.kind));
        return;
    }
    let octal = |perm: u16| format!("{perm:04o}");
    let text = |bytes: &Option<Vec<u8>>| bytes.as_ref().map(|b| show(b));
    let mut line = Line { path, lines };
    line.compare("perm", octal(left.perm), octal(right.perm));
    line.compare("owner", (left.uid, left.gid), (right.uid, right.gid));
    line.compare("rdev", left.rdev, right.rdev);
    line.compare("target", text(&left.target), text(&right.target));
    line.compare("content", left.content, right.content);
    if left.kind != Kind::Dir {
        line.compare("size", left.size, right.size);
        line.compare("same as", text(&left.same_as), text(&right.same_as));
    }
    if left.kind != Kind::Dir || compare.dir_links {
        line.compare("nlink", left.nlink, right.nlink);
    }
    if compare.xattrs {
        line.compare("xattrs", &left.xattrs, &right.xattrs);
    }
    if compare.times {
        line.compare("mtime", left.mtime, right.mtime);
        line.compare("ctime", left.ctime, right.ctime);
    }
    if compare.access_times {
        line.compare("atime", left.atime, right.atime);
    }
}

struct Line<'a> {
    path: &'a [u8],
    lines: &'a mut Vec<String>,
}

impl Line<'_> {
    fn compare<T: PartialEq + Debug>(&mut self, what: &str, left: T, right: T) {
        if left != right {
            self.lines.push(format!("{}: {what} {left:?} / {right:?}", show(self.path)));
        }
    }
}

/// A digest of sparse bytes: zeros count for nothing, so holes and written zeros are the same, and the
/// order and the cuts of what is fed do not matter. Compare it together with the size.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Digest(u64);

impl Digest {
    /// Takes in bytes that lie at `offset`. Each offset may be fed once.
    pub fn feed(&mut self, offset: u64, bytes: &[u8]) {
        for (at, byte) in (offset..).zip(bytes) {
            if *byte != 0 {
                self.0 = self.0.wrapping_add(mix(at.rotate_left(8) ^ u64::from(*byte)));
            }
        }
    }

    /// The digest of what was fed so far.
    pub fn value(self) -> u64 {
        self.0
    }

    fn of<'a>(pieces: impl Iterator<Item = (u64, &'a [u8])>) -> u64 {
        let mut digest = Self::default();
        for (offset, bytes) in pieces {
            digest.feed(offset, bytes);
        }
        digest.value()
    }
}

/// The finalizer of splitmix64 (Steele, Lea, Flood 2014): spreads every bit over the word.
fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = dir.to_vec();
    if path.last() != Some(&b'/') {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

fn show(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}
