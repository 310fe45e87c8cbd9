//! O_TMPFILE: a file without a name, until a link gives it one.

use super::files::opened;
use super::tasks::done;
use super::{Client, Mounted};
use crate::error::FsError;
use crate::id::{Ino, RequestId};
use crate::meta::ops::create::Create;
use crate::meta::ops::tmpfile::tmpfile;
use crate::meta::txn::transact;
use crate::port::Point;
use crate::port::kernel::{Operation, Reply, Request, S_IFREG};
use crate::port::meta_kv::Version;
use bytes::Bytes;

impl Client {
    /// FUSE_TMPFILE. The file waits for reclaim on the volume from the start, and here for its last close.
    pub(super) fn tmpfile(&mut self, mounted: Mounted, id: RequestId, request: Request) {
        let Operation::TmpFile { parent: dir, mode, umask, flags } = request.op else { return };
        let Some(ino) = self.next_number(&mounted, dir) else {
            return self.await_numbers(mounted, id, request);
        };
        let new = Create {
            dir,
            name: Bytes::new(),
            ino,
            mode: S_IFREG | mode & 0o7777,
            umask,
            uid: request.caller.uid,
            gid: request.caller.gid,
            rdev: 0,
            target: None,
            now: self.now.wall,
        };
        self.spawn(id, move |cx| async move {
            let (result, point) = transact!(&cx, &mounted.volume, |txn| {
                tmpfile(txn, &new, !flags.exclusive()).await
            });
            done(move |client| {
                client.note(point);
                match result {
                    Ok(attrs) => {
                        let entry = client.entry(attrs.attr(ino));
                        client.install_created(ino, &attrs, point);
                        client.inodes.enter(ino).unlinked = true;
                        let opened = opened(client.inodes.open(ino), flags);
                        client.reply(id, Reply::Created { entry, opened }, point);
                    }
                    Err(FsError::NoSpace) => client.full(id, request),
                    Err(error) => client.reply(id, Reply::Error(error), point),
                }
            })
        });
    }

    /// A link committed: if it gave a file its first name, that is no longer on its way out, unless the
    /// name went again.
    pub(super) fn named(&mut self, ino: Ino, first: bool, point: Point) {
        let (Some(inode), Point::Commit(commit)) = (self.inodes.get_mut(ino), point) else {
            return;
        };
        if first && commit.version > inode.unnamed {
            inode.unlinked = false;
        }
    }

    /// The last name of an inode went with this commit.
    pub(super) fn unnamed(&mut self, ino: Ino, point: Point) {
        let version = match point {
            Point::Commit(commit) => commit.version,
            _ => Version(u64::MAX),
        };
        match self.inodes.get_mut(ino) {
            Some(inode) => {
                inode.unlinked = true;
                inode.unnamed = version;
                self.let_go(ino);
            }
            None => self.reclaim_inode(ino),
        }
    }
}
