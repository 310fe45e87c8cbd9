//! The machine's answers in the kernel's wire format.
//!
//! Owns: the shape of every answer, and what must be undone when one is not delivered. Pure; payload
//! is borrowed, not copied.

use super::abi::{self, fopen};
use super::decode::Shape;
use smallvec::SmallVec;
use std::time::Duration;
use vellum_core::error::FsError;
use vellum_core::id::{Handle, Ino};
use vellum_core::port::kernel::{Attr, DirEntry, Entry, Opened, Operation, Piece, Reply, StatFs};
use vellum_core::time::WallTime;
use zerocopy::{Immutable, IntoBytes};

/// What stat(2) reports as the preferred I/O size.
const BLOCK_SIZE: u32 = 4096;
/// Linux' EIO and ENOENT: what the transport itself answers.
pub(super) const EIO: i32 = 5;
pub(super) const ENOENT: i32 = 2;

/// A header and a structure; the largest is that of STATX.
type Head = SmallVec<[u8; 304]>;

/// An answer, ready to be written.
pub(super) struct Encoded<'a> {
    /// Header and structure.
    pub(super) head: Head,
    /// What follows.
    pub(super) body: Body<'a>,
    /// Directory entries in it, of those that the machine handed out.
    pub(super) entries: usize,
}

/// What follows the fixed part of an answer.
pub(super) enum Body<'a> {
    Bytes(&'a [u8]),
    Pieces(&'a [Piece]),
    Owned(Vec<u8>),
}

impl Body<'_> {
    fn len(&self) -> usize {
        match self {
            Body::Bytes(bytes) => bytes.len(),
            Body::Pieces(pieces) => pieces.iter().map(Piece::len).sum(),
            Body::Owned(bytes) => bytes.len(),
        }
    }
}

/// Encodes an answer to the request `unique` that wants this shape.
///
/// # Panics
/// When the machine answers with something else.
pub(super) fn encode<'a>(unique: u64, shape: Shape, reply: &'a Reply) -> Encoded<'a> {
    match (shape, reply) {
        (Shape::Synced, Reply::Error(FsError::NoSystemCall)) => failure(unique, EIO),
        (_, Reply::Error(error)) => failure(unique, error.errno()),
        (Shape::Empty | Shape::Synced, Reply::Done) => plain(unique, &[]),
        (Shape::Entry, Reply::Entry(entry)) => match &entry.attr {
            None if entry.entry_valid.is_zero() => failure(unique, ENOENT),
            _ => fixed(unique, &entry_out(entry)),
        },
        (Shape::Attr, Reply::Attr { attr, valid }) => fixed(unique, &attr_out(attr, *valid)),
        (Shape::Statx, Reply::Attr { attr, valid }) => fixed(unique, &statx_out(attr, *valid)),
        (Shape::Data, Reply::Target(target)) => plain(unique, target),
        (Shape::Data, Reply::Data(pieces)) => {
            sized(unique, Head::new(), Body::Pieces(pieces.as_slice()))
        }
        (Shape::Opened(_) | Shape::OpenedDir(_), Reply::Opened(opened)) => {
            fixed(unique, &open_out(opened))
        }
        (Shape::Created, Reply::Created { entry, opened }) => {
            let mut body = Head::from_slice(entry_out(entry).as_bytes());
            body.extend_from_slice(open_out(opened).as_bytes());
            sized(unique, body, Body::Bytes(&[]))
        }
        (Shape::Written, Reply::Written(size)) => written(unique, *size),
        (Shape::Copied { wide: true }, Reply::Copied(bytes_copied)) => {
            fixed(unique, &abi::CopyFileRangeOut { bytes_copied: *bytes_copied })
        }
        // No more than what was asked for, which fits.
        (Shape::Copied { wide: false }, Reply::Copied(n)) => {
            written(unique, u32::try_from(*n).unwrap_or(u32::MAX))
        }
        (Shape::Offset, Reply::Offset(offset)) => fixed(unique, &abi::LseekOut { offset: *offset }),
        (Shape::Value, Reply::Value(value)) => plain(unique, value),
        (Shape::Value, Reply::Room(size)) => {
            fixed(unique, &abi::GetXattrOut { size: *size, padding: 0 })
        }
        (Shape::Entries { room, plus }, Reply::Entries(all)) => {
            let (bytes, entries) = listing(all, room as usize, plus);
            Encoded { entries, ..sized(unique, Head::new(), Body::Owned(bytes)) }
        }
        (Shape::StatFs, Reply::StatFs(stat)) => fixed(unique, &stat_fs_out(stat)),
        (shape, reply) => unreachable!("{reply:?} is no answer of shape {shape:?}"),
    }
}

