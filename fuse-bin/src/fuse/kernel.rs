//! Requests of the kernel on their way to the machine.
//!
//! Payloads are copied out of the transport's buffer once, before any lock is taken.
//!
//! What the machine has no operation for is answered ENOSYS, which the kernel remembers: extended
//! attributes become EOPNOTSUPP, SEEK_DATA and SEEK_HOLE treat the file as one run of data, fallocate(2)
//! is EOPNOTSUPP, copy_file_range(2) falls back to copying, and locks are the kernel's own.

use super::attr;
use super::reply::Pending;
use crate::host::Host;
use bytes::Bytes;
use fuser::{
    BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, Filesystem, INodeNo, InitFlags,
    KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyLseek, ReplyOpen, ReplyStatfs,
    ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;
use vellum_core::id::{Handle, Ino};
use vellum_core::limits::IO_SIZE_MAX;
use vellum_core::port::kernel as port;
use vellum_core::port::kernel::{Caller, Operation};

/// Requests that the kernel may have under way on its own behalf (read-ahead, writeback).
const BACKGROUND_MAX: u16 = 128;
/// Bytes of a directory page. The transport does not say how much room the kernel has; glibc reads
/// directories in pages of this size, and what does not fit is given back.
const DIRECTORY_ROOM: u32 = 32 << 10;
/// Linux' O_APPEND.
const O_APPEND: i32 = 0o2000;

/// The transport's view of a host.
pub(super) struct Kernel {
    host: Arc<Host<Pending>>,
}

impl Kernel {
    pub(super) fn new(host: Arc<Host<Pending>>) -> Kernel {
        Kernel { host }
    }

    fn ask(&self, req: &Request, op: Operation, pending: Pending) {
        let caller = Caller { uid: req.uid(), gid: req.gid(), pid: req.pid() };
        self.host.request(port::Request { caller, op }, pending);
    }
}

impl Filesystem for Kernel {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let wanted = InitFlags::FUSE_PARALLEL_DIROPS
            | InitFlags::FUSE_DO_READDIRPLUS
            | InitFlags::FUSE_READDIRPLUS_AUTO
            | InitFlags::FUSE_ASYNC_DIO
            | InitFlags::FUSE_CACHE_SYMLINKS
            | InitFlags::FUSE_ATOMIC_O_TRUNC
            | InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP;
        if let Err(missing) = config.add_capabilities(wanted) {
            tracing::debug!(?missing, "the kernel lacks capabilities");
            let _ = config.add_capabilities(wanted & !missing);
        }
        let _ = config.set_max_background(BACKGROUND_MAX);
        let _ = config.set_max_write(IO_SIZE_MAX);
        Ok(())
    }

    fn lookup(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let op = Operation::Lookup { parent: ino(parent), name: bytes(name) };
        self.ask(req, op, Pending::Entry(reply));
    }

    fn forget(&self, _req: &Request, node: INodeNo, nlookup: u64) {
        self.host.tell(Operation::Forget { nodes: vec![(ino(node), nlookup)] });
    }

    fn getattr(&self, req: &Request, node: INodeNo, fh: Option<FileHandle>, reply: ReplyAttr) {
        let op = Operation::GetAttr { ino: ino(node), handle: fh.map(handle) };
        self.ask(req, op, Pending::Attr(reply));
    }

    fn setattr(
        &self,
        req: &Request,
        node: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        ctime: Option<SystemTime>,
        fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let set = port::SetAttr {
            mode,
            uid,
            gid,
            size,
            atime: atime.map(attr::set_time),
            mtime: mtime.map(attr::set_time),
            ctime: ctime.map(attr::from_setattr),
            kill_suidgid: false,
        };
        let op = Operation::SetAttr { ino: ino(node), handle: fh.map(handle), set };
        self.ask(req, op, Pending::Attr(reply));
    }

    fn readlink(&self, req: &Request, node: INodeNo, reply: ReplyData) {
        self.ask(req, Operation::ReadLink { ino: ino(node) }, Pending::Data(reply));
    }

    fn mknod(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        let op = Operation::MkNod { parent: ino(parent), name: bytes(name), mode, umask, rdev };
        self.ask(req, op, Pending::Entry(reply));
    }

    fn mkdir(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let op = Operation::MkDir { parent: ino(parent), name: bytes(name), mode, umask };
        self.ask(req, op, Pending::Entry(reply));
    }

    fn unlink(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let op = Operation::Unlink { parent: ino(parent), name: bytes(name) };
        self.ask(req, op, Pending::Empty(reply));
    }

    fn rmdir(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let op = Operation::RmDir { parent: ino(parent), name: bytes(name) };
        self.ask(req, op, Pending::Empty(reply));
    }

    fn symlink(
        &self,
        req: &Request,
        parent: INodeNo,
        link_name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        let op = Operation::Symlink {
            parent: ino(parent),
            name: bytes(link_name),
            target: bytes(target.as_os_str()),
        };
        self.ask(req, op, Pending::Entry(reply));
    }

    fn rename(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let op = Operation::Rename {
            parent: ino(parent),
            name: bytes(name),
            new_parent: ino(newparent),
            new_name: bytes(newname),
            flags: flags.bits(),
        };
        self.ask(req, op, Pending::Empty(reply));
    }

    fn link(
        &self,
        req: &Request,
        node: INodeNo,
        newparent: INodeNo,
        newname: &OsStr,
        reply: ReplyEntry,
    ) {
        let op = Operation::Link {
            ino: ino(node),
            new_parent: ino(newparent),
            new_name: bytes(newname),
        };
        self.ask(req, op, Pending::Entry(reply));
    }

    fn open(&self, req: &Request, node: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let op = Operation::Open { ino: ino(node), flags: open_flags(flags.0) };
        self.ask(req, op, Pending::Open(reply));
    }

    fn create(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let op = Operation::Create {
            parent: ino(parent),
            name: bytes(name),
            mode,
            umask,
            flags: open_flags(flags),
        };
        self.ask(req, op, Pending::Create(reply));
    }

    fn read(
        &self,
        req: &Request,
        node: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let op = Operation::Read { ino: ino(node), handle: handle(fh), offset, len: size };
        self.ask(req, op, Pending::Data(reply));
    }

    fn write(
        &self,
        req: &Request,
        node: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let op = Operation::Write {
            ino: ino(node),
            handle: handle(fh),
            offset,
            data: Bytes::copy_from_slice(data),
            flags: port::WriteFlags {
                from_cache: write_flags.contains(WriteFlags::FUSE_WRITE_CACHE),
                kill_suidgid: write_flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID),
                append: flags.0 & O_APPEND != 0,
            },
        };
        self.ask(req, op, Pending::Write(reply));
    }

    fn flush(
        &self,
        req: &Request,
        node: INodeNo,
        fh: FileHandle,
        _lock_owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        let op = Operation::Flush { ino: ino(node), handle: handle(fh) };
        self.ask(req, op, Pending::Empty(reply));
    }

    fn release(
        &self,
        req: &Request,
        node: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        let op = Operation::Release { ino: ino(node), handle: handle(fh) };
        self.ask(req, op, Pending::Empty(reply));
    }

    fn fsync(
        &self,
        req: &Request,
        node: INodeNo,
        fh: FileHandle,
        datasync: bool,
        reply: ReplyEmpty,
    ) {
        let op = Operation::Fsync { ino: ino(node), handle: handle(fh), datasync };
        self.ask(req, op, Pending::Empty(reply));
    }

    fn opendir(&self, req: &Request, node: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        self.ask(req, Operation::OpenDir { ino: ino(node) }, Pending::Open(reply));
    }

    fn readdir(
        &self,
        req: &Request,
        node: INodeNo,
        fh: FileHandle,
        offset: u64,
        reply: ReplyDirectory,
    ) {
        self.ask(req, read_dir(node, fh, offset, false), Pending::Directory(reply));
    }

    fn readdirplus(
        &self,
        req: &Request,
        node: INodeNo,
        fh: FileHandle,
        offset: u64,
        reply: ReplyDirectoryPlus,
    ) {
        self.ask(req, read_dir(node, fh, offset, true), Pending::DirectoryPlus(reply));
    }

    fn releasedir(
        &self,
        req: &Request,
        node: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        let op = Operation::ReleaseDir { ino: ino(node), handle: handle(fh) };
        self.ask(req, op, Pending::Empty(reply));
    }

    fn fsyncdir(
        &self,
        req: &Request,
        node: INodeNo,
        fh: FileHandle,
        datasync: bool,
        reply: ReplyEmpty,
    ) {
        let op = Operation::FsyncDir { ino: ino(node), handle: handle(fh), datasync };
        self.ask(req, op, Pending::Empty(reply));
    }

    fn statfs(&self, req: &Request, node: INodeNo, reply: ReplyStatfs) {
        self.ask(req, Operation::StatFs { ino: ino(node) }, Pending::Statfs(reply));
    }

    fn setxattr(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _name: &OsStr,
        _value: &[u8],
        _flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::ENOSYS);
    }

    fn getxattr(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _name: &OsStr,
        _size: u32,
        reply: ReplyXattr,
    ) {
        reply.error(Errno::ENOSYS);
    }

    fn listxattr(&self, _req: &Request, _ino: INodeNo, _size: u32, reply: ReplyXattr) {
        reply.error(Errno::ENOSYS);
    }

    fn removexattr(&self, _req: &Request, _ino: INodeNo, _name: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn fallocate(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _offset: u64,
        _length: u64,
        _mode: i32,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::ENOSYS);
    }

    fn lseek(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _offset: i64,
        _whence: i32,
        reply: ReplyLseek,
    ) {
        reply.error(Errno::ENOSYS);
    }

    fn copy_file_range(
        &self,
        _req: &Request,
        _ino_in: INodeNo,
        _fh_in: FileHandle,
        _offset_in: u64,
        _ino_out: INodeNo,
        _fh_out: FileHandle,
        _offset_out: u64,
        _len: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        reply.error(Errno::ENOSYS);
    }
}

fn read_dir(node: INodeNo, fh: FileHandle, cookie: u64, plus: bool) -> Operation {
    Operation::ReadDir { ino: ino(node), handle: handle(fh), cookie, room: DIRECTORY_ROOM, plus }
}

fn ino(node: INodeNo) -> Ino {
    Ino(node.0)
}

fn handle(fh: FileHandle) -> Handle {
    Handle(fh.0)
}

fn bytes(name: &OsStr) -> Bytes {
    Bytes::copy_from_slice(name.as_bytes())
}

fn open_flags(flags: i32) -> port::OpenFlags {
    port::OpenFlags(flags as u32)
}
