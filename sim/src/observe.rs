//! Looking at the whole tree through the machine itself: after a crash, a remount, and at the end.
//!
//! Owns: the walk and its result. Never does: judging it.

use bytes::Bytes;
use std::collections::BTreeMap;
use vellum_core::id::{Handle, Ino};
use vellum_core::port::control::{Answer, Control, Place};
use vellum_core::port::kernel::{
    Attr, OpenFlags, Operation, Piece, Reply, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG,
};
use vellum_model::{Caller, Fs, New, NodeId, SetAttr, SetTime, XattrMode};

use crate::check::shown;
use crate::replay::{Mirror, kind, time};
use crate::times::Times;
use crate::world::{Failure, Outcome, World, brief};

/// Bytes at the front of a file that are always looked at.
const FRONT: u64 = 256 << 10;
/// Bytes of one file that are looked at, at most.
const LOOK_MAX: u64 = 16 << 20;
/// Bytes of a READ where some may fail.
const PAGE: u64 = 4096;
/// Bytes of one READ.
const READ: u64 = 1 << 20;

/// What the whole tree looks like.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Every inode that has a name.
    pub nodes: BTreeMap<Ino, Node>,
    /// Some bytes could not be read, and are taken for zeros.
    pub damaged: bool,
}

/// One inode.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its attributes.
    pub attr: Attr,
    /// Of a directory.
    pub entries: BTreeMap<Bytes, Ino>,
    /// Extended attributes.
    pub xattrs: BTreeMap<Bytes, Bytes>,
    /// Of a symlink.
    pub target: Bytes,
    /// Parts of a file: offset and bytes. What is left out is believed to be zeros.
    pub content: Vec<(u64, Vec<u8>)>,
}

/// Walks the tree. `hints` are states in which the files may be: their data is looked at.
///
/// # Errors
/// When the machine refuses something that must work.
pub fn observe(world: &mut World, hints: &[&Mirror]) -> Outcome<Observed> {
    let rates = world.link.suspend();
    let observed = walk(world, hints);
    world.link.resume(rates);
    observed
}

impl Observed {
    /// The times of every inode.
    pub fn times(&self) -> BTreeMap<Ino, Times> {
        self.nodes.iter().map(|(ino, node)| (*ino, Times::shown(shown(&node.attr)))).collect()
    }

    /// The model in this state.
    pub fn mirror(&self) -> Mirror {
        let root = &self.nodes[&Ino::ROOT].attr;
        let mut fs = Fs::new(new(root), time(root.btime));
        let mut nodes = BTreeMap::from([(Ino::ROOT, NodeId::ROOT)]);
        self.build(&mut fs, &mut nodes, Ino::ROOT);
        for (ino, node) in &nodes {
            let Node { attr, xattrs, .. } = &self.nodes[ino];
            let set = SetAttr {
                perm: Some((attr.mode & 0o7777) as u16),
                uid: Some(attr.uid),
                gid: Some(attr.gid),
                size: (attr.mode & S_IFMT == S_IFREG).then_some(attr.size),
                atime: SetTime::Set(time(attr.atime)),
                mtime: SetTime::Set(time(attr.mtime)),
                chown: false,
            };
            fs.setattr(*node, &set, Caller::Privileged, time(attr.ctime))
                .expect("the node is there");
            // Last: an owner that is set takes capabilities.
            for (name, value) in xattrs {
                let (who, at) = (Caller::Privileged, time(attr.ctime));
                fs.setxattr(*node, name, value, XattrMode::Any, who, at).expect("it was there");
            }
            fs.hold(*node).expect("the node is there");
        }
        let holes_known = nodes.len() == 1;
        Mirror { fs, nodes, holes_known }
    }

    fn build(&self, fs: &mut Fs, nodes: &mut BTreeMap<Ino, NodeId>, dir: Ino) {
        let parent = nodes[&dir];
        for (name, ino) in &self.nodes[&dir].entries {
            let node = &self.nodes[ino];
            let (attr, born) = (&node.attr, time(node.attr.btime));
            if let Some(known) = nodes.get(ino) {
                fs.link(*known, parent, name, born).expect("the name is free");
                continue;
            }
            let made = match attr.mode & S_IFMT {
                S_IFDIR => fs.mkdir(parent, name, new(attr), born),
                S_IFLNK => fs.symlink(parent, name, &node.target, new(attr), born),
                _ => fs.mknod(parent, name, kind(attr.mode), u64::from(attr.rdev), new(attr), born),
            };
            let made = made.expect("the name is free").node;
            nodes.insert(*ino, made);
            if attr.mode & S_IFMT == S_IFDIR {
                self.build(fs, nodes, *ino);
            }
            for (offset, bytes) in &node.content {
                fill(fs, made, *offset, bytes);
            }
        }
    }
}

