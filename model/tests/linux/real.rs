//! The same calls on a real filesystem.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Dir, FallocateFlags, FileType, Mode, OFlags, RenameFlags as LinuxRename,
    SeekFrom, Stat, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, XattrFlags,
};
use rustix::io::{Errno, Result};
use vellum_model::{
    Allocate, Attr, Digest, DirEntry, Entry, Error, Kind, NodeId, Op, OpenFlags, Outcome,
    RenameFlags, SetTime, Time, Tree, XattrMode,
};

/// A process whose paths begin in one directory.
pub(crate) struct Real {
    base: PathBuf,
    files: BTreeMap<u8, OwnedFd>,
}

impl Real {
    pub(crate) fn new(base: &Path) -> Self {
        Self { base: base.to_path_buf(), files: BTreeMap::new() }
    }

    pub(crate) fn apply(&mut self, op: &Op) -> std::result::Result<Outcome, String> {
        match self.run(op) {
            Ok(outcome) => Ok(outcome),
            Err(errno) => match Error::from_errno(errno.raw_os_error()) {
                Some(error) => Ok(Outcome::Failed(error)),
                None => Err(format!("an error that the model does not know: {errno}")),
            },
        }
    }

    pub(crate) fn lstat(&self, path: &[u8]) -> Result<Attr> {
        Ok(attr(&rustix::fs::lstat(self.path(path))?))
    }

    pub(crate) fn fstat(&self, slot: u8) -> Result<Attr> {
        Ok(attr(&rustix::fs::fstat(self.file(slot)?)?))
    }

    /// The whole tree below the base.
    pub(crate) fn tree(&self) -> Result<Tree> {
        let mut tree = Tree::default();
        let mut ids = BTreeMap::new();
        self.dump(b"/", &mut tree, &mut ids)?;
        tree.settle_links(&ids);
        Ok(tree)
    }

    fn run(&mut self, op: &Op) -> Result<Outcome> {
        match op {
            Op::Open { slot, path, flags, perm } => {
                self.files.remove(slot);
                let file = rustix::fs::open(self.path(path), open_flags(*flags), mode(*perm))?;
                self.files.insert(*slot, file);
            }
            Op::Tmpfile { slot, path, exclusive, perm } => {
                self.files.remove(slot);
                let mut flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
                flags.set(OFlags::EXCL, *exclusive);
                let file = rustix::fs::open(self.path(path), flags, mode(*perm))?;
                self.files.insert(*slot, file);
            }
            Op::LinkSlot { slot, to } => {
                let file = format!("/proc/self/fd/{}", self.file(*slot)?.as_raw_fd());
                let to = self.path(to);
                rustix::fs::linkat(CWD, file, CWD, to, AtFlags::SYMLINK_FOLLOW)?;
            }
            Op::Close { slot } => drop(self.files.remove(slot).ok_or(Errno::BADF)?),
            Op::Pread { slot, offset, len } => {
                let mut bytes = vec![0; *len];
                let count = rustix::io::pread(self.file(*slot)?, &mut bytes, *offset)?;
                bytes.truncate(count);
                return Ok(Outcome::Bytes(bytes));
            }
            Op::Pwrite { slot, offset, data } => {
                return Ok(Outcome::Count(
                    rustix::io::pwrite(self.file(*slot)?, data, *offset)? as u64
                ));
            }
            Op::Fstat { slot } => return Ok(Outcome::Attr(self.fstat(*slot)?)),
            Op::Ftruncate { slot, size } => rustix::fs::ftruncate(self.file(*slot)?, *size)?,
            Op::Fallocate { slot, mode, offset, len } => {
                rustix::fs::fallocate(self.file(*slot)?, fallocate_flags(*mode), *offset, *len)?;
            }
            Op::CopyRange { from, offset, to, to_offset, len } => {
                let (mut at, mut to_at) = (*offset, *to_offset);
                let (from, to) = (self.file(*from)?, self.file(*to)?);
                let count = rustix::fs::copy_file_range(
                    from,
                    Some(&mut at),
                    to,
                    Some(&mut to_at),
                    *len as usize,
                )?;
                return Ok(Outcome::Count(count as u64));
            }
            Op::SeekData { slot, offset } => {
                return Ok(Outcome::Count(rustix::fs::seek(
                    self.file(*slot)?,
                    SeekFrom::Data(*offset),
                )?));
            }
            Op::SeekHole { slot, offset } => {
                return Ok(Outcome::Count(rustix::fs::seek(
                    self.file(*slot)?,
                    SeekFrom::Hole(*offset),
                )?));
            }
            Op::Mkdir { path, perm } => rustix::fs::mkdir(self.path(path), mode(*perm))?,
            Op::Mknod { path, kind, perm, rdev } => {
                rustix::fs::mknodat(CWD, self.path(path), file_type(*kind), mode(*perm), *rdev)?;
            }
            Op::Rmdir { path } => rustix::fs::rmdir(self.path(path))?,
            Op::Unlink { path } => rustix::fs::unlink(self.path(path))?,
            Op::Rename { from, to, flags } => {
                let flags = match flags {
                    RenameFlags::Replace => LinuxRename::empty(),
                    RenameFlags::NoReplace => LinuxRename::NOREPLACE,
                    RenameFlags::Exchange => LinuxRename::EXCHANGE,
                };
                rustix::fs::renameat_with(CWD, self.path(from), CWD, self.path(to), flags)?;
            }
            Op::Link { from, to, follow } => {
                let flags = if *follow { AtFlags::SYMLINK_FOLLOW } else { AtFlags::empty() };
                rustix::fs::linkat(CWD, self.path(from), CWD, self.path(to), flags)?;
            }
            Op::Symlink { target, path } => {
                rustix::fs::symlink(target.as_slice(), self.path(path))?
            }
            _ => return self.run_on_node(op),
        }
        Ok(Outcome::Done)
    }

