//! Names: lookup, create and its kin, link, unlink, rmdir, rename; and inode numbers.

use super::files::{emptied, opened};
use super::tasks::done;
use super::{Client, Mounted};
use crate::error::{FsError, FsResult};
use crate::id::{Ino, RequestId};
use crate::limits::SYMLINK_MAX;
use crate::meta::attrs::Attrs;
use crate::meta::ops::create::{Create, Created, create};
use crate::meta::ops::groups::{self, GROUP_SLOTS};
use crate::meta::ops::lookup;
use crate::meta::ops::remove::{Removed, rmdir, unlink};
use crate::meta::ops::rename::{EXCHANGE, Rename, rename};
use crate::meta::ops::{link::link, load::load_file};
use crate::meta::txn::transact;
use crate::port::Point;
use crate::port::kernel::{
    Entry, OpenFlags, Operation, Reply, Request, S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK,
    S_IFMT, S_IFREG, S_IFSOCK,
};
use crate::task::Cx;
use alloc::collections::BTreeMap;
use bytes::Bytes;
use core::ops::Range;
use core::time::Duration;

/// Inode numbers in stock: groups taken from the volume, and the group that each directory uses.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    groups: Range<u64>,
    dirs: BTreeMap<Ino, (u64, u64)>,
    refilling: bool,
}

/// Groups taken at a time.
const STOCK: u64 = 256;
/// Directories that have a group of their own at a time.
const DIRS_MAX: usize = 4096;

impl Numbers {
    /// The next number for a child of a directory, if there is one in stock.
    fn take(&mut self, dir: Ino) -> Option<Ino> {
        if let Some((group, next)) = self.dirs.get_mut(&dir)
            && *next < GROUP_SLOTS
        {
            *next += 1;
            return Some(groups::ino(*group, *next - 1));
        }
        let group = self.groups.next()?;
        if self.dirs.len() >= DIRS_MAX {
            // What is left of that group is lost; there are enough of them.
            self.dirs.pop_first();
        }
        // Slot 0 of a group stays free, so that no number is ever 0.
        self.dirs.insert(dir, (group, 2));
        Some(groups::ino(group, 1))
    }

    fn low(&self) -> bool {
        self.groups.end - self.groups.start < STOCK / 4
    }
}

/// What becomes of an inode that CREATE made or found.
#[derive(Clone, Copy)]
enum Then {
    Reply,
    Open(OpenFlags),
}

impl Client {
    /// FUSE_LOOKUP.
    pub(super) fn lookup(&mut self, mounted: Mounted, id: RequestId, dir: Ino, name: Bytes) {
        self.spawn(id, move |cx| async move {
            let (result, point) =
                transact!(&cx, &mounted.volume, |txn| lookup::lookup(txn, dir, &name).await);
            done(move |client| match result {
                Ok(Some((ino, attrs))) => match client.known_entry(ino, &attrs, point) {
                    Some(entry) => client.reply(id, Reply::Entry(entry), point),
                    None => client.lookup(mounted, id, dir, name),
                },
                Ok(None) if client.config.negative_valid > Duration::ZERO => {
                    let entry = Entry {
                        attr: None,
                        entry_valid: client.config.negative_valid,
                        attr_valid: Duration::ZERO,
                    };
                    client.reply(id, Reply::Entry(entry), point);
                }
                Ok(None) => client.reply(id, Reply::Error(FsError::NotFound), point),
                Err(error) => client.reply(id, Reply::Error(error), point),
            })
        });
    }

    /// An entry of an inode that was read; `None` if that is stale, or the inode is on its way out.
    fn known_entry(&mut self, ino: Ino, attrs: &Attrs, point: Point) -> Option<Entry> {
        if self.reclaim.contains(ino) {
            return None;
        }
        let attr = self.merged(ino, attrs, point)?;
        let entry = self.entry(attr);
        self.saw_core(ino, &attrs.core, point);
        Some(entry)
    }

