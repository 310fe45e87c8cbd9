//! Requests of the kernel as the machine's operations.
//!
//! Owns: the shape of every request, and which shape its answer has. A pure function of one frame.
//! Never does: trust a length. A frame that ends early, or holds what no kernel sends, is
//! [`Malformed`]; no bytes can make the decoder panic.

use super::abi::{self, fattr, op};
use bytes::Bytes;
use std::ops::Range;
use vellum_core::id::{Handle, Ino};
use vellum_core::port::kernel::{
    Caller, OpenFlags, Operation, SetAttr, SetTime, Whence, WriteFlags,
};
use vellum_core::time::WallTime;
use zerocopy::{FromBytes, Immutable, KnownLayout};

/// Linux' O_APPEND.
const O_APPEND: u32 = 0o2000;
/// Linux' SEEK_DATA and SEEK_HOLE.
const SEEK_DATA: u32 = 3;
const SEEK_HOLE: u32 = 4;
/// The largest length that COPY_FILE_RANGE can answer, whole pages.
const COPY_32_MAX: u64 = (1 << 32) - 4096;

/// What was agreed on at INIT and changes how requests look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dialect {
    /// FUSE_SETXATTR_EXT: SETXATTR has its long form.
    pub setxattr_ext: bool,
}

/// What every request begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Names the request in its answer.
    pub unique: u64,
    /// What is asked for.
    pub opcode: u32,
    /// Who asks.
    pub caller: Caller,
}

/// A request by what must be done with it.
#[derive(Debug)]
pub enum Decoded {
    /// For the machine, which answers in this shape.
    Ask(Operation, Shape),
    /// For the machine: a write whose bytes are still in the frame.
    Write(Write),
    /// For the machine, without an answer.
    Tell(Operation),
    /// The caller of this request got a signal.
    Interrupt {
        /// The id of that request.
        target: u64,
    },
    /// Everything that was acknowledged must become durable.
    SyncFs,
    /// The first request.
    Init(Init),
    /// The last request.
    Destroy,
    /// Nothing that is served here; the kernel remembers that.
    Unknown,
}

/// FUSE_WRITE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Which file.
    pub ino: Ino,
    /// Through which open.
    pub handle: Handle,
    /// First byte in the file; of an append without meaning.
    pub offset: u64,
    /// How.
    pub flags: WriteFlags,
    /// Where in the frame the bytes are.
    pub data: Range<usize>,
}

/// What the kernel offers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Init {
    /// Major version of its protocol.
    pub major: u32,
    /// Minor version.
    pub minor: u32,
    /// Most bytes it reads ahead.
    pub max_readahead: u32,
    /// `flags` and `flags2`.
    pub flags: u64,
}

/// How the answer to a request looks on the wire, and what must be undone if it is not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A header.
    Empty,
    /// A header, of an operation that must not be answered ENOSYS: the kernel would take that for
    /// success for ever.
    Synced,
    /// fuse_entry_out.
    Entry,
    /// fuse_attr_out.
    Attr,
    /// fuse_statx_out.
    Statx,
    /// Bytes.
    Data,
    /// fuse_open_out of a file.
    Opened(Ino),
    /// fuse_open_out of a directory.
    OpenedDir(Ino),
    /// fuse_entry_out and fuse_open_out.
    Created,
    /// fuse_write_out.
    Written,
    /// fuse_copy_file_range_out, or fuse_write_out if not `wide`.
    Copied {
        /// A length of 64 bits.
        wide: bool,
    },
    /// fuse_lseek_out.
    Offset,
    /// fuse_getxattr_out or bytes.
    Value,
    /// fuse_dirent or fuse_direntplus, in at most so many bytes.
    Entries {
        /// Bytes.
        room: u32,
        /// With attributes.
        plus: bool,
    },
    /// fuse_statfs_out.
    StatFs,
}

