//! Answers on their way back to the kernel.

use super::attr;
use crate::host::Respond;
use bytes::Bytes;
use fuser::{
    Errno, FileHandle, FopenFlags, Generation, INodeNo, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite,
};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;
use vellum_core::id::Ino;
use vellum_core::port::kernel::{
    Attr, DirEntry, Entry, Opened, Operation, Piece, Pieces, Reply, StatFs,
};

/// Inode numbers are never reused, so one generation is enough.
const GENERATION: Generation = Generation(0);

/// A request that waits for its answer, by the shape of the answer.
#[derive(Debug)]
pub enum Pending {
    /// Success without a value.
    Empty(ReplyEmpty),
    /// An inode by name.
    Entry(ReplyEntry),
    /// Attributes.
    Attr(ReplyAttr),
    /// Bytes of a file or a symlink's target.
    Data(ReplyData),
    /// An open file or directory.
    Open(ReplyOpen),
    /// A created and opened file.
    Create(ReplyCreate),
    /// Bytes taken.
    Write(ReplyWrite),
    /// Directory entries.
    Directory(ReplyDirectory),
    /// Directory entries with attributes.
    DirectoryPlus(ReplyDirectoryPlus),
    /// Filesystem statistics.
    Statfs(ReplyStatfs),
}

impl Respond for Pending {
    fn respond(self, reply: Reply) -> Vec<Operation> {
        match (self, reply) {
            (pending, Reply::Error(error)) => pending.fail(attr::errno(error)),
            (Pending::Empty(to), Reply::Done) => to.ok(),
            (Pending::Entry(to), Reply::Entry(entry)) => send_entry(to, &entry),
            (Pending::Attr(to), Reply::Attr { attr, valid }) => send_attr(to, &attr, valid),
            (Pending::Data(to), Reply::Target(target)) => to.data(&target),
            (Pending::Data(to), Reply::Data(pieces)) => send_data(to, &pieces),
            (Pending::Open(to), Reply::Opened(opened)) => {
                to.opened(FileHandle(opened.handle.0), fopen(&opened));
            }
            (Pending::Create(to), Reply::Created { entry, opened }) => {
                send_created(to, &entry, &opened);
            }
            (Pending::Write(to), Reply::Written(len)) => to.written(len),
            (Pending::Directory(to), Reply::Entries(entries)) => send_entries(to, &entries),
            (Pending::DirectoryPlus(to), Reply::Entries(entries)) => {
                return send_entries_plus(to, &entries);
            }
            (Pending::Statfs(to), Reply::StatFs(stat)) => send_statfs(to, &stat),
            (pending, reply) => unreachable!("{reply:?} is no answer to {pending:?}"),
        }
        Vec::new()
    }
}

impl Pending {
    /// Answers with an error.
    pub(super) fn fail(self, errno: Errno) {
        match self {
            Pending::Empty(to) => to.error(errno),
            Pending::Entry(to) => to.error(errno),
            Pending::Attr(to) => to.error(errno),
            Pending::Data(to) => to.error(errno),
            Pending::Open(to) => to.error(errno),
            Pending::Create(to) => to.error(errno),
            Pending::Write(to) => to.error(errno),
            Pending::Directory(to) => to.error(errno),
            Pending::DirectoryPlus(to) => to.error(errno),
            Pending::Statfs(to) => to.error(errno),
        }
    }
}

/// A negative entry is an answer without an inode, which the kernel may cache.
fn send_entry(to: ReplyEntry, entry: &Entry) {
    match &entry.attr {
        None if entry.entry_valid.is_zero() => to.error(Errno::ENOENT),
        None => {
            to.entry_with_ttls(&Duration::ZERO, &entry.entry_valid, &negative_attr(), GENERATION)
        }
        Some(found) => match attr::attr(found) {
            Some(found) => {
                to.entry_with_ttls(&entry.attr_valid, &entry.entry_valid, &found, GENERATION);
            }
            None => to.error(Errno::EIO),
        },
    }
}

fn send_attr(to: ReplyAttr, found: &Attr, valid: Duration) {
    match attr::attr(found) {
        Some(found) => to.attr(&valid, &found),
        None => to.error(Errno::EIO),
    }
}