/// A message without a body: an answer of the transport's own, `errno` as a positive number.
pub(super) fn failure(unique: u64, errno: i32) -> Encoded<'static> {
    let len = size_of::<abi::OutHeader>() as u32;
    let header = abi::OutHeader { len, error: -errno, unique };
    Encoded { head: Head::from_slice(header.as_bytes()), body: Body::Bytes(&[]), entries: 0 }
}

/// A message whose body is one structure: `code` is 0 in answers.
pub(super) fn message<T: IntoBytes + Immutable>(
    unique: u64,
    code: i32,
    body: &T,
    rest: &[u8],
) -> Vec<u8> {
    let len = size_of::<abi::OutHeader>() + size_of::<T>() + rest.len();
    let header = abi::OutHeader { len: len as u32, error: code, unique };
    [header.as_bytes(), body.as_bytes(), rest].concat()
}

fn plain(unique: u64, bytes: &[u8]) -> Encoded<'_> {
    sized(unique, Head::new(), Body::Bytes(bytes))
}

fn fixed<T: IntoBytes + Immutable>(unique: u64, body: &T) -> Encoded<'static> {
    let len = size_of::<abi::OutHeader>() + size_of::<T>();
    let header = abi::OutHeader { len: len as u32, error: 0, unique };
    let mut head = Head::from_slice(header.as_bytes());
    head.extend_from_slice(body.as_bytes());
    Encoded { head, body: Body::Bytes(&[]), entries: 0 }
}

fn sized(unique: u64, rest: Head, body: Body<'_>) -> Encoded<'_> {
    let len = size_of::<abi::OutHeader>() + rest.len() + body.len();
    let header = abi::OutHeader { len: len as u32, error: 0, unique };
    let mut head = Head::from_slice(header.as_bytes());
    head.extend_from_slice(&rest);
    Encoded { head, body, entries: 0 }
}

fn written(unique: u64, size: u32) -> Encoded<'static> {
    fixed(unique, &abi::WriteOut { size, padding: 0 })
}

/// What gives back what an answer handed out, if the kernel took only `entries` of it, or nothing.
pub(super) fn undo(shape: Shape, reply: &Reply, delivered: bool, entries: usize) -> Vec<Operation> {
    let forget = |ino| Operation::Forget { nodes: vec![(ino, 1)] };
    match (shape, reply) {
        (Shape::Entries { plus: true, .. }, Reply::Entries(all)) => {
            let taken = if delivered { entries } else { 0 };
            let nodes: Vec<(Ino, u64)> = all[taken..]
                .iter()
                .filter_map(|entry| Some((entry.entry.as_ref()?.attr.as_ref()?.ino, 1)))
                .collect();
            if nodes.is_empty() { Vec::new() } else { vec![Operation::Forget { nodes }] }
        }
        _ if delivered => Vec::new(),
        (Shape::Entry, Reply::Entry(Entry { attr: Some(attr), .. })) => vec![forget(attr.ino)],
        (Shape::Created, Reply::Created { entry: Entry { attr: Some(attr), .. }, opened }) => {
            vec![release(attr.ino, opened.handle), forget(attr.ino)]
        }
        (Shape::Opened(ino), Reply::Opened(opened)) => vec![release(ino, opened.handle)],
        (Shape::OpenedDir(ino), Reply::Opened(opened)) => {
            vec![Operation::ReleaseDir { ino, handle: opened.handle }]
        }
        _ => Vec::new(),
    }
}

fn release(ino: Ino, handle: Handle) -> Operation {
    Operation::Release { ino, handle }
}

/// Inode numbers are never used again, so every generation is 0. An answer without an inode is one that
/// the kernel may remember.
fn entry_out(entry: &Entry) -> abi::EntryOut {
    let (nodeid, attr) = entry.attr.as_ref().map_or_else(Default::default, |a| (a.ino.0, stat(a)));
    abi::EntryOut {
        nodeid,
        generation: 0,
        entry_valid: entry.entry_valid.as_secs(),
        attr_valid: entry.attr_valid.as_secs(),
        entry_valid_nsec: entry.entry_valid.subsec_nanos(),
        attr_valid_nsec: entry.attr_valid.subsec_nanos(),
        attr,
    }
}