    fn run_on_node(&self, op: &Op) -> Result<Outcome> {
        match op {
            Op::Readlink { path } => {
                let target = rustix::fs::readlink(self.path(path), Vec::new())?;
                return Ok(Outcome::Bytes(target.into_bytes()));
            }
            Op::Chmod { path, perm } => rustix::fs::chmod(self.path(path), mode(*perm))?,
            Op::Chown { path, uid, gid, follow } => {
                let (uid, gid) =
                    (uid.map(rustix::fs::Uid::from_raw), gid.map(rustix::fs::Gid::from_raw));
                rustix::fs::chownat(CWD, self.path(path), uid, gid, at_flags(*follow))?;
            }
            Op::Utimens { path, atime, mtime, follow } => {
                let times = Timestamps {
                    last_access: timespec(*atime),
                    last_modification: timespec(*mtime),
                };
                rustix::fs::utimensat(CWD, self.path(path), &times, at_flags(*follow))?;
            }
            Op::Truncate { path, size } => {
                // rustix has no truncate(2). For a file this is the same, but that it always stamps.
                let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
                let file = rustix::fs::open(self.path(path), flags, Mode::empty())?;
                rustix::fs::ftruncate(file, *size)?;
            }
            Op::Statfs { path } => {
                let stat = rustix::fs::statfs(self.path(path))?;
                return Ok(Outcome::Count(stat.f_namelen as u64));
            }
            Op::Stat { path } => {
                return Ok(Outcome::Attr(attr(&rustix::fs::stat(self.path(path))?)));
            }
            Op::Lstat { path } => return Ok(Outcome::Attr(self.lstat(path)?)),
            Op::Readdir { path } => return Ok(Outcome::Entries(self.readdir(path)?)),
            Op::Setxattr { path, name, value, mode, follow } => {
                let flags = match mode {
                    XattrMode::Any => XattrFlags::empty(),
                    XattrMode::Create => XattrFlags::CREATE,
                    XattrMode::Replace => XattrFlags::REPLACE,
                };
                let set = if *follow { rustix::fs::setxattr } else { rustix::fs::lsetxattr };
                set(self.path(path), name.as_slice(), value, flags)?;
            }
            Op::Getxattr { path, name, follow } => {
                return Ok(Outcome::Bytes(self.getxattr(path, name, *follow)?));
            }
            Op::Listxattr { path, follow } => {
                return Ok(Outcome::Names(self.listxattr(path, *follow)?));
            }
            Op::Removexattr { path, name, follow } => {
                let remove =
                    if *follow { rustix::fs::removexattr } else { rustix::fs::lremovexattr };
                remove(self.path(path), name.as_slice())?;
            }
            _ => unreachable!("dispatched by run"),
        }
        Ok(Outcome::Done)
    }