/// One piece goes out as it is; several are put together once.
fn send_data(to: ReplyData, pieces: &Pieces) {
    match pieces.as_slice() {
        [] => to.data(&[]),
        [Piece::Bytes(bytes)] => to.data(bytes),
        pieces => {
            let mut all = Vec::with_capacity(pieces.iter().map(Piece::len).sum());
            for piece in pieces {
                match piece {
                    Piece::Bytes(bytes) => all.extend_from_slice(bytes),
                    Piece::Zeros(n) => all.resize(all.len() + *n as usize, 0),
                }
            }
            to.data(&all);
        }
    }
}

/// The transport has one validity for both; the shorter one is safe.
fn send_created(to: ReplyCreate, entry: &Entry, opened: &Opened) {
    let valid = entry.entry_valid.min(entry.attr_valid);
    match entry.attr.as_ref().and_then(attr::attr) {
        Some(found) => {
            let handle = FileHandle(opened.handle.0);
            to.created(&valid, &found, GENERATION, handle, fopen(opened));
        }
        None => to.error(Errno::EIO),
    }
}

fn fopen(opened: &Opened) -> FopenFlags {
    let mut flags = FopenFlags::empty();
    flags.set(FopenFlags::FOPEN_KEEP_CACHE, opened.keep_cache);
    flags.set(FopenFlags::FOPEN_DIRECT_IO, opened.direct_io);
    flags.set(FopenFlags::FOPEN_CACHE_DIR, opened.cache_dir);
    flags.set(FopenFlags::FOPEN_NOFLUSH, opened.no_flush);
    flags
}

/// Stops at the first entry that does not fit; the kernel asks again from the last cookie it got.
fn send_entries(mut to: ReplyDirectory, entries: &[DirEntry]) {
    for entry in entries {
        let Some(kind) = attr::kind(entry.kind) else { return to.error(Errno::EIO) };
        if to.add(INodeNo(entry.ino.0), entry.cookie, kind, name(&entry.name)) {
            break;
        }
    }
    to.ok();
}

/// As [`send_entries`]; lookups of entries that were not handed out are given back.
fn send_entries_plus(mut to: ReplyDirectoryPlus, entries: &[DirEntry]) -> Vec<Operation> {
    let mut sent = 0;
    for entry in entries {
        let Some((found, valid)) = plus_attr(entry) else { break };
        let name = name(&entry.name);
        if to.add(INodeNo(entry.ino.0), entry.cookie, name, &valid, &found, GENERATION) {
            break;
        }
        sent += 1;
    }
    let nodes: Vec<(Ino, u64)> = entries[sent..]
        .iter()
        .filter_map(|entry| Some((entry.entry.as_ref()?.attr.as_ref()?.ino, 1)))
        .collect();
    to.ok();
    if nodes.is_empty() { Vec::new() } else { vec![Operation::Forget { nodes }] }
}

/// Attributes of an entry. The kernel ignores those of "." and ".." except number and type.
fn plus_attr(entry: &DirEntry) -> Option<(fuser::FileAttr, Duration)> {
    match &entry.entry {
        Some(Entry { attr: Some(found), entry_valid, attr_valid }) => {
            Some((attr::attr(found)?, *entry_valid.min(attr_valid)))
        }
        _ => {
            let mut bare = negative_attr();
            bare.ino = INodeNo(entry.ino.0);
            bare.kind = attr::kind(entry.kind)?;
            Some((bare, Duration::ZERO))
        }
    }
}

/// Attributes of nothing: inode number 0.
fn negative_attr() -> fuser::FileAttr {
    fuser::FileAttr {
        ino: INodeNo(0),
        size: 0,
        blocks: 0,
        atime: std::time::UNIX_EPOCH,
        mtime: std::time::UNIX_EPOCH,
        ctime: std::time::UNIX_EPOCH,
        crtime: std::time::UNIX_EPOCH,
        kind: fuser::FileType::RegularFile,
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 0,
        flags: 0,
    }
}

fn send_statfs(to: ReplyStatfs, s: &StatFs) {
    to.statfs(
        s.blocks,
        s.blocks_free,
        s.blocks_free,
        s.files,
        s.files_free,
        s.block_size,
        s.name_max,
        s.block_size,
    );
}

fn name(name: &Bytes) -> &OsStr {
    OsStr::from_bytes(name)
}
