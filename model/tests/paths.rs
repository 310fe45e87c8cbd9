//! Resolution of paths and the table of open files, in a few lines each; the rest is found by `linux.rs`.

use vellum_model::{Error, Fs, New, Op, OpenFlags, Outcome, RenameFlags, Syscalls, Time};

struct Process {
    calls: Syscalls,
    now: i64,
}

impl Process {
    fn new() -> Self {
        Self { calls: Syscalls::new(Fs::new(New::perm(0o755), Time::default())), now: 0 }
    }

    fn run(&mut self, op: Op) -> Outcome {
        self.now += 1;
        self.calls.apply(&op, Time::new(self.now, 0))
    }

    #[track_caller]
    fn done(&mut self, op: Op) {
        assert_eq!(self.run(op), Outcome::Done);
    }

    fn mkdir(&mut self, path: &str) {
        self.done(Op::Mkdir { path: path.into(), perm: 0o755 });
    }

    fn symlink(&mut self, target: &str, path: &str) {
        self.done(Op::Symlink { target: target.into(), path: path.into() });
    }

    fn open(&mut self, slot: u8, path: &str, flags: OpenFlags) -> Outcome {
        self.run(Op::Open { slot, path: path.into(), flags, perm: 0o644 })
    }
}

const CREATE: OpenFlags = OpenFlags {
    read: true,
    write: true,
    create: true,
    exclusive: false,
    truncate: false,
    append: false,
    directory: false,
    no_follow: false,
};

#[test]
fn forty_links_are_followed_and_no_more() {
    let mut p = Process::new();
    p.mkdir("/end");
    p.symlink("end", "/1");
    for n in 2..=41 {
        p.symlink(&format!("{}", n - 1), &format!("/{n}"));
    }
    assert!(matches!(p.run(Op::Stat { path: b"/40".into() }), Outcome::Attr(_)));
    assert_eq!(p.run(Op::Stat { path: b"/41".into() }), Outcome::Failed(Error::Loop));
    assert!(matches!(p.run(Op::Lstat { path: b"/41".into() }), Outcome::Attr(_)));
}

#[test]
fn dots_lead_up_and_stop_at_the_root() {
    let mut p = Process::new();
    p.mkdir("/a");
    p.mkdir("/a/b");
    p.symlink("/a/b", "/link");
    let node = |p: &mut Process, path: &str| match p.run(Op::Stat { path: path.into() }) {
        Outcome::Attr(attr) => attr.node,
        other => panic!("{path}: {other:?}"),
    };
    assert_eq!(node(&mut p, "/link/.."), node(&mut p, "/a"));
    assert_eq!(node(&mut p, "/../../a/./b/"), node(&mut p, "/a/b"));
}

#[test]
fn names_of_the_system_cannot_be_removed_or_renamed() {
    let mut p = Process::new();
    p.mkdir("/a");
    let fails = |p: &mut Process, op: Op, error| assert_eq!(p.run(op), Outcome::Failed(error));
    fails(&mut p, Op::Rmdir { path: b"/".into() }, Error::Busy);
    fails(&mut p, Op::Rmdir { path: b"/a/.".into() }, Error::Invalid);
    fails(&mut p, Op::Rmdir { path: b"/a/..".into() }, Error::NotEmpty);
    fails(&mut p, Op::Unlink { path: b"/a/.".into() }, Error::IsDir);
    fails(&mut p, Op::Mkdir { path: b"/".into(), perm: 0 }, Error::Exists);
    let rename = |flags| Op::Rename { from: b"/a".into(), to: b"/a/..".into(), flags };
    fails(&mut p, rename(RenameFlags::Replace), Error::Busy);
    fails(&mut p, rename(RenameFlags::NoReplace), Error::Exists);
}