/// A frame that no kernel sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// Whom to answer EIO; `None` for what expects no answer or has no readable header.
    pub unique: Option<u64>,
    /// What it asked for; 0 without a header.
    pub opcode: u32,
    /// What is wrong with it.
    pub what: &'static str,
}

/// Takes one frame apart.
///
/// # Errors
/// See [`Malformed`].
pub fn decode(frame: &[u8], dialect: Dialect) -> Result<(Header, Decoded), Malformed> {
    let Ok((raw, _)) = abi::InHeader::read_from_prefix(frame) else {
        return Err(Malformed { unique: None, opcode: 0, what: "no header" });
    };
    let expects_answer = !matches!(raw.opcode, op::FORGET | op::BATCH_FORGET | op::INTERRUPT);
    let wrong = |what| Malformed {
        unique: Some(raw.unique).filter(|unique| expects_answer && *unique != 0),
        opcode: raw.opcode,
        what,
    };
    if raw.len as usize != frame.len() {
        return Err(wrong("its length is not that of the frame"));
    }
    if expects_answer && (raw.unique == 0 || raw.unique & abi::INTERRUPT_BIT != 0) {
        return Err(wrong("its id is not one of a request"));
    }
    let end = frame.len().checked_sub(usize::from(raw.total_extlen) * 8);
    let mut args = match end.and_then(|end| frame.get(size_of::<abi::InHeader>()..end)) {
        Some(rest) => Args { rest, at: size_of::<abi::InHeader>() },
        None => return Err(wrong("extensions overlap the header")),
    };
    let caller = Caller { uid: raw.uid, gid: raw.gid, pid: raw.pid };
    let header = Header { unique: raw.unique, opcode: raw.opcode, caller };
    match body(raw.opcode, Ino(raw.nodeid), &mut args, dialect) {
        Ok(decoded) => Ok((header, decoded)),
        Err(what) => Err(wrong(what)),
    }
}

/// Why arguments cannot be read.
type Wrong = &'static str;

fn body(opcode: u32, node: Ino, args: &mut Args<'_>, dialect: Dialect) -> Result<Decoded, Wrong> {
    use Operation as O;
    let (operation, shape) = match opcode {
        op::LOOKUP => (O::Lookup { parent: node, name: args.name()? }, Shape::Entry),
        op::GETATTR => {
            let a: abi::GetAttrIn = args.take()?;
            (O::GetAttr { ino: node, handle: handle_if(a.flags, a.fh) }, Shape::Attr)
        }
        op::STATX => {
            let a: abi::StatxIn = args.take()?;
            (O::GetAttr { ino: node, handle: handle_if(a.flags, a.fh) }, Shape::Statx)
        }
        op::SETATTR => {
            let a: abi::SetAttrIn = args.take()?;
            let handle = (a.valid & fattr::FH != 0).then_some(Handle(a.fh));
            (O::SetAttr { ino: node, handle, set: set_attr(&a) }, Shape::Attr)
        }
        op::READLINK => (O::ReadLink { ino: node }, Shape::Data),
        op::SYMLINK | op::MKNOD | op::MKDIR | op::LINK => {
            (create(opcode, node, args)?, Shape::Entry)
        }
        op::CREATE | op::TMPFILE => (create_open(opcode, node, args)?, Shape::Created),
        op::UNLINK => (O::Unlink { parent: node, name: args.name()? }, Shape::Empty),
        op::RMDIR => (O::RmDir { parent: node, name: args.name()? }, Shape::Empty),
        op::RENAME | op::RENAME2 => (rename(opcode, node, args)?, Shape::Empty),
        op::OPEN => {
            let a: abi::OpenIn = args.take()?;
            let flags = open_flags(a.flags, a.open_flags);
            (O::Open { ino: node, flags }, Shape::Opened(node))
        }
        op::OPENDIR => (O::OpenDir { ino: node }, Shape::OpenedDir(node)),
        op::READ => {
            let a: abi::ReadIn = args.take()?;
            let offset = file_offset(a.offset)?;
            (O::Read { ino: node, handle: Handle(a.fh), offset, len: a.size }, Shape::Data)
        }
        op::READDIR | op::READDIRPLUS => {
            let a: abi::ReadIn = args.take()?;
            let (room, plus) = (a.size, opcode == op::READDIRPLUS);
            let operation =
                O::ReadDir { ino: node, handle: Handle(a.fh), cookie: a.offset, room, plus };
            (operation, Shape::Entries { room, plus })
        }
        op::STATFS => (O::StatFs { ino: node }, Shape::StatFs),
        op::RELEASE | op::RELEASEDIR => {
            let handle = Handle(args.take::<abi::ReleaseIn>()?.fh);
            let operation = match opcode {
                op::RELEASE => O::Release { ino: node, handle },
                _ => O::ReleaseDir { ino: node, handle },
            };
            (operation, Shape::Empty)
        }
        op::FLUSH => {
            let a: abi::FlushIn = args.take()?;
            (O::Flush { ino: node, handle: Handle(a.fh) }, Shape::Synced)
        }
        op::FSYNC | op::FSYNCDIR => {
            let a: abi::FsyncIn = args.take()?;
            let (ino, handle) = (node, Handle(a.fh));
            let datasync = a.flags & abi::FSYNC_FDATASYNC != 0;
            let operation = match opcode {
                op::FSYNC => O::Fsync { ino, handle, datasync },
                _ => O::FsyncDir { ino, handle, datasync },
            };
            (operation, Shape::Synced)
        }
        op::FALLOCATE | op::LSEEK | op::COPY_FILE_RANGE | op::COPY_FILE_RANGE_64 => {
            range(opcode, node, args)?
        }
        op::SETXATTR | op::GETXATTR | op::LISTXATTR | op::REMOVEXATTR => {
            xattr(opcode, node, args, dialect)?
        }
        _ => return special(opcode, node, args),
    };
    Ok(Decoded::Ask(operation, shape))
}

