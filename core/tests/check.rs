//! The check of a volume: it finds nothing where nothing is, and each kind of damage by its rule.

#[path = "check/repair.rs"]
mod repair;
mod world;

use bytes::Bytes;
use std::collections::BTreeSet;
use vellum_core::check::rule;
use vellum_core::id::{Handle, Ino, RequestId, SegmentId, SessionId};
use vellum_core::meta::key::{self, tag};
use vellum_core::meta::name::Names;
use vellum_core::meta::ops::WHOLE;
use vellum_core::meta::record::{Core, Dentry, Pair, decode_u64, flag};
use vellum_core::port::control::{CheckOptions, Control};
use vellum_core::port::kernel::{Operation, Request, S_IFDIR, S_IFIFO, S_IFREG};
use vellum_core::port::meta_kv::{AtomicOp, Key};
use vellum_core::port::page_store::PageError;
use world::World;

/// A volume with something of everything.
struct Volume {
    w: World,
    /// A directory in the root, with everything else in it.
    dir: Ino,
    /// An empty directory in `dir`.
    sub: Ino,
    /// Five bytes inline.
    small: Ino,
    /// Bytes in the log itself.
    carried: Ino,
    /// Bytes in a segment.
    big: Ino,
    /// Cut, so that an erase covers bytes beyond its size.
    cut: Ino,
    /// Two names.
    linked: Ino,
    symlink: Ino,
    /// Attributes of all kinds and an access ACL.
    attributed: Ino,
    /// Removed, but open.
    removed: (Ino, Handle),
}

impl Volume {
    fn new() -> Volume {
        let mut w = World::new();
        let dir = w.mkdir(Ino::ROOT, "dir").expect("mkdir");
        let sub = w.mkdir(dir, "sub").expect("mkdir");
        let small = file(&mut w, dir, "small", 5);
        let carried = file(&mut w, dir, "carried", 10_000);
        let big = file(&mut w, dir, "big", 70_000);
        let cut = file(&mut w, dir, "cut", 12_000);
        w.truncate(cut, 6_000).expect("truncate");
        w.truncate(cut, 7_000).expect("truncate");
        let linked = file(&mut w, dir, "linked", 20);
        w.link(linked, (Ino::ROOT, "other")).expect("link");
        let symlink = w.symlink(dir, "symlink", "to/somewhere").expect("symlink");
        let attributed = file(&mut w, dir, "attributed", 3);
        for (name, value) in [
            ("user.a", &b"value"[..]),
            ("security.capability", b"caps"),
            ("system.posix_acl_access", &ACL),
        ] {
            let (name, value) = (name.into(), Bytes::from_static(value));
            let (flags, kill_sgid) = (0, false);
            let op = Operation::SetXattr { ino: attributed, name, value, flags, kill_sgid };
            w.ask(op).expect("setxattr");
        }
        let removed = w.create(dir, "removed").expect("create");
        w.write(removed, 0, &[7; 50_000]).expect("write");
        w.fsync(removed).expect("fsync");
        w.unlink(dir, "removed").expect("unlink");
        Volume { w, dir, sub, small, carried, big, cut, linked, symlink, attributed, removed }
    }

    fn set(&mut self, key: Key, value: impl Into<Bytes>) {
        self.w.kv.insert(key.to_vec(), value.into());
    }

    fn take(&mut self, key: &Key) -> Bytes {
        self.w.kv.remove(key.as_ref()).expect("the key is there")
    }

    fn add(&mut self, key: Key, hi: i64, lo: i64) {
        let old = self.w.kv.get(key.as_ref()).map(|v| v.as_ref());
        let new = AtomicOp::Add.apply(old, &Pair { hi, lo }.encode());
        self.set(key, new);
    }

    fn edit_core(&mut self, ino: Ino, edit: impl FnOnce(&mut Core)) {
        let key = key::inode(ino, tag::CORE);
        let mut core = Core::decode(&self.take(&key)).expect("a core");
        edit(&mut core);
        self.set(key, core.encode());
    }