    /// FUSE_CREATE, FUSE_MKDIR, FUSE_MKNOD, FUSE_SYMLINK.
    pub(super) fn create(&mut self, mounted: Mounted, id: RequestId, request: Request) {
        let (new, then) = match self.plan_create(&mounted, &request) {
            Ok(Some(plan)) => plan,
            Ok(None) => return self.await_numbers(mounted, id, request),
            Err(error) => return self.fail(id, error),
        };
        let exclusive =
            matches!(then, Then::Reply) || matches!(then, Then::Open(f) if f.exclusive());
        // Others may find and remove it before its commit is known here.
        let ino = new.ino;
        self.pin(ino);
        self.spawn(id, move |cx| async move {
            let (result, point) = transact!(&cx, &mounted.volume, |txn| create(txn, &new).await);
            done(move |client| {
                client.note(point);
                match result {
                    Ok(Created::New(attrs)) => client.created(id, ino, &attrs, then, point),
                    Ok(Created::Found(_)) if exclusive => {
                        client.reply(id, Reply::Error(FsError::Exists), point);
                    }
                    Ok(Created::Found(ino)) => client.open_found(mounted, id, ino, (request, then)),
                    Err(FsError::NoSpace) => client.full(id, request),
                    Err(error) => client.reply(id, Reply::Error(error), point),
                }
                client.unpin(ino);
            })
        });
    }

    /// What to create; `None` while inode numbers are out of stock.
    fn plan_create(
        &mut self,
        mounted: &Mounted,
        request: &Request,
    ) -> FsResult<Option<(Create, Then)>> {
        let (dir, name, (mode, umask), rdev, target, then) = match &request.op {
            Operation::Create { parent, name, mode, umask, flags } => {
                let mode = S_IFREG | mode & 0o7777;
                (*parent, name, (mode, *umask), 0, None, Then::Open(*flags))
            }
            Operation::MkDir { parent, name, mode, umask } => {
                (*parent, name, (S_IFDIR | mode & 0o7777, *umask), 0, None, Then::Reply)
            }
            Operation::MkNod { parent, name, mode, umask, rdev } => {
                (*parent, name, (node_mode(*mode)?, *umask), *rdev, None, Then::Reply)
            }
            Operation::Symlink { parent, name, target } => {
                check_target(target)?;
                (*parent, name, (S_IFLNK | 0o777, 0), 0, Some(target.clone()), Then::Reply)
            }
            _ => return Err(FsError::NoSystemCall),
        };
        let Some(ino) = self.next_number(mounted, dir) else { return Ok(None) };
        let (uid, gid) = (request.caller.uid, request.caller.gid);
        // Only permission bits: a umask is not asked about anything else.
        let (name, umask, now) = (name.clone(), umask & 0o777, self.now.wall);
        Ok(Some((Create { dir, name, ino, mode, umask, uid, gid, rdev, target, now }, then)))
    }

    /// An inode number for a child of a directory, if there is one in stock.
    pub(super) fn next_number(&mut self, mounted: &Mounted, dir: Ino) -> Option<Ino> {
        let ino = self.numbers.take(dir)?;
        if self.numbers.low() {
            self.refill_numbers(mounted.clone());
        }
        Some(ino)
    }

    fn created(&mut self, id: RequestId, ino: Ino, attrs: &Attrs, then: Then, point: Point) {
        let entry = self.entry(attrs.attr(ino));
        self.saw_core(ino, &attrs.core, point);
        match then {
            Then::Reply => self.reply(id, Reply::Entry(entry), point),
            Then::Open(flags) => {
                self.install_created(ino, attrs, point);
                let opened = opened(self.inodes.open(ino), flags);
                self.reply(id, Reply::Created { entry, opened }, point);
            }
        }
    }

    /// CREATE without O_EXCL met an existing name: it opens that.
    fn open_found(
        &mut self,
        mounted: Mounted,
        id: RequestId,
        ino: Ino,
        (request, then): (Request, Then),
    ) {
        let Then::Open(flags) = then else { return self.fail(id, FsError::Exists) };
        if self.reclaim.contains(ino) {
            // The name went since it was seen, and the inode goes.
            return self.dispatch(id, request);
        }
        if flags.truncates() {
            return self.open_found_truncating(mounted, id, ino, (request, flags));
        }
        self.pin(ino);
        let epoch = self.inodes.file(ino).map_or(0, |f| f.epoch);
        self.spawn(id, move |cx| async move {
            let (result, point) = transact!(&cx, &mounted.volume, |txn| load_file(txn, ino).await);
            done(move |client| {
                match result {
                    Ok((attrs, _)) if attrs.core.is_dir() => {
                        client.reply(id, Reply::Error(FsError::IsDirectory), point);
                    }
                    // Anything else but a file wants another way of opening: the kernel looks again.
                    Ok((attrs, _)) if attrs.core.kind() != S_IFREG => {
                        client.reply(id, Reply::Error(FsError::Stale), point);
                    }
                    Ok((attrs, inline)) => match client.known_entry(ino, &attrs, point) {
                        Some(entry) => {
                            client.install(ino, epoch, &attrs, inline, point);
                            let opened = opened(client.inodes.open(ino), flags);
                            client.reply(id, Reply::Created { entry, opened }, point);
                        }
                        None => client.dispatch(id, request),
                    },
                    Err(FsError::Stale) => client.dispatch(id, request),
                    Err(error) => client.reply(id, Reply::Error(error), point),
                }
                client.unpin(ino);
            })
        });
    }

