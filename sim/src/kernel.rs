//! The kernel's part: what it has looked up and opened, which locks it takes, what it sends.
//!
//! Owns: lookup counts, handles, the name cache, inode locks, cached modes. Never does: judging answers.
//! Invariants: an inode that is named in a request has a lookup count or an open handle; the last
//! FLUSH of a handle precedes its RELEASE; with locks, two changes that Linux would serialise never
//! overlap.

use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use vellum_core::id::{Handle, Ino, RequestId};
use vellum_core::port::kernel::{
    Attr, Entry, OpenFlags, Operation, Reply, S_IFDIR, S_IFMT, S_IFREG,
};

use crate::plan::Spot;

pub mod modes;
mod resolve;
mod xattrs;

use modes::Modes;
pub use resolve::Concrete;

/// Stands for the lock that serialises renames between directories.
const RENAME_LOCK: Ino = Ino(0);

/// The kernel's tables for one mount.
#[derive(Clone, Debug)]
pub struct Kernel {
    nodes: BTreeMap<Ino, Known>,
    names: BTreeMap<(Ino, Bytes), Option<Ino>>,
    handles: BTreeMap<Handle, OpenFile>,
    locks: BTreeSet<Ino>,
    locking: bool,
    /// The modes that it goes by.
    pub modes: Modes,
    /// Makes the bytes of every write different.
    serial: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Known {
    kind: u32,
    lookups: u64,
    pins: u32,
    handles: u32,
}

#[derive(Clone, Copy, Debug)]
struct OpenFile {
    ino: Ino,
    flags: OpenFlags,
    busy: u32,
    closing: bool,
}

impl Kernel {
    /// A kernel right after a mount: it knows the root.
    pub fn new(locking: bool, serial: u64) -> Kernel {
        let root = Known { kind: S_IFDIR, lookups: 1, ..Known::default() };
        Kernel {
            nodes: BTreeMap::from([(Ino::ROOT, root)]),
            names: BTreeMap::new(),
            handles: BTreeMap::new(),
            locks: BTreeSet::new(),
            modes: Modes::default(),
            locking,
            serial,
        }
    }

    /// Counts writes, so that the next mount goes on with other bytes.
    pub fn serial(&self) -> u64 {
        self.serial
    }

    /// Names that must be known before an operation can be locked, and are not.
    pub fn unknown_name(&self, op: &Operation) -> Option<(Ino, Bytes)> {
        if !self.locking {
            return None;
        }
        names_of(op).into_iter().flatten().find(|at| !self.names.contains_key(at))
    }

    /// The exclusive inode locks that Linux holds during an operation.
    pub fn locks_of(&self, op: &Operation) -> Vec<Ino> {
        if !self.locking {
            return Vec::new();
        }
        let mut locks = BTreeSet::new();
        for (dir, name) in names_of(op).into_iter().flatten() {
            locks.insert(dir);
            locks.extend(self.names.get(&(dir, name)).copied().flatten());
        }
        match op {
            Operation::SetAttr { ino, .. }
            | Operation::Write { ino, .. }
            | Operation::SetXattr { ino, .. }
            | Operation::RemoveXattr { ino, .. } => {
                locks.insert(*ino);
            }
            Operation::Link { ino, .. } | Operation::Fallocate { ino, .. } => {
                locks.insert(*ino);
            }
            Operation::CopyRange { to_ino, .. } => {
                locks.insert(*to_ino);
            }
            Operation::Rename { parent, new_parent, .. } if parent != new_parent => {
                locks.insert(RENAME_LOCK);
            }
            _ => {}
        }
        locks.into_iter().collect()
    }

    /// Takes locks, all or none.
    pub fn lock(&mut self, locks: &[Ino]) -> bool {
        if locks.iter().any(|l| self.locks.contains(l)) {
            return false;
        }
        self.locks.extend(locks);
        true
    }

    /// Gives locks back.
    pub fn unlock(&mut self, locks: &[Ino]) {
        for lock in locks {
            self.locks.remove(lock);
        }
    }

    /// The inodes and the handle that a request names stay known until [`Kernel::unpin`].
    pub fn pin(&mut self, op: &Operation) {
        self.each_pin(op, |known| known.pins += 1, |open| open.busy += 1);
    }