    fn core(&self, ino: Ino) -> Core {
        Core::decode(&self.w.kv[key::inode(ino, tag::CORE).as_ref()]).expect("a core")
    }

    /// Key of the home name.
    fn home(&self, ino: Ino) -> Key {
        let core = self.core(ino);
        key::dentry(core.home, core.home_cookie)
    }

    /// Adds a directory entry and counts it; returns its cookie.
    fn add_entry(&mut self, dir: Ino, dentry: Dentry, tie: u64) -> u64 {
        let cookie = Names::new([3; 16], 60).bucket(&dentry.name) + tie;
        self.add(key::inode(dir, tag::CHILDREN), i64::from(dentry.kind == S_IFDIR), 1);
        self.set(key::dentry(dir, cookie), dentry.encode());
        cookie
    }

    /// The keys of an inode that begin with a tag.
    fn rows(&self, ino: Ino, tag: u8) -> Vec<Key> {
        let prefix = key::inode(ino, tag);
        let keys = self.w.kv.keys().filter(|key| key.starts_with(&prefix));
        keys.map(|key| Key::new(key)).collect()
    }

    /// Moves the log pack of `carried` to another place in the order of paint.
    fn stamp_log(&mut self, incarnation: [u8; 4], stamp: [u8; 10]) {
        let mut pack = self.rows(self.carried, tag::LOG).remove(0);
        let bytes = self.take(&pack);
        let at = pack.len() - 16;
        pack.overwrite(at, &incarnation);
        pack.overwrite(at + 4, &stamp);
        self.set(pack, bytes);
    }

    /// The only segment of `big`.
    fn segment(&self) -> SegmentId {
        let id = self.w.pages.iter().find(|(_, bytes)| bytes.len() == 70_000);
        *id.expect("a segment").0
    }
}

fn file(w: &mut World, dir: Ino, name: &str, len: usize) -> Ino {
    let file = w.create(dir, name).expect("create");
    w.write(file, 0, &vec![b'x'; len]).expect("write");
    w.fsync(file).expect("fsync");
    w.close(file).expect("close");
    file.0
}

fn dentry(ino: Ino, kind: u32, name: &'static str) -> Dentry {
    Dentry { ino, kind, name: Bytes::from_static(name.as_bytes()) }
}

/// rwx for the owner, r-x for user 1000, r-x as mask, nothing for others.
const ACL: [u8; 44] = [
    2, 0, 0, 0, //
    1, 0, 7, 0, 0xff, 0xff, 0xff, 0xff, //
    2, 0, 5, 0, 0xe8, 3, 0, 0, //
    4, 0, 7, 0, 0xff, 0xff, 0xff, 0xff, //
    16, 0, 5, 0, 0xff, 0xff, 0xff, 0xff, //
    32, 0, 0, 0, 0xff, 0xff, 0xff, 0xff,
];

/// Does damage that breaks one rule.
type Plant = fn(&mut Volume);

