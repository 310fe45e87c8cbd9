//! What callers do in exhaustive runs: each operation of the namespace on a small tree.
//!
//! ```text
//! /d/f    a file of five bytes, also called /e/h
//! /d/n/x  a file in a directory
//! /d/l    a symbolic link
//! /e/g    a file of five bytes
//! /e/s/   an empty directory
//! /e/b    a file of 9,000 bytes in two pieces of its write log
//! ```

use bytes::Bytes;
use std::collections::BTreeMap;
use vellum_core::id::{Handle, Ino};
use vellum_core::port::control::Control;
use vellum_core::port::kernel::{
    OpenFlags, Operation, Reply, S_IFIFO, SetAttr, SetTime, WriteFlags,
};
use vellum_core::time::WallTime;

use crate::callers::Part;
use crate::check::reply_attr;
use crate::observe::ask;
use crate::world::{Failure, Outcome, World, brief};

/// What the numbers and handles of the tree are.
#[derive(Debug, Default)]
pub struct Tree {
    inos: BTreeMap<&'static str, Ino>,
    handles: BTreeMap<&'static str, Handle>,
}

/// An operation by its name.
#[derive(Clone, Copy)]
pub struct Act {
    /// As a user would write it.
    pub name: &'static str,
    make: fn(&Tree) -> Part,
}

/// A place in the tree: a directory's path and a name.
type At = (&'static str, &'static str);

impl Act {
    /// What the caller sends.
    pub fn part(&self, tree: &Tree) -> Part {
        (self.make)(tree)
    }

    /// The one with this name.
    pub fn named(name: &str) -> Option<Act> {
        ACTS.iter().find(|act| act.name == name).copied()
    }
}

impl Tree {
    /// Makes the tree.
    ///
    /// # Errors
    /// When the machine refuses.
    pub fn make(world: &mut World) -> Outcome<Tree> {
        let mut tree = Tree::default();
        tree.inos.insert("", Ino::ROOT);
        for (path, at) in
            [("d", ("", "d")), ("e", ("", "e")), ("d/n", ("d", "n")), ("e/s", ("e", "s"))]
        {
            let op = mkdir(&tree, at);
            tree.ask(world, path, op)?;
        }
        let files = [("d/f", F), ("e/g", G), ("d/n/x", ("d/n", "x")), ("e/b", B)];
        for (path, at) in files {
            let op = create(&tree, at, 0o2);
            tree.ask(world, path, op)?;
        }
        for path in ["d/f", "e/g"] {
            let op = tree.write(path, 0, b"first");
            tree.ask(world, path, op)?;
        }
        for offset in [0, 3_000] {
            let write = tree.write("e/b", offset, LARGE);
            tree.ask(world, "e/b", write)?;
            let fsync = tree.fsync("e/b");
            tree.ask(world, "e/b", fsync)?;
        }
        let link = tree.link("d/f", ("e", "h"));
        tree.ask(world, "e/h", link)?;
        let symlink = tree.symlink(("d", "l"));
        tree.ask(world, "d/l", symlink)?;
        Ok(tree)
    }

    fn ask(&mut self, world: &mut World, path: &'static str, op: Operation) -> Outcome<()> {
        let reply = ask(world, op.clone())?;
        if let Some(attr) = reply_attr(reply) {
            self.inos.insert(path, attr.ino);
        }
        match reply {
            Reply::Created { opened, .. } => {
                self.handles.insert(path, opened.handle);
            }
            Reply::Error(_) => {
                return Err(Failure::new("tree", format!("{} = {}", brief(&op), brief(reply))));
            }
            _ => {}
        }
        Ok(())
    }

    fn at(&self, (dir, name): At) -> (Ino, Bytes) {
        (self.inos[dir], Bytes::from_static(name.as_bytes()))
    }

    fn write(&self, path: &str, offset: u64, bytes: &'static [u8]) -> Operation {
        let (ino, handle) = (self.inos[path], self.handles[path]);
        let flags = WriteFlags { from_cache: false, kill_suidgid: false, append: false };
        Operation::Write { ino, handle, offset, data: Bytes::from_static(bytes), flags }
    }

    fn link(&self, path: &str, at: At) -> Operation {
        let (new_parent, new_name) = self.at(at);
        Operation::Link { ino: self.inos[path], new_parent, new_name }
    }

    fn symlink(&self, at: At) -> Operation {
        let (parent, name) = self.at(at);
        Operation::Symlink { parent, name, target: Bytes::from_static(b"to") }
    }

    fn set(&self, path: &str, set: SetAttr) -> Part {
        one(Operation::SetAttr { ino: self.inos[path], handle: None, set })
    }