fn new(attr: &Attr) -> New {
    New { perm: (attr.mode & 0o7777) as u16, umask: 0, uid: attr.uid, gid: attr.gid }
}

/// Writes what is not zero.
fn fill(fs: &mut Fs, node: NodeId, offset: u64, bytes: &[u8]) {
    for (index, chunk) in bytes.chunks(4096).enumerate() {
        if chunk.iter().any(|b| *b != 0) {
            let at = offset + index as u64 * 4096;
            fs.write(node, at, chunk, Caller::Privileged, time(Default::default()))
                .expect("it was read there");
        }
    }
}

fn walk(world: &mut World, hints: &[&Mirror]) -> Outcome<Observed> {
    let mut observed = Observed::default();
    let root = attr_of(world, Ino::ROOT)?;
    add(&mut observed, root);
    let mut directories = vec![Ino::ROOT];
    let mut others = Vec::new();
    while let Some(dir) = directories.pop() {
        for (name, listed) in list(world, dir)? {
            let op = Operation::Lookup { parent: dir, name: name.clone() };
            let attr = match ask(world, op)? {
                Reply::Entry(entry) => entry.attr,
                _ => None,
            };
            let Some(attr) = attr.filter(|a| a.ino == listed) else {
                let text =
                    format!("{dir}/{name:?} is listed as {listed} and looked up as {attr:?}");
                return Err(Failure::new("walk", text));
            };
            observed.nodes.get_mut(&dir).expect("it was added").entries.insert(name, attr.ino);
            if observed.nodes.contains_key(&attr.ino) {
                if attr.mode & S_IFMT == S_IFDIR {
                    return Err(Failure::new(
                        "walk",
                        format!("directory {} has two names", attr.ino),
                    ));
                }
                continue;
            }
            add(&mut observed, attr);
            if attr.mode & S_IFMT == S_IFDIR {
                directories.push(attr.ino);
            } else {
                others.push(attr);
            }
        }
    }
    for attr in others {
        look_inside(world, &mut observed, attr, hints)?;
    }
    for (ino, node) in &mut observed.nodes {
        node.xattrs = xattrs(world, *ino)?;
    }
    Ok(observed)
}

fn look_inside(
    world: &mut World,
    observed: &mut Observed,
    attr: Attr,
    hints: &[&Mirror],
) -> Outcome<()> {
    let node = observed.nodes.get_mut(&attr.ino).expect("it was added");
    match attr.mode & S_IFMT {
        S_IFLNK => match ask(world, Operation::ReadLink { ino: attr.ino })? {
            Reply::Target(target) => node.target = target.clone(),
            other => {
                return Err(Failure::new(
                    "walk",
                    format!("readlink of {} = {}", attr.ino, brief(&other)),
                ));
            }
        },
        S_IFREG if attr.size > 0 => {
            node.content = content(world, &attr, hints, &mut observed.damaged)?;
        }
        _ => {}
    }
    Ok(())
}

fn xattrs(world: &mut World, ino: Ino) -> Outcome<BTreeMap<Bytes, Bytes>> {
    const ROOM: u32 = 1 << 16;
    let list = match ask(world, Operation::ListXattr { ino, room: ROOM })? {
        Reply::Value(list) => list.clone(),
        other => {
            return Err(Failure::new("walk", format!("listxattr of {ino} = {}", brief(&other))));
        }
    };
    let mut found = BTreeMap::new();
    for name in list.split(|b| *b == 0).filter(|name| !name.is_empty()) {
        let name = Bytes::copy_from_slice(name);
        let op = Operation::GetXattr { ino, name: name.clone(), room: ROOM };
        let value = match ask(world, op)? {
            Reply::Value(value) => value.clone(),
            other => {
                let text = format!("getxattr of {ino} {name:?} = {}", brief(&other));
                return Err(Failure::new("walk", text));
            }
        };
        found.insert(name, value);
    }
    Ok(found)
}

fn add(observed: &mut Observed, attr: Attr) {
    let node = Node {
        attr,
        entries: BTreeMap::new(),
        xattrs: BTreeMap::new(),
        target: Bytes::new(),
        content: Vec::new(),
    };
    observed.nodes.insert(attr.ino, node);
}

fn attr_of(world: &mut World, ino: Ino) -> Outcome<Attr> {
    match ask(world, Operation::GetAttr { ino, handle: None })? {
        Reply::Attr { attr, .. } => Ok(*attr),
        other => Err(Failure::new("walk", format!("getattr of {ino} = {}", brief(&other)))),
    }
}