const DAMAGE: &[(&str, Plant)] = &[
    (rule::VOLUME_RECORD, |v| v.set(key::volume(), "junk")),
    (rule::VOLUME_RECORD, |v| drop(v.take(&key::volume()))),
    (rule::VOLUME_USAGE, |v| v.add(key::usage(), 1, 0)),
    (rule::VOLUME_USAGE, |v| v.add(key::usage(), 0, -1)),
    (rule::UNKNOWN_KEY, |v| v.set(Key::new(b"Q1"), "")),
    (rule::UNKNOWN_KEY, |v| v.set(Key::new(b"Sshort"), "")),
    (rule::UNKNOWN_KEY, |v| v.set(Key::new(b"Ushort"), "")),
    (rule::UNKNOWN_KEY, |v| v.set(Key::new(b"Gshort"), "")),
    (rule::UNKNOWN_KEY, |v| v.set(Key::new(b"Nshort"), "")),
    (rule::UNKNOWN_KEY, |v| v.set(Key::new(b"Pshort"), "")),
    (rule::UNKNOWN_KEY, |v| v.set(Key::new(b"Ishort"), "")),
    (rule::ROOT, |v| v.w.kv.retain(|key, _| key == b"Zv")),
    (rule::CORE_DECODE, |v| v.set(key::inode(v.small, tag::CORE), "junk")),
    (rule::CORE_DECODE, |v| v.edit_core(v.small, |core| core.flags |= 0x80)),
    (rule::ATTR_DECODE, |v| v.set(key::inode(v.small, tag::MTIME), "12")),
    (rule::ATTR_DECODE, |v| v.set(key::inode(v.small, tag::USAGE), "12")),
    (rule::ATTR_DECODE, |v| v.set(key::inode(v.small, tag::SIZE), vec![0xff; 8])),
    (rule::UNKNOWN_TAG, |v| v.set(key::inode(v.small, 0x18), "")),
    (rule::UNKNOWN_TAG, |v| v.set(key::inode(v.small, 0x77), "")),
    (rule::UNKNOWN_TAG, |v| v.set(key::inode(v.small, tag::SIZE).successor(), "")),
    (rule::TAG_KIND, |v| v.set(key::inode(v.dir, tag::INLINE), "x")),
    (rule::TAG_KIND, |v| v.add(key::inode(v.symlink, tag::CHILDREN), 0, 1)),
    (rule::STRAY_KEY, |v| v.set(key::inode(Ino(0x99), tag::SIZE), vec![0; 8])),
    (rule::INODE_GROUP, |v| v.set(key::groups(), vec![0; 8])),
    (rule::INODE_GROUP, |v| v.set(key::groups(), "junk")),
    (rule::SYMLINK_TARGET, |v| v.set(key::inode(v.symlink, tag::TARGET), "to/nowhere")),
    (rule::SYMLINK_TARGET, |v| drop(v.take(&key::inode(v.symlink, tag::TARGET)))),
    (rule::INLINE_LENGTH, |v| {
        v.set(key::inode(v.small, tag::SIZE), 4u64.to_le_bytes().to_vec());
    }),
    (rule::INLINE_LOG, |v| v.edit_core(v.small, |core| core.put(flag::INLINE, false))),
    (rule::INLINE_LOG, |v| v.edit_core(v.carried, |core| core.put(flag::INLINE, true))),
    (rule::ERASE_DECODE, |v| {
        let erase = v.rows(v.cut, tag::ERASE).remove(0);
        v.set(erase, "junk");
    }),
    (rule::LOG_DECODE, |v| {
        let pack = v.rows(v.big, tag::LOG).remove(0);
        let mut bytes = v.take(&pack).to_vec();
        bytes[5] ^= 1;
        v.set(pack, bytes);
    }),
    (rule::LOG_DECODE, |v| v.set(key::inode(v.big, tag::LOG), "")),
    (rule::LOG_GENERATION, |v| {
        let pack = v.rows(v.carried, tag::LOG).remove(0);
        let (other, _) = key::log_pack(v.carried, 5, 0, 0, 0);
        let bytes = v.w.kv[pack.as_ref()].clone();
        v.set(other, bytes);
    }),
    (rule::LOG_GENERATION, |v| {
        let pack = v.rows(v.carried, tag::LOG).remove(0);
        let (other, _) = key::log_pack(v.small, 1, 0, 0, 0);
        let bytes = v.w.kv[pack.as_ref()].clone();
        v.edit_core(v.small, |core| core.generation = 2);
        v.set(other, bytes);
    }),
    (rule::LOG_ORDER, |v| v.stamp_log([0, 0, 0, 1], [0; 10])),
    (rule::LOG_ORDER, |v| v.stamp_log([0; 4], [0xff; 10])),
    (rule::BEYOND_SIZE, |v| {
        let erase = v.rows(v.cut, tag::ERASE).remove(0);
        v.take(&erase);
    }),
    (rule::BEYOND_SIZE, |v| {
        v.set(key::inode(v.big, tag::SIZE), 69_999u64.to_le_bytes().to_vec());
    }),
    (rule::USAGE, |v| v.add(key::inode(v.big, tag::USAGE), 1, 0)),
    (rule::USAGE, |v| {
        v.add(key::inode(v.small, tag::USAGE), 0, -1);
        v.add(key::usage(), 0, -1);
    }),
    (rule::XATTR_DECODE, |v| {
        v.set(key::xattr(v.attributed, b"system.posix_acl_access"), vec![1; ACL.len()]);
    }),
    (rule::XATTR_DECODE, |v| {
        let value = v.take(&key::xattr(v.attributed, b"user.a"));
        v.set(key::xattr(v.attributed, b"nowhe."), value);
    }),
    (rule::XATTR_FLAGS, |v| v.edit_core(v.attributed, |core| core.put(flag::CAPABILITY, false))),
    (rule::XATTR_FLAGS, |v| v.edit_core(v.small, |core| core.put(flag::XATTR, true))),
    (rule::XATTR_USAGE, |v| v.set(key::xattr(v.attributed, b"user.a"), "longer value")),
    (rule::XATTR_USAGE, |v| {
        v.add(key::inode(v.small, tag::XATTRS), 0, 5);
        v.add(key::usage(), 0, 5);
    }),
    (rule::ATTR_DECODE, |v| v.set(key::inode(v.attributed, tag::XATTRS), "12")),
    (rule::ACL_MODE, |v| v.edit_core(v.attributed, |core| core.mode ^= 0o020)),
    (rule::DENTRY_DECODE, |v| v.set(key::dentry(v.dir, 4 << 20), "junk")),
    (rule::DENTRY_DECODE, |v| {
        v.add_entry(v.dir, dentry(v.small, S_IFREG, "a/b"), 0);
    }),
    (rule::DENTRY_BUCKET, |v| {
        let entry = v.home(v.small);
        let entry = v.take(&entry);
        v.edit_core(v.small, |core| core.home_cookie ^= 4 << 20);
        v.set(v.home(v.small), entry);
    }),
    (rule::DENTRY_DUPLICATE, |v| {
        let cookie = v.add_entry(Ino::ROOT, dentry(v.linked, S_IFREG, "other"), 1);
        v.set(key::back_link(v.linked, Ino::ROOT, cookie), "");
        v.edit_core(v.linked, |core| core.nlink = 3);
    }),
    (rule::DENTRY_PARENT, |v| {
        let entry = v.home(v.small);
        let entry = v.take(&entry);
        v.add(key::inode(v.dir, tag::CHILDREN), 0, -1);
        let home = v.carried;
        v.edit_core(v.small, |core| core.home = home);
        v.set(v.home(v.small), entry);
    }),
    (rule::DENTRY_TARGET, |v| {
        v.add_entry(v.dir, dentry(Ino(0x99), S_IFREG, "ghost"), 0);
    }),
    (rule::DENTRY_KIND, |v| v.set(v.home(v.small), dentry(v.small, S_IFIFO, "small").encode())),
    (rule::NLINK, |v| v.edit_core(v.linked, |core| core.nlink = 3)),
    (rule::NLINK, |v| v.edit_core(v.small, |core| core.nlink = 2)),
    (rule::NLINK, |v| v.edit_core(v.sub, |core| core.nlink = 2)),
    (rule::HOME_NAME, |v| v.edit_core(v.small, |core| core.home_cookie ^= 4)),
    (rule::BACK_LINK, |v| {
        drop(v.take(&key::back_link(v.linked, v.dir, v.core(v.linked).home_cookie)))
    }),
    (rule::BACK_LINK, |v| {
        let home = v.core(v.small).home_cookie;
        v.set(key::back_link(v.small, v.dir, home), "");
    }),
    (rule::BACK_LINK, |v| v.set(key::back_link(v.linked, v.dir, 4), "")),
    (rule::INODE_UNREACHABLE, |v| {
        let entry = v.home(v.small);
        v.take(&entry);
        v.add(key::inode(v.dir, tag::CHILDREN), 0, -1);
    }),
    (rule::INODE_UNREACHABLE, |v| {
        let entry = v.home(v.sub);
        v.take(&entry);
        v.add(key::inode(v.dir, tag::CHILDREN), -1, -1);
    }),
    (rule::DIR_NAMES, |v| {
        v.add_entry(v.dir, dentry(v.sub, S_IFDIR, "again"), 0);
    }),
    (rule::DIR_NAMES, |v| {
        v.add_entry(v.dir, dentry(Ino::ROOT, S_IFDIR, "root"), 0);
    }),
    (rule::DIR_PARENT, |v| {
        v.set(key::inode(v.sub, tag::PARENT), Ino::ROOT.0.to_be_bytes().to_vec())
    }),
    (rule::DIR_PARENT, |v| drop(v.take(&key::inode(v.sub, tag::PARENT)))),
    (rule::DIR_TREE, |v| {
        let entry = v.home(v.dir);
        let entry = v.take(&entry);
        v.add(key::inode(Ino::ROOT, tag::CHILDREN), -1, -1);
        v.add(key::inode(v.sub, tag::CHILDREN), 1, 1);
        let sub = v.sub;
        v.edit_core(v.dir, |core| core.home = sub);
        v.set(v.home(v.dir), entry);
        v.set(key::inode(v.dir, tag::PARENT), sub.0.to_be_bytes().to_vec());
    }),
    (rule::DIR_CHILDREN, |v| v.add(key::inode(v.dir, tag::CHILDREN), 0, 1)),
    (rule::DIR_CHILDREN, |v| v.add(key::inode(v.dir, tag::CHILDREN), -1, 0)),
    (rule::RECLAIM_MISSING, |v| drop(v.take(&key::garbage(v.removed.0, WHOLE)))),
    (rule::RECLAIM_ENTRY, |v| v.set(key::garbage(v.small, WHOLE), "")),
    (rule::RECLAIM_ENTRY, |v| v.set(key::garbage(v.small, 0), "")),
    (rule::RECLAIM_ENTRY, |v| v.set(key::garbage(Ino(0x99), WHOLE), "")),
    (rule::SEGMENT_RECORD, |v| v.set(key::segment(v.segment()), "12")),
    (rule::SEGMENT_RECORD, |v| v.set(key::live_bytes(v.segment()), "12")),
    (rule::SEGMENT_UNKNOWN, |v| drop(v.take(&key::segment(v.segment())))),
    (rule::SEGMENT_LENGTH, |v| {
        v.set(key::segment(v.segment()), 69_999u64.to_le_bytes().to_vec());
    }),
    (rule::SEGMENT_LENGTH, |v| {
        v.set(key::segment(v.segment()), 70_001u64.to_le_bytes().to_vec());
    }),
    (rule::SEGMENT_LENGTH, |v| {
        let segment = v.segment();
        v.w.pages.get_mut(&segment).expect("it is stored").truncate(69_999);
        v.set(key::segment(segment), 69_999u64.to_le_bytes().to_vec());
    }),
    (rule::SEGMENT_PAIR, |v| drop(v.take(&key::live_bytes(v.segment())))),
    (rule::SEGMENT_PAIR, |v| v.set(key::live_bytes(UNKNOWN), vec![0; 8])),
    (rule::SEGMENT_UNREFERENCED, |v| {
        v.set(key::segment(UNKNOWN), vec![1, 0, 0, 0, 0, 0, 0, 0]);
        v.set(key::live_bytes(UNKNOWN), vec![0; 8]);
    }),
    (rule::SEGMENT_LIVE_BYTES, |v| {
        let key = key::live_bytes(v.segment());
        let live = decode_u64(&v.take(&key)).expect("a counter");
        v.set(key, (live - 1).to_le_bytes().to_vec());
    }),
    (rule::SEGMENT_MISSING, |v| drop(v.w.pages.remove(&v.segment()))),
    (rule::SEGMENT_UNREADABLE, |v| {
        v.w.page_errors.insert(v.segment(), PageError::Io);
    }),
    (rule::FRAME_CHECKSUM, |v| {
        v.w.page_errors.insert(v.segment(), PageError::Corrupt { offset: 4096 });
    }),
];

