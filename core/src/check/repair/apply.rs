//! Writing a fix: one transaction, which looks again before it writes.

use super::{CoreEdit, Fix, NamesOf};
use crate::data::page_io::page;
use crate::error::{FsError, FsResult};
use crate::id::{Ino, SegmentId};
use crate::meta::key::{self, tag};
use crate::meta::ops::create::{Create, Created, create};
use crate::meta::ops::format::put_directory;
use crate::meta::ops::groups;
use crate::meta::ops::reconnect::reconnect;
use crate::meta::ops::relocate::relocate;
use crate::meta::record::{Core, Dentry, encode_erase, flag};
use crate::meta::txn::{Txn, Volume, list, one, rows, transact, value};
use crate::port::Point;
use crate::port::kernel::S_IFDIR;
use crate::port::page_store::{PageReply, PageRequest};
use crate::task::Cx;
use crate::time::WallTime;
use bytes::Bytes;

/// Where inodes without a name are linked.
const LOST_FOUND: &[u8] = b"lost+found";

/// A repair under way.
pub(super) struct Repair<'a> {
    cx: &'a Cx,
    volume: &'a Volume,
    now: WallTime,
    lost_found: Option<Ino>,
}

impl<'a> Repair<'a> {
    pub(super) fn new(cx: &'a Cx, volume: &'a Volume, now: WallTime) -> Repair<'a> {
        Repair { cx, volume, now, lost_found: None }
    }

    /// Writes a fix. `None`: nothing was done, because it is not as it seemed.
    pub(super) async fn apply(&mut self, fix: &Fix, names: &NamesOf) -> FsResult<Option<Point>> {
        let stored = match fix {
            Fix::Record { id, end, .. } => match self.stored(*id).await? {
                Some(len) if u64::from(len) >= *end => len,
                _ => return Ok(None),
            },
            _ => 0,
        };
        let lost_found = match fix {
            Fix::Reconnect(_) => self.lost_found().await?,
            _ => Ino::ROOT,
        };
        let now = self.now;
        let (result, point) = transact!(self.cx, self.volume, |txn| {
            match fix {
                Fix::Reconnect(ino) => reconnect(txn, *ino, lost_found, now).await.map(|()| true),
                Fix::Record { id, live, .. } => {
                    record(txn, *id, stored, *live);
                    Ok(true)
                }
                fix => write(txn, fix, names, now).await,
            }
        });
        Ok(result?.then_some(point))
    }

    /// Payload length of a stored segment; `None` if it is not there, or damaged.
    async fn stored(&self, segment: SegmentId) -> FsResult<Option<u32>> {
        match page(self.cx, PageRequest::Verify { segment }).await {
            Ok(PageReply::Verified { len }) => Ok(Some(len)),
            Ok(_) => Err(FsError::Damaged),
            Err(_) => Ok(None),
        }
    }

    /// The directory for lost files, made if there is none.
    async fn lost_found(&mut self) -> FsResult<Ino> {
        if let Some(ino) = self.lost_found {
            return Ok(ino);
        }
        let now = self.now;
        let mut found = None;
        let (made, _) = transact!(self.cx, self.volume, |txn| {
            let new = lost_found(groups::ino(groups::take(txn, 1).await?, 0), now);
            match create(txn, &new).await? {
                Created::New(_) => Ok(new.ino),
                // An error, so that no number is taken for nothing.
                Created::Found(ino) => {
                    found = Some(ino);
                    Err(FsError::Exists)
                }
            }
        });
        self.lost_found = Some(found.map_or(made, Ok)?);
        self.lost_found.ok_or(FsError::Damaged)
    }
}

/// The directory as it is made.
fn lost_found(ino: Ino, now: WallTime) -> Create {
    Create {
        dir: Ino::ROOT,
        name: Bytes::from_static(LOST_FOUND),
        ino,
        mode: S_IFDIR | 0o700,
        umask: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        target: None,
        now,
    }
}

