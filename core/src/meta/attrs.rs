//! An inode's attribute rows as one value, and what stat(2) shows of them.

use crate::error::{FsError, FsResult};
use crate::id::Ino;
use crate::meta::key::{self, tag};
use crate::meta::record::{Core, Pair, decode_time, decode_u64, flag};
use crate::port::kernel::{Attr, S_IFREG};
use crate::port::meta_kv::{Key, Value};
use crate::time::WallTime;

/// Everything the attribute keys of one inode say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attrs {
    /// The rarely written part.
    pub core: Core,
    /// Bytes.
    pub size: u64,
    /// Modification time, if it was ever written apart from the birth time.
    pub mtime: Option<WallTime>,
    /// Change time bump.
    pub ctime: Option<WallTime>,
    /// Access time.
    pub atime: Option<WallTime>,
    /// Log entries (hi) and bytes (lo).
    pub usage: Pair,
    /// Subdirectories (hi) and entries (lo).
    pub children: Pair,
    /// Parent of a directory.
    pub parent: Option<Ino>,
}

impl Attrs {
    /// A fresh inode.
    pub fn new(core: Core) -> Attrs {
        Attrs {
            core,
            size: 0,
            mtime: None,
            ctime: None,
            atime: None,
            usage: Pair::default(),
            children: Pair::default(),
            parent: None,
        }
    }

    /// Gathers the rows of [`key::attrs`]; `None` if there is no such inode.
    pub fn from_rows(rows: &[(Key, Value)]) -> FsResult<Option<Attrs>> {
        let Some((first, value)) = rows.first() else { return Ok(None) };
        if key::parse_inode(first).is_none_or(|(_, tag, _)| tag != tag::CORE) {
            // Blind counters may outlive or precede their inode; without a core there is none.
            return Ok(None);
        }
        let mut attrs = Attrs::new(Core::decode(value)?);
        for (key, value) in &rows[1..] {
            let (_, tag, _) = key::parse_inode(key).ok_or(FsError::Damaged)?;
            match tag {
                tag::SIZE => attrs.size = decode_u64(value)?,
                tag::MTIME => attrs.mtime = Some(decode_time(value)?),
                tag::CTIME => attrs.ctime = Some(decode_time(value)?),
                tag::ATIME => attrs.atime = Some(decode_time(value)?),
                tag::USAGE => attrs.usage = Pair::decode(value)?,
                tag::CHILDREN => attrs.children = Pair::decode(value)?,
                tag::PARENT => {
                    attrs.parent = Some(Ino(u64::from_be_bytes(
                        value.as_ref().try_into().map_err(|_| FsError::Damaged)?,
                    )));
                }
                _ => return Err(FsError::Damaged),
            }
        }
        Ok(Some(attrs))
    }

    /// Modification time.
    pub fn mtime(&self) -> WallTime {
        self.mtime.unwrap_or(self.core.btime)
    }

    /// Access time.
    pub fn atime(&self) -> WallTime {
        self.atime.unwrap_or(self.core.btime)
    }

    /// Change time: every change of data is one, too, unless utimens put mtime where it likes.
    pub fn ctime(&self) -> WallTime {
        let changed = self.core.ctime.max(self.ctime.unwrap_or(self.core.ctime));
        if self.core.has(flag::MTIME_SET) { changed } else { changed.max(self.mtime()) }
    }

    /// What stat(2) shows.
    pub fn attr(&self, ino: Ino) -> Attr {
        let dir = self.core.is_dir();
        let nlink = match (dir, self.core.nlink) {
            (true, 1..) => 2 + u32::try_from(self.children.hi.max(0)).unwrap_or(u32::MAX - 2),
            (_, n) => n,
        };
        Attr {
            ino,
            mode: self.core.mode,
            nlink,
            uid: self.core.uid,
            gid: self.core.gid,
            rdev: self.core.rdev,
            size: if dir { self.children.lo.max(0) as u64 * DENTRY_SIZE } else { self.size },
            blocks: if self.core.kind() == S_IFREG { blocks(self.usage.lo, self.size) } else { 0 },
            atime: self.atime(),
            mtime: self.mtime(),
            ctime: self.ctime(),
            btime: self.core.btime,
        }
    }
}

/// What a directory's size counts per entry, as tmpfs does.
const DENTRY_SIZE: u64 = 20;

/// Units of 512 bytes: what is referenced, at most what the size can hold, in pages of 4 KiB.
pub fn blocks(bytes: i64, size: u64) -> u64 {
    let referenced = (bytes.max(0) as u64).div_ceil(4096);
    referenced.min(size.div_ceil(4096)) * 8
}