const UNKNOWN: SegmentId = SegmentId { session: SessionId(99), sequence: 1 };

#[test]
fn each_damage_is_reported_by_its_rule_and_no_other() {
    for (n, (rule, plant)) in DAMAGE.iter().enumerate() {
        let mut volume = Volume::new();
        plant(&mut volume);
        let problems = volume.w.check().problems;
        let found: BTreeSet<&str> = problems.iter().map(|problem| problem.rule).collect();
        assert_eq!(found, BTreeSet::from([*rule]), "damage {n}: {problems:#?}");
    }
}

#[test]
fn every_rule_has_a_damage_that_it_reports() {
    let planted: BTreeSet<&str> = DAMAGE.iter().map(|(rule, _)| *rule).collect();
    assert_eq!(planted, rule::ALL.iter().copied().collect());
    assert_eq!(planted.len(), rule::ALL.len(), "no name twice");
}

#[test]
fn a_volume_with_something_of_everything_is_clean() {
    let mut v = Volume::new();
    let report = v.w.check();
    assert_eq!(report.problems, []);
    assert_eq!((report.inodes, report.dentries), (11, 10));
    assert_eq!((report.segments, report.bytes_verified), (2, 120_000));
    assert_eq!((report.orphan_segments, report.waiting), (0, 1), "removed, but open");
    v.w.close(v.removed).expect("close");
    v.w.remount();
    v.w.wait(2_000_000_000);
    let report = v.w.check();
    assert_eq!(report.problems, []);
    assert_eq!((report.inodes, report.segments), (10, 1), "the removed file was reclaimed");
    assert_eq!(report.waiting, 0);
}