    fn readdir(&self, path: &[u8]) -> Result<Vec<DirEntry>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(self.path(path), flags, Mode::empty())?;
        let mut entries = Dir::new(dir)?
            .map(|entry| {
                let entry = entry?;
                let name = entry.file_name().to_bytes().to_vec();
                Ok(DirEntry { name, node: NodeId(entry.ino()), kind: kind(entry.file_type()) })
            })
            .collect::<Result<Vec<_>>>()?;
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn getxattr(&self, path: &[u8], name: &[u8], follow: bool) -> Result<Vec<u8>> {
        let mut value = vec![0; 65536];
        let path = self.path(path);
        let count = if follow {
            rustix::fs::getxattr(path, name, &mut value)?
        } else {
            rustix::fs::lgetxattr(path, name, &mut value)?
        };
        value.truncate(count);
        Ok(value)
    }

    /// Without the labels that a security module adds by itself.
    fn listxattr(&self, path: &[u8], follow: bool) -> Result<Vec<Vec<u8>>> {
        let mut list = vec![0; 65536];
        let path = self.path(path);
        let count = if follow {
            rustix::fs::listxattr(path, &mut list)?
        } else {
            rustix::fs::llistxattr(path, &mut list)?
        };
        let names = list[..count].split(|b| *b == 0).filter(|name| !name.is_empty());
        let mut names: Vec<_> =
            names.filter(|name| *name != b"security.selinux").map(<[u8]>::to_vec).collect();
        names.sort();
        Ok(names)
    }

    fn dump(&self, path: &[u8], tree: &mut Tree, ids: &mut BTreeMap<Vec<u8>, u64>) -> Result<()> {
        let attr = self.lstat(path)?;
        let is = |kind| attr.kind == kind;
        let mut xattrs = BTreeMap::new();
        for name in self.listxattr(path, false).unwrap_or_default() {
            let value = self.getxattr(path, &name, false)?;
            xattrs.insert(name, value);
        }
        let target = if is(Kind::Symlink) {
            Some(rustix::fs::readlink(self.path(path), vec![])?.into_bytes())
        } else {
            None
        };
        let entry = Entry {
            kind: attr.kind,
            perm: attr.perm,
            nlink: attr.nlink,
            uid: attr.uid,
            gid: attr.gid,
            size: if is(Kind::Dir) { 0 } else { attr.size },
            rdev: attr.rdev,
            atime: attr.atime,
            mtime: attr.mtime,
            ctime: attr.ctime,
            content: if is(Kind::File) { self.digest(path)? } else { 0 },
            target,
            xattrs,
            same_as: None,
        };
        tree.entries.insert(path.to_vec(), entry);
        ids.insert(path.to_vec(), attr.node.0);
        if is(Kind::Dir) {
            for entry in
                self.readdir(path)?.into_iter().filter(|e| e.name != b"." && e.name != b"..")
            {
                let below = if path == b"/" { vec![] } else { path.to_vec() };
                self.dump(&[&below, b"/".as_slice(), &entry.name].concat(), tree, ids)?;
            }
        }
        Ok(())
    }

