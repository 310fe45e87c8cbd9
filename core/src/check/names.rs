//! Directory entries: each one by itself, and what they add up to for directories and inodes.

use super::scan::{Scan, Store};
use super::{Check, Fix, rule};
use crate::error::FsResult;
use crate::id::Ino;
use crate::limits::BUCKET_SLOTS;
use crate::meta::key::{self, tag};
use crate::meta::name;
use crate::meta::record::Dentry;
use crate::port::kernel::S_IFDIR;
use crate::port::meta_kv::{Key, Value};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;

/// Reads all directory entries.
pub(super) async fn scan(store: &Store<'_>, check: &mut Check) -> FsResult<()> {
    let mut scan = Scan::new(key::all_dentries());
    let mut bucket = Bucket::default();
    while let Some(page) = store.page(&mut scan).await? {
        for (key, value) in page {
            check_row(store, check, &mut bucket, (&key, &value));
        }
    }
    check_children(check);
    Ok(())
}

/// The names of the bucket that is being read.
#[derive(Default)]
struct Bucket {
    at: Option<(Ino, u64)>,
    names: Vec<Bytes>,
}

impl Bucket {
    /// Adds a name; false if the bucket has it already.
    fn add(&mut self, at: (Ino, u64), name: &Bytes) -> bool {
        if self.at != Some(at) {
            self.at = Some(at);
            self.names.clear();
        }
        let fresh = !self.names.contains(name);
        self.names.push(name.clone());
        fresh
    }
}

fn check_row(
    store: &Store<'_>,
    check: &mut Check,
    bucket: &mut Bucket,
    (key, value): (&Key, &Value),
) {
    let Some((dir, cookie)) = key::parse_dentry(key) else {
        return check.problems.add(rule::UNKNOWN_KEY, format!("directory entry {key:?}"));
    };
    check.dentries += 1;
    check_parent(check, dir, cookie);
    let dentry = match Dentry::decode(value) {
        Ok(dentry) if name::check_entry(&dentry.name).is_ok() => dentry,
        _ => {
            check.names_unknown = true;
            if let Some(dir) = check.inodes.dir_mut(dir) {
                dir.readable = false;
            }
            let text = format!("directory {dir}, cookie {cookie:#x}: the entry does not decode");
            return check.problems.add(rule::DENTRY_DECODE, text);
        }
    };
    let shown =
        |dentry: &Dentry| format!("directory {dir}: \"{}\"", String::from_utf8_lossy(&dentry.name));
    let first = cookie - cookie % BUCKET_SLOTS;
    let expected = store.volume.names.bucket(&dentry.name);
    if first != expected {
        let text =
            format!("{}: at cookie {cookie:#x}, its bucket is {expected:#x}", shown(&dentry));
        check.problems.add_with(rule::DENTRY_BUCKET, text, Some(Fix::Move { dir, cookie }));
    }
    if !bucket.add((dir, first), &dentry.name) {
        let text = format!("{}: stands twice", shown(&dentry));
        check.problems.add_with(rule::DENTRY_DUPLICATE, text, Some(Fix::Rename { dir, cookie }));
    }
    if let Some(dir) = check.inodes.dir_mut(dir) {
        dir.found.lo += 1;
        dir.found.hi += i64::from(dentry.kind == S_IFDIR);
    }
    check_target(check, (dir, cookie), &dentry, shown(&dentry));
}

/// The directory of an entry must have a name itself.
fn check_parent(check: &mut Check, dir: Ino, cookie: u64) {
    let clear = Fix::Clear([key::dentry(dir, cookie)].into());
    let (found, fix) = match check.inodes.find(dir) {
        Some(inode) if !inode.readable => return,
        Some(inode) if inode.kind == S_IFDIR && inode.nlink > 0 => return,
        // What had a name here only comes to /lost+found.
        Some(inode) if inode.kind == S_IFDIR => ("a removed directory", Some(clear)),
        Some(_) => ("no directory", Some(clear)),
        None if dir == Ino::ROOT || check.headless.contains(&dir) => ("no inode", None),
        None => ("no inode", Some(Fix::Directory(dir))),
    };
    let text = format!("entry at cookie {cookie:#x} of {dir}, which is {found}");
    check.problems.add_with(rule::DENTRY_PARENT, text, fix);
}

fn check_target(check: &mut Check, place: (Ino, u64), dentry: &Dentry, shown: String) {
    let Some(inode) = check.inodes.find_mut(dentry.ino) else {
        let text = format!("{shown}: names inode {}, which does not exist", dentry.ino);
        let lost = !check.headless.contains(&dentry.ino);
        let fix = lost.then(|| Fix::Unname { dir: place.0, cookie: place.1, ino: dentry.ino });
        return check.problems.add_with(rule::DENTRY_TARGET, text, fix);
    };
    inode.names += 1;
    inode.home_seen |= inode.home == place;
    if !inode.readable {
        return;
    }
    let (ino, kind) = (inode.ino, inode.kind);
    if kind != dentry.kind {
        let text = format!("{shown}: says type {:#o}, inode {ino} has {kind:#o}", dentry.kind);
        let fix = Fix::Kind { dir: place.0, cookie: place.1, kind };
        return check.problems.add_with(rule::DENTRY_KIND, text, Some(fix));
    }
    if let Some(at) = check.inodes.dir_at(ino) {
        let parent = check.inodes.dirs()[at].parent;
        if check.inodes.dirs()[at].readable && parent != Some(place.0) && ino != Ino::ROOT {
            let text = format!("{shown}: parent pointer of {ino} says {parent:?}");
            let parent = Bytes::copy_from_slice(&place.0.0.to_be_bytes());
            let fix = Fix::put(key::inode(ino, tag::PARENT), parent);
            check.problems.add_with(rule::DIR_PARENT, text, fix);
        }
    }
}

/// Counters of directories.
fn check_children(check: &mut Check) {
    for dir in check.inodes.dirs().iter().filter(|dir| dir.readable) {
        if dir.counted != dir.found {
            let text = format!(
                "directory {}: counted {} subdirectories and {} entries, found {} and {}",
                dir.ino, dir.counted.hi, dir.counted.lo, dir.found.hi, dir.found.lo
            );
            let fix = Fix::put(key::inode(dir.ino, tag::CHILDREN), dir.found.encode());
            check.problems.add_with(rule::DIR_CHILDREN, text, fix);
        }
    }
}