#[test]
fn segments_that_no_metadata_knows_are_counted_and_no_damage() {
    let mut v = Volume::new();
    v.w.pages.insert(UNKNOWN, vec![1, 2, 3]);
    let report = v.w.check();
    assert_eq!((report.problems, report.orphan_segments), (vec![], 1));
}

#[test]
fn a_check_survives_short_pages_and_versions_that_leave_the_window() {
    let mut v = Volume::new();
    v.w.pages.insert(UNKNOWN, vec![1, 2, 3]);
    let log = v.w.mkdir(v.dir, "log").expect("mkdir");
    long_log(&mut v.w, log);
    let expected = v.w.check();
    assert_eq!((&expected.problems[..], expected.segments), (&[][..], 302));
    v.w.rows_max = 40;
    v.w.too_old_every = 9;
    let id = v.w.begin(Control::Check(CheckOptions { data: true, settled: true }));
    v.w.wait(60_000_000_000);
    assert_eq!(v.w.checked(id), Some(expected));
}

#[test]
fn a_damaged_segment_is_reported_with_every_file_that_names_it() {
    let mut v = Volume::new();
    v.w.page_errors.insert(v.segment(), PageError::Corrupt { offset: 8192 });
    let problems = v.w.check().problems;
    let [problem] = &problems[..] else { panic!("{problems:?}") };
    assert_eq!(problem.rule, rule::FRAME_CHECKSUM);
    for part in [v.segment().to_string(), "8192".into(), v.big.to_string()] {
        assert!(problem.text.contains(&part), "{part} in {}", problem.text);
    }
}