    fn fsync(&self, path: &str) -> Operation {
        let (ino, handle) = (self.inos[path], self.handles[path]);
        Operation::Fsync { ino, handle, datasync: false }
    }
}

fn one(op: Operation) -> Part {
    Part::Requests(vec![op])
}

fn create(tree: &Tree, at: At, flags: u32) -> Operation {
    let (parent, name) = tree.at(at);
    let flags = OpenFlags(flags | 0o100);
    Operation::Create { parent, name, mode: 0o644, umask: 0o022, flags }
}

fn mkdir(tree: &Tree, at: At) -> Operation {
    let (parent, name) = tree.at(at);
    Operation::MkDir { parent, name, mode: 0o755, umask: 0 }
}

fn mknod(tree: &Tree, at: At) -> Part {
    let (parent, name) = tree.at(at);
    one(Operation::MkNod { parent, name, mode: S_IFIFO | 0o600, umask: 0, rdev: 0 })
}

fn unlink(tree: &Tree, at: At) -> Part {
    let (parent, name) = tree.at(at);
    one(Operation::Unlink { parent, name })
}

fn rmdir(tree: &Tree, at: At) -> Part {
    let (parent, name) = tree.at(at);
    one(Operation::RmDir { parent, name })
}

fn rename(tree: &Tree, from: At, to: At, flags: u32) -> Part {
    let ((parent, name), (new_parent, new_name)) = (tree.at(from), tree.at(to));
    one(Operation::Rename { parent, name, new_parent, new_name, flags })
}

fn lookup(tree: &Tree, at: At) -> Part {
    let (parent, name) = tree.at(at);
    one(Operation::Lookup { parent, name })
}

/// More than lies inline.
const LARGE: &[u8] = &[b'x'; 6_000];

const F: At = ("d", "f");
const H: At = ("e", "h");
const G: At = ("e", "g");
const N: At = ("d", "n");
const S: At = ("e", "s");
const B: At = ("e", "b");
const L: At = ("d", "l");
const D: At = ("", "d");
const E: At = ("", "e");
/// New names.
const DA: At = ("d", "a");
const EA: At = ("e", "a");
const SA: At = ("e/s", "a");

const NOREPLACE: u32 = 1;
const EXCHANGE: u32 = 2;

macro_rules! acts {
    ($($name:literal => $make:expr,)*) => {
        /// All of them.
        pub const ACTS: &[Act] = &[$(Act { name: $name, make: $make }),*];
    };
}