#[test]
fn creation_goes_through_a_dangling_link_unless_exclusive() {
    let mut p = Process::new();
    p.mkdir("/d");
    p.symlink("d/new", "/link");
    let exclusive = OpenFlags { exclusive: true, ..CREATE };
    assert_eq!(p.open(0, "/link", exclusive), Outcome::Failed(Error::Exists));
    assert_eq!(
        p.open(0, "/link", OpenFlags { no_follow: true, ..CREATE }),
        Outcome::Failed(Error::Loop)
    );
    assert_eq!(p.open(0, "/link", CREATE), Outcome::Done);
    assert!(matches!(p.run(Op::Lstat { path: b"/d/new".into() }), Outcome::Attr(_)));
}

#[test]
fn a_failed_creation_does_not_stamp_the_directory() {
    let mut p = Process::new();
    p.mkdir("/d");
    let before = p.calls.fs.tree();
    assert_eq!(
        p.open(0, "/d", OpenFlags { exclusive: true, ..CREATE }),
        Outcome::Failed(Error::Exists)
    );
    assert_eq!(p.open(0, "/x/", CREATE), Outcome::Failed(Error::IsDir));
    assert_eq!(p.calls.fs.tree(), before);
}

#[test]
fn open_file_outlives_its_name_and_ends_with_its_slot() {
    let mut p = Process::new();
    assert_eq!(p.open(0, "/f", CREATE), Outcome::Done);
    p.done(Op::Unlink { path: b"/f".into() });
    assert_eq!(p.run(Op::Pwrite { slot: 0, offset: 2, data: b"x".into() }), Outcome::Count(1));
    assert_eq!(p.run(Op::Pread { slot: 0, offset: 0, len: 9 }), Outcome::Bytes(b"\0\0x".into()));
    assert_eq!(p.calls.fs.node_count(), 2);
    assert_eq!(p.open(0, "/g", CREATE), Outcome::Done);
    assert_eq!(p.calls.fs.node_count(), 2);
    assert_eq!(p.run(Op::Fstat { slot: 1 }), Outcome::Failed(Error::BadHandle));
}

#[test]
fn the_same_calls_give_the_same_tree_and_a_clone_is_independent() {
    let build = || {
        let mut p = Process::new();
        p.mkdir("/a");
        assert_eq!(p.open(0, "/a/f", CREATE), Outcome::Done);
        assert_eq!(
            p.run(Op::Pwrite { slot: 0, offset: 0, data: vec![7; 5000] }),
            Outcome::Count(5000)
        );
        p
    };
    let (mut one, two) = (build(), build());
    assert_eq!(one.calls.fs.tree(), two.calls.fs.tree());
    let kept = one.calls.clone();
    one.done(Op::Truncate { path: b"/a/f".into(), size: 1 });
    assert_eq!(kept.fs.tree(), two.calls.fs.tree());
    assert_ne!(one.calls.fs.tree(), two.calls.fs.tree());
}

#[test]
fn a_link_of_a_closed_slot_touches_no_link_on_the_way() {
    let mut process = Process::new();
    process.mkdir("/d");
    process.symlink("d", "/s");
    let linked = process.run(Op::LinkSlot { slot: 3, to: "/s/name".into() });
    assert_eq!(linked, Outcome::Failed(Error::BadHandle));
    let Outcome::Attr(link) = process.run(Op::Lstat { path: "/s".into() }) else { panic!() };
    assert_eq!(link.atime, link.mtime, "nobody followed it");
}

#[test]
fn a_slot_stands_for_its_file_with_a_name_or_without() {
    let mut process = Process::new();
    assert_eq!(process.open(3, "/f", CREATE), Outcome::Done);
    process.done(Op::Unlink { path: "/f".into() });
    process.done(Op::Chmod { path: "@3".into(), perm: 0o600 });
    let Outcome::Attr(attr) = process.run(Op::Stat { path: "@3".into() }) else { panic!() };
    assert_eq!((attr.perm, attr.nlink), (0o600, 0));
    process.done(Op::Close { slot: 3 });
    assert_eq!(process.run(Op::Stat { path: "@3".into() }), Outcome::Failed(Error::NotFound));
}
