//! Extended attributes, ACLs, files without names, and what a change of data takes.

mod world;

use bytes::Bytes;
use std::time::Duration;
use vellum_core::client::ClientConfig;
use vellum_core::error::FsError;
use vellum_core::id::{Handle, Ino, SessionId};
use vellum_core::meta::key;
use vellum_core::port::kernel::{Attr, OpenFlags, Operation, Reply, S_IFDIR, SetAttr, WriteFlags};
use world::World;

const ACCESS: &str = "system.posix_acl_access";
const DEFAULT: &str = "system.posix_acl_default";
const CAPABILITY: &str = "security.capability";

fn acl(rows: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut out = 2u32.to_le_bytes().to_vec();
    for (tag, perm, id) in rows {
        out.extend(tag.to_le_bytes());
        out.extend(perm.to_le_bytes());
        out.extend(id.to_le_bytes());
    }
    out
}

/// rwx for the owner, r-x for user 1000, the given mask, --- for others.
fn named(mask: u16) -> Vec<u8> {
    let none = u32::MAX;
    acl(&[(1, 7, none), (2, 5, 1000), (4, 7, none), (16, mask, none), (32, 0, none)])
}

trait Xattrs {
    fn set(&mut self, ino: Ino, name: &str, value: &[u8], flags: u32) -> Result<(), FsError>;
    fn get(&mut self, ino: Ino, name: &str) -> Result<Vec<u8>, FsError>;
    fn list_names(&mut self, ino: Ino) -> Vec<String>;
    fn remove(&mut self, ino: Ino, name: &str) -> Result<(), FsError>;
    fn setattr(&mut self, ino: Ino, set: SetAttr) -> Attr;
    fn write_killing(&mut self, file: (Ino, Handle));
    fn tmpfile(&mut self, flags: u32) -> (Ino, Handle);
    fn mode(&mut self, ino: Ino) -> u32;
    fn assert_clean(&mut self);
}

impl Xattrs for World {
    fn set(&mut self, ino: Ino, name: &str, value: &[u8], flags: u32) -> Result<(), FsError> {
        let (name, value) = (name.to_owned().into(), Bytes::copy_from_slice(value));
        self.ask(Operation::SetXattr { ino, name, value, flags, kill_sgid: false }).map(|_| ())
    }

    fn get(&mut self, ino: Ino, name: &str) -> Result<Vec<u8>, FsError> {
        let op = |room| Operation::GetXattr { ino, name: name.to_owned().into(), room };
        let Reply::Room(len) = self.ask(op(0))? else { panic!("no length") };
        if len > 0 {
            assert_eq!(self.ask(op(len - 1)).err(), (len > 1).then_some(FsError::Range));
        }
        match self.ask(op(len.max(1)))? {
            Reply::Value(value) => Ok(value.to_vec()),
            other => panic!("{other:?}"),
        }
    }

