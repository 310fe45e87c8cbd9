//! Reads everything under the key of each inode, and checks what concerns one inode alone.
//!
//! Attributes sort ahead of data, so that the size is known when the log comes, and an inode with a
//! log of any length takes the memory of its erases.

use super::file::FileRows;
use super::inodes::{Dir, Inode};
use super::scan::{Scan, Store};
use super::xattrs::Xattrs;
use super::{Check, Fix, rule};
use crate::error::FsResult;
use crate::id::Ino;
use crate::limits::{FILE_SIZE_MAX, SYMLINK_MAX};
use crate::meta::key::{self, tag};
use crate::meta::ops::groups;
use crate::meta::record::{Core, Pair, decode_time, decode_u64, flag};
use crate::port::kernel::{S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFREG, S_IFSOCK};
use crate::port::meta_kv::Value;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Reads all inodes.
pub(super) async fn scan(store: &Store<'_>, check: &mut Check) -> FsResult<()> {
    let mut scan = Scan::new(key::all_inodes());
    let mut current: Option<Rows> = None;
    while let Some(page) = store.page(&mut scan).await? {
        check.newest.1 = check.newest.1.max(store.moment());
        for (key, value) in page {
            let Some((ino, tag, rest)) = key::parse_inode(&key) else {
                check.problems.add(rule::UNKNOWN_KEY, format!("inode key {key:?}"));
                continue;
            };
            if current.as_ref().is_none_or(|rows| rows.ino != ino)
                && let Some(done) = current.replace(Rows::new(ino))
            {
                done.finish(check);
            }
            if let Some(rows) = &mut current {
                rows.row(check, (tag, rest), &value);
            }
        }
    }
    if let Some(done) = current {
        done.finish(check);
    }
    let root = check.inodes.find(Ino::ROOT);
    if root.is_none_or(|root| root.readable && root.kind != S_IFDIR) {
        let fix = root.is_none().then_some(Fix::Root);
        check.problems.add_with(rule::ROOT, String::from("no root directory"), fix);
    }
    Ok(())
}

/// What the core of an inode turned out to be.
enum Seen {
    Nothing,
    Unreadable,
    Core(Core),
}

/// The rows of one inode so far.
struct Rows {
    ino: Ino,
    core: Seen,
    /// An attribute that later rules need does not decode.
    unreadable: bool,
    /// The first tag, if no core came before it.
    stray: Option<u8>,
    /// There are rows that are no plain attributes.
    more: bool,
    size: u64,
    usage: Pair,
    children: Pair,
    parent: Option<Ino>,
    target: Option<u64>,
    file: FileRows,
    xattrs: Xattrs,
}

impl Rows {
    fn new(ino: Ino) -> Rows {
        Rows {
            ino,
            core: Seen::Nothing,
            unreadable: false,
            stray: None,
            more: false,
            size: 0,
            usage: Pair::default(),
            children: Pair::default(),
            parent: None,
            target: None,
            file: FileRows::default(),
            xattrs: Xattrs::default(),
        }
    }

    fn row(&mut self, check: &mut Check, (tag, rest): (u8, &[u8]), value: &Value) {
        if tag == tag::CORE && rest.is_empty() {
            return self.core(check, value);
        }
        if matches!(self.core, Seen::Nothing) {
            self.stray.get_or_insert(tag);
        }
        self.more |= !(tag::SIZE..=tag::PARENT).contains(&tag) || !rest.is_empty();
        match tag {
            tag::ERASE | tag::LOG | tag::XATTR => {}
            _ if !rest.is_empty() => return self.unknown(check, tag),
            _ => {}
        }
        if !self.belongs(tag) {
            let text = format!("inode {}: tag {tag:#04x} on an inode of another type", self.ino);
            check.problems.add(rule::TAG_KIND, text);
        }
        match tag {
            tag::SIZE..=tag::PARENT | tag::XATTRS => self.attr(check, tag, value),
            tag::XATTR => self.xattrs.row(check, self.ino, rest, value),
            tag::TARGET => self.target = Some(value.len() as u64),
            tag::INLINE => self.file.inline = Some(value.len() as u64),
            tag::ERASE => self.file.erase(check, self.ino, rest, value),
            tag::LOG => {
                let current = match &self.core {
                    Seen::Core(core) => Some((core.generation, self.size)),
                    _ => None,
                };
                self.file.pack(check, self.ino, rest, value, current);
            }
            _ => self.unknown(check, tag),
        }
    }

    fn core(&mut self, check: &mut Check, value: &Value) {
        check.inodes.cores += 1;
        self.core = match Core::decode(value) {
            Ok(core) if possible(&core) => Seen::Core(core),
            Ok(core) => {
                let text = format!(
                    "inode {}: mode {:#o} with flags {:#x} is no inode's",
                    self.ino, core.mode, core.flags
                );
                check.problems.add(rule::CORE_DECODE, text);
                Seen::Unreadable
            }
            Err(_) => {
                let text = format!("inode {}: its core does not decode", self.ino);
                check.problems.add(rule::CORE_DECODE, text);
                Seen::Unreadable
            }
        };
    }