/// What is no plain question to the machine.
fn special(opcode: u32, node: Ino, args: &mut Args<'_>) -> Result<Decoded, Wrong> {
    Ok(match opcode {
        op::WRITE => {
            let a: abi::WriteIn = args.take()?;
            let has = |flag| a.write_flags & flag != 0;
            let flags = WriteFlags {
                from_cache: has(abi::WRITE_CACHE),
                kill_suidgid: has(abi::WRITE_KILL_SUIDGID),
                append: a.flags & O_APPEND != 0,
            };
            let data = args.range(a.size as usize)?;
            let (handle, offset) = (Handle(a.fh), file_offset(a.offset)?);
            Decoded::Write(Write { ino: node, handle, offset, flags, data })
        }
        op::FORGET => {
            let lookups = args.take::<abi::ForgetIn>()?.nlookup;
            Decoded::Tell(Operation::Forget { nodes: vec![(node, lookups)] })
        }
        op::BATCH_FORGET => {
            let count = args.take::<abi::BatchForgetIn>()?.count as usize;
            let len = count.checked_mul(size_of::<abi::ForgetOne>()).ok_or("too many inodes")?;
            let nodes = args
                .bytes(len)?
                .chunks_exact(size_of::<abi::ForgetOne>())
                .filter_map(|one| abi::ForgetOne::read_from_bytes(one).ok())
                .map(|one| (Ino(one.nodeid), one.nlookup))
                .collect();
            Decoded::Tell(Operation::Forget { nodes })
        }
        op::INTERRUPT => Decoded::Interrupt { target: args.take::<abi::InterruptIn>()?.unique },
        op::SYNCFS => Decoded::SyncFs,
        op::DESTROY => Decoded::Destroy,
        op::INIT => {
            let a: abi::InitIn = args.take()?;
            let flags2: u32 = args.take().unwrap_or(0);
            let extended = u64::from(a.flags) & abi::init::INIT_EXT != 0;
            let flags = u64::from(a.flags) | if extended { u64::from(flags2) << 32 } else { 0 };
            let (major, minor, max_readahead) = (a.major, a.minor, a.max_readahead);
            Decoded::Init(Init { major, minor, max_readahead, flags })
        }
        _ => Decoded::Unknown,
    })
}