    /// The inverse of [`Kernel::pin`].
    pub fn unpin(&mut self, op: &Operation) {
        self.each_pin(
            op,
            |known| known.pins = known.pins.saturating_sub(1),
            |open| open.busy = open.busy.saturating_sub(1),
        );
    }

    /// Takes in an answer.
    pub fn note(&mut self, op: &Operation, reply: &Reply) {
        match (op, reply) {
            (Operation::Lookup { parent, name }, Reply::Entry(entry)) => {
                self.note_entry(*parent, name, entry)
            }
            (
                Operation::Symlink { parent, name, .. }
                | Operation::MkNod { parent, name, .. }
                | Operation::MkDir { parent, name, .. },
                Reply::Entry(entry),
            ) => self.note_entry(*parent, name, entry),
            (Operation::Link { new_parent, new_name, .. }, Reply::Entry(entry)) => {
                self.note_entry(*new_parent, new_name, entry);
            }
            (Operation::Create { parent, name, flags, .. }, Reply::Created { entry, opened }) => {
                self.note_entry(*parent, name, entry);
                if let Some(attr) = entry.attr {
                    self.note_open(opened.handle, attr.ino, *flags);
                }
            }
            (Operation::TmpFile { flags, .. }, Reply::Created { entry, opened }) => {
                if let Some(attr) = entry.attr {
                    self.note_lookup(&attr);
                    self.note_open(opened.handle, attr.ino, *flags);
                }
            }
            (Operation::Lookup { parent, name }, Reply::Error(error)) if error.errno() == 2 => {
                self.names.insert((*parent, name.clone()), None);
            }
            (
                Operation::Unlink { parent, name } | Operation::RmDir { parent, name },
                Reply::Done,
            ) => {
                self.names.insert((*parent, name.clone()), None);
            }
            (Operation::Rename { parent, name, new_parent, new_name, flags }, Reply::Done) => {
                self.note_rename((*parent, name.clone()), (*new_parent, new_name.clone()), *flags);
            }
            (Operation::Open { ino, flags }, Reply::Opened(opened)) => {
                self.note_open(opened.handle, *ino, *flags)
            }
            (Operation::OpenDir { ino }, Reply::Opened(opened)) => {
                self.note_open(opened.handle, *ino, OpenFlags(0));
                self.handles.get_mut(&opened.handle).expect("just opened").closing = true;
            }
            (Operation::Release { handle, .. } | Operation::ReleaseDir { handle, .. }, _) => {
                self.note_close(*handle)
            }
            (Operation::ReadDir { ino, .. }, Reply::Entries(entries)) => {
                for entry in entries {
                    if let Some(found) = &entry.entry {
                        self.note_entry(*ino, &entry.name, found);
                    }
                }
            }
            _ => {}
        }
    }

    /// Whether the kernel knows a name of an inode.
    pub fn has_name(&self, ino: Ino) -> bool {
        self.names.values().any(|to| *to == Some(ino))
    }

    /// A path of an inode as far as the kernel knows one; its number otherwise.
    pub fn path(&self, ino: Ino) -> String {
        let mut parts = Vec::new();
        let mut at = ino;
        while at != Ino::ROOT && parts.len() < 20 {
            let Some(((dir, name), _)) = self.names.iter().find(|(_, to)| **to == Some(at)) else {
                parts.push(format!("<{at}>"));
                parts.reverse();
                return parts.join("/");
            };
            parts.push(name.escape_ascii().to_string());
            at = *dir;
        }
        parts.reverse();
        format!("/{}", parts.join("/"))
    }

    /// What remains to be closed: open files and directories.
    pub fn open_handles(&self) -> Vec<(Handle, Ino, bool)> {
        let is_dir = |ino: Ino| self.nodes.get(&ino).is_some_and(|n| n.kind == S_IFDIR);
        self.handles.iter().map(|(handle, open)| (*handle, open.ino, is_dir(open.ino))).collect()
    }

    /// All lookups that were never given back, but the root's.
    pub fn forget_all(&mut self) -> Option<Operation> {
        let known = self.nodes.iter().filter(|(ino, n)| **ino != Ino::ROOT && n.lookups > 0);
        let nodes: Vec<(Ino, u64)> = known.map(|(ino, n)| (*ino, n.lookups)).collect();
        self.nodes.retain(|ino, _| *ino == Ino::ROOT);
        self.names.clear();
        (!nodes.is_empty()).then_some(Operation::Forget { nodes })
    }