acts! {
    "create d/a" => |t| one(create(t, DA, 0o2)),
    "create -x d/a" => |t| one(create(t, DA, 0o2 | 0o200)),
    "create d/f" => |t| one(create(t, F, 0o2)),
    "create -t d/f" => |t| one(create(t, F, 0o2 | 0o1000)),
    "create e/s/a" => |t| one(create(t, SA, 0o2)),
    "mkdir d/a" => |t| one(mkdir(t, DA)),
    "mkdir e/s/a" => |t| one(mkdir(t, SA)),
    "mkfifo d/a" => |t| mknod(t, DA),
    "symlink d/a" => |t| one(t.symlink(DA)),
    "link d/f d/a" => |t| one(t.link("d/f", DA)),
    "link d/f e/s/a" => |t| one(t.link("d/f", SA)),
    "link e/g d/a" => |t| one(t.link("e/g", DA)),
    "unlink d/f" => |t| unlink(t, F),
    "unlink e/h" => |t| unlink(t, H),
    "unlink e/g" => |t| unlink(t, G),
    "unlink d/l" => |t| unlink(t, L),
    "rmdir e/s" => |t| rmdir(t, S),
    "rmdir d/n" => |t| rmdir(t, N),
    "rename d/f d/a" => |t| rename(t, F, DA, 0),
    "rename d/f e/a" => |t| rename(t, F, EA, 0),
    "rename d/f e/g" => |t| rename(t, F, G, 0),
    "rename e/g d/f" => |t| rename(t, G, F, 0),
    "rename d/f e/h" => |t| rename(t, F, H, 0),
    "rename e/g d/a" => |t| rename(t, G, DA, 0),
    "rename d/l e/s/a" => |t| rename(t, L, SA, 0),
    "rename d/n e/s" => |t| rename(t, N, S, 0),
    "rename e/s d/n" => |t| rename(t, S, N, 0),
    "rename e/s d/a" => |t| rename(t, S, DA, 0),
    "rename d/n e/a" => |t| rename(t, N, EA, 0),
    "rename d e/s/a" => |t| rename(t, D, SA, 0),
    "rename e d/n/a" => |t| rename(t, E, ("d/n", "a"), 0),
    "rename -n d/f e/a" => |t| rename(t, F, EA, NOREPLACE),
    "rename -n d/f e/g" => |t| rename(t, F, G, NOREPLACE),
    "exchange d/f e/g" => |t| rename(t, F, G, EXCHANGE),
    "exchange d/n e/g" => |t| rename(t, N, G, EXCHANGE),
    "exchange e/s d/n" => |t| rename(t, S, N, EXCHANGE),
    "exchange d/f d/a" => |t| rename(t, F, DA, EXCHANGE),
    "chmod d/f" => |t| t.set("d/f", SetAttr { mode: Some(0o600), ..SetAttr::default() }),
    "chmod d" => |t| t.set("d", SetAttr { mode: Some(0o700), ..SetAttr::default() }),
    "chown e/g" => |t| t.set("e/g", SetAttr { uid: Some(7), kill_suidgid: true, ..SetAttr::default() }),
    "touch d/f" => |t| {
        let mtime = Some(SetTime::At(WallTime::new(1_000, 0)));
        t.set("d/f", SetAttr { mtime, ..SetAttr::default() })
    },
    "truncate d/f 0" => |t| t.set("d/f", SetAttr { size: Some(0), ..SetAttr::default() }),
    "truncate d/f 3" => |t| t.set("d/f", SetAttr { size: Some(3), ..SetAttr::default() }),
    "write d/f" => |t| one(t.write("d/f", 2, b"second")),
    "write d/f, fsync" => |t| Part::Requests(vec![t.write("d/f", 4, b"third"), t.fsync("d/f")]),
    "punch d/f" => |t| {
        let (ino, handle) = (t.inos["d/f"], t.handles["d/f"]);
        one(Operation::Fallocate { ino, handle, offset: 1, len: 2, mode: 3 })
    },
    "copy e/g d/f" => |t| one(Operation::CopyRange {
        ino: t.inos["e/g"],
        handle: t.handles["e/g"],
        offset: 1,
        to_ino: t.inos["d/f"],
        to_handle: t.handles["d/f"],
        to_offset: 3,
        len: 4,
    }),
    "fold e/b" => |t| Part::Command(Control::Compact { ino: t.inos["e/b"] }),
    "write e/b, fsync" => |t| Part::Requests(vec![t.write("e/b", 2_000, b"second"), t.fsync("e/b")]),
    "truncate e/b 2500" => |t| t.set("e/b", SetAttr { size: Some(2_500), ..SetAttr::default() }),
    "truncate e/b 0" => |t| t.set("e/b", SetAttr { size: Some(0), ..SetAttr::default() }),
    "punch e/b" => |t| {
        let (ino, handle) = (t.inos["e/b"], t.handles["e/b"]);
        one(Operation::Fallocate { ino, handle, offset: 100, len: 4_000, mode: 3 })
    },
    "read e/b" => |t| one(Operation::Read {
        ino: t.inos["e/b"],
        handle: t.handles["e/b"],
        offset: 0,
        len: 20_000,
    }),
    "setfattr d/f" => |t| one(Operation::SetXattr {
        ino: t.inos["d/f"],
        name: Bytes::from_static(b"user.a"),
        value: Bytes::from_static(b"value"),
        flags: 0,
        kill_sgid: false,
    }),
    "open d/f" => |t| one(Operation::Open { ino: t.inos["d/f"], flags: OpenFlags(0) }),
    "read d/f" => |t| one(Operation::Read {
        ino: t.inos["d/f"],
        handle: t.handles["d/f"],
        offset: 0,
        len: 100,
    }),
    "stat d/f" => |t| lookup(t, F),
    "stat d/a" => |t| lookup(t, DA),
    "ls d" => |t| Part::List(t.inos["d"]),
    "ls e" => |t| Part::List(t.inos["e"]),
}

/// Triples that met trouble in filesystems of this kind.
pub const TRIPLES: &[[&str; 3]] = &[
    // Directories that move below each other.
    ["rename d e/s/a", "rename e d/n/a", "rmdir e/s"],
    ["rename e/s d/n", "rename d/n e/a", "create e/s/a"],
    // The last name of a file, while it gets another one.
    ["unlink d/f", "unlink e/h", "link d/f d/a"],
    ["rename d/f e/g", "rename e/g d/f", "unlink e/h"],
    // One name, three kinds of thing.
    ["create -x d/a", "mkdir d/a", "rename e/g d/a"],
    // A directory that is removed, filled and replaced.
    ["rmdir e/s", "create e/s/a", "rename d/n e/s"],
    // What works in the background against content and size.
    ["fold e/b", "write e/b, fsync", "truncate e/b 2500"],
    ["fold e/b", "punch e/b", "read e/b"],
    // Content against size against names.
    ["write d/f, fsync", "truncate d/f 3", "rename d/f e/g"],
    ["exchange d/n e/g", "rename e/s d/a", "chmod d"],
];