fn create(opcode: u32, node: Ino, args: &mut Args<'_>) -> Result<Operation, Wrong> {
    let parent = node;
    Ok(match opcode {
        op::SYMLINK => Operation::Symlink { parent, name: args.name()?, target: args.name()? },
        op::MKNOD => {
            let abi::MkNodIn { mode, rdev, umask, .. } = args.take()?;
            Operation::MkNod { parent, name: args.name()?, mode, umask, rdev }
        }
        op::MKDIR => {
            let abi::MkDirIn { mode, umask } = args.take()?;
            Operation::MkDir { parent, name: args.name()?, mode, umask }
        }
        _ => {
            let ino = Ino(args.take::<abi::LinkIn>()?.oldnodeid);
            Operation::Link { ino, new_parent: parent, new_name: args.name()? }
        }
    })
}

fn create_open(opcode: u32, parent: Ino, args: &mut Args<'_>) -> Result<Operation, Wrong> {
    let a: abi::CreateIn = args.take()?;
    let (mode, umask, flags) = (a.mode, a.umask, open_flags(a.flags, a.open_flags));
    Ok(match opcode {
        op::CREATE => Operation::Create { parent, name: args.name()?, mode, umask, flags },
        // A name follows that nobody asked for.
        _ => Operation::TmpFile { parent, mode, umask, flags },
    })
}

fn rename(opcode: u32, parent: Ino, args: &mut Args<'_>) -> Result<Operation, Wrong> {
    let (newdir, flags) = match opcode {
        op::RENAME => (args.take::<abi::RenameIn>()?.newdir, 0),
        _ => {
            let a: abi::Rename2In = args.take()?;
            (a.newdir, a.flags)
        }
    };
    let (name, new_name) = (args.name()?, args.name()?);
    Ok(Operation::Rename { parent, name, new_parent: Ino(newdir), new_name, flags })
}

fn range(opcode: u32, ino: Ino, args: &mut Args<'_>) -> Result<(Operation, Shape), Wrong> {
    Ok(match opcode {
        op::FALLOCATE => {
            let a: abi::FallocateIn = args.take()?;
            let (offset, len) = (file_offset(a.offset)?, file_offset(a.length)?);
            let handle = Handle(a.fh);
            (Operation::Fallocate { ino, handle, offset, len, mode: a.mode }, Shape::Empty)
        }
        op::LSEEK => {
            let a: abi::LseekIn = args.take()?;
            let whence = match a.whence {
                SEEK_DATA => Whence::Data,
                SEEK_HOLE => Whence::Hole,
                _ => return Err("a kind of seek that the kernel answers itself"),
            };
            let (handle, offset) = (Handle(a.fh), file_offset(a.offset)?);
            (Operation::Seek { ino, handle, offset, whence }, Shape::Offset)
        }
        _ => {
            let a: abi::CopyFileRangeIn = args.take()?;
            let wide = opcode == op::COPY_FILE_RANGE_64;
            let operation = Operation::CopyRange {
                ino,
                handle: Handle(a.fh_in),
                offset: file_offset(a.off_in)?,
                to_ino: Ino(a.nodeid_out),
                to_handle: Handle(a.fh_out),
                to_offset: file_offset(a.off_out)?,
                len: if wide { file_offset(a.len)? } else { a.len.min(COPY_32_MAX) },
            };
            (operation, Shape::Copied { wide })
        }
    })
}

