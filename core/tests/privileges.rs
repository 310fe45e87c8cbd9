//! Who waits until the kernel knows that set-id bits are gone, and who must not.

mod world;

use bytes::Bytes;
use vellum_core::error::FsError;
use vellum_core::id::{Handle, Ino};
use vellum_core::port::kernel::{OpenFlags, Operation, Reply, SetAttr, WriteFlags};
use world::World;

const KILL: WriteFlags = WriteFlags { from_cache: false, kill_suidgid: true, append: false };
const BY_ROOT: WriteFlags = WriteFlags { kill_suidgid: false, ..KILL };
const FROM_CACHE: WriteFlags = WriteFlags { from_cache: true, ..BY_ROOT };

/// A set-id program in a world whose kernel takes its time.
fn program(w: &mut World) -> (Ino, Handle) {
    let file = w.create(Ino::ROOT, "a").expect("create");
    w.write(file, 0, &[1; 9000]).expect("write");
    set_mode(w, file.0, 0o6755);
    w.slow_kernel = true;
    file
}

fn set_mode(w: &mut World, ino: Ino, mode: u32) {
    let set = SetAttr { mode: Some(mode), ..SetAttr::default() };
    w.ask(Operation::SetAttr { ino, handle: None, set }).expect("chmod");
}

fn mode(w: &mut World, ino: Ino) -> u32 {
    match w.ask(Operation::GetAttr { ino, handle: None }) {
        Ok(Reply::Attr { attr, .. }) => attr.mode & 0o7777,
        other => panic!("{other:?}"),
    }
}

fn write((ino, handle): (Ino, Handle), flags: WriteFlags) -> Operation {
    Operation::Write { ino, handle, offset: 0, data: Bytes::from_static(b"x"), flags }
}

// [S-ATTR-2]
#[test]
fn what_takes_set_id_bits_is_answered_when_the_kernel_has_forgotten_the_mode() {
    let mut w = World::new();
    let file = program(&mut w);
    let (ino, handle) = file;
    // The world's caller is user 1000.
    for op in [
        write(file, KILL),
        Operation::Fallocate { ino, handle, offset: 0, len: 20_000, mode: 0 },
        Operation::CopyRange {
            ino,
            handle,
            offset: 0,
            to_ino: ino,
            to_handle: handle,
            to_offset: 5000,
            len: 100,
        },
        Operation::Open { ino, flags: OpenFlags(0o1001 | OpenFlags::KILL_SUIDGID) },
        Operation::Create {
            parent: Ino::ROOT,
            name: "a".into(),
            mode: 0o644,
            umask: 0,
            flags: OpenFlags(0o1101 | OpenFlags::KILL_SUIDGID),
        },
    ] {
        set_mode(&mut w, ino, 0o6755);
        let id = w.send(op.clone());
        assert_eq!(mode(&mut w, ino), 0o755, "{op:?}");
        assert!(w.reply_to(id).is_none(), "{op:?}");
        assert_eq!(w.kernel_forgets(), 1, "{op:?}");
        let reply = w.reply_to(id).expect("a reply");
        assert!(!matches!(reply, Reply::Error(_)), "{op:?}: {reply:?}");
        w.send(op);
        assert_eq!(w.kernel_forgets(), 0, "nothing more to take");
    }
}

#[test]
fn writes_from_the_page_cache_and_by_the_privileged_wait_for_no_notification() {
    let mut w = World::new();
    let file = program(&mut w);
    let first = w.send(write(file, KILL));
    let second = w.send(write(file, KILL));
    for flags in [FROM_CACHE, BY_ROOT] {
        let reply = w.ask(write(file, flags)).expect("an answer");
        assert!(matches!(reply, Reply::Written(1)), "{flags:?}: {reply:?}");
    }
    let fsync = Operation::Fsync { ino: file.0, handle: file.1, datasync: false };
    assert!(matches!(w.ask(fsync), Ok(Reply::Done)));
    assert!(w.reply_to(first).is_none() && w.reply_to(second).is_none());
    assert_eq!(w.kernel_forgets(), 1);
    for id in [first, second] {
        assert!(matches!(w.reply_to(id), Some(Reply::Written(1))));
    }
    assert_eq!(w.kernel_forgets(), 0);
}

#[test]
fn reads_and_writes_back_do_not_wait_while_the_kernel_is_told_of_an_allocation() {
    let mut w = World::new();
    let file = program(&mut w);
    let (ino, handle) = file;
    let allocate = Operation::Fallocate { ino, handle, offset: 0, len: 20_000, mode: 0 };
    let id = w.send(allocate);
    assert!(matches!(w.ask(write(file, FROM_CACHE)), Ok(Reply::Written(1))));
    assert_eq!(w.read_at(file, 0, 2).expect("read"), b"x\x01");
    // A change of data by the unprivileged finds nothing to take, and waits all the same.
    let later = w.send(write(file, KILL));
    assert!(w.reply_to(id).is_none() && w.reply_to(later).is_none());
    assert_eq!(w.kernel_forgets(), 1);
    assert!(matches!(w.reply_to(id), Some(Reply::Done)));
    assert!(matches!(w.reply_to(later), Some(Reply::Written(1))));
}

#[test]
fn a_write_whose_caller_gives_up_leaves_nothing_behind() {
    let mut w = World::new();
    let file = program(&mut w);
    let target = w.send(write(file, KILL));
    w.send(Operation::Interrupt { target });
    assert!(matches!(w.reply_to(target), Some(Reply::Error(FsError::Interrupted))));
    assert_eq!(w.kernel_forgets(), 1);
    assert!(w.reply_to(target).is_none());
    let (ino, handle) = file;
    w.ask(Operation::Release { ino, handle }).expect("release");
    assert_eq!(mode(&mut w, ino), 0o755);
}

#[test]
fn without_set_id_bits_the_kernel_is_told_nothing() {
    let mut w = World::new();
    let file = program(&mut w);
    set_mode(&mut w, file.0, 0o755);
    let name = Bytes::from_static(b"security.capability");
    let value = Bytes::from_static(b"caps");
    let set = Operation::SetXattr { ino: file.0, name, value, flags: 0, kill_sgid: false };
    w.ask(set).expect("setxattr");
    w.ask(write(file, BY_ROOT)).expect("write");
    assert!(matches!(w.ask(Operation::ListXattr { ino: file.0, room: 0 }), Ok(Reply::Room(0))));
    w.ask(write(file, KILL)).expect("write");
    assert_eq!(w.kernel_forgets(), 0);
}