    /// The request to interrupt: one of those under way.
    pub fn interrupt(pick: u32, under_way: &[RequestId]) -> Option<RequestId> {
        (!under_way.is_empty()).then(|| under_way[pick as usize % under_way.len()])
    }

    fn kind(&self, ino: Ino) -> u32 {
        self.nodes.get(&ino).map_or(0, |known| known.kind)
    }

    fn spot(&self, spot: Spot) -> (Ino, Bytes) {
        if spot.existing {
            let existing: Vec<&(Ino, Bytes)> = self
                .names
                .iter()
                .filter(|(at, to)| to.is_some() && self.nodes.contains_key(&at.0))
                .map(|(at, _)| at)
                .collect();
            if !existing.is_empty() {
                return existing[spot.pick as usize % existing.len()].clone();
            }
        }
        (self.dir(spot.pick), letter(spot.letter))
    }

    fn dir(&self, pick: u32) -> Ino {
        self.of_kind(pick, S_IFDIR).expect("the root is always known")
    }

    fn file(&self, pick: u32) -> Option<Ino> {
        self.of_kind(pick, S_IFREG)
    }

    fn of_kind(&self, pick: u32, kind: u32) -> Option<Ino> {
        let of_kind: Vec<Ino> =
            self.nodes.iter().filter(|(_, n)| n.kind == kind).map(|(ino, _)| *ino).collect();
        (!of_kind.is_empty()).then(|| of_kind[pick as usize % of_kind.len()])
    }

    fn node(&self, pick: u32) -> Ino {
        *self.nodes.keys().nth(pick as usize % self.nodes.len()).expect("the root is always known")
    }

    /// An inode, and sometimes the handle of an open file.
    fn node_or_handle(&self, pick: u32) -> (Ino, Option<Handle>) {
        if pick.is_multiple_of(3)
            && let Some((handle, open)) = self.handle(pick, |_| true)
        {
            return (open.ino, Some(handle));
        }
        (self.node(pick), None)
    }

    fn handle(&self, pick: u32, fit: impl Fn(OpenFlags) -> bool) -> Option<(Handle, OpenFile)> {
        let open: Vec<(Handle, OpenFile)> = self
            .handles
            .iter()
            .filter(|(_, o)| !o.closing && fit(o.flags))
            .map(|(h, o)| (*h, *o))
            .collect();
        (!open.is_empty()).then(|| open[pick as usize % open.len()])
    }

    /// Bytes that differ from write to write and from place to place, and are never zero.
    fn payload(&mut self, len: u32) -> Bytes {
        self.serial += 1;
        let mut data = Vec::with_capacity(len as usize + 8);
        let mut word = self.serial.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        while data.len() < len as usize {
            word = word.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(self.serial);
            data.extend_from_slice(&(word | 0x0101_0101_0101_0101).to_le_bytes());
        }
        data.truncate(len as usize);
        Bytes::from(data)
    }

    fn note_entry(&mut self, dir: Ino, name: &Bytes, entry: &Entry) {
        self.names.insert((dir, name.clone()), entry.attr.map(|a| a.ino));
        if let Some(attr) = &entry.attr {
            self.note_lookup(attr);
        }
    }

    fn note_lookup(&mut self, attr: &Attr) {
        let known = self.nodes.entry(attr.ino).or_default();
        known.kind = attr.mode & S_IFMT;
        known.lookups += 1;
    }

    fn note_open(&mut self, handle: Handle, ino: Ino, flags: OpenFlags) {
        self.handles.insert(handle, OpenFile { ino, flags, busy: 0, closing: false });
        self.nodes.entry(ino).or_default().handles += 1;
    }

    fn note_close(&mut self, handle: Handle) {
        if let Some(open) = self.handles.remove(&handle)
            && let Some(known) = self.nodes.get_mut(&open.ino)
        {
            known.handles -= 1;
        }
    }

    fn note_rename(&mut self, from: (Ino, Bytes), to: (Ino, Bytes), flags: u32) {
        let moved = self.names.get(&from).copied();
        let target = self.names.get(&to).copied();
        if moved.is_some() && moved == target {
            return;
        }
        let left = if flags & 2 != 0 { target } else { Some(None) };
        for (at, what) in [(from, left), (to, moved)] {
            match what {
                Some(what) => self.names.insert(at, what),
                None => self.names.remove(&at),
            };
        }
    }