/// Whether anything was to be done.
async fn write(txn: &mut Txn<'_>, fix: &Fix, names: &NamesOf, now: WallTime) -> FsResult<bool> {
    match fix {
        Fix::Put(key, value) => txn.set(key.clone(), value.clone()),
        Fix::Clear(keys) => keys.iter().for_each(|key| txn.clear(key.clone())),
        Fix::Queue(ino, generation) => txn.set(key::garbage(*ino, *generation), Bytes::new()),
        Fix::Erase { ino, generation, from } => {
            let at = key::erase(*ino, *generation, txn.volume.incarnation, 0);
            txn.set_stamped(at, encode_erase(*from, u64::MAX));
        }
        Fix::ClearInode(ino) => {
            if core_of(txn, *ino).await?.is_some() {
                return Ok(false);
            }
            txn.clear_range(key::whole_inode(*ino));
        }
        Fix::Core(ino, edit) => {
            let mut core = core_of(txn, *ino).await?.ok_or(FsError::Damaged)?;
            match edit {
                CoreEdit::Links(n) => core.nlink = *n,
                CoreEdit::Flags { all, set } => core.flags = core.flags & !all | set,
            }
            if core.nlink > 0 {
                core.put(flag::NAMEABLE, false);
            }
            txn.set(key::inode(*ino, tag::CORE), core.encode());
        }
        Fix::Kind { dir, cookie, kind } => {
            let at = key::dentry(*dir, *cookie);
            let [dentry] = txn.read([one(at.clone())]).await?;
            let dentry = Dentry::decode(&value(dentry).ok_or(FsError::Damaged)?)?;
            txn.set(at, Dentry { kind: *kind, ..dentry }.encode());
        }
        Fix::Move { dir, cookie } => relocate(txn, *dir, *cookie, false).await?,
        Fix::Rename { dir, cookie } => relocate(txn, *dir, *cookie, true).await?,
        Fix::Unname { dir, cookie, ino } => {
            let [entries] = txn.read([rows(key::dentries_after(*ino, 0), 1)]).await?;
            if !list(entries).is_empty() {
                return Ok(false);
            }
            txn.clear(key::dentry(*dir, *cookie));
        }
        Fix::Directory(ino) => return directory(txn, *ino, 0o700, now).await,
        Fix::Root => return directory(txn, Ino::ROOT, 0o755, now).await,
        Fix::Home(ino) => {
            let Some((dir, cookie)) = names.get(ino).and_then(|names| names.first()) else {
                return Ok(false);
            };
            go_home(txn, *ino, (*dir, *cookie)).await?;
        }
        Fix::BackLinks(ino) => {
            for (dir, cookie) in names.get(ino).into_iter().flatten() {
                txn.set(key::back_link(*ino, *dir, *cookie), Bytes::new());
            }
        }
        Fix::OneName(ino) => return one_name(txn, *ino, names).await,
        Fix::Reconnect(_) | Fix::Record { .. } => return Ok(false),
    }
    Ok(true)
}

async fn core_of(txn: &mut Txn<'_>, ino: Ino) -> FsResult<Option<Core>> {
    let [core] = txn.read([one(key::inode(ino, tag::CORE))]).await?;
    value(core).map(|core| Core::decode(&core)).transpose()
}

async fn go_home(txn: &mut Txn<'_>, ino: Ino, home: (Ino, u64)) -> FsResult<()> {
    let mut core = core_of(txn, ino).await?.ok_or(FsError::Damaged)?;
    (core.home, core.home_cookie) = home;
    txn.set(key::inode(ino, tag::CORE), core.encode());
    Ok(())
}

/// A directory whose core is lost, for its entries to be in. Whose it was nobody knows: root's.
async fn directory(txn: &mut Txn<'_>, ino: Ino, perm: u32, now: WallTime) -> FsResult<bool> {
    if core_of(txn, ino).await?.is_some() {
        return Ok(false);
    }
    put_directory(txn, ino, perm, (0, 0), now);
    Ok(true)
}

/// All names of a directory go but the one in the directory that it takes for its parent.
async fn one_name(txn: &mut Txn<'_>, ino: Ino, names: &NamesOf) -> FsResult<bool> {
    let Some(places) = names.get(&ino).filter(|places| !places.is_empty()) else {
        return Ok(false);
    };
    let [parent] = txn.read([one(key::inode(ino, tag::PARENT))]).await?;
    let parent = value(parent).and_then(|v| Some(Ino(u64::from_be_bytes(v[..].try_into().ok()?))));
    let core = core_of(txn, ino).await?.ok_or(FsError::Damaged)?;
    let home = (core.home, core.home_cookie);
    let kept = if ino == Ino::ROOT {
        None
    } else if places.contains(&home) && parent == Some(home.0) {
        Some(home)
    } else {
        places.iter().find(|(dir, _)| Some(*dir) == parent).or(places.first()).copied()
    };
    for (dir, cookie) in places.iter().filter(|place| Some(**place) != kept) {
        txn.clear(key::dentry(*dir, *cookie));
    }
    if let Some(kept) = kept.filter(|kept| *kept != home) {
        go_home(txn, ino, kept).await?;
    }
    Ok(true)
}

fn record(txn: &mut Txn<'_>, id: SegmentId, len: u32, live: u64) {
    let number = |n: u64| Bytes::copy_from_slice(&n.to_le_bytes());
    txn.set(key::segment(id), number(u64::from(len)));
    txn.set(key::live_bytes(id), number(live));
}