fn attr_out(attr: &Attr, valid: Duration) -> abi::AttrOut {
    abi::AttrOut {
        attr_valid: valid.as_secs(),
        attr_valid_nsec: valid.subsec_nanos(),
        dummy: 0,
        attr: stat(attr),
    }
}

fn stat(attr: &Attr) -> abi::Attr {
    abi::Attr {
        ino: attr.ino.0,
        size: attr.size,
        blocks: attr.blocks,
        atime: attr.atime.secs as u64,
        mtime: attr.mtime.secs as u64,
        ctime: attr.ctime.secs as u64,
        atimensec: attr.atime.nanos,
        mtimensec: attr.mtime.nanos,
        ctimensec: attr.ctime.nanos,
        mode: attr.mode,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: attr.rdev,
        blksize: BLOCK_SIZE,
        flags: 0,
    }
}

fn statx_out(attr: &Attr, valid: Duration) -> abi::StatxOut {
    let time = |t: WallTime| abi::SxTime { tv_sec: t.secs, tv_nsec: t.nanos, reserved: 0 };
    let stat = abi::Statx {
        mask: abi::STATX_ALL,
        blksize: BLOCK_SIZE,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        mode: attr.mode as u16,
        ino: attr.ino.0,
        size: attr.size,
        blocks: attr.blocks,
        atime: time(attr.atime),
        btime: time(attr.btime),
        ctime: time(attr.ctime),
        mtime: time(attr.mtime),
        rdev_major: attr.rdev >> 8 & 0xfff,
        rdev_minor: attr.rdev & 0xff | attr.rdev >> 12 & 0xfff00,
        ..abi::Statx::default()
    };
    abi::StatxOut {
        attr_valid: valid.as_secs(),
        attr_valid_nsec: valid.subsec_nanos(),
        flags: 0,
        spare: [0; 2],
        stat,
    }
}

fn open_out(opened: &Opened) -> abi::OpenOut {
    let flag = |set, flag| if set { flag } else { 0 };
    abi::OpenOut {
        fh: opened.handle.0,
        open_flags: flag(opened.direct_io, fopen::DIRECT_IO)
            | flag(opened.keep_cache, fopen::KEEP_CACHE)
            | flag(opened.cache_dir, fopen::CACHE_DIR)
            | flag(opened.no_flush, fopen::NOFLUSH),
        padding: 0,
    }
}

fn stat_fs_out(s: &StatFs) -> abi::StatFsOut {
    abi::StatFsOut {
        blocks: s.blocks,
        bfree: s.blocks_free,
        bavail: s.blocks_free,
        files: s.files,
        ffree: s.files_free,
        bsize: s.block_size,
        namelen: s.name_max,
        frsize: s.block_size,
        ..abi::StatFsOut::default()
    }
}

/// Entries up to the first that does not fit, and how many those are. The kernel asks again from the
/// last cookie it got.
fn listing(entries: &[DirEntry], room: usize, plus: bool) -> (Vec<u8>, usize) {
    let mut out = Vec::with_capacity(room.min(64 << 10));
    for (n, entry) in entries.iter().enumerate() {
        let head = size_of::<abi::Dirent>() + if plus { size_of::<abi::EntryOut>() } else { 0 };
        let len = (head + entry.name.len()).next_multiple_of(8);
        if out.len() + len > room {
            return (out, n);
        }
        let end = out.len() + len;
        if plus {
            // Without attributes the number is 0, and the kernel asks when it wants them.
            let found = entry.entry.as_ref().filter(|e| e.attr.is_some());
            out.extend_from_slice(found.map_or_else(Default::default, entry_out).as_bytes());
        }
        let dirent = abi::Dirent {
            ino: entry.ino.0,
            off: entry.cookie,
            namelen: entry.name.len() as u32,
            kind: entry.kind >> 12 & 0xf,
        };
        out.extend_from_slice(dirent.as_bytes());
        out.extend_from_slice(&entry.name);
        out.resize(end, 0);
    }
    (out, entries.len())
}

#[cfg(test)]
mod tests;