fn xattr(
    opcode: u32,
    ino: Ino,
    args: &mut Args<'_>,
    dialect: Dialect,
) -> Result<(Operation, Shape), Wrong> {
    Ok(match opcode {
        op::GETXATTR => {
            let room = args.take::<abi::GetXattrIn>()?.size;
            (Operation::GetXattr { ino, name: args.name()?, room }, Shape::Value)
        }
        op::LISTXATTR => {
            let room = args.take::<abi::GetXattrIn>()?.size;
            (Operation::ListXattr { ino, room }, Shape::Value)
        }
        op::REMOVEXATTR => (Operation::RemoveXattr { ino, name: args.name()? }, Shape::Empty),
        _ => {
            let (size, flags, more) = if dialect.setxattr_ext {
                let a: abi::SetXattrIn = args.take()?;
                (a.size, a.flags, a.setxattr_flags)
            } else {
                let a: abi::SetXattrCompatIn = args.take()?;
                (a.size, a.flags, 0)
            };
            let name = args.name()?;
            let value = Bytes::copy_from_slice(args.bytes(size as usize)?);
            let kill_sgid = more & abi::SETXATTR_ACL_KILL_SGID != 0;
            (Operation::SetXattr { ino, name, value, flags, kill_sgid }, Shape::Empty)
        }
    })
}

fn set_attr(a: &abi::SetAttrIn) -> SetAttr {
    let has = |bit| a.valid & bit != 0;
    let time = |bit, now, secs: u64, nanos| match (has(now), has(bit)) {
        (true, _) => Some(SetTime::Now),
        (_, true) => Some(SetTime::At(WallTime::new(secs as i64, nanos))),
        _ => None,
    };
    SetAttr {
        mode: has(fattr::MODE).then_some(a.mode),
        uid: has(fattr::UID).then_some(a.uid),
        gid: has(fattr::GID).then_some(a.gid),
        size: has(fattr::SIZE).then_some(a.size),
        atime: time(fattr::ATIME, fattr::ATIME_NOW, a.atime, a.atimensec),
        mtime: time(fattr::MTIME, fattr::MTIME_NOW, a.mtime, a.mtimensec),
        ctime: has(fattr::CTIME).then(|| WallTime::new(a.ctime as i64, a.ctimensec)),
        kill_suidgid: has(fattr::KILL_SUIDGID),
    }
}

fn handle_if(flags: u32, fh: u64) -> Option<Handle> {
    (flags & abi::GETATTR_FH != 0).then_some(Handle(fh))
}

fn open_flags(flags: u32, more: u32) -> OpenFlags {
    let kill = if more & abi::OPEN_KILL_SUIDGID != 0 { OpenFlags::KILL_SUIDGID } else { 0 };
    OpenFlags(flags & !OpenFlags::KILL_SUIDGID | kill)
}

/// Offsets and lengths are those of Linux' loff_t.
fn file_offset(raw: u64) -> Result<u64, Wrong> {
    if i64::try_from(raw).is_ok() { Ok(raw) } else { Err("an offset beyond every file") }
}

/// What is left of a frame's arguments.
struct Args<'a> {
    rest: &'a [u8],
    /// Where in the frame that begins.
    at: usize,
}

impl<'a> Args<'a> {
    fn take<T: FromBytes + KnownLayout + Immutable>(&mut self) -> Result<T, Wrong> {
        let (value, rest) = T::read_from_prefix(self.rest).map_err(|_| "it ends early")?;
        self.at += self.rest.len() - rest.len();
        self.rest = rest;
        Ok(value)
    }

    /// Bytes up to a NUL, which is taken too.
    fn name(&mut self) -> Result<Bytes, Wrong> {
        let len = self.rest.iter().position(|b| *b == 0).ok_or("a name without an end")?;
        let name = self.bytes(len)?;
        self.at += 1;
        self.rest = &self.rest[1..];
        if name.is_empty() { Err("an empty name") } else { Ok(Bytes::copy_from_slice(name)) }
    }

    fn bytes(&mut self, len: usize) -> Result<&'a [u8], Wrong> {
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or("it ends early")?;
        self.at += len;
        self.rest = rest;
        Ok(bytes)
    }

    fn range(&mut self, len: usize) -> Result<Range<usize>, Wrong> {
        let begin = self.at;
        self.bytes(len).map(|_| begin..begin + len)
    }
}

#[cfg(test)]
mod tests;