/// Bytes on disk may be anything: a check reports them, and never panics.
#[test]
fn a_check_of_random_damage_never_panics_and_finds_most_of_it() {
    let clean = Volume::new();
    let mut x = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = |n: usize| {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        (x >> 33) as usize % n
    };
    let (mut done, mut found) = (0, 0);
    let keys: Vec<&Vec<u8>> = clean.w.kv.keys().collect();
    let mut w = World::new();
    for _ in 0..20_000 {
        w.kv.clone_from(&clean.w.kv);
        w.pages.clone_from(&clean.w.pages);
        w.version = clean.w.version;
        for _ in 0..=random(3) {
            damage(&mut w, keys[random(keys.len())], &mut random);
        }
        done += usize::from(w.kv != clean.w.kv);
        found += usize::from(!w.check().problems.is_empty());
    }
    // Owners, permissions and times may be anything, so that no rule can tell.
    assert!(found * 100 > done * 80, "{found} of {done}");
}

fn damage(w: &mut World, key: &[u8], random: &mut impl FnMut(usize) -> usize) {
    let Some(old) = w.kv.remove(key) else { return };
    let (mut key, mut value) = (key.to_vec(), old.to_vec());
    let word = |random: &mut dyn FnMut(usize) -> usize| [0, 1, 0x7f, 0x80, 0xff][random(5)];
    match random(6) {
        0 => return,
        1 => value.truncate(random(value.len() + 1)),
        2 => value.push(word(random)),
        3 => value.fill(word(random)),
        4 if !value.is_empty() => {
            let at = random(value.len());
            value[at] = word(random);
        }
        _ => {
            let at = random(key.len());
            key[at] = word(random);
        }
    }
    w.kv.insert(key, value.into());
}