fn list(world: &mut World, ino: Ino) -> Outcome<Vec<(Bytes, Ino)>> {
    let handle = open(world, Operation::OpenDir { ino })?;
    let mut names = Vec::new();
    let mut cookie = 0;
    loop {
        let op = Operation::ReadDir { ino, handle, cookie, room: 4096, plus: false };
        let entries = match ask(world, op)? {
            Reply::Entries(entries) => entries,
            other => {
                return Err(Failure::new("walk", format!("readdir of {ino} = {}", brief(&other))));
            }
        };
        let Some(last) = entries.last() else { break };
        cookie = last.cookie;
        let real = entries.iter().filter(|e| !matches!(&e.name[..], b"." | b".."));
        names.extend(real.map(|e| (e.name.clone(), e.ino)));
    }
    close(world, Operation::ReleaseDir { ino, handle })?;
    Ok(names)
}

fn content(
    world: &mut World,
    attr: &Attr,
    hints: &[&Mirror],
    damaged: &mut bool,
) -> Outcome<Vec<(u64, Vec<u8>)>> {
    let ino = attr.ino;
    let ranges = ranges(world, attr, hints)?;
    let handle = open(world, Operation::Open { ino, flags: OpenFlags(0) })?;
    let mut content = Vec::new();
    for (from, to) in ranges {
        let mut at = from;
        while at < to {
            // Where a disk is damaged, each page tells for itself.
            let rotten = world.stores.rotten();
            let len = (to - at).min(if rotten { PAGE } else { READ });
            let op = Operation::Read { ino, handle, offset: at, len: len as u32 };
            let bytes = match ask(world, op)? {
                Reply::Data(pieces) => flat(pieces),
                Reply::Error(error) if rotten && error.errno() == 5 => {
                    *damaged = true;
                    at += len;
                    continue;
                }
                other => {
                    return Err(Failure::new(
                        "walk-read",
                        format!("read of {ino} at {at} = {}", brief(&other)),
                    ));
                }
            };
            if bytes.len() as u64 != len {
                let text = format!(
                    "read of {ino} at {at} gave {} of {len} bytes, size {}",
                    bytes.len(),
                    attr.size
                );
                return Err(Failure::new("walk", text));
            }
            content.push((at, bytes));
            at += len;
        }
    }
    close(world, Operation::Flush { ino, handle })?;
    close(world, Operation::Release { ino, handle })?;
    Ok(content)
}

/// Where a file may have bytes: its front and end, its extents, the data of the hints.
fn ranges(world: &mut World, attr: &Attr, hints: &[&Mirror]) -> Outcome<Vec<(u64, u64)>> {
    let size = attr.size;
    let mut ranges = vec![(0, FRONT), (size.saturating_sub(4096), size)];
    if let Answer::Info(info) = world.control(Control::Info { ino: attr.ino })? {
        let stored = |p: &Place| matches!(p, Place::Log | Place::Segment { .. });
        ranges.extend(
            info.extents
                .iter()
                .filter(|e| stored(&e.place))
                .map(|e| (e.offset, e.offset.saturating_add(e.len))),
        );
    }
    for hint in hints {
        let Ok(node) = hint.node(attr.ino) else { continue };
        let mut at = 0;
        while let Ok(data) = hint.fs.seek_data(node, at) {
            let hole = hint.fs.seek_hole(node, data).unwrap_or(size.max(data + 1));
            ranges.push((data, hole));
            at = hole;
        }
    }
    let mut merged: Vec<(u64, u64)> = Vec::new();
    ranges.sort_unstable();
    for (from, to) in ranges {
        let (from, to) = (from / 4096 * 4096, to.min(size));
        if from >= to {
            continue;
        }
        match merged.last_mut() {
            Some((_, end)) if *end >= from => *end = (*end).max(to),
            _ => merged.push((from, to)),
        }
    }
    let mut budget = LOOK_MAX;
    for (from, to) in &mut merged {
        *to = (*to).min(*from + budget);
        budget -= *to - *from;
    }
    Ok(merged)
}

fn open(world: &mut World, op: Operation) -> Outcome<Handle> {
    match ask(world, op.clone())? {
        Reply::Opened(opened) => Ok(opened.handle),
        other => Err(Failure::new("walk", format!("{} = {}", brief(&op), brief(&other)))),
    }
}

fn close(world: &mut World, op: Operation) -> Outcome<()> {
    match ask(world, op.clone())? {
        Reply::Done => Ok(()),
        other => Err(Failure::new("walk", format!("{} = {}", brief(&op), brief(&other)))),
    }
}

/// A request of the walk; the kernel keeps account of what it hands out.
pub(crate) fn ask(world: &mut World, op: Operation) -> Outcome<&Reply> {
    world.call(op)?;
    let World { callers, epoch, .. } = world;
    let record = epoch.records.last().expect("just answered");
    callers.kernel.note(&record.op, &record.reply);
    Ok(&record.reply)
}

fn flat(pieces: &[Piece]) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Bytes(bytes) => out.extend_from_slice(bytes),
            Piece::Zeros(n) => out.resize(out.len() + *n as usize, 0),
        }
    }
    out
}