    fn attr(&mut self, check: &mut Check, tag: u8, value: &Value) {
        let good = match tag {
            tag::SIZE => {
                decode_u64(value).map(|size| self.size = size).is_ok() && self.size <= FILE_SIZE_MAX
            }
            tag::MTIME | tag::CTIME | tag::ATIME => decode_time(value).is_ok(),
            tag::USAGE => Pair::decode(value).map(|usage| self.usage = usage).is_ok(),
            tag::XATTRS => Pair::decode(value).map(|pair| self.xattrs.counted = pair).is_ok(),
            tag::CHILDREN => Pair::decode(value).map(|pair| self.children = pair).is_ok(),
            _ => match value.as_ref().try_into() {
                Ok(parent) => {
                    self.parent = Some(Ino(u64::from_be_bytes(parent)));
                    true
                }
                Err(_) => false,
            },
        };
        if !good {
            self.unreadable = true;
            check.inodes.bytes_unknown |= matches!(tag, tag::USAGE | tag::XATTRS);
            let text = format!("inode {}: attribute {tag:#04x} is {value:?}", self.ino);
            // Without it a time is the birth time, and what is counted is counted anew.
            let fix = (tag != tag::SIZE).then(|| Fix::Clear([key::inode(self.ino, tag)].into()));
            check.problems.add_with(rule::ATTR_DECODE, text, fix);
        }
    }

    fn unknown(&mut self, check: &mut Check, tag: u8) {
        check.problems.add(rule::UNKNOWN_TAG, format!("inode {}: tag {tag:#04x}", self.ino));
    }

    /// Whether an inode of this type may have the tag.
    fn belongs(&self, tag: u8) -> bool {
        let Seen::Core(core) = &self.core else { return true };
        match tag {
            tag::CHILDREN | tag::PARENT => core.is_dir(),
            tag::TARGET => core.kind() == S_IFLNK,
            tag::SIZE => matches!(core.kind(), S_IFREG | S_IFLNK),
            tag::USAGE | tag::INLINE | tag::ERASE | tag::LOG => core.kind() == S_IFREG,
            _ => true,
        }
    }

    /// All rows of the inode were seen.
    fn finish(mut self, check: &mut Check) {
        if let Some(tag) = self.stray {
            self.report_stray(check, tag);
        }
        let bytes = self.usage.lo.saturating_add(self.xattrs.bytes());
        let core = match core::mem::replace(&mut self.core, Seen::Nothing) {
            Seen::Nothing => return,
            Seen::Unreadable => {
                check.inodes.count_bytes(bytes);
                return check.inodes.push(unreadable(self.ino), None);
            }
            Seen::Core(core) => core,
        };
        check.inodes.count_bytes(bytes);
        if !self.unreadable {
            core::mem::take(&mut self.xattrs).finish(check, self.ino, &core);
        }
        match core.kind() {
            S_IFREG if !self.unreadable => {
                self.file.finish(check, self.ino, &core, (self.size, self.usage));
            }
            S_IFLNK if !self.unreadable => self.check_target(check),
            _ => {}
        }
        let dir = core.is_dir().then_some(Dir {
            ino: self.ino,
            parent: self.parent,
            counted: self.children,
            found: Pair::default(),
            readable: !self.unreadable,
        });
        check.inodes.push(inode(self.ino, &core), dir);
    }

    /// Keys without a core. Data is left alone: somebody may want it.
    fn report_stray(&self, check: &mut Check, tag: u8) {
        let text = format!("inode {}: keys (first tag {tag:#04x}) but no core", self.ino);
        let nothing = matches!(self.core, Seen::Nothing);
        let bare = nothing && !self.more && self.ino != Ino::ROOT;
        if nothing && self.more {
            check.headless.insert(self.ino);
        }
        check.problems.add_with(rule::STRAY_KEY, text, bare.then_some(Fix::ClearInode(self.ino)));
    }

    fn check_target(&self, check: &mut Check) {
        let limit = 1..=SYMLINK_MAX as u64;
        if self.target.is_none_or(|len| len != self.size || !limit.contains(&len)) {
            let text = format!(
                "symlink {}: size {}, length of the target {:?}",
                self.ino, self.size, self.target
            );
            let len = self.target.filter(|len| limit.contains(len));
            let fix = len.and_then(|len| Fix::number(key::inode(self.ino, tag::SIZE), len));
            check.problems.add_with(rule::SYMLINK_TARGET, text, fix);
        }
    }
}

/// Type and flags as operations make them.
fn possible(core: &Core) -> bool {
    let kinds = [S_IFREG, S_IFDIR, S_IFLNK, S_IFBLK, S_IFCHR, S_IFIFO, S_IFSOCK];
    kinds.contains(&core.kind())
        && core.flags & !flag::ALL == 0
        && (!core.has(flag::INLINE) || core.kind() == S_IFREG)
        && (!core.has(flag::NAMEABLE) || (core.kind() == S_IFREG && core.nlink == 0))
}

fn inode(ino: Ino, core: &Core) -> Inode {
    Inode {
        ino,
        readable: true,
        kind: core.kind(),
        nlink: core.nlink,
        generation: core.generation,
        home: (core.home, core.home_cookie),
        home_seen: false,
        names: 0,
        back_links: 0,
    }
}

fn unreadable(ino: Ino) -> Inode {
    Inode {
        ino,
        readable: false,
        kind: 0,
        nlink: 0,
        generation: 0,
        home: (ino, 0),
        home_seen: false,
        names: 0,
        back_links: 0,
    }
}

/// Every inode number is of a group below the next one.
pub(super) fn check_groups(check: &mut Check, next: u64) {
    let inodes: Vec<_> = check.inodes.readable().map(|inode| inode.ino).collect();
    for ino in inodes.into_iter().filter(|ino| *ino != Ino::ROOT) {
        let group = groups::group(ino);
        if group == 0 || group >= next {
            let text = format!("inode {ino}: of group {group}, next free is {next}");
            let fix = if group == 0 { None } else { next_group(check) };
            check.problems.add_with(rule::INODE_GROUP, text, fix);
        }
    }
}

/// The next group becomes one above all that are in use.
pub(super) fn next_group(check: &Check) -> Option<Fix> {
    let used = check.inodes.readable().map(|inode| groups::group(inode.ino)).max();
    Fix::number(key::groups(), used.unwrap_or(0) + 1)
}