    /// The same with O_TRUNC.
    fn open_found_truncating(
        &mut self,
        mounted: Mounted,
        id: RequestId,
        ino: Ino,
        (request, flags): (Request, OpenFlags),
    ) {
        let set = emptied(flags);
        self.change_attrs(
            mounted.clone(),
            id,
            (ino, set),
            request,
            move |client, result, point| match result {
                Ok(changed) => client.when_told((ino, changed.mode_changed), move |client| {
                    client.with_attr(mounted, (ino, changed.attrs), move |client, attr| {
                        let opened = opened(client.inodes.open(ino), flags);
                        let entry = client.entry(attr);
                        client.reply(id, Reply::Created { entry, opened }, point);
                    });
                }),
                Err(FsError::Invalid) => client.reply(id, Reply::Error(FsError::Stale), point),
                Err(error) => client.reply(id, Reply::Error(error), point),
            },
        );
    }

    pub(super) fn await_numbers(&mut self, mounted: Mounted, id: RequestId, request: Request) {
        probe!("numbers-awaited");
        self.parked.push((id, request));
        self.refill_numbers(mounted);
    }

    fn refill_numbers(&mut self, mounted: Mounted) {
        if core::mem::replace(&mut self.numbers.refilling, true) {
            return;
        }
        self.spawn_own(move |cx| async move {
            let (result, point) =
                transact!(&cx, &mounted.volume, |txn| groups::take(txn, STOCK).await);
            done(move |client| {
                client.note(point);
                client.numbers.refilling = false;
                match result {
                    // What was left of the old stock is lost; there are enough of them.
                    Ok(first) => {
                        client.numbers.groups = first..first + STOCK;
                        client.unpark();
                    }
                    Err(error) => {
                        for (id, _) in core::mem::take(&mut client.parked) {
                            client.fail(id, error);
                        }
                    }
                }
            })
        });
    }

    /// FUSE_LINK.
    pub(super) fn link(
        &mut self,
        mounted: Mounted,
        id: RequestId,
        ino: Ino,
        (dir, name): (Ino, Bytes),
    ) {
        let now = self.now.wall;
        self.pin(ino);
        self.spawn(id, move |cx| async move {
            let (linked, point) =
                transact!(&cx, &mounted.volume, |txn| link(txn, ino, dir, &name, now).await);
            done(move |client| {
                client.note(point);
                if let Ok((_, first)) = &linked {
                    client.named(ino, *first, point);
                }
                match linked.map(|(attrs, _)| attrs) {
                    Ok(attrs) => client.with_attr(mounted, (ino, attrs), move |client, attr| {
                        let entry = client.entry(attr);
                        client.reply(id, Reply::Entry(entry), point);
                    }),
                    Err(error) => client.reply(id, Reply::Error(error), point),
                }
                client.unpin(ino);
            })
        });
    }

    /// FUSE_UNLINK.
    pub(super) fn unlink(&mut self, mounted: Mounted, id: RequestId, dir: Ino, name: Bytes) {
        let now = self.now.wall;
        self.spawn(id, move |cx| async move {
            let (result, point) =
                transact!(&cx, &mounted.volume, |txn| unlink(txn, dir, &name, now).await);
            done(move |client| client.removed(id, result.map(Some), point))
        });
    }