    /// Reads the data of a file and leaves its holes out.
    fn digest(&self, path: &[u8]) -> Result<u64> {
        let file =
            rustix::fs::open(self.path(path), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let mut digest = Digest::default();
        let mut bytes = vec![0; 1 << 16];
        let mut at = 0;
        loop {
            at = match rustix::fs::seek(&file, SeekFrom::Data(at)) {
                Ok(data) => data,
                Err(Errno::NXIO) => return Ok(digest.value()),
                Err(errno) => return Err(errno),
            };
            let count = rustix::io::pread(&file, &mut bytes, at)?;
            digest.feed(at, &bytes[..count]);
            at += count as u64;
        }
    }

    /// The base directory and the path behind it. An empty path stays empty, `@3` is the file in slot 3.
    fn path(&self, path: &[u8]) -> PathBuf {
        match path {
            [] => return PathBuf::new(),
            [b'@', digit] => {
                let file = self.files.get(&(digit - b'0')).map_or(-1, |file| file.as_raw_fd());
                return format!("/proc/self/fd/{file}").into();
            }
            _ => {}
        }
        let mut full = self.base.clone().into_os_string();
        full.push(OsStr::from_bytes(path));
        full.into()
    }

    fn file(&self, slot: u8) -> Result<&OwnedFd> {
        self.files.get(&slot).ok_or(Errno::BADF)
    }
}

fn attr(stat: &Stat) -> Attr {
    let time = |secs, nanos| Time::new(secs, nanos as u32);
    let kind = kind(FileType::from_raw_mode(stat.st_mode));
    Attr {
        node: NodeId(stat.st_ino),
        kind,
        perm: (stat.st_mode & 0o7777) as u16,
        nlink: stat.st_nlink as u32,
        uid: stat.st_uid,
        gid: stat.st_gid,
        size: stat.st_size as u64,
        rdev: stat.st_rdev,
        atime: time(stat.st_atime, stat.st_atime_nsec),
        mtime: time(stat.st_mtime, stat.st_mtime_nsec),
        ctime: time(stat.st_ctime, stat.st_ctime_nsec),
        btime: Time::default(),
    }
}

fn kind(file_type: FileType) -> Kind {
    match file_type {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Dir,
        FileType::Symlink => Kind::Symlink,
        FileType::Fifo => Kind::Fifo,
        FileType::Socket => Kind::Socket,
        FileType::CharacterDevice => Kind::CharDev,
        FileType::BlockDevice => Kind::BlockDev,
        FileType::Unknown => panic!("a directory entry without a type"),
    }
}

fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::File => FileType::RegularFile,
        Kind::Dir => FileType::Directory,
        Kind::Symlink => FileType::Symlink,
        Kind::Fifo => FileType::Fifo,
        Kind::Socket => FileType::Socket,
        Kind::CharDev => FileType::CharacterDevice,
        Kind::BlockDev => FileType::BlockDevice,
    }
}

fn open_flags(flags: OpenFlags) -> OFlags {
    let access = match (flags.read, flags.write) {
        (true, true) => OFlags::RDWR,
        (false, true) => OFlags::WRONLY,
        _ => OFlags::RDONLY,
    };
    let rest = [
        (flags.create, OFlags::CREATE),
        (flags.exclusive, OFlags::EXCL),
        (flags.truncate, OFlags::TRUNC),
        (flags.append, OFlags::APPEND),
        (flags.directory, OFlags::DIRECTORY),
        (flags.no_follow, OFlags::NOFOLLOW),
    ];
    let chosen = rest.into_iter().filter(|(set, _)| *set).map(|(_, flag)| flag);
    access | OFlags::CLOEXEC | OFlags::NONBLOCK | chosen.collect::<OFlags>()
}

fn fallocate_flags(mode: Allocate) -> FallocateFlags {
    let keep = FallocateFlags::KEEP_SIZE;
    match mode {
        Allocate::Extend => FallocateFlags::empty(),
        Allocate::Keep => keep,
        Allocate::PunchHole => FallocateFlags::PUNCH_HOLE | keep,
        Allocate::ZeroExtend => FallocateFlags::ZERO_RANGE,
        Allocate::ZeroKeep => FallocateFlags::ZERO_RANGE | keep,
    }
}

fn at_flags(follow: bool) -> AtFlags {
    if follow { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW }
}

fn mode(perm: u16) -> Mode {
    Mode::from_raw_mode(u32::from(perm))
}

fn timespec(time: SetTime) -> Timespec {
    match time {
        SetTime::Omit => Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        SetTime::Now => Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
        SetTime::Set(time) => Timespec { tv_sec: time.secs, tv_nsec: time.nanos.into() },
    }
}