    fn list_names(&mut self, ino: Ino) -> Vec<String> {
        let Ok(Reply::Room(len)) = self.ask(Operation::ListXattr { ino, room: 0 }) else {
            panic!()
        };
        match self.ask(Operation::ListXattr { ino, room: len.max(1) }) {
            Ok(Reply::Value(list)) => {
                assert_eq!(list.len(), len as usize);
                let names = list.split(|b| *b == 0).filter(|name| !name.is_empty());
                names.map(|name| String::from_utf8_lossy(name).into_owned()).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    fn remove(&mut self, ino: Ino, name: &str) -> Result<(), FsError> {
        self.ask(Operation::RemoveXattr { ino, name: name.to_owned().into() }).map(|_| ())
    }

    fn setattr(&mut self, ino: Ino, set: SetAttr) -> Attr {
        match self.ask(Operation::SetAttr { ino, handle: None, set }) {
            Ok(Reply::Attr { attr, .. }) => attr,
            other => panic!("{other:?}"),
        }
    }

    fn write_killing(&mut self, (ino, handle): (Ino, Handle)) {
        let flags = WriteFlags { kill_suidgid: true, ..WriteFlags::default() };
        let data = Bytes::from_static(b"x");
        let op = Operation::Write { ino, handle, offset: 0, data, flags };
        assert!(matches!(self.ask(op), Ok(Reply::Written(1))));
    }

    fn tmpfile(&mut self, flags: u32) -> (Ino, Handle) {
        let flags = OpenFlags(flags);
        let op = Operation::TmpFile { parent: Ino::ROOT, mode: 0o666, umask: 0o022, flags };
        match self.ask(op) {
            Ok(Reply::Created { entry, opened }) => {
                let attr = entry.attr.expect("an inode");
                assert_eq!((attr.nlink, attr.mode), (0, 0o100_644));
                (attr.ino, opened.handle)
            }
            other => panic!("{other:?}"),
        }
    }

    fn mode(&mut self, ino: Ino) -> u32 {
        self.attr(ino).expect("attr").mode & 0o7777
    }

    fn assert_clean(&mut self) {
        let problems = self.check().problems;
        assert!(problems.is_empty(), "{problems:#?}");
    }
}

fn chmod(mode: u32) -> SetAttr {
    SetAttr { mode: Some(mode), ..SetAttr::default() }
}

#[test]
fn attributes_read_back_are_listed_and_go() {
    let mut w = World::new();
    let f = w.create(Ino::ROOT, "a").expect("create").0;
    let d = w.mkdir(Ino::ROOT, "d").expect("mkdir");
    let s = w.symlink(Ino::ROOT, "s", "to").expect("symlink");
    for ino in [f, d, s] {
        assert_eq!(w.get(ino, "trusted.a"), Err(FsError::NoAttribute));
        let before = w.attr(ino).expect("attr").ctime;
        w.set(ino, "security.b", b"", 0).expect("an empty value");
        w.set(ino, "security.a", b"first", 0).expect("set");
        w.set(ino, "security.a", b"1", 0).expect("replace");
        assert!(w.attr(ino).expect("attr").ctime > before);
        assert_eq!(w.get(ino, "security.a"), Ok(b"1".to_vec()));
        assert_eq!(w.get(ino, "security.b"), Ok(Vec::new()));
        assert_eq!(w.list_names(ino), ["security.a", "security.b"]);
    }
    w.assert_clean();
    w.remount();
    for ino in [f, d, s] {
        assert_eq!(w.list_names(ino), ["security.a", "security.b"]);
        let before = w.attr(ino).expect("attr").ctime;
        w.remove(ino, "security.b").expect("remove");
        assert!(w.attr(ino).expect("attr").ctime > before);
        assert_eq!(w.remove(ino, "security.b"), Err(FsError::NoAttribute));
        w.remove(ino, "security.a").expect("remove");
        assert!(w.list_names(ino).is_empty());
    }
    w.assert_clean();
}

#[test]
fn flags_names_and_sizes_are_checked() {
    let mut w = World::new();
    let f = w.create(Ino::ROOT, "a").expect("create").0;
    assert_eq!(w.set(f, "user.a", b"1", 2), Err(FsError::NoAttribute));
    w.set(f, "user.a", b"1", 1).expect("create");
    assert_eq!(w.set(f, "user.a", b"2", 1), Err(FsError::Exists));
    w.set(f, "user.a", b"2", 2).expect("replace");
    assert_eq!(w.set(f, "user.a", b"2", 4), Err(FsError::Invalid));
    for (name, error) in [
        ("user.", FsError::Invalid),
        ("system.other", FsError::NotSupported),
        ("nothing", FsError::NotSupported),
        (&format!("user.{}", "x".repeat(251)), FsError::Range),
    ] {
        assert_eq!(w.set(f, name, b"1", 0), Err(error), "{name}");
        assert_eq!(w.remove(f, name), Err(error), "{name}");
        assert_eq!(w.get(f, name), Err(error), "{name}");
    }
    w.set(f, &format!("user.{}", "x".repeat(250)), b"1", 0).expect("the longest name");
    assert_eq!(w.set(f, "user.big", &[7; (64 << 10) + 1], 0), Err(FsError::TooBig));
    w.set(f, "user.big", &[7; 64 << 10], 0).expect("the largest value");
    assert_eq!(w.get(f, "user.big").expect("get").len(), 64 << 10);
    w.assert_clean();
}

#[test]
fn an_inode_has_room_for_a_mebibyte_of_values_and_a_list_of_64_kib() {
    let mut w = World::new();
    let f = w.create(Ino::ROOT, "a").expect("create").0;
    for n in 0..16 {
        w.set(f, &format!("user.{n:02}"), &[n; 64 << 10], 0).expect("set");
    }
    assert_eq!(w.set(f, "user.more", b"1", 0), Err(FsError::NoSpace));
    w.set(f, "user.00", b"less", 0).expect("shorter");
    w.set(f, "user.more", b"1", 0).expect("there is room again");
    let g = w.create(Ino::ROOT, "b").expect("create").0;
    let name = |n: u32| format!("user.{n:03}{}", "x".repeat(247));
    for n in 0..256 {
        w.set(g, &name(n), b"", 0).expect("set");
    }
    assert_eq!(w.set(g, &name(256), b"", 0), Err(FsError::NoSpace));
    assert_eq!(w.list_names(g).len(), 256);
    w.assert_clean();
}

#[test]
fn attributes_of_the_privileged_are_hidden_from_others() {
    let mut w = World::new();
    let f = w.create(Ino::ROOT, "a").expect("create").0;
    w.set(f, "trusted.a", b"1", 0).expect("set");
    w.set(f, "user.a", b"1", 0).expect("set");
    // The world's caller is user 1000.
    assert_eq!(w.list_names(f), ["user.a"]);
}

#[test]
fn that_there_is_no_capability_costs_no_read() {
    let mut w = World::new();
    let f = w.create(Ino::ROOT, "a").expect("create");
    let seen = w.client_reads();
    assert_eq!(w.get(f.0, CAPABILITY), Err(FsError::NoAttribute));
    assert_eq!(w.get(f.0, ACCESS), Err(FsError::NoAttribute));
    w.set(f.0, "user.other", b"1", 0).expect("set");
    let after_set = w.client_reads();
    assert_eq!(w.get(f.0, CAPABILITY), Err(FsError::NoAttribute));
    w.write(f, 0, b"x").expect("write");
    w.write_killing(f);
    assert_eq!(w.client_reads(), after_set, "writes and negative answers read nothing");
    assert!(after_set > seen, "a set does");
    w.remount();
    let found = w.lookup(Ino::ROOT, "a").expect("lookup").expect("there").ino;
    let seen = w.client_reads();
    assert_eq!(w.get(found, CAPABILITY), Err(FsError::NoAttribute));
    assert_eq!(w.client_reads(), seen);
}

#[test]
fn an_access_acl_and_the_mode_follow_each_other() {
    let mut w = World::new();
    let f = w.create(Ino::ROOT, "a").expect("create").0;
    w.set(f, ACCESS, &named(6), 0).expect("set");
    assert_eq!(w.mode(f), 0o760);
    assert_eq!(w.get(f, ACCESS), Ok(named(6)));
    assert_eq!(w.setattr(f, chmod(0o715)).mode & 0o7777, 0o715);
    let none = u32::MAX;
    let changed = acl(&[(1, 7, none), (2, 5, 1000), (4, 7, none), (16, 1, none), (32, 5, none)]);
    assert_eq!(w.get(f, ACCESS), Ok(changed));
    w.assert_clean();
    // One that says no more than a mode is not kept.
    w.set(f, ACCESS, &acl(&[(1, 6, none), (4, 4, none), (32, 4, none)]), 0).expect("set");
    assert_eq!(w.mode(f), 0o644);
    assert_eq!(w.get(f, ACCESS), Err(FsError::NoAttribute));
    assert_eq!(w.set(f, ACCESS, b"jun", 0), Err(FsError::Invalid));
    w.set(f, ACCESS, &named(7), 0).expect("set");
    w.remove(f, ACCESS).expect("remove");
    assert_eq!(w.mode(f), 0o770, "the mode stays");
    w.assert_clean();
}

#[test]
fn a_set_group_id_bit_goes_with_an_acl_when_the_kernel_says_so() {
    let mut w = World::new();
    let f = w.create(Ino::ROOT, "a").expect("create").0;
    w.setattr(f, chmod(0o2755));
    let set = |kill_sgid| Operation::SetXattr {
        ino: f,
        name: ACCESS.into(),
        value: named(7).into(),
        flags: 0,
        kill_sgid,
    };
    w.ask(set(false)).expect("set");
    assert_eq!(w.mode(f), 0o2770);
    w.ask(set(true)).expect("set");
    assert_eq!(w.mode(f), 0o770);
}

#[test]
fn acls_are_only_where_they_mean_something() {
    let mut w = World::new();
    let f = w.create(Ino::ROOT, "a").expect("create").0;
    let s = w.symlink(Ino::ROOT, "s", "to").expect("symlink");
    assert_eq!(w.set(f, DEFAULT, &named(7), 0), Err(FsError::Denied));
    assert_eq!(w.set(s, ACCESS, &named(7), 0), Err(FsError::NotSupported));
    assert_eq!(w.set(s, DEFAULT, &named(7), 0), Err(FsError::NotSupported));
    w.assert_clean();
}

#[test]
fn a_default_acl_is_inherited_in_place_of_the_umask() {
    let mut w = World::new();
    let d = w.mkdir(Ino::ROOT, "d").expect("mkdir");
    w.set(d, DEFAULT, &named(7), 0).expect("set");
    let none = u32::MAX;
    let op = |name: &'static str| Operation::MkNod {
        parent: d,
        name: name.into(),
        mode: 0o100_664,
        umask: 0o077,
        rdev: 0,
    };
    let f = w.entry(op("f")).expect("mknod").expect("an inode");
    assert_eq!(f.mode & 0o7777, 0o660);
    let inherited = acl(&[(1, 6, none), (2, 5, 1000), (4, 7, none), (16, 6, none), (32, 0, none)]);
    assert_eq!(w.get(f.ino, ACCESS), Ok(inherited));
    assert_eq!(w.get(f.ino, DEFAULT), Err(FsError::NoAttribute));
    let sub = Operation::MkDir { parent: d, name: "sub".into(), mode: 0o755, umask: 0o077 };
    let sub = w.entry(sub).expect("mkdir").expect("an inode");
    assert_eq!((sub.mode & S_IFDIR, sub.mode & 0o777), (S_IFDIR, 0o750));
    assert_eq!(w.get(sub.ino, DEFAULT), Ok(named(7)));
    assert_eq!(w.get(sub.ino, ACCESS), Ok(named(5)));
    let link = w.symlink(d, "s", "to").expect("symlink");
    assert_eq!((w.mode(link), w.list_names(link)), (0o777, Vec::new()));
    w.set(d, DEFAULT, &acl(&[(1, 7, none), (4, 5, none), (32, 5, none)]), 0).expect("minimal");
    let g = w.entry(op("g")).expect("mknod").expect("an inode");
    assert_eq!((g.mode & 0o7777, w.list_names(g.ino)), (0o644, Vec::new()));
    w.remove(d, DEFAULT).expect("remove");
    let h = w.entry(op("h")).expect("mknod").expect("an inode");
    assert_eq!(h.mode & 0o7777, 0o600, "without one the umask counts");
    w.assert_clean();
}

#[test]
fn a_write_takes_capabilities_and_for_the_unprivileged_set_id_bits() {
    let mut w = World::new();
    let f = w.create(Ino::ROOT, "a").expect("create");
    let all = |w: &mut World, mode| {
        w.setattr(f.0, chmod(mode));
        w.set(f.0, CAPABILITY, b"caps", 0).expect("set");
    };
    all(&mut w, 0o6755);
    w.write(f, 0, b"root's").expect("write");
    assert_eq!((w.mode(f.0), w.list_names(f.0)), (0o6755, Vec::new()));
    all(&mut w, 0o6755);
    w.write_killing(f);
    assert_eq!((w.mode(f.0), w.list_names(f.0)), (0o755, Vec::new()));
    all(&mut w, 0o6745);
    w.write_killing(f);
    assert_eq!(w.mode(f.0), 0o2745, "no execution by the group: another meaning");
    assert_eq!(w.read_at(f, 0, 9).expect("read"), b"xoot's");
    w.assert_clean();
}

#[test]
fn truncate_and_chown_take_them_too() {
    let mut w = World::new();
    let f = w.create(Ino::ROOT, "a").expect("create").0;
    let d = w.mkdir(Ino::ROOT, "d").expect("mkdir");
    let all = |w: &mut World| {
        w.setattr(f, chmod(0o6755));
        w.set(f, CAPABILITY, b"caps", 0).expect("set");
    };
    let size = SetAttr { size: Some(3), ..SetAttr::default() };
    all(&mut w);
    assert_eq!(w.setattr(f, size).mode & 0o7777, 0o6755);
    assert!(w.list_names(f).is_empty());
    all(&mut w);
    assert_eq!(w.setattr(f, SetAttr { kill_suidgid: true, ..size }).mode & 0o7777, 0o755);
    assert!(w.list_names(f).is_empty());
    all(&mut w);
    let owner = SetAttr { uid: Some(7), ..SetAttr::default() };
    assert_eq!(w.setattr(f, owner).mode & 0o7777, 0o755);
    assert!(w.list_names(f).is_empty());
    all(&mut w);
    let (flags, kill) = (0o1001, OpenFlags::KILL_SUIDGID);
    w.ask(Operation::Open { ino: f, flags: OpenFlags(flags | kill) }).expect("open");
    assert_eq!((w.mode(f), w.list_names(f)), (0o755, Vec::new()));
    w.setattr(d, chmod(0o6755));
    assert_eq!(w.setattr(d, owner).mode & 0o7777, 0o6755, "directories keep theirs");
    w.assert_clean();
}

#[test]
fn ranges_that_are_allocated_punched_or_copied_take_them_too() {
    let mut w = World::new();
    let f = w.create(Ino::ROOT, "a").expect("create");
    w.write(f, 0, &[1; 9000]).expect("write");
    let (ino, handle) = f;
    let allocate = |mode, len| Operation::Fallocate { ino, handle, offset: 0, len, mode };
    let copy = Operation::CopyRange {
        ino,
        handle,
        offset: 0,
        to_ino: ino,
        to_handle: handle,
        to_offset: 5000,
        len: 100,
    };
    // The world's caller is user 1000.
    for op in [allocate(0, 20_000), allocate(3, 100), allocate(0x10, 100), copy] {
        w.setattr(ino, chmod(0o6755));
        w.set(ino, CAPABILITY, b"caps", 0).expect("set");
        w.ask(op.clone()).expect("a change of data");
        assert_eq!((w.mode(ino), w.list_names(ino)), (0o755, Vec::new()), "{op:?}");
    }
    w.assert_clean();
}

#[test]
fn attributes_go_with_their_file_and_are_counted() {
    let mut w = World::new();
    let f = w.create(Ino::ROOT, "a").expect("create");
    let empty = w.kv[key::usage().as_ref()].clone();
    w.set(f.0, "user.big", &[1; 5000], 0).expect("set");
    w.set(f.0, ACCESS, &named(7), 0).expect("set");
    w.assert_clean();
    w.unlink(Ino::ROOT, "a").expect("unlink");
    assert_eq!(w.get(f.0, "user.big").expect("while it is open").len(), 5000);
    w.close(f).expect("close");
    w.forget(f.0);
    w.assert_clean();
    assert!(!w.kv.keys().any(|k| k.starts_with(&key::inode(f.0, 0)[..9])), "nothing is left");
    assert_ne!(w.kv[key::usage().as_ref()], empty, "the inode is gone, too");
}

#[test]
fn a_file_without_a_name_gets_one_by_a_link() {
    let mut w = World::new();
    let f = w.tmpfile(0o2);
    w.write(f, 0, b"content").expect("write");
    w.assert_clean();
    w.link(f.0, (Ino::ROOT, "named")).expect("link");
    assert_eq!(w.attr(f.0).expect("attr").nlink, 1);
    w.link(f.0, (Ino::ROOT, "again")).expect("link");
    w.close(f).expect("close");
    w.forget(f.0);
    w.assert_clean();
    w.remount();
    let found = w.lookup(Ino::ROOT, "named").expect("lookup").expect("there");
    assert_eq!((found.nlink, found.size), (2, 7));
    w.unlink(Ino::ROOT, "named").expect("unlink");
    w.unlink(Ino::ROOT, "again").expect("unlink");
    assert_eq!(w.link(f.0, (Ino::ROOT, "third")), Err(FsError::NotFound), "it had its chance");
    w.forget(f.0);
    w.assert_clean();
}

#[test]
fn a_file_without_a_name_goes_with_its_last_close_or_a_crash() {
    let mut w = World::new();
    let exclusive = w.tmpfile(0o202);
    assert_eq!(w.link(exclusive.0, (Ino::ROOT, "a")), Err(FsError::NotFound));
    let f = w.tmpfile(0o2);
    w.write(f, 0, &[1; 100_000]).expect("write");
    w.fsync(f).expect("fsync");
    for file in [f, exclusive] {
        w.close(file).expect("close");
        w.forget(file.0);
    }
    w.assert_clean();
    assert_eq!(w.attr(f.0), Err(FsError::Stale));
    let f = w.tmpfile(0o2);
    w.write(f, 0, &[1; 100_000]).expect("write");
    w.fsync(f).expect("fsync");
    w.remount();
    w.wait(Duration::from_secs(10).as_nanos() as u64);
    w.assert_clean();
    assert_eq!(w.attr(f.0), Err(FsError::Stale));
}

#[test]
fn a_link_of_a_nameless_file_brings_its_bytes_along() {
    let mut w = World::with(ClientConfig::sole(SessionId(3), 1));
    let f = w.tmpfile(0o2);
    w.write(f, 0, &[5; 30_000]).expect("write");
    w.link(f.0, (Ino::ROOT, "a")).expect("link");
    // The process dies: nothing that was only buffered survives.
    w.remount();
    let found = w.lookup(Ino::ROOT, "a").expect("lookup").expect("there");
    assert_eq!(found.size, 30_000);
}