    /// FUSE_RMDIR.
    pub(super) fn rmdir(&mut self, mounted: Mounted, id: RequestId, dir: Ino, name: Bytes) {
        let now = self.now.wall;
        self.spawn(id, move |cx| async move {
            let (result, point) = transact!(&cx, &mounted.volume, |txn| {
                // rmdir(2): "." is EINVAL, ".." is ENOTEMPTY.
                if name.as_ref() == b".." {
                    Err(FsError::NotEmpty)
                } else {
                    rmdir(txn, dir, &name, now).await
                }
            });
            done(move |client| client.removed(id, result.map(Some), point))
        });
    }

    /// FUSE_RENAME2.
    pub(super) fn rename(
        &mut self,
        mounted: Mounted,
        id: RequestId,
        (dir, name): (Ino, Bytes),
        (new_dir, new_name): (Ino, Bytes),
        flags: u32,
    ) {
        let r = Rename { dir, name, new_dir, new_name, flags, now: self.now.wall };
        let buffered = self.inodes.dirty_files().next().is_some() && !planted!(UnsettledRename);
        self.spawn(id, move |cx| async move {
            let settled = if buffered { settle_renamed(&cx, &mounted, &r).await } else { Ok(()) };
            let (result, point) = match settled {
                Ok(()) => transact!(&cx, &mounted.volume, |txn| rename(txn, &r).await),
                Err(error) => (Err(error), Point::Step),
            };
            done(move |client| client.removed(id, result.map(|renamed| renamed.replaced), point))
        });
    }

    /// A name went, if one did: its inode is reclaimed when nothing holds it.
    fn removed(&mut self, id: RequestId, result: FsResult<Option<Removed>>, point: Point) {
        self.note(point);
        match result {
            Ok(removed) => {
                self.reply(id, Reply::Done, point);
                if let Some(Removed { ino, last: true }) = removed {
                    self.unnamed(ino, point);
                }
            }
            Err(error) => self.reply(id, Reply::Error(error), point),
        }
    }

    /// FUSE_FORGET.
    pub(super) fn forget(&mut self, nodes: alloc::vec::Vec<(Ino, u64)>) {
        for (ino, count) in nodes {
            if let Some(inode) = self.inodes.get_mut(ino) {
                inode.lookups = inode.lookups.saturating_sub(count);
                self.let_go(ino);
            }
        }
    }

    /// FUSE_READLINK.
    pub(super) fn readlink(&mut self, mounted: Mounted, id: RequestId, ino: Ino) {
        self.spawn(id, move |cx| async move {
            let (result, point) =
                transact!(&cx, &mounted.volume, |txn| lookup::readlink(txn, ino).await);
            done(move |client| match result {
                Ok((target, attrs)) => {
                    if super::atime::is_due(&attrs, client.now.wall)
                        && let Some(inode) = client.inodes.get_mut(ino)
                    {
                        inode.atime_due = true;
                        client.touch_atime(ino);
                    }
                    client.reply(id, Reply::Target(target), point);
                }
                Err(error) => client.reply(id, Reply::Error(error), point),
            })
        });
    }
}

/// What was written to a file before its rename comes before the rename: else a crash in between would
/// put a file that lacks it in the place of the old one.
async fn settle_renamed(cx: &Cx, mounted: &Mounted, r: &Rename) -> FsResult<()> {
    let exchanged = (r.flags & EXCHANGE != 0).then_some((r.new_dir, &r.new_name));
    for (dir, name) in [(r.dir, &r.name)].into_iter().chain(exchanged) {
        let (found, _) = transact!(cx, &mounted.volume, |txn| lookup::lookup(txn, dir, name).await);
        // Whatever is wrong with the names is for the rename to say.
        if let Ok(Some((ino, _))) = found {
            cx.settle(ino).await?;
        }
    }
    Ok(())
}

fn node_mode(mode: u32) -> FsResult<u32> {
    match mode & S_IFMT {
        0 => Ok(S_IFREG | mode & 0o7777),
        S_IFREG | S_IFIFO | S_IFSOCK | S_IFCHR | S_IFBLK => Ok(mode & (S_IFMT | 0o7777)),
        S_IFDIR => Err(FsError::NotPermitted),
        _ => Err(FsError::Invalid),
    }
}

fn check_target(target: &[u8]) -> FsResult<()> {
    match target.len() {
        0 => Err(FsError::NotFound),
        n if n > SYMLINK_MAX => Err(FsError::NameTooLong),
        _ => Ok(()),
    }
}