    fn each_pin(
        &mut self,
        op: &Operation,
        node: impl Fn(&mut Known),
        open: impl Fn(&mut OpenFile),
    ) {
        let (inos, handles) = targets(op);
        for ino in inos.into_iter().flatten() {
            if let Some(known) = self.nodes.get_mut(&ino) {
                node(known);
            }
        }
        for handle in handles.into_iter().flatten() {
            if let Some(file) = self.handles.get_mut(&handle) {
                open(file);
            }
        }
    }
}

/// The directory entries that an operation changes.
pub fn names_of(op: &Operation) -> [Option<(Ino, Bytes)>; 2] {
    match op {
        Operation::Symlink { parent, name, .. }
        | Operation::MkNod { parent, name, .. }
        | Operation::MkDir { parent, name, .. }
        | Operation::Create { parent, name, .. }
        | Operation::Unlink { parent, name }
        | Operation::RmDir { parent, name } => [Some((*parent, name.clone())), None],
        Operation::Link { new_parent, new_name, .. } => {
            [Some((*new_parent, new_name.clone())), None]
        }
        Operation::Rename { parent, name, new_parent, new_name, .. } => {
            [Some((*parent, name.clone())), Some((*new_parent, new_name.clone()))]
        }
        _ => [None, None],
    }
}

/// The inodes and the handles that a request names.
pub fn targets(op: &Operation) -> ([Option<Ino>; 2], [Option<Handle>; 2]) {
    match op {
        Operation::Lookup { parent, .. }
        | Operation::Symlink { parent, .. }
        | Operation::MkNod { parent, .. }
        | Operation::MkDir { parent, .. }
        | Operation::Unlink { parent, .. }
        | Operation::RmDir { parent, .. }
        | Operation::TmpFile { parent, .. }
        | Operation::Create { parent, .. } => ([Some(*parent), None], [None; 2]),
        Operation::Rename { parent, new_parent, .. } => {
            ([Some(*parent), Some(*new_parent)], [None; 2])
        }
        Operation::Link { ino, new_parent, .. } => ([Some(*ino), Some(*new_parent)], [None; 2]),
        Operation::GetAttr { ino, handle } | Operation::SetAttr { ino, handle, .. } => {
            ([Some(*ino), None], [*handle, None])
        }
        Operation::ReadLink { ino }
        | Operation::Open { ino, .. }
        | Operation::OpenDir { ino }
        | Operation::GetXattr { ino, .. }
        | Operation::ListXattr { ino, .. }
        | Operation::SetXattr { ino, .. }
        | Operation::RemoveXattr { ino, .. }
        | Operation::StatFs { ino } => ([Some(*ino), None], [None; 2]),
        Operation::Read { ino, handle, .. }
        | Operation::Write { ino, handle, .. }
        | Operation::Flush { ino, handle }
        | Operation::Release { ino, handle }
        | Operation::Fsync { ino, handle, .. }
        | Operation::ReadDir { ino, handle, .. }
        | Operation::Fallocate { ino, handle, .. }
        | Operation::Seek { ino, handle, .. }
        | Operation::ReleaseDir { ino, handle }
        | Operation::FsyncDir { ino, handle, .. } => ([Some(*ino), None], [Some(*handle), None]),
        Operation::CopyRange { ino, handle, to_ino, to_handle, .. } => {
            ([Some(*ino), Some(*to_ino)], [Some(*handle), Some(*to_handle)])
        }
        Operation::Forget { .. } | Operation::Interrupt { .. } => ([None, None], [None; 2]),
    }
}

/// Names: short ones, and now and then an odd one.
fn letter(letter: u8) -> Bytes {
    match letter {
        200 => Bytes::from(vec![b'x'; 255]),
        201 => Bytes::from(vec![b'x'; 256]),
        202 => Bytes::from_static(&[0xff, 0xfe, 0x01]),
        203 => Bytes::from_static(" ".as_bytes()),
        204 => Bytes::from_static("\u{fc}ber".as_bytes()),
        n => Bytes::from(vec![b'a' + n % 26]),
    }
}