#[test]
fn buffered_writes_are_committed_before_the_check() {
    let mut w = World::new();
    let f = w.create(Ino::ROOT, "a").expect("create");
    w.write(f, 0, &[1; 100_000]).expect("write");
    let report = w.check();
    assert_eq!((report.problems, report.bytes_verified), (vec![], 100_000));
}

#[test]
fn a_reclaim_that_is_cut_short_leaves_no_damage_and_is_finished_by_the_next_mount() {
    type Remove = fn(&mut World, Ino);
    let ends: [(&str, Remove); 2] = [
        ("unlink", |w, _| {
            w.unlink(Ino::ROOT, "a").ok();
        }),
        ("truncate", |w, ino| {
            w.truncate(ino, 0).ok();
        }),
    ];
    for (end, remove) in ends {
        for commits in 1..5 {
            let mut w = World::new();
            let ino = long_log(&mut w, Ino::ROOT);
            w.commits_left = commits;
            remove(&mut w, ino);
            w.forget(ino);
            let cut_short = w.commits_left == 0;
            w.remount_with(|config| config.read_only = true);
            let garbage = w.kv.keys().filter(|key| key.starts_with(b"G")).count();
            assert_eq!(garbage > 0, commits < 4, "{end}: three steps after the removal itself");
            assert_eq!(w.check().problems, [], "{end}, {commits} commits, {cut_short}");
            w.remount_with(|config| config.read_only = false);
            let report = w.check();
            assert_eq!(report.problems, [], "{end}, {commits} commits, then a mount");
            assert_eq!(report.segments, 0, "{end}: everything was reclaimed");
        }
    }
}

#[test]
fn a_check_begins_when_the_reclaim_under_way_is_over() {
    let mut w = World::new();
    let ino = long_log(&mut w, Ino::ROOT);
    w.unlink(Ino::ROOT, "a").expect("unlink");
    let op = Operation::Forget { nodes: vec![(ino, u64::MAX)] };
    w.client.handle_request(w.now, RequestId(1 << 40), Request { caller: world::CALLER, op });
    let report = w.check();
    assert_eq!((report.problems, report.inodes, report.segments), (vec![], 1, 0));
}

/// A file with a log of 600 packs, half of them in segments: reclaim takes it in three steps.
fn long_log(w: &mut World, dir: Ino) -> Ino {
    let segments = w.pages.len();
    let file = w.create(dir, "a").expect("create");
    for n in 0..600u64 {
        let len = if n % 2 == 0 { 20_000 } else { 10 };
        w.write(file, n * 30_000, &vec![1; len]).expect("write");
        w.fsync(file).expect("fsync");
    }
    w.close(file).expect("close");
    assert_eq!(w.pages.len(), segments + 300);
    file.0
}

#[cfg(feature = "canary")]
#[test]
fn a_truncate_that_forgets_its_erase_is_found() {
    let mut w = World::new();
    let cut = file(&mut w, Ino::ROOT, "cut", 12_000);
    let cut_short = || w.truncate(cut, 6_000).map(drop);
    world::with_planted(vellum_core::canary::Canary::ForgottenErase, cut_short).expect("truncate");
    let problems = w.check().problems;
    assert!(matches!(&problems[..], [p] if p.rule == rule::BEYOND_SIZE), "{problems:?}");
}
